//! The API as a client sees it, with a node that only remembers what it was asked.

mod errors;
mod routes;
mod security;
mod socket;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tower::ServiceExt;

use crate::control::{
    AuditEntry, Connection, Connections, Control, ControlError, ControlErrorKind, Deployed,
    EventAnswer, ExplainRequest, Fleet, InspectRequest, InvalidateAnswer, InvalidateRequest,
    Outcomes, PolicyCost, PolicyInfo, Readiness, Reloaded, RolledBack, Scope, Selected,
    SelectorKind, Source, Trial, TrialRequest, Upload,
};
use crate::{Auth, routes::router};

/// A node that answers from its fields and writes down what it was asked.
struct Fake {
    asked: Mutex<Vec<String>>,
    readiness: Readiness,
    fail: Option<ControlError>,
    reload_error: Option<String>,
}

impl Fake {
    fn new() -> Self {
        Self {
            asked: Mutex::new(Vec::new()),
            readiness: Readiness::Ready { degraded: vec![] },
            fail: None,
            reload_error: None,
        }
    }

    async fn note(&self, asked: String) -> Result<(), ControlError> {
        self.asked.lock().await.push(asked);
        self.fail.clone().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Control for Fake {
    async fn invalidate(
        &self,
        request: InvalidateRequest,
    ) -> Result<InvalidateAnswer, ControlError> {
        self.note(serde_json::to_string(&request).unwrap()).await?;
        Ok(InvalidateAnswer {
            sequence: Some(42),
            scope: Scope::Fleet,
            durable: None,
        })
    }

    async fn event(&self, kind: &str, data: Value) -> Result<EventAnswer, ControlError> {
        self.note(format!("event {kind} {data}")).await?;
        Ok(EventAnswer {
            selectors: vec![Selected {
                policy: "charity".into(),
                kind: SelectorKind::Tag,
                value: Some("user-42".into()),
                host: None,
                soft: false,
            }],
            sequence: None,
            scope: Scope::Node,
            durable: Some(false),
        })
    }

    async fn policies(&self) -> Vec<PolicyInfo> {
        vec![PolicyInfo {
            name: "charity".into(),
            version: "abc".into(),
            source: Source::File,
            namespaces: vec!["user".into()],
            grants: vec!["kv".into()],
            instances: 2,
            calls: 7,
            failures: 1,
            last_error: Some("on-request trapped".into()),
            previous: None,
            held: vec!["def".into()],
            trial: None,
            quarantined: None,
            cost: PolicyCost::default(),
            versions: Vec::new(),
        }]
    }

    async fn put_policy(&self, name: &str, upload: Upload) -> Result<Deployed, ControlError> {
        let Upload {
            component,
            signature,
        } = upload;
        self.note(format!("put {name} {component:?} {signature:?}"))
            .await?;
        Ok(Deployed {
            version: "def".into(),
            ..Deployed::default()
        })
    }

    async fn hold_policy(&self, name: &str, upload: Upload) -> Result<Deployed, ControlError> {
        self.note(format!("hold {name} {:?}", upload.component))
            .await?;
        Ok(Deployed {
            version: "def".into(),
            ..Deployed::default()
        })
    }

    async fn try_policy(&self, name: &str, request: TrialRequest) -> Result<Trial, ControlError> {
        self.note(format!("{name} {request:?}")).await?;
        Ok(Trial {
            version: "def".into(),
            mode: request.mode,
            percent: request.percent,
            same: 0,
            different: 0,
            decided: 0,
            outcomes: Outcomes::default(),
            live: Outcomes::default(),
            failed: 0,
            skipped: 0,
            differences: BTreeMap::new(),
            examples: Vec::new(),
            last_error: None,
        })
    }

    async fn promote(&self, name: &str, version: Option<String>) -> Result<Deployed, ControlError> {
        self.note(format!("promote {name} {version:?}")).await?;
        Ok(Deployed {
            version: "def".into(),
            ..Deployed::default()
        })
    }

    async fn rollback(&self, name: &str) -> Result<RolledBack, ControlError> {
        self.note(format!("rollback {name}")).await?;
        Ok(RolledBack {
            version: "abc".into(),
            ended: None,
            ..RolledBack::default()
        })
    }

    async fn fleet(&self) -> Fleet {
        Fleet::default()
    }

    async fn audit(&self, policy: Option<String>, limit: usize) -> Vec<AuditEntry> {
        self.note(format!("audit {policy:?} {limit}"))
            .await
            .unwrap();
        Vec::new()
    }

    async fn reload(&self) -> Result<Vec<Reloaded>, ControlError> {
        self.note("reload".into()).await?;
        Ok(vec![Reloaded {
            name: "charity".into(),
            version: Some("abc".into()),
            changed: false,
            error: self.reload_error.clone(),
        }])
    }

    async fn explain(&self, request: ExplainRequest) -> Result<Value, ControlError> {
        self.note("explain".into()).await?;
        let headers: Vec<String> = request
            .headers
            .iter()
            .map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        Ok(json!({
            "url": request.url.to_string(),
            "method": request.method.as_str(),
            "headers": headers,
        }))
    }

    async fn inspect(&self, request: InspectRequest) -> Result<Value, ControlError> {
        self.note(format!("{request:?}")).await?;
        Ok(json!({"key": "k", "tiers": []}))
    }

    async fn stats(&self) -> Value {
        json!({"namespaces": []})
    }

    async fn connections(&self, limit: usize) -> Connections {
        self.note(format!("connections {limit}")).await.unwrap();
        Connections {
            total: 7,
            connections: vec![Connection {
                id: 3,
                route: "/ws".into(),
                client: "::1".into(),
                upstream: "api".into(),
                protocol: "websocket".into(),
                since: "2026-01-01T00:00:00Z".into(),
                seconds: 1.5,
                bytes_to_client: 2,
                bytes_to_origin: 1,
            }],
        }
    }

    async fn cut_connection(&self, id: u64) -> Result<(), ControlError> {
        self.note(format!("cut {id}")).await
    }

    async fn status(&self) -> Value {
        json!({"version": "0.1.0"})
    }

    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    fn metrics(&self) -> String {
        "weir_generations_alive 1\n# EOF\n".into()
    }
}

const TOKEN: &str = "s3cret";

/// A request by this machine, without a token.
fn local(method: &str, target: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(target)
        .header("host", "127.0.0.1:9900")
}

fn local_json(method: &str, target: &str, body: impl Into<Body>) -> Request<Body> {
    local(method, target)
        .header("content-type", "application/json")
        .body(body.into())
        .unwrap()
}

fn token() -> Auth {
    Auth::token(TOKEN).unwrap()
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }

    fn field(&self) -> Option<String> {
        self.json()["error"]["field"].as_str().map(str::to_owned)
    }
}

async fn send(auth: Auth, fake: &Arc<Fake>, request: Request<Body>) -> Answer {
    let control: Arc<dyn Control> = fake.clone();
    let response = router(auth, control).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

async fn ask(fake: &Arc<Fake>, request: Request<Body>) -> Answer {
    send(Auth::loopback(), fake, request).await
}

fn get(target: &str) -> Request<Body> {
    local("GET", target).body(Body::empty()).unwrap()
}

fn error(kind: ControlErrorKind) -> ControlError {
    ControlError::new(kind, "said so")
}
