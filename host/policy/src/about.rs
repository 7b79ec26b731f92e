//! What a component says of itself: the custom sections `version`, `authors`, `description`
//! and `revision` of WebAssembly's tool conventions. Nothing rests on them: a section that is
//! broken is one that is not there.

use crate::error::cut;
use crate::sections::custom_sections;

/// The longest version or revision, in bytes; the rest is left out.
const SHORT: usize = 128;
/// The longest list of authors or description, in bytes; the rest is left out.
const LONG: usize = 1024;

/// What a component says of itself. Whoever made it wrote it: no field holds a control
/// character, and none is longer than 1 KiB.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Its version, as a rule a semantic one: `1.4.0`.
    pub version: Option<String>,
    /// Who made it.
    pub authors: Option<String>,
    /// What it is.
    pub description: Option<String>,
    /// The commit that it was built from.
    pub revision: Option<String>,
}

impl About {
    /// Reads the sections of the component itself, not those of what is inside of it.
    pub(crate) fn read(component: &[u8]) -> Self {
        let mut about = Self::default();
        for (name, data) in custom_sections(component) {
            about.take(name, data);
        }
        about
    }

    fn take(&mut self, section: &str, data: &[u8]) {
        let (field, longest) = match section {
            "version" => (&mut self.version, SHORT),
            "authors" => (&mut self.authors, LONG),
            "description" => (&mut self.description, LONG),
            "revision" => (&mut self.revision, SHORT),
            _ => return,
        };
        if let Some(text) = text(data, longest) {
            *field = Some(text);
        }
    }
}

fn text(data: &[u8], longest: usize) -> Option<String> {
    // A section may be megabytes long; a character has four bytes at most.
    let data = data.get(..longest + 4).unwrap_or(data);
    let valid = match std::str::from_utf8(data) {
        Ok(text) => text,
        // Cut in the middle of a character.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(data.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    let shown: String = cut(valid, longest)
        .chars()
        .map(|c| if hides(c) { ' ' } else { c })
        .collect();
    let shown = shown.trim();
    (!shown.is_empty()).then(|| shown.to_owned())
}

/// Would it move a terminal's cursor, or show what stands elsewhere?
fn hides(c: char) -> bool {
    let turns =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut component = b"\0asm\x0d\0\x01\0".to_vec();
        for (name, data) in sections {
            section(&mut component, name, data);
        }
        component
    }

    fn section(component: &mut Vec<u8>, name: &str, data: &[u8]) {
        let leb = |mut n: usize| {
            let mut bytes = Vec::new();
            loop {
                let more = if n >= 128 { 128 } else { 0 };
                bytes.push((n % 128) as u8 | more);
                n /= 128;
                if n == 0 {
                    return bytes;
                }
            }
        };
        let name = [&leb(name.len())[..], name.as_bytes()].concat();
        component.push(0);
        component.extend(leb(name.len() + data.len()));
        component.extend(name);
        component.extend(data);
    }

    #[test]
    fn all_four_sections_are_read() {
        let about = About::read(&with(&[
            ("version", b"1.4.0"),
            ("authors", "Ada, Čapek".as_bytes()),
            ("other", b"x"),
            ("description", b"pages"),
            ("revision", b"0123abcd"),
        ]));
        assert_eq!(about.version.as_deref(), Some("1.4.0"));
        assert_eq!(about.authors.as_deref(), Some("Ada, Čapek"));
        assert_eq!(about.description.as_deref(), Some("pages"));
        assert_eq!(about.revision.as_deref(), Some("0123abcd"));
    }

    #[test]
    fn sections_of_the_modules_inside_are_not_its_own() {
        let mut inner = b"\0asm\x01\0\0\0".to_vec();
        section(&mut inner, "version", b"6.6.6");
        let mut component = with(&[("authors", b"Ada")]);
        component.push(1);
        component.push(inner.len() as u8);
        component.extend(inner);
        section(&mut component, "version", b"1.0.0");
        let about = About::read(&component);
        assert_eq!(about.version.as_deref(), Some("1.0.0"));
        assert_eq!(about.authors.as_deref(), Some("Ada"));
    }

    #[test]
    fn broken_sections_are_left_out_and_long_ones_cut() {
        let long = "é".repeat(1 << 20);
        let about = About::read(&with(&[
            ("version", b"\xff\xfe"),
            ("authors", "\x1b[2J\n\u{202e}Ada".as_bytes()),
            ("description", long.as_bytes()),
            ("revision", b" "),
        ]));
        assert_eq!(about.version, None);
        assert_eq!(about.authors.as_deref(), Some("[2J  Ada"));
        assert_eq!(about.description.map(|text| text.len()), Some(LONG));
        assert_eq!(about.revision, None);
        for bytes in [
            &b""[..],
            b"\0asm",
            b"\0asm\x0d\0\x01\0\x01\xff\xff\xff\xff\x0f",
        ] {
            assert_eq!(About::read(bytes), About::default());
        }
    }
}
