//! Purged prefixes, bounded in number, each at most 1 KiB.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::marks::Mark;
use super::name::Name;
use super::selector::PrefixName;

/// The prefixes of every scope.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    /// By [`PrefixName::scope`], then in the order of their bytes.
    scopes: HashMap<u64, BTreeMap<Box<str>, Entry>, ahash::RandomState>,
    len: usize,
}

#[derive(Debug)]
struct Entry {
    mark: Mark,
    fallback: Name,
}

/// A prefix that had to go; its fallback must be raised to these marks.
pub(super) struct Collapsed {
    pub(super) mark: Mark,
    pub(super) fallback: Name,
}

impl Prefixes {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Raises the mark of one prefix.
    pub(super) fn raise(&mut self, name: &PrefixName, mark: Mark) {
        let scope = self.scopes.entry(name.scope).or_default();
        if let Some(entry) = scope.get_mut(&name.prefix) {
            entry.mark.raise(mark);
        } else {
            scope.insert(
                name.prefix.clone(),
                Entry {
                    mark,
                    fallback: name.fallback.clone(),
                },
            );
            self.len += 1;
        }
    }

    /// The mark of exactly this prefix.
    pub(super) fn get(&self, name: &PrefixName) -> Option<Mark> {
        Some(self.scopes.get(&name.scope)?.get(&name.prefix)?.mark)
    }

    /// Visits every prefix with its scope, its mark and its fallback.
    pub(super) fn each(&self, mut visit: impl FnMut(u64, &str, Mark, &Name)) {
        for (scope, map) in &self.scopes {
            for (prefix, entry) in map {
                visit(*scope, prefix, entry.mark, &entry.fallback);
            }
        }
    }

    /// Takes out the prefix whose newest mark is the oldest.
    pub(super) fn collapse_oldest(&mut self) -> Option<Collapsed> {
        let (&scope, prefix, _) = self
            .scopes
            .iter()
            .flat_map(|(scope, map)| {
                map.iter()
                    .map(move |(prefix, entry)| (scope, prefix, entry))
            })
            // Of equals always the same one, whatever the order of the map.
            .min_by_key(|(scope, _, entry)| (entry.mark.newest(), **scope))?;
        let prefix = prefix.clone();
        let map = self.scopes.get_mut(&scope)?;
        let entry = map.remove(&prefix)?;
        if map.is_empty() {
            self.scopes.remove(&scope);
        }
        self.len -= 1;
        Some(Collapsed {
            mark: entry.mark,
            fallback: entry.fallback,
        })
    }

    /// Visits the mark of every prefix of `name` in one scope.
    ///
    /// Each step finds the greatest entry that is not after what is left of the name.
    /// If that is no prefix of it, only what both have in common can still be one; so
    /// what is left shrinks, and the steps are bounded by the length of the name.
    pub(super) fn visit(&self, scope: u64, name: &str, mut visit: impl FnMut(&Mark)) {
        let Some(map) = self.scopes.get(&scope) else {
            return;
        };
        let mut left = name;
        while let Some((prefix, entry)) = map
            .range::<str, _>((Bound::Unbounded, Bound::Included(left)))
            .next_back()
        {
            let common = common_prefix(prefix, left);
            if common == prefix.len() {
                visit(&entry.mark);
                if common == 0 {
                    break;
                }
                left = &left[..left.floor_char_boundary(common - 1)];
            } else {
                left = &left[..left.floor_char_boundary(common)];
            }
        }
    }
}

fn common_prefix(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::name::Scope;

    fn hard(sequence: u64) -> Mark {
        Mark {
            hard: sequence,
            ..Mark::default()
        }
    }

    fn with(prefixes: &[String]) -> Prefixes {
        let mut all = Prefixes::default();
        for (sequence, prefix) in (1..).zip(prefixes) {
            all.raise(&PrefixName::new(Scope::Everywhere, prefix), hard(sequence));
        }
        all
    }

    proptest! {
        #[test]
        fn visits_exactly_the_entries_that_the_name_begins_with(
            prefixes in prop::collection::vec("[abä]{0,5}", 0..20),
            name in "[abä]{0,8}",
        ) {
            let mut found = Vec::new();
            with(&prefixes).visit(Scope::Everywhere.seed(), &name, |mark| found.push(mark.hard));
            let mut expected: Vec<u64> = (1..)
                .zip(&prefixes)
                .filter(|(_, prefix)| name.starts_with(prefix.as_str()))
                // Of equal ones, the last one raised the mark.
                .filter(|(at, prefix)| !prefixes[*at as usize..].contains(prefix))
                .map(|(at, _)| at)
                .collect();
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn another_scope_is_not_visited() {
        let prefixes = with(&["user:".into()]);
        prefixes.visit(Scope::Host("a").seed(), "user:1", |_| panic!("visited"));
    }

    #[test]
    fn the_oldest_collapses_first() {
        let mut prefixes = with(&["user:a".into(), "help:b".into()]);
        prefixes.raise(&PrefixName::new(Scope::Everywhere, "user:a"), hard(9));
        let collapsed = prefixes.collapse_oldest().unwrap();
        assert_eq!(
            (collapsed.mark.hard, &*collapsed.fallback.text),
            (2, "n|help")
        );
        assert_eq!(prefixes.len(), 1);
    }
}
