//! Lookups that an instance made once, for many calls.

use std::sync::Arc;

use wasmtime::Result;

use crate::decision::Lookup;
use crate::error::Fault;

/// The most that one instance keeps.
const MOST: usize = 64;
/// The most that they hold together, in bytes.
const MOST_BYTES: usize = 256 * 1024;
/// The most that the copies which one call changes hold together, in bytes: a part of a copy
/// is not made by a call of its own, so those are not bounded by how many parts a call makes.
const MOST_COPIED: usize = 1_024 * 1_024;
/// What each holds besides its parts, in bytes, about.
const EACH: usize = 256;

/// The prepared lookups of one instance. A representation is a place, counted from 1: a guest
/// cannot use one that it gave up, since its handle goes with it.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    places: Vec<Option<Arc<Lookup>>>,
    bytes: usize,
    /// What the call that is running had copied.
    copied: usize,
}

impl Prepared {
    /// Another call begins.
    pub(crate) fn begin(&mut self) {
        self.copied = 0;
    }

    /// A lookup that can be changed: a copy, if others share it.
    pub(crate) fn change<'a>(&mut self, shared: &'a mut Arc<Lookup>) -> Result<&'a mut Lookup> {
        if Arc::get_mut(shared).is_none() {
            self.copied += weight(shared);
            if self.copied > MOST_COPIED {
                return Err(Fault::bad(format!(
                    "the policy changed copies of more than {MOST_COPIED} bytes of prepared lookups in one call: prepare what they have in common, and add little to it"
                )));
            }
        }
        Ok(Arc::make_mut(shared))
    }

    /// Keeps one, and gives its representation; `None` where there is no room.
    pub(crate) fn keep(&mut self, lookup: Arc<Lookup>) -> Option<u32> {
        let bytes = self.bytes + weight(&lookup);
        if bytes > MOST_BYTES {
            return None;
        }
        let free = self.places.iter().position(Option::is_none);
        let place = free.unwrap_or(self.places.len());
        if place == MOST {
            return None;
        }
        if place == self.places.len() {
            self.places.push(None);
        }
        self.places[place] = Some(lookup);
        self.bytes = bytes;
        u32::try_from(place + 1).ok()
    }

    pub(crate) fn get(&self, rep: u32) -> Option<Arc<Lookup>> {
        self.places.get(place(rep)?)?.clone()
    }

    pub(crate) fn let_go(&mut self, rep: u32) {
        let place = place(rep).and_then(|place| self.places.get_mut(place));
        if let Some(lookup) = place.and_then(Option::take) {
            self.bytes = self.bytes.saturating_sub(weight(&lookup));
        }
    }
}

fn place(rep: u32) -> Option<usize> {
    (rep as usize).checked_sub(1)
}

fn weight(lookup: &Lookup) -> usize {
    EACH + lookup.weight() + lookup.weight_of_globs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::globs::Globs;
    use crate::input::{Input, Part};

    fn lookup(note: usize) -> Arc<Lookup> {
        Arc::new(Lookup {
            note: vec![0; note].into(),
            ..Lookup::new("user".to_owned())
        })
    }

    #[test]
    fn places_are_used_again_and_never_more_than_there_are() {
        let mut prepared = Prepared::default();
        let reps: Vec<u32> = std::iter::from_fn(|| prepared.keep(lookup(0))).collect();
        assert_eq!((reps.len(), reps.contains(&0)), (MOST, false));
        prepared.let_go(reps[7]);
        assert_eq!(prepared.get(reps[7]), None);
        let again = lookup(3);
        assert_eq!(prepared.keep(Arc::clone(&again)), Some(reps[7]));
        assert_eq!(prepared.get(reps[7]), Some(again));
        assert_eq!(prepared.keep(lookup(0)), None);
        // What no guest can hold is nothing, and no panic.
        for rep in [0, 65, u32::MAX] {
            assert_eq!(prepared.get(rep), None);
            prepared.let_go(rep);
        }
    }

    #[test]
    fn what_a_call_copies_is_bounded() {
        let mut prepared = Prepared::default();
        let large = lookup(MOST_BYTES - EACH);
        let mut copies = Vec::new();
        let error = loop {
            let mut copy = Arc::clone(&large);
            match prepared.change(&mut copy) {
                Ok(_) => copies.push(copy),
                Err(error) => break error,
            }
        };
        assert_eq!(copies.len(), MOST_COPIED / MOST_BYTES);
        assert!(error.to_string().contains("in one call"), "{error}");
        // One that is nobody else's is changed as it is.
        let mut own = lookup(MOST_BYTES);
        assert!(prepared.change(&mut own).is_ok());
        prepared.begin();
        assert!(prepared.change(&mut Arc::clone(&large)).is_ok());
    }

    #[test]
    fn what_globs_are_compiled_to_takes_room_too() {
        let globs = |glob: String| {
            let without = Globs::compile(&[glob]).unwrap();
            let mut lookup = Lookup::new("user".to_owned());
            lookup.key = vec![Part::Input(Input::Query { without })];
            Arc::new(lookup)
        };
        let mut prepared = Prepared::default();
        let plain = (0..MOST).filter_map(|n| prepared.keep(globs(format!("utm_{n}*"))));
        assert_eq!(plain.count(), MOST);
        let mut prepared = Prepared::default();
        let others = (0..MOST).filter_map(|n| prepared.keep(globs(format!("{n}*a*"))));
        assert!((10..30).contains(&others.count()));
    }

    #[test]
    fn large_ones_find_room_only_while_there_is_some() {
        let mut prepared = Prepared::default();
        let most = MOST_BYTES - EACH;
        assert_eq!(prepared.keep(lookup(most + 1)), None);
        let rep = prepared.keep(lookup(most)).unwrap();
        assert_eq!(prepared.keep(lookup(0)), None);
        prepared.let_go(rep);
        prepared.let_go(rep);
        assert_eq!(prepared.bytes, 0);
        assert!(prepared.keep(lookup(0)).is_some());
    }
}
