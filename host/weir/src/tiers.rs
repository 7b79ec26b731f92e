//! The tier behind memory, and the log of purges that goes with it.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use weir_store::disk::DiskTier;
use weir_store::log::{JournalError, Log};
use weir_store::redis::Redis;
use weir_store::{Clock, SecondTier};

use crate::config::Config;
use crate::settings;

/// In `data_dir`: purges that wait for Redis.
const WAITING: &str = "purges";

/// In `data_dir`: all purges of a node alone, whose objects outlive it on disk.
const LONE: &str = "node-purges";

/// What was purged, and what stands behind memory.
#[derive(Debug)]
pub(crate) struct Tiers {
    pub(crate) log: Log,
    pub(crate) second: Option<SecondTier>,
}

impl Tiers {
    /// As configured; neither Redis nor the disk is waited for.
    ///
    /// # Errors
    /// What in the configuration cannot be carried out.
    pub(crate) fn start(config: &Config, clock: &Clock) -> anyhow::Result<Self> {
        if let Some(redis) = start_redis(config, clock)? {
            return Ok(Self {
                log: redis.log().clone(),
                second: Some(SecondTier::Redis(redis)),
            });
        }
        let Some(log) = lone_log(config, clock)? else {
            return Ok(Self::memory(config));
        };
        let second = match &config.disk {
            Some(disk) => {
                let disk = DiskTier::open(&settings::disk(disk), log.clone(), clock.clone());
                Some(SecondTier::Disk(Arc::new(disk.context("[disk]")?)))
            }
            None => None,
        };
        Ok(Self { log, second })
    }

    /// Memory alone, and a log that lives as long as it.
    pub(crate) fn memory(config: &Config) -> Self {
        Self {
            log: Log::new(settings::log(config), None),
            second: None,
        }
    }
}

fn start_redis(config: &Config, clock: &Clock) -> anyhow::Result<Option<Arc<Redis>>> {
    let Some(redis) = &config.redis else {
        return Ok(None);
    };
    let mut settings_of_redis = settings::redis(redis)?;
    if let Some(data_dir) = data_dir(config)? {
        // A disk tier's objects do not see what is purged from now on.
        forget(&data_dir.join(LONE))?;
        settings_of_redis.journal = Some(data_dir.join(WAITING));
    }
    let redis =
        Redis::start(&settings_of_redis, settings::log(config), clock).context("[redis]")?;
    Ok(Some(Arc::new(redis)))
}

/// The log of a node without Redis, if it is kept on disk: with a disk tier, and where an
/// earlier run had one, which must not find its objects unpurged later.
fn lone_log(config: &Config, clock: &Clock) -> anyhow::Result<Option<Log>> {
    let Some(data_dir) = data_dir(config)? else {
        return Ok(None);
    };
    let file = data_dir.join(LONE);
    if config.disk.is_none() && !file.exists() {
        return Ok(None);
    }
    match Log::durable(settings::log(config), &file, clock.now()) {
        Ok(log) => Ok(Some(log)),
        Err(error) if is_full(&error) => {
            // Without it the next start finds its objects purged, all of them.
            forget(&file)?;
            tracing::error!(
                %error,
                "starting with memory alone, and what is on disk counts as purged from now on. \
                 Make room, then restart"
            );
            Ok(None)
        }
        Err(error) => Err(error).context("[disk]"),
    }
}

fn is_full(error: &JournalError) -> bool {
    let JournalError::Io { source, .. } = error else {
        return false;
    };
    matches!(
        source.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

fn forget(file: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(|| {
            format!(
                "{} cannot be deleted, which would undo purges",
                file.display()
            )
        }),
        _ => Ok(()),
    }
}

/// `data_dir`, made if need be.
pub(crate) fn data_dir(config: &Config) -> anyhow::Result<Option<&Path>> {
    let Some(data_dir) = &config.data_dir else {
        return Ok(None);
    };
    std::fs::create_dir_all(data_dir)
        .with_context(|| format!("data_dir {} cannot be made", data_dir.display()))?;
    Ok(Some(data_dir))
}
