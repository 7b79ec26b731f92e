//! Builds the test guest, and stands in for the node.

#![allow(dead_code, reason = "each test uses its own part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a failure is to stop the test"
)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use parking_lot::Mutex;
use weir_policy::{
    Engine, EngineOptions, Grants, HostServices, Kv, KvError, Limits, LogLevel, LogSink, Policy,
    PolicySpec, RateLimit, RateVerdict, RequestHead, Scheme,
};

/// The guest without capabilities.
pub(crate) static GUEST: LazyLock<Vec<u8>> = LazyLock::new(|| build(&[]));
/// The guest that imports all of them.
pub(crate) static CAPABILITIES: LazyLock<Vec<u8>> = LazyLock::new(|| build(&["capabilities"]));
/// The guest that asks WASI for the time and for randomness.
pub(crate) static WASI: LazyLock<Vec<u8>> = LazyLock::new(|| build(&["wasi"]));

/// Compiles the guest to a component. The feature set is part of the target directory,
/// so that builds of several processes do not overwrite one another.
fn build(features: &[&str]) -> Vec<u8> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = guest_target(here).join(format!("host-{}", features.join("-")));
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--release", "--target", "wasm32-unknown-unknown"])
        .args(["--features", &features.join(",")]);
    run(&mut cargo, &here.join("tests/guest/Cargo.toml"), &target);
    component(&target, "host_test_guest")
}

/// The plugins of this repository, by name, compiled to components.
pub(crate) static PLUGINS: LazyLock<HashMap<&str, Vec<u8>>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = guest_target(Path::new(env!("CARGO_MANIFEST_DIR"))).join("plugins");
    let names = ["charity", "static-site", "misbehaving", "probe"];
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--target", "wasm32-unknown-unknown"]);
    for name in names {
        cargo.args(["-p", name]);
    }
    run(&mut cargo, &root.join("Cargo.toml"), &target);
    names
        .into_iter()
        .map(|name| (name, component(&target, &name.replace('-', "_"))))
        .collect()
});

fn run(cargo: &mut Command, manifest: &Path, target: &Path) {
    let status = cargo
        .arg("--manifest-path")
        .arg(manifest)
        .env("CARGO_TARGET_DIR", target)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the guest does not compile: {cargo:?}");
}

/// Makes a component of the module that cargo wrote.
fn component(target: &Path, crate_name: &str) -> Vec<u8> {
    let module = target.join(format!("wasm32-unknown-unknown/release/{crate_name}.wasm"));
    let module = std::fs::read(module).expect("cargo wrote the module");
    wit_component::ComponentEncoder::default()
        .module(&module)
        .expect("the module has its contract inside")
        .encode()
        .expect("a component")
}

/// `guests` in the target directory of this build.
fn guest_target(here: &Path) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir).join("guests"),
        None => here.join("../../target/guests"),
    }
}

/// A request for `target`; the route's parameter `id` is 42.
pub(crate) fn request(target: &str, headers: &[(&'static str, &str)]) -> Arc<RequestHead> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            HeaderName::from_static(name),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    Arc::new(RequestHead {
        method: Method::GET,
        scheme: Scheme::Https,
        host: "api.example.org".into(),
        target: target.parse().unwrap(),
        headers: map,
        params: [(Arc::from("id"), b"42".to_vec())].into_iter().collect(),
        client: IpAddr::from([192, 0, 2, 7]),
        content: None,
    })
}

/// A policy with the namespaces `user` and `help`, and CPU enough for a machine that is
/// busy with other tests.
pub(crate) fn spec() -> PolicySpec {
    PolicySpec {
        name: "test".to_owned(),
        namespaces: vec!["user".to_owned(), "help".to_owned()],
        grants: Grants::default(),
        config: serde_json::json!({ "default_ttl": "5m" }),
        limits: Limits {
            cpu: Duration::from_millis(500),
            ..Limits::default()
        },
        memo: true,
    }
}

/// Everything granted.
pub(crate) fn all_grants() -> Grants {
    Grants::from_names(&weir_policy::CAPABILITIES).unwrap()
}

/// Loads the guest as `change` leaves the specification.
pub(crate) async fn load(
    component: &[u8],
    change: impl FnOnce(&mut PolicySpec),
) -> (Policy, Arc<Node>) {
    let engine = Engine::new(EngineOptions::default()).unwrap();
    let mut spec = spec();
    change(&mut spec);
    let node = Arc::new(Node::default());
    let policy = engine
        .load(spec, component.to_vec().into(), services(&node))
        .await
        .expect("the policy loads");
    (policy, node)
}

/// The node's services, all of them `node`.
pub(crate) fn services(node: &Arc<Node>) -> HostServices {
    HostServices {
        kv: node.clone(),
        rate_limit: node.clone(),
        log: node.clone(),
    }
}

/// Stands in for the node: small, and remembers what was asked.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) values: Mutex<HashMap<String, Bytes>>,
    pub(crate) counter: Mutex<i64>,
    pub(crate) buckets: Mutex<Vec<String>>,
    pub(crate) lines: Mutex<Vec<(LogLevel, String)>>,
    /// The runtimes in which values were read.
    pub(crate) runtimes: Mutex<Vec<tokio::runtime::Id>>,
}

#[async_trait]
impl Kv for Node {
    async fn get(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, KvError> {
        let here = tokio::runtime::Handle::current().id();
        self.runtimes.lock().push(here);
        if key == "slow" {
            std::future::pending::<()>().await;
        }
        Ok(self
            .values
            .lock()
            .get(&format!("{namespace}:{key}"))
            .cloned())
    }
    async fn set(&self, ns: &str, key: &str, value: Bytes, _: Duration) -> Result<(), KvError> {
        self.values.lock().insert(format!("{ns}:{key}"), value);
        Ok(())
    }
    async fn delete(&self, ns: &str, key: &str) -> Result<bool, KvError> {
        Ok(self.values.lock().remove(&format!("{ns}:{key}")).is_some())
    }
    async fn increment(&self, _: &str, _: &str, by: i64, _: Duration) -> Result<i64, KvError> {
        let mut counter = self.counter.lock();
        *counter += by;
        Ok(*counter)
    }
    async fn compare_and_set(
        &self,
        ns: &str,
        key: &str,
        expected: Option<Bytes>,
        value: Bytes,
        _: Duration,
    ) -> Result<bool, KvError> {
        let mut values = self.values.lock();
        let key = format!("{ns}:{key}");
        let same = values.get(&key) == expected.as_ref();
        if same {
            values.insert(key, value);
        }
        Ok(same)
    }
    async fn set_add(&self, _: &str, _: &str, _: Bytes, _: Duration) -> Result<bool, KvError> {
        Ok(true)
    }
    async fn set_remove(&self, _: &str, _: &str, _: Bytes) -> Result<bool, KvError> {
        Err(KvError::WrongKind)
    }
    async fn set_contains(&self, _: &str, _: &str, _: Bytes) -> Result<bool, KvError> {
        Ok(false)
    }
    async fn queue_push(
        &self,
        ns: &str,
        key: &str,
        value: Bytes,
        _: u32,
        _: Duration,
    ) -> Result<u32, KvError> {
        self.values.lock().insert(format!("{ns}:{key}"), value);
        Ok(1)
    }
    async fn queue_pop(&self, ns: &str, key: &str) -> Result<Option<Bytes>, KvError> {
        Ok(self.values.lock().remove(&format!("{ns}:{key}")))
    }
}

#[async_trait]
impl RateLimit for Node {
    async fn check(&self, bucket: &str, client: &str, limit: u32, _: Duration) -> RateVerdict {
        self.buckets.lock().push(format!("{bucket} {client}"));
        RateVerdict {
            allowed: false,
            remaining: limit,
            retry_after: Duration::from_millis(1_500),
        }
    }
}

impl LogSink for Node {
    fn write(&self, policy: &str, version: &str, level: LogLevel, message: &str) {
        assert_eq!((policy, version.len()), ("test", 12));
        self.lines.lock().push((level, message.to_owned()));
    }
}
