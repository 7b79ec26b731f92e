//! Each rule of admission, from both sides.

use super::*;
use crate::TokenError;

const ALL: [(&str, &str); 11] = [
    ("POST", "/v1/invalidate"),
    ("POST", "/v1/events"),
    ("GET", "/v1/policies"),
    ("PUT", "/v1/policies/charity"),
    ("POST", "/v1/policies/charity/rollback"),
    ("POST", "/v1/reload"),
    ("GET", "/v1/explain?url=http%3A%2F%2Fa%2F"),
    ("GET", "/v1/status"),
    ("GET", "/metrics"),
    ("GET", "/nowhere"),
    ("DELETE", "/metrics"),
];

fn with(method: &str, target: &str, name: &str, value: &str) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(target)
        .header(name, value)
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn with_a_token_everything_but_the_probes_asks_for_it() {
    let fake = Arc::new(Fake::new());
    for (method, target) in ALL {
        let answer = send(
            token(),
            &fake,
            local(method, target).body(Body::empty()).unwrap(),
        )
        .await;
        assert_eq!(answer.status, 401, "{method} {target}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"weir\"");
        assert!(answer.message().contains("Authorization: Bearer"));
    }
    assert!(fake.asked.lock().await.is_empty());
    for probe in ["/healthz", "/readyz"] {
        assert_eq!(send(token(), &fake, get(probe)).await.status, 200);
    }
}

#[tokio::test]
async fn only_the_exact_token_is_admitted() {
    let fake = Arc::new(Fake::new());
    for wrong in [
        "Bearer",
        "Bearer ",
        "Bearer s3cre",
        "Bearer s3crets",
        "Bearer S3CRET",
        "Basic s3cret",
        "s3cret",
        "Bearers3cret",
        "Bearer s3cret s3cret",
        "é",
    ] {
        let answer = send(
            token(),
            &fake,
            with("GET", "/v1/status", "authorization", wrong),
        )
        .await;
        assert_eq!(answer.status, 401, "{wrong}");
    }
    for right in ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret "] {
        let answer = send(
            token(),
            &fake,
            with("GET", "/v1/status", "authorization", right),
        )
        .await;
        assert_eq!(answer.status, 200, "{right}");
    }
    let twice = Request::builder()
        .uri("/v1/status")
        .header("authorization", "Bearer s3cret")
        .header("authorization", "Bearer other");
    let answer = send(token(), &fake, twice.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn with_a_token_any_host_may_be_named() {
    let request = Request::builder()
        .uri("/v1/status")
        .header("host", "weir.example.org")
        .header("authorization", "Bearer s3cret");
    let answer = send(
        token(),
        &Arc::new(Fake::new()),
        request.body(Body::empty()).unwrap(),
    )
    .await;
    assert_eq!(answer.status, 200);
}

#[test]
fn tokens_that_no_header_carries_are_refused() {
    assert_eq!(Auth::token(" \n").unwrap_err(), TokenError::Empty);
    assert_eq!(Auth::token("two words").unwrap_err(), TokenError::Character);
    assert_eq!(Auth::token("schlüssel").unwrap_err(), TokenError::Character);
    assert!(Auth::token("s3cret\n").is_ok());
}

#[test]
fn debug_output_hides_the_token() {
    assert!(!format!("{:?}", token()).contains(TOKEN));
}

#[tokio::test]
async fn without_a_token_the_host_must_be_loopback() {
    let fake = Arc::new(Fake::new());
    for good in [
        "127.0.0.1",
        "127.9.8.7:9900",
        "[::1]",
        "[::1]:9900",
        "localhost",
        "LocalHost:1",
    ] {
        let answer = ask(&fake, with("GET", "/v1/status", "host", good)).await;
        assert_eq!(answer.status, 200, "{good}");
    }
    for bad in [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "[::2]",
        "0.0.0.0",
        "",
        "evil@localhost",
        "127.1",
        "localhost/x",
        "localhost:8x",
        "127.0.0.1:+80",
        "[::1",
        "é",
    ] {
        for target in ["/v1/status", "/readyz", "/metrics", "/nowhere"] {
            let answer = ask(&fake, with("GET", target, "host", bad)).await;
            assert_eq!(answer.status, 403, "{bad} {target}");
        }
    }
}

#[tokio::test]
async fn one_host_field_is_needed_and_an_absolute_target_must_agree() {
    let fake = Arc::new(Fake::new());
    let none = Request::builder().uri("/v1/status").body(Body::empty());
    assert_eq!(ask(&fake, none.unwrap()).await.status, 403);
    let two = local("GET", "/v1/status").header("host", "localhost");
    assert_eq!(
        ask(&fake, two.body(Body::empty()).unwrap()).await.status,
        403
    );
    let absolute = get("http://evil.example/v1/status");
    assert_eq!(ask(&fake, absolute).await.status, 403);
    let agreed = get("http://127.0.0.1:9900/v1/status");
    assert_eq!(ask(&fake, agreed).await.status, 200);
}

#[tokio::test]
async fn what_a_page_can_send_without_preflight_is_refused() {
    let fake = Arc::new(Fake::new());
    for kind in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
    ] {
        for (method, target) in &ALL[..6] {
            if *method == "GET" {
                continue;
            }
            let mut request = local(method, target);
            if let Some(kind) = kind {
                request = request.header("content-type", kind);
            }
            let request = request.body(Body::from(r#"{"all":true}"#)).unwrap();
            let answer = ask(&fake, request).await;
            assert_eq!(answer.status, 415, "{method} {target} {kind:?}");
            assert!(answer.message().contains("Content-Type: application/"));
        }
    }
    let preflight = local("OPTIONS", "/v1/invalidate").header("origin", "http://evil.example");
    let answer = ask(&fake, preflight.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 405);
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
    assert!(fake.asked.lock().await.is_empty());
}

#[tokio::test]
async fn a_media_type_may_have_parameters_but_not_a_rival() {
    let fake = Arc::new(Fake::new());
    let request = |kind| local("POST", "/v1/reload").header("content-type", kind);
    let good = request("Application/JSON ; charset=utf-8").body(Body::empty());
    assert_eq!(ask(&fake, good.unwrap()).await.status, 200);
    let two = request("application/json").header("content-type", "text/plain");
    let answer = ask(&fake, two.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 415);
}

#[tokio::test]
async fn answers_are_not_cached_or_sniffed() {
    let fake = Arc::new(Fake::new());
    for request in [get("/v1/status"), with("GET", "/", "host", "evil.example")] {
        let answer = ask(&fake, request).await;
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    }
}
