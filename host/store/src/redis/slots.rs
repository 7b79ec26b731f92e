//! Which slot of a cluster a command belongs to.

use ::redis::{Arg, Cmd};
use crc::{CRC_16_XMODEM, Crc};

/// How many slots a cluster has.
pub(super) const SLOTS: u16 = 16_384;

const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// The slot of a key: that of its hash tag, if it has one.
pub(super) fn slot(key: &[u8]) -> u16 {
    CRC.checksum(tag(key).unwrap_or(key)) % SLOTS
}

/// What stands between the first `{` and the `}` after it, unless that is nothing.
fn tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let rest = &key[open + 1..];
    let close = rest.iter().position(|byte| *byte == b'}')?;
    (close > 0).then(|| &rest[..close])
}

/// The first key of a command; none for one that has none.
pub(super) fn key(command: &Cmd) -> Option<&[u8]> {
    let mut words = command.args_iter();
    let name = match words.next()? {
        Arg::Simple(name) => name,
        _ => return None,
    };
    let named = |names: &[&str]| {
        let same = |other: &&str| name.eq_ignore_ascii_case(other.as_bytes());
        names.iter().any(same)
    };
    let before = if named(&["EVAL", "EVALSHA"]) {
        // The script and the number of keys.
        2
    } else if named(&["OBJECT", "MEMORY", "XINFO"]) {
        1
    } else if named(&["PING", "SCRIPT", "INFO", "ROLE", "TIME", "SCAN", "CLUSTER"]) {
        return None;
    } else {
        0
    };
    match words.nth(before)? {
        Arg::Simple(key) => Some(key),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_that_redis_has() {
        // By CLUSTER KEYSLOT of redis-server 7.0.
        for (key, expected) in [
            ("", 0),
            ("123456789", 12_739),
            ("foo", 12_182),
            ("{foo}.bar", 12_182),
            ("a{foo}{bar}", 12_182),
            ("foo{}", 5_542),
            ("foo{{bar}}", 4_015),
        ] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn the_key_is_found_in_each_kind_of_command() {
        let command = |words: &[&str]| {
            let mut command = Cmd::new();
            for word in words {
                command.arg(*word);
            }
            key(&command).map(|key| String::from_utf8_lossy(key).into_owned())
        };
        assert_eq!(command(&["GET", "k"]).as_deref(), Some("k"));
        assert_eq!(
            command(&["evalsha", "f00", "2", "k", "l"]).as_deref(),
            Some("k")
        );
        assert_eq!(command(&["OBJECT", "ENCODING", "k"]).as_deref(), Some("k"));
        assert_eq!(command(&["SCRIPT", "LOAD", "return 1"]), None);
        assert_eq!(command(&["PING"]), None);
    }
}
