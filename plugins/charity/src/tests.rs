use weir_sdk::rate_limit::Verdict;
use weir_sdk::testing::{TestRequest, TestResponse, set_kv, set_verdict};

use super::*;
use crate::mutations::{all_donation_stats, dashboards, help_request, object, queue, user};

fn policy(config: &str) -> Charity {
    weir_sdk::configure(config).expect("a good config")
}

fn decide(request: &TestRequest) -> Decision {
    policy("{}")
        .on_request(&request.view())
        .expect("a decision")
}

fn respond(config: &str, request: &TestRequest, response: TestResponse) -> weir_sdk::testing::Done {
    let policy = policy(config);
    let note = match policy.on_request(&request.view()).expect("a decision") {
        Decision::Lookup(lookup) => lookup.note_bytes().to_vec(),
        Decision::Pass(pass) => pass.note_bytes().to_vec(),
        Decision::Respond(_) => panic!("answered at the edge"),
    };
    let response = response.with_note(note);
    policy
        .on_response(&request.view(), &response.view())
        .expect("no error");
    response.done()
}

fn json(status: u16) -> TestResponse {
    TestResponse::new(status).with_header("content-type", "application/json; charset=utf-8")
}

fn secs(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

/// The key, without the namespace, of what is looked up.
fn key(request: &TestRequest) -> (String, Vec<Part>) {
    match decide(request) {
        Decision::Lookup(lookup) => (lookup.namespace().to_owned(), lookup.key_parts().to_vec()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_key_of_the_record_from_the_path() {
    set_kv(true);
    for (path, namespace, parts) in [
        ("/users/42", "user", vec!["profile", "42"]),
        ("/users/42/permissions", "user", vec!["permissions", "42"]),
        ("/help/queue", "help", vec!["queue", "active"]),
        ("/help/requests/17", "help", vec!["request", "17"]),
        (
            "/donations/stats/daily/2025-12-24",
            "donation",
            vec!["stats", "daily", "2025-12-24"],
        ),
        (
            "/metrics/dashboard",
            "metrics",
            vec!["dashboard", "anonymous"],
        ),
        ("/config/smtp", "config", vec!["smtp"]),
        ("/sessions/tok", "session", vec!["refresh", "tok"]),
        ("/users/a%20b%2Fc", "user", vec!["profile", "a b/c"]),
    ] {
        let request = TestRequest::get(path).with_param("rest", path.trim_start_matches('/'));
        let expected: Vec<Part> = parts.into_iter().map(text).collect();
        assert_eq!(key(&request), (namespace.to_owned(), expected), "{path}");
    }
}

#[test]
fn a_route_parameter_is_named_rather_than_read_from_the_path() {
    set_kv(true);
    for (path, name) in [
        ("/users/42", "id"),
        ("/users/42/permissions", "id"),
        ("/help/requests/17", "id"),
        ("/donations/stats/daily/2025-12-24", "date"),
        ("/config/smtp", "name"),
        ("/sessions/tok", "token"),
    ] {
        let (_, parts) = key(&TestRequest::get(path).with_param(name, "x"));
        assert_eq!(parts.last(), Some(&param(name)), "{path}");
    }
}

#[test]
fn a_role_has_its_own_dashboard() {
    let request = TestRequest::get("/metrics/dashboard").with_header("X-User-Role", "admin");
    let (_, parts) = key(&request);
    assert_eq!(parts, [text("dashboard"), header("x-user-role")]);
}

#[test]
fn what_the_record_does_not_know_is_passed() {
    for path in [
        "/",
        "/users/",
        "/users/1/2",
        "/users//permissions",
        "/help",
        "/help/queue/x",
        "/config/",
        "/config/a/b",
        "/sessions/",
        "/users/%ff",
        "/Users/1",
        "/websocket",
    ] {
        assert_eq!(
            decide(&TestRequest::get(path)),
            Pass::new("unknown path").into(),
            "{path}"
        );
    }
    let long = format!("/users/{}", "x".repeat(1_001));
    assert_eq!(
        decide(&TestRequest::get(&long)),
        Pass::new("unknown path").into()
    );
    let request = TestRequest::new("OPTIONS", "/users/1");
    assert_eq!(decide(&request), Pass::new("method").into());
}

#[test]
fn lifetimes_are_those_of_the_record() {
    for (path, lifetime, memory, stale) in [
        ("/users/42", 3_600, None, secs(300)),
        ("/users/42/permissions", 3_600, secs(30), None),
        ("/help/queue", 30, None, secs(300)),
        ("/help/requests/17", 30, None, secs(300)),
        ("/donations/stats/daily/2025-12-24", 300, None, secs(300)),
        ("/metrics/dashboard", 300, None, secs(300)),
        ("/config/smtp", 86_400, secs(60), secs(300)),
    ] {
        let done = respond("{}", &TestRequest::get(path), json(200));
        assert_eq!(done.lifetime, secs(lifetime), "{path}");
        assert_eq!(done.memory_lifetime, memory, "{path}");
        assert_eq!(done.stale_if_error, stale, "{path}");
        assert!(done.invalidated.is_empty() && !done.write_through, "{path}");
    }
    assert_eq!(
        respond("{}", &TestRequest::get("/users/42"), json(404)),
        Default::default()
    );
}

#[test]
fn settings_change_lifetimes() {
    let config = r#"{"default_ttl": "1m", "user_ttl": "2m", "permissions_memory_ttl": "1s"}"#;
    let stats = TestRequest::get("/donations/stats/daily/2025-12-24");
    assert_eq!(respond(config, &stats, json(200)).lifetime, secs(60));
    let permissions = respond(config, &TestRequest::get("/users/1/permissions"), json(200));
    assert_eq!(
        (permissions.lifetime, permissions.memory_lifetime),
        (secs(120), secs(1))
    );
    let config = r#"{"default_ttl": "1m", "donation_stats_ttl": "3m"}"#;
    assert_eq!(respond(config, &stats, json(200)).lifetime, secs(180));
}

#[test]
fn settings_that_cannot_be_meant_are_refused_by_name() {
    for (config, named) in [
        (r#"{"user_tll": "1h"}"#, "user_tll"),
        (r#"{"user_ttl": 3600}"#, "user_ttl"),
        (r#"{"help_queue_ttl": "30"}"#, "help_queue_ttl"),
        (r#"{"login_limit": 0}"#, "login_limit"),
        (r#"{"login_window": "0s"}"#, "login_window"),
        (r#"{"notifications_kept": 0}"#, "notifications_kept"),
        (r#"{"notifications_ttl": "31d"}"#, "notifications_ttl"),
    ] {
        let error = weir_sdk::configure::<Charity>(config).expect_err(config);
        assert!(error.contains(named), "{config}: {error}");
    }
}

#[test]
fn a_session_lives_until_its_token_expires() {
    set_kv(true);
    let request = TestRequest::get("/sessions/tok");
    let done = respond(
        "{}",
        &request,
        json(200).with_header("x-session-expires", "1789000000"),
    );
    assert_eq!((done.expiry, done.lifetime), (Some(1_789_000_000), None));
    let done = respond("{}", &request, json(200));
    assert_eq!(
        (done.expiry, done.do_not_store),
        (None, Some(NOT_STORED_FOR))
    );
}

#[test]
fn a_change_removes_the_object_and_what_depends_on_it() {
    set_kv(true);
    for (method, path, expected) in [
        ("PATCH", "/users/42", vec![user("42"), dashboards()]),
        ("DELETE", "/users/42", vec![user("42"), dashboards()]),
        ("PUT", "/users/42/permissions", vec![user("42")]),
        ("PUT", "/help/requests/17", help_request("17")),
        ("POST", "/help/requests", vec![queue(), dashboards()]),
        ("POST", "/help/queue", vec![queue(), dashboards()]),
        (
            "POST",
            "/donations",
            vec![all_donation_stats(), dashboards()],
        ),
        (
            "DELETE",
            "/donations/9",
            vec![all_donation_stats(), dashboards()],
        ),
        ("POST", "/users", vec![dashboards()]),
        (
            "DELETE",
            "/config/smtp",
            vec![object(Resource::Setting, "smtp")],
        ),
        (
            "DELETE",
            "/sessions/tok",
            vec![object(Resource::Session, "tok")],
        ),
    ] {
        let request = TestRequest::new(method, path);
        let done = respond("{}", &request, json(204));
        assert_eq!(done.invalidated, expected, "{method} {path}");
        assert!(!done.write_through, "{method} {path}");
        let failed = respond("{}", &request, json(409));
        assert_eq!(failed, Default::default(), "{method} {path} failed");
    }
}

#[test]
fn a_put_that_answers_the_whole_object_is_written_through() {
    for (path, lifetime) in [("/users/42", 3_600), ("/config/smtp", 86_400)] {
        let put = TestRequest::new("PUT", path);
        let done = respond("{}", &put, json(200));
        assert!(done.write_through && !done.invalidated.is_empty(), "{path}");
        assert_eq!(done.lifetime, secs(lifetime), "{path}");
        let html = TestResponse::new(200).with_header("content-type", "text/html");
        assert!(!respond("{}", &put, html).write_through, "{path}");
        assert!(!respond("{}", &put, json(201)).write_through, "{path}");
        assert!(!respond(r#"{"write_through": false}"#, &put, json(200)).write_through);
        let patch = TestRequest::new("PATCH", path);
        assert!(!respond("{}", &patch, json(200)).write_through, "{path}");
    }
}

#[test]
fn a_route_parameter_names_what_a_change_removes() {
    let request = TestRequest::new("DELETE", "/users/a%20b").with_param("id", "a b");
    assert_eq!(
        respond("{}", &request, json(204)).invalidated,
        [user("a b"), dashboards()]
    );
}

#[test]
fn every_event_of_the_record() {
    set_kv(true);
    let selectors = |kind: &str, data: &str| policy("{}").on_event(&Event::new(kind, data));
    let date = object(Resource::DonationStats, "2025-12-24");
    for (kind, data, expected) in [
        ("user.updated", r#"{"id":42}"#, vec![user("42")]),
        ("user.role_changed", r#"{"id":"42"}"#, vec![user("42")]),
        (
            "user.deleted",
            r#"{"id":42}"#,
            vec![user("42"), dashboards()],
        ),
        ("help.created", "null", vec![queue(), dashboards()]),
        ("help.updated", r#"{"id":17}"#, help_request("17")),
        (
            "donation.created",
            r#"{"id":1}"#,
            vec![all_donation_stats(), dashboards()],
        ),
        (
            "donation.created",
            r#"{"date":"2025-12-24"}"#,
            vec![date, dashboards()],
        ),
        (
            "config.updated",
            r#"{"id":"smtp"}"#,
            vec![object(Resource::Setting, "smtp")],
        ),
        (
            "config.updated",
            "null",
            vec![Selector::namespace("config")],
        ),
        (
            "session.revoked",
            r#"{"id":"tok"}"#,
            vec![object(Resource::Session, "tok")],
        ),
        ("user.logged_out", r#"{"id":42}"#, vec![user("42")]),
        (
            "notification.created",
            r#"{"id":42,"notification":{"text":"hi"}}"#,
            vec![],
        ),
        ("weather.changed", "null", vec![]),
    ] {
        assert_eq!(selectors(kind, data), Ok(expected), "{kind} {data}");
    }
    for kind in [
        "user.updated",
        "user.deleted",
        "user.logged_out",
        "help.updated",
        "session.revoked",
        "notification.created",
    ] {
        let error = selectors(kind, r#"{"name":"x"}"#).expect_err(kind);
        assert!(error.contains(kind) && error.contains("\"id\""), "{error}");
    }
}

#[test]
fn logins_over_the_limit_are_answered_at_the_edge() {
    let login = TestRequest::new("POST", "/login").from_client("203.0.113.9");
    assert_eq!(
        decide(&login),
        Pass::new("login").note(sessions::ISSUES).into()
    );
    set_verdict(Some(Verdict {
        allowed: false,
        remaining: 0,
        retry_after: Duration::from_millis(1_500),
    }));
    let Decision::Respond(reply) = decide(&login) else {
        panic!("the login was let through");
    };
    assert_eq!(reply.status(), 429);
    assert!(
        reply
            .headers()
            .contains(&("retry-after".to_owned(), b"2".to_vec()))
    );
    assert_eq!(
        decide(&TestRequest::get("/login")),
        Pass::new("unknown path").into()
    );
    set_verdict(None);
}

mod sessions_and_notifications;
