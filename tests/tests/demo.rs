//! `weir demo`: what it prints can be typed, and does what the text beside it says.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use weir_tests::artifact::{lock, target_dir, weir_binary, workspace};
use weir_tests::poll::PATIENCE;
use weir_tests::port::Port;
use weir_tests::process::{Process, Signal};
use weir_tests::{Admin, CacheStatus, RedisServer, Scratch, until};

/// What the demo is given.
struct Demo {
    scratch: Scratch,
    plugins: PathBuf,
    port: Port,
    admin_port: Port,
    redis: RedisServer,
}

impl Demo {
    async fn prepare() -> Self {
        let scratch = Scratch::new();
        Self {
            plugins: copied_plugins(&scratch.join("checkout")),
            scratch,
            port: Port::reserve(),
            admin_port: Port::reserve(),
            redis: RedisServer::start().await,
        }
    }

    /// Starts it, waits for its text, and returns that. `run` counts the starts.
    async fn start(&self, run: u8) -> (Process, Vec<String>) {
        let mut command = Command::new(weir_binary());
        command
            .arg("demo")
            .args(["--listen", &format!("127.0.0.1:{}", self.port.number())])
            .args([
                "--admin",
                &format!("127.0.0.1:{}", self.admin_port.number()),
            ])
            .args(["--redis", &self.redis_address()])
            .arg("--dir")
            .arg(self.scratch.join("demo"))
            .arg("--plugins")
            .arg(&self.plugins)
            .current_dir(self.scratch.path())
            .env("CARGO_TARGET_DIR", compiled())
            .env_remove("CARGO_MANIFEST_DIR");
        let output = self.scratch.join(format!("demo-{run}.log"));
        let mut process = Process::spawn("weir demo", &mut command, &output);
        // The policies are compiled first, the first time with all that they use.
        let text = weir_tests::poll::until_within(PATIENCE * 8, "the demo's text", async || {
            if let Some(status) = process.exit() {
                panic!("the demo ended with {status}:\n{}", process.output());
            }
            let output = process.output();
            output.contains("Ctrl-C ends the demo.").then_some(output)
        })
        .await;
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix("    "))
            .filter(|line| !line.starts_with(' '))
            .map(str::to_owned)
            .collect();
        (process, lines)
    }

    fn redis_address(&self) -> String {
        let url = self.redis.url();
        url.trim_start_matches("redis://")
            .trim_end_matches("/0")
            .to_owned()
    }

    fn admin(&self) -> Admin {
        Admin::new(format!("http://127.0.0.1:{}", self.admin_port.number()))
    }

    /// Types a line, which must succeed.
    fn type_in(&self, line: &str) -> String {
        let output = Command::new("sh")
            .args(["-c", line])
            .current_dir(self.scratch.path())
            .env("CARGO_TARGET_DIR", compiled())
            .env_remove("CARGO_MANIFEST_DIR")
            .output()
            .expect("running sh");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{line}\n{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }

    /// Types a curl line that shows Cache-Status.
    fn cache(&self, line: &str) -> CacheStatus {
        let said = self.type_in(line);
        let field = said
            .lines()
            .find_map(|line| line.strip_prefix("cache-status: "))
            .unwrap_or_else(|| panic!("no Cache-Status: {line}\n{said}"));
        CacheStatus::parse(field).unwrap_or_else(|| panic!("not weir's: {field}"))
    }

    fn json(&self, line: &str) -> Value {
        let said = self.type_in(line);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{line}: {error}: {said}"))
    }
}

/// Where the copy's policies are compiled: kept, so that only the first run is slow.
fn compiled() -> PathBuf {
    target_dir().join("demo-policies")
}

/// Copies what the policies are made of, as a workspace of its own, and returns its
/// `plugins`: a test may edit that.
fn copied_plugins(root: &Path) -> PathBuf {
    let from = workspace();
    for folder in ["plugins", "wit"] {
        copy(&from.join(folder), &root.join(folder));
    }
    std::fs::copy(from.join("Cargo.lock"), root.join("Cargo.lock")).expect("the lock file");
    // Policies in other languages are no members.
    let folders = from.join("plugins").read_dir().expect("the plugins");
    let members: Vec<String> = folders
        .filter_map(|folder| {
            let folder = folder.expect("a folder").path();
            let is_crate = folder.join("Cargo.toml").is_file();
            let name = folder.file_name().filter(|_| is_crate)?.to_string_lossy();
            Some(format!("plugins/{name}"))
        })
        .collect();
    let manifest = std::fs::read_to_string(from.join("Cargo.toml")).expect("the manifest");
    let manifest: String = manifest
        .lines()
        .filter(|line| !line.starts_with("default-members"))
        .map(|line| match line.starts_with("members") {
            true => format!("members = {members:?}\n"),
            false => format!("{line}\n"),
        })
        .collect();
    std::fs::write(root.join("Cargo.toml"), manifest).expect("the copy's manifest");
    root.join("plugins")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder of the copy");
    for entry in from.read_dir().expect("a folder to copy") {
        let entry = entry.expect("an entry");
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            true if entry.file_name() == "target" => {}
            true => copy(&path, &to),
            false => drop(std::fs::copy(&path, &to).expect("copying a file")),
        }
    }
}

/// Ctrl-C, and what it must do.
async fn interrupt(mut demo: Process) {
    demo.signal(Signal::INT);
    let status = demo.wait(PATIENCE).await;
    assert!(status.success(), "{status}:\n{}", demo.output());
    assert!(
        demo.output().contains("The demo has ended."),
        "{}",
        demo.output()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_that_the_demo_prints_does_what_the_text_says() {
    let _turn = lock(".demo-policies.lock");
    let demo = Demo::prepare().await;
    let (process, lines) = demo.start(1).await;
    let mut lines = lines.into_iter();
    let mut next = |part: &str| {
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("no line with {part}"));
        assert!(line.contains(part), "{part:?} was expected in: {line}");
        line
    };

    // 1. Miss, then hit.
    let first = demo.cache(&next("/users/42"));
    assert!(!first.hit && first.stored, "{first:?}");
    let second = demo.cache(&next("/users/42"));
    assert!(second.hit && second.details("memory"), "{second:?}");
    assert!(second.ttl > Some(3_000), "an hour: {second:?}");

    // 2. A purge by tag, then 3. an event: each makes a miss.
    let receipt = demo.json(&next("/v1/invalidate"));
    assert_eq!(receipt["scope"], "fleet", "{receipt}");
    assert!(!demo.cache(&next("/users/42")).hit);
    let receipt = demo.json(&next("/v1/events"));
    assert_eq!(receipt["selectors"][0]["value"], "user:42", "{receipt}");
    let show = next("/users/42");
    assert!(!demo.cache(&show).hit);

    // 4. What a PUT answered is what the next GET gets, from memory.
    let put = demo.cache(&next("-X PUT"));
    assert!(put.details("write-through"), "{put:?}");
    let whole = demo.type_in(&next("/users/42"));
    assert!(whole.contains("Ada"), "{whole}");
    let field = whole
        .lines()
        .find_map(|line| line.strip_prefix("cache-status: "));
    let status = field.and_then(CacheStatus::parse).expect("Cache-Status");
    assert!(status.hit, "{status:?}");

    // 5. Queries in another order, with tracking: one object. Another device: another one.
    assert!(!demo.cache(&next("/page.html")).hit);
    assert!(demo.cache(&next("/page.html")).hit);
    assert!(!demo.cache(&next("iPhone")).hit);

    // 6. Why.
    let offline = demo.type_in(&next(" explain "));
    assert!(offline.contains("|user:profile:42\n"), "{offline}");
    assert!(offline.contains("fresh for 1h"), "{offline}");
    let live = demo.json(&next("/v1/explain"));
    assert_eq!(live["stored"]["state"], "fresh", "{live}");

    // 7. Another lifetime, built from source while the node runs.
    let before = demo.admin().version("charity").await;
    let source = demo.plugins.join("charity/src/config.rs");
    let rule = std::fs::read_to_string(&source).expect("the policy's settings");
    let edited = rule.replace(
        "user_ttl: Span::seconds(3_600)",
        "user_ttl: Span::seconds(120)",
    );
    assert_ne!(rule, edited, "the text names a line that is not there");
    std::fs::write(&source, edited).expect("editing the policy");
    demo.type_in(&next(" plugin build "));
    until("the new version", async || {
        (demo.admin().version("charity").await != before).then_some(())
    })
    .await;
    demo.json(&next("/v1/invalidate"));
    let after = demo.cache(&next("/users/42"));
    assert!(
        after.stored && (100..=120).contains(&after.ttl.unwrap_or(0)),
        "{after:?}"
    );
    let file = demo.scratch.join("demo/weir.toml");
    let toml = std::fs::read_to_string(&file).expect("the demo's configuration");
    let edited = toml.replace(
        "[policies.charity]\n",
        "[policies.charity]\nconfig = { user_ttl = \"3m\" }\n",
    );
    assert_ne!(toml, edited, "the text names a table that is not there");
    std::fs::write(&file, edited).expect("editing the configuration");
    let reloaded = demo.json(&next("/v1/reload"));
    assert!(reloaded["error"].is_null(), "{reloaded}");
    demo.admin().purge_tag("user:42").await;
    let after = demo.cache(&show);
    assert!((150..=180).contains(&after.ttl.unwrap_or(0)), "{after:?}");

    // 8. Redis has it, and a restarted node finds it there.
    let again = next("/users/42");
    assert!(demo.cache(&again).hit);
    let scan = next("redis-cli");
    until("the object in Redis", async || {
        demo.type_in(&scan)
            .contains("user:profile:42")
            .then_some(())
    })
    .await;
    assert_eq!(lines.next(), None, "a line that is not tested");
    interrupt(process).await;

    let (process, _) = demo.start(2).await;
    let status = demo.cache(&again);
    assert!(status.hit && status.details("redis"), "{status:?}");
    interrupt(process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named_with_what_to_do() {
    let (scratch, port) = (Scratch::new(), Port::reserve());
    let _turn = lock(".demo-policies.lock");
    let listen = format!("127.0.0.1:{}", port.number());
    let _taken = std::net::TcpListener::bind(&listen).expect("the port");
    let output = Command::new(weir_binary())
        .args([
            "demo",
            "--listen",
            &listen,
            "--admin",
            "127.0.0.1:0",
            "--dir",
        ])
        .arg(scratch.join("demo"))
        .arg("--plugins")
        .arg(copied_plugins(&scratch.join("checkout")))
        .env("CARGO_TARGET_DIR", compiled())
        .env_remove("CARGO_MANIFEST_DIR")
        .output()
        .expect("running weir demo");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [listen.as_str(), "--listen", "--admin"] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}
