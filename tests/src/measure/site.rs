//! An origin with as many objects as are wanted, and filling a node with them.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The host that every node is asked for.
pub(crate) const HOST: &str = "site.example";

/// The tag of every object.
pub(crate) const TAG: &str = "everything";

/// Connections that a node is filled by.
const FILLERS: u64 = 16;

/// An origin. Dropping it stops it.
pub(crate) struct Site {
    address: std::net::SocketAddr,
    version: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Site {
    /// Whose bodies have so many bytes. Each begins with the version.
    pub(crate) async fn start(body: usize) -> Result<Self> {
        Self::of(body, |_| "x".to_owned()).await
    }

    /// As [`Site::start`]; after the version come the lines that `line` makes of numbers.
    pub(crate) async fn of(body: usize, line: fn(u64) -> String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let version = Arc::new(AtomicU64::new(1));
        let current = Arc::clone(&version);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let current = Arc::clone(&current);
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = answer(request.uri().path(), &current, body, line);
                    async { Ok::<_, Infallible>(answer) }
                });
                connections.spawn(async move {
                    let io = TokioIo::new(stream);
                    // It ends when the node closes it.
                    let _ = http1::Builder::new().serve_connection(io, service).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            version,
            _tasks: tasks,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All objects change.
    pub(crate) fn bump(&self) -> u64 {
        self.version.fetch_add(1, Ordering::AcqRel) + 1
    }
}

/// Eight header fields beside the length: what a usual response has.
fn answer(
    path: &str,
    version: &AtomicU64,
    body: usize,
    line: fn(u64) -> String,
) -> Response<Full<Bytes>> {
    let mut text = format!("{} {path} ", version.load(Ordering::Acquire)).into_bytes();
    let mut number: u64 = path[1..].parse().unwrap_or(0);
    while text.len() < body {
        text.extend_from_slice(line(number).as_bytes());
        number += 1;
    }
    text.truncate(body);
    let kind = match path.ends_with(".css") {
        true => "text/css; charset=utf-8",
        false => "text/html; charset=utf-8",
    };
    let response = Response::builder()
        .header("content-type", kind)
        .header("etag", "\"5e1f-5a0b0a1c\"")
        .header("last-modified", "Tue, 03 Nov 2026 10:00:00 GMT")
        .header("cache-control", "public, max-age=36000")
        .header("server", "origin")
        .header("surrogate-key", TAG)
        .header("x-unusual", "1");
    // Date, the eighth, is hyper's. All of these are legal.
    response.body(Full::new(text.into())).unwrap_or_default()
}

/// The path of an object.
pub(crate) fn path(number: u64) -> String {
    format!("/{number:07}")
}

/// Has a node fetch these many objects, each once. Says how long that took.
pub(crate) async fn fill(port: u16, objects: Range<u64>) -> Result<Duration> {
    let (began, next) = (Instant::now(), Arc::new(AtomicU64::new(objects.start)));
    let mut fillers = JoinSet::new();
    for _ in 0..FILLERS {
        let next = Arc::clone(&next);
        fillers.spawn(async move {
            let mut client = Client::connect(port).await?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= objects.end {
                    return Ok::<_, anyhow::Error>(());
                }
                client.get(&path(number)).await?;
            }
        });
    }
    while let Some(ended) = fillers.join_next().await {
        ended??;
    }
    Ok(began.elapsed())
}

/// One connection to a node.
pub(crate) struct Client {
    sender: hyper::client::conn::http1::SendRequest<http_body_util::Empty<Bytes>>,
    _driver: JoinSet<()>,
}

/// The part of an answer that is looked at.
pub(crate) struct Got {
    /// The object's version.
    pub(crate) version: u64,
    /// Cache-Status.
    pub(crate) status: String,
}

impl Client {
    pub(crate) async fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async {
            // Its error is the request's too.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            _driver: driver,
        })
    }

    /// GET. Fails unless it is answered 200 by an object.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Got> {
        use http_body_util::BodyExt as _;
        let request = Request::get(path)
            .header("host", HOST)
            .body(http_body_util::Empty::new())?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        ensure!(response.status() == 200, "{path}: {response:?}");
        let status = response.headers().get("cache-status");
        let status = status.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let body = response.into_body().collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&body);
        let version = text.split(' ').next().and_then(|word| word.parse().ok());
        Ok(Got {
            version: version.with_context(|| format!("{path}: no version in {text:?}"))?,
            status: status.unwrap_or_default(),
        })
    }
}
