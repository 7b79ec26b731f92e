//! Classes of bytes.

const fn class(members: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < members.len() {
        table[members[at] as usize] = true;
        at += 1;
    }
    table
}

/// RFC 9110 section 5.6.2: names and methods.
static TOKEN: [bool; 256] = class(b"!#$%&'*+-.^_`|~");
/// RFC 3986 sections 3.3 and 3.4, and those bytes beyond them that browsers send as they
/// are. No fragment: a recipient might cut it off, or not.
static TARGET: [bool; 256] = class(b"-._~!$&'()*+,;=:@/?%[]|{}^\\");

pub(super) fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// Whether all of a request target may stand there.
pub(super) fn is_target(target: &[u8]) -> bool {
    let plain = |byte: &u8| TARGET[usize::from(*byte)];
    match target.iter().position(|byte| !plain(byte)) {
        None => true,
        // One more byte is sent as it is, in queries alone.
        Some(at) => {
            target[..at].contains(&b'?')
                && target[at..].iter().all(|byte| *byte == b'`' || plain(byte))
        }
    }
}

/// How many control characters there are, tabs not counted. Without a branch for each
/// byte, so that the compiler makes vectors of it.
pub(super) fn controls(bytes: &[u8]) -> usize {
    // A byte counts to 255.
    let blocks = bytes.chunks(128).map(|block| {
        block.iter().fold(0_u8, |count, &byte| {
            count.wrapping_add(u8::from((byte < b' ' && byte != b'\t') || byte == 0x7f))
        })
    });
    blocks.map(usize::from).sum()
}

/// Without the spaces and tabs around it.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
