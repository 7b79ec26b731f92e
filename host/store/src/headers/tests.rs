use proptest::prelude::*;

use super::*;

fn maps() -> impl Strategy<Value = HeaderMap> {
    let name = prop_oneof![
        Just("content-type".to_owned()),
        Just("x-request-id".to_owned()),
        Just("set-cookie".to_owned()),
        "x-[a-z0-9-]{1,12}",
    ];
    let value = prop::collection::vec(prop_oneof![0x20..0x7f_u8, 0x80..=0xff_u8], 0..40);
    prop::collection::vec((name, value), 0..20).prop_map(|lines| {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(&value).unwrap(),
            );
        }
        map
    })
}

proptest! {
    #[test]
    fn gives_back_every_field_line(map in maps()) {
        let stored = StoredHeaders::from_map(&map);
        prop_assert_eq!(stored.len(), map.len());
        prop_assert_eq!(&stored.to_header_map(), &map);
        for name in map.keys() {
            let values: Vec<&[u8]> = stored.get_all(name).collect();
            let expected: Vec<&[u8]> = map.get_all(name).iter().map(HeaderValue::as_bytes).collect();
            prop_assert_eq!(stored.get(name), expected.first().copied());
            prop_assert_eq!(values, expected);
        }
    }
}

#[test]
fn values_share_the_blob() {
    let mut map = HeaderMap::new();
    map.insert(
        "x-long",
        HeaderValue::from_static("a value that is longer than a pointer"),
    );
    let stored = StoredHeaders::from_map(&map);
    let from = stored.blob.as_ptr_range();
    let rebuilt = stored.to_header_map();
    let value = rebuilt.get("x-long").unwrap().as_bytes();
    assert!(from.contains(&value.as_ptr()));
}

#[test]
fn eight_fields_cost_little_more_than_their_values() {
    let mut map = HeaderMap::new();
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("content-length", "18342"),
        ("etag", "\"5e1f-5a0b0a1c\""),
        ("last-modified", "Tue, 03 Nov 2026 10:00:00 GMT"),
        ("cache-control", "public, max-age=300"),
        ("date", "Mon, 23 Nov 2026 04:00:00 GMT"),
        ("vary", "accept-encoding"),
        ("x-unusual", "1"),
    ] {
        map.insert(name, HeaderValue::from_static(value));
    }
    let values: usize = map.values().map(HeaderValue::len).sum();
    assert!(StoredHeaders::from_map(&map).weight() <= values + COUNT + 8 * 5 + 11);
}
