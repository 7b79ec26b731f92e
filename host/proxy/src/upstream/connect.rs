//! Connections to origins, with TLS where the upstream asks for it.

use std::error::Error;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{
    DefaultServerNameResolver, FixedServerNameResolver, HttpsConnector, MaybeHttpsStream,
    ResolveServerName,
};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    WantsVerifier,
};
use tokio::net::TcpStream;
use tower_service::Service;

use super::reuse::Marked;
use crate::settings::{UpstreamSettings, UpstreamTls};
use crate::tls::{provider, read_authorities};

type BoxError = Box<dyn Error + Send + Sync>;

/// Opens connections, within one time for all that belongs to it: the name's look-up, TCP
/// and TLS.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    https: HttpsConnector<HttpConnector>,
    timeout: Duration,
}

impl Connector {
    /// # Errors
    /// What is wrong with the TLS settings, in words.
    pub(super) fn new(settings: &UpstreamSettings) -> Result<Self, String> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(settings.connect_timeout));
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        // An origin that answers, and reads no more of a request, would else hold it and its
        // client's connection for ever.
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(settings.body_timeout));
        let mut config = match &settings.tls {
            Some(tls) => client_config(tls)?,
            // Never used: the connector goes by the scheme of the request.
            None => trusting(RootCertStore::empty())?,
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let wanted = settings
            .tls
            .as_ref()
            .and_then(|tls| tls.server_name.clone());
        let name: Arc<dyn ResolveServerName + Send + Sync> = match wanted {
            Some(name) => {
                let name = ServerName::try_from(name)
                    .map_err(|error| format!("tls.server_name: {error}"))?;
                Arc::new(FixedServerNameResolver::new(name))
            }
            None => Arc::new(DefaultServerNameResolver::default()),
        };
        Ok(Self {
            https: HttpsConnector::new(tcp, config, false, name),
            timeout: settings.connect_timeout,
        })
    }
}

impl Service<Uri> for Connector {
    type Response = Marked<MaybeHttpsStream<TokioIo<TcpStream>>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(self.timeout, self.https.call(server));
        Box::pin(async move {
            connecting
                .await
                .unwrap_or_else(|late| Err(io::Error::new(io::ErrorKind::TimedOut, late).into()))
                .map(Marked::from)
        })
    }
}

/// Whether a connection failed because of TLS: its certificate, its name, its protocol.
pub(super) fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        // An io::Error's source is the source of what it wraps, not what it wraps.
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}

/// The certificate authorities that the system trusts.
///
/// # Errors
/// When there are none.
pub fn system_authorities() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(roots);
    }
    let mut message = "the system has no certificate authorities to verify servers by".to_owned();
    for error in &found.errors {
        message.push_str(&format!("; {error}"));
    }
    Err(message)
}

/// The authorities in a PEM file.
pub(crate) fn authorities_in(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for authority in read_authorities(file)?.iter() {
        roots
            .add(authority.clone())
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(roots)
}

fn client_config(tls: &UpstreamTls) -> Result<ClientConfig, String> {
    if !tls.verify {
        let config = versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified))
            .with_no_client_auth();
        return Ok(config);
    }
    let roots = match &tls.authorities {
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in authorities.iter() {
                roots
                    .add(authority.clone())
                    .map_err(|error| format!("tls.ca_file: {error}"))?;
            }
            roots
        }
        None => system_authorities()?,
    };
    trusting(roots)
}

pub(super) fn trusting(roots: RootCertStore) -> Result<ClientConfig, String> {
    Ok(versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

pub(crate) fn versions() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, String> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())
}

/// Takes any certificate. What is sent cannot be read on the way, but anyone may be at
/// the other end.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, &known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, &known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
