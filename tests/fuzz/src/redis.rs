//! What Redis holds: whoever can write there is a stranger.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use weir_semantics::Timestamp;
use weir_store::log::{Applied, EntryMark, Limits, Log, Target};
use weir_store::redis::fuzzing;
use weir_store::{Key, Position, Tags, record as records};

/// A line with the key, then the value that stands under it: an object, or the index of
/// its variants. An object that decodes can be written again and reads back as the same.
pub fn record(data: &[u8]) {
    let end = data.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let (key, bytes) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let Ok(key) = std::str::from_utf8(key) else {
        return;
    };
    index(bytes);
    // Most inputs fail at the checksum, so the fields are also tried behind a right one.
    for bytes in [Bytes::copy_from_slice(bytes), records::sealed(bytes)] {
        let _ = records::key_of(&bytes);
        if let Ok(records::Decoded::InChunks(_, chunks)) = records::read(&bytes, key) {
            // As many names are listed as it says.
            assert!(chunks.count() <= (1 << 30) / records::CHUNK_BYTES as u64);
            let _ = chunks.assemble(std::slice::from_ref(&bytes));
        }
        let Ok(object) = records::decode(&bytes, key) else {
            continue;
        };
        let again = records::encode(&object);
        let back = records::decode(&again, key).expect("what was encoded decodes");
        assert_eq!(object.body, back.body);
        assert_eq!(object.headers, back.headers);
        assert_eq!(object.vary(), back.vary());
        assert_eq!(object.tags, back.tags);
        assert_eq!(object.freshness(), back.freshness());
        assert_eq!(records::encode(&back), again);
    }
}

/// A request that an index of variants may ask anything of.
static REQUEST: LazyLock<HeaderMap> = LazyLock::new(|| {
    let fields = [
        ("accept", "text/html, */*;q=0.1"),
        ("accept-encoding", "gzip, br;q=0.5"),
        ("accept-language", "de, en;q=0.5"),
        ("cookie", "a=b"),
        ("x-a", "\"b,c\", d"),
    ];
    let fields = fields.map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    });
    fields.into_iter().collect()
});

/// An index of variants: the line of what it leads to leads there again.
fn index(bytes: &[u8]) {
    for (vary, line, hash) in fuzzing::candidates(bytes, &REQUEST).unwrap_or_default() {
        let written = [b"WVI1\n", line.as_bytes()].concat();
        let again = fuzzing::candidates(&written, &REQUEST).unwrap_or_default();
        match &again[..] {
            [(back, _, same)] => assert_eq!((back, same), (&vary, &hash)),
            // A line without names is empty, and an index has none.
            _ => assert!(vary.is_empty(), "{line:?} leads to {again:?}"),
        }
    }
}

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// The texts of the invalidation log, and keys; then each line a step of a log: `e`, id,
/// epoch, sequence, nonce, time and selectors of an entry, or `s`, epoch, sequence and
/// counters of a snapshot, with tabs in between.
pub fn log(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    weir_store::log::read_anything(text);
    if let Ok(key) = Key::parse(text) {
        assert_eq!(key.as_str(), text);
        assert!(text.ends_with(key.name()));
    }
    let limits = Limits {
        counters: 2048,
        prefixes: 2,
        ..Limits::default()
    };
    let log = Log::new(limits, None);
    let key = Key::parse("http://a.test|user:profile:42").expect("a key");
    let tags = Tags::new(["a"]).expect("tags");
    let url = "http://a.test/b";
    // The sequence up to which objects are known to be dead, and in which epoch.
    let (mut epoch, mut dead) = (0, 0);
    for line in text.lines().take(64) {
        let mut words = line.split('\t');
        match words.next() {
            Some("e") => {
                let id = words.next().unwrap_or_default();
                let names = ["e", "s", "n", "t", "p"];
                let fields = names.into_iter().zip(words.map(str::as_bytes));
                let entry = fuzzing::entry(id, fields);
                let names_it = entry.selectors.iter().any(|selector| {
                    let host = selector.host.as_deref();
                    let here = host.is_none_or(|host| host.eq_ignore_ascii_case("a.test"));
                    match &selector.target {
                        Target::Url(name) => name == url,
                        Target::Key(name) => here && name == key.name(),
                        Target::Tag(name) => here && name == "a",
                        Target::Namespace(name) => here && name == "user",
                        Target::Prefix(prefix) => here && key.name().starts_with(&**prefix),
                        Target::All => here,
                    }
                });
                let applied = log.apply(&entry, NOW);
                let counts = matches!(applied, Applied::Next | Applied::Gap | Applied::Diverged);
                if counts && names_it {
                    dead = dead.max(entry.sequence);
                }
            }
            Some("s") => {
                let mut number = || words.next().and_then(|word| word.parse().ok());
                let (Some(of), Some(sequence)) = (number(), number()) else {
                    continue;
                };
                let last = (sequence % 2 == 0).then(|| EntryMark {
                    id: "1-1".into(),
                    nonce: sequence,
                });
                let floors = vec![(sequence as usize % 2048, sequence)];
                let counters = words.map(|word| (word, sequence));
                let snapshot = fuzzing::snapshot((of, sequence), last, counters, floors);
                log.apply_snapshot(&snapshot, NOW);
            }
            _ => continue,
        }
        let position = log.position();
        if position.epoch != epoch {
            (epoch, dead) = (position.epoch, 0);
        }
        let before = Position {
            fleet: dead.saturating_sub(1),
            ..position
        };
        let alive = dead > 0 && log.untouched(&key, url, &tags, before);
        assert!(!alive, "what was purged at {dead} came back");
    }
}
