//! Listeners: HTTP/1.1 and HTTP/2, by prior knowledge in cleartext and by ALPN inside TLS,
//! and an end that lets running requests finish.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use weir_policy::Scheme;

use crate::node::Node;
use crate::settings::ServerSettings;
use crate::tls::{Protocol as Alpn, Tls};

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
    let graceful = Arc::new(GracefulShutdown::new());
    let (ended, _) = watch::channel(false);
    let builders = Arc::new(Builders::new(&settings));
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            tokio::spawn(accept(
                listener,
                Arc::clone(&node),
                Arc::clone(&builders),
                Arc::clone(&graceful),
                ended.subscribe(),
            ))
        })
        .collect();
    stop.await;
    ended.send_replace(true);
    for task in accepting {
        // It ends by the signal above; a panic in it has been printed.
        let _ = task.await;
    }
    let (open, upgraded) = (graceful.count(), *node.tunnels().count().borrow());
    if open + upgraded > 0 {
        tracing::info!(
            connections = open,
            upgraded,
            "waiting for running requests and upgraded connections"
        );
    }
    // The accepting tasks have ended, so this is the last reference.
    let Some(graceful) = Arc::into_inner(graceful) else {
        return;
    };
    let ended = async {
        // In this order, since a running request can still become an upgraded connection.
        graceful.shutdown().await;
        node.tunnels().ended().await;
    };
    if tokio::time::timeout(settings.drain_timeout, ended)
        .await
        .is_err()
    {
        tracing::warn!(
            after = ?settings.drain_timeout,
            upgraded = *node.tunnels().count().borrow(),
            "some requests and upgraded connections did not end in time and are cut off"
        );
        node.tunnels().drain();
    }
}

/// How connections are served.
struct Builders {
    /// Where the client's first bytes say what it speaks.
    any: auto::Builder<TokioExecutor>,
    http1: auto::Builder<TokioExecutor>,
    http2: auto::Builder<TokioExecutor>,
}

impl Builders {
    fn new(settings: &ServerSettings) -> Self {
        let any = connection_builder(settings);
        Self {
            http1: any.clone().http1_only(),
            http2: any.clone().http2_only(),
            any,
        }
    }

    fn of(&self, agreed: Option<Alpn>) -> &auto::Builder<TokioExecutor> {
        match agreed {
            None => &self.any,
            Some(Alpn::Http1) => &self.http1,
            Some(Alpn::Http2) => &self.http2,
        }
    }
}

fn connection_builder(settings: &ServerSettings) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_headers(settings.max_headers)
        .max_buf_size(settings.max_header_size.max(8 * 1024));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(settings.max_header_size).unwrap_or(u32::MAX))
        .max_concurrent_streams(256)
        .keep_alive_interval(settings.header_timeout)
        .keep_alive_timeout(settings.header_timeout);
    builder
}

async fn accept(
    listener: Listener,
    node: Arc<Node>,
    builders: Arc<Builders>,
    graceful: Arc<GracefulShutdown>,
    mut ended: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            _ = ended.wait_for(|ended| *ended) => return,
            accepted = listener.socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Without it a small response waits for the client's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                let node = Arc::clone(&node);
                let builders = Arc::clone(&builders);
                let watcher = graceful.watcher();
                match &listener.tls {
                    None => {
                        let serving =
                            connection(stream, peer, Scheme::Http, None, node, builders, watcher);
                        tokio::spawn(serving);
                    }
                    Some(tls) => {
                        let tls = Arc::clone(tls);
                        let ended = ended.clone();
                        tokio::spawn(secured(stream, peer, tls, node, builders, watcher, ended));
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
    node: Arc<Node>,
    builders: Arc<Builders>,
    graceful: Watcher,
    mut ended: watch::Receiver<bool>,
) {
    let shaking = node.metrics().connection_opened();
    let accepted = tokio::select! {
        // No request is in it yet that a stop would have to wait for.
        _ = ended.wait_for(|ended| *ended) => return,
        accepted = tls.accept(stream) => accepted,
    };
    match accepted {
        Ok((stream, agreed)) => {
            drop(shaking);
            let scheme = Scheme::Https;
            connection(stream, peer, scheme, Some(agreed), node, builders, graceful).await;
        }
        Err(error) => {
            node.metrics().handshake_failed();
            tracing::debug!(%peer, %error, "no TLS connection");
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    scheme: Scheme,
    agreed: Option<Alpn>,
    node: Arc<Node>,
    builders: Arc<Builders>,
    graceful: Watcher,
) {
    let _open = node.metrics().connection_opened();
    let client = peer.ip();
    let service = service_fn(|request| {
        let answered = node.handle(client, scheme, request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection = builders
        .of(agreed)
        .serve_connection_with_upgrades(TokioIo::new(stream), service);
    if let Err(error) = graceful.watch(connection).await {
        tracing::debug!(%peer, %error, "connection ended");
    }
}
