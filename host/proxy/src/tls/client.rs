//! TLS of connections that the node opens to servers which are no origins.

use std::path::Path;
use std::sync::Arc;

use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use super::pem::read_authorities;
use super::{Certificate, provider};
use crate::upstream::system_authorities;

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
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for authority in read_authorities(file)?.iter() {
                roots
                    .add(authority.clone())
                    .map_err(|error| format!("{}: {error}", file.display()))?;
            }
            roots
        }
        None => system_authorities()?,
    };
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    Ok(match shown {
        Some(shown) => {
            let shown = SingleCertAndKey::from(Arc::clone(&shown.certified));
            config.with_client_cert_resolver(Arc::new(shown))
        }
        None => config.with_no_client_auth(),
    })
}
