//! The line of a configuration file that a problem is about, as it is shown.

use std::ops::Range;

use super::errors::Position;

/// Characters shown at most on each side of the place.
const CONTEXT: usize = 100;

/// A line of the file, safe to print, and the marks below it.
#[derive(Clone, Debug)]
pub(crate) struct Excerpt {
    /// The line, without its end; control characters and passwords replaced.
    pub(crate) text: String,
    /// Blanks, then one `^` for each character of the place.
    pub(crate) marks: String,
}

impl Excerpt {
    /// Finds the line on which `span` (in bytes of `text`) begins.
    pub(crate) fn locate(text: &str, span: &Range<usize>) -> (Position, Self) {
        let at = text.floor_char_boundary(span.start);
        let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
        let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
        let line = text[start..end].trim_end_matches('\r');
        let column = line.get(..at - start).unwrap_or(line).chars().count();
        let position = Position {
            line: text[..start].matches('\n').count() + 1,
            column: column + 1,
        };
        let stop = text
            .floor_char_boundary(span.end)
            .clamp(at, start + line.len().max(at - start));
        let width = text[at..stop].chars().count().max(1);

        let skipped = column.saturating_sub(CONTEXT);
        let shown: String = mask(line).chars().skip(skipped).take(2 * CONTEXT).collect();
        let marks = shown
            .chars()
            .chain(std::iter::repeat(' '))
            .take(column - skipped)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .chain(std::iter::repeat_n('^', width.min(CONTEXT)))
            .collect();
        (position, Self { text: shown, marks })
    }
}

/// The line with passwords and control characters replaced, of the same
/// number of characters. A message ends in logs and terminals.
fn mask(line: &str) -> String {
    let mut chars: Vec<char> = line
        .chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect();
    for secret in secrets(&chars) {
        chars[secret].fill('*');
    }
    chars.into_iter().collect()
}

/// Where in a line passwords stand: the values of keys named `password`, and
/// the part of a URL between its user name and `@`.
fn secrets(line: &[char]) -> Vec<Range<usize>> {
    const KEY: &[char] = &['p', 'a', 's', 's', 'w', 'o', 'r', 'd'];
    const SCHEME_END: &[char] = &[':', '/', '/'];
    let find = |from: usize, what: &dyn Fn(char) -> bool| {
        (from..line.len())
            .find(|&at| what(line[at]))
            .unwrap_or(line.len())
    };
    let mut found = Vec::new();
    for at in 0..line.len() {
        if line[at..].starts_with(KEY) {
            let equals = find(at + KEY.len(), &|c| {
                !c.is_whitespace() && c != '"' && c != '\''
            });
            if line.get(equals) == Some(&'=') {
                let value = find(equals + 1, &|c| !c.is_whitespace());
                match line.get(value) {
                    Some(&quote @ ('"' | '\'')) => {
                        found.push(value + 1..find(value + 1, &|c| c == quote));
                    }
                    _ => found.push(value..line.len()),
                }
            }
        }
        if line[at..].starts_with(SCHEME_END) {
            let from = at + SCHEME_END.len();
            let until = find(from, &|c| c == '"' || c == '\'');
            if let Some(end) = (from..until).rev().find(|&at| line[at] == '@') {
                let colon = find(from, &|c| c == ':');
                if colon < end {
                    found.push(colon + 1..end);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn passwords_do_not_reach_a_message() {
        for line in [
            "password = \"hunter2\"",
            "\"password\"='hunter2'",
            "password = hunter2",
            "password = \"hunter2",
            "redis = { pasword = 1, url = \"redis://:hunter2@h/0\" }",
            "url = \"redis://user:hunter2@h\"",
        ] {
            let (_, excerpt) = Excerpt::locate(line, &(0..4));
            assert!(!excerpt.text.contains("hunter2"), "{}", excerpt.text);
            assert_eq!(excerpt.text.chars().count(), line.chars().count());
        }
        let (_, excerpt) = Excerpt::locate("password_file = \"p.txt\"", &(0..4));
        assert!(excerpt.text.contains("p.txt"));
    }

    #[test]
    fn a_column_counts_characters_and_tabs_stay_under_tabs() {
        let text = "a = 1\n\tü = \"x\"\r\n";
        let at = text.find('"').unwrap();
        let (position, excerpt) = Excerpt::locate(text, &(at..at + 3));
        assert_eq!(position, Position { line: 2, column: 6 });
        assert_eq!(excerpt.text, "\tü = \"x\"");
        assert_eq!(excerpt.marks, "\t    ^^^");
    }

    #[test]
    fn a_terminal_gets_no_control_characters() {
        let (_, excerpt) = Excerpt::locate("a = \u{1b}[2J", &(4..5));
        assert_eq!(excerpt.text, "a = \u{fffd}[2J");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("a = \"{}\" # {}", "x".repeat(5000), "y".repeat(5000));
        let (position, excerpt) = Excerpt::locate(&text, &(4000..4001));
        assert_eq!(position.column, 4001);
        assert_eq!(excerpt.text.len(), 2 * CONTEXT);
        assert_eq!(excerpt.marks.len(), CONTEXT + 1);
    }

    proptest! {
        #[test]
        fn any_text_and_any_span_can_be_shown(text in "[a\n\r\té\"':/@=password ]{0,40}", start in 0usize..60, len in 0usize..60) {
            let (position, excerpt) = Excerpt::locate(&text, &(start..start + len));
            prop_assert!(position.line >= 1 && position.column >= 1);
            prop_assert!(excerpt.marks.ends_with('^'));
        }
    }
}
