//! Connections to one server: the name's look-up, TCP or a Unix socket, TLS, the greeting.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, ErrorKind, ProtocolVersion, RedisConnectionInfo, RedisError};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::config::{Endpoint, Login, Protocol, Tls};
use super::error::{CallError, cause};
use super::link::Link;

/// How long a connection may take to be made. No request waits for it longer than its
/// own deadline.
const CONNECT: Duration = Duration::from_millis(500);

/// How many calls wait to be written on a connection before more of them wait outside.
const QUEUE: usize = 1_024;

/// How long a peer that is silent, or takes nothing of what was sent, stays connected:
/// the deadlines see to calls, this to what is left of them.
const SILENCE: Duration = Duration::from_secs(30);

/// What connections of one kind have in common. Cheap to clone.
///
/// The libraries' own way of connecting would read the system's authorities anew for each
/// connection.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    login: Arc<Login>,
    database: u32,
    tls: Option<Tls>,
    protocol: Protocol,
}

impl Connector {
    pub(super) fn new(login: &Login, database: u32, tls: Option<&Tls>, protocol: Protocol) -> Self {
        Self {
            login: Arc::new(login.clone()),
            database,
            tls: tls.cloned(),
            protocol,
        }
    }

    /// A new connection. It has no deadline of its own for answers.
    pub(super) async fn open(&self, endpoint: &Endpoint) -> Result<Link, CallError> {
        match timeout(CONNECT, self.greet(endpoint)).await {
            Ok(greeted) => greeted.map_err(|error| self.at(endpoint, error).into()),
            Err(_) => {
                let hint = match &self.tls {
                    // What does not speak TLS waits for more of the handshake.
                    Some(_) => {
                        "; if it speaks no TLS on that port, write redis:// instead of rediss://"
                    }
                    None => "",
                };
                let late = format!("{endpoint}: not connected within {CONNECT:?}{hint}");
                Err(io::Error::new(io::ErrorKind::TimedOut, late).into())
            }
        }
    }

    /// Connects, in the newest protocol that the server speaks.
    async fn greet(&self, endpoint: &Endpoint) -> Result<Link, RedisError> {
        if self.protocol == Protocol::Resp3 {
            match self.hello(endpoint, ProtocolVersion::RESP3).await {
                Err(error) if refuses_resp3(&error) => {}
                done => return done,
            }
        }
        self.hello(endpoint, ProtocolVersion::RESP2).await
    }

    async fn hello(
        &self,
        endpoint: &Endpoint,
        protocol: ProtocolVersion,
    ) -> Result<Link, RedisError> {
        let mut info = RedisConnectionInfo::default()
            .set_db(self.database.into())
            .set_protocol(protocol)
            // Not every ACL allows it.
            .set_skip_set_lib_name();
        if let Some(username) = &self.login.username {
            info = info.set_username(username);
        }
        if let Some(password) = &self.login.password {
            info = info.set_password(password);
        }
        match endpoint {
            Endpoint::Unix(path) => start(&info, UnixStream::connect(path).await?).await,
            Endpoint::Tcp { host, port } => {
                let stream = tcp(host, *port).await?;
                let Some(tls) = &self.tls else {
                    return start(&info, stream).await;
                };
                let name = tls.server_name.as_deref().unwrap_or(host).to_owned();
                let name = ServerName::try_from(name).map_err(io::Error::other)?;
                let tls = TlsConnector::from(Arc::clone(&tls.config));
                start(&info, tls.connect(name, stream).await?).await
            }
        }
    }

    /// Says where an error of the operating system happened, or a connection ended.
    fn at(&self, endpoint: &Endpoint, error: RedisError) -> RedisError {
        let found = cause(&error).and_then(|cause| cause.downcast_ref::<io::Error>());
        let kind = found
            .filter(|found| found.raw_os_error().is_some())
            .map(io::Error::kind);
        match kind {
            Some(kind) if kind != io::ErrorKind::ConnectionReset => {
                io::Error::new(kind, format!("{endpoint}: {error}")).into()
            }
            _ if self.tls.is_none() && error.is_connection_dropped() => {
                let hint = "; if it speaks TLS on that port, write rediss:// instead of redis://";
                io::Error::other(format!("{endpoint}: {error}{hint}")).into()
            }
            _ => error,
        }
    }
}

/// Looks the name up, anew each time, and tries its addresses in turn.
async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failed = None;
    for address in lookup_host((host, port)).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                let socket = socket2::SockRef::from(&stream);
                let keepalive = socket2::TcpKeepalive::new()
                    .with_time(SILENCE / 3)
                    .with_interval(SILENCE / 6);
                socket.set_tcp_keepalive(&keepalive)?;
                #[cfg(target_os = "linux")]
                socket.set_tcp_user_timeout(Some(SILENCE))?;
                return Ok(stream);
            }
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| io::Error::other("the name has no address")))
}

async fn start<S>(info: &RedisConnectionInfo, stream: S) -> Result<Link, RedisError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // The deadline is the caller's; a response timeout here would cut blocking reads.
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUE);
    let (connection, driver) = MultiplexedConnection::new_with_config(info, stream, config).await?;
    Ok(Link::new(connection, driver))
}

/// Whether the server, or what its ACL allows, is older than RESP3.
fn refuses_resp3(error: &RedisError) -> bool {
    let text = error.to_string();
    error.kind() == ErrorKind::RESP3NotSupported
        || ["NOPROTO", "unknown command", "NOPERM"]
            .iter()
            .any(|sign| text.contains(sign))
}
