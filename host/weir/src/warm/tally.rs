//! What became of the URLs, and the summary of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use bytesize::ByteSize;
use http::HeaderMap;

use crate::client::printable;

/// How many failures are named.
const NAMED_FAILURES: usize = 10;
/// How many reasons for not storing are told apart.
const MAX_REASONS: usize = 50;

/// A URL that is done with.
#[derive(Debug)]
pub(super) struct Done {
    /// Its line in the list.
    pub(super) line: u64,
    /// As it stands there.
    pub(super) url: String,
    /// What became of it.
    pub(super) outcome: Outcome,
}

/// What became of a URL.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A response without an error, read to its end.
    Answered {
        /// What the node did.
        cached: Cached,
        /// Bytes of the body.
        bytes: u64,
    },
    /// Why not.
    Failed(String),
}

/// What a node did with a response, by its member of Cache-Status (RFC 9211).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cached {
    /// It was there.
    Hit,
    /// It is there now.
    Stored,
    /// It is not, for this reason.
    Not(String),
}

impl Cached {
    /// Reads the fields of a response.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let lines = headers.get_all("cache-status");
        let text: Vec<_> = lines
            .iter()
            .map(|line| String::from_utf8_lossy(line.as_bytes()))
            .collect();
        let text = text.join(", ");
        // The cache nearest to the client comes last.
        let mut members = split(&text, ',');
        let own = members.rfind(|member| split(member, ';').next() == Some("weir"));
        let Some(own) = own else {
            return Self::Not("no Cache-Status of a Weir node".to_owned());
        };
        let parameters: Vec<_> = split(own, ';').skip(1).collect();
        let value = |name: &str| {
            let mut found = parameters.iter().filter_map(|one| one.split_once('='));
            found.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        if parameters.contains(&"hit") {
            return Self::Hit;
        }
        // Whoever shared a fetch finds what that fetch stored.
        if parameters.contains(&"stored") || parameters.contains(&"collapsed") {
            return Self::Stored;
        }
        let reason = value("detail").or(value("fwd")).unwrap_or("not looked up");
        Self::Not(reason.trim_matches('"').to_owned())
    }
}

/// The parts between separators that stand outside quotes.
fn split(text: &str, separator: char) -> impl DoubleEndedIterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            it if it == separator && !quoted => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.into_iter()
}

/// Counts of what is done.
#[derive(Debug)]
pub(super) struct Tally {
    /// What the list is called.
    list: String,
    began: Instant,
    stored: u64,
    hits: u64,
    not: BTreeMap<String, u64>,
    failed: u64,
    bytes: u64,
    failures: Vec<Done>,
}

impl Tally {
    /// Of the URLs of a list, `-` for standard input.
    pub(super) fn start(list: &Path) -> Self {
        let list = match list == Path::new("-") {
            true => "standard input".to_owned(),
            false => printable(&list.to_string_lossy()),
        };
        Self {
            list,
            began: Instant::now(),
            stored: 0,
            hits: 0,
            not: BTreeMap::new(),
            failed: 0,
            bytes: 0,
            failures: Vec::new(),
        }
    }

    pub(super) fn count(&mut self, done: Done) {
        match &done.outcome {
            Outcome::Answered { cached, bytes } => {
                self.bytes += bytes;
                match cached {
                    Cached::Hit => self.hits += 1,
                    Cached::Stored => self.stored += 1,
                    Cached::Not(reason) => {
                        let known = self.not.len() < MAX_REASONS || self.not.contains_key(reason);
                        let reason = if known { reason } else { "other reasons" };
                        *self.not.entry(reason.to_owned()).or_default() += 1;
                    }
                }
            }
            Outcome::Failed(_) => {
                self.failed += 1;
                if self.failures.len() < NAMED_FAILURES {
                    self.failures.push(done);
                }
            }
        }
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    fn passed(&self) -> u64 {
        self.not.values().sum()
    }

    /// All that is done.
    pub(super) fn done(&self) -> u64 {
        self.stored + self.hits + self.passed() + self.failed
    }

    /// In one line.
    pub(super) fn line(&self) -> String {
        format!(
            "{} stored, {} hits, {} not stored, {} failed; {}",
            self.stored,
            self.hits,
            self.passed(),
            self.failed,
            ByteSize(self.bytes)
        )
    }

    /// In full. Texts from lists and nodes cannot steer the terminal.
    pub(super) fn summary(&self, interrupted: bool) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let how = if interrupted { "interrupted: " } else { "" };
        let mut text = format!(
            "{how}{} URLs in {seconds:.1} s: {}\n",
            self.done(),
            self.line()
        );
        // Writing to a String cannot fail.
        for (reason, count) in &self.not {
            let _ = writeln!(text, "not stored, {}: {count}", printable(reason));
        }
        for Done { line, url, outcome } in &self.failures {
            if let Outcome::Failed(why) = outcome {
                let (url, why) = (printable(url), printable(why));
                let between = if url.is_empty() { "" } else { ": " };
                let _ = writeln!(text, "failed, {}:{line}: {url}{between}{why}", self.list);
            }
        }
        let unnamed = self.failed - self.failures.len() as u64;
        if unnamed > 0 {
            let _ = writeln!(text, "failed, {unnamed} more");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cached(lines: &[&'static str]) -> Cached {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("cache-status", http::HeaderValue::from_static(line));
        }
        Cached::read(&headers)
    }

    #[test]
    fn the_nearest_node_s_own_word_counts() {
        let not = |reason: &str| Cached::Not(reason.to_owned());
        assert_eq!(
            cached(&[r#"weir; hit; ttl=3; detail="memory""#]),
            Cached::Hit
        );
        assert_eq!(
            cached(&["cdn; hit", "weir; fwd=uri-miss; fwd-status=200; stored"]),
            Cached::Stored
        );
        assert_eq!(
            cached(&["weir; hit, weir; fwd=uri-miss; collapsed; detail=\"p@1\""]),
            Cached::Stored
        );
        assert_eq!(
            cached(&[r#"weir; fwd=bypass; detail="a, \"hit\"; stored p@1""#]),
            not(r#"a, \"hit\"; stored p@1"#)
        );
        assert_eq!(cached(&["weir; fwd=uri-miss"]), not("uri-miss"));
        assert_eq!(cached(&["cdn; hit"]), not("no Cache-Status of a Weir node"));
        assert_eq!(cached(&[]), not("no Cache-Status of a Weir node"));
    }

    #[test]
    fn the_summary_names_the_first_failures_and_counts_the_rest() {
        let mut tally = Tally::start(Path::new("-"));
        for (line, cached) in [(1, Cached::Hit), (2, Cached::Not("no-store".to_owned()))] {
            let outcome = Outcome::Answered { cached, bytes: 512 };
            let url = String::new();
            tally.count(Done { line, url, outcome });
        }
        for line in 3..15 {
            tally.count(Done {
                line,
                url: "http://a/\u{1b}".to_owned(),
                outcome: Outcome::Failed("404 Not Found".to_owned()),
            });
        }
        let text = tally.summary(true);
        let mut lines = text.lines();
        let first = lines.next().unwrap();
        assert!(first.starts_with("interrupted: 14 URLs in "), "{first}");
        let counts = "0 stored, 1 hits, 1 not stored, 12 failed; 1.0 KiB";
        assert!(first.ends_with(counts), "{first}");
        assert_eq!(lines.next(), Some("not stored, no-store: 1"));
        let failure = "failed, standard input:3: http://a/\u{fffd}: 404 Not Found";
        assert_eq!(lines.next(), Some(failure));
        assert_eq!(lines.next_back(), Some("failed, 2 more"));
    }
}
