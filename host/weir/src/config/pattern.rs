//! Path patterns of routes: literal text, `{name}` for a segment (or a part of
//! one), and a final `{*rest}` for all that follows.

use std::fmt;
use std::ops::Range;

/// A valid path pattern, such as `/users/{id}` or `/files/{*rest}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathPattern {
    text: String,
}

/// Why a text is not a pattern, and which bytes of it are wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PatternError {
    pub(super) part: Range<usize>,
    pub(super) message: String,
    pub(super) hint: String,
}

impl PathPattern {
    /// Parses a pattern; its text is one that `matchit` takes.
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        let whole = 0..text.len();
        if !text.starts_with('/') {
            let hint = format!("write \"/{text}\"");
            return fail(whole, "the path does not begin with `/`", hint);
        }
        for (at, c) in text.char_indices() {
            check_char(text, at, c)?;
        }
        let mut names = Vec::new();
        let mut start = 1;
        for segment in text[1..].split('/') {
            let end = start + segment.len();
            if let Some(name) = parameter(start, segment, end == text.len())? {
                if names.contains(&name) {
                    let at = start + segment.find('{').unwrap_or(0);
                    return fail(
                        at..end,
                        format!("the parameter `{name}` is there twice"),
                        format!("give one of them another name, such as {{{name}_2}}"),
                    );
                }
                names.push(name);
            }
            start = end + 1;
        }
        Ok(Self {
            text: text.to_owned(),
        })
    }

    /// The pattern as written, in the syntax of `matchit`.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// A path that it matches, `1` for each parameter.
    pub(crate) fn example(&self) -> String {
        let mut example = String::with_capacity(self.text.len());
        let mut inside = false;
        for c in self.text.chars() {
            match c {
                '{' => inside = true,
                '}' => {
                    inside = false;
                    example.push('1');
                }
                c if !inside => example.push(c),
                _ => {}
            }
        }
        example
    }

    /// The pattern without names: patterns of one shape match the same paths.
    pub(crate) fn shape(&self) -> String {
        let mut shape = String::with_capacity(self.text.len());
        let mut inside = false;
        for c in self.text.chars() {
            inside = (inside || c == '{') && c != '}';
            if !inside || matches!(c, '{' | '*') {
                shape.push(c);
            }
        }
        shape
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn fail<T>(
    part: Range<usize>,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Result<T, PatternError> {
    Err(PatternError {
        part,
        message: message.into(),
        hint: hint.into(),
    })
}

/// Checks a segment that begins at the byte `start` of the pattern, and
/// gives the name of its parameter.
fn parameter(start: usize, segment: &str, last: bool) -> Result<Option<&str>, PatternError> {
    let whole = start..start + segment.len();
    if matches!(segment, "." | "..") {
        return fail(
            whole,
            format!("no request has the segment `{segment}` in its path"),
            "write the path as it is after `.` and `..` are resolved",
        );
    }
    let Some(open) = segment.find(['{', '}']) else {
        return Ok(None);
    };
    if segment[open..].starts_with('}') {
        return fail(
            start + open..start + open + 1,
            "`}` has no `{` before it",
            "write {name}; a literal brace is %7B or %7D",
        );
    }
    let Some(length) = segment[open..].find('}') else {
        return fail(
            start + open..whole.end,
            "`{` has no `}` after it in its segment",
            "write {name}; a literal brace is %7B or %7D",
        );
    };
    let close = open + length;
    let part = start + open..start + close + 1;
    if let Some(more) = segment[close + 1..].find(['{', '}']) {
        let at = start + close + 1 + more;
        return fail(
            at..whole.end,
            "a segment has more than one parameter",
            "separate parameters by `/`: /{a}/{b}",
        );
    }
    let inside = &segment[open + 1..close];
    let name = inside.strip_prefix('*').unwrap_or(inside);
    if inside.starts_with('*') {
        if !last {
            return fail(
                part,
                format!("`{{{inside}}}` is not at the end of the path"),
                format!("end the path with it, or write {{{name}}} for one segment"),
            );
        }
        if inside.len() + 2 != segment.len() {
            return fail(
                part,
                format!("`{{{inside}}}` is not a segment of its own"),
                format!("write /{{{inside}}} as the last segment"),
            );
        }
    }
    let first = name.bytes().next();
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if !name.bytes().all(allowed) || first.is_none_or(|b| b.is_ascii_digit()) {
        return fail(
            part,
            format!("`{name}` is not a name for a parameter"),
            "use small letters, digits and `_`, not beginning with a digit: {user_id}",
        );
    }
    Ok(Some(name))
}

fn check_char(text: &str, at: usize, c: char) -> Result<(), PatternError> {
    let part = at..at + c.len_utf8();
    match c {
        '?' | '#' => fail(
            at..text.len(),
            format!("`{c}` ends the path of a URL"),
            "leave it out; a policy can read the query",
        ),
        '%' => {
            let digits = text.as_bytes().get(at + 1..at + 3);
            match digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                true => Ok(()),
                false => fail(
                    part,
                    "`%` is not followed by two hexadecimal digits",
                    "write a literal percent sign as %25",
                ),
            }
        }
        c if c.is_ascii_graphic() => Ok(()),
        c => {
            let mut bytes = [0; 4];
            let escaped: String = c
                .encode_utf8(&mut bytes)
                .bytes()
                .map(|byte| format!("%{byte:02X}"))
                .collect();
            fail(
                part,
                format!("{c:?} cannot stand in the path of a request"),
                format!("write it as {escaped}"),
            )
        }
    }
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
