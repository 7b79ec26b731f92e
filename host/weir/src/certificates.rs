//! The certificates of the TLS listeners, and how they follow their files.

use std::sync::Arc;

use anyhow::Context;
use parking_lot::Mutex;
use weir_proxy::{Certificate, Metrics, Tls};
use weir_store::Clock;

use crate::config::{self, CertificateFiles};

/// The certificates in force.
#[derive(Debug)]
pub(crate) struct Certificates {
    tls: Arc<Tls>,
    in_force: Mutex<Vec<Certificate>>,
    /// What is wrong with the files, as it was logged: said once, not at each change of
    /// something beside them.
    failing: Mutex<Vec<String>>,
}

impl Certificates {
    /// # Errors
    /// Names the file that is of no use.
    pub(crate) fn load(config: &config::Tls) -> anyhow::Result<Self> {
        let in_force = config
            .certificates
            .iter()
            .map(|files| Certificate::load(&files.chain, &files.key))
            .collect::<Result<Vec<_>, _>>()
            .context("[[tls.certificates]]")?;
        Ok(Self {
            tls: Arc::new(Tls::new(&in_force, config.handshake_timeout)?),
            in_force: Mutex::new(in_force),
            failing: Mutex::default(),
        })
    }

    /// What the listeners shake hands with.
    pub(crate) fn tls(&self) -> Arc<Tls> {
        Arc::clone(&self.tls)
    }

    /// Reads the files again, and puts in force what has changed. Files that are of no use
    /// leave their certificate as it is; so do those of a certificate that was never in
    /// force, of which there is none then.
    pub(crate) fn follow(&self, wanted: &[CertificateFiles], metrics: &Metrics) {
        let mut in_force = self.in_force.lock();
        let mut failing = Vec::new();
        let next: Vec<Certificate> = wanted
            .iter()
            .filter_map(|files| follow_one(files, &in_force, &mut failing))
            .collect();
        let known = std::mem::replace(&mut *self.failing.lock(), failing.clone());
        for error in failing.iter().filter(|error| !known.contains(error)) {
            tracing::error!(
                error,
                "the new certificate was not taken; the one in force stays"
            );
        }
        let same = next.len() == in_force.len()
            && next
                .iter()
                .zip(&*in_force)
                .all(|(new, old)| new.is_same(old));
        if !same {
            if let Err(error) = self.tls.replace(&next) {
                tracing::error!(%error, "the new certificates were not taken; the old ones stay");
                return;
            }
            report(&next);
            let now = Clock::system().now();
            for problem in next.iter().filter_map(|new| new.problem(now)) {
                tracing::warn!("{problem}");
            }
            *in_force = next;
        }
        metrics.certificates(&in_force);
    }

    /// Tells the log and the metrics which certificates are in force. What is wrong with
    /// them is among the configuration's warnings.
    pub(crate) fn announce(&self, metrics: &Metrics) {
        let in_force = self.in_force.lock();
        report(&in_force);
        metrics.certificates(&in_force);
    }
}

fn follow_one(
    files: &CertificateFiles,
    in_force: &[Certificate],
    failing: &mut Vec<String>,
) -> Option<Certificate> {
    match Certificate::load(&files.chain, &files.key) {
        Ok(certificate) => Some(certificate),
        Err(error) => {
            failing.push(error.to_string());
            in_force
                .iter()
                .find(|old| (old.chain(), old.key()) == (&files.chain, &files.key))
                .cloned()
        }
    }
}

fn report(certificates: &[Certificate]) {
    for certificate in certificates {
        tracing::info!(
            chain = %certificate.chain().display(),
            names = certificate.names().join(" "),
            expires = %certificate.expires(),
            "certificate in force"
        );
    }
}
