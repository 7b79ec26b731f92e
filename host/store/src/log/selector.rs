//! What a purge names.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::name::{Kind, Name, Scope};

/// The longest prefix kept, in bytes. A longer one is cut, which purges more, never less.
pub const MAX_PREFIX_BYTES: usize = 1_024;

/// What is to be invalidated.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Target {
    /// The object with this target URI, absolute and normalised, under any key.
    #[serde(rename = "u")]
    Url(String),
    /// The object under this [`Key::name`](crate::Key::name).
    #[serde(rename = "k")]
    Key(String),
    /// Every object that carries this tag.
    #[serde(rename = "t")]
    Tag(String),
    /// Every object of this namespace.
    #[serde(rename = "n")]
    Namespace(String),
    /// Every object whose [`Key::name`](crate::Key::name) begins with this.
    #[serde(rename = "p")]
    Prefix(String),
    /// Every object.
    #[serde(rename = "a")]
    All,
}

/// One thing to invalidate, where, and how hard.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Selector {
    /// What.
    #[serde(flatten)]
    pub target: Target,
    /// Only objects of this authority (`host` or `host:port`); absent: of all. A URL
    /// names its own. Objects of shared routes belong to every authority.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Ends the lifetime, but leaves the stale windows (RFC 5861) to decide what may
    /// still be served. Otherwise the object is gone.
    #[serde(rename = "s", default, skip_serializing_if = "std::ops::Not::not")]
    pub soft: bool,
}

impl Selector {
    /// A hard selector for all authorities.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            host: None,
            soft: false,
        }
    }

    /// The same, soft.
    #[must_use]
    pub fn soft(mut self) -> Self {
        self.soft = true;
        self
    }

    /// The same, for one authority only.
    #[must_use]
    pub fn on_host(mut self, authority: impl Into<String>) -> Self {
        self.host = Some(authority.into());
        self
    }

    /// The bytes it takes in a log entry, about.
    pub(crate) fn size(&self) -> usize {
        let text = match &self.target {
            Target::Url(text)
            | Target::Key(text)
            | Target::Tag(text)
            | Target::Namespace(text)
            | Target::Prefix(text) => text.len(),
            Target::All => 0,
        };
        text + self.host.as_ref().map_or(0, String::len) + 24
    }

    /// The counters that this raises.
    pub(crate) fn raises(&self) -> SmallVec<[Raise; 2]> {
        let host = match (&self.host, &self.target) {
            (Some(host), target) if !matches!(target, Target::Url(_)) => {
                Some(host.to_ascii_lowercase())
            }
            _ => None,
        };
        let mut raises = SmallVec::new();
        let Some(host) = host else {
            raises.push(self.raise(Scope::Everywhere));
            return raises;
        };
        raises.push(self.raise(Scope::Host(&host)));
        // An object of a shared route has no authority of its own to be found by.
        raises.push(self.raise(Scope::Shared));
        raises
    }

    fn raise(&self, scope: Scope<'_>) -> Raise {
        let named = |kind, text: &str| Counter::Named(Name::new(kind, scope, text));
        let counter = match &self.target {
            Target::Url(url) => named(Kind::Url, url),
            Target::Key(name) => named(Kind::Key, name),
            Target::Tag(tag) => named(Kind::Tag, tag),
            Target::Namespace(namespace) => named(Kind::Namespace, namespace),
            Target::All => named(Kind::All, ""),
            Target::Prefix(prefix) => Counter::Prefix(PrefixName::new(scope, prefix)),
        };
        Raise {
            soft: self.soft,
            counter,
        }
    }
}

/// `tag:pages`, `soft tag:pages`, `on shop.example key:shop:item:42`. No two selectors read
/// the same: a host has no space, and what a selector names stands last.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.soft {
            f.write_str("soft ")?;
        }
        if let Some(host) = &self.host {
            write!(f, "on {host} ")?;
        }
        match &self.target {
            Target::Url(url) => write!(f, "url:{url}"),
            Target::Key(name) => write!(f, "key:{name}"),
            Target::Tag(tag) => write!(f, "tag:{tag}"),
            Target::Namespace(namespace) => write!(f, "namespace:{namespace}"),
            Target::Prefix(prefix) => write!(f, "prefix:{prefix}"),
            Target::All => f.write_str("all"),
        }
    }
}

/// One counter to raise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raise {
    /// Whether only its soft mark is raised.
    pub soft: bool,
    /// Which counter.
    pub counter: Counter,
}

/// A counter of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Counter {
    /// Found by the hash of its name.
    Named(Name),
    /// Found by walking the prefixes of a key's name.
    Prefix(PrefixName),
}

/// A purged prefix, and what is raised in its stead when there are too many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PrefixName {
    /// [`Scope::seed`] of the authority it is limited to.
    pub scope: u64,
    /// The beginning of the key's name.
    pub prefix: Box<str>,
    /// A counter that covers all that the prefix covers.
    pub fallback: Name,
    /// How an operator reads it in Redis.
    pub text: String,
}

impl PrefixName {
    pub(crate) fn new(scope: Scope<'_>, prefix: &str) -> Self {
        let prefix = &prefix[..prefix.floor_char_boundary(MAX_PREFIX_BYTES)];
        let fallback = match prefix.split_once(':') {
            Some((namespace, _)) if !namespace.starts_with('/') => {
                Name::new(Kind::Namespace, scope, namespace)
            }
            // It ends within the namespace, or is a path: no narrower counter covers it.
            _ => Name::new(Kind::All, scope, ""),
        };
        Self {
            scope: scope.seed(),
            prefix: prefix.into(),
            fallback,
            text: format!("p{}|{prefix}", scope.text()),
        }
    }

    /// Appends the hash of the fallback, a space and the text.
    pub(crate) fn member(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = write!(out, "{:016x} {}", self.fallback.hash, self.text);
    }

    /// Reads `p|PREFIX`, `p@HOST|PREFIX` or `p@*|PREFIX`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scope, prefix) = text.strip_prefix('p')?.split_once('|')?;
        let scope = match scope.strip_prefix('@') {
            None if scope.is_empty() => Scope::Everywhere,
            None => return None,
            Some("*") => Scope::Shared,
            Some(host) => Scope::Host(host),
        };
        Some(Self::new(scope, prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_reads_back_from_its_compact_json() {
        let selectors = [
            Selector::new(Target::Key("user:profile:42".into())),
            Selector::new(Target::Tag("a \"b\" ü".into())).soft(),
            Selector::new(Target::All).on_host("api.example.org"),
            Selector::new(Target::Prefix("/img/".into()))
                .on_host("h:81")
                .soft(),
        ];
        let json = serde_json::to_string(&selectors).unwrap();
        assert!(
            json.starts_with(r#"[{"k":"user:profile:42"},{"t":"a \"b\" ü","s":true},"#),
            "{json}"
        );
        assert_eq!(
            serde_json::from_str::<Vec<Selector>>(&json).unwrap(),
            selectors
        );
    }

    #[test]
    fn a_selector_reads_as_people_write_it() {
        let key = Selector::new(Target::Key("shop:item:42".into()));
        for (selector, text) in [
            (Selector::new(Target::Tag("a b".into())), "tag:a b"),
            (key.clone().soft(), "soft key:shop:item:42"),
            (
                key.on_host("shop.example:81").soft(),
                "soft on shop.example:81 key:shop:item:42",
            ),
            (
                Selector::new(Target::Namespace("shop".into())),
                "namespace:shop",
            ),
            (
                Selector::new(Target::Prefix("shop:item:".into())),
                "prefix:shop:item:",
            ),
            (
                Selector::new(Target::Url("http://h/a".into())),
                "url:http://h/a",
            ),
            (Selector::new(Target::All), "all"),
        ] {
            assert_eq!(selector.to_string(), text);
        }
    }

    #[test]
    fn a_long_prefix_is_cut_at_a_character() {
        let long = "ä".repeat(MAX_PREFIX_BYTES);
        let name = PrefixName::new(Scope::Everywhere, &long);
        assert!(name.prefix.len() <= MAX_PREFIX_BYTES && long.starts_with(&*name.prefix));
    }

    #[test]
    fn the_stand_in_of_a_prefix_covers_it() {
        let of = |prefix| PrefixName::new(Scope::Everywhere, prefix).fallback;
        let everywhere = Scope::Everywhere;
        assert_eq!(
            of("user:pro"),
            Name::new(Kind::Namespace, everywhere, "user")
        );
        assert_eq!(of("us"), Name::new(Kind::All, everywhere, ""));
        assert_eq!(of("/a:b"), Name::new(Kind::All, everywhere, ""));
    }
}
