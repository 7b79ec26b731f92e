//! What stands in braces in the lines of a case: dates and the case's own address.

use std::time::{Duration, SystemTime};

/// Replaces `{date}`, `{date+60}`, `{date-2d}` by an HTTP-date so far from the case's
/// begin, `{rfc850+60}` and `{asctime+60}` by the obsolete forms of one, `{base}` by the
/// case's path and `{host}` by its host.
#[derive(Debug, Clone)]
pub struct Texts {
    begin: SystemTime,
    base: String,
    host: String,
}

impl Texts {
    /// For a case that begins now.
    pub fn new(base: &str, host: &str) -> Self {
        Self {
            begin: now(),
            base: base.to_owned(),
            host: host.to_owned(),
        }
    }

    /// For trying whether a text can be replaced.
    pub fn sample() -> Self {
        Self::new("/case", "host")
    }

    /// The text with everything replaced.
    ///
    /// # Errors
    /// Names what stands in braces and means nothing.
    pub fn expand(&self, text: &str) -> Result<String, String> {
        let (mut done, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            let (word, after) = after
                .split_once('}')
                .ok_or_else(|| format!("{text:?} has a brace without an end"))?;
            done.push_str(before);
            done.push_str(
                &self
                    .word(word)
                    .ok_or_else(|| format!("{text:?}: what is {{{word}}}?"))?,
            );
            rest = after;
        }
        done.push_str(rest);
        Ok(done)
    }

    fn word(&self, word: &str) -> Option<String> {
        match word {
            "base" => return Some(self.base.clone()),
            "host" => return Some(self.host.clone()),
            _ => {}
        }
        let at = word.find(['+', '-']).unwrap_or(word.len());
        let (form, offset) = word.split_at(at);
        let date = http_date(self.at(offset)?);
        match form {
            "date" => Some(date),
            "rfc850" => rfc850(&date),
            "asctime" => asctime(&date),
            _ => None,
        }
    }

    fn at(&self, offset: &str) -> Option<SystemTime> {
        if offset.is_empty() {
            return Some(self.begin);
        }
        let (sign, amount) = offset.split_at(1);
        let seconds: u64 = match amount.strip_suffix('d') {
            Some(days) => days.parse::<u64>().ok()?.checked_mul(86_400)?,
            None => amount.parse().ok()?,
        };
        let distance = Duration::from_secs(seconds);
        match sign {
            "+" => self.begin.checked_add(distance),
            _ => self.begin.checked_sub(distance),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an origin and a client have wall clocks, and this is theirs"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// The HTTP-date of this moment.
pub fn date_now() -> String {
    http_date(now())
}

fn http_date(time: SystemTime) -> String {
    httpdate::fmt_http_date(time)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT` of `Sun, 06 Nov 1994 08:49:37 GMT`.
fn rfc850(date: &str) -> Option<String> {
    const DAYS: [&str; 7] = [
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
    ];
    let words: Vec<&str> = date.split(' ').collect();
    let [weekday, day, month, year, clock, _] = words[..] else {
        return None;
    };
    let weekday = DAYS.iter().find(|name| name.starts_with(&weekday[..3]))?;
    Some(format!(
        "{weekday}, {day}-{month}-{} {clock} GMT",
        &year[2..]
    ))
}

/// `Sun Nov  6 08:49:37 1994` of the same.
fn asctime(date: &str) -> Option<String> {
    let words: Vec<&str> = date.split(' ').collect();
    let [weekday, day, month, year, clock, _] = words[..] else {
        return None;
    };
    let day: u8 = day.parse().ok()?;
    Some(format!("{} {month} {day:>2} {clock} {year}", &weekday[..3]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_replaced_in_all_three_forms_of_a_date() {
        let texts = Texts {
            begin: SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
            ..Texts::new("/freshness/3", "cases.example")
        };
        let expand = |text: &str| texts.expand(text).unwrap();
        assert_eq!(expand("{date}"), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(expand("{date+60}."), "Sun, 06 Nov 1994 08:50:37 GMT.");
        assert_eq!(expand("{date-1d}"), "Sat, 05 Nov 1994 08:49:37 GMT");
        assert_eq!(expand("{rfc850}"), "Sunday, 06-Nov-94 08:49:37 GMT");
        assert_eq!(expand("{asctime+4d}"), "Thu Nov 10 08:49:37 1994");
        assert_eq!(expand("{asctime}"), "Sun Nov  6 08:49:37 1994");
        assert_eq!(
            expand("http://{host}{base}/x"),
            "http://cases.example/freshness/3/x"
        );
        assert!(texts.expand("{later}").is_err() && texts.expand("{date").is_err());
    }
}
