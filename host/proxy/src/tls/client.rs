//! TLS of connections that the node opens to servers which are no origins.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::sign::SingleCertAndKey;

use super::Certificate;
use crate::upstream::{authorities_in, system_authorities, versions};

/// What a client trusts, and shows where it is asked: the authorities in `ca_file`, or
/// those of the system, and a certificate of its own.
///
/// # Errors
/// What is wrong with the authorities, in words.
pub fn client_tls(
    ca_file: Option<&Path>,
    shown: Option<&Certificate>,
) -> Result<ClientConfig, String> {
    let roots = match ca_file {
        Some(file) => authorities_in(file)?,
        None => system_authorities()?,
    };
    let config = versions()?.with_root_certificates(roots);
    Ok(match shown {
        Some(shown) => {
            let shown = SingleCertAndKey::from(Arc::clone(&shown.certified));
            config.with_client_cert_resolver(Arc::new(shown))
        }
        None => config.with_no_client_auth(),
    })
}
