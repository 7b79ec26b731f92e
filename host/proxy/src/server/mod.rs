//! Listeners: HTTP/1.1 and HTTP/2, by prior knowledge in cleartext and by ALPN inside TLS,
//! and an end that lets running requests finish.
//!
//! Below each connection lies a [`gate`], which reads every byte before the HTTP library
//! does, and keeps the clocks.

mod exchange;
mod gate;
mod http1;
mod http2;
mod linger;
mod stall;
mod transport;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use weir_policy::Scheme;

use self::gate::Gate;
use crate::node::Node;
use crate::settings::ServerSettings;
use crate::tls::{Protocol as Alpn, Tls};

pub(crate) use self::exchange::{Exchange, MAX_INTERIM};
pub(crate) use self::http2::Http2Body;
use self::transport::Transport;

/// Pending connections the kernel keeps for a listener.
const BACKLOG: i32 = 4096;
/// How long a listener rests after a failed accept (out of file descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound address, and the TLS that is spoken on it, if any.
#[derive(Debug)]
pub struct Listener {
    /// Takes the connections.
    pub socket: TcpListener,
    /// Absent: cleartext.
    pub tls: Option<Arc<Tls>>,
}

/// Binds an address.
///
/// # Errors
/// What the system said, with the address.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let bind = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    bind().map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}

/// Serves all listeners until `stop` completes, then waits for running requests, at
/// most `drain_timeout`.
pub async fn serve(
    node: Arc<Node>,
    listeners: Vec<Listener>,
    settings: ServerSettings,
    stop: impl Future<Output = ()>,
) {
    let (ended, _) = watch::channel(false);
    let drain_timeout = settings.drain_timeout;
    let server = Arc::new(Server {
        http1: http1::builder(&settings),
        node: Arc::clone(&node),
        settings,
    });
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::spawn(accept(listener, Arc::clone(&server), ended.subscribe())))
        .collect();
    stop.await;
    ended.send_replace(true);
    for task in accepting {
        // It ends by the signal above; a panic in it has been printed.
        let _ = task.await;
    }
    // Each connection holds a receiver.
    let (open, upgraded) = (ended.receiver_count(), *node.tunnels().count().borrow());
    if open + upgraded > 0 {
        tracing::info!(
            connections = open,
            upgraded,
            "waiting for running requests and upgraded connections"
        );
    }
    let all = async {
        // In this order, since a running request can still become an upgraded connection.
        ended.closed().await;
        node.tunnels().ended().await;
    };
    if tokio::time::timeout(drain_timeout, all).await.is_err() {
        tracing::warn!(
            after = ?drain_timeout,
            upgraded = *node.tunnels().count().borrow(),
            "some requests and upgraded connections did not end in time and are cut off"
        );
        node.tunnels().drain();
    }
}

/// What all connections share.
#[derive(Debug)]
struct Server {
    node: Arc<Node>,
    settings: ServerSettings,
    http1: hyper::server::conn::http1::Builder,
}

/// Who a connection is with, and by what.
#[derive(Debug, Clone, Copy)]
struct Client {
    peer: SocketAddr,
    scheme: Scheme,
}

async fn accept(listener: Listener, server: Arc<Server>, mut ended: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            _ = ended.wait_for(|ended| *ended) => return,
            accepted = listener.socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Without it a small response waits for the client's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                let (server, stop) = (Arc::clone(&server), ended.clone());
                match &listener.tls {
                    None => {
                        let client = Client {
                            peer,
                            scheme: Scheme::Http,
                        };
                        tokio::spawn(connection(stream, client, None, server, stop));
                    }
                    Some(tls) => {
                        tokio::spawn(secured(stream, peer, Arc::clone(tls), server, stop));
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Shakes hands, and serves what comes of it.
async fn secured(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Arc<Tls>,
    server: Arc<Server>,
    mut stop: watch::Receiver<bool>,
) {
    let shaking = server.node.metrics().connection_opened();
    let accepted = tokio::select! {
        // No request is in it yet that a stop would have to wait for.
        _ = stop.wait_for(|stop| *stop) => return,
        accepted = tls.accept(stream) => accepted,
    };
    match accepted {
        Ok((stream, agreed)) => {
            drop(shaking);
            let client = Client {
                peer,
                scheme: Scheme::Https,
            };
            connection(stream, client, Some(agreed), server, stop).await;
        }
        Err(error) => {
            server.node.metrics().handshake_failed();
            tracing::debug!(%peer, %error, "no TLS connection");
        }
    }
}

/// Serves one client in the protocol that it speaks: the one agreed on inside TLS, else
/// what its first bytes say.
async fn connection<S: Transport>(
    stream: S,
    client: Client,
    agreed: Option<Alpn>,
    server: Arc<Server>,
    mut stop: watch::Receiver<bool>,
) {
    let _open = server.node.metrics().connection_opened();
    let mut gate = Gate::new(stream, &server.settings);
    let spoken = match agreed {
        Some(Alpn::Http1) => Some(false),
        Some(Alpn::Http2) | None => tokio::select! {
            biased;
            spoken = gate.is_http2() => spoken,
            _ = stop.wait_for(|stop| *stop) => None,
        },
    };
    let peer = client.peer;
    let node = Arc::clone(&server.node);
    match spoken {
        Some(true) => {
            if let Err(error) = http2::serve(gate, &server.settings, node, client, stop).await {
                tracing::debug!(%peer, %error, "connection ended");
            }
        }
        Some(false) if agreed == Some(Alpn::Http2) => {
            tracing::debug!(%peer, "connection ended: HTTP/2 was agreed on, and is not spoken");
        }
        Some(false) => {
            if let Err(error) = http1::serve(gate, &server.http1, node, client, stop).await {
                tracing::debug!(%peer, %error, "connection ended");
            }
        }
        None => {}
    }
}
