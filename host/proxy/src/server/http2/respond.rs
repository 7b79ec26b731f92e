//! A response on an HTTP/2 stream: as fast as the client takes it, and reset where it
//! breaks off.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, HeaderValue, TE};
use http::header::{TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body as _, Frame};
use weir_semantics::Timestamp;

use crate::body::{Body, BodyError};
use crate::server::stall::Stall;

/// What is asked for at once of the window that all streams share.
const PIECE: usize = 64 << 10;

/// Fields that concern one connection: RFC 9113 section 8.2.2.
const CONNECTION_FIELDS: [HeaderName; 6] = [
    CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Why a response did not get to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsent {
    /// The client reset the stream.
    Reset,
    /// The node did, for this reason.
    Ended(&'static str),
}

thread_local! {
    /// The second that was last asked for, as a Date.
    static NOW: RefCell<(Timestamp, HeaderValue)> =
        const { RefCell::new((Timestamp::from_millis(0), HeaderValue::from_static(""))) };
}

/// Leaves out what means nothing in HTTP/2, and adds a Date where there is none.
pub(super) fn without_connection(mut response: Response<Body>, now: Timestamp) -> Response<Body> {
    if response.status().is_informational() {
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response.headers_mut().clear();
        *response.body_mut() = Body::from("the origin switched protocols unasked\n");
    }
    let headers = response.headers_mut();
    for name in &CONNECTION_FIELDS {
        headers.remove(name);
    }
    if !headers.contains_key(DATE) {
        let second = now.as_secs();
        let date = NOW.with_borrow_mut(|(known, date)| {
            if date.is_empty() || known.as_secs() != second {
                (*known, *date) = (now, now.to_http_date());
            }
            date.clone()
        });
        headers.insert(DATE, date);
    }
    response
}

/// Sends a response whole.
pub(super) async fn send(
    response: Response<Body>,
    mut respond: SendResponse<Bytes>,
    is_head: bool,
    patience: Duration,
) -> Result<(), Unsent> {
    let (mut parts, body) = response.into_parts();
    let ends = is_head || body.is_end_stream();
    if !ends
        && let Some(length) = body.size_hint().exact()
        && !parts.headers.contains_key(CONTENT_LENGTH)
    {
        parts
            .headers
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let head = Response::from_parts(parts, ());
    let Ok(mut stream) = respond.send_response(head, ends) else {
        return Err(Unsent::Reset);
    };
    if ends {
        return Ok(());
    }
    let sent = body_of(body, &mut stream, patience).await;
    if let Err(Unsent::Ended(_)) = sent {
        stream.send_reset(Reason::INTERNAL_ERROR);
    }
    sent
}

async fn body_of(
    body: Body,
    stream: &mut SendStream<Bytes>,
    patience: Duration,
) -> Result<(), Unsent> {
    let mut body = pin!(body);
    loop {
        let Some(frame) = poll_fn(|cx| next(body.as_mut(), stream, cx)).await? else {
            return last(stream.send_data(Bytes::new(), true));
        };
        let frame = frame.map_err(|_| Unsent::Ended("the origin broke off"))?;
        let mut data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => return last(stream.send_trailers(without_fields(trailers))),
                Err(_) => continue,
            },
        };
        let ends = body.is_end_stream();
        if data.is_empty() && ends {
            return last(stream.send_data(data, true));
        }
        while !data.is_empty() {
            let room = room(stream, data.len().min(PIECE), patience).await?;
            let piece = data.split_to(room.min(data.len()));
            let ends = ends && data.is_empty();
            last(stream.send_data(piece, ends))?;
            if ends {
                return Ok(());
            }
        }
    }
}

fn last(sent: Result<(), h2::Error>) -> Result<(), Unsent> {
    sent.map_err(|_| Unsent::Reset)
}

fn without_fields(mut trailers: HeaderMap) -> HeaderMap {
    for name in &CONNECTION_FIELDS {
        trailers.remove(name);
    }
    trailers
}

type Next = Result<Option<Result<Frame<Bytes>, BodyError>>, Unsent>;

/// The next piece of the body, or the client's reset.
fn next(body: Pin<&mut Body>, stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<Next> {
    if stream.poll_reset(cx).is_ready() {
        return Poll::Ready(Err(Unsent::Reset));
    }
    body.poll_frame(cx).map(Ok)
}

/// Waits until the client takes some of `wanted` bytes. Nothing is asked for before there
/// is something to send, since all streams share one window.
async fn room(
    stream: &mut SendStream<Bytes>,
    wanted: usize,
    patience: Duration,
) -> Result<usize, Unsent> {
    stream.reserve_capacity(wanted);
    let mut stall = Stall::default();
    poll_fn(|cx| {
        loop {
            let room = stream.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room));
            }
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Unsent::Reset));
            }
            match stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(Err(Unsent::Reset)),
                Poll::Pending if stall.lasts(cx, patience) => {
                    return Poll::Ready(Err(Unsent::Ended("the client does not read")));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}
