//! The origin of the benchmark: small cacheable objects, every request counted.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

/// A server on a port of its own, until the program ends.
pub(crate) struct Origin {
    port: u16,
    requests: Arc<AtomicU64>,
}

impl Origin {
    /// Starts it.
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("the origin's port")?;
        let port = listener.local_addr()?.port();
        let requests = Arc::new(AtomicU64::new(0));
        let counter = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counter = counter.clone();
                // A connection that breaks is the peer's business; what it got is counted.
                std::thread::spawn(move || serve(&stream, &counter).ok());
            }
        });
        Ok(Self { port, requests })
    }

    /// Its port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

fn serve(stream: &TcpStream, requests: &AtomicU64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let body = "o".repeat(super::OBJECT_SIZE);
    loop {
        let mut lines = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim_end().is_empty() {
                break;
            }
            lines += 1;
        }
        if lines == 0 {
            continue;
        }
        requests.fetch_add(1, Ordering::SeqCst);
        let response = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nContent-Length: {}\r\n\
             Cache-Control: public, max-age=86400\r\nETag: \"1\"\r\n\
             Last-Modified: Sun, 17 May 2015 10:05:03 GMT\r\n\r\n{body}",
            body.len()
        );
        (&*stream).write_all(response.as_bytes())?;
    }
}
