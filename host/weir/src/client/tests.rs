//! The commands against a real admin API, with a node that answers from its fields.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use clap::Parser;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use weir_admin::{
    AuditEntry, Auth, Connections, Control, ControlError, ControlErrorKind, Deployed, EventAnswer,
    ExplainRequest, Fleet, HookCost, InspectRequest, InvalidateAnswer, InvalidateRequest, Outcomes,
    PolicyCost, PolicyInfo, Quarantined, Readiness, Reloaded, RolledBack, Scope, Selected,
    SelectorKind, Source, Trial, TrialExample, TrialMode, TrialRequest, Upload, VersionInfo,
};

use super::*;
use crate::stats::{AllStats, Stats};

mod connection;

fn on_trial(mode: TrialMode, percent: f64) -> Trial {
    Trial {
        version: "ghi".into(),
        mode,
        percent,
        same: 90,
        different: 2,
        decided: 7,
        outcomes: Outcomes {
            lookups: 7,
            hits: 3,
            answers: 0,
            errors: 0,
        },
        live: Outcomes {
            lookups: 0,
            hits: 0,
            answers: 200,
            errors: 3,
        },
        failed: 1,
        skipped: 3,
        differences: [("key".to_owned(), 2)].into(),
        examples: vec![TrialExample {
            kind: "key".into(),
            subject: "GET http://a/1".into(),
            live: "user:1".into(),
            tried: "user:\u{1b}~".into(),
        }],
        last_error: None,
    }
}

struct Fake {
    asked: Mutex<Vec<String>>,
    readiness: Readiness,
    scope: Scope,
}

impl Fake {
    fn new() -> Self {
        Self {
            asked: Mutex::new(Vec::new()),
            readiness: Readiness::Ready { degraded: vec![] },
            scope: Scope::Fleet,
        }
    }
}

#[async_trait]
impl Control for Fake {
    async fn invalidate(
        &self,
        request: InvalidateRequest,
    ) -> Result<InvalidateAnswer, ControlError> {
        if request.namespaces.iter().any(|name| name == "nobody") {
            let message = "`nobody` is the namespace of no policy";
            return Err(ControlError::bad_request("namespaces[0]", message));
        }
        let asked = serde_json::to_string(&request).unwrap();
        self.asked.lock().await.push(asked);
        Ok(InvalidateAnswer {
            sequence: (self.scope == Scope::Fleet).then_some(42),
            scope: self.scope,
            durable: (self.scope == Scope::Node).then_some(false),
        })
    }

    async fn connections(&self, _: usize) -> Connections {
        Connections {
            total: 0,
            connections: vec![],
        }
    }

    async fn cut_connection(&self, id: u64) -> Result<(), ControlError> {
        self.asked.lock().await.push(format!("cut {id}"));
        Ok(())
    }

    async fn event(&self, kind: &str, data: Value) -> Result<EventAnswer, ControlError> {
        let known = kind == "user.updated";
        let selected = Selected {
            policy: "charity".into(),
            kind: SelectorKind::Tag,
            value: Some(format!("user-{}", data["id"])),
            host: None,
            soft: true,
        };
        Ok(EventAnswer {
            selectors: if known { vec![selected] } else { vec![] },
            sequence: None,
            scope: self.scope,
            durable: (self.scope == Scope::Node).then_some(true),
        })
    }

    async fn policies(&self) -> Vec<PolicyInfo> {
        vec![PolicyInfo {
            name: "charity".into(),
            version: "abc".into(),
            source: Source::Deployed,
            namespaces: vec!["user".into()],
            grants: vec!["kv".into()],
            instances: 2,
            calls: 1234,
            failures: 1,
            last_error: Some("trap \u{1b}[2J".into()),
            previous: Some("aaa".into()),
            held: vec![],
            trial: Some(on_trial(TrialMode::Shadow, 12.5)),
            quarantined: Some(Quarantined {
                version: "xyz".into(),
                why: "it \u{1b}traps".into(),
                wait_seconds: 300,
            }),
            cost: PolicyCost {
                recalled: 5_000,
                remembers: true,
                memory_bytes: 3 << 20,
                hooks: vec![HookCost {
                    hook: "on-request".into(),
                    calls: 1_234,
                    failures: [("trap".to_owned(), 1)].into(),
                    seconds: 0.5,
                    p50_us: Some(1.5),
                    p99_us: Some(2_000.0),
                }],
            },
            versions: vec![VersionInfo {
                version: "abc".into(),
                role: "active".into(),
                since: "2026-11-26T19:00:00Z".into(),
                semver: Some("1.4.0\u{1b}".into()),
                authors: Some("Ada".into()),
                ..VersionInfo::default()
            }],
        }]
    }

    async fn put_policy(&self, name: &str, upload: Upload) -> Result<Deployed, ControlError> {
        let refused = ControlErrorKind::BadRequest { field: None };
        if upload.component.starts_with(b"junk") {
            return Err(ControlError::new(refused, "not a component"));
        }
        self.asked.lock().await.push(format!("put {name}"));
        Ok(Deployed {
            version: "def".into(),
            ..Deployed::default()
        })
    }

    async fn hold_policy(&self, name: &str, _: Upload) -> Result<Deployed, ControlError> {
        self.asked.lock().await.push(format!("hold {name}"));
        Ok(Deployed {
            version: "ghi".into(),
            ..Deployed::default()
        })
    }

    async fn try_policy(&self, name: &str, request: TrialRequest) -> Result<Trial, ControlError> {
        let asked = format!("{name} {:?} {:?}", request.mode, request.version);
        self.asked.lock().await.push(asked);
        Ok(on_trial(request.mode, request.percent))
    }

    async fn promote(&self, name: &str, version: Option<String>) -> Result<Deployed, ControlError> {
        self.asked
            .lock()
            .await
            .push(format!("promote {name} {version:?}"));
        Ok(Deployed {
            version: "ghi".into(),
            ..Deployed::default()
        })
    }

    async fn fleet(&self) -> Fleet {
        Fleet::default()
    }

    async fn audit(&self, policy: Option<String>, limit: usize) -> Vec<AuditEntry> {
        self.asked
            .lock()
            .await
            .push(format!("audit {policy:?} {limit}"));
        vec![AuditEntry {
            time: "2026-11-26T19:00:00.000Z".into(),
            policy: "charity".into(),
            action: "refused".into(),
            by: "file".into(),
            version: "abc".into(),
            from: None,
            detail: Some("no \u{1b}component".into()),
            semver: Some("1.4.0".into()),
            authors: Some("A \u{1b}da".into()),
        }]
    }

    async fn rollback(&self, _: &str) -> Result<RolledBack, ControlError> {
        let message = "there is no earlier version";
        Err(ControlError::new(ControlErrorKind::Conflict, message))
    }

    async fn reload(&self) -> Result<Vec<Reloaded>, ControlError> {
        Ok(vec![])
    }

    async fn explain(&self, _: ExplainRequest) -> Result<Value, ControlError> {
        Ok(Value::Null)
    }

    async fn inspect(&self, request: InspectRequest) -> Result<Value, ControlError> {
        let InspectRequest::Key(key, headers) = request else {
            return Err(ControlError::bad_request("url", "not looked up"));
        };
        let asked = format!("inspect {key} {headers:?}");
        self.asked.lock().await.push(asked);
        if key.ends_with("large") {
            let chunks = json!({"count": 3, "there": 2, "bytes": 600_000});
            let object = json!({"record_bytes": 400, "ttl": 70.0, "chunks": chunks});
            return Ok(json!({"key": key, "tiers": [{"tier": "redis", "objects": [object]}]}));
        }
        Ok(json!({
            "key": key,
            "namespace": "user",
            "log": {"epoch": "00", "sequence": 9, "node_sequence": 0},
            "tiers": [
                {"tier": "memory", "parts": 0, "selected_by": [], "unreadable": [], "objects": [{
                    "state": "purged",
                    "purged_by": [{"named": "tag", "sequence": 9, "log": "fleet", "soft": false}],
                    "status": 200, "body_bytes": 12, "header_bytes": 34, "coding": "gzip",
                    "vary": [{"field": "accept-language", "value": "de"}],
                    "tags": ["a", "b"], "url": "http://a/1", "policy": "p@1",
                    "position": {"epoch": "00", "sequence": 8, "node_sequence": 0},
                    "age": 61.0, "remaining": -1.0, "stale_if_error": 300.0,
                    "memory_remaining": 59.0, "shared": false,
                }]},
                {"tier": "redis", "error": "down: connection refused", "objects": []},
            ],
        }))
    }

    async fn stats(&self) -> Value {
        json!(AllStats {
            namespaces: vec![Stats {
                namespace: "user".into(),
                objects: 3,
                hits: 9,
                misses: 1,
                hit_ratio: Some(0.9),
                evictions: 1,
                ..Stats::default()
            }],
            total: Stats {
                namespace: "all".into(),
                evictions: 4,
                ..Stats::default()
            },
        })
    }

    async fn status(&self) -> Value {
        json!({"version": "0.1.0", "memory": {"bytes": 7, "entries": 1}, "redis": null})
    }

    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    fn metrics(&self) -> String {
        String::new()
    }
}

async fn start(auth: Auth, fake: Arc<Fake>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(weir_admin::serve(
        listener,
        auth,
        fake,
        std::future::pending(),
    ));
    address
}

#[derive(Parser)]
enum Line {
    Purge(PurgeArgs),
    Event(EventArgs),
    Deploy(DeployArgs),
    Rollback(RollbackArgs),
    Trial(TrialArgs),
    Promote(PromoteArgs),
    Audit(AuditArgs),
    Status(StatusArgs),
    Stats(StatsArgs),
    Inspect(InspectArgs),
}

/// Runs a command line against `admin`; the output, or the whole error.
async fn run(admin: &str, line: &[&str]) -> Result<String, String> {
    let address = ["--admin", admin];
    let words = ["weir"].iter().chain(line).chain(&address);
    let result = match Line::try_parse_from(words).map_err(|error| error.to_string())? {
        Line::Purge(args) => purge::execute(args).await,
        Line::Event(args) => event::execute(args).await,
        Line::Deploy(args) => deploy::deploy(args).await,
        Line::Rollback(args) => deploy::rollback(args).await,
        Line::Trial(args) => trial::trial(args).await,
        Line::Promote(args) => trial::promote(args).await,
        Line::Audit(args) => trial::audit(args).await,
        Line::Stats(args) => stats::execute(args).await,
        Line::Inspect(args) => inspect::execute(args).await,
        Line::Status(args) => status::execute(args).await.map(|report| report.text),
    };
    result.map_err(|error| format!("{error:#}"))
}

async fn node() -> (Arc<Fake>, String) {
    let fake = Arc::new(Fake::new());
    let address = start(Auth::loopback(), fake.clone()).await;
    (fake, format!("http://{address}"))
}

fn file(content: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file
}

#[tokio::test]
async fn purge_sends_every_option_and_says_what_was_done() {
    let (fake, admin) = node().await;
    let line = "purge --url http://a/1 --url http://a/2 --key user:profile:42 --tag t \
                --namespace user --prefix user:p --host a --soft";
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = run(&admin, &words).await.unwrap();
    assert_eq!(
        output,
        "soft-purged 2 URLs, 1 key, 1 tag, 1 namespace, 1 prefix of a\n\
         in force on every node (sequence 42)"
    );
    let asked: Value = serde_json::from_str(&fake.asked.lock().await[0]).unwrap();
    assert_eq!(
        asked,
        json!({
            "urls": ["http://a/1", "http://a/2"], "keys": ["user:profile:42"], "tags": ["t"],
            "namespaces": ["user"], "prefixes": ["user:p"], "all": false, "host": "a", "soft": true,
        })
    );
    let output = run(&admin, &["purge", "--all", "--json"]).await.unwrap();
    let answer: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(answer, json!({"sequence": 42, "scope": "fleet"}));
}

#[tokio::test]
async fn a_purge_of_nothing_is_refused_before_it_is_sent() {
    let (fake, admin) = node().await;
    let error = run(&admin, &["purge", "--host", "a"]).await.unwrap_err();
    assert!(error.contains("--tag <TAG>"), "{error}");
    assert!(fake.asked.lock().await.is_empty());
}

#[tokio::test]
async fn a_purge_that_reached_one_node_says_so() {
    let mut fake = Fake::new();
    fake.scope = Scope::Node;
    let address = start(Auth::loopback(), Arc::new(fake)).await;
    let output = run(&address.to_string(), &["purge", "--all"])
        .await
        .unwrap();
    assert!(
        output.starts_with("purged everything\nin force on this node only"),
        "{output}"
    );
    assert!(output.contains("until the node is restarted"), "{output}");
}

#[tokio::test]
async fn a_node_s_refusal_is_told_in_its_words() {
    let (_, admin) = node().await;
    let error = run(&admin, &["purge", "--namespace", "nobody"])
        .await
        .unwrap_err();
    assert_eq!(error, "`nobody` is the namespace of no policy");
}

#[tokio::test]
async fn events_tell_what_the_policies_selected() {
    let (_, admin) = node().await;
    let output = run(&admin, &["event", "user.updated", r#"{"id":42}"#])
        .await
        .unwrap();
    assert!(
        output.starts_with("charity: soft-purged tag user-42\nin force"),
        "{output}"
    );
    let output = run(&admin, &["event", "who.knows"]).await.unwrap();
    assert_eq!(output, "no policy invalidates anything for who.knows");
    let error = run(&admin, &["event", "user.updated", "{id:42}"])
        .await
        .unwrap_err();
    assert!(
        error.contains("not JSON") && error.contains("line 1 column 2"),
        "{error}"
    );
}

#[tokio::test]
async fn deploy_tells_both_versions_and_a_refused_one_says_which_stays() {
    let (fake, admin) = node().await;
    let path = |file: &NamedTempFile| file.path().to_str().unwrap().to_owned();
    let good = file(b"\0asm");
    let output = run(&admin, &["deploy", "charity", &path(&good)])
        .await
        .unwrap();
    assert_eq!(output, "charity: def is in force, in place of abc");
    let junk = file(b"junk");
    let error = run(&admin, &["deploy", "charity", &path(&junk)])
        .await
        .unwrap_err();
    assert_eq!(error, "charity stays at version abc: not a component");
    let error = run(&admin, &["deploy", "other", &path(&good)])
        .await
        .unwrap_err();
    assert!(error.contains("no policy other, only charity"), "{error}");
    let error = run(&admin, &["deploy", "charity", &path(&file(b""))])
        .await
        .unwrap_err();
    assert!(
        error.contains("is empty: build the policy with weir plugin build"),
        "{error}"
    );
    assert_eq!(*fake.asked.lock().await, ["put charity"]);
}

#[tokio::test]
async fn rollback_without_an_earlier_version_fails() {
    let (_, admin) = node().await;
    let error = run(&admin, &["rollback", "charity"]).await.unwrap_err();
    assert_eq!(error, "there is no earlier version");
}

#[tokio::test]
async fn stats_are_a_line_for_each_namespace() {
    let (_, admin) = node().await;
    let output = run(&admin, &["stats"]).await.unwrap();
    let words = |line: usize| -> Vec<&str> {
        let lines: Vec<&str> = output.lines().collect();
        lines[line].split_whitespace().collect()
    };
    assert_eq!(
        words(1),
        [
            "user", "3", "0", "B", "9", "1", "90.0%", "1", "25.0%", "0", "-", "-"
        ]
    );
    assert_eq!(words(2)[0], "all");
    assert_eq!(output.lines().count(), 3, "{output}");
}

#[tokio::test]
async fn inspect_tells_why_an_object_is_not_served_and_which_tier_is_away() {
    let (fake, admin) = node().await;
    let output = run(&admin, &["inspect", "http://a|user:1", "-H", "a: b"])
        .await
        .unwrap();
    for told in [
        "state      purged",
        "purged by  tag, hard, sequence 9 of the fleet",
        "body 12 bytes in gzip",
        "selected   accept-language: de",
        "age 1m, over for 1s, then stale if error 5m",
        "leaves     memory in 59s",
        "fetched at epoch 00, sequence 8",
        "redis      down: connection refused",
    ] {
        assert!(output.contains(told), "{told:?} is not in:\n{output}");
    }
    let asked = fake.asked.lock().await.clone();
    assert_eq!(asked, [r#"inspect http://a|user:1 {"a": "b"}"#]);
    let output = run(&admin, &["inspect", "http://a|large"]).await.unwrap();
    let chunks =
        "chunks     2 of 3 there, 600000 bytes in all, so the object is not served from here";
    assert!(output.contains(chunks), "{output}");
    let error = run(&admin, &["inspect"]).await.unwrap_err();
    assert!(error.contains("--url"), "{error}");
}

#[tokio::test]
async fn a_deploy_to_be_tried_is_held_first_and_the_next_steps_are_named() {
    let (fake, admin) = node().await;
    let component = file(b"component");
    let path = component.path().to_str().unwrap();
    let said = run(&admin, &["deploy", "charity", path, "--shadow", "25"])
        .await
        .unwrap();
    assert_eq!(
        said,
        "charity: ghi is a shadow on 25 % of the requests; abc is in force\n\
         weir trial charity shows what it comes to, weir promote charity puts it in force, \
         weir rollback charity ends it"
    );
    assert_eq!(
        *fake.asked.lock().await,
        ["hold charity", "charity Shadow Some(\"ghi\")"]
    );
    let both = run(
        &admin,
        &["deploy", "charity", path, "--shadow", "1", "--canary", "1"],
    )
    .await;
    assert!(both.unwrap_err().contains("cannot be used with"));
    let none = run(&admin, &["trial", "charity", "--canary", "0"]).await;
    assert!(none.unwrap_err().contains("more than 0 and at most 100"));
}

#[tokio::test]
async fn a_trial_is_shown_with_its_differences() {
    let (_, admin) = node().await;
    assert_eq!(
        run(&admin, &["trial", "charity"]).await.unwrap(),
        "charity: ghi is a shadow of abc on 12.5 % of the requests\n\
         same 90, different 2, failed 1, left out 3\n\n\
         key differs in 2\n  GET http://a/1\n    abc  user:1\n    ghi  user:\u{fffd}~"
    );
    let said = run(&admin, &["promote", "charity"]).await.unwrap();
    assert_eq!(said, "charity: ghi is in force, in place of abc");
    let error = run(&admin, &["trial", "charity", "--version", "x"]).await;
    assert!(error.unwrap_err().contains("--version goes with"));
}

#[tokio::test]
async fn the_audit_is_a_table() {
    let (fake, admin) = node().await;
    let said = run(&admin, &["audit", "--policy", "a&b", "--limit", "5"])
        .await
        .unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].starts_with("TIME") && lines[0].ends_with("BY"),
        "{said}"
    );
    assert!(
        lines[1].contains("refused") && lines[1].ends_with("file: no \u{fffd}component"),
        "{said}"
    );
    assert_eq!(*fake.asked.lock().await, ["audit Some(\"a&b\") 5"]);
}
