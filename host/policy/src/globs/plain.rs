//! The globs that most policies write. A comparison answers them, for less than an automaton.

/// What may stand for something else in a glob.
const SPECIAL: &[char] = &['*', '?', '[', ']', '{', '}', '\\', '!'];

/// The longest extension that is compared as a number, in bytes.
const LONGEST_EXTENSION: usize = 7;

/// A glob that needs no automaton.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plain {
    /// `text`
    Is(Box<str>),
    /// `text*`
    Begins(Box<str>),
    /// `**/*.{css,js}` and `**/*.css`
    ///
    /// Without the dot, [`packed`], in order.
    Extension(Box<[u64]>),
}

impl Plain {
    /// `pattern` is known to be a glob.
    pub(super) fn of(pattern: &str) -> Option<Self> {
        let is_text = |text: &str| !text.contains(SPECIAL);
        if let Some(extensions) = pattern.strip_prefix("**/*.") {
            let listed = extensions.strip_prefix('{');
            let list = match listed.and_then(|rest| rest.strip_suffix('}')) {
                Some(list) => list,
                None if extensions.contains(',') => return None,
                None => extensions,
            };
            let is_extension = |text: &str| {
                (1..=LONGEST_EXTENSION).contains(&text.len())
                    && is_text(text)
                    && !text.contains(['/', '.'])
            };
            if !list.split(',').all(is_extension) {
                return None;
            }
            let texts = list.split(',').map(str::as_bytes);
            let mut all: Box<[u64]> = texts.map(packed).collect();
            all.sort_unstable();
            return Some(Self::Extension(all));
        }
        let (text, begins) = match pattern.strip_suffix('*') {
            Some(text) => (text, true),
            None => (pattern, false),
        };
        let made = if begins { Self::Begins } else { Self::Is };
        is_text(text).then(|| made(text.into()))
    }

    /// With what all begins that it matches, where that is one byte.
    fn first(&self) -> Option<u8> {
        match self {
            Self::Is(text) | Self::Begins(text) => text.as_bytes().first().copied(),
            Self::Extension(_) => None,
        }
    }

    /// Does it match all of `text`?
    #[inline]
    fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Is(all) => *all.as_bytes() == *text,
            Self::Begins(start) => {
                let (start, length) = (start.as_bytes(), start.len());
                // A few bytes, compared here for less than a call of the library costs.
                text.len() >= length
                    && start.iter().eq(text.iter().take(length))
                    && !text.iter().skip(length).any(|byte| *byte == b'/')
            }
            Self::Extension(all) => {
                extension(text).is_some_and(|extension| all.binary_search(&extension).is_ok())
            }
        }
    }
}

/// A text of at most [`LONGEST_EXTENSION`] as a number, which is compared at once. The one before
/// it tells how long it is.
fn packed(text: &[u8]) -> u64 {
    let shifted = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    text.iter().fold(1, shifted)
}

/// What stands behind the last dot of a text, [`packed`], if that is not longer. The bytes are
/// looked at all at once.
#[inline]
fn extension(text: &[u8]) -> Option<u64> {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHEST: u64 = EACH << 7;
    let tail = match text.last_chunk::<{ LONGEST_EXTENSION + 1 }>() {
        Some(tail) => u64::from_be_bytes(*tail),
        // Nothing is lost: it is shorter. Zeros are no dots.
        None => text.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    };
    // The lowest byte of zero here is marked by its highest bit; above it others may be too.
    let dots = tail ^ (EACH * u64::from(b'.'));
    let marked = dots.wrapping_sub(EACH) & !dots & HIGHEST;
    let above = (marked != 0).then(|| 1_u64 << (marked.trailing_zeros() & !7))?;
    Some(above | (tail & (above - 1)))
}

/// Globs that need no automaton, by the first byte of what they match: most texts begin
/// otherwise.
#[derive(Debug)]
pub(super) struct Plains {
    /// Those that match texts which begin with any byte, or none; then the others by it.
    globs: Box<[Plain]>,
    /// Where those for all end.
    for_all: usize,
    /// Where those that begin with a byte begin and end.
    of: Box<[(u8, u8); 256]>,
}

impl Plains {
    pub(super) fn new(mut globs: Vec<Plain>) -> Self {
        globs.sort_by_key(Plain::first);
        let for_all = globs.iter().filter(|it| it.first().is_none()).count();
        let mut of = Box::new([(0, 0); 256]);
        for (byte, of) in (0_u8..=255).zip(of.iter_mut()) {
            // A list has at most 64 globs.
            let count = |up_to: &dyn Fn(Option<u8>) -> bool| {
                let before = globs.iter().filter(|it| up_to(it.first()));
                u8::try_from(before.count()).unwrap_or(u8::MAX)
            };
            *of = (
                count(&|first| first < Some(byte)),
                count(&|first| first <= Some(byte)),
            );
        }
        Self {
            globs: globs.into(),
            for_all,
            of,
        }
    }

    /// Does one of them match all of `text`?
    #[inline]
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        // Most texts have none that could, so that is what is found out first.
        let (from, to) = match text.first() {
            Some(first) => self.of[usize::from(*first)],
            None => (0, 0),
        };
        (self.for_all > 0 && self.among(0, self.for_all, text))
            || (from < to && self.among(from.into(), to.into(), text))
    }

    fn among(&self, from: usize, to: usize, text: &[u8]) -> bool {
        let globs = self.globs.get(from..to).unwrap_or_default();
        globs.iter().any(|glob| glob.matches(text))
    }
}

#[cfg(test)]
mod tests {
    use globset::GlobBuilder;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_plain() {
        for pattern in ["", "fbclid", "/a/b.css", "utm_*", "/a/*", "*"] {
            assert!(Plain::of(pattern).is_some(), "{pattern}");
        }
        for pattern in ["**/*.css", "**/*.{css,js,woff2}"] {
            let plain = Plain::of(pattern);
            assert!(matches!(plain, Some(Plain::Extension(_))), "{pattern}");
        }
        for pattern in [
            "a?",
            "/a/**",
            "*.css",
            "**/*.{a,}",
            "**/*.a.b",
            "**/*.{a,b",
            "[ab]",
            "**/*.abcdefgh",
        ] {
            assert_eq!(Plain::of(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn they_are_found_by_the_first_byte() {
        let patterns = ["utm_*", "gclid", "\u{fc}*", "", "**/*.css", "utm", "a*"];
        let globs = patterns.map(|glob| Plain::of(glob).unwrap());
        let plains = Plains::new(globs.into());
        let of = |text: &&str| plains.matches(text.as_bytes());
        let matched: Vec<_> = [
            "utm_source",
            "gclid",
            "\u{fc}ber",
            "",
            "/a.css",
            "utm",
            "a",
            "gc",
            "b",
            "U",
            "z",
        ]
        .into_iter()
        .filter(of)
        .collect();
        assert_eq!(
            matched,
            ["utm_source", "gclid", "\u{fc}ber", "", "/a.css", "utm", "a"]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        /// Whatever is taken for plain means what the automaton says.
        #[test]
        fn it_matches_what_globset_matches(
            pattern in "(\\*\\*/\\*\\.(\\{(a|b|ab|,){1,4}\\}|a|ab|a,b|.)|[ab/.*!{},\\\\]{0,5}\\*?)",
            text in "(|/abcdefg|a\\.bcdefgh)[ab/.,*\n\0]{0,4}(\\.?\0?(a|ab|b))?",
        ) {
            let glob = GlobBuilder::new(&pattern)
                .literal_separator(true)
                .empty_alternates(true)
                .build();
            if let (Ok(glob), Some(plain)) = (glob, Plain::of(&pattern)) {
                prop_assert_eq!(
                    plain.matches(text.as_bytes()),
                    glob.compile_matcher().is_match(&text),
                    "{} {:?}", pattern, text
                );
                let known = plain.matches(text.as_bytes());
                let plains = Plains::new(vec![Plain::Is("b".into()), plain]);
                prop_assert_eq!(plains.matches(text.as_bytes()), known || text == "b");
            }
        }
    }
}
