//! What the policy keeps in `kv`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use weir_sdk::testing::{kv_ttl, set_now};

use super::*;

const NOW: Duration = Duration::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(24 * 3_600);

fn jwt(id: &str, user: &str, expiry: u64) -> String {
    signed(id, user, expiry, "c2ln")
}

fn signed(id: &str, user: &str, expiry: u64, signature: &str) -> String {
    let claims = json!({"jti": id, "sub": user, "exp": expiry}).to_string();
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{signature}", encode("{}"), encode(&claims))
}

/// Expires in an hour.
fn hour(id: &str, user: &str) -> String {
    jwt(id, user, NOW.as_secs() + 3_600)
}

/// The origin answers `request` with a new token.
fn issue(request: &TestRequest, token: &str) {
    set_now(NOW);
    respond(
        "{}",
        request,
        json(200).with_header("x-session-token", token),
    );
}

fn login(token: &str) {
    issue(&TestRequest::new("POST", "/login"), token);
}

fn event(kind: &str, data: &serde_json::Value) -> Result<Vec<Selector>, String> {
    policy("{}").on_event(&Event::new(kind, data.to_string()))
}

fn session(id: &str) -> TestRequest {
    TestRequest::get(&format!("/sessions/{id}"))
}

/// The status of an answer at the edge; `None` when there is none.
fn status(request: &TestRequest) -> Option<u16> {
    match decide(request) {
        Decision::Respond(reply) => Some(reply.status()),
        _ => None,
    }
}

fn notifications(user: &str, token: &str) -> TestRequest {
    TestRequest::get(&format!("/users/{user}/notifications"))
        .with_header("authorization", format!("Bearer {token}"))
}

fn body(request: &TestRequest) -> serde_json::Value {
    match decide(request) {
        Decision::Respond(reply) => serde_json::from_slice(reply.body_bytes()).expect("JSON"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_issued_token_is_kept_until_it_expires_and_no_longer_than_kv_keeps_anything() {
    set_kv(true);
    login(&hour("one", "42"));
    assert_eq!(kv_ttl("session", "refresh:one"), secs(3_600));
    login(&jwt("long", "42", NOW.as_secs() + 90 * 24 * 3_600));
    assert_eq!(kv_ttl("session", "refresh:long"), Some(DAY * 30));
    login(&jwt("over", "42", NOW.as_secs()));
    assert_eq!(kv_ttl("session", "refresh:over"), None);
    let refused = json(401).with_header("x-session-token", hour("no", "42"));
    respond("{}", &TestRequest::new("POST", "/login"), refused);
    assert_eq!(kv_ttl("session", "refresh:no"), None);
    // Without a JWT the token is its own identifier, and the end is in a field.
    let opaque = json(200)
        .with_header("x-session-token", "opaque")
        .with_header("x-session-expires", (NOW.as_secs() + 60).to_string());
    respond("{}", &TestRequest::new("POST", "/login"), opaque);
    assert_eq!(kv_ttl("session", "refresh:opaque"), secs(60));
}

#[test]
fn a_revoked_token_is_refused_and_others_are_not() {
    set_kv(true);
    login(&hour("one", "42"));
    login(&hour("two", "42"));
    assert_eq!(status(&session("one")), None);
    event("session.revoked", &json!({"id": "one"})).unwrap();
    assert_eq!(status(&session("one")), Some(401));
    assert_eq!(
        status(&session(&hour("one", "42"))),
        Some(401),
        "the whole token"
    );
    assert_eq!(status(&session("two")), None);
    // One that was never seen can be revoked too.
    event("session.revoked", &json!({"id": "unseen"})).unwrap();
    assert_eq!(status(&session("unseen")), Some(401));
    let delete = TestRequest::new("DELETE", "/sessions/two");
    respond("{}", &delete, json(403));
    assert_eq!(status(&session("two")), None, "the origin did not take it");
    respond("{}", &delete, json(204));
    assert_eq!(status(&session("two")), Some(401));
    assert_eq!(status(&delete), None, "again is no error of the edge");
}

#[test]
fn logging_a_user_out_ends_every_session_so_far_and_none_that_follows() {
    set_kv(true);
    for (id, user) in [("one", "42"), ("two", "42"), ("other", "7")] {
        login(&hour(id, user));
    }
    for kind in ["user.logged_out", "user.deleted"] {
        event(kind, &json!({"id": 42})).unwrap();
        assert_eq!(status(&session("one")), Some(401), "{kind}");
        assert_eq!(status(&session("two")), Some(401), "{kind}");
        assert_eq!(status(&session("other")), None, "{kind}");
        login(&hour("one", "42"));
        login(&hour("two", "42"));
        assert_eq!(status(&session("one")), None, "{kind}");
    }
    assert_eq!(kv_ttl("session", "generation:42"), Some(DAY * 30));
}

#[test]
fn a_refresh_replaces_the_old_token_and_a_revoked_one_gets_none() {
    set_kv(true);
    let old = hour("old", "42");
    login(&old);
    let refresh = TestRequest::new("POST", "/refresh").with_header("x-session-token", old);
    assert_eq!(status(&refresh), None);
    issue(&refresh, &hour("new", "42"));
    assert_eq!(status(&session("new")), None);
    assert_eq!(status(&session("old")), Some(401));
    assert_eq!(status(&refresh), Some(401));
}

#[test]
fn a_token_that_was_only_made_to_look_like_another_ends_none() {
    set_kv(true);
    login(&hour("one", "42"));
    let forged = signed("one", "42", NOW.as_secs() + 3_600, "Zm9yZ2Vk");
    let refresh = TestRequest::new("POST", "/refresh").with_header("x-session-token", forged);
    issue(&refresh, &hour("new", "7"));
    assert_eq!(status(&session("one")), None);
}

#[test]
fn a_token_that_is_revoked_while_it_is_issued_stays_revoked() {
    set_kv(true);
    event("session.revoked", &json!({"id": "one"})).unwrap();
    login(&hour("one", "42"));
    assert_eq!(status(&session("one")), Some(401));
}

#[test]
fn without_kv_the_origin_judges_sessions_and_nothing_is_revoked_by_halves() {
    set_kv(false);
    login(&hour("one", "42"));
    let unknown: Decision = Pass::new("session state unknown").into();
    assert_eq!(decide(&session("one")), unknown);
    assert_eq!(
        status(&TestRequest::new("DELETE", "/sessions/one")),
        Some(503)
    );
    for kind in ["session.revoked", "user.logged_out", "user.deleted"] {
        assert!(event(kind, &json!({"id": "42"})).is_err(), "{kind}");
    }
    let theirs = notifications("42", &hour("one", "42"));
    assert_eq!(status(&theirs), Some(503));
    let note = json!({"id": "42", "notification": 1});
    assert!(event("notification.created", &note).is_err());
}

#[test]
fn notifications_are_handed_out_in_order_and_once() {
    set_kv(true);
    let token = hour("one", "42");
    login(&token);
    let theirs = notifications("42", &token);
    assert_eq!(status(&theirs), Some(204));
    for n in 0..60 {
        event(
            "notification.created",
            &json!({"id": 42, "notification": {"n": n}}),
        )
        .unwrap();
    }
    let first = body(&theirs)["notifications"].clone();
    assert_eq!(first.as_array().unwrap().len(), 50);
    assert_eq!(
        (&first[0], &first[49]),
        (&json!({"n": 0}), &json!({"n": 49}))
    );
    assert_eq!(body(&theirs)["notifications"][0], json!({"n": 50}));
    assert_eq!(status(&theirs), Some(204));
}

#[test]
fn nobody_gets_another_users_notifications() {
    set_kv(true);
    let token = hour("one", "42");
    login(&token);
    event(
        "notification.created",
        &json!({"id": 42, "notification": "hi"}),
    )
    .unwrap();
    login(&hour("other", "7"));
    let anonymous = TestRequest::get("/users/42/notifications");
    assert_eq!(status(&anonymous), Some(401));
    assert_eq!(status(&notifications("42", &hour("other", "7"))), Some(403));
    assert_eq!(
        status(&notifications("42", &hour("unseen", "42"))),
        Some(401)
    );
    // The identifier and the claims of a good one, and another signature.
    let forged = signed("one", "42", NOW.as_secs() + 3_600, "Zm9yZ2Vk");
    assert_eq!(status(&notifications("42", &forged)), Some(401));
    assert_eq!(
        status(&notifications("42", "one")),
        Some(401),
        "an identifier alone"
    );
    let head = TestRequest::new("HEAD", "/users/42/notifications");
    assert_eq!(status(&head), Some(405));
    assert_eq!(
        body(&notifications("42", &token))["notifications"],
        json!(["hi"])
    );
    event("session.revoked", &json!({"id": "one"})).unwrap();
    assert_eq!(status(&notifications("42", &token)), Some(401));
}

#[test]
fn what_waits_is_bounded_and_goes_with_its_user() {
    set_kv(true);
    let few = policy(r#"{"notifications_kept": 2, "notifications_ttl": "1d"}"#);
    for n in 0..5 {
        let data = json!({"id": 42, "notification": n}).to_string();
        few.on_event(&Event::new("notification.created", data))
            .unwrap();
    }
    assert_eq!(kv_ttl("user", "notifications:42"), Some(DAY));
    let token = hour("one", "42");
    login(&token);
    assert_eq!(
        body(&notifications("42", &token))["notifications"],
        json!([3, 4])
    );
    event(
        "notification.created",
        &json!({"id": 42, "notification": 5}),
    )
    .unwrap();
    event("user.deleted", &json!({"id": 42})).unwrap();
    assert_eq!(kv_ttl("user", "notifications:42"), None);
    let long = "x".repeat(70_000);
    let error = event(
        "notification.created",
        &json!({"id": 42, "notification": long}),
    );
    assert!(error.unwrap_err().contains("65536"));
    assert!(event("notification.created", &json!({"id": 42})).is_err());
}
