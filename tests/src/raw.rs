//! A client that sends exactly the bytes it is given.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::poll::PATIENCE;

/// One TCP connection to 127.0.0.1.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
}

/// How a peer ended what it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It closed its side in order.
    Closed,
    /// It reset the connection.
    Reset,
}

impl Raw {
    /// Connects.
    pub async fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await;
        let stream = stream.unwrap_or_else(|error| panic!("cannot reach port {port}: {error}"));
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self { stream }
    }

    /// Sends these bytes. Says whether the peer took them.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Reads until what has come contains `needle`; panics when the peer ends first or
    /// nothing more comes.
    pub async fn read_until(&mut self, needle: &str) -> String {
        let mut seen = Vec::new();
        loop {
            if let Some(at) = find(&seen, needle.as_bytes()) {
                seen.truncate(at + needle.len());
                return String::from_utf8_lossy(&seen).into_owned();
            }
            let mut byte = [0];
            let read = within(PATIENCE, self.stream.read(&mut byte)).await;
            match read {
                Ok(1) => seen.push(byte[0]),
                other => panic!(
                    "{other:?} before {needle:?}; so far: {:?}",
                    String::from_utf8_lossy(&seen)
                ),
            }
        }
    }

    /// Reads until the peer ends.
    pub async fn read_to_end(&mut self) -> (String, End) {
        let mut seen = Vec::new();
        let end = match within(PATIENCE, self.stream.read_to_end(&mut seen)).await {
            Ok(_) => End::Closed,
            Err(_) => End::Reset,
        };
        (String::from_utf8_lossy(&seen).into_owned(), end)
    }

    /// Sends one request and reads all that comes back until the peer ends: the request
    /// should say `Connection: close`, or be one that the peer must not go on after.
    pub async fn exchange(port: u16, request: impl AsRef<[u8]>) -> (String, End) {
        let mut raw = Self::connect(port).await;
        raw.send(request).await;
        raw.read_to_end().await
    }
}

async fn within<T>(deadline: Duration, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(deadline, work)
        .await
        .expect("the peer sent nothing more and did not close")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
