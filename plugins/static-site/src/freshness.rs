//! What the origin itself says about freshness. RFC 9111 sections 4.2.1 and 5.2.2.

use weir_sdk::Response;

/// Does the origin say how long its response is fresh?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Explicit {
    /// No: a lifetime is the policy's to choose.
    None,
    /// Yes.
    Lifetime,
    /// It is to be asked each time, or not to be stored.
    Always,
}

impl Explicit {
    pub(crate) fn of(response: &Response) -> Self {
        let mut explicit = if response.header("expires").is_empty() {
            Self::None
        } else {
            Self::Lifetime
        };
        for name in ["cdn-cache-control", "cache-control"] {
            for line in response.header(name) {
                for directive in line.split(|byte| *byte == b',') {
                    let directive = directive.trim_ascii();
                    let end = directive.iter().position(|byte| *byte == b'=');
                    let name = directive[..end.unwrap_or(directive.len())].to_ascii_lowercase();
                    match name.trim_ascii() {
                        b"no-cache" | b"no-store" | b"private" => return Self::Always,
                        b"max-age" | b"s-maxage" => explicit = Self::Lifetime,
                        _ => {}
                    }
                }
            }
        }
        explicit
    }
}

#[cfg(test)]
mod tests {
    use weir_sdk::testing::TestResponse;

    use super::*;

    #[test]
    fn directives_are_told_apart() {
        for (name, value, explicit) in [
            ("Cache-Control", "max-age=60", Explicit::Lifetime),
            ("Cache-Control", "public, S-MaxAge = 5", Explicit::Lifetime),
            ("CDN-Cache-Control", "max-age=5", Explicit::Lifetime),
            (
                "Expires",
                "Wed, 01 Jan 2031 00:00:00 GMT",
                Explicit::Lifetime,
            ),
            ("Cache-Control", "max-age=60, No-Cache", Explicit::Always),
            ("Cache-Control", "private=\"x\"", Explicit::Always),
            ("Cache-Control", "public, immutable", Explicit::None),
            ("Cache-Control", "x-max-age=1", Explicit::None),
            ("Cache-Control", "", Explicit::None),
            ("Content-Type", "max-age=60", Explicit::None),
        ] {
            let response = TestResponse::new(200).with_header(name, value);
            assert_eq!(Explicit::of(&response.view()), explicit, "{name}: {value}");
        }
    }
}
