//! What Redis holds: whoever can write there is a stranger.

use bytes::Bytes;
use weir_store::{Key, record as records};

/// A record: a line with the key, then the record's bytes. Whatever decodes can be written
/// again and reads back as the same object.
pub fn record(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let (key, bytes) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let Ok(key) = std::str::from_utf8(key) else {
        return;
    };
    // Most inputs fail at the checksum, so the fields are also tried behind a right one.
    for bytes in [Bytes::copy_from_slice(bytes), records::sealed(bytes)] {
        let _ = records::key_of(&bytes);
        let Ok(object) = records::decode(&bytes, key) else {
            continue;
        };
        let again = records::encode(&object);
        let back = records::decode(&again, key).expect("what was encoded decodes");
        assert_eq!(object.body, back.body);
        assert_eq!(object.headers, back.headers);
        assert_eq!(object.vary, back.vary);
        assert_eq!(object.tags, back.tags);
        assert_eq!(object.freshness, back.freshness);
        assert_eq!(records::encode(&back), again);
    }
}

/// The texts of the invalidation log, and keys.
pub fn log(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    weir_store::log::read_anything(text);
    if let Ok(key) = Key::parse(text) {
        assert_eq!(key.as_str(), text);
        assert!(text.ends_with(key.name()));
    }
}
