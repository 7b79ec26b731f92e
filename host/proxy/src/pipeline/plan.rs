//! What was decided about a request, with every named input filled in.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use weir_policy::{CallError, Lookup, Part, Policy, Reply, RequestHead};
use weir_store::{Key, KeyBuilder, KeyError, Tags, TagsError};

use super::keys::{self, NoKey};
use super::origin::target_from;
use super::seal;
use crate::generation::Route;

/// A decision about one request.
#[derive(Debug)]
pub(crate) enum Decided {
    /// Look up under a policy's key.
    Lookup(Arc<Lookup>, Policy),
    /// Look up under the target URI, by RFC 9111 alone.
    Plain,
    /// Forward only.
    Pass {
        /// Why, for Cache-Status.
        reason: String,
        /// For `on-response`.
        note: Bytes,
        /// Who said so; nobody when the policy failed.
        decider: Option<Policy>,
    },
    /// Answer at the edge.
    Respond(Arc<Reply>, Policy),
    /// The policy failed, and the route wants an error for that.
    Failed(CallError),
}

/// A decision to look something up, where it lies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sought<'d> {
    /// Under a policy's key.
    Lookup(&'d Arc<Lookup>, &'d Policy),
    /// Under the target URI.
    Plain,
}

impl<'d> Sought<'d> {
    /// The policy that said so, if one did.
    pub(crate) fn by(self) -> Option<&'d Policy> {
        match self {
            Self::Lookup(_, decider) => Some(decider),
            Self::Plain => None,
        }
    }

    /// The decision, to be kept.
    pub(crate) fn decided(self) -> Decided {
        match self {
            Self::Lookup(lookup, decider) => Decided::Lookup(Arc::clone(lookup), decider.clone()),
            Self::Plain => Decided::Plain,
        }
    }
}

impl Decided {
    /// What is to be looked up, if anything is.
    pub(crate) fn sought(&self) -> Option<Sought<'_>> {
        match self {
            Self::Lookup(lookup, decider) => Some(Sought::Lookup(lookup, decider)),
            Self::Plain => Some(Sought::Plain),
            Self::Pass { .. } | Self::Respond(..) | Self::Failed(_) => None,
        }
    }

    /// The policy that said so, if one did.
    pub(crate) fn by(&self) -> Option<&Policy> {
        match self {
            Self::Lookup(_, decider) | Self::Respond(_, decider) => Some(decider),
            Self::Pass { decider, .. } => decider.as_ref(),
            Self::Plain | Self::Failed(_) => None,
        }
    }
}

/// A lookup, ready to be made.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The key.
    pub key: Key,
    /// The target URI, absolute and with `http` for both schemes.
    pub url: Box<str>,
    /// Tags known before the response.
    pub tags: Tags,
    /// For `on-response`.
    pub note: Bytes,
    /// What the origin is asked for instead of the client's target.
    pub origin_target: Option<PathAndQuery>,
    /// Header fields replaced or removed on the way to the origin.
    pub origin_headers: Vec<(HeaderName, Option<HeaderValue>)>,
    /// On a sealed route: the request as the key has it.
    pub sealed: Option<Arc<RequestHead>>,
    /// What the policy decided.
    pub lookup: Option<Arc<Lookup>>,
    /// Whose `on-response` is called.
    pub decider: Option<Policy>,
}

/// Why a decision cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    #[error(transparent)]
    NoKey(#[from] NoKey),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Tags(#[from] TagsError),
    #[error("the policy's origin target is not a path and query: {0:?}")]
    Target(String),
    #[error("the policy's value for {0} is not a legal field value")]
    Header(HeaderName),
    #[error(
        "the route is sealed, and neither its key nor an origin target says the path: name the path or all parameters of the route's pattern in the key, or set the origin's target"
    )]
    NoPath,
}

impl Plan {
    /// The plan of a lookup by RFC 9111 alone.
    pub(crate) fn plain(route: &Route, head: &RequestHead) -> Result<Self, PlanError> {
        let mut builder = KeyBuilder::new();
        keys::plain_key(&mut builder, keys::is_shared(route), head)?;
        Ok(Self {
            key: builder.key()?,
            url: keys::url_tag(head).into_boxed_str(),
            tags: Tags::none(),
            note: Bytes::new(),
            origin_target: None,
            origin_headers: Vec::new(),
            sealed: None,
            lookup: None,
            decider: None,
        })
    }

    /// The plan of a lookup that a policy decided.
    pub(crate) fn of_policy(
        route: &Route,
        head: &RequestHead,
        lookup: &Arc<Lookup>,
        decider: Policy,
    ) -> Result<Self, PlanError> {
        let mut builder = KeyBuilder::new();
        keys::policy_key(&mut builder, route, head, lookup)?;
        let origin_target = lookup
            .origin_target
            .as_ref()
            .map(|parts| {
                let text = keys::concatenate(head, parts);
                target_from(&text).ok_or(PlanError::Target(text))
            })
            .transpose()?;
        let origin_headers = lookup
            .origin_headers
            .iter()
            .map(|(name, parts)| {
                let value = parts
                    .as_ref()
                    .map(|parts| {
                        HeaderValue::from_str(&keys::concatenate(head, parts))
                            .map_err(|_| PlanError::Header(name.clone()))
                    })
                    .transpose()?;
                Ok((name.clone(), value))
            })
            .collect::<Result<_, PlanError>>()?;
        let mut url = keys::url_tag(head);
        let mut sealed = None;
        if route.settings.sealed {
            let mut of_key = seal::head(route, head, lookup);
            match &origin_target {
                _ if of_key.says_path => url = keys::url_tag(&of_key.head),
                // A purge finds the object by the URL that was asked for first.
                Some(target) => of_key.head.target = target.clone(),
                None => return Err(PlanError::NoPath),
            }
            sealed = Some(Arc::new(of_key.head));
        }
        Ok(Self {
            key: builder.key()?,
            url: url.into_boxed_str(),
            sealed,
            lookup: Some(Arc::clone(lookup)),
            tags: tags(&lookup.tags, head)?,
            note: lookup.note.clone(),
            origin_target,
            origin_headers,
            decider: Some(decider),
        })
    }
}

impl Plan {
    /// Does the request change what the plan names, rather than retrieve it? `head` has its
    /// content where the key names that.
    pub(crate) fn changes(&self, head: &RequestHead) -> bool {
        let keys_content = |lookup: &Arc<Lookup>| lookup.keys_content();
        let keyed = head.content.is_some() && self.lookup.as_ref().is_some_and(keys_content);
        !keyed && !super::is_retrieval(&head.method)
    }
}

fn tags(tags: &[Vec<Part>], head: &RequestHead) -> Result<Tags, TagsError> {
    let texts: Vec<String> = tags
        .iter()
        .map(|parts| keys::concatenate(head, parts))
        .collect();
    Tags::new(
        texts
            .iter()
            .map(String::as_str)
            .filter(|tag| !tag.is_empty()),
    )
}
