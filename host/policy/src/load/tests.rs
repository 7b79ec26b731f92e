//! Components that are refused before any guest code runs, written as text.

use super::*;
use crate::engine::EngineOptions;
use crate::test_node::TestNode;

fn spec() -> PolicySpec {
    PolicySpec {
        name: "p".to_owned(),
        namespaces: vec!["user".to_owned()],
        grants: Grants::default(),
        config: serde_json::Value::Null,
        limits: Limits::default(),
        memo: true,
    }
}

async fn refusal_of(spec: PolicySpec, bytes: &[u8]) -> String {
    let engine = Engine::new(EngineOptions::default()).unwrap();
    let error = engine
        .load(spec, bytes.to_vec().into(), TestNode::services())
        .await
        .expect_err("refused");
    let text = error.to_string();
    assert!(text.starts_with("policy `p`: "), "{text}");
    text
}

async fn refusal(bytes: &[u8]) -> String {
    refusal_of(spec(), bytes).await
}

async fn refusal_of_text(wat: &str) -> String {
    refusal(&wat::parse_str(wat).unwrap()).await
}

#[tokio::test]
async fn what_is_no_component_is_named() {
    for (bytes, expected) in [
        (&b""[..], "empty"),
        (b"\0asm\x01\0\0\0", "core WebAssembly module"),
        (b"\0asm\x07\0\0\0", "version"),
        (b"(component)", "this is text"),
        (b"\x7fELF\xff\xfe", "not WebAssembly"),
    ] {
        let text = refusal(bytes).await;
        assert!(text.contains(expected), "{text}");
    }
    let text = refusal(b"\0asm\x0d\0\x01\0\xff\xff\xff").await;
    assert!(text.contains("cannot be compiled"), "{text}");
}

#[tokio::test]
async fn a_missing_hook_is_named() {
    let text = refusal_of_text("(component)").await;
    assert!(
        text.contains("`weir:policy/hooks@1.1.0`") && text.contains("weir:policy@1.1.0"),
        "{text}"
    );
    let text = refusal_of_text(
        r#"(component
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            (instance $hooks (export "configure" (func $f)))
            (export "weir:policy/hooks@1.0.0" (instance $hooks)))"#,
    )
    .await;
    assert!(
        text.contains("weir:policy/hooks@1.1.0#on-request"),
        "{text}"
    );
}

#[tokio::test]
async fn hooks_of_another_type_are_named() {
    let text = refusal_of_text(
        r#"(component
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            (instance $hooks
                (export "configure" (func $f)) (export "on-request" (func $f))
                (export "on-response" (func $f)) (export "on-event" (func $f)))
            (export "weir:policy/hooks@1.0.0" (instance $hooks)))"#,
    )
    .await;
    assert!(
        text.contains("#configure") && text.contains("other parameters"),
        "{text}"
    );
}

#[tokio::test]
async fn an_import_of_another_type_is_named() {
    let text = refusal_of_text(
        r#"(component
            (import "weir:policy/http@1.0.0" (instance (export "from-the-future" (func))))
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            (instance $hooks
                (export "configure" (func $f)) (export "on-request" (func $f))
                (export "on-response" (func $f)) (export "on-event" (func $f)))
            (export "weir:policy/hooks@1.0.0" (instance $hooks)))"#,
    )
    .await;
    assert!(
        text.contains("does not fit this host") && text.contains("from-the-future"),
        "{text}"
    );
}

#[tokio::test]
async fn imports_are_judged_by_name() {
    let import = |name: &str| format!(r#"(component (import "{name}" (instance)))"#);
    let text = refusal_of_text(&import("weir:policy/kv@1.0.0")).await;
    assert!(
        text.contains("`kv`") && text.contains("add \"kv\" to `grants`"),
        "{text}"
    );
    let text = refusal_of_text(&import("wasi:clocks/wall-clock@0.3.0")).await;
    assert!(
        text.contains("wasi:clocks/wall-clock@0.3.0") && text.contains("WASI 0.2"),
        "{text}"
    );
    let text = refusal_of_text(&import("wasi:clocks/wall-clock@0.2.0")).await;
    assert!(text.contains("does not export"), "{text}");
    for unknown in [
        "acme:db/sql@1.0.0",
        "weir:policy/fetch@1.0.0",
        "weir:policy/kv@2.0.0",
    ] {
        let text = refusal_of_text(&import(unknown)).await;
        assert!(text.contains(unknown), "{text}");
    }
}

#[tokio::test]
async fn what_needs_a_newer_host_says_so() {
    for (import, version) in [
        ("weir:policy/fetch@1.2.0", "1.9.0"),
        ("weir:policy/fetch@1.10.0", "1.10.0"),
        ("weir:policy/fetch@2.0.0", "2.0.0"),
    ] {
        let text = refusal_of_text(&format!(
            r#"(component (import "weir:policy/fly@1.9.0" (instance)) (import "{import}" (instance)))"#
        ))
        .await;
        let newer = format!("against weir:policy@{version}, ");
        assert!(
            text.contains(&newer) && text.contains("update Weir"),
            "{text}"
        );
        assert!(text.contains(import), "{text}");
    }
    let text =
        refusal_of_text(r#"(component (import "weir:policy/fetch@1.0.0" (instance)))"#).await;
    assert!(!text.contains("update Weir"), "{text}");
}

#[tokio::test]
async fn specifications_out_of_bounds_are_refused() {
    for namespace in ["", "User", "-a", "a:b", &"a".repeat(65)] {
        let mut spec = spec();
        spec.namespaces.push(namespace.to_owned());
        let text = refusal_of(spec, b"\0asm\x0d\0\x01\0").await;
        assert!(text.contains("namespace"), "{text}");
    }
    let mut spec = spec();
    spec.limits.instances = 0;
    let text = refusal_of(spec, b"").await;
    assert!(text.contains("instances"), "{text}");
}
