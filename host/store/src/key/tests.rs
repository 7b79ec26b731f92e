use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Absent,
    Values(Vec<Vec<u8>>),
    Method(String),
}

fn build(origin: Option<&str>, namespace: &str, parts: &[Part]) -> KeyBuilder {
    let mut builder = KeyBuilder::new();
    match origin {
        Some(authority) => builder.origin("http", authority).unwrap(),
        None => builder.shared(),
    };
    builder.namespace(namespace).unwrap();
    for part in parts {
        match part {
            Part::Absent => builder.absent(),
            Part::Values(values) => builder.values(values.iter().map(Vec::as_slice)),
            Part::Method(method) => builder.method(method),
        };
    }
    builder
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    // Few, awkward bytes, so that two lists come close to one another.
    let byte = prop::sample::select(b"a:|,~%{}7CE /#\xff\0".to_vec());
    let value = prop::collection::vec(byte, 0..4);
    let part = prop_oneof![
        1 => Just(Part::Absent),
        4 => prop::collection::vec(value, 1..4).prop_map(Part::Values),
        1 => "[A~|%]{1,3}".prop_map(Part::Method),
    ];
    prop::collection::vec(part, 0..4)
}

proptest! {
    #[test]
    fn different_parts_give_different_keys(a in parts(), b in parts()) {
        let same_inputs = a == b;
        let same_keys = build(None, "n", &a).as_str() == build(None, "n", &b).as_str();
        prop_assert_eq!(same_inputs, same_keys);
    }

    #[test]
    fn different_targets_give_different_keys(a in "/[a|{}#%7BCD]{0,5}", b in "/[a|{}#%7BCD]{0,5}") {
        let text = |target: &str| {
            let mut builder = KeyBuilder::new();
            builder.shared().target(target.as_bytes()).unwrap();
            builder.as_str().to_owned()
        };
        prop_assert_eq!(a == b, text(&a) == text(&b));
    }

    #[test]
    fn a_key_reads_back_and_keeps_to_its_alphabet(parts in parts(), with_origin: bool) {
        let origin = with_origin.then_some("example.org:8080");
        let key = build(origin, "user", &parts).key().unwrap();
        let strange = |b: u8| !b.is_ascii_graphic() || b == b'{' || b == b'}';
        prop_assert!(!key.as_str().bytes().any(strange));
        let read = Key::parse(key.as_str()).unwrap();
        prop_assert_eq!(&read, &key);
        prop_assert_eq!(read.origin(), with_origin.then_some("http://example.org:8080"));
        prop_assert_eq!(read.namespace(), Some("user"));
        prop_assert_eq!(read.name(), key.name());
    }

    #[test]
    fn parse_never_panics(text in "\\PC{0,40}") {
        let _ = Key::parse(&text);
    }
}

#[test]
fn reads_like_what_an_operator_expects() {
    let mut builder = KeyBuilder::new();
    builder.origin("http", "API.example.org").unwrap();
    builder
        .namespace("user")
        .unwrap()
        .part(b"profile")
        .part(b"42");
    let key = builder.key().unwrap();
    assert_eq!(key.as_str(), "http://api.example.org|user:profile:42");
    assert_eq!(key.origin(), Some("http://api.example.org"));
    assert_eq!(key.name(), "user:profile:42");
    assert_eq!(key.namespace(), Some("user"));

    builder
        .origin("http", "[::1]:80")
        .unwrap()
        .target(b"/a%7Cb?x={1}|2")
        .unwrap();
    assert_eq!(builder.as_str(), "http://[::1]:80|/a%7Cb?x=#7B1#7D#7C2");
    assert_eq!(builder.key().unwrap().namespace(), None);
}

#[test]
fn a_builder_that_is_used_again_takes_no_origin_for_another() {
    let mut again = KeyBuilder::new();
    for (scheme, authority) in [
        ("http", "a"),
        ("http", "a"),
        ("https", "a"),
        ("http", "ab"),
        ("http", "a"),
        ("http", "A"),
        ("http", "a:8080"),
        ("http", "a"),
        ("http", "a|"),
        ("http", "a"),
        ("", "http://a"),
        ("https", "a"),
        ("http", "s://a"),
        ("http", ""),
    ] {
        for name in ["/x", "/"] {
            let write = |builder: &mut KeyBuilder| {
                let begun = builder.origin(scheme, authority).map(drop);
                begun.and_then(|()| builder.target(name.as_bytes()).map(drop))
            };
            let mut new = KeyBuilder::new();
            assert_eq!(write(&mut again), write(&mut new), "{scheme} {authority}");
            assert_eq!(again.as_str(), new.as_str());
            assert_eq!(again.name(), new.name());
        }
    }
    // One that is shared begins with no origin, nor does what follows it.
    again.origin("http", "a").unwrap();
    again.shared().target(b"/x").unwrap();
    assert_eq!(again.as_str(), "/x");
    again.origin("http", "a").unwrap().target(b"/x").unwrap();
    assert_eq!(again.as_str(), "http://a|/x");
}

#[test]
fn absent_empty_and_repeated_differ() {
    let mut builder = KeyBuilder::new();
    builder
        .shared()
        .namespace("n")
        .unwrap()
        .absent()
        .part(b"")
        .part(b"~");
    builder.values([b"a".as_slice(), b"", b"b,c"]).values([]);
    assert_eq!(builder.as_str(), "n:~::%7E:a,,b%2Cc:~");
}

#[test]
fn refuses_what_could_leave_its_place() {
    let mut builder = KeyBuilder::new();
    for authority in ["", "a|b", "a/b", "a{b}", "a b", "é"] {
        assert_eq!(
            builder.origin("http", authority).err(),
            Some(KeyError::Origin),
            "{authority}"
        );
        assert_eq!(builder.as_str(), "");
    }
    assert_eq!(builder.origin("http|", "a").err(), Some(KeyError::Origin));
    for namespace in ["", "A", "-a", "a:b", "a|b", "/", &"a".repeat(65)] {
        assert_eq!(
            builder.shared().namespace(namespace).err(),
            Some(KeyError::Namespace)
        );
    }
    assert_eq!(builder.shared().target(b"x").err(), Some(KeyError::Target));
    assert_eq!(builder.shared().key().err(), Some(KeyError::Malformed));
    builder
        .namespace("n")
        .unwrap()
        .part(&vec![b'a'; MAX_KEY_BYTES]);
    assert_eq!(builder.key().err(), Some(KeyError::TooLong));
    for text in [
        "",
        "|n",
        "ftp://a|n",
        "http://a|",
        "http://a|n|m",
        "N:a",
        "n:~~",
        "n:{a}",
        "/a b",
    ] {
        assert_eq!(Key::parse(text).err(), Some(KeyError::Malformed), "{text}");
    }
}

#[test]
fn what_looks_escaped_is_not_taken_for_it() {
    let mut builder = KeyBuilder::new();
    builder.shared().target(b"/#7B{").unwrap();
    assert_eq!(builder.as_str(), "/#237B#7B");
    builder.shared().namespace("n").unwrap().part(b"%7B{");
    assert_eq!(builder.as_str(), "n:%257B%7B");
}

#[test]
fn a_map_of_keys_is_asked_with_text() {
    let key = Key::parse("http://a|n:1").unwrap();
    let map = std::collections::HashMap::from([(key, 1)]);
    assert_eq!(map.get("http://a|n:1"), Some(&1));
}

#[test]
fn a_seal_ends_a_key_and_is_left_out_of_the_name_that_a_policy_knows() {
    let mut builder = KeyBuilder::new();
    builder.shared().namespace("n").unwrap();
    builder.part(b"~=a:~=b").method("POST").sealed("0f");
    let key = builder.key().unwrap();
    assert_eq!(key.name(), "n:%7E=a%3A%7E=b:~POST:~=0f");
    assert_eq!(key.unsealed_name(), "n:%7E=a%3A%7E=b:~POST");
    assert_eq!(Key::parse(key.as_str()).unwrap(), key);
    // A plain key has none, whatever its target looks like.
    let mut builder = KeyBuilder::new();
    builder.shared().target(b"/a:~=0f").unwrap();
    let plain = builder.key().unwrap();
    assert_eq!(plain.unsealed_name(), plain.name());
}
