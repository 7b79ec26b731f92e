//! `http.lookup`, `http.pass` and `http.reply`: the decisions that a policy builds.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use wasmtime::Result;
use wasmtime::component::Resource;

use crate::arena::Slot;
use crate::bindings::http as wit;
use crate::bounds;
use crate::decision::{Decision, Lookup, Pass, Reply};
use crate::error::Fault;
use crate::input::Part;
use crate::shape::ShapeCell;
use crate::state::State;

impl State {
    /// The lookup, to be changed: one of its own from now on, if others share it.
    fn lookup(&mut self, this: &Resource<wit::Lookup>) -> Result<&mut Lookup> {
        match self.arena.get(this.rep())? {
            Slot::Lookup(lookup) => {
                let lookup = self.prepared.change(lookup)?;
                // It follows from the rest, which is about to change.
                lookup.shape = ShapeCell::default();
                Ok(lookup)
            }
            _ => Err(bounds::given_away()),
        }
    }

    fn reply(&mut self, this: &Resource<wit::Reply>) -> Result<&mut Reply> {
        match self.arena.get(this.rep())? {
            Slot::Reply(reply) => Ok(reply),
            _ => Err(bounds::given_away()),
        }
    }

    /// Takes the decision that `on-request` returned.
    pub(crate) fn take_decision(&mut self, decision: &wit::Decision) -> Result<Decision> {
        let rep = match decision {
            wit::Decision::Lookup(this) => this.rep(),
            wit::Decision::Pass(this) => this.rep(),
            wit::Decision::Respond(this) => this.rep(),
        };
        match self.arena.take(rep)? {
            Slot::Lookup(lookup) => Ok(Decision::Lookup(lookup)),
            Slot::Pass(pass) => Ok(Decision::Pass(pass)),
            Slot::Reply(reply) => Ok(Decision::Respond(Arc::new(*reply))),
            _ => Err(bounds::given_away()),
        }
    }
}

fn note(note: Vec<u8>) -> Result<Bytes> {
    bounds::sized("the note", note.len(), bounds::MAX_NOTE)?;
    Ok(note.into())
}

impl wit::HostLookup for State {
    fn new(&mut self, namespace: String) -> Result<Resource<wit::Lookup>> {
        self.check_namespace(&namespace)?;
        let rep = self
            .arena
            .insert(Slot::Lookup(Arc::new(Lookup::new(namespace))))?;
        Ok(Resource::new_own(rep))
    }

    fn key(&mut self, this: Resource<wit::Lookup>, part: Resource<wit::Part>) -> Result<()> {
        let part = self.take_part(&part)?;
        let lookup = self.lookup(&this)?;
        bounds::at_most("key parts", lookup.key.len() + 1, bounds::MAX_PARTS)?;
        lookup.key.push(part);
        Ok(())
    }

    fn tag(&mut self, this: Resource<wit::Lookup>, parts: Vec<Resource<wit::Part>>) -> Result<()> {
        let parts = self.take_parts(&parts)?;
        if parts.is_empty() {
            return Err(Fault::bad("a tag has no parts: give it at least one"));
        }
        bounds::sized("a tag", bounds::text_len(&parts), bounds::MAX_TEXT)?;
        let lookup = self.lookup(&this)?;
        bounds::at_most("tags", lookup.tags.len() + 1, bounds::MAX_TAGS)?;
        lookup.tags.push(parts);
        Ok(())
    }

    fn note(&mut self, this: Resource<wit::Lookup>, bytes: Vec<u8>) -> Result<()> {
        self.lookup(&this)?.note = note(bytes)?;
        Ok(())
    }

    fn origin_target(
        &mut self,
        this: Resource<wit::Lookup>,
        path_and_query: Vec<Resource<wit::Part>>,
    ) -> Result<()> {
        let parts = self.take_parts(&path_and_query)?;
        bounds::origin_target(&parts)?;
        self.lookup(&this)?.origin_target = Some(parts);
        Ok(())
    }

    fn origin_header(
        &mut self,
        this: Resource<wit::Lookup>,
        name: String,
        value: Vec<Resource<wit::Part>>,
    ) -> Result<()> {
        let name = bounds::settable_field_name(&name)?;
        let parts = self.take_parts(&value)?;
        for part in &parts {
            if let Part::Text(text) = part {
                bounds::field_value(&name, text.as_bytes())?;
            }
        }
        let lookup = self.lookup(&this)?;
        let count = lookup.origin_headers.len() + 1;
        bounds::at_most("origin header fields", count, bounds::MAX_HEADERS)?;
        lookup.origin_headers.push((name, Some(parts)));
        Ok(())
    }

    fn origin_without_header(&mut self, this: Resource<wit::Lookup>, name: String) -> Result<()> {
        let name = bounds::settable_field_name(&name)?;
        let lookup = self.lookup(&this)?;
        let count = lookup.origin_headers.len() + 1;
        bounds::at_most("origin header fields", count, bounds::MAX_HEADERS)?;
        lookup.origin_headers.push((name, None));
        Ok(())
    }

    fn prepare(
        &mut self,
        this: Resource<wit::Lookup>,
    ) -> Result<Option<Resource<wit::PreparedLookup>>> {
        let lookup = match self.arena.get(this.rep())? {
            Slot::Lookup(lookup) => Arc::clone(lookup),
            _ => return Err(bounds::given_away()),
        };
        Ok(self.prepared.keep(lookup).map(Resource::new_own))
    }

    fn drop(&mut self, rep: Resource<wit::Lookup>) -> Result<()> {
        self.arena.release(rep.rep());
        Ok(())
    }
}

impl wit::HostPreparedLookup for State {
    fn lookup(&mut self, this: Resource<wit::PreparedLookup>) -> Result<Resource<wit::Lookup>> {
        let lookup = self.prepared.get(this.rep());
        let lookup = lookup.ok_or_else(bounds::given_away)?;
        Ok(Resource::new_own(self.arena.insert(Slot::Lookup(lookup))?))
    }

    fn drop(&mut self, rep: Resource<wit::PreparedLookup>) -> Result<()> {
        self.prepared.let_go(rep.rep());
        Ok(())
    }
}

impl wit::HostPass for State {
    fn new(&mut self, reason: String) -> Result<Resource<wit::Pass>> {
        let printable = reason.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        if reason.is_empty() || reason.len() > bounds::MAX_REASON || !printable {
            return Err(Fault::bad(format!(
                "the reason of a pass must be 1 to {} bytes of printable ASCII",
                bounds::MAX_REASON
            )));
        }
        let rep = self.arena.insert(Slot::Pass(Pass {
            reason,
            note: Bytes::new(),
        }))?;
        Ok(Resource::new_own(rep))
    }

    fn note(&mut self, this: Resource<wit::Pass>, bytes: Vec<u8>) -> Result<()> {
        match self.arena.get(this.rep())? {
            Slot::Pass(pass) => pass.note = note(bytes)?,
            _ => return Err(bounds::given_away()),
        }
        Ok(())
    }

    fn drop(&mut self, rep: Resource<wit::Pass>) -> Result<()> {
        self.arena.release(rep.rep());
        Ok(())
    }
}

impl wit::HostReply for State {
    fn new(&mut self, status: u16) -> Result<Resource<wit::Reply>> {
        let status = StatusCode::from_u16(status)
            .ok()
            .filter(|_| (200..=599).contains(&status))
            .ok_or_else(|| {
                Fault::bad(format!(
                    "a reply has the status {status}: it must lie in 200..=599"
                ))
            })?;
        let rep = self.arena.insert(Slot::Reply(Box::new(Reply {
            status,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        })))?;
        Ok(Resource::new_own(rep))
    }

    fn header(&mut self, this: Resource<wit::Reply>, name: String, value: Vec<u8>) -> Result<()> {
        let name = bounds::settable_field_name(&name)?;
        let value = bounds::field_value(&name, &value)?;
        let reply = self.reply(&this)?;
        let count = reply.headers.len() + 1;
        bounds::at_most("header fields of a reply", count, bounds::MAX_HEADERS)?;
        reply.headers.append(name, value);
        Ok(())
    }

    fn body(&mut self, this: Resource<wit::Reply>, body: Vec<u8>) -> Result<()> {
        bounds::sized("the body of a reply", body.len(), bounds::MAX_BODY)?;
        self.reply(&this)?.body = body.into();
        Ok(())
    }

    fn drop(&mut self, rep: Resource<wit::Reply>) -> Result<()> {
        self.arena.release(rep.rep());
        Ok(())
    }
}
