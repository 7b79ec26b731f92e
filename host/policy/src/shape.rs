//! What two lookups have in common whose keys are to mean the same request.
//!
//! A key holds values, not what they are values of: text `7` and a cookie that is `7` give
//! one key. On a sealed route, where the request is rebuilt from the key, that would be two
//! requests with one key. So the key there holds a digest of the lookup's shape too.

use std::sync::{Arc, OnceLock};

use crate::decision::Lookup;
use crate::globs::Globs;
use crate::input::{Input, Part};

/// Everything that a lookup says besides the values in its key.
#[derive(Debug)]
pub struct Shape {
    digest: [u8; 32],
    beside: Box<[Input]>,
}

impl Shape {
    /// A digest of it; the same on every machine.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The inputs that tags and changes of the origin's request name and the key does not.
    pub fn beside(&self) -> &[Input] {
        &self.beside
    }

    fn of(lookup: &Lookup) -> Self {
        let mut digest = Digest(blake3::Hasher::new());
        digest.number(lookup.key.len());
        for part in &lookup.key {
            match part {
                // Which text it is stands in the key.
                Part::Text(_) => digest.bytes(b"text"),
                Part::Input(input) => digest.input(input),
            }
        }
        digest.number(lookup.tags.len());
        for tag in &lookup.tags {
            digest.parts(tag);
        }
        digest.option(lookup.origin_target.as_deref());
        digest.number(lookup.origin_headers.len());
        for (name, value) in &lookup.origin_headers {
            digest.bytes(name.as_str().as_bytes());
            digest.option(value.as_deref());
        }
        digest.bytes(&lookup.note);
        let mut beside: Vec<Input> = Vec::new();
        for part in lookup.tags.iter().flatten().chain(lookup.origin_parts()) {
            if let Part::Input(input) = part
                && !lookup.key.contains(part)
                && !beside.contains(input)
            {
                beside.push(input.clone());
            }
        }
        Self {
            digest: *digest.0.finalize().as_bytes(),
            beside: beside.into(),
        }
    }
}

/// A shape that is made when it is first asked for. It follows from the rest of its lookup,
/// so it makes no difference between two.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShapeCell(OnceLock<Arc<Shape>>);

impl ShapeCell {
    pub(crate) fn of(&self, lookup: &Lookup) -> &Shape {
        self.0.get_or_init(|| Arc::new(Shape::of(lookup)))
    }
}

impl PartialEq for ShapeCell {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for ShapeCell {}

/// Writes each thing with its length, so that no two lists of things read alike.
struct Digest(blake3::Hasher);

impl Digest {
    fn number(&mut self, number: usize) {
        self.0.update(&(number as u64).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.update(bytes);
    }

    fn option(&mut self, parts: Option<&[Part]>) {
        match parts {
            None => self.bytes(b"none"),
            Some(parts) => {
                self.bytes(b"some");
                self.parts(parts);
            }
        }
    }

    fn parts(&mut self, parts: &[Part]) {
        self.number(parts.len());
        for part in parts {
            match part {
                Part::Text(text) => {
                    self.bytes(b"text");
                    self.bytes(text.as_bytes());
                }
                Part::Input(input) => self.input(input),
            }
        }
    }

    fn input(&mut self, input: &Input) {
        match input {
            Input::Method => self.bytes(b"method"),
            Input::Path => self.bytes(b"path"),
            Input::Param(name) => self.named(b"param", name),
            Input::QueryParam(name) => self.named(b"query-param", name),
            Input::Query { without } => self.globs(b"query", without),
            Input::QueryOnly(names) => self.globs(b"query-only", names),
            Input::Header(name) => self.named(b"header", name.as_str()),
            Input::Cookie(name) => self.named(b"cookie", name),
            Input::Language(available) => self.texts(b"language", available),
            Input::Device => self.bytes(b"device"),
            Input::BodyDigest => self.bytes(b"body-digest"),
        }
    }

    fn named(&mut self, kind: &[u8], name: &str) {
        self.bytes(kind);
        self.bytes(name.as_bytes());
    }

    fn globs(&mut self, kind: &[u8], globs: &Globs) {
        self.texts(kind, globs.patterns());
    }

    fn texts(&mut self, kind: &[u8], texts: &[String]) {
        self.bytes(kind);
        self.number(texts.len());
        for text in texts {
            self.bytes(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    fn cookie(name: &str) -> Part {
        Part::Input(Input::Cookie(name.into()))
    }

    fn lookup(key: &[Part]) -> Lookup {
        Lookup {
            namespace: "n".to_owned(),
            key: key.to_vec(),
            tags: Vec::new(),
            note: Bytes::new(),
            origin_target: None,
            origin_headers: Vec::new(),
            shape: ShapeCell::default(),
        }
    }

    #[test]
    fn lookups_that_mean_other_requests_have_other_shapes() {
        let header = |value: Option<&str>| Lookup {
            origin_headers: vec![(
                http::HeaderName::from_static("x-a"),
                value.map(|value| vec![text(value)]),
            )],
            ..lookup(&[text("7")])
        };
        let lookups = [
            lookup(&[]),
            lookup(&[text("7")]),
            lookup(&[cookie("a")]),
            lookup(&[cookie("b")]),
            lookup(&[cookie("a"), text("7")]),
            header(None),
            header(Some("1")),
            header(Some("2")),
            Lookup {
                origin_target: Some(vec![text("/a")]),
                ..lookup(&[text("7")])
            },
            Lookup {
                tags: vec![vec![text("/a")]],
                ..lookup(&[text("7")])
            },
            Lookup {
                note: Bytes::from_static(b"/a"),
                ..lookup(&[text("7")])
            },
        ];
        let mut digests: Vec<_> = lookups.iter().map(|it| *it.shape().digest()).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), lookups.len());
        // The value of a text stands in the key already.
        assert_eq!(
            lookup(&[text("8")]).shape().digest(),
            lookups[1].shape().digest()
        );
        // Asked for or not, they are the same decision.
        assert_eq!(lookups[1], lookup(&[text("7")]));
    }

    #[test]
    fn inputs_beside_the_key_are_named_once() {
        let lookup = Lookup {
            tags: vec![vec![cookie("a"), cookie("t")], vec![cookie("t")]],
            origin_target: Some(vec![text("/"), Part::Input(Input::Path)]),
            ..lookup(&[cookie("a")])
        };
        let beside = lookup.shape().beside();
        assert_eq!(beside, [Input::Cookie("t".into()), Input::Path]);
    }
}
