//! What the frames of a journal say.

use std::borrow::Cow;

use super::frame;
use crate::log::Purge;

/// One entry of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::log) enum Item<'a> {
    /// The log's identity, before all else; 0 where Redis has that.
    Epoch(u64),
    /// The node begins, or goes on, from this sequence.
    From(u64),
    /// A purge that this node took, with its node sequence.
    Purge(u64, Cow<'a, Purge>),
    /// Redis has taken the purge with this id.
    Taken(Cow<'a, str>),
    /// All marks, as [`image`](super::image) writes them.
    Marks(Cow<'a, [u8]>),
}

impl Item<'_> {
    pub(in crate::log) fn frame(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    pub(in crate::log) fn write(&self, out: &mut Vec<u8>) {
        let mut payload = Vec::new();
        let mut number = |letter, number: u64| {
            payload.push(letter);
            payload.extend_from_slice(&number.to_le_bytes());
        };
        match self {
            Self::Epoch(epoch) => number(b'e', *epoch),
            Self::From(sequence) => number(b'f', *sequence),
            Self::Purge(sequence, purge) => {
                number(b'p', *sequence);
                // Strings and numbers only: that cannot fail.
                payload.extend_from_slice(&serde_json::to_vec(purge).unwrap_or_default());
            }
            Self::Taken(id) => {
                payload.push(b't');
                payload.extend_from_slice(id.as_bytes());
            }
            Self::Marks(bytes) => {
                payload.push(b'm');
                payload.extend_from_slice(bytes);
            }
        }
        frame::write(out, &payload);
    }

    /// Reads a payload. `None`: a later version wrote it.
    pub(super) fn read(payload: &[u8]) -> Option<Item<'_>> {
        let (letter, rest) = payload.split_first()?;
        let number = || {
            let (number, rest) = rest.split_first_chunk::<8>()?;
            Some((u64::from_le_bytes(*number), rest))
        };
        Some(match letter {
            b'e' => Item::Epoch(number()?.0),
            b'f' => Item::From(number()?.0),
            b'p' => {
                let (sequence, json) = number()?;
                Item::Purge(sequence, Cow::Owned(serde_json::from_slice(json).ok()?))
            }
            b't' => Item::Taken(std::str::from_utf8(rest).ok()?.into()),
            b'm' => Item::Marks(rest.into()),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use weir_semantics::Timestamp;

    use super::*;
    use crate::log::{Selector, Target};

    #[test]
    fn every_item_reads_back() {
        let purge = Purge::new(
            vec![Selector::new(Target::Tag("ü \"x\"".into())).soft()],
            Timestamp::from_secs(7),
        );
        let items = [
            Item::Epoch(7),
            Item::From(u64::MAX),
            Item::Purge(3, Cow::Owned(purge)),
            Item::Taken("abc".into()),
            Item::Marks(b"\x00\xff"[..].into()),
        ];
        for item in items {
            let mut bytes = frame::MAGIC.to_vec();
            item.write(&mut bytes);
            let (payloads, ..) = frame::read(&bytes);
            assert_eq!(Item::read(payloads[0]), Some(item));
        }
        assert_eq!(Item::read(b"?"), None);
        assert_eq!(Item::read(b""), None);
        assert_eq!(Item::read(b"e1"), None);
    }
}
