//! What the hooks of a well-behaved policy give, through a real component.

mod support;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use support::{GUEST, load, request};
use weir_policy::{
    CallErrorKind, Decision, DoNotStore, Hook, Input, Lifetime, Part, Record, RequestHead,
    ResponseInfo, Target,
};

fn text(text: &str) -> Part {
    Part::Text(text.to_owned())
}

fn response() -> ResponseInfo {
    let mut headers = HeaderMap::new();
    headers.append("x-tag", HeaderValue::from_static("a"));
    headers.append("x-tag", HeaderValue::from_static("b"));
    ResponseInfo {
        status: StatusCode::OK,
        headers: Arc::new(headers),
        note: "from the request".into(),
        suggested_lifetime: Some(Duration::from_secs(7)),
        refusal: None,
    }
}

#[tokio::test]
async fn a_lookup_carries_everything_that_the_guest_said() {
    let (policy, _) = load(&GUEST, |_| ()).await;
    let (decision, reads) = policy
        .on_request(&request("/everything", &[]), 0, Record::No)
        .await
        .unwrap();
    let Decision::Lookup(lookup) = decision else {
        panic!("{decision:?}");
    };
    assert_eq!(lookup.namespace, "user");
    assert_eq!(lookup.key[0], text("profile"));
    assert_eq!(lookup.key[1], Part::Input(Input::Param("id".into())));
    let shown: Vec<_> = lookup.key[2..]
        .iter()
        .map(|part| match part {
            Part::Input(input) => input.to_string(),
            Part::Text(text) => text.clone(),
        })
        .collect();
    assert_eq!(shown, ["query without utm_*", "language of en de"]);
    assert_eq!(
        lookup.tags,
        [vec![text("user-"), Part::Input(Input::Param("id".into()))]]
    );
    assert_eq!(lookup.note, "note");
    assert_eq!(
        lookup.origin_target,
        Some(vec![text("/v2"), Part::Input(Input::Path)])
    );
    assert_eq!(lookup.origin_headers[0].0, "x-lang");
    assert_eq!(
        lookup.origin_headers[0].1,
        Some(vec![Part::Input(Input::Device)])
    );
    assert_eq!(lookup.origin_headers[1], ("cookie".parse().unwrap(), None));
    assert!(reads.list.is_empty(), "nothing was to be recorded");
}

#[tokio::test]
async fn a_prepared_lookup_serves_later_calls_and_no_change_of_one_reaches_another() {
    let (policy, _) = load(&GUEST, |_| ()).await;
    let lookup = async |path: &'static str| {
        let request = request(path, &[]);
        match policy.on_request(&request, 0, Record::No).await.unwrap().0 {
            Decision::Lookup(lookup) => lookup,
            other => panic!("{path}: {other:?}"),
        }
    };
    let made = lookup("/prepare").await;
    assert_eq!(made.note, "after it was prepared");
    let first = lookup("/prepared").await;
    assert_eq!(first.key, [Part::Input(Input::Path)]);
    assert_eq!(first.tags, [vec![text("prepared")]]);
    assert!(first.note.is_empty(), "{first:?}");
    let shape = *first.shape().digest();
    assert_ne!(&shape, made.shape().digest());

    let more = lookup("/prepared-and-more").await;
    assert_eq!(more.tags[0], [text("prepared")]);
    assert_eq!(more.tags[1], [text("more"), Part::Input(Input::Device)]);
    assert_ne!(
        &shape,
        more.shape().digest(),
        "a shape of before the change"
    );
    let again = lookup("/prepared").await;
    assert!(Arc::ptr_eq(&first, &again), "{again:?}");
}

#[tokio::test]
async fn an_instance_prepares_so_many_lookups_and_goes_on() {
    let (policy, _) = load(&GUEST, |_| ()).await;
    let pass = async |path: &'static str| {
        let request = request(path, &[]);
        match policy.on_request(&request, 0, Record::No).await.unwrap().0 {
            Decision::Pass(pass) => pass.reason,
            other => panic!("{path}: {other:?}"),
        }
    };
    assert_eq!(pass("/prepare-all").await, "64");
    assert_eq!(pass("/prepare-all").await, "0");
    pass("/let-go-of-prepared").await;
    assert_eq!(pass("/prepare-all").await, "64");
}

#[tokio::test]
async fn copies_of_a_large_prepared_lookup_are_bounded_in_a_call() {
    let (policy, _) = load(&GUEST, |_| ()).await;
    let request = request("/change-copies", &[]);
    let error = policy.on_request(&request, 0, Record::No).await;
    let error = error.expect_err("128 MB of copies");
    assert_eq!(error.kind, CallErrorKind::BadOutput, "{error}");
    assert!(error.to_string().contains("prepared lookups"), "{error}");
}

#[tokio::test]
async fn a_named_digest_is_not_read() {
    let (policy, _) = load(&GUEST, |_| ()).await;
    let request = request("/content", &[]);
    let (decision, reads) = policy.on_request(&request, 0, Record::Yes).await.unwrap();
    let Decision::Lookup(lookup) = decision else {
        panic!("{decision:?}");
    };
    assert!(lookup.keys_content());
    assert_eq!(lookup.key, [Part::Input(Input::BodyDigest)]);
    // The guest finds its way by the path; whatever the content, the decision is the same.
    let read: Vec<_> = reads
        .list
        .iter()
        .map(|read| read.input.to_string())
        .collect();
    assert_eq!(read, ["path"]);
}

#[tokio::test]
async fn pass_and_respond() {
    let (policy, _) = load(&GUEST, |_| ()).await;
    let call = |path: &'static str| {
        let policy = policy.clone();
        async move {
            let request = request(path, &[]);
            policy.on_request(&request, 0, Record::No).await.unwrap().0
        }
    };
    let Decision::Pass(pass) = call("/pass").await else {
        panic!("no pass");
    };
    assert_eq!(pass.reason, "not mine");
    let Decision::Respond(reply) = call("/reply").await else {
        panic!("no reply");
    };
    assert_eq!(reply.status, 403);
    assert_eq!(reply.headers.get_all("x-two").iter().count(), 2);
    assert_eq!(reply.headers["content-type"], "text/plain");
    assert_eq!(reply.body, "no");
    let Decision::Respond(reply) = call("/config").await else {
        panic!("no reply");
    };
    assert_eq!(reply.body, r#"{"default_ttl":"5m"}"#);
}

#[tokio::test]
async fn every_read_gives_and_records_the_same() {
    let (policy, _) = load(&GUEST, |_| ()).await;
    let request = request(
        "/all-reads?q=a%20b&q=2&z",
        &[
            ("x-plan", "gold"),
            ("cookie", "s=7"),
            ("accept-language", "de"),
            ("user-agent", "curl/8 (Mobile)"),
        ],
    );
    let (decision, reads) = policy.on_request(&request, 0, Record::Yes).await.unwrap();
    let Decision::Lookup(lookup) = decision else {
        panic!("{decision:?}");
    };
    let seen: Vec<_> = lookup
        .key
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Input(input) => panic!("{input}"),
        })
        .collect();
    assert_eq!(
        seen,
        [
            "GET",
            "https",
            "api.example.org",
            "q=a%20b&q=2&z",
            "a b,2",
            "q,z",
            "gold",
            "x-plan,cookie,accept-language,user-agent",
            "7",
            "42",
            "192.0.2.7",
            "true",
            "Some(1)",
            "de",
            "DeviceClass::Mobile",
        ]
    );
    let recorded: Vec<_> = reads.list.iter().map(|r| r.input.to_string()).collect();
    assert_eq!(
        recorded,
        [
            "path",
            "method",
            "scheme",
            "host",
            "query-string",
            "query q",
            "query-names",
            "header x-plan",
            "header-names",
            "cookie s",
            "param id",
            "client",
            "path matches /all-*",
            "header x-plan one of free gold",
            "language of en de",
            "device",
        ]
    );
    assert!(!reads.impure);
    for read in &reads.list {
        assert_eq!(read.answer, read.input.answer(&request), "{}", read.input);
    }
}

#[tokio::test]
async fn on_response_sees_the_response_and_adjusts() {
    let (policy, _) = load(&GUEST, |_| ()).await;
    let seen = policy
        .on_response(&request("/echo", &[]), response(), 0)
        .await
        .unwrap();
    assert_eq!(
        seen.tags,
        ["200|a,b|x-tag|from the request|Some(7000)|None"]
    );
    let mut refused = response();
    refused.suggested_lifetime = None;
    refused.refusal = Some(Cow::Borrowed("no-store"));
    let seen = policy
        .on_response(&request("/echo", &[]), refused, 0)
        .await
        .unwrap();
    assert!(seen.tags[0].ends_with("|None|Some(\"no-store\")"));

    let all = policy
        .on_response(&request("/adjust", &[]), response(), 0)
        .await
        .unwrap();
    let seconds = |s| Some(Duration::from_secs(s));
    assert_eq!(all.lifetime, Some(Lifetime::For(Duration::from_secs(60))));
    assert_eq!(all.stale_while_revalidate, seconds(1));
    assert_eq!(all.stale_if_error, seconds(2));
    assert_eq!(all.memory_lifetime, seconds(3));
    assert_eq!(all.shared, Some(false));
    assert_eq!(all.tags, ["user-42"]);
    assert!(all.write_through && all.store.is_none());
    let [key, url] = all.invalidate.as_slice() else {
        panic!("{:?}", all.invalidate);
    };
    assert_eq!(
        key.target,
        Target::Key {
            namespace: "user".to_owned(),
            parts: vec![text("profile"), Part::Input(Input::Param("id".into()))],
        }
    );
    assert_eq!(key.host.as_deref(), Some("api.example.org"));
    assert!(key.soft && !url.soft);
    assert_eq!(url.target, Target::Url("/users/42".to_owned()));

    let none = policy
        .on_response(&request("/nothing", &[]), response(), 0)
        .await
        .unwrap();
    assert_eq!(none, weir_policy::Adjustment::default(), "left over");
    let expiry = policy
        .on_response(&request("/expire", &[]), response(), 0)
        .await
        .unwrap();
    assert_eq!(expiry.lifetime, Some(Lifetime::Until(1_900_000_000)));
    let not = policy
        .on_response(&request("/do-not-store", &[]), response(), 0)
        .await
        .unwrap();
    assert_eq!(not.store, Some(DoNotStore(Duration::from_secs(5))));
}

#[tokio::test]
async fn on_event_gives_selectors() {
    let (policy, _) = load(&GUEST, |_| ()).await;
    let selectors = policy.on_event("user.updated", "42", 0).await.unwrap();
    let targets: Vec<_> = selectors.into_iter().map(|s| s.target).collect();
    assert_eq!(
        targets,
        [
            Target::Key {
                namespace: "user".to_owned(),
                parts: vec![text("profile"), text("42")],
            },
            Target::Tag("user-42".to_owned()),
            Target::Namespace("help".to_owned()),
            Target::Prefix {
                namespace: "user".to_owned(),
                prefix: "profile:".to_owned(),
            },
            Target::All,
        ]
    );
    assert!(policy.on_event("else", "null", 0).await.unwrap().is_empty());
    for (kind, expected) in [
        ("input", CallErrorKind::BadOutput),
        ("url", CallErrorKind::BadOutput),
        ("namespace", CallErrorKind::Namespace),
    ] {
        let error = policy.on_event(kind, "null", 0).await.unwrap_err();
        assert_eq!(error.kind, expected, "{error}");
        assert_eq!(error.hook, Hook::OnEvent);
    }
}

#[tokio::test]
async fn on_response_fails_like_on_request() {
    let (policy, _) = load(&GUEST, |_| ()).await;
    for (path, kind) in [
        ("/error", CallErrorKind::Refused),
        ("/trap", CallErrorKind::Trap),
        ("/empty-tag", CallErrorKind::BadOutput),
    ] {
        let error = policy
            .on_response(&request(path, &[]), response(), 0)
            .await
            .unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        let stats = policy.stats().hook(Hook::OnResponse);
        assert_eq!(stats.errors(kind), 1);
    }
    assert_eq!(policy.stats().hook(Hook::OnResponse).calls(), 3);
    assert!(policy.stats().hook(Hook::OnResponse).total_time() > Duration::ZERO);
}

#[tokio::test]
async fn in_quarantine_what_is_known_is_given_and_changes_are_judged() {
    use CallErrorKind::{Quarantined, Trap};
    let (policy, _) = load(&GUEST, |_| ()).await;
    let known = request("/pure", &[]);
    for _ in 0..2 {
        policy.decide(&known, 0).await.unwrap();
    }
    policy.admit(0);
    let decide = async |request| policy.decide(request, 0).await.err().map(|e| e.kind);
    assert_eq!(decide(&known).await, None, "as a sample is taken");
    assert_eq!(decide(&request("/else", &[])).await, Some(Quarantined));

    let judge = async |method, path| {
        let mut head = RequestHead::clone(&request(path, &[]));
        head.method = method;
        let judged = policy.on_response(&Arc::new(head), response(), 0).await;
        judged.err().map(|error| error.kind)
    };
    for _ in 0..4 {
        assert_eq!(judge(Method::POST, "/trap").await, Some(Trap));
    }
    assert_eq!(judge(Method::GET, "/nothing").await, None, "of no concern");
    for _ in 0..3 {
        assert_eq!(judge(Method::GET, "/trap").await, Some(Trap));
    }
    assert_eq!(judge(Method::GET, "/nothing").await, Some(Quarantined));
    assert_eq!(judge(Method::POST, "/nothing").await, None);
    assert_eq!(
        judge(Method::GET, "/nothing").await,
        Some(Quarantined),
        "a change that went well says nothing of it"
    );
}
