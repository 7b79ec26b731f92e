//! Globs: `*` and `?` stop at `/`, `**` does not.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use parking_lot::RwLock;

mod plain;

use plain::{Plain, Plains};

/// The most globs of one list.
const MAX_GLOBS: usize = 64;
/// The longest glob, in bytes. Bounds what a compiled one can cost.
const MAX_GLOB_LEN: usize = 256;
/// The most lists that a [`GlobCache`] holds.
const MAX_CACHED: usize = 256;
/// The most bytes that their automata take together, about.
const MAX_CACHED_BYTES: usize = 16 * 1024 * 1024;
/// What the automaton of a list takes, in bytes: measured, with globset 0.4, on a list of one small
/// glob and on one of 64 globs of 256 bytes.
const AUTOMATON: usize = 10 * 1024;
/// And for each byte of its globs.
const AUTOMATON_PER_BYTE: usize = 128;

/// A compiled list of globs; a clone is a reference count.
#[derive(Clone)]
pub struct Globs(Arc<Compiled>);

struct Compiled {
    patterns: Vec<String>,
    plain: Plains,
    /// All the others.
    set: GlobSet,
    /// What that takes, in bytes, about.
    weight: usize,
}

impl Globs {
    /// Compiles at most 64 globs of at most 256 bytes each.
    ///
    /// # Errors
    /// A sentence that names the glob and what is wrong with it.
    pub fn compile<S: AsRef<str>>(patterns: &[S]) -> Result<Self, String> {
        if patterns.len() > MAX_GLOBS {
            return Err(format!(
                "{} globs were given, and at most {MAX_GLOBS} are allowed",
                patterns.len()
            ));
        }
        let (mut plain, mut set) = (Vec::new(), GlobSetBuilder::new());
        let mut weight = 0;
        for pattern in patterns {
            let pattern = pattern.as_ref();
            if pattern.len() > MAX_GLOB_LEN {
                return Err(format!(
                    "a glob of {} bytes was given, and at most {MAX_GLOB_LEN} are allowed",
                    pattern.len()
                ));
            }
            let glob = GlobBuilder::new(pattern)
                .literal_separator(true)
                .empty_alternates(true)
                .build()
                .map_err(|e| format!("not a glob: {e}"))?;
            match Plain::of(pattern) {
                Some(one) => plain.push(one),
                None => {
                    weight = weight.max(AUTOMATON) + AUTOMATON_PER_BYTE * pattern.len();
                    set.add(glob);
                }
            }
        }
        let set = set.build().map_err(|e| format!("not a glob: {e}"))?;
        Ok(Self(Arc::new(Compiled {
            patterns: patterns.iter().map(|p| p.as_ref().to_owned()).collect(),
            plain: Plains::new(plain),
            set,
            weight,
        })))
    }

    /// Does one of the globs match all of `text`?
    #[inline]
    pub fn matches(&self, text: &str) -> bool {
        self.matches_bytes(text.as_bytes())
    }

    /// The same of the bytes of a text.
    #[inline]
    pub(crate) fn matches_bytes(&self, text: &[u8]) -> bool {
        let Compiled { plain, set, .. } = &*self.0;
        plain.matches(text) || (!set.is_empty() && is_in(set, text))
    }

    /// About how many bytes what it is compiled to takes, beside its text.
    pub(crate) fn weight(&self) -> usize {
        self.0.weight
    }

    /// The globs as they were written.
    pub fn patterns(&self) -> &[String] {
        &self.0.patterns
    }
}

#[inline(never)]
fn is_in(set: &GlobSet, text: &[u8]) -> bool {
    set.is_match(&*String::from_utf8_lossy(text))
}

impl PartialEq for Globs {
    fn eq(&self, other: &Self) -> bool {
        self.patterns() == other.patterns()
    }
}

impl Eq for Globs {}

impl Hash for Globs {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.patterns().hash(state);
    }
}

impl fmt::Debug for Globs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Globs").field(&self.patterns()).finish()
    }
}

/// Compiled globs of one policy, by their text. Emptied when it is full: policies use
/// a handful, and one that makes them up as it goes pays for that with its own time.
#[derive(Debug, Default)]
pub(crate) struct GlobCache(RwLock<Cached>);

#[derive(Debug, Default)]
struct Cached {
    lists: HashMap<Vec<String>, Globs, ahash::RandomState>,
    /// What their automata take.
    weight: usize,
}

impl GlobCache {
    pub(crate) fn get(&self, patterns: &[String]) -> Result<Globs, String> {
        if let Some(globs) = self.0.read().lists.get(patterns) {
            return Ok(globs.clone());
        }
        let globs = Globs::compile(patterns)?;
        let mut cached = self.0.write();
        let weight = cached.weight + globs.weight();
        if cached.lists.len() >= MAX_CACHED || weight > MAX_CACHED_BYTES {
            *cached = Cached::default();
        }
        // Another call may have added it meanwhile.
        let known = cached.lists.insert(patterns.to_vec(), globs.clone());
        if known.is_none() {
            cached.weight += globs.weight();
        }
        Ok(globs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(glob: &str, text: &str) -> bool {
        Globs::compile(&[glob]).unwrap().matches(text)
    }

    #[test]
    fn star_stops_at_a_slash_and_two_do_not() {
        assert!(matches("/users/*", "/users/42"));
        assert!(!matches("/users/*", "/users/42/posts"));
        assert!(matches("/static/**", "/static/a/b.css"));
        assert!(!matches("*.css", "/static/a.css"));
        assert!(!matches("/*.css", "/static/a.css"));
        assert!(matches("/**/*.css", "/static/a/b.css"));
        assert!(matches("/a?c", "/abc"));
        assert!(!matches("/a?c", "/a/c"));
    }

    #[test]
    fn classes_and_alternatives() {
        assert!(matches("/v[0-9]/**", "/v2/x"));
        assert!(matches("**/*.{css,js}", "/a/b.js"));
        assert!(!matches("**/*.{css,js}", "/a/b.png"));
    }

    #[test]
    fn wrong_globs_are_named() {
        assert!(
            Globs::compile(&["a[".to_owned()])
                .unwrap_err()
                .contains("a[")
        );
        assert!(Globs::compile(&["x".repeat(257)]).is_err());
        assert!(Globs::compile(&vec!["x"; 65]).is_err());
    }

    #[test]
    fn cache_is_bounded_and_gives_equal_globs() {
        let cache = GlobCache::default();
        for i in 0..(MAX_CACHED * 2) {
            cache.get(&[format!("p{i}")]).unwrap();
        }
        assert!(cache.0.read().lists.len() <= MAX_CACHED);
        let one = cache.get(&["a*".to_owned()]).unwrap();
        assert_eq!(one, cache.get(&["a*".to_owned()]).unwrap());
    }

    #[test]
    fn automata_are_weighed_and_the_cache_holds_so_many_bytes_of_them() {
        let weight = |glob: &str| Globs::compile(&[glob]).unwrap().weight();
        assert_eq!(weight("utm_*"), 0, "it needs none");
        assert!((AUTOMATON..2 * AUTOMATON).contains(&weight("a*b*")));
        let cache = GlobCache::default();
        for list in 0..20 {
            let long = |number| format!("{list}-{number}{}", "[ab]*".repeat(50));
            cache.get(&(0..64).map(long).collect::<Vec<_>>()).unwrap();
            let cached = cache.0.read();
            let all: usize = cached.lists.values().map(Globs::weight).sum();
            assert_eq!(all, cached.weight);
            assert!(all <= MAX_CACHED_BYTES, "{all}");
        }
    }
}
