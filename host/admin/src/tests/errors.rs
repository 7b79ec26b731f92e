//! Each form of error: its status, its field, and that it says what to do.

use super::*;
use crate::{MAX_COMPONENT, MAX_JSON, MAX_SELECTORS};

async fn refused(target: &str, body: &str) -> (Option<String>, String) {
    let fake = Arc::new(Fake::new());
    let answer = ask(&fake, local_json("POST", target, body.to_owned())).await;
    assert_eq!(answer.status, 400, "{body}");
    assert!(fake.asked.lock().await.is_empty());
    (answer.field(), answer.message())
}

async fn invalidate(body: &str) -> (Option<String>, String) {
    refused("/v1/invalidate", body).await
}

#[tokio::test]
async fn unknown_fields_are_named_with_the_nearest_known_one() {
    let (field, message) = invalidate(r#"{"tag":["a"]}"#).await;
    assert_eq!(field.as_deref(), Some("tag"));
    assert_eq!(message, "unknown field `tag`; did you mean `tags`?");
    let (field, message) = invalidate(r#"{"tags":["a"],"zzz":1}"#).await;
    assert_eq!(field.as_deref(), Some("zzz"));
    assert!(
        message.contains("the known ones are `urls`, `keys`"),
        "{message}"
    );
    let (_, message) = refused("/v1/events", r#"{"typ":"a"}"#).await;
    assert_eq!(message, "unknown field `typ`; did you mean `type`?");
    let (field, message) = refused("/v1/reload", r#"{"force":true}"#).await;
    assert_eq!(field.as_deref(), Some("force"));
    assert!(message.contains("takes none"));
}

#[tokio::test]
async fn wrong_types_name_the_exact_place_and_an_example() {
    for (body, place, example) in [
        (
            r#"{"tags":"user-42"}"#,
            "tags",
            r#"write "tags": ["user-42"]"#,
        ),
        (
            r#"{"tags":["a",7]}"#,
            "tags[1]",
            r#"write "tags": ["user-42"]"#,
        ),
        (r#"{"all":"yes"}"#, "all", r#"write "all": true"#),
        (
            r#"{"all":true,"host":[]}"#,
            "host",
            r#"write "host": "example.org""#,
        ),
        (
            r#"{"all":true,"soft":null}"#,
            "soft",
            r#"write "soft": true"#,
        ),
    ] {
        let (field, message) = invalidate(body).await;
        assert_eq!(field.as_deref(), Some(place), "{body}");
        assert!(
            message.starts_with(&format!("`{place}`: invalid type: ")),
            "{message}"
        );
        assert!(message.contains(example), "{message}");
    }
    let (field, _) = refused("/v1/events", r#"{"type":7}"#).await;
    assert_eq!(field.as_deref(), Some("type"));
}

#[tokio::test]
async fn missing_and_empty_fields_are_named() {
    let (field, message) = refused("/v1/events", r#"{"data":{}}"#).await;
    assert_eq!(field.as_deref(), Some("type"));
    assert_eq!(
        message,
        r#"`type` is missing; write "type": "user.updated""#
    );
    let (field, _) = refused("/v1/events", r#"{"type":""}"#).await;
    assert_eq!(field.as_deref(), Some("type"));
    let (field, message) = invalidate(r#"{"prefixes":["a",""]}"#).await;
    assert_eq!(field.as_deref(), Some("prefixes[1]"));
    assert!(message.contains("\"all\": true"), "{message}");
}

#[tokio::test]
async fn what_is_not_a_json_object_is_refused() {
    for (body, part) in [
        ("", "must be a JSON object"),
        ("[[],[],[\"a\"]]", "must be a JSON object"),
        ("null", "must be a JSON object"),
        (
            "{\"tags\": [\"a\"}",
            "not JSON: expected `,` or `]` at line 1 column 14",
        ),
        ("{\"all\":true} x", "not JSON: trailing characters"),
        ("{\"all\":true", "not JSON: EOF"),
        ("{\"all\":true,\"all\":false}", "duplicate field `all`"),
    ] {
        let (_, message) = invalidate(body).await;
        assert!(message.contains(part), "{body}: {message}");
    }
}

#[tokio::test]
async fn an_invalidation_that_names_nothing_is_refused() {
    for body in [
        "{}",
        r#"{"host":"example.org"}"#,
        r#"{"tags":[],"soft":true}"#,
    ] {
        let (_, message) = invalidate(body).await;
        assert!(message.starts_with("nothing to invalidate"), "{message}");
    }
}

#[tokio::test]
async fn urls_and_hosts_must_be_whole() {
    for url in [
        "/a",
        "example.org/a",
        "ftp://example.org/",
        "http://",
        "http://u@h/",
        "http://a b/",
    ] {
        let (field, _) = invalidate(&json!({"urls": ["http://a/", url]}).to_string()).await;
        assert_eq!(field.as_deref(), Some("urls[1]"), "{url}");
    }
    for host in [
        "", "http://a", "a/b", "u@a", "a@a", ":80", "a b", "a:8x", "a:+80",
    ] {
        let (field, _) = invalidate(&json!({"all": true, "host": host}).to_string()).await;
        assert_eq!(field.as_deref(), Some("host"), "{host}");
    }
}

#[tokio::test]
async fn the_number_of_selectors_is_bounded() {
    let tags = vec!["a"; MAX_SELECTORS];
    let fake = Arc::new(Fake::new());
    let body = json!({"tags": tags}).to_string();
    let answer = ask(&fake, local_json("POST", "/v1/invalidate", body)).await;
    assert_eq!(answer.status, 200);
    let (_, message) = invalidate(&json!({"tags": tags, "all": true}).to_string()).await;
    assert!(message.starts_with("1001 selectors"), "{message}");
}

#[tokio::test]
async fn bodies_are_bounded_whether_declared_or_not() {
    let fake = Arc::new(Fake::new());
    let large = vec![b' '; MAX_JSON + 1];
    let answer = ask(&fake, local_json("POST", "/v1/invalidate", large)).await;
    assert_eq!(answer.status, 413);
    assert!(answer.message().contains("1048576 bytes"));
    let declared = local("PUT", "/v1/policies/charity")
        .header("content-type", "application/wasm")
        .header("content-length", MAX_COMPONENT + 1)
        .body(Body::from("short"))
        .unwrap();
    assert_eq!(ask(&fake, declared).await.status, 413);
    assert!(fake.asked.lock().await.is_empty());
}

#[tokio::test]
async fn unknown_paths_and_methods_answer_json() {
    let fake = Arc::new(Fake::new());
    for path in [
        "/",
        "/v1",
        "/v1/policies/charity/shadows",
        "/v1/status/",
        "/v2/status",
    ] {
        let answer = ask(&fake, get(path)).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.message(), format!("there is nothing at {path}"));
    }
    for (method, path, allow) in [
        ("GET", "/v1/invalidate", "POST"),
        ("POST", "/v1/status", "GET,HEAD"),
        ("GET", "/v1/policies/charity", "PUT"),
    ] {
        let request = local(method, path).body(Body::empty()).unwrap();
        let answer = ask(&fake, request).await;
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(answer.headers["allow"], allow);
        assert!(
            answer
                .message()
                .contains(&format!("does not take {method}"))
        );
    }
}

#[tokio::test]
async fn a_node_s_refusal_keeps_its_kind_and_text() {
    let bad = ControlErrorKind::BadRequest {
        field: Some("namespaces[0]".into()),
    };
    for (kind, status) in [
        (bad, 400),
        (ControlErrorKind::NotFound, 404),
        (ControlErrorKind::Conflict, 409),
        (ControlErrorKind::Unavailable, 503),
        (ControlErrorKind::Internal, 500),
    ] {
        let mut fake = Fake::new();
        fake.fail = Some(error(kind));
        let fake = Arc::new(fake);
        for (target, body) in [
            ("/v1/invalidate", r#"{"all":true}"#),
            ("/v1/events", r#"{"type":"a"}"#),
            ("/v1/policies/a/rollback", ""),
            ("/v1/reload", "{}"),
        ] {
            let answer = ask(&fake, local_json("POST", target, body)).await;
            assert_eq!(answer.status, status, "{target}");
            assert_eq!(answer.message(), "said so");
            let field = (status == 400).then(|| "namespaces[0]".to_owned());
            assert_eq!(answer.field(), field);
        }
    }
}

#[tokio::test]
async fn questions_for_an_explanation_are_checked() {
    let fake = Arc::new(Fake::new());
    for (query, field) in [
        ("", "url"),
        ("url=%2Fa", "url"),
        ("url=http%3A%2F%2Fa%2F&url=http%3A%2F%2Fb%2F", "url"),
        ("url=http%3A%2F%2Fa%2F&method=a+b", "method"),
        ("url=http%3A%2F%2Fa%2F&header=novalue", "header"),
        ("url=http%3A%2F%2Fa%2F&header=a+b%3Ac", "header"),
        ("url=http%3A%2F%2Fa%2F&header=Host%3Ab", "header"),
        ("url=http%3A%2F%2Fa%2F&headers=a%3Ab", "headers"),
    ] {
        let answer = ask(&fake, get(&format!("/v1/explain?{query}"))).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.field().as_deref(), Some(field), "{query}");
    }
    let answer = ask(
        &fake,
        get("/v1/explain?url=http%3A%2F%2Fa%2F&headers=a%3Ab"),
    )
    .await;
    assert!(answer.message().contains("did you mean `header`?"));
}
