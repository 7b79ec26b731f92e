//! PEM files.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Most bytes of a PEM file. The authorities of a whole system take a quarter of it.
const LIMIT: u64 = 1 << 20;

/// The certificates of a file, in its order; at least one.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(file)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{}: the PEM is damaged: {error}", file.display()))?;
    if found.is_empty() {
        return Err(format!(
            "{}: there is no `-----BEGIN CERTIFICATE-----` in it",
            file.display()
        ));
    }
    Ok(found)
}

/// The first private key of a file.
pub(super) fn key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    use rustls::pki_types::pem::Error;

    let text = read(file)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        Error::NoItemsFound => format!(
            "{}: there is no private key in it that can be read without a password",
            file.display()
        ),
        // The error quotes the file, which holds a secret.
        _ => format!("{}: the PEM is damaged", file.display()),
    })
}

/// The certificate authorities of a file, for [`UpstreamTls`](crate::UpstreamTls).
///
/// # Errors
/// Names the file, and why it is of no use.
pub fn read_authorities(file: &Path) -> Result<Arc<[CertificateDer<'static>]>, String> {
    let authorities = certificates(file)?;
    let mut roots = rustls::RootCertStore::empty();
    for authority in &authorities {
        roots
            .add(authority.clone())
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(authorities.into())
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let failed = |reason: &dyn std::fmt::Display| {
        format!("{}: the file cannot be read: {reason}", file.display())
    };
    // Opening a pipe would wait for a writer.
    if !file.metadata().map_err(|error| failed(&error))?.is_file() {
        return Err(failed(&"it is not a regular file"));
    }
    let mut text = Vec::new();
    File::open(file)
        .and_then(|file| file.take(LIMIT + 1).read_to_end(&mut text))
        .map_err(|error| failed(&error))?;
    if text.len() as u64 > LIMIT {
        return Err(failed(&"it is larger than 1 MiB"));
    }
    Ok(text)
}
