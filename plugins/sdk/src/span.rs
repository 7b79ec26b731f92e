//! Lengths of time in a policy's settings.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A length of time in a policy's settings, written with its unit: `"30s"`, `"5m"`, `"24h"`,
/// `"1h30m"`. Units: `ms`, `s`, `m`, `h`, `d`, `w`, `y` (365 days). A bare number is refused,
/// since it does not say of what.
///
/// ```
/// use std::time::Duration;
/// use weir_sdk::Span;
///
/// assert_eq!(Span::parse("1h30m"), Ok(Span(Duration::from_secs(5_400))));
/// assert!(Span::parse("30").is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

const HINT: &str = "a length of time with its unit, such as \"30s\", \"5m\" or \"24h\"";

impl Span {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Reads `"1h30m"`.
    ///
    /// # Errors
    /// When the text is not one or more whole numbers, each with a unit, or the sum is over
    /// 100 years.
    pub fn parse(text: &str) -> Result<Self, String> {
        const LONGEST_MS: u64 = 100 * 365 * 24 * 3_600_000;
        let wrong = || format!("\"{text}\" is not {HINT}");
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.bytes().take_while(u8::is_ascii_lowercase).count();
            let (unit, tail) = tail.split_at(letters);
            let unit_ms: u64 = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 24 * 3_600_000,
                "w" => 7 * 24 * 3_600_000,
                "y" => 365 * 24 * 3_600_000,
                _ => return Err(wrong()),
            };
            total = number
                .parse::<u64>()
                .ok()
                .and_then(|number| number.checked_mul(unit_ms))
                .and_then(|ms| ms.checked_add(total))
                .filter(|total| *total <= LONGEST_MS)
                .ok_or_else(wrong)?;
            rest = tail;
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(HINT)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_counts() {
        for (text, ms) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("1w", 604_800_000),
            ("1y", 31_536_000_000),
            (" 0s ", 0),
        ] {
            assert_eq!(
                Span::parse(text),
                Ok(Span(Duration::from_millis(ms))),
                "{text}"
            );
        }
    }

    #[test]
    fn what_has_no_unit_or_no_number_is_refused_with_a_hint() {
        for text in [
            "",
            "30",
            "s",
            "5 m",
            "-1s",
            "1.5h",
            "1M",
            "5m3",
            "99999999999999999999s",
            "101y",
        ] {
            let error = Span::parse(text).expect_err(text);
            assert!(error.contains("such as \"30s\""), "{error}");
        }
    }

    #[test]
    fn a_bare_number_in_settings_is_refused() {
        let error = serde_json::from_str::<Span>("30").expect_err("no unit");
        assert!(
            error.to_string().contains("expected a length of time"),
            "{error}"
        );
    }
}
