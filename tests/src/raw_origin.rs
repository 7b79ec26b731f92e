//! An origin that keeps the exact bytes it got, and is as strict about them as can be: what
//! it takes for a request, every server does.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::port::Port;

/// What a connection's end left unfinished, and what came whole.
#[derive(Debug, Default, Clone)]
pub struct Got {
    /// Whole requests: `METHOD TARGET`, and the body behind a space where there is one.
    pub requests: Vec<String>,
    /// Heads as they came, in the same order.
    pub heads: Vec<String>,
    /// How many connections ended in the middle of a request.
    pub cut: usize,
    /// What is no request, or not only one.
    pub ambiguous: Vec<String>,
}

/// A running origin. Dropping it closes its listener and all its connections.
#[derive(Debug)]
pub struct RawOrigin {
    got: Arc<Mutex<Got>>,
    port: Port,
    server: JoinHandle<()>,
}

/// Bytes sent when a head has come whole, before the request's body is read.
type Early = Arc<dyn Fn(&str) -> Vec<u8> + Send + Sync>;

impl RawOrigin {
    /// Answers every whole request 200 with its body's length; what it answers to a GET below
    /// `/stored` may be stored.
    pub async fn start() -> Self {
        Self::with(|_| Vec::new()).await
    }

    /// The same, and sends what `early` gives for a head (without its empty line) as soon as
    /// that has come. Where that is a final response, it is the last of its connection.
    pub async fn with(early: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let port = Port::reserve();
        let listener = TcpListener::bind(("127.0.0.1", port.number()))
            .await
            .expect("the origin's port");
        let got = Arc::<Mutex<Got>>::default();
        let (seen, early): (_, Early) = (Arc::clone(&got), Arc::new(early));
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(connection(stream, Arc::clone(&seen), Arc::clone(&early)));
            }
        });
        Self { got, port, server }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// What it has got so far.
    pub fn got(&self) -> Got {
        self.got.lock().clone()
    }

    /// Forgets what it has got, and returns it.
    pub fn take(&self) -> Got {
        std::mem::take(&mut self.got.lock())
    }
}

impl Drop for RawOrigin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A stream, and what has come by it and was not looked at.
struct Peer {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Peer {
    /// Takes so many bytes. Nothing at the connection's end.
    async fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.bytes.len() < length {
            if self.stream.read_buf(&mut self.bytes).await.ok()? == 0 {
                return None;
            }
        }
        let rest = self.bytes.split_off(length);
        Some(std::mem::replace(&mut self.bytes, rest))
    }

    /// Takes up to and with `end`.
    async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            let found = self.bytes.windows(end.len()).position(|at| at == end);
            if let Some(at) = found {
                return self.take(at + end.len()).await;
            }
            if self.stream.read_buf(&mut self.bytes).await.ok()? == 0 {
                return None;
            }
        }
    }
}

async fn connection(stream: TcpStream, got: Arc<Mutex<Got>>, early: Early) {
    let mut peer = Peer {
        stream,
        bytes: Vec::new(),
    };
    loop {
        let Some(head) = peer.until(b"\r\n\r\n").await else {
            if !peer.bytes.is_empty() {
                got.lock().cut += 1;
            }
            return;
        };
        let head = String::from_utf8_lossy(&head).trim_end().to_owned();
        let early = early(&head);
        let is_last = !early.is_empty() && !early.starts_with(b"HTTP/1.1 1");
        if is_last {
            // Before its client can know of it.
            got.lock().heads.push(head.clone());
        }
        if peer.stream.write_all(&early).await.is_err() {
            return;
        }
        if is_last {
            // That was the response. Whatever is still to come is not wanted.
            return;
        }
        let request = match framing(&head) {
            Ok((line, Framing::Length(length))) => peer.take(length).await.map(|body| (line, body)),
            Ok((line, Framing::Chunked)) => chunks(&mut peer).await.map(|body| (line, body)),
            Err(why) => {
                got.lock().ambiguous.push(format!("{why}: {head:?}"));
                return;
            }
        };
        let Some((line, body)) = request else {
            got.lock().cut += 1;
            return;
        };
        let length = body.len().to_string();
        let line_is_stored = line.starts_with("GET /stored");
        let body = String::from_utf8_lossy(&body).into_owned();
        {
            let mut got = got.lock();
            got.heads.push(head);
            got.requests.push(match body.is_empty() {
                true => line,
                false => format!("{line} {body}"),
            });
        }
        let cache = match line_is_stored {
            true => "max-age=60",
            false => "no-store",
        };
        let response = format!(
            "HTTP/1.1 200 OK\r\nCache-Control: {cache}\r\nContent-Length: {}\r\n\r\n{length}",
            length.len()
        );
        if peer.stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

enum Framing {
    Length(usize),
    Chunked,
}

/// `METHOD TARGET`, and how the body is framed; or why nobody can be sure.
fn framing(head: &str) -> Result<(String, Framing), &'static str> {
    let mut lines = head.split("\r\n");
    let line = lines.next().and_then(|line| line.strip_suffix(" HTTP/1.1"));
    let line = line.ok_or("no request line")?;
    let (mut hosts, mut lengths, mut codings) = (0, Vec::new(), Vec::new());
    for line in lines {
        if line.contains(['\r', '\n', '\0']) {
            return Err("a line end in a line");
        }
        let (name, value) = line.split_once(':').ok_or("no colon")?;
        if name.is_empty() || name.contains([' ', '\t']) {
            return Err("a name that is none");
        }
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "content-length" => lengths.push(value.trim()),
            "transfer-encoding" => codings.push(value.trim()),
            _ => {}
        }
    }
    if hosts != 1 {
        return Err("not one Host");
    }
    let framing = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Framing::Length(0),
        ([length], []) => Framing::Length(length.parse().map_err(|_| "no length")?),
        ([], ["chunked"]) => Framing::Chunked,
        _ => return Err("not one framing"),
    };
    Ok((line.to_owned(), framing))
}

async fn chunks(peer: &mut Peer) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = peer.until(b"\r\n").await?;
        let size = std::str::from_utf8(&line[..line.len() - 2]).ok()?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            // Trailers, and the empty line.
            while peer.until(b"\r\n").await? != b"\r\n" {}
            return Some(body);
        }
        body.extend(peer.take(size).await?);
        peer.take(2).await?;
    }
}
