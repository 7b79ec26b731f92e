//! Each route asks the node what the client asked, and answers what the node answered.

use super::*;

#[tokio::test]
async fn an_invalidation_reaches_the_node_whole() {
    let fake = Arc::new(Fake::new());
    let body = json!({
        "urls": ["https://example.org/a?b=c"], "keys": ["user:profile:42"], "tags": ["t"],
        "namespaces": ["user"], "prefixes": ["user:p"], "all": true,
        "host": "example.org:8080", "soft": true,
    });
    let answer = ask(
        &fake,
        local_json("POST", "/v1/invalidate", body.to_string()),
    )
    .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), json!({"sequence": 42, "scope": "fleet"}));
    let asked: Value = serde_json::from_str(&fake.asked.lock().await[0]).unwrap();
    assert_eq!(asked, body);
}

#[tokio::test]
async fn an_event_s_data_may_be_absent() {
    let fake = Arc::new(Fake::new());
    let with = json!({"type": "user.updated", "data": {"id": 42}}).to_string();
    let answer = ask(&fake, local_json("POST", "/v1/events", with)).await;
    assert_eq!(
        answer.json(),
        json!({
            "selectors": [{"policy": "charity", "kind": "tag", "value": "user-42", "host": null, "soft": false}],
            "sequence": null,
            "scope": "node",
            "durable": false,
        })
    );
    ask(&fake, local_json("POST", "/v1/events", r#"{"type":"a"}"#)).await;
    let asked = fake.asked.lock().await;
    assert_eq!(*asked, [r#"event user.updated {"id":42}"#, "event a null"]);
}

#[tokio::test]
async fn policies_are_listed() {
    let answer = ask(&Arc::new(Fake::new()), get("/v1/policies")).await;
    assert_eq!(answer.json()["policies"][0]["name"], "charity");
    assert_eq!(answer.json()["policies"][0]["source"], "file");
}

#[tokio::test]
async fn a_component_is_deployed_under_the_decoded_name() {
    let fake = Arc::new(Fake::new());
    for kind in ["application/wasm", "application/octet-stream"] {
        let request = local("PUT", "/v1/policies/my%20one")
            .header("content-type", kind)
            .header("weir-signature", "c2lnbmVk")
            .body(Body::from("\0asm"))
            .unwrap();
        let answer = ask(&fake, request).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json(), json!({"version": "def"}));
    }
    let asked = r#"put my one b"\0asm" Some("c2lnbmVk")"#;
    assert_eq!(fake.asked.lock().await[0], asked);
    let twice = local("PUT", "/v1/policies/a").header("content-type", "application/wasm");
    let twice = twice
        .header("weir-signature", "a")
        .header("weir-signature", "b");
    let answer = ask(&fake, twice.body(Body::from("\0asm")).unwrap()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.field().as_deref()),
        (400, Some("weir-signature"))
    );
    let empty = local("PUT", "/v1/policies/a").header("content-type", "application/wasm");
    let answer = ask(&fake, empty.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 400);
    let undecodable = local_json("POST", "/v1/policies/%ff/rollback", "");
    let answer = ask(&fake, undecodable).await;
    assert_eq!(
        (answer.status.as_u16(), answer.field().as_deref()),
        (400, Some("name"))
    );
    assert_eq!(fake.asked.lock().await.len(), 2);
}

#[tokio::test]
async fn a_rollback_answers_the_version_in_force() {
    let fake = Arc::new(Fake::new());
    let request = local_json("POST", "/v1/policies/charity/rollback", "");
    assert_eq!(ask(&fake, request).await.json(), json!({"version": "abc"}));
    assert_eq!(*fake.asked.lock().await, ["rollback charity"]);
}

#[tokio::test]
async fn a_version_is_held_tried_and_promoted() {
    let fake = Arc::new(Fake::new());
    let put =
        local("PUT", "/v1/policies/a?activate=false").header("content-type", "application/wasm");
    let answer = ask(&fake, put.body(Body::from("x")).unwrap()).await;
    assert_eq!(answer.json(), json!({"version": "def"}));
    let shadow = local_json("POST", "/v1/policies/a/shadow", r#"{"percent": 12.5}"#);
    assert_eq!(ask(&fake, shadow).await.json()["mode"], "shadow");
    let canary = local_json(
        "POST",
        "/v1/policies/a/canary",
        r#"{"version":"def","percent":100}"#,
    );
    assert_eq!(ask(&fake, canary).await.json()["percent"], 100.0);
    let promote = local_json("POST", "/v1/policies/a/promote", "{}");
    assert_eq!(ask(&fake, promote).await.status, 200);
    assert_eq!(
        *fake.asked.lock().await,
        [
            "hold a b\"x\"",
            "a TrialRequest { mode: Shadow, version: None, percent: 12.5 }",
            "a TrialRequest { mode: Canary, version: Some(\"def\"), percent: 100.0 }",
            "promote a None",
        ]
    );
}

#[tokio::test]
async fn what_a_trial_cannot_be_told_is_refused_by_name() {
    let fake = Arc::new(Fake::new());
    for (path, body, field) in [
        ("/v1/policies/a/shadow", "{}", "percent"),
        ("/v1/policies/a/shadow", r#"{"percent":0}"#, "percent"),
        ("/v1/policies/a/canary", r#"{"percent":101}"#, "percent"),
        (
            "/v1/policies/a/canary",
            r#"{"percent":1,"share":2}"#,
            "share",
        ),
        ("/v1/policies/a/promote", r#"{"percent":1}"#, "percent"),
    ] {
        let answer = ask(&fake, local_json("POST", path, body)).await;
        let told = (answer.status.as_u16(), answer.field());
        assert_eq!(told, (400, Some(field.to_owned())), "{path} {body}");
    }
    let answer = ask(&fake, get("/v1/audit?limit=0")).await;
    assert_eq!(answer.field().as_deref(), Some("limit"));
    assert!(fake.asked.lock().await.is_empty());
}

#[tokio::test]
async fn a_reload_that_left_a_policy_behind_is_no_success() {
    let request = || local_json("POST", "/v1/reload", "");
    let answer = ask(&Arc::new(Fake::new()), request()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["policies"][0]["changed"], false);
    let mut fake = Fake::new();
    fake.reload_error = Some("not a component".into());
    let answer = ask(&Arc::new(fake), request()).await;
    assert_eq!(answer.status, 409);
    assert_eq!(answer.message(), "charity stays at abc: not a component");
    assert_eq!(answer.json()["policies"][0]["error"], "not a component");
}

#[tokio::test]
async fn an_explanation_is_asked_with_all_that_the_query_says() {
    let fake = Arc::new(Fake::new());
    let target = "/v1/explain?url=https%3A%2F%2Fa%2Fb%3Fc%3Dd&method=POST\
                  &header=Cookie:%20a%3Db&header=x-a:1&header=x-a:%202";
    let answer = ask(&fake, get(target)).await;
    assert_eq!(
        answer.json(),
        json!({
            "url": "https://a/b?c=d",
            "method": "POST",
            "headers": ["cookie=a=b", "x-a=1", "x-a=2"],
        })
    );
    let answer = ask(&fake, get("/v1/explain?url=http%3A%2F%2Fa")).await;
    assert_eq!(answer.json()["method"], "GET");
}

#[tokio::test]
async fn an_inspection_is_of_a_key_or_of_a_url() {
    let fake = Arc::new(Fake::new());
    let by_key = "/v1/inspect?key=http%3A%2F%2Fa%7Cuser%3A1&header=accept-language:de";
    assert_eq!(ask(&fake, get(by_key)).await.json()["key"], "k");
    assert_eq!(
        ask(&fake, get("/v1/inspect?url=http%3A%2F%2Fa%2Fb"))
            .await
            .status,
        200
    );
    let asked = fake.asked.lock().await.clone();
    assert!(
        asked[0].starts_with(r#"Key("http://a|user:1", {"accept-language": "de"}"#),
        "{asked:?}"
    );
    assert!(asked[1].starts_with("Url("), "{asked:?}");
    for (query, field) in [
        ("", "key"),
        ("?key=", "key"),
        ("?key=a&key=b", "key"),
        ("?key=a&url=http%3A%2F%2Fa", "key"),
        ("?key=a&kez=b", "kez"),
        ("?url=a", "url"),
        ("?key=a&header=b", "header"),
    ] {
        let answer = ask(&fake, get(&format!("/v1/inspect{query}"))).await;
        assert_eq!(
            (answer.status.as_u16(), answer.field().as_deref()),
            (400, Some(field)),
            "{query}"
        );
    }
    assert_eq!(fake.asked.lock().await.len(), 2);
    let stats = ask(&fake, get("/v1/stats")).await;
    assert_eq!(stats.json(), json!({"namespaces": []}));
}

#[tokio::test]
async fn upgraded_connections_are_listed_and_cut_by_number() {
    let fake = Arc::new(Fake::new());
    let answer = ask(&fake, get("/v1/connections")).await.json();
    assert_eq!(answer["total"], 7);
    assert_eq!(answer["connections"][0]["protocol"], "websocket");
    let cut = |id: &str| local_json("DELETE", &format!("/v1/connections/{id}"), "");
    assert_eq!(ask(&fake, cut("3")).await.json(), json!({"cut": 3}));
    let answer = ask(&fake, cut("x")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.field().as_deref()),
        (400, Some("id"))
    );
    assert_eq!(*fake.asked.lock().await, ["connections 1000", "cut 3"]);
}

#[tokio::test]
async fn status_and_metrics_are_the_node_s_own() {
    let fake = Arc::new(Fake::new());
    assert_eq!(
        ask(&fake, get("/v1/status")).await.json()["version"],
        "0.1.0"
    );
    let answer = ask(&fake, get("/metrics")).await;
    assert_eq!(answer.body, "weir_generations_alive 1\n# EOF\n");
    let kind = answer.headers["content-type"].as_bytes();
    assert!(kind.starts_with(b"application/openmetrics-text"));
}

#[tokio::test]
async fn readiness_tells_serving_degraded_and_not_serving_apart() {
    for (readiness, status, body) in [
        (
            Readiness::Ready { degraded: vec![] },
            200,
            json!({"ready": true}),
        ),
        (
            Readiness::Ready {
                degraded: vec!["redis: connection refused".into()],
            },
            200,
            json!({"ready": true, "degraded": ["redis: connection refused"]}),
        ),
        (
            Readiness::NotReady {
                reasons: vec!["draining".into()],
            },
            503,
            json!({"ready": false, "reasons": ["draining"]}),
        ),
    ] {
        let mut fake = Fake::new();
        fake.readiness = readiness;
        let fake = Arc::new(fake);
        let answer = ask(&fake, get("/readyz")).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.json(), body);
        assert_eq!(ask(&fake, get("/healthz")).await.status, 200);
    }
}
