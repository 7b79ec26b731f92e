//! Listeners: HTTP/1.1 and cleartext HTTP/2 by prior knowledge on each, and an end that
//! lets running requests finish.
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
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::gate::Gate;
use crate::node::Node;
use crate::settings::ServerSettings;

pub(crate) use self::exchange::{Exchange, MAX_INTERIM};
pub use self::http2::Http2Body;
pub use self::transport::Transport;

/// Pending connections the kernel keeps for a listener.
const BACKLOG: i32 = 4096;
/// How long a listener rests after a failed accept (out of file descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds a listener.
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
    listeners: Vec<TcpListener>,
    settings: ServerSettings,
    stop: impl Future<Output = ()>,
) {
    let (ended, _) = watch::channel(false);
    let drain_timeout = settings.drain_timeout;
    let server = Arc::new(Server {
        http1: http1::builder(&settings),
        node,
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
    let open = ended.receiver_count();
    if open > 0 {
        tracing::info!(connections = open, "waiting for running requests");
    }
    if tokio::time::timeout(drain_timeout, ended.closed())
        .await
        .is_err()
    {
        tracing::warn!(
            after = ?drain_timeout,
            "some requests did not end in time and are cut off"
        );
    }
}

/// What all connections share.
#[derive(Debug)]
struct Server {
    node: Arc<Node>,
    settings: ServerSettings,
    http1: hyper::server::conn::http1::Builder,
}

async fn accept(listener: TcpListener, server: Arc<Server>, mut ended: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            _ = ended.wait_for(|ended| *ended) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Without it a small response waits for the client's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection(stream, peer, Arc::clone(&server), ended.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one client in the protocol that it speaks.
async fn connection<S: Transport>(
    stream: S,
    peer: SocketAddr,
    server: Arc<Server>,
    mut stop: watch::Receiver<bool>,
) {
    let _open = server.node.metrics().connection_opened();
    let mut gate = Gate::new(stream, &server.settings);
    let spoken = tokio::select! {
        biased;
        spoken = gate.is_http2() => spoken,
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let (node, client) = (Arc::clone(&server.node), peer.ip());
    match spoken {
        Some(true) => {
            if let Err(error) = http2::serve(gate, &server.settings, node, client, stop).await {
                tracing::debug!(%peer, %error, "connection ended");
            }
        }
        Some(false) => {
            if let Err(error) = http1::serve(gate, &server.http1, node, client, stop).await {
                tracing::debug!(%peer, %error, "connection ended");
            }
        }
        None => {}
    }
}
