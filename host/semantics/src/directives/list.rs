//! Splits the value of a Cache-Control field line into directives.

/// The greatest delta-seconds, in seconds, that is told from a greater one (RFC 9111
/// section 1.2.2).
pub(super) const GREATEST_DELTA: u64 = 1 << 31;

/// What follows the `=` of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument<'a> {
    /// No `=` at all.
    Absent,
    /// A token, or the inside of a quoted string, escapes left in.
    Value(&'a [u8]),
}

/// One member of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member<'a> {
    /// `name`, `name=token` or `name="quoted string"`.
    Directive(&'a [u8], Argument<'a>),
    /// Anything else.
    Malformed(&'a [u8]),
}

/// The members of one field line, empty ones left out.
#[derive(Debug)]
pub(super) struct Members<'a> {
    rest: &'a [u8],
    /// A quote was opened and never closed; from there on quotes mean nothing.
    unterminated: bool,
}

impl<'a> Members<'a> {
    pub(super) fn new(line: &'a [u8]) -> Self {
        Self {
            rest: line,
            unterminated: false,
        }
    }

    /// Was there a quoted string without an end in what has been read so far?
    pub(super) fn unterminated(&self) -> bool {
        self.unterminated
    }

    /// Where the next member ends: at a comma outside of quotes, or with the line.
    fn end(&mut self) -> usize {
        let mut at = 0;
        while let Some(&byte) = self.rest.get(at) {
            match byte {
                b',' => return at,
                b'"' if !self.unterminated => match quoted_len(&self.rest[at..]) {
                    Some(len) => at += len,
                    None => self.unterminated = true,
                },
                _ => at += 1,
            }
        }
        at
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        while !self.rest.is_empty() {
            let (member, rest) = self.rest.split_at(self.end());
            self.rest = rest.get(1..).unwrap_or_default();
            let member = member.trim_ascii();
            if !member.is_empty() {
                return Some(parse(member));
            }
        }
        None
    }
}

/// The length of the quoted string that `bytes` begins with, both quotes included.
fn quoted_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn parse(member: &[u8]) -> Member<'_> {
    let mut halves = member.splitn(2, |&byte| byte == b'=');
    let name = halves.next().unwrap_or_default();
    let argument = match halves.next() {
        None => Argument::Absent,
        Some(token) if is_token(token) => Argument::Value(token),
        Some(quoted)
            if quoted.first() == Some(&b'"') && quoted_len(quoted) == Some(quoted.len()) =>
        {
            Argument::Value(&quoted[1..quoted.len() - 1])
        }
        Some(_) => return Member::Malformed(member),
    };
    if is_token(name) {
        Member::Directive(name, argument)
    } else {
        Member::Malformed(member)
    }
}

/// `token` of RFC 9110 section 5.6.2.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

/// `tchar` of the same.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Is there a directive of this name, whatever its argument? Also inside a member that is
/// malformed: what forbids is honoured.
pub(crate) fn mentions(line: &[u8], directive: &[u8]) -> bool {
    Members::new(line).any(|member| {
        let name = match member {
            Member::Directive(name, _) => name,
            Member::Malformed(text) => text
                .split(|&byte| !is_token_byte(byte))
                .next()
                .unwrap_or_default(),
        };
        name.eq_ignore_ascii_case(directive)
    })
}

/// Reads a delta-seconds; anything above [`GREATEST_DELTA`] is that.
pub(crate) fn delta_seconds(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, byte| {
        byte.is_ascii_digit()
            .then(|| (sum * 10 + u64::from(byte - b'0')).min(GREATEST_DELTA))
    })
}

#[cfg(test)]
mod tests {
    use super::{Argument::*, Member::*, *};

    fn members(line: &str) -> Vec<Member<'_>> {
        Members::new(line.as_bytes()).collect()
    }

    #[test]
    fn commas_inside_quotes_do_not_split() {
        assert_eq!(
            members(r#" a="x, \"y" ,, b ,c=1"#),
            [
                Directive(b"a", Value(br#"x, \"y"#)),
                Directive(b"b", Absent),
                Directive(b"c", Value(b"1")),
            ]
        );
    }

    #[test]
    fn a_quote_without_an_end_hides_nothing() {
        let mut list = Members::new(br#"a="x, no-store"#);
        assert_eq!(list.next(), Some(Malformed(br#"a="x"#)));
        assert_eq!(list.next(), Some(Directive(b"no-store", Absent)));
        assert!(list.unterminated());
    }

    #[test]
    fn odd_members_are_malformed() {
        for line in [
            "a =1",
            "a= 1",
            "a b",
            r#"a="x"y"#,
            "private; max-age=1",
            "=1",
            "a=",
        ] {
            assert_eq!(members(line), [Malformed(line.as_bytes())], "{line}");
        }
    }

    #[test]
    fn many_open_quotes_take_linear_time() {
        let line = "\\\"".repeat(100_000);
        assert_eq!(members(&line).len(), 1);
    }

    #[test]
    fn delta_seconds_saturate() {
        assert_eq!(delta_seconds(b"003600"), Some(3600));
        assert_eq!(
            delta_seconds(b"99999999999999999999999999"),
            Some(GREATEST_DELTA)
        );
        for bad in ["", "-1", "1.0", "a1", "1a", "+1", " 1"] {
            assert_eq!(delta_seconds(bad.as_bytes()), None, "{bad}");
        }
    }
}
