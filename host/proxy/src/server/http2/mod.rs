//! HTTP/2, on the h2 crate itself: hyper's server on top of it has no way to send interim
//! responses, and no clock for a client that stops reading or sending.

mod body;
mod liveness;
mod resets;
mod respond;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::header::{CONTENT_LENGTH, COOKIE};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use tokio::sync::{mpsc, watch};

use self::liveness::{Liveness, Pulse};
use self::resets::{Resets, Served};
use super::Client;
use super::gate::Gate;
use super::transport::Transport;
use crate::body::Body;
use crate::incoming::Incoming;
use crate::interim::{Interim, is_expecting};
use crate::node::Node;
use crate::pipeline::Answering;
use crate::settings::ServerSettings;
use crate::wire::Refusal;

pub(crate) use self::body::Http2Body;

/// Requests that a client may have open at once.
const STREAMS: u32 = 256;
/// What a client may send before the node has read it: of a stream, and of all of them.
const WINDOW: u32 = 1 << 20;
/// What h2 keeps of a response until the client takes it.
const SEND_BUFFER: usize = 256 << 10;
/// Streams that were reset before the node looked at them, above which a client floods.
const RESET_UNSEEN: usize = 64;

/// What the streams of a connection share.
#[derive(Debug)]
struct Shared {
    node: Arc<Node>,
    client: Client,
    longest_target: usize,
    body_timeout: Duration,
    write_timeout: Duration,
    resets: Resets,
}

/// Serves a connection to its end.
pub(super) async fn serve<S: Transport>(
    gate: Gate<S>,
    settings: &ServerSettings,
    node: Arc<Node>,
    client: Client,
    mut stop: watch::Receiver<bool>,
) -> Result<(), h2::Error> {
    let header_size = u32::try_from(settings.max_header_size).unwrap_or(u32::MAX);
    let handshake = h2::server::Builder::new()
        .max_header_list_size(header_size)
        .max_concurrent_streams(STREAMS)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESET_UNSEEN)
        .handshake(gate);
    let Ok(connection) = tokio::time::timeout(settings.header_timeout, handshake).await else {
        return Ok(());
    };
    let mut connection: Connection<Gate<S>, Bytes> = connection?;
    let shared = Arc::new(Shared {
        node,
        client,
        longest_target: settings.longest_target(),
        body_timeout: settings.body_timeout,
        write_timeout: settings.write_timeout,
        resets: Resets::default(),
    });
    let mut liveness = Liveness::new(connection.ping_pong(), settings.header_timeout);
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => match accepted {
                None => return Ok(()),
                Some(Err(error)) => return Err(error),
                Some(Ok((request, respond))) => {
                    liveness.used();
                    if shared.resets.is_flood() {
                        tracing::debug!(peer = %client.peer, "a client resets more streams than it lets end");
                        connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                        continue;
                    }
                    let served = shared.resets.begin();
                    tokio::spawn(stream(Arc::clone(&shared), request, respond, served));
                }
            },
            pulse = poll_fn(|cx| liveness.poll(cx, shared.resets.open())) => match pulse {
                Pulse::Dead => {
                    tracing::debug!(peer = %client.peer, "a client does not answer, and is cut off");
                    return Ok(());
                }
                Pulse::Idle => connection.graceful_shutdown(),
            },
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                connection.graceful_shutdown();
            }
        }
    }
}

/// One request, and its response.
async fn stream(
    shared: Arc<Shared>,
    mut request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    served: Served,
) {
    let (send, mut receive) = mpsc::unbounded_channel();
    let interim = Interim::http2(send, is_expecting(request.headers()));
    let is_head = *request.method() == Method::HEAD;
    let mut answering = if let Some(refusal) = refusal_of(&request, shared.longest_target) {
        Answering::Ready(Some(shared.node.refuse(refusal)))
    } else {
        join_cookies(request.headers_mut());
        let length = content_length(request.headers());
        let timeout = shared.body_timeout;
        let continued = interim.clone();
        let request = request.map(|stream| {
            let body = Http2Body::new(stream, length, timeout, continued);
            Incoming::Http2(Box::new(body))
        });
        let Client { peer, scheme } = shared.client;
        shared.node.handle(peer.ip(), scheme, request, interim)
    };
    let answered = answer(&mut answering, &mut receive, &mut respond).await;
    drop(answering);
    let Some(response) = answered else {
        return served.reset();
    };
    // They came before the response did.
    while let Ok(interim) = receive.try_recv() {
        if respond.send_informational(interim).is_err() {
            return;
        }
    }
    let now = shared.node.clock().now();
    let response = respond::without_connection(response, now);
    match respond::send(response, respond, is_head, shared.write_timeout).await {
        Ok(()) => served.ended(),
        Err(respond::Unsent::Reset) => served.reset(),
        Err(respond::Unsent::Ended(reason)) => {
            tracing::debug!(peer = %shared.client.peer, reason, "a response broke off");
        }
    }
}

/// Waits for the response, and sends what comes before it. Nothing when the client took
/// its request back.
async fn answer(
    answering: &mut Answering,
    interim: &mut mpsc::UnboundedReceiver<Response<()>>,
    respond: &mut SendResponse<Bytes>,
) -> Option<Response<Body>> {
    let mut interim_ended = false;
    poll_fn(|cx| {
        if !matches!(answering, Answering::Ready(_)) && respond.poll_reset(cx).is_ready() {
            return Poll::Ready(None);
        }
        while !interim_ended {
            match interim.poll_recv(cx) {
                Poll::Ready(Some(response)) => {
                    // It fails with the connection, which the reset tells.
                    let _ = respond.send_informational(response);
                }
                Poll::Ready(None) => interim_ended = true,
                Poll::Pending => break,
            }
        }
        Pin::new(&mut *answering).poll(cx).map(Some)
    })
    .await
}

/// What h2 does not look at: it takes the first Content-Length for the only one.
fn refusal_of<B>(request: &Request<B>, longest_target: usize) -> Option<Refusal> {
    let target = request.uri().path_and_query();
    if target.is_some_and(|target| target.as_str().len() > longest_target) {
        return Some(Refusal::TargetTooLong);
    }
    let mut lengths = request.headers().get_all(CONTENT_LENGTH).iter();
    let first = lengths.next()?;
    if lengths.next().is_some() {
        return Some(Refusal::ManyLengths);
    }
    let digits = first.as_bytes();
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    (!plain || (digits.len() > 1 && digits[0] == b'0')).then_some(Refusal::BadLength)
}

/// RFC 9113 section 8.2.3: a client may split its cookies for the sake of compression, and
/// whoever hands them on to HTTP/1 puts them together again.
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let crumbs = [first, second].into_iter().chain(crumbs);
    let crumbs: Vec<&[u8]> = crumbs.map(HeaderValue::as_bytes).collect();
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, cookie);
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    std::str::from_utf8(headers.get(CONTENT_LENGTH)?.as_bytes())
        .ok()?
        .parse()
        .ok()
}
