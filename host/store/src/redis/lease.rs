//! One fetch of an object in the whole fleet: a lease in Redis, as advice.
//!
//! Whoever takes the lease fetches, and the others look whether the object is there until
//! it is, or the lease ends, or they have waited long enough; then they fetch by
//! themselves. Nothing breaks without it, so every failure of Redis means "go on".

use std::sync::LazyLock;
use std::time::Duration;

use ::redis::{Script, cmd, pipe};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::client::{Client, Patience};
use super::keys::Keys;

static RENEW: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/lease_renew.lua")));
static END: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/lease_end.lua")));

/// How long a lease stands when its holder has died.
const TTL: Duration = Duration::from_secs(1);

/// How often its holder renews it.
const RENEWAL: Duration = Duration::from_millis(300);

/// How long it is renewed: those who come later than that need not wait for so slow a body.
const LONGEST: Duration = Duration::from_secs(10);

/// How long the news stands that there will be no object.
const NEWS: Duration = Duration::from_secs(1);

/// What stands in a lease's place when its holder has nothing to share.
const NOTHING: &str = "nothing";

/// Pauses between two looks of those who wait, the first and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(40));

/// What asking for the lease of an object has led to.
#[derive(Debug)]
pub enum Leased {
    /// It is up to you to fetch, unless the object has come in the meantime: there is
    /// something under its key, if this says so.
    Yours(Lease, bool),
    /// Somebody else fetches: see [`Waiting::next`].
    Wait(Waiting),
    /// Fetch without it: Redis did not say, or nothing will be shared.
    Without,
}

/// The lease of one object. Dropped, it says that there is nothing to share.
#[derive(Debug)]
pub struct Lease {
    /// Absent once it has ended.
    held: Option<Held>,
    renewal: AbortHandle,
}

#[derive(Clone, Debug)]
struct Held {
    client: Client,
    name: String,
    token: String,
}

/// The place of one who waits for the object that somebody else fetches.
#[derive(Debug)]
pub struct Waiting {
    client: Client,
    name: String,
    until: Instant,
    pause: Duration,
}

/// What one who has waited does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look into Redis's tier: the fetch has ended.
    LookUp,
    /// Fetch: there will be nothing to share, or it takes too long.
    Fetch,
}

/// Asks for the lease. Those who are refused wait until then at most.
pub(super) async fn take(client: &Client, keys: &Keys, key: &str, until: Instant) -> Leased {
    let name = keys.lease(key);
    let token = format!("{:032x}", fastrand::u128(..));
    let mut step = pipe();
    step.cmd("SET").arg(&name).arg(&token);
    step.arg("PX").arg(millis(TTL)).arg("NX").ignore();
    step.cmd("GET").arg(&name);
    step.cmd("EXISTS").arg(keys.object(key));
    let held: Result<(Option<String>, bool), _> = client.pipeline(&step, Patience::Request).await;
    match held {
        Ok((Some(holder), exists)) if holder == token => {
            Leased::Yours(Lease::new(client.clone(), name, token), exists)
        }
        Ok((Some(news), _)) if news == NOTHING => Leased::Without,
        Ok((Some(_), _)) => Leased::Wait(Waiting {
            client: client.clone(),
            name,
            until,
            pause: PAUSES.0,
        }),
        Ok((None, _)) | Err(_) => Leased::Without,
    }
}

impl Lease {
    fn new(client: Client, name: String, token: String) -> Self {
        let held = Held {
            client,
            name,
            token,
        };
        let renewal = tokio::spawn(held.clone().renew()).abort_handle();
        Self {
            held: Some(held),
            renewal,
        }
    }

    /// Ends the lease, and says nothing of others to come: the object is in Redis, or was
    /// purged on its way there. Whoever waits looks, and may take the lease next.
    pub fn over(mut self) {
        self.end("");
    }

    fn end(&mut self, news: &'static str) {
        self.renewal.abort();
        // Without a runtime the process ends, and the lease with its time to live.
        if let Some(held) = self.held.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(held.end(news));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end(NOTHING);
    }
}

impl Held {
    async fn renew(self) {
        let end = Instant::now() + LONGEST;
        while Instant::now() < end {
            tokio::time::sleep(RENEWAL).await;
            let mut call = RENEW.key(&self.name);
            call.arg(&self.token).arg(millis(TTL));
            // If it fails the next one may do.
            let _: Result<u64, _> = self.client.script(&call, Patience::Background).await;
        }
    }

    async fn end(self, news: &'static str) {
        let mut call = END.key(&self.name);
        call.arg(&self.token).arg(news).arg(millis(NEWS));
        // If it fails the lease ends with its time to live.
        let _: Result<u64, _> = self.client.script(&call, Patience::Background).await;
    }
}

impl Waiting {
    /// Waits until there is something to do.
    pub async fn next(&mut self) -> Next {
        loop {
            if Instant::now() + self.pause > self.until {
                return Next::Fetch;
            }
            // Cut at random, so that waiting nodes do not look together.
            tokio::time::sleep(self.pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            self.pause = (self.pause * 2).min(PAUSES.1);
            let mut get = cmd("GET");
            get.arg(&self.name);
            let held: Result<Option<String>, _> =
                self.client.command(&get, Patience::Request).await;
            match held {
                Ok(Some(news)) if news == NOTHING => return Next::Fetch,
                Ok(Some(_)) => {}
                Ok(None) => return Next::LookUp,
                Err(_) => return Next::Fetch,
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
