//! What was found lately, on each thread: clients send the same User-Agent and the same
//! Accept-Language over and over, and to read these costs more than to find them again.

use std::hash::Hash;

use ahash::RandomState;

/// Places of a table; a power of two.
const PLACES: usize = 4_096;
/// The longest text that is kept, in bytes: [`PLACES`] of them are 2 MiB, for each thread.
const LONGEST: usize = 512;

/// A table in which each text has two places: a new one takes that of the older of the two.
pub(crate) struct Recent<K, V> {
    places: Vec<Option<(K, V)>>,
    hasher: RandomState,
}

impl<K, V: Copy> Recent<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            places: std::iter::repeat_with(|| None).take(PLACES).collect(),
            hasher: RandomState::new(),
        }
    }

    /// What is known of `text`, or what `find` finds. `hashed` is what makes the key,
    /// `is_same` tests it whole, `key` makes it, if it is to be kept.
    pub(crate) fn get(
        &mut self,
        text: &[u8],
        hashed: impl Hash,
        is_same: impl Fn(&K) -> bool,
        key: impl FnOnce() -> Option<K>,
        find: impl FnOnce() -> V,
    ) -> V {
        if text.len() > LONGEST {
            return find();
        }
        #[expect(clippy::cast_possible_truncation, reason = "the lowest bits are taken")]
        let first = (self.hasher.hash_one(hashed) as usize % PLACES) & !1;
        let Some([newer, older]) = self.places.get_mut(first..first + 2) else {
            return find();
        };
        for place in [&*newer, &*older] {
            if let Some((known, value)) = place
                && is_same(known)
            {
                return *value;
            }
        }
        let value = find();
        if let Some(key) = key() {
            *older = newer.replace((key, value));
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(recent: &mut Recent<Vec<u8>, usize>, text: &str, find: impl FnOnce() -> usize) -> usize {
        let text = text.as_bytes();
        recent.get(
            text,
            text,
            |known| *known == text,
            || Some(text.to_vec()),
            find,
        )
    }

    #[test]
    fn what_is_known_is_not_looked_for_again() {
        let mut recent = Recent::new();
        assert_eq!(get(&mut recent, "a", || 1), 1);
        assert_eq!(get(&mut recent, "a", || panic!("it is known")), 1);
        let long = "x".repeat(LONGEST + 1);
        assert_eq!(get(&mut recent, &long, || 2), 2);
        assert_eq!(get(&mut recent, &long, || 3), 3, "too long to be kept");
    }

    #[test]
    fn two_texts_that_share_places_are_both_kept() {
        let mut recent = Recent::new();
        let mut shared = |text: &str, find: fn() -> usize| {
            let text = text.as_bytes();
            let hashed = "the same for all";
            recent.get(
                text,
                hashed,
                |known: &Vec<u8>| *known == text,
                || Some(text.to_vec()),
                find,
            )
        };
        shared("a", || 1);
        shared("b", || 2);
        assert_eq!(shared("a", || panic!("it is known")), 1);
        assert_eq!(shared("b", || panic!("it is known")), 2);
        shared("c", || 3);
        assert_eq!(shared("b", || panic!("it is known")), 2);
        assert_eq!(shared("a", || 4), 4, "the older one made way");
    }

    #[test]
    fn texts_that_share_a_place_are_told_apart() {
        let mut recent = Recent::new();
        for round in 0..2 {
            for number in 0..PLACES * 4 {
                let found = get(&mut recent, &number.to_string(), || number);
                assert_eq!(found, number, "round {round}");
            }
        }
    }
}
