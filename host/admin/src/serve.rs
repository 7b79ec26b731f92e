//! Connections: HTTP/1.1, bounded in number and in the time that a header may take.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::Instrument;

use crate::auth::Auth;
use crate::control::Control;
use crate::routes;

/// More connections than this wait to be accepted.
const MAX_CONNECTIONS: usize = 256;
/// How long a client may take for a request's header, and how long a connection may idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests in flight may go on after `shutdown`.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the admin API on `listener` until `shutdown` completes, then finishes the requests in
/// flight, for ten seconds at most.
///
/// # Errors
/// `InvalidInput` when `auth` is [`Auth::loopback`] and the listener is not on a loopback
/// address. Failures of single connections are logged.
pub async fn serve(
    listener: TcpListener,
    auth: Auth,
    control: Arc<dyn Control>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    if auth.needs_loopback() && !address.ip().is_loopback() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "the admin API would be open to everyone on {address}: set [admin] token_file, or listen on 127.0.0.1"
            ),
        ));
    }
    let app = routes::router(auth, control);
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut shutdown = pin!(shutdown);
    loop {
        let slot = tokio::select! {
            () = &mut shutdown => break,
            slot = Arc::clone(&slots).acquire_owned() => slot.map_err(io::Error::other)?,
        };
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the admin listener could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection = connection(stream, app.clone(), &graceful);
        let task = async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "admin connection ended");
            }
            drop(slot);
        };
        tokio::spawn(task.instrument(tracing::info_span!("admin", %peer)));
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("admin requests still in flight were cut off");
    }
    Ok(())
}

fn connection(
    stream: TcpStream,
    app: Router,
    graceful: &GracefulShutdown,
) -> impl Future<Output = hyper::Result<()>> + Send + use<> {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    graceful.watch(connection)
}
