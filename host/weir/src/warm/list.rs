//! The list of URLs, line by line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, ensure};
use tokio::sync::mpsc;

/// The longest line, in bytes: longer than any URL that a node takes.
const MAX_LINE: u64 = 64 * 1_024;

/// The lines of a list.
pub(super) struct Lines {
    from: Box<dyn BufRead + Send>,
    number: u64,
    /// It cannot be read on.
    broken: bool,
}

/// A line that is neither empty nor a comment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: u64,
    /// Without what surrounds it; or why it cannot be read.
    pub(super) text: Result<String, String>,
}

/// Opens a file, `-` for standard input, and says how many URLs it has, where that can be
/// known.
pub(super) fn open(file: &Path) -> anyhow::Result<(Option<u64>, Lines)> {
    if file == Path::new("-") {
        return Ok((None, Lines::new(BufReader::new(io::stdin()))));
    }
    let open = || File::open(file).with_context(|| format!("{} cannot be read", file.display()));
    let about = open()?.metadata()?;
    ensure!(!about.is_dir(), "{} is a directory", file.display());
    // A pipe can be read but once.
    let total = match about.is_file() {
        true => Some(Lines::new(BufReader::new(open()?)).count() as u64),
        false => None,
    };
    Ok((total, Lines::new(BufReader::new(open()?))))
}

/// Reads in a thread of its own, `ahead` lines at most.
pub(super) fn read(lines: Lines, ahead: usize) -> mpsc::Receiver<Line> {
    let (send, receive) = mpsc::channel(ahead);
    tokio::task::spawn_blocking(move || {
        for line in lines {
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receive
}

impl Lines {
    fn new(from: impl BufRead + Send + 'static) -> Self {
        Self {
            from: Box::new(from),
            number: 0,
            broken: false,
        }
    }

    /// The next line as it stands; empty at the end.
    fn read(&mut self) -> Result<String, String> {
        let mut bytes = Vec::new();
        let mut limited = self.from.by_ref().take(MAX_LINE);
        if let Err(error) = limited.read_until(b'\n', &mut bytes) {
            self.broken = true;
            return Err(format!("the list cannot be read on: {error}"));
        }
        if bytes.len() as u64 == MAX_LINE && bytes.last() != Some(&b'\n') {
            skip(&mut self.from);
            return Err(format!("the line is longer than {MAX_LINE} bytes"));
        }
        String::from_utf8(bytes).map_err(|_| "the line is not UTF-8".to_owned())
    }
}

impl Iterator for Lines {
    type Item = Line;

    /// The next line that names a URL, or that cannot be read.
    fn next(&mut self) -> Option<Line> {
        while !self.broken {
            self.number += 1;
            let text = match self.read() {
                Ok(text) if text.is_empty() => return None,
                Ok(text) => Ok(text.trim_start_matches('\u{feff}').trim().to_owned()),
                Err(why) => Err(why),
            };
            let is_url = |text: &String| !text.is_empty() && !text.starts_with('#');
            if text.as_ref().map_or(true, is_url) {
                return Some(Line {
                    number: self.number,
                    text,
                });
            }
        }
        None
    }
}

/// Leaves out the rest of a line.
fn skip(lines: &mut impl BufRead) {
    while let Ok(buffer) = lines.fill_buf() {
        let (used, ended) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        lines.consume(used);
        if ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Vec<(u64, Result<String, String>)> {
        let lines = Lines::new(io::Cursor::new(text.to_vec()));
        lines.map(|line| (line.number, line.text)).collect()
    }

    #[test]
    fn comments_and_empty_lines_are_left_out_and_lines_keep_their_numbers() {
        let text = b"\xef\xbb\xbf# a list\n\n  http://a/1  \r\n#http://a/2\nhttp://a/3#x";
        assert_eq!(
            all(text),
            [
                (3, Ok("http://a/1".to_owned())),
                (5, Ok("http://a/3#x".to_owned())),
            ]
        );
        assert_eq!(all(b""), []);
    }

    #[test]
    fn a_line_that_is_no_text_is_told_and_the_next_one_is_read() {
        let mut text = b"\xff\n".to_vec();
        text.extend(vec![b'x'; 200_000]);
        text.extend(b"\nhttp://a/1\n");
        let lines = all(&text);
        assert!(lines[0].1.as_ref().unwrap_err().contains("UTF-8"));
        assert!(lines[1].1.as_ref().unwrap_err().contains("longer"));
        assert_eq!(lines[2..], [(3, Ok("http://a/1".to_owned()))]);
    }
}
