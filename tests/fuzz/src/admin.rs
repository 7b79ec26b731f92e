//! Requests to the admin API, with a node behind it that holds the API to its contract.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http::{Request, Uri, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;
use weir_admin::{
    AuditEntry, Auth, Connections, Control, ControlError, ControlErrorKind, Deployed, EventAnswer,
    ExplainRequest, Fleet, InspectRequest, InvalidateAnswer, InvalidateRequest, MAX_AUDIT,
    MAX_SELECTORS, PolicyInfo, Readiness, Reloaded, RolledBack, Scope, Trial, TrialRequest, Upload,
};

use crate::semantics::fields;

/// What no input is to guess.
const TOKEN: &str = "9f86d081884c7d659a2feaa0c55ad015";

/// A line with method and target, fields, an empty line, and the body.
pub fn admin(data: &[u8]) {
    let mut lines = data.splitn(2, |&byte| byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let rest = lines.next().unwrap_or_default();
    let mut words = first.splitn(2, |&byte| byte == b' ');
    let (method, target) = (words.next(), words.next().unwrap_or_default());
    let mut rest_lines = rest.split(|&byte| byte == b'\n');
    let headers = fields(&mut rest_lines);
    let body: Vec<u8> = rest_lines.collect::<Vec<_>>().join(&b'\n');
    let request = || {
        let mut request = Request::builder()
            .method(method.unwrap_or_default())
            .uri(target)
            .body(Body::from(body.clone()))
            .ok()?;
        *request.headers_mut() = headers.clone();
        Some(request)
    };
    NODES.with(|nodes| {
        if let Some(request) = request() {
            nodes.by_name.ask(request, is_loopback);
        }
        if let Some(request) = request() {
            nodes.by_token.ask(request, |_| false);
        }
        if let Some(mut request) = request() {
            let token = format!("Bearer {TOKEN}").parse().expect("a value");
            request.headers_mut().insert(header::AUTHORIZATION, token);
            nodes.by_token.ask(request, |_| true);
        }
    });
}

/// What the one name of the request's host says of it.
fn is_loopback(request: &Request<Body>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(host) = std::str::from_utf8(host.as_bytes()) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.parse::<Ipv4Addr>();
    name.eq_ignore_ascii_case("localhost")
        || name.starts_with('[') && name.ends_with("1]")
        || address.is_ok_and(|address| address.is_loopback())
}

thread_local! {
    static NODES: Nodes = Nodes::new();
}

struct Nodes {
    by_name: Node,
    by_token: Node,
}

impl Nodes {
    fn new() -> Self {
        Self {
            by_name: Node::new(Auth::loopback()),
            by_token: Node::new(Auth::token(TOKEN).expect("a token")),
        }
    }
}

struct Node {
    router: Router,
    asked: Arc<Asked>,
    runtime: Runtime,
}

impl Node {
    fn new(auth: Auth) -> Self {
        let asked = Arc::new(Asked::default());
        Self {
            router: weir_admin::router(auth, Arc::<Asked>::clone(&asked)),
            asked,
            runtime: Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime"),
        }
    }

    /// Whoever may not ask reaches nothing; whoever may gets an answer that says something.
    fn ask(&self, request: Request<Body>, may: impl Fn(&Request<Body>) -> bool) {
        let may = may(&request);
        let what = format!("{request:?}");
        self.asked.0.store(false, Ordering::Relaxed);
        let (status, body) = self.runtime.block_on(async {
            let response = match self.router.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            let status = response.status();
            let body = response.into_body().collect().await;
            (status, body.expect("a body").to_bytes())
        });
        let asked = self.asked.0.load(Ordering::Relaxed);
        assert!(may || !asked, "the node was asked by a stranger: {what}");
        assert!(!status.is_server_error() || asked, "{status}: {what}");
        if status.is_client_error() && !body.is_empty() {
            let error: Value = serde_json::from_slice(&body).expect("an error is JSON");
            let message = error["error"]["message"].as_str().unwrap_or_default();
            assert!(!message.is_empty(), "{status} says nothing: {what}");
        }
    }
}

/// A node that knows only whether it was asked, and that refuses.
#[derive(Default)]
struct Asked(AtomicBool);

impl Asked {
    fn asked(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn refuse<T>(&self) -> Result<T, ControlError> {
        self.asked();
        Err(ControlError::new(ControlErrorKind::Conflict, "refused"))
    }
}

fn is_absolute(url: &Uri) -> bool {
    let plain = |authority: &http::uri::Authority| !authority.as_str().contains('@');
    matches!(url.scheme_str(), Some("http" | "https")) && url.authority().is_some_and(plain)
}

#[async_trait]
impl Control for Asked {
    async fn invalidate(&self, it: InvalidateRequest) -> Result<InvalidateAnswer, ControlError> {
        self.asked();
        let lists = [&it.urls, &it.keys, &it.tags, &it.namespaces, &it.prefixes];
        let count = lists.iter().map(|list| list.len()).sum::<usize>() + usize::from(it.all);
        assert!((1..=MAX_SELECTORS).contains(&count), "{count} selectors");
        assert!(!lists.iter().any(|list| list.iter().any(String::is_empty)));
        let absolute = |url: &String| url.parse().is_ok_and(|url| is_absolute(&url));
        assert!(it.urls.iter().all(absolute), "{:?}", it.urls);
        Ok(InvalidateAnswer {
            sequence: None,
            scope: Scope::Node,
            durable: None,
        })
    }

    async fn event(&self, kind: &str, _: Value) -> Result<EventAnswer, ControlError> {
        assert!(!kind.is_empty());
        self.refuse()
    }

    async fn policies(&self) -> Vec<PolicyInfo> {
        self.asked();
        Vec::new()
    }

    async fn put_policy(&self, _: &str, upload: Upload) -> Result<Deployed, ControlError> {
        assert!(!upload.component.is_empty());
        self.refuse()
    }

    async fn hold_policy(&self, _: &str, upload: Upload) -> Result<Deployed, ControlError> {
        assert!(!upload.component.is_empty());
        self.refuse()
    }

    async fn try_policy(&self, _: &str, request: TrialRequest) -> Result<Trial, ControlError> {
        assert!(request.percent > 0.0 && request.percent <= 100.0);
        self.refuse()
    }

    async fn promote(&self, _: &str, _: Option<String>) -> Result<Deployed, ControlError> {
        self.refuse()
    }

    async fn rollback(&self, _: &str) -> Result<RolledBack, ControlError> {
        self.refuse()
    }

    async fn fleet(&self) -> Fleet {
        Fleet::default()
    }

    async fn audit(&self, _: Option<String>, limit: usize) -> Vec<AuditEntry> {
        self.asked();
        assert!((1..=MAX_AUDIT).contains(&limit));
        Vec::new()
    }

    async fn reload(&self) -> Result<Vec<Reloaded>, ControlError> {
        self.refuse()
    }

    async fn explain(&self, request: ExplainRequest) -> Result<Value, ControlError> {
        assert!(is_absolute(&request.url), "{:?}", request.url);
        assert!(!request.headers.contains_key(header::HOST));
        self.refuse()
    }

    async fn inspect(&self, request: InspectRequest) -> Result<Value, ControlError> {
        match request {
            InspectRequest::Key(key, _) => assert!(!key.is_empty()),
            InspectRequest::Url(request) => assert!(is_absolute(&request.url), "{}", request.url),
        }
        self.refuse()
    }

    async fn stats(&self) -> Value {
        self.asked();
        Value::Null
    }

    async fn connections(&self, _: usize) -> Connections {
        self.asked();
        Connections {
            total: 0,
            connections: Vec::new(),
        }
    }

    async fn cut_connection(&self, _: u64) -> Result<(), ControlError> {
        self.refuse()
    }

    async fn status(&self) -> Value {
        self.asked();
        json!({})
    }

    // Probes ask these, which need no token.
    fn readiness(&self) -> Readiness {
        Readiness::Ready {
            degraded: Vec::new(),
        }
    }

    fn metrics(&self) -> String {
        self.asked();
        "# EOF\n".into()
    }
}
