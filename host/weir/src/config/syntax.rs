//! Errors of TOML itself, in the words of someone who edits a configuration.

use toml::de::Error;

use super::errors::{Findings, Place};

/// Reports what is not TOML: one error on a line, and none after something that
/// was left open, since the parser takes all that follows for a part of it.
pub(super) fn report(errors: &[Error], findings: &mut Findings<'_>) {
    const MOST: usize = 10;
    let mut reported = 0;
    // The parser reports tokens before what is made of them.
    let mut errors: Vec<_> = errors.iter().collect();
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    for error in errors.into_iter().take(MOST) {
        let place = Place {
            span: error.span().unwrap_or_default(),
            ..Place::root()
        };
        let line = findings.line(&place);
        if line == reported {
            continue;
        }
        reported = line;
        findings.error(
            &place,
            format!("not valid TOML: {}", error.message()),
            hint(error),
        );
        if ["array", "table", "string, expected"]
            .iter()
            .any(|open| error.message().contains(open))
        {
            break;
        }
    }
}

fn hint(error: &Error) -> &'static str {
    const HINTS: &[(&str, &str)] = &[
        (
            "duplicate key",
            "a key or table may stand only once; remove one of them",
        ),
        (
            "must be quoted",
            "write strings, durations and sizes in quotes: key = \"30s\"",
        ),
        (
            "invalid boolean",
            "write true or false; other words need quotes: key = \"value\"",
        ),
        ("key with no value", "write key = value"),
        ("basic string", "close the string with \" on the same line"),
        ("literal string", "close the string with ' on the same line"),
        (
            "missing escaped value",
            "write a backslash in a string as \\\\, or use 'single quotes'",
        ),
        ("array table", "write [[name]] on a line of its own"),
        (
            "inline table",
            "close the table with } and separate its keys by commas",
        ),
        ("unclosed table", "write [name] on a line of its own"),
        (
            "array",
            "separate values by commas and close the list with ]",
        ),
        ("unexpected key or value", "begin a new line for each key"),
        (
            "unquoted key",
            "a key has only letters, digits, `-` and `_`",
        ),
        ("leading zero", "write the number without zeros before it"),
        ("recursion limit", "nest tables and keys less deeply"),
    ];
    let message = error.message();
    HINTS
        .iter()
        .find(|(part, _)| message.contains(part))
        .map_or(
            "write key = value, [table] or [[list of tables]]; see https://toml.io",
            |hint| hint.1,
        )
}
