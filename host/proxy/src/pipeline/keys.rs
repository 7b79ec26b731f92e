//! From a policy's parts to keys, tags, selectors and origin targets: here the named
//! inputs are filled in.

use http::header::{CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, HeaderName};
use http::uri::PathAndQuery;
use weir_policy::{Input, Lookup, Part, RequestHead, Values};
use weir_store::{Key, KeyBuilder, KeyError};

use super::seal;
use crate::generation::Route;

/// What says how the content is to be read: with the content, it is what a QUERY asks
/// (RFC 10008 section 2.7).
pub(super) const OF_CONTENT: [HeaderName; 3] = [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE];

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoKey {
    /// It would not be legal.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It would be the same for requests that differ.
    #[error(
        "the policy's key names the parameter {{{0}}}, which the route's path pattern does not have"
    )]
    Param(Box<str>),
}

/// Writes the key of a lookup into `builder`.
pub(crate) fn policy_key(
    builder: &mut KeyBuilder,
    route: &Route,
    head: &RequestHead,
    lookup: &Lookup,
) -> Result<(), NoKey> {
    let shared = is_shared(route);
    unsealed_key(builder, shared, head, &lookup.namespace, &lookup.key)?;
    if route.settings.sealed {
        seal::end_key(builder, route, head, lookup);
    }
    Ok(())
}

/// The same on a route that is not sealed.
pub(super) fn unsealed_key(
    builder: &mut KeyBuilder,
    shared: bool,
    head: &RequestHead,
    namespace: &str,
    parts: &[Part],
) -> Result<(), NoKey> {
    begin(builder, shared, head)?;
    builder.namespace(namespace)?;
    add_parts(builder, Some(head), parts)
}

/// Writes the key by plain RFC 9111: the target URI (section 2).
pub(crate) fn plain_key(
    builder: &mut KeyBuilder,
    shared: bool,
    head: &RequestHead,
) -> Result<(), NoKey> {
    begin(builder, shared, head)?;
    builder.target(head.target.as_str().as_bytes())?;
    Ok(())
}

/// The same for a target on a shared route.
pub(crate) fn shared_target(target: &PathAndQuery) -> Result<Key, KeyError> {
    let mut builder = KeyBuilder::new();
    builder.shared().target(target.as_str().as_bytes())?;
    builder.key()
}

/// `namespace:part:part` of a selector, which names no origin.
pub(crate) fn selector_key(
    namespace: &str,
    parts: &[Part],
    head: Option<&RequestHead>,
) -> Result<Key, NoKey> {
    let mut builder = KeyBuilder::new();
    builder.shared().namespace(namespace)?;
    add_parts(&mut builder, head, parts)?;
    Ok(builder.key()?)
}

fn begin(builder: &mut KeyBuilder, shared: bool, head: &RequestHead) -> Result<(), KeyError> {
    if shared {
        builder.shared();
    } else {
        builder.origin(head.scheme.as_str(), &head.host)?;
    }
    Ok(())
}

fn add_parts(
    builder: &mut KeyBuilder,
    head: Option<&RequestHead>,
    parts: &[Part],
) -> Result<(), NoKey> {
    for part in parts {
        match part {
            Part::Input(Input::Param(name))
                if head.is_some_and(|head| head.param(name).is_none()) =>
            {
                return Err(NoKey::Param(name.clone()));
            }
            Part::Text(text) => {
                builder.part(text.as_bytes());
            }
            Part::Input(input) => match head.and_then(|head| input.text(head)) {
                Some(Some(text)) => {
                    builder.part(text.as_bytes());
                }
                Some(None) => {
                    builder.absent();
                }
                None => add_values(builder, head.map(|head| input.values(head))),
            },
        }
    }
    if let Some(head) = head
        && head.content.is_some()
        && parts.contains(&Part::Input(Input::BodyDigest))
    {
        builder.method(head.method.as_str());
        for name in OF_CONTENT {
            add_values(builder, Some(Input::Header(name).values(head)));
        }
    }
    Ok(())
}

fn add_values(builder: &mut KeyBuilder, values: Option<Values<'_>>) {
    match values {
        None | Some(Values::Absent) => {
            builder.absent();
        }
        Some(Values::One(value)) => {
            builder.part(&value);
        }
        Some(Values::Many(values)) => {
            builder.values(values.iter().map(AsRef::as_ref));
        }
    }
}

/// The concatenation of parts, for tags: repeated values are joined by a comma, absent
/// ones leave nothing.
pub(crate) fn concatenate(head: &RequestHead, parts: &[Part]) -> String {
    let mut text = Vec::new();
    for part in parts {
        match part {
            Part::Text(own) => text.extend_from_slice(own.as_bytes()),
            Part::Input(input) => match input.values(head) {
                Values::Absent => {}
                Values::One(value) => text.extend_from_slice(&value),
                Values::Many(values) => {
                    for (index, value) in values.iter().enumerate() {
                        if index > 0 {
                            text.push(b',');
                        }
                        text.extend_from_slice(value);
                    }
                }
            },
        }
    }
    match String::from_utf8(text) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

/// The target URI of a request (RFC 9110 section 7.1).
pub(crate) fn target_uri(head: &RequestHead) -> String {
    format!("{}://{}{}", head.scheme.as_str(), head.host, head.target)
}

/// The tag by which a purge of a URL finds the object. Shared routes keep it too, with
/// the host that asked first.
pub(crate) fn url_tag(head: &RequestHead) -> String {
    url_tag_of(&head.host, head.target.as_str())
}

/// The same for any path and query on a normalised authority. It names `http` whatever
/// the scheme was: see [`normalised_url`](super::invalidate::normalised_url).
pub(crate) fn url_tag_of(host: &str, target: &str) -> String {
    format!("http://{host}{target}")
}

/// Whether a route's objects are shared by its hosts.
pub(crate) fn is_shared(route: &Route) -> bool {
    route.settings.shared
}
