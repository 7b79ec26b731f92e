//! Versions that are loaded before anybody holds the node's state: to compile one and to run its
//! cases takes seconds, in which nothing else could be changed, not even taken back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Mutex as Waited, OwnedMutexGuard};

use super::{Content, Contents, Entry, Loader, Services, Version};
use crate::config;
use crate::settings;
use crate::signing;

/// How long one is kept that nobody comes for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of it, until somebody takes it. Held while it is loaded.
type Slot = Arc<Waited<Option<anyhow::Result<Version>>>>;

/// Those that are being loaded or wait to be taken.
#[derive(Clone, Default)]
pub(super) struct Ahead(Arc<Mutex<Vec<One>>>);

struct One {
    name: String,
    hash: String,
    config: config::Policy,
    services: Services,
    bytes: Bytes,
    slot: Slot,
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0.lock();
        let names = all.iter().map(|one| (&one.name, &one.hash));
        f.debug_list().entries(names).finish()
    }
}

impl One {
    /// Would the same be loaded?
    fn is_of(&self, name: &str, hash: &str, config: &config::Policy, services: Services) -> bool {
        self.name == name
            && self.hash == hash
            && self.services == services
            && self.config.cases == config.cases
            && settings::same_policy(&self.config, config)
    }
}

impl Ahead {
    /// Takes what was loaded ahead, if it was; waits for it while it is being loaded.
    pub(super) async fn take(
        &self,
        name: &str,
        config: &config::Policy,
        bytes: &Bytes,
        services: Services,
    ) -> Option<anyhow::Result<Version>> {
        if self.0.lock().iter().all(|one| one.name != name) {
            return None;
        }
        let hash = signing::hash_of(bytes).await;
        let slot = {
            let mut all = self.0.lock();
            let mut places = all.iter();
            let at = places.position(|one| one.is_of(name, &hash, config, services))?;
            all.swap_remove(at).slot
        };
        slot.lock().await.take()
    }

    /// The place for a version; and the right to load it, for the first one who comes.
    fn place(
        &self,
        name: &str,
        wanted: &ToLoad,
        services: Services,
    ) -> (
        Slot,
        Option<OwnedMutexGuard<Option<anyhow::Result<Version>>>>,
    ) {
        let ToLoad {
            config,
            hash,
            bytes,
        } = wanted;
        let mut all = self.0.lock();
        let known = all
            .iter()
            .find(|one| one.is_of(name, hash, config, services));
        if let Some(known) = known {
            return (Arc::clone(&known.slot), None);
        }
        let slot = Slot::default();
        // Nobody else knows it yet.
        let first = Arc::clone(&slot).try_lock_owned().ok();
        all.push(One {
            name: name.to_owned(),
            hash: hash.clone(),
            config: config.clone(),
            services,
            bytes: bytes.clone(),
            slot: Arc::clone(&slot),
        });
        (slot, first)
    }

    fn remove(&self, slot: &Slot) {
        self.0.lock().retain(|one| !Arc::ptr_eq(&one.slot, slot));
    }
}

/// A version that has to be loaded.
pub(crate) struct ToLoad {
    pub(super) config: config::Policy,
    /// What may be loaded, and nothing else.
    pub(super) hash: String,
    pub(super) bytes: Bytes,
}

impl ToLoad {
    /// Its component.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl Loader {
    /// Loads a version, for whoever is to put it in force next, and waits until that is done, well
    /// or not. It goes on where this is given up.
    pub(crate) async fn load_ahead(&self, name: &str, wanted: ToLoad, services: Services) {
        if signing::hash_of(&wanted.bytes).await != wanted.hash {
            return;
        }
        let (slot, first) = self.ahead.place(name, &wanted, services);
        if let Some(mut place) = first {
            let (loader, name, slot) = (self.clone(), name.to_owned(), Arc::clone(&slot));
            tokio::spawn(async move {
                let ToLoad { config, bytes, .. } = wanted;
                *place = Some(loader.load_now(&name, &config, bytes, services).await);
                drop(place);
                tokio::time::sleep(PATIENCE).await;
                loader.ahead.remove(&slot);
            });
        }
        drop(slot.lock().await);
    }

    /// A component that was or is being loaded ahead.
    pub(crate) fn component_ahead(&self, hash: &str) -> Option<Bytes> {
        let all = self.ahead.0.lock();
        let known = all.iter().find(|one| one.hash == hash);
        known.map(|one| one.bytes.clone())
    }
}

impl Entry {
    /// What stands in its file and has to be loaded.
    pub(crate) async fn file_to_load(&self, loader: &Loader) -> Option<ToLoad> {
        let bytes = loader.read(&self.config).await.ok()?;
        let known = [&self.file, &self.current.bytes].into_iter();
        if known.chain(&self.failed).any(|known| *known == bytes) {
            return None;
        }
        Some(ToLoad {
            config: self.config.clone(),
            hash: signing::hash_of(&bytes).await,
            bytes,
        })
    }

    /// What has to be loaded to put a version in force; nothing where it is at hand, or may not
    /// run.
    pub(crate) fn to_load(
        &self,
        loader: &Loader,
        name: &str,
        content: &Content,
        contents: &Contents,
    ) -> Option<ToLoad> {
        let mut ready = std::iter::once(&self.current).chain(&self.previous);
        if ready.any(|version| version.hash() == content.hash)
            || self.admit(loader, name, content).is_err()
        {
            return None;
        }
        let bytes = self.component(&content.hash);
        let bytes = bytes.or_else(|| contents.get(&content.hash).cloned())?;
        Some(ToLoad {
            config: self.config.clone(),
            hash: content.hash.clone(),
            bytes,
        })
    }
}
