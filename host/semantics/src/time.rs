//! Instants as this crate counts them, and the HTTP-date text form of them.

use std::{
    fmt,
    ops::{Add, Sub},
    time::{Duration, UNIX_EPOCH},
};

use http::HeaderValue;
use httpdate::HttpDate;

/// The last millisecond that an HTTP-date can express: the end of the year 9999.
const LAST_FORMATTABLE: u64 = 253_402_300_799_999;
/// The longest HTTP-date is a Wednesday in the obsolete RFC 850 form, of 33 octets.
const LONGEST_DATE: usize = 40;
const WEEKDAYS: [&[u8]; 7] = [
    b"Monday",
    b"Tuesday",
    b"Wednesday",
    b"Thursday",
    b"Friday",
    b"Saturday",
    b"Sunday",
];

/// An instant in milliseconds since the Unix epoch.
///
/// All arithmetic saturates: a clock that steps back yields an age of zero, never a
/// negative or a wrapped one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The instant so many milliseconds after the Unix epoch.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// The instant so many seconds after the Unix epoch; the far end saturates.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Reads an HTTP-date in any of the three forms of RFC 9110 section 5.6.7.
    ///
    /// Letter case is ignored, and so is the name of the weekday as long as it is one:
    /// it repeats what the date says. `None` for everything else, for dates before 1970
    /// included. Does not allocate.
    pub fn parse_http_date(text: &[u8]) -> Option<Self> {
        let text = text.trim_ascii();
        let mut buffer = [0; LONGEST_DATE];
        let normal = buffer.get_mut(..text.len())?;
        normal.copy_from_slice(text);
        capitalise(normal);
        parse_exact(normal).or_else(|| parse_with_another_weekday(normal))
    }

    /// The HTTP-date (IMF-fixdate) of this instant, fractions of a second cut off.
    /// Instants after the year 9999 are written as its last second.
    pub fn to_http_date(self) -> HeaderValue {
        use fmt::Write;
        let mut text = DateText {
            bytes: [0; 29],
            len: 0,
        };
        // An IMF-fixdate has 29 octets, so that writing it cannot fail.
        let _ = write!(text, "{self}");
        HeaderValue::from_bytes(&text.bytes[..text.len])
            .unwrap_or_else(|_| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = Duration::from_millis(self.0.min(LAST_FORMATTABLE));
        HttpDate::from(UNIX_EPOCH + within).fmt(f)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(millis(rhs)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(millis(rhs)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

struct DateText {
    bytes: [u8; 29],
    len: usize,
}

impl fmt::Write for DateText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        let free = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        free.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// Gives every word the case that the grammar asks for: `thu` is `Thu`, `gmt` is `GMT`.
fn capitalise(text: &mut [u8]) {
    for word in text.split_mut(|byte| !byte.is_ascii_alphabetic()) {
        if word.eq_ignore_ascii_case(b"GMT") {
            word.make_ascii_uppercase();
        } else if let Some((first, rest)) = word.split_first_mut() {
            first.make_ascii_uppercase();
            rest.make_ascii_lowercase();
        }
    }
}

fn parse_exact(text: &[u8]) -> Option<Timestamp> {
    let time = httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok()?;
    Some(Timestamp(millis(time.duration_since(UNIX_EPOCH).ok()?)))
}

/// httpdate refuses a date whose weekday is wrong; try the other six.
fn parse_with_another_weekday(text: &[u8]) -> Option<Timestamp> {
    let name_len = text.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    let (name, rest) = text.split_at(name_len);
    let short = name_len == 3;
    let spelled = |day: &'static [u8]| if short { &day[..3] } else { day };
    if !WEEKDAYS.iter().any(|day| spelled(day) == name) {
        return None;
    }
    WEEKDAYS.iter().find_map(|day| {
        let day = spelled(day);
        let mut buffer = [0; LONGEST_DATE];
        let candidate = buffer.get_mut(..day.len() + rest.len())?;
        let (head, tail) = candidate.split_at_mut(day.len());
        head.copy_from_slice(day);
        tail.copy_from_slice(rest);
        parse_exact(candidate)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AUGUST_2050: u64 = 2_544_400_878;

    fn parse(text: &str) -> Option<u64> {
        Timestamp::parse_http_date(text.as_bytes()).map(Timestamp::as_secs)
    }

    #[test]
    fn reads_the_three_forms_in_any_case() {
        for text in [
            "Thu, 18 Aug 2050 02:01:18 GMT",
            "THU, 18 Aug 2050 02:01:18 GMT",
            "Thu, 18 AUG 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 gMT",
            "Thursday, 18-Aug-50 02:01:18 GMT",
            "Thu Aug 18 02:01:18 2050",
            "Mon, 18 Aug 2050 02:01:18 GMT",
            "Wednesday, 18-Aug-50 02:01:18 GMT",
            "  Thu, 18 Aug 2050 02:01:18 GMT ",
        ] {
            assert_eq!(parse(text), Some(AUGUST_2050), "{text}");
        }
        assert_eq!(
            parse("Thu Aug  8 02:01:18 2050"),
            Some(AUGUST_2050 - 864_000)
        );
        assert_eq!(parse("Sun, 21 Nov 2286 04:46:39 GMT"), Some(10_000_039_599));
    }

    #[test]
    fn refuses_what_is_no_http_date() {
        for text in [
            "",
            "0",
            "-1",
            "2050-08-18T02:01:18Z",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 AEST",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Xyz, 18 Aug 2050 02:01:18 GMT",
            "Thu, 31 Feb 2050 02:01:18 GMT",
            "Thu, 18 Aug 1950 02:01:18 GMT",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn formats_instants_beyond_what_dates_can_say() {
        assert_eq!(
            Timestamp::from_secs(AUGUST_2050).to_http_date(),
            "Thu, 18 Aug 2050 02:01:18 GMT"
        );
        assert_eq!(
            Timestamp::from_millis(u64::MAX).to_http_date(),
            "Fri, 31 Dec 9999 23:59:59 GMT"
        );
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            Timestamp::parse_http_date(&bytes);
        }

        #[test]
        fn parsing_damaged_dates_never_panics(at in 0usize..29, byte: u8, cut in 0usize..30) {
            let mut text = *b"Thu, 18 Aug 2050 02:01:18 GMT";
            text[at] = byte;
            Timestamp::parse_http_date(&text[..cut.min(29)]);
            let mut text = *b"Thursday, 18-Aug-50 02:01:18 GMT";
            text[at] = byte;
            Timestamp::parse_http_date(&text[..cut]);
            let mut text = *b"Thu Aug 18 02:01:18 2050";
            text[at.min(23)] = byte;
            Timestamp::parse_http_date(&text[..cut.min(24)]);
        }

        #[test]
        fn a_formatted_instant_reads_back(seconds in 0..=LAST_FORMATTABLE / 1000) {
            let instant = Timestamp::from_secs(seconds);
            let text = instant.to_http_date();
            prop_assert_eq!(Timestamp::parse_http_date(text.as_bytes()), Some(instant));
        }

        #[test]
        fn arithmetic_saturates(millis: u64, seconds: u64) {
            let instant = Timestamp::from_millis(millis);
            let step = Duration::from_secs(seconds);
            prop_assert!(instant + step >= instant);
            prop_assert!(instant - step <= instant);
            prop_assert_eq!(instant.since(instant + step), Duration::ZERO);
        }
    }
}
