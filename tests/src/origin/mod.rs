//! An origin whose answers the test programs and whose requests it counts.

mod body;
mod gate;
mod reply;
mod serve;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};
use parking_lot::{Mutex, RwLock};
use tokio::task::JoinHandle;

use crate::port::Port;

pub use body::{Pattern, Piece};
pub use gate::Gate;
pub use reply::{Reply, page_text};

/// A request as the origin got it.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The request target: path and query.
    pub target: String,
    /// The path alone.
    pub path: String,
    /// The query, without the question mark; `None` when there is none.
    pub query: Option<String>,
    /// The header section.
    pub headers: HeaderMap,
    /// The first MiB of the body.
    pub body: Bytes,
    /// How long the whole body was, in bytes.
    pub body_length: u64,
    /// The version of this target: see [`Origin::bump`].
    pub version: u64,
    /// The how-manyeth request for this target it is, from 1.
    pub nth: u64,
}

impl Call {
    /// The first value of a header field. Bytes that are not UTF-8 are replaced.
    pub fn header(&self, name: &str) -> Option<String> {
        let value = self.headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }
}

type Handler = Arc<dyn Fn(&Call) -> Reply + Send + Sync>;

/// What the handlers and the test share.
#[derive(Default)]
struct State {
    /// By path; the longest matching prefix wins where no path is equal.
    exact: RwLock<HashMap<String, Handler>>,
    prefixes: RwLock<Vec<(String, Handler)>>,
    versions: Mutex<HashMap<String, u64>>,
    seen: Mutex<HashMap<String, Vec<Call>>>,
}

impl State {
    /// Counts a request and finds what answers it.
    fn receive(&self, mut call: Call) -> Reply {
        call.version = self.version(&call.target);
        {
            let mut seen = self.seen.lock();
            let calls = seen.entry(call.target.clone()).or_default();
            call.nth = calls.len() as u64 + 1;
            calls.push(call.clone());
        }
        let handler = self.handler(&call.path);
        match handler {
            Some(handler) => handler(&call),
            None => Reply::status(404).text("the origin has nothing here\n"),
        }
    }

    fn handler(&self, path: &str) -> Option<Handler> {
        if let Some(handler) = self.exact.read().get(path) {
            return Some(handler.clone());
        }
        let prefixes = self.prefixes.read();
        prefixes
            .iter()
            .filter(|(prefix, _)| path.starts_with(prefix.as_str()))
            .max_by_key(|(prefix, _)| prefix.len())
            .map(|(_, handler)| handler.clone())
    }

    fn version(&self, target: &str) -> u64 {
        *self.versions.lock().get(target).unwrap_or(&1)
    }
}

/// A running origin. Dropping it closes its listener and all its connections.
pub struct Origin {
    state: Arc<State>,
    port: Port,
    server: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").field("url", &self.url()).finish()
    }
}

impl Origin {
    /// Starts an origin that answers 404 to everything.
    pub async fn start() -> Self {
        let mut origin = Self {
            state: Arc::default(),
            port: Port::reserve(),
            server: None,
        };
        origin.up().await;
        origin
    }

    /// Starts one that answers every path by `handler`.
    pub async fn with(handler: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        let origin = Self::start().await;
        origin.under("/", handler);
        origin
    }

    /// Starts one whose pages live for ten minutes and have this tag.
    pub async fn tagged(tag: &'static str) -> Self {
        Self::with(move |call| {
            Reply::page(call)
                .cache("max-age=600")
                .header("surrogate-key", tag)
        })
        .await
    }

    /// Answers one path, whatever its query, by `handler` from now on.
    pub fn on(&self, path: &str, handler: impl Fn(&Call) -> Reply + Send + Sync + 'static) {
        let mut exact = self.state.exact.write();
        exact.insert(path.to_owned(), Arc::new(handler));
    }

    /// Answers all paths that begin with `prefix` by `handler` from now on.
    pub fn under(&self, prefix: &str, handler: impl Fn(&Call) -> Reply + Send + Sync + 'static) {
        let mut prefixes = self.state.prefixes.write();
        prefixes.retain(|(other, _)| other != prefix);
        prefixes.push((prefix.to_owned(), Arc::new(handler)));
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port.number()))
    }

    /// Requests so far for one target (path and query as the origin got them).
    pub fn count(&self, target: &str) -> usize {
        self.state.seen.lock().get(target).map_or(0, Vec::len)
    }

    /// Requests so far in all.
    pub fn total(&self) -> usize {
        self.state.seen.lock().values().map(Vec::len).sum()
    }

    /// Every request so far for one target, in order.
    pub fn calls(&self, target: &str) -> Vec<Call> {
        let seen = self.state.seen.lock();
        seen.get(target).cloned().unwrap_or_default()
    }

    /// The last request for one target. Panics when there was none.
    pub fn last(&self, target: &str) -> Call {
        let call = self.calls(target).pop();
        call.unwrap_or_else(|| panic!("the origin got no request for {target}"))
    }

    /// The version of a target, from 1.
    pub fn version(&self, target: &str) -> u64 {
        self.state.version(target)
    }

    /// The content of a target changes; returns its new version.
    pub fn bump(&self, target: &str) -> u64 {
        let mut versions = self.state.versions.lock();
        let version = versions.entry(target.to_owned()).or_insert(1);
        *version += 1;
        *version
    }

    /// The server dies: its port refuses connections, the open ones are closed.
    pub async fn down(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            // Ended by the abort: an error by design.
            drop(server.await);
        }
    }

    /// The server comes back on the same port with the same routes and versions.
    pub async fn up(&mut self) {
        self.down().await;
        let listener = serve::listen(self.address()).await;
        let state = self.state.clone();
        self.server = Some(tokio::spawn(serve::serve(listener, state)));
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }
}
