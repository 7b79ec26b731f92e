//! Clients that go on asking while a test does something to the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use reqwest::Client;
use tokio::task::JoinSet;

use crate::answer::{self, Answer};
use crate::poll;

/// What an answer must be; `Err` says what is wrong with it.
pub type Check = Arc<dyn Fn(&str, &Answer) -> Result<(), String> + Send + Sync>;

/// Clients in the background, until [`Load::finish`].
pub struct Load {
    clients: JoinSet<Vec<String>>,
    done: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
}

impl std::fmt::Debug for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let answered = self.answered.load(Ordering::Relaxed);
        f.debug_struct("Load").field("answered", &answered).finish()
    }
}

impl Load {
    /// Starts `clients` of them, each walking through `urls` again and again from a place
    /// of its own.
    pub fn start(
        clients: usize,
        urls: Vec<String>,
        check: impl Fn(&str, &Answer) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let (urls, check): (Arc<[String]>, Check) = (urls.into(), Arc::new(check));
        let mut load = Self {
            clients: JoinSet::new(),
            done: Arc::default(),
            answered: Arc::default(),
        };
        for number in 0..clients {
            let urls = urls.clone();
            let check = check.clone();
            let (done, answered) = (load.done.clone(), load.answered.clone());
            load.clients.spawn(async move {
                let client = answer::client();
                let mut failures = Vec::new();
                for url in urls.iter().cycle().skip(number * 7) {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    if let Err(failure) = ask(&client, url, &check).await {
                        failures.push(failure);
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                failures
            });
        }
        load
    }

    /// Waits until `more` answers have come since this was called: proof that traffic
    /// really went on during what the test is about.
    pub async fn goes_on(&self, more: u64) {
        let wanted = self.answered.load(Ordering::Relaxed) + more;
        poll::until("the load's going on", async || {
            (self.answered.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }

    /// Ends it. Panics when any request failed. Returns how many were answered.
    pub async fn finish(mut self) -> u64 {
        self.done.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        while let Some(ended) = self.clients.join_next().await {
            failures.extend(ended.expect("a client of the load"));
        }
        let answered = self.answered.load(Ordering::Relaxed);
        assert!(
            failures.is_empty(),
            "{} of {answered} requests failed, the first: {}",
            failures.len(),
            failures.first().map_or("", String::as_str)
        );
        answered
    }
}

async fn ask(client: &Client, url: &str, check: &Check) -> Result<(), String> {
    let answer = Answer::of(client.get(url)).await;
    let answer = answer.map_err(|error| format!("{url}: {error:?}"))?;
    check(url, &answer).map_err(|wrong| format!("{url}: {wrong}: {answer:?}"))
}
