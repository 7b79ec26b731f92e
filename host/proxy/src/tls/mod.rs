//! TLS in front: certificates from files, the choice among them by SNI, and handshakes.

mod accept;
mod certificate;
mod client;
mod pem;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use self::accept::{HandshakeError, Protocol, Tls, TlsError};
pub use self::certificate::{Certificate, CertificateError, CertificatePart};
pub use self::client::client_tls;
pub use self::pem::read_authorities;

/// The cryptography behind TLS, on both sides of the node: ring. It needs a C compiler
/// alone and builds in seconds; aws-lc-rs would add hybrid post-quantum key exchange for
/// minutes of building. Given to each configuration, so that nothing depends on what
/// another crate installs for the process.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
