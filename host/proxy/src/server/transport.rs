//! What clients connect by.

use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A client's stream: TCP, or what lies on top of it.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Makes the connection end with a reset when it is dropped, so that no client takes
    /// the end of a broken response for its end.
    fn reset(&self);
}

impl Transport for TcpStream {
    fn reset(&self) {
        // It fails on a socket that is gone already.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl<S: Transport> Transport for TlsStream<S> {
    fn reset(&self) {
        self.get_ref().0.reset();
    }
}
