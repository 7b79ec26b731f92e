//! Components in an OCI registry: a real one, Debian's docker-registry.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::process::Command;

use oci_client::Reference;
use oci_client::client::{Client, ClientConfig, ClientProtocol, Config as Blob, ImageLayer};
use oci_client::secrets::RegistryAuth;
use weir_tests::answer;
use weir_tests::component::marked;
use weir_tests::port::Port;
use weir_tests::process::Process;
use weir_tests::{Config, Origin, Reply, Scratch, guests, until, weir_command};

/// A registry that forgets all when it is dropped.
struct Registry {
    process: Process,
    port: Port,
    _scratch: Scratch,
}

impl Registry {
    async fn start() -> Self {
        let (port, scratch) = (Port::reserve(), Scratch::new());
        let (address, root) = (
            format!("127.0.0.1:{}", port.number()),
            scratch.path().join("registry"),
        );
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
            root.display()
        );
        let file = scratch.write("registry.yml", config);
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(file);
        let log = scratch.join("registry.log");
        let process = Process::spawn("docker-registry", &mut command, &log);
        let client = answer::client();
        until("the registry answers", async || {
            let asked = client.get(format!("http://{address}/v2/")).send().await;
            asked.ok().filter(|answer| answer.status().is_success())
        })
        .await;
        Self {
            process,
            port,
            _scratch: scratch,
        }
    }

    /// Pushes an artifact with one layer, under the name `pages:TAG`; its digest.
    async fn push(&self, tag: &str, kind: &str, bytes: Vec<u8>) -> String {
        let client = Client::new(ClientConfig {
            protocol: ClientProtocol::Http,
            ..ClientConfig::default()
        });
        let name: Reference = self.name(tag).parse().expect("a name");
        let config = Blob::new(
            &b"{}"[..],
            "application/vnd.wasm.config.v0+json".to_owned(),
            None,
        );
        let layer = ImageLayer::new(bytes, kind.to_owned(), None);
        let (auth, layers) = (RegistryAuth::Anonymous, [layer]);
        let pushed = client.push(&name, &layers, config, &auth, None).await;
        pushed.expect("pushed");
        let digest = client.fetch_manifest_digest(&name, &auth).await;
        digest.expect("a digest")
    }

    fn name(&self, tag: &str) -> String {
        format!("127.0.0.1:{}/team/pages:{tag}", self.port.number())
    }

    fn pinned(&self, digest: &str) -> String {
        format!("oci://127.0.0.1:{}/team/pages@{digest}", self.port.number())
    }
}

fn component(mark: &str) -> Vec<u8> {
    let component = std::fs::read(guests().misbehaving()).expect("the component");
    marked(&component, mark)
}

fn config(origin: &Origin, component: &str) -> Config {
    Config::misbehaving(&origin.url(), component, "").data_dir()
}

async fn origin() -> Origin {
    Origin::with(|call| Reply::page(call).cache("max-age=600")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_comes_from_a_registry_by_its_digest_and_the_next_one_by_its_tag() {
    let (origin, mut registry) = (origin().await, Registry::start().await);
    let digest = registry
        .push("1.0", "application/wasm", component("one"))
        .await;
    let mut node = config(&origin, &registry.pinned(&digest)).start().await;
    let first = node.admin().version("p").await;
    let detail = node
        .get("/a")
        .await
        .cache()
        .detail
        .expect("a policy decided");
    assert!(detail.ends_with(&format!("p@{first}")), "{detail}");

    registry
        .push("1.1", "application/wasm", component("two"))
        .await;
    let (admin, name) = (node.admin().base().to_owned(), registry.name("1.1"));
    let deploy = ["deploy", "p", &format!("oci://{name}"), "--admin", &admin];
    let run = weir_command(node.scratch().path(), &deploy).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    assert!(
        run.stderr.contains("is sha256:"),
        "what the tag was: {}",
        run.all()
    );
    let second = node.admin().version("p").await;
    assert_ne!(second, first);

    // What was pulled once is at hand, for a start and for what is rolled back to.
    registry.process.kill();
    node.restart().await;
    assert_eq!(node.admin().version("p").await, second);
    let back = node.admin().post("/v1/policies/p/rollback", "{}").await;
    assert_eq!(back.json()["version"], *first);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_component_or_not_there_is_named() {
    let (origin, registry) = (origin().await, Registry::start().await);
    let text = registry
        .push("text", "text/plain", b"policy".to_vec())
        .await;
    let absent = format!("sha256:{}", "0a".repeat(32));
    let tagged = format!("oci://{}", registry.name("text"));
    for (component, told) in [
        (registry.pinned(&text), "[text/plain]"),
        (registry.pinned(&absent), "cannot be pulled"),
        (tagged, "a tag can be moved"),
        ("oci://pages".to_owned(), "names no registry"),
        (
            format!("oci://127.0.0.1:1/a/b@{absent}"),
            "cannot be pulled",
        ),
    ] {
        let scratch = Scratch::new();
        let config = config(&origin, &component).text().replace("{dir}", "dir");
        let config = config.replace("{port}", "0").replace("{admin}", "9900");
        let file = scratch.write("weir.toml", config);
        let check = ["check", "-c", file.to_str().expect("UTF-8")];
        let run = weir_command(scratch.path(), &check).await;
        assert_eq!(run.code, Some(1), "{component}: {}", run.all());
        assert!(run.stderr.contains(told), "{component}: {}", run.stderr);
        let place = "policies.p.component";
        assert!(run.stderr.contains(place), "{component}: {}", run.stderr);
    }
}
