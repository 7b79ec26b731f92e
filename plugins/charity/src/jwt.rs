//! Tokens, and when sessions end, from header fields. Policies don't see bodies.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use weir_sdk::Response;

/// Seconds since the Unix epoch, as a whole number.
const EXPIRES_HEADER: &str = "x-session-expires";

/// Where a token may stand, with or without `Bearer`.
pub(crate) const TOKEN_HEADERS: [&str; 2] = ["x-session-token", "authorization"];

/// Longer ones are not read.
const LONGEST_TOKEN: usize = 16 * 1_024;

/// When the session ends, in seconds since the Unix epoch; `None` when no field says, or the
/// one that speaks first does not say it well.
pub(crate) fn expiry(response: &Response) -> Option<u64> {
    if !response.header(EXPIRES_HEADER).is_empty() {
        return response.header_text(EXPIRES_HEADER)?.trim().parse().ok();
    }
    numeric_date(claims(response)?.get("exp")?)
}

/// Whose session it is: the claim `sub`.
pub(crate) fn subject(response: &Response) -> Option<String> {
    text(claims(response)?.get("sub")?)
}

/// The token that a response issues, without `Bearer`.
pub(crate) fn token(response: &Response) -> Option<String> {
    TOKEN_HEADERS
        .iter()
        .find_map(|name| bare(&response.header_text(name)?))
}

/// The claim `jti` of a JWT (RFC 7519 section 4.1.7).
pub(crate) fn token_id(token: &str) -> Option<String> {
    text(payload(token)?.get("jti")?)
}

fn text(claim: &Value) -> Option<String> {
    match claim {
        Value::String(text) if (1..=256).contains(&text.len()) => Some(text.clone()),
        _ => None,
    }
}

fn claims(response: &Response) -> Option<Value> {
    payload(&token(response)?)
}

/// The token of a field's value; none for another scheme than Bearer.
pub(crate) fn bare(value: &str) -> Option<String> {
    let value = value.trim();
    let token = match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        Some(_) => return None,
        None => value,
    };
    (1..=LONGEST_TOKEN)
        .contains(&token.len())
        .then(|| token.to_owned())
}

/// The claims of a JWT in compact form (RFC 7519 section 3). The signature is not verified:
/// the origin, which we ask, made it, or it is compared with one that the origin made.
fn payload(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    // Some issuers pad, against RFC 7515 section 2.
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// A NumericDate (RFC 7519 section 2) may have a fraction, which is cut: earlier is safe.
fn numeric_date(value: &Value) -> Option<u64> {
    const YEAR_10000: f64 = 253_402_300_800.0;
    if let Some(seconds) = value.as_u64() {
        return Some(seconds);
    }
    let seconds = value.as_f64()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is tested"
    )]
    (0.0..YEAR_10000)
        .contains(&seconds)
        .then_some(seconds as u64)
}

#[cfg(test)]
mod tests {
    use weir_sdk::testing::TestResponse;

    use super::*;

    fn token(claims: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", encode(r#"{"alg":"HS256"}"#), encode(claims))
    }

    fn expiry_of(name: &str, value: &str) -> Option<u64> {
        let response = TestResponse::new(200).with_header(name, value);
        expiry(&response.view())
    }

    #[test]
    fn the_expiry_comes_from_the_field_or_the_token() {
        assert_eq!(
            expiry_of("X-Session-Expires", " 1789000000 "),
            Some(1_789_000_000)
        );
        let jwt = token(r#"{"sub":"42","exp":1789000001}"#);
        assert_eq!(expiry_of("X-Session-Token", &jwt), Some(1_789_000_001));
        assert_eq!(
            expiry_of("Authorization", &format!("Bearer {jwt}")),
            Some(1_789_000_001)
        );
        assert_eq!(
            expiry_of("Authorization", &format!("bearer  {jwt}")),
            Some(1_789_000_001)
        );
        let fraction = token(r#"{"exp":1789000001.9}"#);
        assert_eq!(expiry_of("X-Session-Token", &fraction), Some(1_789_000_001));
    }

    #[test]
    fn the_field_wins_and_a_bad_one_is_not_made_up_for() {
        let jwt = token(r#"{"exp":2}"#);
        for (field, expected) in [("1", Some(1)), ("soon", None), ("-1", None)] {
            let response = TestResponse::new(200)
                .with_header("x-session-expires", field)
                .with_header("x-session-token", jwt.as_str());
            assert_eq!(expiry(&response.view()), expected, "{field}");
        }
        let twice = TestResponse::new(200)
            .with_header("x-session-expires", "1")
            .with_header("x-session-expires", "2");
        assert_eq!(expiry(&twice.view()), None);
    }

    #[test]
    fn what_is_no_token_has_no_expiry() {
        for value in [
            "",
            "opaque",
            "a.b",
            "a.b.c.d",
            "Basic dXNlcjpwYXNz",
            "a.!!!.c",
            &token("not json"),
            &token("[]"),
            &token(r#"{"exp":"1789000000"}"#),
            &token(r#"{"exp":-5}"#),
            &token(r#"{"exp":1e300}"#),
            &token(r#"{"iat":1}"#),
            &"a".repeat(LONGEST_TOKEN + 1),
        ] {
            assert_eq!(expiry_of("x-session-token", value), None, "{value:.40}");
        }
    }

    #[test]
    fn the_subject_is_text_of_a_sensible_length() {
        let subject_of = |claims: &str| {
            let response = TestResponse::new(200).with_header("x-session-token", token(claims));
            subject(&response.view())
        };
        assert_eq!(subject_of(r#"{"sub":"42"}"#), Some("42".to_owned()));
        assert_eq!(subject_of(r#"{"sub":""}"#), None);
        assert_eq!(subject_of(r#"{"sub":7}"#), None);
        assert_eq!(
            subject_of(&format!(r#"{{"sub":"{}"}}"#, "x".repeat(257))),
            None
        );
    }
}
