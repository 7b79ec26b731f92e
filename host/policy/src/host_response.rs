//! `http.response` and `http.selector`: what becomes of the origin's response, and
//! what becomes invalid.

use std::time::Duration;

use http::uri::Authority;
use wasmtime::Result;
use wasmtime::component::Resource;

use crate::arena::Slot;
use crate::bindings::http as wit;
use crate::bounds;
use crate::decision::{DoNotStore, Lifetime, Selector, Target};
use crate::error::{Fault, cut};
use crate::input::Part;
use crate::state::State;

type Response = Resource<wit::Response>;

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn tag(tag: &str) -> Result<()> {
    if tag.is_empty() {
        return Err(Fault::bad("a tag is empty: give it at least one byte"));
    }
    bounds::sized("a tag", tag.len(), bounds::MAX_TEXT)
}

impl wit::HostResponse for State {
    fn status(&mut self, this: Response) -> Result<u16> {
        Ok(self.response(this.rep())?.status.as_u16())
    }

    fn header(&mut self, this: Response, name: String) -> Result<Vec<Vec<u8>>> {
        let values = self.response(this.rep())?.headers.get_all(name);
        Ok(values.into_iter().map(|v| v.as_bytes().to_vec()).collect())
    }

    fn header_names(&mut self, this: Response) -> Result<Vec<String>> {
        let names = self.response(this.rep())?.headers.keys();
        Ok(names.map(|name| name.as_str().to_owned()).collect())
    }

    fn note(&mut self, this: Response) -> Result<Vec<u8>> {
        Ok(self.response(this.rep())?.note.to_vec())
    }

    fn suggested_lifetime(&mut self, this: Response) -> Result<Option<u64>> {
        let lifetime = self.response(this.rep())?.suggested_lifetime;
        Ok(lifetime.map(milliseconds))
    }

    fn refusal(&mut self, this: Response) -> Result<Option<String>> {
        let refusal = &self.response(this.rep())?.refusal;
        Ok(refusal.as_ref().map(|reason| reason.clone().into_owned()))
    }

    fn set_lifetime(&mut self, this: Response, ms: u64) -> Result<()> {
        self.adjustment(this.rep())?.lifetime = Some(Lifetime::For(Duration::from_millis(ms)));
        Ok(())
    }

    fn set_expiry(&mut self, this: Response, unix_seconds: u64) -> Result<()> {
        self.adjustment(this.rep())?.lifetime = Some(Lifetime::Until(unix_seconds));
        Ok(())
    }

    fn set_stale_while_revalidate(&mut self, this: Response, ms: u64) -> Result<()> {
        let adjustment = self.adjustment(this.rep())?;
        adjustment.stale_while_revalidate = Some(Duration::from_millis(ms));
        Ok(())
    }

    fn set_stale_if_error(&mut self, this: Response, ms: u64) -> Result<()> {
        self.adjustment(this.rep())?.stale_if_error = Some(Duration::from_millis(ms));
        Ok(())
    }

    fn set_memory_lifetime(&mut self, this: Response, ms: u64) -> Result<()> {
        self.adjustment(this.rep())?.memory_lifetime = Some(Duration::from_millis(ms));
        Ok(())
    }

    fn set_shared(&mut self, this: Response, shared: bool) -> Result<()> {
        self.adjustment(this.rep())?.shared = Some(shared);
        Ok(())
    }

    fn tag(&mut self, this: Response, text: String) -> Result<()> {
        tag(&text)?;
        let adjustment = self.adjustment(this.rep())?;
        bounds::at_most("tags", adjustment.tags.len() + 1, bounds::MAX_TAGS)?;
        adjustment.tags.push(text);
        Ok(())
    }

    fn do_not_store(&mut self, this: Response, remember_ms: u64) -> Result<()> {
        let remember = Duration::from_millis(remember_ms);
        self.adjustment(this.rep())?.store = Some(DoNotStore(remember));
        Ok(())
    }

    fn invalidate(
        &mut self,
        this: Response,
        selectors: Vec<Resource<wit::Selector>>,
    ) -> Result<()> {
        let taken = self.take_selectors(&selectors)?;
        let adjustment = self.adjustment(this.rep())?;
        let count = adjustment.invalidate.len() + taken.len();
        bounds::at_most("selectors", count, bounds::MAX_SELECTORS)?;
        adjustment.invalidate.extend(taken);
        Ok(())
    }

    fn write_through(&mut self, this: Response) -> Result<()> {
        self.adjustment(this.rep())?.write_through = true;
        Ok(())
    }

    fn drop(&mut self, rep: Response) -> Result<()> {
        self.arena.release(rep.rep());
        Ok(())
    }
}

type MadeSelector = Result<Resource<wit::Selector>>;

impl State {
    fn make(&mut self, target: Target) -> MadeSelector {
        let rep = self.arena.insert(Slot::Selector(Box::new(Selector {
            target,
            host: None,
            soft: false,
        })))?;
        Ok(Resource::new_own(rep))
    }

    fn selector(&mut self, this: &Resource<wit::Selector>) -> Result<&mut Selector> {
        match self.arena.get(this.rep())? {
            Slot::Selector(selector) => Ok(selector),
            _ => Err(bounds::given_away()),
        }
    }

    /// Takes the selectors that the guest gives.
    pub(crate) fn take_selectors(
        &mut self,
        selectors: &[Resource<wit::Selector>],
    ) -> Result<Vec<Selector>> {
        bounds::at_most("selectors", selectors.len(), bounds::MAX_SELECTORS)?;
        selectors
            .iter()
            .map(|selector| match self.arena.take(selector.rep())? {
                Slot::Selector(selector) => Ok(*selector),
                _ => Err(bounds::given_away()),
            })
            .collect()
    }
}

impl wit::HostSelector for State {
    fn url(&mut self, url: String) -> MadeSelector {
        bounds::sized("a URL", url.len(), bounds::MAX_URL)?;
        let known = ["/", "http://", "https://"]
            .iter()
            .any(|start| url.starts_with(start));
        if !known || url.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err(Fault::bad(format!(
                "`{}` is no URL that can be invalidated: it must begin with /, http:// or https://, and have no spaces",
                cut(&url, 128).escape_debug()
            )));
        }
        self.make(Target::Url(url))
    }

    fn key(&mut self, namespace: String, parts: Vec<Resource<wit::Part>>) -> MadeSelector {
        self.check_namespace(&namespace)?;
        let parts = self.take_parts(&parts)?;
        let named = parts.iter().find_map(|part| match part {
            Part::Input(input) => Some(input),
            Part::Text(_) => None,
        });
        if let (None, Some(input)) = (&self.call.request, named) {
            return Err(Fault::bad(format!(
                "a selector names the input `{input}`, but an event has no request: use text parts"
            )));
        }
        self.make(Target::Key { namespace, parts })
    }

    fn tag(&mut self, text: String) -> MadeSelector {
        tag(&text)?;
        self.make(Target::Tag(text))
    }

    fn namespace(&mut self, namespace: String) -> MadeSelector {
        self.check_namespace(&namespace)?;
        self.make(Target::Namespace(namespace))
    }

    fn prefix(&mut self, namespace: String, prefix: String) -> MadeSelector {
        self.check_namespace(&namespace)?;
        bounds::sized("a prefix", prefix.len(), bounds::MAX_TEXT)?;
        self.make(Target::Prefix { namespace, prefix })
    }

    fn all(&mut self) -> MadeSelector {
        self.make(Target::All)
    }

    fn host(&mut self, this: Resource<wit::Selector>, authority: String) -> Result<()> {
        let valid = authority.len() <= 255
            && !authority.contains('@')
            && authority.parse::<Authority>().is_ok();
        if !valid {
            return Err(Fault::bad(format!(
                "`{}` is no authority: give HOST or HOST:PORT",
                cut(&authority, 64).escape_debug()
            )));
        }
        self.selector(&this)?.host = Some(authority.to_ascii_lowercase());
        Ok(())
    }

    fn soft(&mut self, this: Resource<wit::Selector>) -> Result<()> {
        self.selector(&this)?.soft = true;
        Ok(())
    }

    fn drop(&mut self, rep: Resource<wit::Selector>) -> Result<()> {
        self.arena.release(rep.rep());
        Ok(())
    }
}
