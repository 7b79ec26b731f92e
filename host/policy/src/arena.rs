//! The host's side of the handles that a guest holds.
//!
//! Handles live for one call. Their representations grow over the life of a store and
//! are never 0 (a borrowed 0 made the JavaScript runtime trap), so that one which a
//! guest kept from an earlier call is recognised.

use std::sync::Arc;

use crate::decision::{Lookup, Pass, Reply, Selector};
use crate::error::Fault;
use crate::input::Part;

/// The most resources that one call can make.
const MAX_PER_CALL: usize = 2_048;
/// The most handles that a guest can hold, over all its calls.
const MAX_HELD: u32 = 4_096;

/// What a handle stands for.
#[derive(Debug)]
pub(crate) enum Slot {
    /// Given away or dropped.
    Gone,
    /// The request, the response or the event of this call: see [`crate::state::Call`].
    Subject,
    Part(Part),
    /// Shared with what was prepared, until it is changed.
    Lookup(Arc<Lookup>),
    Pass(Pass),
    Reply(Box<Reply>),
    Selector(Box<Selector>),
}

/// The resources of the call that is running.
#[derive(Debug)]
pub(crate) struct Arena {
    base: u32,
    slots: Vec<Slot>,
    held: u32,
}

impl Default for Arena {
    fn default() -> Self {
        Self {
            base: 1,
            slots: Vec::new(),
            held: 0,
        }
    }
}

impl Arena {
    /// Ends all handles of the call before.
    pub(crate) fn begin(&mut self) {
        // At most MAX_PER_CALL: it fits. After four thousand million of them, long
        // after an instance is replaced, it would begin again at 1.
        let used = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.base = self.base.checked_add(used).unwrap_or(1);
        self.slots.clear();
    }

    /// A representation for what the host lends or gives.
    pub(crate) fn subject(&mut self) -> wasmtime::Result<u32> {
        self.push(Slot::Subject)
    }

    /// A representation for what the guest made and now holds.
    pub(crate) fn insert(&mut self, slot: Slot) -> wasmtime::Result<u32> {
        if self.held >= MAX_HELD {
            return Err(Fault::bad(format!(
                "the policy holds {MAX_HELD} handles and made another: it must drop what it no longer needs"
            )));
        }
        let rep = self.push(slot)?;
        self.held += 1;
        Ok(rep)
    }

    fn push(&mut self, slot: Slot) -> wasmtime::Result<u32> {
        if self.slots.len() >= MAX_PER_CALL {
            return Err(Fault::bad(format!(
                "the policy made more than {MAX_PER_CALL} parts, selectors and decisions in one call"
            )));
        }
        let index = u32::try_from(self.slots.len())
            .ok()
            .and_then(|index| self.base.checked_add(index))
            .ok_or_else(|| Fault::bad("the policy used up all handles"))?;
        self.slots.push(slot);
        Ok(index)
    }

    /// What a handle of this call stands for.
    pub(crate) fn get(&mut self, rep: u32) -> wasmtime::Result<&mut Slot> {
        let base = self.base;
        rep.checked_sub(base)
            .and_then(|index| self.slots.get_mut(index as usize))
            .ok_or_else(|| {
                wasmtime::Error::new(Fault::Handle(
                    "a handle of an earlier call was used: requests, parts, decisions and selectors live for one call"
                        .to_owned(),
                ))
            })
    }

    /// Takes what the guest gave back to the host.
    pub(crate) fn take(&mut self, rep: u32) -> wasmtime::Result<Slot> {
        self.held = self.held.saturating_sub(1);
        self.get(rep)
            .map(|slot| std::mem::replace(slot, Slot::Gone))
    }

    /// The guest dropped a handle; those of earlier calls may be dropped too.
    pub(crate) fn release(&mut self, rep: u32) {
        self.held = self.held.saturating_sub(1);
        if let Ok(slot) = self.get(rep) {
            *slot = Slot::Gone;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Slot {
        Slot::Part(Part::Text("x".to_owned()))
    }

    #[test]
    fn representations_are_never_zero_and_never_come_back() {
        let mut arena = Arena::default();
        let first = arena.insert(text()).unwrap();
        assert_ne!(first, 0);
        arena.begin();
        let second = arena.insert(text()).unwrap();
        assert!(second > first);
        assert!(matches!(arena.get(second), Ok(Slot::Part(_))));
        let error = arena.get(first).unwrap_err();
        assert!(error.to_string().contains("earlier call"), "{error}");
        assert!(arena.take(first).is_err());
        arena.release(first);
    }

    #[test]
    fn resources_of_a_call_are_bounded() {
        let mut arena = Arena::default();
        for _ in 0..MAX_PER_CALL {
            let rep = arena.insert(text()).unwrap();
            arena.take(rep).unwrap();
        }
        assert!(arena.insert(text()).is_err());
        arena.begin();
        assert!(arena.insert(text()).is_ok());
    }

    #[test]
    fn handles_kept_over_calls_are_bounded() {
        let mut arena = Arena::default();
        let mut made = 0;
        while arena.insert(text()).is_ok() {
            made += 1;
            arena.begin();
        }
        assert_eq!(made, MAX_HELD);
    }
}
