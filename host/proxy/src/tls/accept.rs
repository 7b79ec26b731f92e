//! Handshakes with clients.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Certificate, provider};

/// The answer to a request in cleartext.
const CLEARTEXT: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 42\r\nConnection: close\r\n\r\n\
    this port speaks TLS: the URL is https://\n";
/// What is read of a request in cleartext before its connection is closed: bytes left
/// unread would reset the connection, and the answer with it.
const CLEARTEXT_READ: u64 = 64 << 10;

/// What is spoken inside a TLS connection, as agreed by ALPN (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, or 1.0: also where the client has no ALPN.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client took too long.
    #[error("the client did not finish the handshake within {0:?}")]
    Timeout(Duration),
    /// It sent something else than TLS.
    #[error("the client does not speak TLS")]
    Cleartext,
    /// No common version, cipher or protocol, an alert, a connection that ended.
    #[error("{0}")]
    Failed(#[from] io::Error),
}

/// Why certificates cannot be put to use.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct TlsError(#[from] rustls::Error);

/// The certificates in force, and how clients are met. They change at once, for the next
/// handshake; connections go on with what they began with.
#[derive(Debug)]
pub struct Tls {
    config: ArcSwap<ServerConfig>,
    handshake_timeout: Duration,
}

impl Tls {
    /// The first certificate is shown to clients that ask for none of the names, or name
    /// no server at all.
    ///
    /// # Errors
    /// When there is no certificate, or no randomness.
    pub fn new(
        certificates: &[Certificate],
        handshake_timeout: Duration,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            config: ArcSwap::from(server_config(certificates)?),
            handshake_timeout,
        })
    }

    /// Puts other certificates in force.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub fn replace(&self, certificates: &[Certificate]) -> Result<(), TlsError> {
        self.config.store(server_config(certificates)?);
        Ok(())
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// See [`HandshakeError`].
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, Protocol), HandshakeError> {
        tokio::time::timeout(self.handshake_timeout, self.shake(stream))
            .await
            .unwrap_or(Err(HandshakeError::Timeout(self.handshake_timeout)))
    }

    async fn shake(
        &self,
        mut stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, Protocol), HandshakeError> {
        let mut first = [0];
        stream.peek(&mut first).await?;
        // A method, where TLS has a number. Somebody who typed http:// is told.
        if first[0].is_ascii_alphabetic() {
            // Whether it arrives is not for us to know.
            let _ = refuse(&mut stream).await;
            return Err(HandshakeError::Cleartext);
        }
        let stream = TlsAcceptor::from(self.config.load_full())
            .accept(stream)
            .await?;
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        Ok((stream, protocol))
    }
}

async fn refuse(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(CLEARTEXT).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(CLEARTEXT_READ);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}

fn server_config(certificates: &[Certificate]) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName::new(certificates)?));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // New with each set of certificates: a session is not resumed past the one that
    // vouched for it.
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// Chooses the certificate by the server name that the client asks for.
#[derive(Debug)]
struct ByName {
    /// By name; a wildcard by what follows its `*`, dot included. The first wins.
    names: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
}

impl ByName {
    fn new(certificates: &[Certificate]) -> Result<Self, rustls::Error> {
        let mut names = HashMap::new();
        for certificate in certificates {
            for name in certificate.names() {
                let name = name.strip_prefix('*').unwrap_or(name).to_owned();
                names
                    .entry(name)
                    .or_insert_with(|| Arc::clone(&certificate.certified));
            }
        }
        let first = certificates
            .first()
            .ok_or(rustls::Error::NoCertificatesPresented)?;
        Ok(Self {
            names,
            default: Arc::clone(&first.certified),
        })
    }

    fn choose(&self, asked: Option<&str>) -> &Arc<CertifiedKey> {
        let known = asked.and_then(|asked| {
            let asked = asked.to_ascii_lowercase();
            // A wildcard stands for exactly one label (RFC 9525 section 6.3).
            let parent = asked.find('.').and_then(|dot| asked.get(dot..));
            self.names.get(&asked).or_else(|| self.names.get(parent?))
        });
        known.unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.choose(hello.server_name())))
    }
}
