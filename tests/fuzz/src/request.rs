//! A request's head: its host, its route, what policies read of it, and its key.

use std::sync::{Arc, LazyLock};

use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, MAX_FORWARDS, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use weir_policy::{Globs, Input, Part, ReadInput, RequestHead, Scheme, Values, percent_decode};
use weir_proxy::{Router, fuzzing};
use weir_semantics::{
    AcceptEncoding, Coding, MediaTypes, VaryRule, normalise_accept_encoding, unvary_by_encoding,
    vary_by_encoding,
};
use weir_store::Key;

use crate::semantics::fields;

const SCHEMES: [Scheme; 2] = [Scheme::Http, Scheme::Https];

/// Two requests, each a line with method and target (and `2` for HTTP/2), then fields and
/// an empty line.
pub fn request(data: &[u8]) {
    let mut lines = data.split(|&byte| byte == b'\n').peekable();
    let (one, other) = (parts(&mut lines), parts(&mut lines));
    for parts in [&one, &other].into_iter().flatten() {
        codings(&parts.headers);
    }
    for scheme in SCHEMES {
        let head = |parts: &Option<http::request::Parts>| {
            let head = fuzzing::head(parts.clone()?, scheme).ok()?;
            check(&head);
            Some(head)
        };
        if let (Some(one), Some(other)) = (head(&one), head(&other)) {
            tell_apart(&one, &other);
        }
    }
}

fn parts<'a>(lines: &mut impl Iterator<Item = &'a [u8]>) -> Option<http::request::Parts> {
    let mut words = lines.next()?.splitn(3, |&byte| byte == b' ');
    let mut request = Request::builder()
        .method(words.next()?)
        .uri(words.next()?)
        .body(())
        .ok()?;
    if words.next() == Some(b"2") {
        *request.version_mut() = Version::HTTP_2;
    }
    *request.headers_mut() = fields(lines);
    Some(request.into_parts().0)
}

static ROUTER: LazyLock<Router<&'static str>> = LazyLock::new(|| {
    let mut router = Router::default();
    for (host, path) in [
        (None, "/{*rest}"),
        (None, "/users/{id}"),
        (None, "/users/{id}/posts/{post}"),
        (Some("a.test"), "/users/me"),
        (Some("a.test"), "/files/{*rest}"),
    ] {
        router
            .insert(host, path, &Arc::new(path))
            .expect("a pattern");
    }
    router.finish().expect("a router");
    router
});

static GLOBS: LazyLock<Globs> =
    LazyLock::new(|| Globs::compile(&["utm_*", "a?", "[b-d]**"]).expect("globs"));

static NONE: LazyLock<Globs> = LazyLock::new(|| Globs::compile::<&str>(&[]).expect("globs"));

static LANGUAGES: LazyLock<Arc<[String]>> =
    LazyLock::new(|| ["en", "de", "zh-Hant-CN"].map(str::to_owned).into());

static PARTS: LazyLock<Vec<Part>> = LazyLock::new(|| {
    let inputs = [
        Input::Method,
        Input::Path,
        Input::QueryParam("a".into()),
        Input::Query {
            without: GLOBS.clone(),
        },
        Input::QueryOnly(GLOBS.clone()),
        Input::Header(HeaderName::from_static("x-a")),
        Input::Cookie("a".into()),
        Input::Language(Arc::clone(&LANGUAGES)),
        Input::Device,
    ];
    inputs.into_iter().map(Part::Input).collect()
});

/// What holds of every head that is not refused.
fn check(head: &RequestHead) {
    let scheme = head.scheme;
    let again = fuzzing::host(&head.host, scheme).expect("a normal host is a host");
    assert_eq!(again, head.host, "the normal form has another");
    let strange = |byte: u8| byte.is_ascii_uppercase() || b"@/\\ |".contains(&byte);
    assert!(!head.host.bytes().any(strange), "{:?}", head.host);

    let name_end = head.host.rfind(']').unwrap_or(0);
    if let Some((_, port)) = head.host[name_end..].split_once(':') {
        let number = port.parse::<u16>().expect("a port is a number");
        assert_eq!(number.to_string(), port, "a port in two forms");
    }

    let key = fuzzing::plain_key(head).expect("every request has a key");
    let back = Key::parse(key.as_str()).expect("a key reads back");
    assert_eq!(back, key);
    assert_eq!(back.name(), key.name());
    let origin = format!("{}://{}", scheme.as_str(), head.host);
    assert_eq!(back.origin(), Some(&*origin));
    assert!(head.target.as_str().starts_with('/'), "{}", head.target);
    if let (Some(purged), carried) = fuzzing::url_tags(head) {
        assert_eq!(purged, carried, "a purge of its URL would miss it");
    }

    routed(head);
    reads(head);
    for value in head.query_param("a") {
        let text = format!("/{}", String::from_utf8_lossy(&value));
        let target = fuzzing::origin_target(&text).expect("whatever begins with a slash");
        assert!(target.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
        let bytes = percent_decode(target.as_str()).into_owned();
        let text = match text.split_once('?') {
            Some((path, "")) => path,
            _ => &text,
        };
        assert_eq!(bytes, *percent_decode(text), "the origin gets another");
    }
    let mut headers = head.headers.clone();
    let before = headers.get(MAX_FORWARDS).cloned();
    fuzzing::count_down(&Method::OPTIONS, &mut headers);
    if let (Some(before), Some(after)) = (before, headers.get(MAX_FORWARDS)) {
        assert!(after.len() <= before.len(), "it grew");
    }
}

fn routed(head: &RequestHead) {
    let Some(matched) = ROUTER.find(&head.host, head.path()) else {
        panic!(
            "a path that the catch-all does not catch: {:?}",
            head.path()
        );
    };
    // The pattern with its parameters filled in is the path.
    let mut filled = (**matched.route).to_owned();
    for (name, value) in matched.params.iter() {
        let decoded = percent_decode(value);
        assert!(decoded.len() <= value.len());
        assert!(value.contains('%') || *decoded == *value.as_bytes());
        let holes = [format!("{{{name}}}"), format!("{{*{name}}}")];
        let hole = holes.iter().find(|hole| filled.contains(&***hole));
        let hole = hole.expect("a parameter of the pattern");
        // The last one: a value before it may look like it.
        let (before, after) = filled.rsplit_once(&**hole).unwrap_or_default();
        filled = format!("{before}{value}{after}");
    }
    // A catch-all matches its folder too, without a parameter.
    if matched.params.is_empty() {
        filled = filled.replace("{*rest}", "");
    }
    if matched.params.len() <= 1 {
        assert_eq!(filled, head.path());
    }
}

fn reads(head: &RequestHead) {
    let language = head.language(&LANGUAGES);
    assert!(LANGUAGES.iter().any(|known| known == language));
    assert!(head.cookie("a").all(|value| !value.contains(&b';')));
    for input in [
        ReadInput::QueryNames,
        ReadInput::Query("a".into()),
        ReadInput::HeaderNames,
        ReadInput::HeaderOneOf("x-a".into(), ["b".into(), "c".into()].into()),
        ReadInput::PathMatches(GLOBS.clone()),
        ReadInput::Device,
    ] {
        assert!(input.answer(head).to_string().is_ascii());
    }
    // A query is split in two by a filter and its opposite, and both are sorted.
    let query = |input: Input| match input.values(head) {
        Values::One(text) => String::from_utf8(text.into_owned()).expect("text"),
        Values::Absent => String::new(),
        Values::Many(_) => panic!("two queries"),
    };
    let without = query(Input::Query {
        without: GLOBS.clone(),
    });
    let only = query(Input::QueryOnly(GLOBS.clone()));
    let all = head.query().unwrap_or_default();
    assert_eq!(
        sorted(&without).len() + sorted(&only).len(),
        sorted(all).len()
    );
    let mut both = [sorted(&without), sorted(&only)].concat();
    both.sort_unstable();
    assert_eq!(both, sorted(all));
    for text in [without, only] {
        let mut again = head.clone();
        again.target = format!("/?{text}").parse().expect("a query is one again");
        let twice = Input::Query {
            without: NONE.clone(),
        };
        assert_eq!(
            twice.values(&again),
            Values::One(text.as_bytes().into()),
            "sorting again changes it"
        );
    }
}

fn sorted(query: &str) -> Vec<&str> {
    let mut segments: Vec<&str> = query.split('&').filter(|text| !text.is_empty()).collect();
    segments.sort_unstable();
    segments
}

/// Keys are the same where, and only where, all that they name is the same.
fn tell_apart(one: &RequestHead, other: &RequestHead) {
    let same_host = one.host == other.host;
    // As texts: an empty `PathAndQuery` is none that equals `/`, and the same target.
    let same = same_host && one.target.as_str() == other.target.as_str();
    let keys = [one, other].map(fuzzing::plain_key);
    assert_eq!(keys[0] == keys[1], same, "{keys:?}");

    let same = same_host
        && PARTS.iter().all(|part| match part {
            Part::Input(input) => input.values(one) == input.values(other),
            Part::Text(_) => true,
        });
    let keys = [one, other].map(|head| fuzzing::policy_key(head, "user", &PARTS));
    let keys = keys.map(|key| key.expect("every request has a key"));
    assert_eq!(keys[0] == keys[1], same, "{keys:?}");
    for key in keys {
        assert_eq!(Key::parse(key.as_str()), Ok(key));
    }
}

static TEXTS: LazyLock<MediaTypes> = LazyLock::new(|| {
    MediaTypes::parse(["text/*", "application/json", "application/*+json"]).expect("types")
});

fn codings(headers: &HeaderMap) {
    // What the origin is asked for selects what the client's own field selects.
    let mut vary = HeaderMap::new();
    vary.insert(VARY, HeaderValue::from_static("accept-encoding"));
    let rule = VaryRule::parse(&vary);
    let mut normal = headers.clone();
    normalise_accept_encoding(&mut normal);
    assert_eq!(rule.select(headers), rule.select(&normal));
    let once = normal.clone();
    normalise_accept_encoding(&mut normal);
    assert_eq!(once, normal, "the normal form has another");

    if let Some(accepted) = AcceptEncoding::parse(headers)
        && let Some(coding) = accepted.choose(Coding::ALL)
    {
        let named = headers.get_all(ACCEPT_ENCODING).iter().any(|line| {
            let line = line.as_bytes().to_ascii_lowercase();
            let token = coding.token().as_bytes();
            line.contains(&b'*') || line.windows(token.len()).any(|text| text == token)
        });
        assert!(named, "{coding:?} was not asked for");
    }
    let names_it = |line: &HeaderValue| {
        let line = line.as_bytes().to_ascii_lowercase();
        line.windows(15).any(|text| text == b"accept-encoding")
    };
    if !headers.get_all(VARY).iter().any(names_it) {
        let mut varied = headers.clone();
        vary_by_encoding(&mut varied);
        unvary_by_encoding(&mut varied);
        assert_eq!(&varied, headers, "what was added is not taken back");
    }
    if let Some(kind) = headers.get(CONTENT_TYPE) {
        let essence = kind.as_bytes().split(|&byte| byte == b';').next();
        let essence = essence.unwrap_or_default();
        assert_eq!(TEXTS.contain(kind.as_bytes()), TEXTS.contain(essence));
    }
}
