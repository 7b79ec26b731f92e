//! Connections of a client that speaks to nodes as browsers do, to the URL's own host or
//! to one address whatever the host: for the commands that send requests.

use std::error::Error;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{DefaultServerNameResolver, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use tokio::net::TcpStream;
use tower_service::Service;

use super::connect::{authorities_in, system_authorities, trusting};

type BoxError = Box<dyn Error + Send + Sync>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Opens connections, by TLS for `https`, with the certificate of the URL's host.
#[derive(Debug, Clone)]
pub struct Dialer {
    https: HttpsConnector<Tcp>,
    timeout: Duration,
}

#[derive(Debug, Clone)]
struct Tcp {
    connector: HttpConnector,
    to: Option<Uri>,
}

impl Dialer {
    /// Connects to the host and port of `to`, whatever host a URL names; without it to that
    /// of the URL. Certificates are of the authorities in `ca_file`, or of the system's.
    ///
    /// # Errors
    /// What is wrong with the authorities, in words.
    pub fn new(to: Option<Uri>, ca_file: Option<&Path>, timeout: Duration) -> Result<Self, String> {
        let roots = match ca_file {
            Some(file) => authorities_in(file)?,
            // Where there are none, https fails with its own message.
            None => system_authorities().unwrap_or_else(|_| RootCertStore::empty()),
        };
        let mut config = trusting(roots)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeout));
        let name = Arc::new(DefaultServerNameResolver::default());
        Ok(Self {
            https: HttpsConnector::new(Tcp { connector, to }, config, false, name),
            timeout,
        })
    }
}

impl Service<Uri> for Dialer {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(self.timeout, self.https.call(url));
        Box::pin(async move {
            connecting
                .await
                .unwrap_or_else(|late| Err(io::Error::new(io::ErrorKind::TimedOut, late).into()))
        })
    }
}

impl Service<Uri> for Tcp {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let connecting = self.connector.call(self.to.clone().unwrap_or(url));
        Box::pin(async move { connecting.await.map_err(Into::into) })
    }
}
