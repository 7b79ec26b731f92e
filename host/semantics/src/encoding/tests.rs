use proptest::prelude::*;

use super::*;

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

fn accepting(line: &str) -> AcceptEncoding {
    AcceptEncoding::parse(&map(&[("accept-encoding", line)])).unwrap()
}

/// What a node with this offer sends to a client with this field.
fn chosen(line: &str) -> &'static str {
    let offer = [Coding::Zstd, Coding::Brotli, Coding::Gzip];
    accepting(line)
        .choose(offer)
        .map_or("identity", Coding::token)
}

#[test]
fn each_coding_is_at_its_place() {
    for (at, coding) in Coding::ALL.into_iter().enumerate() {
        assert_eq!(coding as usize, at);
        assert_eq!(REGISTERED[coding.registered()], coding.token());
    }
    assert_eq!(REGISTERED[IDENTITY], "identity");
    assert!(REGISTERED.is_sorted());
    assert_eq!(
        ASKED_FOR.map(|at| REGISTERED[at]),
        ["zstd", "dcz", "br", "dcb", "gzip"]
    );
}

#[test]
fn the_favourite_of_the_node_decides_among_equals_and_the_client_before_that() {
    for (field, coding) in [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "br"),
        ("gzip", "gzip"),
        ("X-GZIP", "gzip"),
        ("gzip, br;q=0.9, zstd;q=0.5", "gzip"),
        ("zstd;q=0, br", "br"),
        ("*", "zstd"),
        ("*, zstd;q=0", "br"),
        ("br;q=0.001", "br"),
        ("deflate, compress", "identity"),
        ("identity", "identity"),
        ("", "identity"),
        ("gzip;q=0", "identity"),
        ("*;q=0", "identity"),
        ("identity;q=1, *;q=0", "identity"),
        ("identity, gzip;q=0.5", "identity"),
        ("identity;q=0.5, gzip", "gzip"),
        ("identity, gzip", "gzip"),
        ("identity;q=0, gzip;q=0.1", "gzip"),
        ("gzip;q=1.5", "identity"),
        ("gzip;q=0, gzip", "identity"),
        ("gzip;level=9", "identity"),
        ("gzip br", "identity"),
    ] {
        assert_eq!(chosen(field), coding, "{field:?}");
    }
    let none = AcceptEncoding::parse(&HeaderMap::new());
    assert_eq!(none, None, "whoever says nothing takes everything");
    assert_eq!(accepting("gzip").choose([]), None);
}

#[test]
fn an_origin_is_asked_for_what_the_key_says() {
    for (field, asked) in [
        ("gzip, deflate, br, zstd", "zstd, br, gzip"),
        ("GZIP;q=0.3 ,Br ; Q=1.000", "br, gzip"),
        ("br, dcb, dcz, gzip, zstd", "zstd, dcz, br, dcb, gzip"),
        ("x-gzip, gzip", "gzip"),
        ("deflate", "identity"),
        ("", "identity"),
        ("identity;q=1, *;q=0", "identity"),
        ("identity, gzip;q=0.5", "identity"),
        ("identity;q=0, gzip", "gzip, identity;q=0"),
        ("*;q=0", "identity;q=0"),
        ("gzip;q=2, nonsense here", "identity"),
    ] {
        let mut request = map(&[("accept-encoding", field)]);
        normalise_accept_encoding(&mut request);
        assert_eq!(request[ACCEPT_ENCODING], asked, "{field:?}");
        let again = request.clone();
        normalise_accept_encoding(&mut request);
        assert_eq!(request, again, "{field:?}");
    }
    let mut absent = HeaderMap::new();
    normalise_accept_encoding(&mut absent);
    assert!(absent.is_empty());
}

#[test]
fn what_may_be_coded() {
    let ok = |fields: &[(&str, &str)]| may_be_coded(StatusCode::OK, &map(fields));
    assert!(ok(&[
        ("content-type", "text/plain"),
        ("cache-control", "max-age=1")
    ]));
    assert!(ok(&[("content-encoding", "identity")]));
    for field in [
        ("content-encoding", "gzip"),
        ("content-encoding", "unheard-of"),
        ("content-range", "bytes 0-1/2"),
        ("content-md5", "x"),
        ("digest", "x"),
        ("content-digest", "x"),
        ("repr-digest", "x"),
        ("signature", "x"),
        ("signature-input", "x"),
        ("cache-control", "max-age=1, No-Transform"),
        ("cache-control", "x=\"a, no-transform"),
        ("cache-control", "no-transform=(1)"),
    ] {
        assert!(!ok(&[field]), "{field:?}");
    }
    assert!(
        ok(&[("cache-control", "x=\"no-transform\"")]),
        "an argument"
    );
    assert!(!may_be_coded(
        StatusCode::PARTIAL_CONTENT,
        &HeaderMap::new()
    ));
    assert!(!may_be_coded(StatusCode::NOT_FOUND, &HeaderMap::new()));
}

#[test]
fn vary_is_added_once_and_taken_back_whole() {
    for (before, after) in [
        (vec![], vec!["Accept-Encoding"]),
        (vec!["Origin"], vec!["Origin", "Accept-Encoding"]),
        (vec!["origin, accept-ENCODING"], vec![]),
        (vec!["*"], vec![]),
    ] {
        let mut response = HeaderMap::new();
        for line in &before {
            response.append(VARY, HeaderValue::from_static(line));
        }
        let original = response.clone();
        vary_by_encoding(&mut response);
        let again = response.clone();
        vary_by_encoding(&mut response);
        assert_eq!(response, again, "{before:?}");
        if after.is_empty() {
            assert_eq!(response, original);
            continue;
        }
        let lines: Vec<_> = response.get_all(VARY).iter().collect();
        assert_eq!(lines, after);
        unvary_by_encoding(&mut response);
        assert_eq!(response, original);
    }
}

#[test]
fn coded_content_has_fields_of_its_own() {
    let mut response = map(&[
        ("etag", "\"a\""),
        ("content-length", "100"),
        ("accept-ranges", "bytes"),
        ("last-modified", "x"),
    ]);
    code_fields(&mut response, Coding::Brotli, 7);
    let coded = map(&[
        ("etag", "W/\"a\""),
        ("content-length", "7"),
        ("content-encoding", "br"),
        ("last-modified", "x"),
    ]);
    assert_eq!(response, coded);
    code_fields(&mut response, Coding::Brotli, 7);
    assert_eq!(response, coded, "a weak tag stays as it is");
}

#[test]
fn media_types() {
    let types = MediaTypes::parse(["text/*", "application/*+JSON", "image/svg+xml"]).unwrap();
    for yes in [
        "text/html",
        "TEXT/css ; charset=x",
        "application/ld+json",
        "image/svg+xml",
    ] {
        assert!(types.contain(yes.as_bytes()), "{yes}");
    }
    for no in [
        "",
        "text",
        "application/json",
        "image/svg+xmlx",
        "ximage/svg+xml",
    ] {
        assert!(!types.contain(no.as_bytes()), "{no}");
    }
    for bad in ["text", "text/", "/x", "a/b/c", "a/**", "a/*b*", "a b/c", ""] {
        assert_eq!(MediaTypes::parse([bad]), Err(bad));
    }
}

/// A second, slower reading of the rules for fields that are well formed: the weight of
/// `coding` in thousandths, 0 when it is refused.
fn weight_of(members: &[(String, u16)], coding: &str) -> u16 {
    let same = |name: &str| name == coding || (coding == "gzip" && name == "x-gzip");
    let named = members.iter().filter(|(name, _)| same(name));
    let star = members.iter().filter(|(name, _)| name == "*");
    named
        .map(|(_, weight)| *weight)
        .min()
        .or(star.map(|(_, weight)| *weight).min())
        .unwrap_or(u16::from(coding == "identity"))
}

fn written(members: &[(String, u16)]) -> HeaderMap {
    let line = members
        .iter()
        .map(|(name, weight)| format!("{name};q={}.{:03}", weight / 1000, weight % 1000))
        .collect::<Vec<_>>()
        .join(", ");
    map(&[("accept-encoding", &line)])
}

fn members_strategy() -> impl Strategy<Value = Vec<(String, u16)>> {
    let name = "gzip|x-gzip|br|zstd|identity|deflate|dcz|other|\\*";
    proptest::collection::vec(
        (
            name,
            prop_oneof![Just(0), Just(500), Just(1000), 0..=1000u16],
        ),
        0..7,
    )
}

proptest! {
    #[test]
    fn what_is_chosen_is_acceptable_and_nothing_on_offer_is_liked_better(
        members in members_strategy(),
        offer in Just(Coding::ALL.to_vec()).prop_shuffle(),
        left_out in 0..4usize,
    ) {
        let offer = &offer[left_out.min(offer.len())..];
        let accepted = AcceptEncoding::parse(&written(&members)).unwrap();
        let of = |coding: Coding| weight_of(&members, coding.token());
        let best = offer.iter().map(|&coding| of(coding)).max().unwrap_or(0);
        match accepted.choose(offer.iter().copied()) {
            Some(coding) => {
                prop_assert!(of(coding) > 0);
                prop_assert!(of(coding) == best && best >= weight_of(&members, "identity"));
                let first = offer.iter().find(|&&other| of(other) == best);
                prop_assert_eq!(first, Some(&coding));
                prop_assert!(accepted.takes(coding.token().as_bytes()));
            }
            None => prop_assert!(best == 0 || best < weight_of(&members, "identity")),
        }
    }

    #[test]
    fn what_an_origin_is_asked_for_is_acceptable_to_the_client(members in members_strategy()) {
        let mut request = written(&members);
        let client = AcceptEncoding::parse(&request).unwrap();
        normalise_accept_encoding(&mut request);
        let asked = AcceptEncoding::parse(&request).unwrap();
        for coding in REGISTERED {
            let coding = coding.as_bytes();
            prop_assert!(!asked.takes(coding) || client.takes(coding));
        }
        prop_assert_eq!(asked.takes(b"identity"), client.takes(b"identity"));
    }

    #[test]
    fn any_bytes_are_read(value in proptest::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            let mut request = HeaderMap::new();
            request.insert(ACCEPT_ENCODING, value.clone());
            normalise_accept_encoding(&mut request);
            prop_assert!(!request[ACCEPT_ENCODING].is_empty());
            let mut response = HeaderMap::new();
            response.insert(CONTENT_ENCODING, value.clone());
            response.insert(CACHE_CONTROL, value);
            let _ = (content_codings(&response), may_be_coded(StatusCode::OK, &response));
        }
    }
}
