//! Counters are known by a 64-bit hash of their typed name. Two names that share one
//! invalidate each other, which costs a fetch and nothing else.
//!
//! Hash and bucket are part of what nodes share through Redis: they may not change.

use std::fmt::Write as _;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The number of buckets that counters fall into; each has a floor of its own.
pub(crate) const BUCKETS: usize = 1_024;

/// "weir log" in ASCII.
const SEED: u64 = 0x7765_6972_206c_6f67;

/// How much of a name is shown in Redis, in bytes; the hash stands for all of it.
const SHOWN_BYTES: usize = 200;

/// What kind of thing a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A key's name.
    Key,
    /// A target URI.
    Url,
    /// A tag.
    Tag,
    /// A namespace.
    Namespace,
    /// All objects of a scope.
    All,
}

impl Kind {
    const fn letter(self) -> char {
        match self {
            Self::Key => 'k',
            Self::Url => 'u',
            Self::Tag => 't',
            Self::Namespace => 'n',
            Self::All => 'a',
        }
    }
}

/// Whose objects a counter concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope<'a> {
    /// Those of all authorities.
    Everywhere,
    /// Those of one authority, in lower case.
    Host(&'a str),
    /// Those of shared routes, when a purge was limited to some authority.
    Shared,
}

impl Scope<'_> {
    /// A number that stands for the scope in hashes and maps.
    pub(crate) fn seed(self) -> u64 {
        match self {
            Self::Everywhere => SEED,
            Self::Host(host) => xxh3_64_with_seed(host.as_bytes(), SEED),
            Self::Shared => !SEED,
        }
    }

    /// `@host`, or nothing. No authority holds a `*`.
    pub(crate) fn text(self) -> String {
        match self {
            Self::Everywhere => String::new(),
            Self::Host(host) => format!("@{host}"),
            Self::Shared => "@*".into(),
        }
    }
}

/// Which kinds of counters a table has seen, so that a test can leave out the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kinds(u16);

impl Kinds {
    pub(crate) const ALL: Self = Self(u16::MAX);

    pub(crate) const fn of(kind: Kind, scoped: bool) -> Self {
        Self(1 << (kind as u16 * 2 + scoped as u16))
    }

    pub(crate) const fn bits(self) -> u16 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(crate) const fn has(self, kind: Kind, scoped: bool) -> bool {
        self.0 & Self::of(kind, scoped).0 != 0
    }

    /// The kinds that the readable part of a name tells; all, if it tells none.
    fn read(text: &str) -> Self {
        let mut letters = text.chars();
        let kind = match letters.next() {
            Some('k') => Kind::Key,
            Some('u') => Kind::Url,
            Some('t') => Kind::Tag,
            Some('n') => Kind::Namespace,
            Some('a') => Kind::All,
            _ => return Self::ALL,
        };
        match letters.next() {
            Some('|') => Self::of(kind, false),
            Some('@') => Self::of(kind, true),
            _ => Self::ALL,
        }
    }
}

/// The name of a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// What it is found by.
    pub hash: u64,
    /// Its kind and scope.
    pub kinds: Kinds,
    /// How an operator reads it in Redis: `t|user-42`, `n@api.example.org|user`.
    pub text: String,
}

impl Name {
    pub(crate) fn new(kind: Kind, scope: Scope<'_>, text: &str) -> Self {
        let shown = &text[..text.floor_char_boundary(SHOWN_BYTES)];
        Self {
            hash: hash(kind, scope.seed(), text),
            kinds: Kinds::of(kind, scope != Scope::Everywhere),
            text: format!("{}{}|{shown}", kind.letter(), scope.text()),
        }
    }

    /// Reads `HASH TEXT` as [`Name::member`] writes it.
    pub(crate) fn parse(member: &str) -> Option<Self> {
        let (hash, text) = member.split_once(' ')?;
        // from_str_radix would take a sign.
        let digits = hash.bytes().all(|digit| digit.is_ascii_hexdigit());
        (hash.len() == 16 && digits).then_some(())?;
        Some(Self {
            hash: u64::from_str_radix(hash, 16).ok()?,
            kinds: Kinds::read(text),
            text: text.to_owned(),
        })
    }

    /// Appends `HASH TEXT`, the hash as 16 hexadecimal digits.
    pub(crate) fn member(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = write!(out, "{:016x} {}", self.hash, self.text);
    }
}

/// The hash of a name whose scope has this seed.
pub(crate) fn hash(kind: Kind, scope: u64, text: &str) -> u64 {
    let seed = scope ^ (kind as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    xxh3_64_with_seed(text.as_bytes(), seed)
}

/// The bucket of a hash: its ten highest bits, which the scripts read off its digits.
pub(crate) const fn bucket(hash: u64) -> usize {
    (hash >> 54) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_what_other_nodes_have_in_redis() {
        // A change of these numbers splits a fleet during its upgrade.
        assert_eq!(
            Name::new(Kind::Tag, Scope::Everywhere, "user-42").hash,
            EXPECTED[0]
        );
        assert_eq!(
            Name::new(Kind::Key, Scope::Host("a.example"), "user:1").hash,
            EXPECTED[1]
        );
        assert_eq!(Name::new(Kind::All, Scope::Shared, "").hash, EXPECTED[2]);
    }

    const EXPECTED: [u64; 3] = [
        11_310_091_600_614_805_201,
        3_935_744_320_412_778_703,
        10_077_084_130_724_516_557,
    ];

    #[test]
    fn names_of_different_kind_scope_or_text_differ() {
        let scopes = [
            Scope::Everywhere,
            Scope::Host("a"),
            Scope::Host("b"),
            Scope::Shared,
        ];
        let kinds = [Kind::Key, Kind::Url, Kind::Tag, Kind::Namespace, Kind::All];
        let mut hashes: Vec<u64> = scopes
            .iter()
            .flat_map(|scope| kinds.iter().map(move |kind| (*kind, *scope)))
            .flat_map(|(kind, scope)| ["", "a", "b"].map(|text| Name::new(kind, scope, text).hash))
            .collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 4 * 5 * 3);
    }

    #[test]
    fn a_member_reads_back() {
        for scope in [Scope::Everywhere, Scope::Host("h:81"), Scope::Shared] {
            let name = Name::new(Kind::Key, scope, "user:a b");
            let mut member = String::new();
            name.member(&mut member);
            assert_eq!(Name::parse(&member), Some(name));
        }
        assert_eq!(Name::parse("12 k|a"), None);
    }

    #[test]
    fn an_unknown_kind_is_taken_for_any() {
        assert_eq!(
            Name::parse("00000000000000ff z|a").unwrap().kinds,
            Kinds::ALL
        );
    }
}
