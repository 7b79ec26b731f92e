//! Interim responses (1xx) on their way from an origin to the client whose request the
//! node forwards. They go out before the final response or not at all; nothing of them is
//! merged into it or stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{CONTENT_LENGTH, EXPECT, TRAILER};
use http::{HeaderMap, Response, StatusCode};
use tokio::sync::mpsc;
use weir_semantics::strip_hop_by_hop;

use crate::server::{Exchange, MAX_INTERIM};

/// Whether a request's client waits for 100 (Continue): RFC 9110 section 10.1.1.
pub(crate) fn is_expecting(headers: &HeaderMap) -> bool {
    headers
        .get(EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Where the interim responses to one request go. Sending never waits and never fails: a
/// client that has its answer, or can take none, gets none.
#[derive(Debug, Clone, Default)]
pub struct Interim {
    client: Client,
    /// The client waits for 100 (Continue), which the node sends when the body is wanted.
    expects: bool,
}

#[derive(Debug, Clone, Default)]
enum Client {
    /// HTTP/1.0, or nobody.
    #[default]
    Nobody,
    Http1(Arc<Exchange>, u64),
    Http2(Arc<Stream>),
}

#[derive(Debug)]
struct Stream {
    responses: mpsc::UnboundedSender<Response<()>>,
    left: AtomicUsize,
}

impl Interim {
    /// To the client of an HTTP/1.1 request.
    pub(crate) fn http1(exchange: &Arc<Exchange>, number: u64, expects: bool) -> Self {
        Self {
            client: Client::Http1(Arc::clone(exchange), number),
            expects,
        }
    }

    /// To the client of an HTTP/2 stream.
    pub(crate) fn http2(responses: mpsc::UnboundedSender<Response<()>>, expects: bool) -> Self {
        Self {
            client: Client::Http2(Arc::new(Stream {
                responses,
                left: AtomicUsize::new(MAX_INTERIM),
            })),
            expects,
        }
    }

    /// Whether anybody may take one.
    pub(crate) fn is_wanted(&self) -> bool {
        !matches!(self.client, Client::Nobody)
    }

    /// Hands on an origin's interim response: RFC 9110 section 15.2.
    pub(crate) fn forward(&self, status: StatusCode, headers: &HeaderMap) {
        let is_final = !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS;
        if is_final || (self.expects && status == StatusCode::CONTINUE) {
            return;
        }
        let mut headers = headers.clone();
        strip_hop_by_hop(&mut headers);
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRAILER);
        self.send(status, headers);
    }

    /// Tells an HTTP/2 client to go on with its body. On HTTP/1, hyper does.
    pub(crate) fn go_on(&mut self) {
        if std::mem::take(&mut self.expects) {
            self.send(StatusCode::CONTINUE, HeaderMap::new());
        }
    }

    fn send(&self, status: StatusCode, headers: HeaderMap) {
        match &self.client {
            Client::Nobody => {}
            Client::Http1(exchange, number) => exchange.interim(*number, &encode(status, &headers)),
            Client::Http2(stream) => {
                let take = |left: usize| left.checked_sub(1);
                let taken = stream
                    .left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
                if taken.is_ok() {
                    let mut response = Response::new(());
                    *response.status_mut() = status;
                    *response.headers_mut() = headers;
                    // The stream may have its final response.
                    let _ = stream.responses.send(response);
                }
            }
        }
    }
}

/// RFC 9112 section 4.
fn encode(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 ".to_vec();
    bytes.extend_from_slice(status.as_str().as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    bytes.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_interim_response_keeps_its_end_to_end_fields_alone() {
        let (send, mut receive) = mpsc::unbounded_channel();
        let interim = Interim::http2(send, false);
        let mut headers = HeaderMap::new();
        headers.append("link", HeaderValue::from_static("</a>; rel=preload"));
        headers.append("link", HeaderValue::from_static("</b>; rel=preload"));
        headers.append("connection", HeaderValue::from_static("x-hop"));
        headers.append("x-hop", HeaderValue::from_static("1"));
        headers.append("content-length", HeaderValue::from_static("7"));
        interim.forward(StatusCode::EARLY_HINTS, &headers);
        let sent = receive.try_recv().unwrap();
        assert_eq!(
            encode(sent.status(), sent.headers()),
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nlink: </b>; rel=preload\r\n\r\n"
        );
    }

    #[test]
    fn final_statuses_and_a_continue_of_our_own_are_not_forwarded() {
        let (send, mut receive) = mpsc::unbounded_channel();
        let mut interim = Interim::http2(send, true);
        for status in [
            StatusCode::OK,
            StatusCode::SWITCHING_PROTOCOLS,
            StatusCode::CONTINUE,
        ] {
            interim.forward(status, &HeaderMap::new());
        }
        assert!(receive.try_recv().is_err());
        interim.go_on();
        assert_eq!(receive.try_recv().unwrap().status(), StatusCode::CONTINUE);
        interim.go_on();
        assert!(receive.try_recv().is_err());
    }

    #[test]
    fn they_are_bounded() {
        let (send, mut receive) = mpsc::unbounded_channel();
        let interim = Interim::http2(send, false);
        for _ in 0..100 {
            interim.forward(StatusCode::PROCESSING, &HeaderMap::new());
        }
        let sent = std::iter::from_fn(|| receive.try_recv().ok()).count();
        assert_eq!(sent, MAX_INTERIM);
    }
}
