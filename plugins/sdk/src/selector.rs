//! What to invalidate.

use crate::bindings::weir::policy::http as wit;
use crate::part::{Part, to_host};

/// What to invalidate. Hard by default: gone at once. See [`Selector::soft`].
///
/// ```
/// use weir_sdk::{Selector, text};
///
/// let gone = Selector::key("user", [text("profile"), text("42")]);
/// let aging = Selector::tag("dashboard").soft();
/// # let _ = (gone, aging);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    target: Target,
    host: Option<String>,
    soft: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Url(String),
    Key(String, Vec<Part>),
    Tag(String),
    Namespace(String),
    Prefix(String, String),
    All,
}

impl Selector {
    /// One URL, absolute or, for the request's own origin, beginning with `/`.
    pub fn url(url: impl Into<String>) -> Self {
        Self::of(Target::Url(url.into()))
    }

    /// The object under one key.
    pub fn key(namespace: impl Into<String>, parts: impl IntoIterator<Item = Part>) -> Self {
        Self::of(Target::Key(namespace.into(), parts.into_iter().collect()))
    }

    /// Every object that carries this tag.
    pub fn tag(tag: impl Into<String>) -> Self {
        Self::of(Target::Tag(tag.into()))
    }

    /// Every object of one namespace.
    pub fn namespace(namespace: impl Into<String>) -> Self {
        Self::of(Target::Namespace(namespace.into()))
    }

    /// Every object whose key begins with `namespace:prefix`.
    pub fn prefix(namespace: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self::of(Target::Prefix(namespace.into(), prefix.into()))
    }

    /// Every object in the policy's namespaces.
    pub fn all() -> Self {
        Self::of(Target::All)
    }

    /// Only objects of this authority (for key, prefix, namespace and all).
    #[must_use]
    pub fn on_host(mut self, authority: impl Into<String>) -> Self {
        self.host = Some(authority.into());
        self
    }

    /// Ends the lifetime now, but leaves stale-while-revalidate and stale-if-error to
    /// decide what may still be served.
    #[must_use]
    pub fn soft(mut self) -> Self {
        self.soft = true;
        self
    }

    fn of(target: Target) -> Self {
        Self {
            target,
            host: None,
            soft: false,
        }
    }

    pub(crate) fn to_host(&self) -> wit::Selector {
        let selector = match &self.target {
            Target::Url(url) => wit::Selector::url(url),
            Target::Key(namespace, parts) => wit::Selector::key(namespace, to_host(parts)),
            Target::Tag(tag) => wit::Selector::tag(tag),
            Target::Namespace(namespace) => wit::Selector::namespace(namespace),
            Target::Prefix(namespace, prefix) => wit::Selector::prefix(namespace, prefix),
            Target::All => wit::Selector::all(),
        };
        if let Some(host) = &self.host {
            selector.host(host);
        }
        if self.soft {
            selector.soft();
        }
        selector
    }
}
