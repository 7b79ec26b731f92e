use std::time::Duration;

use weir_sdk::testing::{TestRequest, TestResponse};

use super::*;

fn policy(config: &str) -> GraphQl {
    weir_sdk::configure(config).expect("a good config")
}

fn decide(config: &str, request: &TestRequest) -> Decision {
    policy(config)
        .on_request(&request.view())
        .expect("a decision")
}

#[test]
fn only_what_says_that_it_reads_is_looked_up() {
    let post = TestRequest::new("POST", "/graphql");
    for request in [
        TestRequest::new("QUERY", "/graphql"),
        TestRequest::get("/graphql?query=x"),
        post.clone().with_header("x-graphql-operation", "Query"),
    ] {
        match decide("{}", &request) {
            Decision::Lookup(lookup) => {
                assert_eq!(lookup.key_parts(), [path(), query(), body_digest()]);
            }
            other => panic!("{other:?}"),
        }
    }
    for request in [
        post.clone(),
        post.with_header("x-graphql-operation", "mutation"),
        TestRequest::new("PUT", "/graphql").with_header("x-graphql-operation", "query"),
    ] {
        assert_eq!(decide("{}", &request), Pass::new("mutation").into());
    }
}

#[test]
fn what_tells_users_apart_is_in_the_key() {
    let config = r#"{"user_headers": ["authorization"], "user_cookies": ["session"]}"#;
    match decide(config, &TestRequest::new("QUERY", "/graphql")) {
        Decision::Lookup(lookup) => assert_eq!(
            lookup.key_parts(),
            [
                path(),
                query(),
                header("authorization"),
                cookie("session"),
                body_digest()
            ]
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lifetime_is_for_what_has_none() {
    let config = r#"{"lifetime": "30s"}"#;
    let request = TestRequest::new("QUERY", "/graphql");
    let lifetime = |response: TestResponse| {
        let told = policy(config).on_response(&request.view(), &response.view());
        told.expect("no error");
        response.done().lifetime
    };
    let seconds = Duration::from_secs;
    let without = || TestResponse::new(200).refused("no-freshness");
    assert_eq!(lifetime(without()), Some(seconds(30)));
    assert_eq!(lifetime(TestResponse::new(500).refused("status")), None);
    assert_eq!(
        lifetime(TestResponse::new(200).suggesting(seconds(5))),
        None
    );
}
