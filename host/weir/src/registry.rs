//! Components from an OCI registry (OCI distribution specification 1.1): as they are pushed
//! by `oras`, `wkg` or `docker`, an artifact with one layer of WebAssembly.

use std::collections::HashMap;
use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use docker_credential::DockerCredential;
use oci_client::Reference;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use parking_lot::Mutex;
use weir_admin::MAX_COMPONENT;

/// What such a component begins with in the configuration and on the command line.
pub(crate) const SCHEME: &str = "oci://";
/// What layers of WebAssembly are called: the standard's name, and two older ones.
const MEDIA_TYPES: [&str; 3] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
];
/// How long a registry may take to be reached.
const CONNECT: Duration = Duration::from_secs(5);
/// How long it may say nothing.
const READ: Duration = Duration::from_secs(30);

/// Where a component is in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image(Reference);

impl Image {
    /// Reads `oci://HOST[:PORT]/NAME[:TAG][@DIGEST]`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let form = "oci://HOST/NAME@sha256:DIGEST";
        let name = text
            .strip_prefix(SCHEME)
            .with_context(|| format!("{text:?} is not of the form {form}"))?;
        // Else the library takes it for a name on Docker's own registry.
        let host = name.split('/').next().unwrap_or_default();
        ensure!(
            name.contains('/') && (host.contains(['.', ':']) || host == "localhost"),
            "{text:?} names no registry; write {form}"
        );
        let reference = name
            .parse()
            .with_context(|| format!("{text:?} is not of the form {form}"))?;
        Ok(Self(reference))
    }

    /// The digest of its manifest, if it names one: then it is always the same component.
    pub(crate) fn digest(&self) -> Option<&str> {
        self.0.digest()
    }

    /// Fetches the component; also the digest of its manifest.
    ///
    /// # Errors
    /// Why it is not there, or none.
    pub(crate) async fn pull(&self) -> anyhow::Result<(Bytes, String)> {
        self.fetch()
            .await
            .with_context(|| format!("{self} cannot be pulled"))
    }

    async fn fetch(&self) -> anyhow::Result<(Bytes, String)> {
        let (registry, auth) = (self.0.resolve_registry(), self.auth());
        let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
        let loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        // The library needs one to be chosen. Where it is already, it is this one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::new(ClientConfig {
            // As docker does: a registry on this machine needs no certificate.
            protocol: match loopback {
                true => ClientProtocol::Http,
                false => ClientProtocol::Https,
            },
            connect_timeout: Some(CONNECT),
            read_timeout: Some(READ),
            user_agent: concat!("weir/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        });
        let (manifest, digest) = client.pull_image_manifest(&self.0, &auth).await?;
        let layer = component(&manifest.layers)?;
        let mut body = Limited(Vec::new());
        client.pull_blob(&self.0, layer, &mut body).await?;
        let bytes = Bytes::from(body.0);
        ensure!(
            sha256(&bytes) == layer.digest,
            "its layer is not what the manifest says"
        );
        Ok((bytes, digest))
    }

    /// What `docker login` has stored.
    fn auth(&self) -> RegistryAuth {
        match docker_credential::get_credential(self.0.resolve_registry()) {
            Ok(DockerCredential::UsernamePassword(name, password)) => {
                RegistryAuth::Basic(name, password)
            }
            Ok(DockerCredential::IdentityToken(token)) => RegistryAuth::Bearer(token),
            Err(_) => RegistryAuth::Anonymous,
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.0.whole())
    }
}

/// The layer that is a component.
fn component(layers: &[OciDescriptor]) -> anyhow::Result<&OciDescriptor> {
    let mut found = layers
        .iter()
        .filter(|layer| MEDIA_TYPES.contains(&&*layer.media_type));
    let (Some(layer), None) = (found.next(), found.next()) else {
        let types: Vec<&str> = layers.iter().map(|layer| &*layer.media_type).collect();
        bail!(
            "a component is an artifact with one layer of type {}; this one has [{}]",
            MEDIA_TYPES[0],
            types.join(", ")
        );
    };
    let most = i64::try_from(MAX_COMPONENT).unwrap_or(i64::MAX);
    ensure!(
        (1..=most).contains(&layer.size),
        "it has {} bytes, and a component may have at most {MAX_COMPONENT}",
        layer.size
    );
    ensure!(
        layer.digest.starts_with("sha256:"),
        "its layer is named by {:?}; only sha256 is known here",
        layer.digest
    );
    Ok(layer)
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// A body that ends in an error where it would be too long.
struct Limited(Vec<u8>);

impl tokio::io::AsyncWrite for Limited {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        piece: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Ready(if self.0.len() + piece.len() > MAX_COMPONENT {
            Err(std::io::Error::other(
                "the registry sends more than a component may have",
            ))
        } else {
            self.0.extend_from_slice(piece);
            Ok(piece.len())
        })
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

/// Components that were pulled, by digest, so that no start and no reload waits for a
/// registry that has been asked before. On disk, where there is a folder, as
/// `MANIFEST-LAYER.wasm`, both sha256 in hex.
#[derive(Debug, Default)]
pub(crate) struct Pulled {
    dir: Option<PathBuf>,
    known: Mutex<HashMap<String, Bytes>>,
}

impl Pulled {
    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        Self {
            dir,
            ..Self::default()
        }
    }

    /// The component of an image that names its digest.
    ///
    /// # Errors
    /// As [`Image::pull`].
    pub(crate) async fn get(&self, image: &Image) -> anyhow::Result<Bytes> {
        let digest = image
            .digest()
            .with_context(|| format!("{image} names no digest"))?;
        if let Some(known) = self.known.lock().get(digest) {
            return Ok(known.clone());
        }
        let bytes = match self.on_disk(digest) {
            Some(bytes) => bytes,
            None => {
                let (bytes, got) = image.pull().await?;
                ensure!(
                    got == digest,
                    "{image}: the registry answers with the manifest {got}"
                );
                self.write(digest, &bytes);
                bytes
            }
        };
        self.known.lock().insert(digest.to_owned(), bytes.clone());
        Ok(bytes)
    }

    fn on_disk(&self, digest: &str) -> Option<Bytes> {
        let manifest = digest.strip_prefix("sha256:")?;
        for file in std::fs::read_dir(self.dir.as_ref()?).ok()?.flatten() {
            let name = file.file_name();
            let layer = name
                .to_str()
                .and_then(|name| name.strip_prefix(manifest)?.strip_prefix('-'))
                .and_then(|rest| rest.strip_suffix(".wasm"));
            if let Some(layer) = layer
                && let Ok(bytes) = std::fs::read(file.path())
                // What is damaged is pulled again.
                && sha256(&bytes).strip_prefix("sha256:") == Some(layer)
            {
                return Some(bytes.into());
            }
        }
        None
    }

    fn write(&self, digest: &str, bytes: &[u8]) {
        let (Some(dir), Some(manifest)) = (&self.dir, digest.strip_prefix("sha256:")) else {
            return;
        };
        let layer = sha256(bytes);
        let layer = layer.trim_start_matches("sha256:");
        let file = dir.join(format!("{manifest}-{layer}.wasm"));
        let write = || {
            std::fs::create_dir_all(dir)?;
            let mut new = tempfile::NamedTempFile::new_in(dir)?;
            new.write_all(bytes)?;
            new.persist(&file).map_err(|error| error.error)
        };
        if let Err(error) = write() {
            tracing::warn!(file = %file.display(), %error, "a component that was pulled cannot be kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_registry_is_not_taken_for_one_of_dockers() {
        let pinned = format!("oci://ghcr.io/team/pages:1.2@sha256:{}", "0a".repeat(32));
        let image = Image::parse(&pinned).unwrap();
        assert_eq!(image.to_string(), pinned);
        assert!(image.digest().is_some());
        let tagged = Image::parse("oci://localhost:5000/pages:1.2").unwrap();
        assert_eq!(tagged.digest(), None);
        for wrong in [
            "oci://pages:1.2",
            "oci://team/pages",
            "oci://h.io",
            "oci://",
            "pages",
        ] {
            assert!(Image::parse(wrong).is_err(), "{wrong}");
        }
    }

    fn layer(kind: &str, size: i64) -> OciDescriptor {
        OciDescriptor {
            media_type: kind.into(),
            digest: format!("sha256:{}", "0a".repeat(32)),
            size,
            ..OciDescriptor::default()
        }
    }

    #[test]
    fn only_one_layer_of_webassembly_of_a_bearable_size_is_a_component() {
        for kind in MEDIA_TYPES {
            assert!(component(&[layer("text/plain", 1), layer(kind, 1)]).is_ok());
        }
        let said = |layers: &[OciDescriptor]| component(layers).unwrap_err().to_string();
        let wasm = layer("application/wasm", 1);
        assert!(said(&[wasm.clone(), wasm]).contains("one layer"));
        assert!(said(&[layer("text/plain", 1)]).contains("[text/plain]"));
        assert!(said(&[layer("application/wasm", 1 << 40)]).contains("at most"));
        assert!(said(&[layer("application/wasm", -1)]).contains("-1 bytes"));
    }

    #[test]
    fn what_was_pulled_is_found_on_disk_and_what_is_damaged_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let pulled = Pulled::new(Some(dir.path().to_owned()));
        let digest = sha256(b"manifest");
        assert_eq!(pulled.on_disk(&digest), None);
        pulled.write(&digest, b"component");
        let found = pulled.on_disk(&digest);
        assert_eq!(found, Some(Bytes::from_static(b"component")));
        assert_eq!(pulled.on_disk(&sha256(b"another")), None);
        let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap();
        std::fs::write(file.unwrap().path(), b"component!").unwrap();
        assert_eq!(pulled.on_disk(&digest), None);
    }
}
