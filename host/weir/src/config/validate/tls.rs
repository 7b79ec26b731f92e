//! The TLS listeners and the files of their certificates.

use std::path::Path;

use weir_proxy::{Certificate, CertificatePart};
use weir_store::Clock;

use super::super::errors::Findings;
use super::super::model::{CertificateFiles, Tls};
use super::super::raw;
use super::value;

pub(super) fn resolve(raw: raw::Tls, folder: &Path, findings: &mut Findings<'_>) -> Option<Tls> {
    let listen = raw.listen?;
    if listen.value.0.is_empty {
        let hint = "write listen = [\"0.0.0.0:8443\"], or remove the table";
        findings.error(&listen.place, "the list is empty", hint);
    }
    let listed = raw.certificates?;
    if listed.value.0.is_empty {
        let hint = "add [[tls.certificates]] with `chain` and `key`";
        findings.error(&listed.place, "TLS needs a certificate", hint);
    }
    // Not lazily: each is to report its errors.
    let certificates: Vec<_> = listed
        .value
        .0
        .values
        .into_iter()
        .map(|certificate| files(certificate.value, folder, findings))
        .collect();
    Some(Tls {
        listen: listen.value.0.values.iter().map(|at| at.value).collect(),
        handshake_timeout: value(&raw.handshake_timeout)?,
        certificates: certificates.into_iter().collect::<Option<_>>()?,
    })
}

fn files(
    raw: raw::Certificate,
    folder: &Path,
    findings: &mut Findings<'_>,
) -> Option<CertificateFiles> {
    let (chain, key) = (raw.chain?, raw.key?);
    let files = CertificateFiles {
        chain: folder.join(&chain.value),
        key: folder.join(&key.value),
    };
    if !findings.check_files {
        return Some(files);
    }
    match Certificate::load(&files.chain, &files.key) {
        Err(error) => {
            let (place, hint) = match error.part {
                CertificatePart::Chain => (
                    &chain.place,
                    "name a PEM file that begins with the server's certificate, such as fullchain.pem",
                ),
                CertificatePart::Key => (
                    &key.place,
                    "name the PEM file with that certificate's private key, such as privkey.pem",
                ),
            };
            findings.error(place, error.to_string(), hint);
        }
        Ok(certificate) => {
            if let Some(problem) = certificate.problem(Clock::system().now()) {
                let hint = "renew it; a new file is taken without a restart";
                findings.warning(&chain.place, problem, hint);
            }
        }
    }
    Some(files)
}
