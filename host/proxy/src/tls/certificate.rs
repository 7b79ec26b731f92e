//! A certificate chain with its key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use weir_semantics::Timestamp;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::{pem, provider};

/// What a node shows to clients, and with which key it proves that it may.
#[derive(Debug, Clone)]
pub struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    names: Vec<String>,
    valid: (Timestamp, Timestamp),
    pub(super) certified: Arc<CertifiedKey>,
}

/// The file that is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificatePart {
    /// The certificate and those between it and its authority.
    Chain,
    /// The private key.
    Key,
}

/// Why a certificate cannot be used. Names the files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CertificateError {
    /// The file to look at first.
    pub part: CertificatePart,
    message: String,
}

impl Certificate {
    /// Reads a chain and its key from PEM files. Whether it has expired is not asked:
    /// an expired certificate is better than none, see [`Certificate::problem`].
    ///
    /// # Errors
    /// When a file is of no use, or the key belongs to another certificate.
    pub fn load(chain: &Path, key: &Path) -> Result<Self, CertificateError> {
        let of_chain = |message| CertificateError {
            part: CertificatePart::Chain,
            message,
        };
        let of_key = |message| CertificateError {
            part: CertificatePart::Key,
            message,
        };
        let certificates = pem::certificates(chain).map_err(of_chain)?;
        let (names, valid) = certificates
            .first()
            .ok_or("it is empty".to_owned())
            .and_then(|leaf| read(leaf))
            .map_err(|reason| {
                of_chain(format!(
                    "{}: its first certificate cannot be read: {reason}",
                    chain.display()
                ))
            })?;
        let private = pem::key(key).map_err(of_key)?;
        let certified = CertifiedKey::from_der(certificates, private, &provider()).map_err(
            |error| match error {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => of_key(format!(
                    "the key in {} does not belong to the first certificate in {}",
                    key.display(),
                    chain.display()
                )),
                Error::InvalidCertificate(_) => of_chain(format!("{}: {error}", chain.display())),
                error => of_key(format!("{}: {error}", key.display())),
            },
        )?;
        Ok(Self {
            chain: chain.to_owned(),
            key: key.to_owned(),
            names,
            valid,
            certified: Arc::new(certified),
        })
    }

    /// The file of the chain.
    #[must_use]
    pub fn chain(&self) -> &Path {
        &self.chain
    }

    /// The file of the key.
    #[must_use]
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// The DNS names that it is for, in lower case; a wildcard begins with `*.`.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// When it expires.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.valid.1
    }

    /// What clients will object to at this time, if anything.
    #[must_use]
    pub fn problem(&self, now: Timestamp) -> Option<String> {
        let (from, until) = self.valid;
        let chain = self.chain.display();
        if now > until {
            Some(format!("the certificate in {chain} expired on {until}"))
        } else if now < from {
            Some(format!(
                "the certificate in {chain} is not valid before {from}"
            ))
        } else {
            None
        }
    }

    /// Whether the other one is of the same files with the same content.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        // The key belongs to the first certificate, so it is the same too.
        (&self.chain, &self.key) == (&other.chain, &other.key)
            && self.certified.cert == other.certified.cert
    }
}

/// Names and validity. The subject's common name is not looked at: no client does.
fn read(leaf: &CertificateDer<'_>) -> Result<(Vec<String>, (Timestamp, Timestamp)), String> {
    let leaf = x509_cert::Certificate::from_der(leaf).map_err(|error| error.to_string())?;
    let leaf = leaf.tbs_certificate();
    let alternatives = leaf
        .get_extension::<SubjectAltName>()
        .map_err(|error| error.to_string())?;
    let names = alternatives
        .into_iter()
        .flat_map(|(_, names)| names.0)
        .filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
            _ => None,
        })
        .collect();
    let time =
        |time: &x509_cert::time::Time| Timestamp::from_secs(time.to_unix_duration().as_secs());
    let validity = leaf.validity();
    Ok((
        names,
        (time(&validity.not_before), time(&validity.not_after)),
    ))
}
