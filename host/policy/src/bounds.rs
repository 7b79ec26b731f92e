//! Bounds on what a guest gives to the host, with a sentence for each.

use http::{HeaderName, HeaderValue};
use wasmtime::Result;

use crate::error::{Fault, cut};
use crate::input::{Input, Part};

/// Parts of one key, tag or value.
pub(crate) const MAX_PARTS: usize = 64;
/// Bytes of one text part, and of all texts of one tag.
pub(crate) const MAX_TEXT: usize = 1_024;
/// Tags of one decision.
pub(crate) const MAX_TAGS: usize = 128;
/// Header fields of one decision or reply.
pub(crate) const MAX_HEADERS: usize = 64;
/// Selectors of one call.
pub(crate) const MAX_SELECTORS: usize = 128;
/// Bytes of the name of a header field, a cookie, a parameter.
pub(crate) const MAX_NAME: usize = 256;
/// Bytes of a note, and of the value of a header field.
pub(crate) const MAX_NOTE: usize = 64 * 1_024;
/// Bytes of a reply's body.
pub(crate) const MAX_BODY: usize = 1_024 * 1_024;
/// Bytes of a pass's reason.
pub(crate) const MAX_REASON: usize = 100;
/// Bytes of a selector's URL.
pub(crate) const MAX_URL: usize = 8 * 1_024;

pub(crate) fn at_most(what: &str, count: usize, max: usize) -> Result<()> {
    if count > max {
        return Err(Fault::bad(format!(
            "{count} {what} were given, and at most {max} are allowed"
        )));
    }
    Ok(())
}

pub(crate) fn sized(what: &str, bytes: usize, max: usize) -> Result<()> {
    if bytes > max {
        return Err(Fault::bad(format!(
            "{what} has {bytes} bytes, and at most {max} are allowed"
        )));
    }
    Ok(())
}

#[cold]
pub(crate) fn given_away() -> wasmtime::Error {
    wasmtime::Error::new(Fault::Handle(
        "a handle was used after it was given away".to_owned(),
    ))
}

pub(crate) fn field_name(name: &str) -> Result<HeaderName> {
    sized("the name of a header field", name.len(), MAX_NAME)?;
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        Fault::bad(format!(
            "`{}` is not the name of a header field",
            cut(name, 64).escape_debug()
        ))
    })
}

/// A field that a policy may set or remove: not one that frames the message or belongs
/// to one connection (RFC 9110 section 7.6.1).
pub(crate) fn settable_field_name(name: &str) -> Result<HeaderName> {
    const REFUSED: [&str; 8] = [
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = field_name(name)?;
    if REFUSED.contains(&name.as_str()) || name.as_str().starts_with("proxy-") {
        return Err(Fault::bad(format!(
            "the header field `{name}` belongs to the host: a policy cannot set or remove it"
        )));
    }
    Ok(name)
}

pub(crate) fn field_value(name: &HeaderName, value: &[u8]) -> Result<HeaderValue> {
    sized("the value of a header field", value.len(), MAX_NOTE)?;
    HeaderValue::from_bytes(value).map_err(|_| {
        Fault::bad(format!(
            "the value of the header field `{name}` has control characters"
        ))
    })
}

/// The policy's own texts of a value that is put together later.
pub(crate) fn text_len(parts: &[Part]) -> usize {
    parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.len(),
            Part::Input(_) => 0,
        })
        .sum()
}

/// Path and query for the origin: begins with `/`, its texts are printable.
pub(crate) fn origin_target(parts: &[Part]) -> Result<()> {
    let begins = match parts.first() {
        Some(Part::Text(text)) => text.starts_with('/'),
        Some(Part::Input(input)) => *input == Input::Path,
        None => false,
    };
    if !begins {
        return Err(Fault::bad(
            "the origin target must begin with the path, or with text that begins with `/`",
        ));
    }
    for part in parts {
        if let Part::Text(text) = part
            && let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() || *c == '#')
        {
            return Err(Fault::bad(format!(
                "the origin target has {bad:?}: percent-encode it"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_and_hop_by_hop_fields_are_refused() {
        for name in [
            "Connection",
            "Keep-Alive",
            "Proxy-Authorization",
            "proxy-connection",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "Upgrade",
            "Content-Length",
            "Host",
            "not a name",
            "",
        ] {
            assert!(settable_field_name(name).is_err(), "{name}");
        }
        assert_eq!(settable_field_name("X-Tenant").unwrap(), "x-tenant");
        assert!(settable_field_name(&"x".repeat(MAX_NAME)).is_ok());
        assert!(settable_field_name(&"x".repeat(MAX_NAME + 1)).is_err());
    }

    #[test]
    fn values_cannot_split_a_message() {
        let name = HeaderName::from_static("x");
        assert!(field_value(&name, b"a\r\nb: c").is_err());
        assert!(field_value(&name, "grün".as_bytes()).is_ok());
    }

    #[test]
    fn origin_targets_begin_with_a_slash_and_are_printable() {
        let text = |t: &str| Part::Text(t.to_owned());
        assert!(origin_target(&[text("/v2"), Part::Input(Input::Path)]).is_ok());
        assert!(origin_target(&[Part::Input(Input::Path)]).is_ok());
        for wrong in [
            vec![],
            vec![text("v2/")],
            vec![Part::Input(Input::Device)],
            vec![text("/a b")],
            vec![text("/a"), text("\r\n")],
            vec![text("/a#b")],
        ] {
            assert!(origin_target(&wrong).is_err(), "{wrong:?}");
        }
    }
}
