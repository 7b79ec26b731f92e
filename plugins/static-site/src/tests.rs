use weir_sdk::testing::{Done, TestRequest, TestResponse};

use super::*;

fn policy(config: &str) -> StaticSite {
    weir_sdk::configure(config).expect("a good config")
}

fn key(config: &str, request: &TestRequest) -> Vec<Part> {
    match policy(config).on_request(&request.view()) {
        Ok(Decision::Lookup(lookup)) => lookup.key_parts().to_vec(),
        other => panic!("{other:?}"),
    }
}

fn respond(path: &str, response: &TestResponse) -> Done {
    policy("{}")
        .on_response(&TestRequest::get(path).view(), &response.view())
        .expect("no error");
    response.done()
}

/// A 200 of the type that servers give to a path.
fn typed(path: &str) -> TestResponse {
    let kind = match path.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        _ => "text/html",
    };
    TestResponse::new(200).with_header("content-type", kind)
}

fn secs(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

const VARIANTS: &str = r#"{"variants": ["device", "language"], "languages": ["en", "de"]}"#;

#[test]
fn pages_have_the_variants_and_files_do_not() {
    let common = [path(), query_without(policy("{}").config.ignored_query)];
    let page = TestRequest::get("/about?utm_source=x");
    assert_eq!(key("{}", &page), common);
    let variants = [device(), language(["en", "de"])];
    assert_eq!(key(VARIANTS, &page), [common.clone(), variants].concat());
    assert_eq!(key(VARIANTS, &TestRequest::get("/a/app.css")), common);
}

#[test]
fn every_variant_of_a_page_carries_its_path_as_a_tag() {
    let request = TestRequest::get("/about?b=1");
    match policy(VARIANTS).on_request(&request.view()) {
        Ok(Decision::Lookup(lookup)) => {
            assert_eq!(lookup.tags(), [vec![text("site:path:"), path()]]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn methods_that_change_something_are_passed() {
    let request = TestRequest::new("POST", "/about");
    let decision = policy("{}").on_request(&request.view());
    assert_eq!(decision, Ok(Pass::new("method").into()));
}

#[test]
fn lifetimes_when_the_origin_says_nothing() {
    for (path, lifetime, revalidate, tag) in [
        ("/app.3f2a1b9c.js", 31_536_000, None, "site:asset"),
        ("/app.js", 3_600, None, "site:static"),
        ("/about", 60, secs(300), "site:page"),
    ] {
        let done = respond(path, &typed(path));
        assert_eq!(done.lifetime, secs(lifetime), "{path}");
        assert_eq!(done.stale_while_revalidate, revalidate, "{path}");
        assert_eq!(done.stale_if_error, secs(86_400), "{path}");
        assert_eq!(done.tags, [tag], "{path}");
    }
}

#[test]
fn the_origins_word_counts_except_for_hashed_names() {
    let explicit = |path| typed(path).with_header("cache-control", "max-age=5");
    let says = |path| respond(path, &explicit(path));
    assert_eq!(says("/about").lifetime, None);
    assert_eq!(says("/about").stale_while_revalidate, None);
    assert_eq!(says("/app.js").lifetime, None);
    assert_eq!(says("/app.3f2a1b9c.js").lifetime, secs(31_536_000));
    let always = typed("/a.js").with_header("cache-control", "no-cache");
    assert_eq!(respond("/app.3f2a1b9c.js", &always).lifetime, None);
}

#[test]
fn a_page_at_the_path_of_a_file_is_no_file() {
    for path in ["/account/x.3f2a1b9c.js", "/account/x.css", "/account/x.png"] {
        for page in [typed("/"), TestResponse::new(200)] {
            let done = respond(path, &page);
            assert_eq!(
                (done.lifetime, done.do_not_store),
                (None, secs(1)),
                "{path}"
            );
        }
        // The origin's own word holds, and no more than that.
        let page = typed("/").with_header("cache-control", "max-age=5");
        let done = respond(path, &page);
        assert_eq!((done.lifetime, done.do_not_store), (None, None), "{path}");
        assert_eq!(done.tags, ["site:page"]);
    }
}

#[test]
fn the_origin_sees_no_parameter_that_the_key_leaves_out() {
    let request = TestRequest::get("/about?utm_source=x&b=1");
    match policy("{}").on_request(&request.view()) {
        Ok(Decision::Lookup(lookup)) => {
            let kept = query_without(policy("{}").config.ignored_query);
            let target = [path(), text("?"), kept];
            assert_eq!(lookup.origin_target_parts(), Some(&target[..]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn errors_are_not_kept_long() {
    let long = TestResponse::new(404).suggesting(Duration::from_secs(3_600));
    assert_eq!(respond("/app.3f2a1b9c.js", &long).lifetime, secs(10));
    let short = TestResponse::new(404).suggesting(Duration::from_secs(1));
    assert_eq!(respond("/", &short).lifetime, secs(1));
    let refused = TestResponse::new(404).refused("no-store");
    assert_eq!(respond("/", &refused), Done::default());
    let failed = respond(
        "/",
        &TestResponse::new(503).suggesting(Duration::from_secs(60)),
    );
    assert_eq!((failed.do_not_store, failed.lifetime), (secs(1), None));
}

#[test]
fn settings_that_cannot_be_meant_are_refused_by_name() {
    for (config, named) in [
        (r#"{"variants": ["language"]}"#, "languages is empty"),
        (r#"{"languages": ["en"]}"#, "variants lacks"),
        (
            r#"{"variants": ["language"], "languages": ["en", ""]}"#,
            "languages[1]",
        ),
        (r#"{"variants": ["colour"]}"#, "variants[0]"),
        (r#"{"page_lifetime": 60}"#, "page_lifetime"),
        (r#"{"page_life": "60s"}"#, "page_life"),
    ] {
        let error = weir_sdk::configure::<StaticSite>(config).expect_err(config);
        assert!(error.contains(named), "{config}: {error}");
    }
}

#[test]
fn events_say_what_is_old() {
    let selectors = |kind: &str, data: &str| policy("{}").on_event(&Event::new(kind, data));
    let deployed = vec![
        Selector::tag("site:page").soft(),
        Selector::tag("site:static").soft(),
    ];
    assert_eq!(selectors("site.deployed", "null"), Ok(deployed));
    let page = vec![Selector::tag("site:path:/about")];
    assert_eq!(selectors("page.updated", r#"{"path": "/about"}"#), Ok(page));
    assert!(selectors("page.updated", "null").is_err());
    assert_eq!(selectors("other", "null"), Ok(vec![]));
}
