//! Certificates made for a test, a client that says what TLS agreed, and TLS in front of
//! an origin.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

use crate::answer::Answer;
use crate::scratch::Scratch;

/// Authorities made so far.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// A certificate authority of the test's own.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate and its key, as PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The chain: the certificate alone.
    pub chain: String,
    /// The private key.
    pub key: String,
}

impl Issued {
    /// Writes them as `NAME.pem` and `NAME.key`; returns the paths.
    pub fn write(&self, scratch: &Scratch, name: &str) -> (PathBuf, PathBuf) {
        let chain = scratch.write(format!("{name}.pem"), &self.chain);
        (chain, scratch.write(format!("{name}.key"), &self.key))
    }

    /// The certificate as a client sees it.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.chain.as_bytes()).expect("a certificate")
    }
}

impl Authority {
    /// Makes one.
    #[expect(clippy::new_without_default, reason = "each one is another")]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // By its name a certificate finds its authority: two of one name would be mistaken
        // for one another.
        let name = format!("authority {}", MADE.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("an authority");
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// Its own certificate as PEM.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for these DNS names and addresses.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, |_| ())
    }

    /// One that expired in 2020.
    pub fn issue_expired(&self, names: &[&str]) -> Issued {
        self.issue_with(names, |params| {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        })
    }

    fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("legal names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signing");
        Issued {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// What a client that trusts this authority alone asks for.
    pub fn client(&self, alpn: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.certificate.der().clone())
            .expect("an authority's certificate");
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// One TLS connection to 127.0.0.1, and the HTTP inside it.
#[derive(Debug)]
pub struct Secure {
    sender: Sender,
    /// The protocol that ALPN agreed on.
    pub alpn: Option<String>,
    /// The certificate that was shown.
    pub certificate: CertificateDer<'static>,
}

#[derive(Debug)]
enum Sender {
    Http1(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Http2(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

/// Shakes hands with `port` of 127.0.0.1 as with the server `name`.
pub async fn handshake(
    port: u16,
    name: &str,
    config: ClientConfig,
) -> std::io::Result<client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).expect("a server's name");
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

impl Secure {
    /// Connects to `port` of 127.0.0.1 as to the server `name`, and speaks what ALPN
    /// agreed on.
    pub async fn connect(port: u16, name: &str, config: ClientConfig) -> std::io::Result<Self> {
        let stream = handshake(port, name, config).await?;
        let session = stream.get_ref().1;
        let alpn = session
            .alpn_protocol()
            .map(|agreed| String::from_utf8_lossy(agreed).into_owned());
        let certificate = session
            .peer_certificates()
            .and_then(|shown| shown.first())
            .expect("a server shows a certificate")
            .clone()
            .into_owned();
        let io = TokioIo::new(stream);
        let sender = if alpn.as_deref() == Some("h2") {
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                    .await
                    .map_err(std::io::Error::other)?;
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = hyper::client::conn::http1::handshake(io)
                .await
                .map_err(std::io::Error::other)?;
            tokio::spawn(connection);
            Sender::Http1(sender)
        };
        Ok(Self {
            sender,
            alpn,
            certificate,
        })
    }

    /// GET of an absolute URL: on HTTP/1.1 sent as a path and Host.
    pub async fn get(&mut self, url: &str) -> Result<Answer, hyper::Error> {
        let request = Request::get(url).body(Full::default()).expect("a request");
        self.send(request).await
    }

    /// Any request with an absolute URL.
    pub async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Answer, hyper::Error> {
        let response = match &mut self.sender {
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http1(sender) => {
                sender.ready().await?;
                let uri = request.uri().clone();
                let host = uri.authority().expect("an absolute URL").as_str();
                let host = host.parse().expect("a Host");
                request.headers_mut().insert("host", host);
                let target = uri.path_and_query().expect("a path").as_str();
                *request.uri_mut() = target.parse().expect("a target");
                sender.send_request(request).await?
            }
        };
        let (head, body) = response.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        })
    }
}

/// TLS in front of an origin: what it was asked for, passed on in cleartext.
#[derive(Debug)]
pub struct Terminator {
    port: u16,
    names: Arc<Mutex<Vec<Option<String>>>>,
    protocols: Arc<Mutex<Vec<Option<String>>>>,
}

impl Terminator {
    /// Shows `issued` to everyone, and passes on to `origin` (`127.0.0.1:3000`).
    pub async fn before(origin: impl ToString, issued: &Issued) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![issued.der()], key)
            .expect("a key of the certificate");
        // What the client takes of these is its choice.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let this = Self {
            port: listener.local_addr().expect("an address").port(),
            names: Arc::default(),
            protocols: Arc::default(),
        };
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (names, protocols) = (this.names.clone(), this.protocols.clone());
        let origin = origin.to_string();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (acceptor, origin) = (acceptor.clone(), origin.clone());
                let (names, protocols) = (names.clone(), protocols.clone());
                tokio::spawn(async move {
                    let Ok(mut near) = acceptor.accept(near).await else {
                        return;
                    };
                    let session = near.get_ref().1;
                    names.lock().push(session.server_name().map(str::to_owned));
                    protocols.lock().push(
                        session
                            .alpn_protocol()
                            .map(|agreed| String::from_utf8_lossy(agreed).into_owned()),
                    );
                    if let Ok(mut far) = TcpStream::connect(origin).await {
                        // One side always ends first.
                        drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
                    }
                });
            }
        });
        this
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server names that completed handshakes asked for, in order.
    pub fn names(&self) -> Vec<Option<String>> {
        self.names.lock().clone()
    }

    /// What ALPN agreed on in them.
    pub fn protocols(&self) -> Vec<Option<String>> {
        self.protocols.lock().clone()
    }
}

/// A `[[tls.certificates]]` table.
pub fn certificate_table((chain, key): &(PathBuf, PathBuf)) -> String {
    let show = |path: &Path| format!("{:?}", path.display().to_string());
    format!(
        "[[tls.certificates]]\nchain = {}\nkey = {}\n",
        show(chain),
        show(key)
    )
}
