//! The names under which one object can be purged.

use std::borrow::Cow;

use super::name::{Kind, Kinds, Scope, hash};
use crate::{Key, Object, Tags};

/// An object, as far as purges are concerned.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    /// The key without its origin.
    pub(super) name: &'a str,
    /// The same without its seal, where it has one.
    unsealed: Option<&'a str>,
    namespace: Option<&'a str>,
    url: Cow<'a, str>,
    tags: &'a Tags,
    /// [`Scope::seed`] of its authority.
    scope: u64,
}

impl<'a> Subject<'a> {
    pub(super) fn new(key: &'a Key, url: impl Into<Cow<'a, str>>, tags: &'a Tags) -> Self {
        let authority = key.origin().map(|origin| {
            origin
                .split_once("://")
                .map_or(origin, |(_, authority)| authority)
        });
        Self {
            name: key.name(),
            unsealed: Some(key.unsealed_name()).filter(|name| name.len() < key.name().len()),
            namespace: key.namespace(),
            url: url.into(),
            tags,
            scope: authority.map_or(Scope::Shared, Scope::Host).seed(),
        }
    }

    pub(super) fn of(object: &'a Object) -> Self {
        Self::new(&object.key, object.url(), &object.tags)
    }

    /// The scopes it belongs to.
    pub(super) fn scopes(&self) -> [u64; 2] {
        [Scope::Everywhere.seed(), self.scope]
    }

    /// Visits the hash of each of its names that is of these kinds.
    pub(super) fn each_hash(&self, kinds: Kinds, mut visit: impl FnMut(u64)) {
        for (scope, scoped) in self.scopes().into_iter().zip([false, true]) {
            let mut name = |kind, text: &str| {
                if kinds.has(kind, scoped) {
                    visit(hash(kind, scope, text));
                }
            };
            name(Kind::All, "");
            if let Some(namespace) = self.namespace {
                name(Kind::Namespace, namespace);
            }
            name(Kind::Key, self.name);
            if let Some(unsealed) = self.unsealed {
                name(Kind::Key, unsealed);
            }
            if !scoped {
                name(Kind::Url, &self.url);
            }
            if kinds.has(Kind::Tag, scoped) {
                for tag in self.tags {
                    visit(hash(Kind::Tag, scope, tag));
                }
            }
        }
    }
}
