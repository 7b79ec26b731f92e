//! What protects users and a route lets its policy override, by name.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use weir_tests::{Config, Origin, Reply, Run, Scratch, Weir, guests, weir_command};

/// A route with a policy that stores every 200 that has no lifetime of its own, for an hour.
fn config(origin: &str, route: &str, settings: &str) -> Config {
    Config::new(
        r#"
[upstreams.api]
servers = ["{origin}"]
[[routes]]
path = "/{*rest}"
upstream = "api"
policy = "graphql"
{route}
[policies.graphql]
component = "{component}"
namespaces = ["graphql"]
config = { lifetime = "1h"{settings} }
"#,
    )
    .set("origin", origin)
    .set("route", route)
    .set("settings", settings)
    .file("component", &guests().graphql())
}

/// Answers `/private` and so on with what the path says.
async fn origin() -> Origin {
    Origin::with(|call| {
        let reply = Reply::page(call);
        let mut reply = match call.path.as_str() {
            "/no-store" => reply.cache("no-store"),
            "/private-no-store" => reply.cache("private, no-store"),
            "/vary" => reply.header("vary", "*"),
            _ => reply,
        };
        if call.path.contains("private") {
            reply = reply.cache("private");
        }
        if call.path.contains("cookie") {
            reply = reply.header("set-cookie", "a=b");
        }
        reply
    })
    .await
}

const TOKEN: (&str, &str) = ("authorization", "Bearer alice");

async fn is_stored(node: &Weir, path: &str, headers: &[(&str, &str)]) -> bool {
    node.get_with(path, headers).await;
    node.get_with(path, headers).await.is_hit()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_grant_lifts_its_own_refusal() {
    let origin = origin().await;
    let plain = ("x-plain", "");
    let all = r#"may_override = ["private", "authorization", "set-cookie"]"#;
    for (grant, path, field) in [
        (r#"may_override = ["private"]"#, "/private", plain),
        (r#"may_override = ["authorization"]"#, "/page", TOKEN),
        (r#"may_override = ["set-cookie"]"#, "/cookie", plain),
        (all, "/private-cookie", TOKEN),
    ] {
        for (route, stored) in [("", false), (grant, true)] {
            let node = config(&origin.url(), route, "").start().await;
            assert_eq!(
                is_stored(&node, path, &[field]).await,
                stored,
                "{path} {route}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_granted_still_refuses() {
    let origin = origin().await;
    let grant = r#"may_override = ["private"]"#;
    let node = config(&origin.url(), grant, "").start().await;
    assert!(!is_stored(&node, "/private-cookie", &[]).await);
    assert!(!is_stored(&node, "/private", &[TOKEN]).await);
    assert!(is_stored(&node, "/private", &[]).await);
    let all = r#"may_override = ["private", "authorization", "set-cookie"]"#;
    let node = config(&origin.url(), all, "").start().await;
    for path in ["/no-store", "/private-no-store", "/vary"] {
        assert!(!is_stored(&node, path, &[]).await, "{path}");
    }
    assert!(!is_stored(&node, "/private", &[("cache-control", "no-store")]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_without_a_lifetime_of_the_policys_changes_nothing() {
    let origin = Origin::with(|call| Reply::page(call).cache("private, max-age=600")).await;
    let all = r#"may_override = ["private", "authorization", "set-cookie"]"#;
    let node = Config::new(
        r#"
[upstreams.api]
servers = ["{origin}"]
[[routes]]
path = "/{*rest}"
upstream = "api"
policy = "graphql"
{all}
[policies.graphql]
component = "{component}"
namespaces = ["graphql"]
"#,
    )
    .set("origin", origin.url())
    .set("all", all)
    .file("component", &guests().graphql())
    .start()
    .await;
    assert!(!is_stored(&node, "/private", &[]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_that_the_key_tells_apart_get_their_own() {
    let origin = Origin::with(|call| {
        let user = call.header("authorization").unwrap_or_default();
        Reply::ok().cache("private").text(user)
    })
    .await;
    let grant = r#"may_override = ["private", "authorization"]"#;
    let users = r#", user_headers = ["authorization"]"#;
    let node = config(&origin.url(), grant, users).start().await;
    for _ in 0..2 {
        for user in ["Bearer alice", "Bearer bob"] {
            let answer = node.get_with("/me", &[("authorization", user)]).await;
            assert_eq!(answer.text(), user);
        }
    }
    assert_eq!(origin.count("/me"), 2);
}

/// `weir check` of a configuration that ends with these routes.
async fn check(routes: &str, settings: &str) -> Run {
    let scratch = Scratch::new();
    let text = config("http://127.0.0.1:9", "", settings)
        .and(routes)
        .set("port", 1)
        .set("admin", 2);
    scratch.write("weir.toml", text.text());
    weir_command(scratch.path(), &["check", "-c", "weir.toml"]).await
}

/// A route of this host that grants its policy these.
fn granting(host: &str, grants: &str) -> String {
    format!(
        "[[routes]]\nhost = \"{host}\"\npath = \"/api/{{id}}\"\nupstream = \"api\"\n\
         policy = \"graphql\"\nmay_override = {grants}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn check_warns_unless_the_key_is_seen_to_tell_users_apart() {
    let routes = [
        granting("cookie.example", r#"["set-cookie"]"#),
        granting("private.example", r#"["private"]"#),
        granting("both.example", r#"["authorization", "set-cookie"]"#),
    ]
    .concat();
    for (settings, warns) in [
        ("", true),
        (r#", user_headers = ["x-tenant"]"#, true),
        (r#", user_headers = ["authorization"]"#, false),
        (r#", user_cookies = ["session"]"#, false),
    ] {
        let run = check(&routes, settings).await;
        assert_eq!(run.code, Some(0), "{}", run.all());
        for (route, warns) in [(0, false), (1, false), (2, warns), (3, warns)] {
            let warning = format!("warning: routes[{route}].may_override");
            let told = run.stderr.contains(&warning);
            assert_eq!(told, warns, "{route} {settings}:\n{}", run.all());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_granted_is_refused() {
    let no_policy = "[[routes]]\nhost = \"a.example\"\npath = \"/\"\nupstream = \"api\"\n\
        may_override = [\"private\"]\n";
    for (route, message) in [
        (
            granting("a.example", r#"["no-store"]"#),
            "not one of the choices",
        ),
        (granting("a.example", r#""private""#), "in brackets"),
        (no_policy.to_owned(), "no policy that could override"),
    ] {
        let run = check(&route, "").await;
        assert_eq!(run.code, Some(1), "{}", run.all());
        assert!(run.stderr.contains(message), "{}", run.all());
    }
}
