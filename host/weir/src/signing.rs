//! Who may say what runs on a node: ed25519 signatures of components.
//!
//! A signature is of the policy's name and the component's hash, so that one made for a
//! policy is of no use for another. Keys are PEM files, as openssl writes them.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use ring::signature::{ED25519, ED25519_PUBLIC_KEY_LEN, Ed25519KeyPair, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

/// What stands before the key in a SubjectPublicKeyInfo of ed25519 (RFC 8410, section 4).
const SPKI: &[u8] = &[
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// A public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey([u8; ED25519_PUBLIC_KEY_LEN]);

impl PublicKey {
    /// Reads one from a PEM file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn load(file: &Path) -> anyhow::Result<Self> {
        let pem = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let Ok(der) = SubjectPublicKeyInfoDer::from_pem_slice(&pem) else {
            if PrivatePkcs8KeyDer::from_pem_slice(&pem).is_ok() {
                bail!(
                    "{} has a private key: nodes get the public one alone, as openssl pkey -in KEY -pubout writes it",
                    file.display()
                );
            }
            bail!(
                "{} has no PUBLIC KEY in PEM, as openssl pkey -in KEY -pubout writes it",
                file.display()
            );
        };
        let key = der.strip_prefix(SPKI).and_then(|key| key.try_into().ok());
        key.map(Self).with_context(|| {
            format!(
                "{} has a key of another sort: make one with openssl genpkey -algorithm ed25519",
                file.display()
            )
        })
    }
}

/// Signs a component of a policy with the private key in a PEM file.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn sign(file: &Path, policy: &str, component: &[u8]) -> anyhow::Result<String> {
    let pem =
        std::fs::read(file).with_context(|| format!("cannot read the key {}", file.display()))?;
    let hint = "make one with openssl genpkey -algorithm ed25519 -out KEY";
    let der = PrivatePkcs8KeyDer::from_pem_slice(&pem)
        .map_err(|_| anyhow::anyhow!("{} has no PRIVATE KEY in PEM: {hint}", file.display()))?;
    // openssl leaves the public key out.
    let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
        .map_err(|_| anyhow::anyhow!("{} is no key of ed25519: {hint}", file.display()))?;
    let signature = key.sign(&message(policy, &hash(component)));
    Ok(BASE64_STANDARD.encode(signature.as_ref()))
}

/// Whether one of the keys has signed this for the policy. Everything is well where there
/// are no keys.
///
/// # Errors
/// What is missing, and what to do.
pub(crate) fn verify(
    keys: &[PublicKey],
    policy: &str,
    hash: &str,
    signature: Option<&str>,
) -> anyhow::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let signature = signature.context(
        "the component is not signed, and this node takes none without a signature \
         (deploy.trusted_keys): deploy it with --key FILE",
    )?;
    let signature = BASE64_STANDARD
        .decode(signature)
        .context("the component's signature is not base64")?;
    let message = message(policy, hash);
    let signed = |key: &PublicKey| {
        UnparsedPublicKey::new(&ED25519, key.0)
            .verify(&message, &signature)
            .is_ok()
    };
    ensure!(
        keys.iter().any(signed),
        "the component's signature is by none of the keys in deploy.trusted_keys, or for another \
         component or policy than {policy}"
    );
    Ok(())
}

/// What a component is known by.
pub(crate) fn hash(component: &[u8]) -> String {
    blake3::hash(component).to_hex().to_string()
}

/// The same, off this thread: of a large one it takes as long as hundreds of requests.
pub(crate) async fn hash_of(component: &Bytes) -> String {
    let bytes = component.clone();
    let hashed = tokio::task::spawn_blocking(move || hash(&bytes)).await;
    hashed.unwrap_or_else(|_| hash(component))
}

fn message(policy: &str, hash: &str) -> Vec<u8> {
    format!("weir policy\n{policy}\nblake3:{hash}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

    use super::*;

    /// The files of a private and a public key.
    fn keys(dir: &Path, sort: &'static rcgen::SignatureAlgorithm) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate_for(sort).unwrap();
        let name = fastrand_name();
        let files = (
            dir.join(format!("{name}.pem")),
            dir.join(format!("{name}.pub")),
        );
        std::fs::write(&files.0, key.serialize_pem()).unwrap();
        std::fs::write(&files.1, key.public_key_pem()).unwrap();
        files
    }

    fn fastrand_name() -> String {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        format!(
            "key-{}",
            NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
        )
    }

    #[test]
    fn only_what_was_signed_for_this_policy_by_a_trusted_key_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (private, public) = keys(dir.path(), &PKCS_ED25519);
        let (stranger, other) = keys(dir.path(), &PKCS_ED25519);
        let trusted = [
            PublicKey::load(&other).unwrap(),
            PublicKey::load(&public).unwrap(),
        ];
        let signature = sign(&private, "pages", b"component").unwrap();
        let verify = |keys: &[PublicKey], policy, component: &[u8], signature: Option<&str>| {
            verify(keys, policy, &hash(component), signature).map_err(|error| error.to_string())
        };
        let good = Some(&*signature);
        assert_eq!(verify(&trusted, "pages", b"component", good), Ok(()));
        let wrong = |refused: Result<(), String>| refused.unwrap_err();
        let by_none = "is by none of the keys";
        assert!(wrong(verify(&trusted, "other", b"component", good)).contains(by_none));
        assert!(wrong(verify(&trusted, "pages", b"Component", good)).contains(by_none));
        let strange = sign(&stranger, "pages", b"component").unwrap();
        let refused = verify(&trusted[1..], "pages", b"component", Some(&strange));
        assert!(wrong(refused).contains(by_none));
        assert!(wrong(verify(&trusted, "pages", b"component", Some("AAAA"))).contains(by_none));
        assert!(wrong(verify(&trusted, "pages", b"component", Some("?"))).contains("base64"));
        assert!(wrong(verify(&trusted, "pages", b"component", None)).contains("--key"));
        // Nobody asked for signatures.
        assert_eq!(verify(&[], "pages", b"component", None), Ok(()));
    }

    /// Made by openssl 3.0: genpkey -algorithm ed25519, then pkey -pubout.
    #[test]
    fn what_openssl_makes_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (private, public) = (dir.path().join("key"), dir.path().join("pub"));
        std::fs::write(&private, PRIVATE).unwrap();
        std::fs::write(&public, PUBLIC).unwrap();
        let trusted = [PublicKey::load(&public).unwrap()];
        let signature = sign(&private, "pages", b"component").unwrap();
        verify(&trusted, "pages", &hash(b"component"), Some(&signature)).unwrap();
    }

    #[test]
    fn keys_of_the_wrong_sort_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (private, public) = keys(dir.path(), &PKCS_ED25519);
        let why = |loaded: anyhow::Result<PublicKey>| format!("{:#}", loaded.unwrap_err());
        assert!(why(PublicKey::load(&private)).contains("has a private key"));
        assert!(why(PublicKey::load(&dir.path().join("none"))).contains("cannot read"));
        let text = dir.path().join("text");
        std::fs::write(&text, "ssh-ed25519 AAAA").unwrap();
        assert!(why(PublicKey::load(&text)).contains("no PUBLIC KEY"));
        let unsigned = sign(&public, "pages", b"").unwrap_err();
        assert!(format!("{unsigned:#}").contains("no PRIVATE KEY"));
        let (private, public) = keys(dir.path(), &PKCS_ECDSA_P256_SHA256);
        assert!(why(PublicKey::load(&public)).contains("another sort"));
        let unsigned = sign(&private, "pages", b"").unwrap_err();
        assert!(format!("{unsigned:#}").contains("no key of ed25519"));
    }

    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIH8TwhihCZhXa6JHwL52pVvtcG/hwcqv5n52juP8Xt6U\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAl95dDd2B/hea3l5G1Ld0dbwXgRBXjHjhN+h6VNqS6Oc=\n-----END PUBLIC KEY-----\n";
}
