//! The tags of an object.

use std::fmt;

/// The longest tag, in bytes.
pub const MAX_TAG_BYTES: usize = 1024;

/// The most tags that one object may have.
pub const MAX_TAGS: usize = 1024;

/// Why a list of tags was refused. The object must not be stored then: with a tag
/// left out, a purge would miss it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TagsError {
    /// One tag is longer than [`MAX_TAG_BYTES`].
    #[error(
        "a tag is longer than {MAX_TAG_BYTES} bytes; shorten it where it is made, in the policy or at the origin"
    )]
    TooLong,
    /// There are more than [`MAX_TAGS`].
    #[error("there are more than {MAX_TAGS} tags; use fewer, coarser ones")]
    TooMany,
    /// A tag is empty.
    #[error("a tag is empty; leave it out")]
    Empty,
}

/// The tags of an object: sorted, each one once, in one allocation.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tags {
    /// For each tag its length as two bytes, little-endian, then its text.
    packed: Box<[u8]>,
}

impl Tags {
    /// No tags.
    pub fn none() -> Self {
        Self::default()
    }

    /// Collects tags, in any order and with repetitions.
    ///
    /// # Errors
    /// [`TagsError`] if one is empty or too long, or there are too many.
    pub fn new<'a>(tags: impl IntoIterator<Item = &'a str>) -> Result<Self, TagsError> {
        let mut list: Vec<&str> = Vec::new();
        for tag in tags {
            match tag.len() {
                0 => return Err(TagsError::Empty),
                1..=MAX_TAG_BYTES => list.push(tag),
                _ => return Err(TagsError::TooLong),
            }
            // Repetitions are forgiven, but not without bound.
            if list.len() > 2 * MAX_TAGS {
                list.sort_unstable();
                list.dedup();
                if list.len() > MAX_TAGS {
                    return Err(TagsError::TooMany);
                }
            }
        }
        list.sort_unstable();
        list.dedup();
        if list.len() > MAX_TAGS {
            return Err(TagsError::TooMany);
        }
        let mut packed = Vec::with_capacity(list.iter().map(|tag| tag.len() + 2).sum());
        for tag in list {
            let length = u16::try_from(tag.len()).map_err(|_| TagsError::TooLong)?;
            packed.extend_from_slice(&length.to_le_bytes());
            packed.extend_from_slice(tag.as_bytes());
        }
        Ok(Self {
            packed: packed.into_boxed_slice(),
        })
    }

    /// The tags in order. Allocates nothing.
    pub fn iter(&self) -> TagsIter<'_> {
        TagsIter { rest: &self.packed }
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// What they cost on the heap, in bytes.
    pub fn weight(&self) -> usize {
        self.packed.len()
    }
}

/// The tags of an object, in order.
#[derive(Clone, Debug)]
pub struct TagsIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for TagsIter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (length, rest) = self.rest.split_first_chunk::<2>()?;
        let (tag, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        self.rest = rest;
        std::str::from_utf8(tag).ok()
    }
}

impl<'a> IntoIterator for &'a Tags {
    type Item = &'a str;
    type IntoIter = TagsIter<'a>;

    fn into_iter(self) -> TagsIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn holds_each_tag_once_in_order(tags in prop::collection::vec("[^\0]{1,20}", 0..40)) {
            let mut expected: Vec<&str> = tags.iter().map(String::as_str).collect();
            expected.sort_unstable();
            expected.dedup();
            let packed = Tags::new(tags.iter().map(String::as_str)).unwrap();
            prop_assert_eq!(packed.iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn refuses_what_a_purge_could_miss() {
        let long = "x".repeat(MAX_TAG_BYTES + 1);
        assert_eq!(Tags::new([long.as_str()]), Err(TagsError::TooLong));
        assert_eq!(Tags::new([""]), Err(TagsError::Empty));
        let many: Vec<String> = (0..=MAX_TAGS).map(|n| n.to_string()).collect();
        assert_eq!(
            Tags::new(many.iter().map(String::as_str)),
            Err(TagsError::TooMany)
        );
        assert!(Tags::new(many.iter().skip(1).map(String::as_str)).is_ok());
        let repeated = std::iter::repeat_n("same", 5 * MAX_TAGS);
        assert_eq!(Tags::new(repeated).map(|tags| tags.iter().count()), Ok(1));
    }
}
