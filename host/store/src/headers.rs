//! Header fields, stored compactly.
//!
//! A `HeaderMap` with eight fields costs about 1.5 KiB; this costs the bytes of the
//! fields and a few more. All of it stands in one blob: how many field lines there are,
//! as four bytes, little-endian; then for each of them one byte
//! that says which well-known name it has (0: the name is spelled out), then the name
//! if spelled out, then the value, both with their lengths in front.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

mod names;

/// What a response gets besides: Age and Cache-Status. To make a map larger costs more than
/// to have made it so.
const ADDED: usize = 2;

/// The bytes that say how many lines follow.
const COUNT: usize = size_of::<u32>();

/// Header fields as stored. Cloning shares the blob.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoredHeaders {
    blob: Bytes,
}

impl StoredHeaders {
    /// Takes all fields of a map, in its order.
    pub fn from_map(map: &HeaderMap) -> Self {
        let mut packer = Packer::default();
        packer.blob.reserve(48 * map.len());
        for (name, value) in map {
            packer.push(name, value);
        }
        packer.finish()
    }

    /// The field lines in order. Allocates nothing.
    pub fn iter(&self) -> Lines<'_> {
        Lines {
            blob: &self.blob,
            at: COUNT,
        }
    }

    /// The first value of a field.
    pub fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        self.iter()
            .find(|line| line.name == name.as_str())
            .map(|line| line.value)
    }

    /// All values of a field, in order.
    pub fn get_all<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |line| line.name == name.as_str())
            .map(|line| line.value)
    }

    /// How many field lines there are.
    pub fn len(&self) -> usize {
        let count = self.blob.first_chunk::<COUNT>();
        count.map_or(0, |count| u32::from_le_bytes(*count) as usize)
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, as they are stored.
    pub(crate) fn blob(&self) -> &Bytes {
        &self.blob
    }

    /// What they cost on the heap, in bytes.
    pub fn weight(&self) -> usize {
        self.blob.len()
    }

    /// A map of the same fields, whose values share the blob: no value is copied.
    pub fn to_header_map(&self) -> HeaderMap {
        self.map_of(&self.blob)
    }

    /// The same, whose values share `blob`, which has the same bytes.
    pub(crate) fn map_of(&self, blob: &Bytes) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.len() + ADDED);
        let mut lines = self.iter();
        while let Some(line) = lines.next() {
            let value = blob.slice(lines.at - line.value.len()..lines.at);
            // Both were legal when they were taken, so neither is ever skipped.
            let Ok(value) = HeaderValue::from_maybe_shared(value) else {
                continue;
            };
            let Some(name) = line.header_name() else {
                continue;
            };
            map.append(name, value);
        }
        map
    }
}

/// Packs field lines one by one.
#[derive(Debug)]
pub(crate) struct Packer {
    blob: Vec<u8>,
    lines: u32,
}

impl Default for Packer {
    fn default() -> Self {
        Self {
            blob: vec![0; COUNT],
            lines: 0,
        }
    }
}

impl Packer {
    /// Adds a line; of a value over 4 GiB, which nobody can send, it adds nothing.
    pub(crate) fn push(&mut self, name: &HeaderName, value: &HeaderValue) {
        // A HeaderName holds less than 64 KiB.
        let (Ok(name_length), Ok(value_length)) = (
            u16::try_from(name.as_str().len()),
            u32::try_from(value.len()),
        ) else {
            return;
        };
        match names::number(name) {
            Some(number) => self.blob.push(number),
            None => {
                self.blob.push(0);
                self.blob.extend_from_slice(&name_length.to_le_bytes());
                self.blob.extend_from_slice(name.as_str().as_bytes());
            }
        }
        self.blob.extend_from_slice(&value_length.to_le_bytes());
        self.blob.extend_from_slice(value.as_bytes());
        self.lines += 1;
    }

    /// What was packed, in an allocation of just its size.
    pub(crate) fn finish(mut self) -> StoredHeaders {
        if self.lines == 0 {
            return StoredHeaders::default();
        }
        // It began with so many bytes.
        self.blob[..COUNT].copy_from_slice(&self.lines.to_le_bytes());
        StoredHeaders {
            blob: Bytes::from(self.blob.into_boxed_slice()),
        }
    }
}

/// One field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The field name, in lower case.
    pub name: &'a str,
    /// The field value.
    pub value: &'a [u8],
    number: u8,
}

impl Line<'_> {
    fn header_name(&self) -> Option<HeaderName> {
        match names::get(self.number) {
            Some(name) => Some(name.clone()),
            None => HeaderName::from_lowercase(self.name.as_bytes()).ok(),
        }
    }
}

/// The field lines of [`StoredHeaders`], in order.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    blob: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let bytes = self.blob.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let number = *self.take(1)?.first()?;
        let name = match names::get(number) {
            Some(name) => name.as_str(),
            None => {
                let length = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
                std::str::from_utf8(self.take(usize::from(length))?).ok()?
            }
        };
        let length = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
        let value = self.take(usize::try_from(length).ok()?)?;
        Some(Line {
            name,
            value,
            number,
        })
    }
}

impl<'a> IntoIterator for &'a StoredHeaders {
    type Item = Line<'a>;
    type IntoIter = Lines<'a>;

    fn into_iter(self) -> Lines<'a> {
        self.iter()
    }
}

impl std::fmt::Debug for StoredHeaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map()
            .entries(
                self.iter()
                    .map(|line| (line.name, String::from_utf8_lossy(line.value))),
            )
            .finish()
    }
}

#[cfg(test)]
mod tests;
