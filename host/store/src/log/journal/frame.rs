//! Frames: what a journal is a sequence of.
//!
//! A frame is the length of its payload (4 bytes), the payload's checksum (8), a checksum
//! of these two (4), the payload, and a last byte that is not zero. So what is missing
//! at the end of a file, be it short or zeros that stand for it, can be told from what
//! was damaged: only the former can be an append that was cut by a crash.

use xxhash_rust::xxh3::xxh3_64;

/// What a file of frames begins with; the last byte is the version.
pub(super) const MAGIC: &[u8; 8] = b"weirlog\x01";

const HEAD_BYTES: usize = 4 + 8 + 4;

const END: u8 = 0xa5;

/// Appends the frame of a payload.
pub(super) fn write(out: &mut Vec<u8>, payload: &[u8]) {
    // No payload comes near 4 GiB: a purge has 256 KiB, a table some MiB.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut head = [0; 12];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..].copy_from_slice(&xxh3_64(payload).to_le_bytes());
    out.reserve(HEAD_BYTES + payload.len() + 1);
    out.extend_from_slice(&head);
    out.extend_from_slice(&check(&head));
    out.extend_from_slice(payload);
    out.push(END);
}

fn check(head: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = xxh3_64(head).to_le_bytes();
    [a, b, c, d]
}

/// How the frames of a file end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With a whole frame.
    Whole,
    /// With the beginning of one: the append that was under way when the node died.
    Torn,
    /// With something that no crash makes: what was there, and what follows, is unknown.
    Damaged,
}

/// The payloads of a file, where the last whole frame ends, and what follows it.
pub(super) fn read(bytes: &[u8]) -> (Vec<&[u8]>, usize, End) {
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        return (Vec::new(), 0, End::Damaged);
    };
    let mut payloads = Vec::new();
    let end = loop {
        if rest.is_empty() {
            break End::Whole;
        }
        match frame(rest) {
            Ok((payload, after)) => {
                payloads.push(payload);
                rest = after;
            }
            Err(end) => break end,
        }
    };
    (payloads, bytes.len() - rest.len(), end)
}

/// The first frame, and what follows it.
fn frame(bytes: &[u8]) -> Result<(&[u8], &[u8]), End> {
    // A file system may have made room for what it then did not write.
    let there = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1);
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return Err(End::Torn);
    };
    let [a, b, c, d, sum @ .., _, _, _, _] = head;
    let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
    if head[12..] != check(&head[..12]) {
        return Err(if there < HEAD_BYTES {
            End::Torn
        } else {
            End::Damaged
        });
    }
    let Some((payload, [end, after @ ..])) = rest.split_at_checked(length) else {
        return Err(End::Torn);
    };
    if *end == END && xxh3_64(payload).to_le_bytes() == *sum {
        return Ok((payload, after));
    }
    Err(if there < HEAD_BYTES + length + 1 {
        End::Torn
    } else {
        End::Damaged
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(payloads: &[&[u8]]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for payload in payloads {
            write(&mut out, payload);
        }
        out
    }

    #[test]
    fn a_file_cut_anywhere_keeps_every_whole_frame_and_is_torn() {
        let whole = file(&[b"one", b"", b"three"]);
        let ends: Vec<usize> = [0, 1, 2, 3]
            .map(|frames| file(&[&b"one"[..], b"", b"three"][..frames]).len())
            .to_vec();
        assert_eq!(
            read(&whole),
            (vec![&b"one"[..], b"", b"three"], whole.len(), End::Whole)
        );
        for cut in MAGIC.len()..whole.len() {
            for zeros in [0, 1, 100] {
                let mut bytes = whole[..cut].to_vec();
                bytes.resize(cut + zeros, 0);
                let (payloads, end, how) = read(&bytes);
                let kept = ends.iter().filter(|end| **end <= cut).count() - 1;
                assert_eq!((payloads.len(), end), (kept, ends[kept]), "cut at {cut}");
                let clean = cut == ends[kept] && zeros == 0;
                assert_eq!(
                    how,
                    if clean { End::Whole } else { End::Torn },
                    "cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn any_other_change_is_damage_also_of_the_last_frame() {
        let whole = file(&[b"one", b"two"]);
        for at in 0..whole.len() {
            for flip in [1, 0x80] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                assert_eq!(read(&bytes).2, End::Damaged, "byte {at}");
            }
        }
        assert_eq!(read(b"").2, End::Damaged);
    }
}
