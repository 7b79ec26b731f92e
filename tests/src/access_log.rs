//! The real log that tests play: 10,000 requests of 2015 in Apache's combined format.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;

/// One request of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The client, which keeps its order.
    pub client: String,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// What the site answered then.
    pub status: u16,
    /// How long its body was, in bytes; 0 for `-`.
    pub bytes: u64,
    /// The User-Agent.
    pub agent: String,
}

/// The log's file: in `$WEIR_SHARED/data`, or in `shared/data` beside a directory above
/// this crate. `None` where the machine has none; the caller says so and skips.
pub fn find() -> Option<PathBuf> {
    const FILE: &str = "data/access-2015.log.gz";
    if let Some(shared) = std::env::var_os("WEIR_SHARED") {
        return Some(Path::new(&shared).join(FILE)).filter(|path| path.is_file());
    }
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|dir| dir.join("../shared").join(FILE))
        .find(|path| path.is_file())
}

/// Reads the log. Panics at a line that is not in the combined format: a log half read
/// would make the test weaker without a word.
pub fn read(path: &Path) -> Vec<Entry> {
    let file = std::fs::File::open(path).expect("the access log");
    let lines = BufReader::new(GzDecoder::new(BufReader::new(file))).lines();
    lines
        .map(|line| {
            let line = line.expect("a line of the access log");
            parse(&line).unwrap_or_else(|| panic!("not a line of a combined log: {line}"))
        })
        .collect()
}

fn parse(line: &str) -> Option<Entry> {
    let mut quoted = line.split('"');
    let client = quoted.next()?.split(' ').next()?;
    let mut request = quoted.next()?.split(' ');
    let mut answer = quoted.next()?.split_whitespace();
    let agent = quoted.nth(2).unwrap_or("-");
    Some(Entry {
        client: client.to_owned(),
        method: request.next()?.to_owned(),
        target: request.next()?.to_owned(),
        status: answer.next()?.parse().ok()?,
        bytes: answer.next()?.parse().unwrap_or(0),
        agent: agent.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn parses_the_combined_format() {
        let line = r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /a?b=1 HTTP/1.1" 304 - "http://x/" "Mozilla/5.0""#;
        let entry = parse(line).unwrap();
        assert_eq!(
            (entry.client.as_str(), entry.status, entry.bytes),
            ("1.2.3.4", 304, 0)
        );
        assert_eq!(
            (entry.target.as_str(), entry.agent.as_str()),
            ("/a?b=1", "Mozilla/5.0")
        );
    }
}
