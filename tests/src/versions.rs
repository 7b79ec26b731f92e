//! What tests of the life of a policy's versions begin with: a node whose policy `p` is the
//! misbehaving one.

use std::path::Path;

use serde_json::Value;

use crate::component::with_misdeed;
use crate::{Config, Origin, Reply, Weir, guests};

/// A node whose policy `p` keys on path and query.
pub async fn node(origin: &Origin) -> Weir {
    node_with(origin, &guests().misbehaving(), "").await
}

/// The same with another component, and more in the policy's table.
pub async fn node_with(origin: &Origin, component: &Path, more: &str) -> Weir {
    let component = component.display().to_string();
    let config = Config::misbehaving(&origin.url(), &component, more);
    config.data_dir().start().await
}

/// An origin whose pages may be kept for ten minutes.
pub async fn origin() -> Origin {
    Origin::with(|call| Reply::page(call).cache("max-age=600")).await
}

/// The component, with this misdeed in it.
pub fn version(misdeed: &str) -> Vec<u8> {
    let good = std::fs::read(guests().misbehaving()).expect("the component");
    with_misdeed(&good, misdeed)
}

/// Sends a version to be held; its name.
pub async fn hold(node: &Weir, component: Vec<u8>) -> String {
    sent(node, "p?activate=false", component).await
}

/// Sends a version to be in force; its name.
pub async fn deploy(node: &Weir, component: Vec<u8>) -> String {
    sent(node, "p", component).await
}

async fn sent(node: &Weir, policy: &str, component: Vec<u8>) -> String {
    let answer = node.admin().put_policy(policy, component).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["version"]
        .as_str()
        .expect("a version")
        .to_owned()
}

/// Has a step taken of the policy's life: `canary`, `promote`…; what is answered.
pub async fn post(node: &Weir, step: &str, body: Value) -> Value {
    let path = format!("/v1/policies/p/{step}");
    let answer = node.admin().post(&path, body.to_string()).await;
    assert_eq!(answer.status, 200, "{step}: {}", answer.text());
    answer.json()
}

/// What is told of the trial that is under way.
pub async fn trial(node: &Weir) -> Value {
    node.admin().policy("p").await["trial"].clone()
}

/// What the audit says of a policy, oldest first: action, who, version.
pub async fn audited(node: &Weir) -> Vec<[String; 3]> {
    let answer = node.admin().get("/v1/audit?policy=p").await.json();
    let changes = answer["changes"].as_array().expect("changes").clone();
    let fields = ["action", "by", "version"];
    changes
        .iter()
        .rev()
        .map(|change| fields.map(|it| change[it].as_str().expect(it).to_owned()))
        .collect()
}
