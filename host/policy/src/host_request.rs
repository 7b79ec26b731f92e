//! `http.request`: what a policy reads of the request. Every read is recorded.

use std::sync::Arc;

use wasmtime::Result;
use wasmtime::component::Resource;

use crate::bindings::http;
use crate::device::DeviceClass;
use crate::error::Fault;
use crate::query;
use crate::reads::ReadInput;
use crate::state::State;

/// The most candidates of one matcher call.
const MAX_CANDIDATES: usize = 256;

fn bounded(candidates: &[String]) -> Result<()> {
    if candidates.len() > MAX_CANDIDATES {
        return Err(Fault::bad(format!(
            "{} candidates were given to a matcher, and at most {MAX_CANDIDATES} are allowed",
            candidates.len()
        )));
    }
    Ok(())
}

type Request = Resource<http::Request>;

impl http::HostRequest for State {
    fn method(&mut self, this: Request) -> Result<String> {
        let head = self.read(this.rep(), || ReadInput::Method)?;
        Ok(head.method.as_str().to_owned())
    }

    fn scheme(&mut self, this: Request) -> Result<String> {
        let head = self.read(this.rep(), || ReadInput::Scheme)?;
        Ok(head.scheme.as_str().to_owned())
    }

    fn host(&mut self, this: Request) -> Result<String> {
        let head = self.read(this.rep(), || ReadInput::Host)?;
        Ok(head.host.clone().into())
    }

    fn path(&mut self, this: Request) -> Result<String> {
        let head = self.read(this.rep(), || ReadInput::Path)?;
        Ok(head.path().to_owned())
    }

    fn query_string(&mut self, this: Request) -> Result<Option<String>> {
        let head = self.read(this.rep(), || ReadInput::QueryString)?;
        Ok(head.query().map(str::to_owned))
    }

    fn query(&mut self, this: Request, name: String) -> Result<Vec<Vec<u8>>> {
        let head = self.read(this.rep(), || ReadInput::Query(name.as_str().into()))?;
        Ok(head.query_param(&name).map(|v| v.into_owned()).collect())
    }

    fn query_names(&mut self, this: Request) -> Result<Vec<String>> {
        let head = self.read(this.rep(), || ReadInput::QueryNames)?;
        Ok(query::names(head.query().unwrap_or_default()))
    }

    fn header(&mut self, this: Request, name: String) -> Result<Vec<Vec<u8>>> {
        let head = self.read(this.rep(), || {
            ReadInput::Header(name.to_ascii_lowercase().into())
        })?;
        Ok(head.header(&name).map(<[u8]>::to_vec).collect())
    }

    fn header_names(&mut self, this: Request) -> Result<Vec<String>> {
        let head = self.read(this.rep(), || ReadInput::HeaderNames)?;
        Ok(head.headers.keys().map(|n| n.as_str().to_owned()).collect())
    }

    fn cookie(&mut self, this: Request, name: String) -> Result<Vec<Vec<u8>>> {
        let head = self.read(this.rep(), || ReadInput::Cookie(name.as_str().into()))?;
        Ok(head.cookie(&name).map(<[u8]>::to_vec).collect())
    }

    fn param(&mut self, this: Request, name: String) -> Result<Option<Vec<u8>>> {
        let head = self.read(this.rep(), || ReadInput::Param(name.as_str().into()))?;
        Ok(head.param(&name).map(<[u8]>::to_vec))
    }

    fn has_param(&mut self, this: Request, name: String) -> Result<bool> {
        let head = self.read(this.rep(), || ReadInput::HasParam(name.as_str().into()))?;
        Ok(head.param(&name).is_some())
    }

    fn client(&mut self, this: Request) -> Result<String> {
        let head = self.read(this.rep(), || ReadInput::Client)?;
        Ok(head.client.to_string())
    }

    fn path_matches(&mut self, this: Request, glob: String) -> Result<bool> {
        let globs = self.globs(&[glob])?;
        let head = self.read(this.rep(), || ReadInput::PathMatches(globs.clone()))?;
        Ok(globs.matches(head.path()))
    }

    fn header_one_of(
        &mut self,
        this: Request,
        name: String,
        candidates: Vec<String>,
    ) -> Result<Option<u32>> {
        bounded(&candidates)?;
        let head = self.read(this.rep(), || {
            ReadInput::HeaderOneOf(
                name.to_ascii_lowercase().into(),
                candidates.as_slice().into(),
            )
        })?;
        Ok(head.header_one_of(&name, &candidates))
    }

    fn language(&mut self, this: Request, available: Vec<String>) -> Result<String> {
        bounded(&available)?;
        let available = available.into();
        let head = self.read(this.rep(), || ReadInput::Language(Arc::clone(&available)))?;
        Ok(head.language(&available).to_owned())
    }

    fn device(&mut self, this: Request) -> Result<http::DeviceClass> {
        let head = self.read(this.rep(), || ReadInput::Device)?;
        Ok(match head.device() {
            DeviceClass::Desktop => http::DeviceClass::Desktop,
            DeviceClass::Mobile => http::DeviceClass::Mobile,
            DeviceClass::Tablet => http::DeviceClass::Tablet,
            DeviceClass::Bot => http::DeviceClass::Bot,
        })
    }

    fn drop(&mut self, rep: Request) -> Result<()> {
        self.arena.release(rep.rep());
        Ok(())
    }
}

impl http::Host for State {}

impl http::HostEvent for State {
    fn kind(&mut self, this: Resource<http::Event>) -> Result<String> {
        Ok(self.event(this.rep())?.kind.clone())
    }

    fn data(&mut self, this: Resource<http::Event>) -> Result<String> {
        Ok(self.event(this.rep())?.data.clone())
    }

    fn drop(&mut self, rep: Resource<http::Event>) -> Result<()> {
        self.arena.release(rep.rep());
        Ok(())
    }
}
