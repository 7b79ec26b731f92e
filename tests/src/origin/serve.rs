//! The origin's HTTP/1.1 server.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

use super::body::{self, Body};
use super::reply::{Payload, Reply};
use super::{Call, State};

/// Bodies of requests are kept up to here.
const KEPT: usize = 1 << 20;

pub(super) async fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    // The origin of before may have left connections in TIME_WAIT on this port.
    socket.set_reuseaddr(true).expect("SO_REUSEADDR");
    socket.bind(address).expect("the origin's port");
    socket.listen(1024).expect("listening")
}

/// Serves until dropped, and with it every connection.
pub(super) async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // A test's client sees each piece when it is sent.
        drop(stream.set_nodelay(true));
        let state = state.clone();
        let service = service_fn(move |request| answer(request, state.clone()));
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        connections.spawn(connection);
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Body>, hyper::Error> {
    let (head, mut incoming) = request.into_parts();
    let mut call = Call {
        method: head.method,
        target: head.uri.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers: head.headers,
        body: Bytes::new(),
        body_length: 0,
        version: 0,
        nth: 0,
    };
    // An echo must begin before the request has ended.
    let echo = call.header("x-echo").is_some();
    if !echo {
        (call.body, call.body_length) = read(&mut incoming).await?;
    }
    let reply = state.receive(call);
    tokio::time::sleep(reply.delay).await;
    if let Some(gate) = &reply.gate {
        gate.pass().await;
    }
    Ok(response(reply, incoming))
}

fn response(reply: Reply, incoming: Incoming) -> Response<Body> {
    let body = match reply.body {
        Payload::Full(bytes) => body::full(bytes),
        Payload::Pieces(pieces) => body::pieces(pieces),
        Payload::Echo => incoming.map_err(std::io::Error::other).boxed_unsync(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response
}

async fn read(incoming: &mut Incoming) -> Result<(Bytes, u64), hyper::Error> {
    let (mut kept, mut length) = (BytesMut::new(), 0);
    while let Some(frame) = incoming.frame().await {
        if let Some(data) = frame?.data_ref() {
            length += data.len() as u64;
            let room = KEPT - kept.len();
            kept.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    Ok((kept.freeze(), length))
}
