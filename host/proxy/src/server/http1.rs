//! HTTP/1 requests: the service that hyper calls, one request after the other.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;

use super::Client;
use super::exchange::Exchange;
use super::gate::Gate;
use super::transport::Transport;
use crate::body::{Body, BodyError};
use crate::incoming::Incoming;
use crate::interim::{Interim, is_expecting};
use crate::node::Node;
use crate::pipeline::Answering;

/// Room that hyper's buffer has beside the largest head, so that the limit on it is the
/// gate's, which answers with a reason.
const ROOM: usize = 8 * 1024;

/// How hyper is set up. The clocks are the gate's.
pub(super) fn builder(settings: &crate::settings::ServerSettings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None)
        .max_headers(settings.max_headers)
        .max_buf_size(settings.max_header_size + ROOM);
    builder
}

/// Serves a connection to its end.
pub(super) async fn serve<S: Transport>(
    gate: Gate<S>,
    builder: &http1::Builder,
    node: Arc<Node>,
    client: Client,
    mut stop: watch::Receiver<bool>,
) -> Result<(), hyper::Error> {
    let service = Http1 {
        exchange: gate.exchange(),
        node,
        client,
    };
    let connection = builder
        .serve_connection(TokioIo::new(gate), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

struct Http1 {
    exchange: Arc<Exchange>,
    node: Arc<Node>,
    client: Client,
}

impl Service<Request<hyper::body::Incoming>> for Http1 {
    type Response = Response<Outgoing>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Answer {
        let exchange = &self.exchange;
        let number = exchange.begin();
        let asks = asks_to_switch(&request);
        if let Some(refusal) = exchange.refusal_of(number) {
            return Answer::ready(exchange, number, asks, self.node.refuse(refusal));
        }
        let interim = if request.version() == Version::HTTP_11 {
            let expects = !request.body().is_end_stream() && is_expecting(request.headers());
            Interim::http1(exchange, number, expects)
        } else {
            Interim::default()
        };
        let request = request.map(Incoming::Http1);
        let Client { peer, scheme } = self.client;
        match self.node.handle(peer.ip(), scheme, request, interim) {
            Answering::Ready(Some(response)) => Answer::ready(exchange, number, asks, response),
            answering => {
                exchange.open(number);
                Answer::Slow(Slow {
                    exchange: Arc::clone(exchange),
                    number,
                    asks,
                    state: Waiting::ForAnswer(answering),
                })
            }
        }
    }
}

/// Whether the client asks for its connection to be switched. CONNECT counts, and is never
/// granted: what may follow it is not read before it is answered.
fn asks_to_switch<B>(request: &Request<B>) -> bool {
    request
        .extensions()
        .get::<hyper::upgrade::OnUpgrade>()
        .is_some()
}

/// A response on its way to hyper.
pub(super) enum Answer {
    Ready(Option<Response<Outgoing>>),
    Slow(Slow),
}

pub(super) struct Slow {
    exchange: Arc<Exchange>,
    number: u64,
    asks: bool,
    state: Waiting,
}

enum Waiting {
    ForAnswer(Answering),
    /// The final response is there, and interim ones that came before it are not written.
    ForInterim(Option<Response<Outgoing>>),
}

impl Answer {
    fn ready(exchange: &Arc<Exchange>, number: u64, asks: bool, response: Response<Body>) -> Self {
        Self::Ready(Some(outgoing(exchange, number, asks, response)))
    }
}

fn outgoing(
    exchange: &Arc<Exchange>,
    number: u64,
    asks: bool,
    mut response: Response<Body>,
) -> Response<Outgoing> {
    let status = response.status();
    let switches = asks && status == StatusCode::SWITCHING_PROTOCOLS;
    if status.is_informational() && !switches {
        // From wherever it came, what follows it would be taken for the response.
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response.headers_mut().clear();
        *response.body_mut() = Body::from("there is no final response\n");
    }
    if exchange.is_broken() {
        // What follows on the connection cannot be read.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    exchange.answered(number, switches);
    let exchange = Arc::clone(exchange);
    response.map(|body| Outgoing { body, exchange })
}

impl Future for Answer {
    type Output = Result<Response<Outgoing>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let slow = match self.get_mut() {
            Self::Ready(response) => {
                // Polled after it was ready, which hyper does not do.
                return response
                    .take()
                    .map_or(Poll::Pending, |response| Poll::Ready(Ok(response)));
            }
            Self::Slow(slow) => slow,
        };
        if let Waiting::ForAnswer(answering) = &mut slow.state {
            let Poll::Ready(response) = Pin::new(answering).poll(cx) else {
                return Poll::Pending;
            };
            let written = slow.exchange.close();
            let response = outgoing(&slow.exchange, slow.number, slow.asks, response);
            if written {
                return Poll::Ready(Ok(response));
            }
            slow.state = Waiting::ForInterim(Some(response));
        }
        // hyper flushes after this; the gate writes them there and wakes this task.
        match &mut slow.state {
            Waiting::ForInterim(response) if slow.exchange.interim_is_written() => response
                .take()
                .map_or(Poll::Pending, |response| Poll::Ready(Ok(response))),
            _ => Poll::Pending,
        }
    }
}

/// A response's body, which tells the gate of its end.
#[derive(Debug)]
pub(super) struct Outgoing {
    body: Body,
    exchange: Arc<Exchange>,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.exchange.ended();
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Err(_))) = &polled {
            self.exchange.broke_off();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
