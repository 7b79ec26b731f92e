//! `http.part`: texts and named inputs.

use wasmtime::Result;
use wasmtime::component::Resource;

use crate::arena::Slot;
use crate::bindings::http;
use crate::bounds::{self, MAX_NAME};
use crate::error::Fault;
use crate::input::{Input, Part};
use crate::state::State;

/// The most languages of one input.
const MAX_LANGUAGES: usize = 64;

type Made = Result<Resource<http::Part>>;

impl State {
    fn part(&mut self, part: Part) -> Made {
        let rep = self.arena.insert(Slot::Part(part))?;
        Ok(Resource::new_own(rep))
    }

    fn input(&mut self, input: Input) -> Made {
        self.part(Part::Input(input))
    }

    /// Takes a part that the guest gives.
    pub(crate) fn take_part(&mut self, part: &Resource<http::Part>) -> Result<Part> {
        match self.arena.take(part.rep())? {
            Slot::Part(part) => Ok(part),
            _ => Err(bounds::given_away()),
        }
    }

    /// Takes several parts.
    pub(crate) fn take_parts(&mut self, parts: &[Resource<http::Part>]) -> Result<Vec<Part>> {
        bounds::at_most("parts", parts.len(), bounds::MAX_PARTS)?;
        parts.iter().map(|part| self.take_part(part)).collect()
    }
}

fn name(name: String) -> Result<Box<str>> {
    bounds::sized("the name of an input", name.len(), MAX_NAME)?;
    Ok(name.into())
}

impl http::HostPart for State {
    fn text(&mut self, text: String) -> Made {
        bounds::sized("a text part", text.len(), bounds::MAX_TEXT)?;
        self.part(Part::Text(text))
    }

    fn method(&mut self) -> Made {
        self.input(Input::Method)
    }

    fn path(&mut self) -> Made {
        self.input(Input::Path)
    }

    fn param(&mut self, text: String) -> Made {
        self.input(Input::Param(name(text)?))
    }

    fn query_param(&mut self, text: String) -> Made {
        self.input(Input::QueryParam(name(text)?))
    }

    fn query(&mut self, without: Vec<String>) -> Made {
        let without = self.globs(&without)?;
        self.input(Input::Query { without })
    }

    fn query_only(&mut self, names: Vec<String>) -> Made {
        let names = self.globs(&names)?;
        self.input(Input::QueryOnly(names))
    }

    fn header(&mut self, text: String) -> Made {
        self.input(Input::Header(bounds::field_name(&text)?))
    }

    fn cookie(&mut self, text: String) -> Made {
        self.input(Input::Cookie(name(text)?))
    }

    fn language(&mut self, available: Vec<String>) -> Made {
        bounds::at_most("languages", available.len(), MAX_LANGUAGES)?;
        if let Some(long) = available.iter().find(|tag| tag.len() > MAX_NAME) {
            return Err(Fault::bad(format!(
                "a language tag of {} bytes was given, and at most {MAX_NAME} are allowed",
                long.len()
            )));
        }
        self.input(Input::Language(available.into()))
    }

    fn device(&mut self) -> Made {
        self.input(Input::Device)
    }

    fn body_digest(&mut self) -> Made {
        self.input(Input::BodyDigest)
    }

    fn drop(&mut self, rep: Resource<http::Part>) -> Result<()> {
        self.arena.release(rep.rep());
        Ok(())
    }
}
