//! The globs that most policies write. A comparison answers them, for less than an automaton.

/// What may stand for something else in a glob.
const SPECIAL: &[char] = &['*', '?', '[', ']', '{', '}', '\\', '!'];

/// A glob that needs no automaton.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plain {
    /// `text`
    Is(Box<str>),
    /// `text*`
    Begins(Box<str>),
    /// `**/*.{css,js}` and `**/*.css`
    Extension {
        /// Without the dot, in order.
        sorted: Box<[Box<str>]>,
        longest: usize,
    },
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
            let is_extension =
                |text: &str| !text.is_empty() && is_text(text) && !text.contains(['/', '.']);
            if !list.split(',').all(is_extension) {
                return None;
            }
            let mut sorted: Vec<Box<str>> = list.split(',').map(Box::from).collect();
            sorted.sort_unstable();
            return Some(Self::Extension {
                longest: sorted.iter().map(|it| it.len()).max()?,
                sorted: sorted.into(),
            });
        }
        let (text, begins) = match pattern.strip_suffix('*') {
            Some(text) => (text, true),
            None => (pattern, false),
        };
        let made = if begins { Self::Begins } else { Self::Is };
        is_text(text).then(|| made(text.into()))
    }

    /// Does it match all of `text`?
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Is(all) => **all == *text,
            Self::Begins(start) => text
                .strip_prefix(&**start)
                .is_some_and(|rest| !rest.contains('/')),
            Self::Extension { sorted, longest } => {
                let bytes = text.as_bytes();
                let end = bytes.len().saturating_sub(longest + 1);
                let tail = bytes.get(end..).unwrap_or_default();
                let Some(dot) = tail.iter().rposition(|&byte| byte == b'.') else {
                    return false;
                };
                let extension = tail.get(dot + 1..).unwrap_or_default();
                sorted
                    .binary_search_by(|known| known.as_bytes().cmp(extension))
                    .is_ok()
            }
        }
    }
}

/// The first bytes of what some globs match.
#[derive(Debug)]
pub(super) struct Firsts {
    /// Bit by bit.
    bytes: [u64; 4],
    /// Also the text without one.
    empty: bool,
}

impl Firsts {
    pub(super) fn of(globs: &[Plain]) -> Self {
        let mut firsts = Self {
            bytes: [0; 4],
            empty: false,
        };
        for glob in globs {
            let text = match glob {
                Plain::Is(text) | Plain::Begins(text) => text.as_bytes().first(),
                Plain::Extension { .. } => None,
            };
            match (text, glob) {
                (Some(first), _) => firsts.bytes[usize::from(first >> 6)] |= 1 << (first & 63),
                (None, Plain::Is(_)) => firsts.empty = true,
                (None, _) => {
                    firsts = Self {
                        bytes: [u64::MAX; 4],
                        empty: true,
                    };
                    break;
                }
            }
        }
        firsts
    }

    /// May one of them match it?
    pub(super) fn may_begin(&self, text: &str) -> bool {
        match text.as_bytes().first() {
            Some(first) => self.bytes[usize::from(first >> 6)] >> (first & 63) & 1 == 1,
            None => self.empty,
        }
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
            assert!(matches!(plain, Some(Plain::Extension { .. })), "{pattern}");
        }
        for pattern in [
            "a?",
            "/a/**",
            "*.css",
            "**/*.{a,}",
            "**/*.a.b",
            "**/*.{a,b",
            "[ab]",
        ] {
            assert_eq!(Plain::of(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn most_texts_begin_otherwise() {
        let globs = ["utm_*", "gclid", "\u{fc}"].map(|glob| Plain::of(glob).unwrap());
        let firsts = Firsts::of(&globs);
        let may: Vec<_> = ["utm_source", "g", "\u{fc}ber", "page", "", "U"]
            .into_iter()
            .filter(|text| firsts.may_begin(text))
            .collect();
        assert_eq!(may, ["utm_source", "g", "\u{fc}ber"]);
        assert!(Firsts::of(&[Plain::Is("".into())]).may_begin(""));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        /// Whatever is taken for plain means what the automaton says.
        #[test]
        fn it_matches_what_globset_matches(
            pattern in "(\\*\\*/\\*\\.(\\{(a|b|ab|,){1,4}\\}|a|ab|a,b|.)|[ab/.*!{},\\\\]{0,5}\\*?)",
            text in "[ab/.,*\n]{0,4}(\\.?(a|ab|b))?",
        ) {
            let glob = GlobBuilder::new(&pattern)
                .literal_separator(true)
                .empty_alternates(true)
                .build();
            if let (Ok(glob), Some(plain)) = (glob, Plain::of(&pattern)) {
                prop_assert_eq!(
                    plain.matches(&text),
                    glob.compile_matcher().is_match(&text),
                    "{} {:?}", pattern, text
                );
                let globs = [Plain::Is("b".into()), plain];
                prop_assert!(!globs[1].matches(&text) || Firsts::of(&globs).may_begin(&text));
            }
        }
    }
}
