//! A real site's day at the cache: 10,000 requests of 2015, in order for each client, by
//! concurrent clients, twice, while pages change and the policy is replaced.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use reqwest::{Client, Method};
use serde_json::json;
use tokio::task::JoinSet;
use weir_tests::access_log::{self, Entry};
use weir_tests::component::marked;
use weir_tests::{Answer, Config, Origin, Reply, Scratch, Weir, answer, guests, until};

/// Concurrent clients.
const CLIENTS: usize = 16;
/// Replacements of the policy.
const REPLACEMENTS: usize = 5;

/// What the site has, by what the log says.
struct Site {
    /// Status and size by content (see [`content`]).
    pages: HashMap<String, (u16, usize)>,
    /// Versions by content, from 1.
    versions: Mutex<HashMap<String, u64>>,
    /// The version that a purge of a target has acknowledged: nothing older may be served.
    acknowledged: Mutex<HashMap<String, u64>>,
}

/// What a target shows: campaign parameters change nothing, nor does their order.
fn content(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else {
        return target.to_owned();
    };
    let mut kept: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.starts_with("utm_") && !pair.is_empty())
        .collect();
    if kept.is_empty() {
        return path.to_owned();
    }
    kept.sort_unstable();
    format!("{path}?{}", kept.join("&"))
}

impl Site {
    fn of(log: &[Entry]) -> Self {
        let mut pages = HashMap::new();
        for entry in log {
            let (status, size) = pages.entry(content(&entry.target)).or_insert((0, 0));
            let told = match entry.status {
                // Answers to conditions and ranges: the page itself was there.
                304 | 206 | 416 => 200,
                told => told,
            };
            if *status == 0 || told == 200 {
                *status = told;
            }
            *size = (*size).max(entry.bytes.min(16 << 10) as usize);
        }
        Self {
            pages,
            versions: Mutex::default(),
            acknowledged: Mutex::default(),
        }
    }

    fn status(&self, target: &str) -> u16 {
        self.pages.get(&content(target)).map_or(404, |page| page.0)
    }

    /// The page's bytes at a version: its name and version, then filling to its size.
    fn body(&self, target: &str, version: u64) -> Vec<u8> {
        let name = content(target);
        let size = self.pages.get(&name).map_or(0, |page| page.1);
        let mut body = format!("v{version} {name}\n").into_bytes();
        let filling = name.bytes().cycle().take(size.saturating_sub(body.len()));
        body.extend(filling);
        body
    }

    fn reply(&self, call: &weir_tests::Call) -> Reply {
        let status = self.status(&call.target);
        let reply = Reply::status(status).text(self.body(&call.target, self.version(&call.target)));
        match status {
            301 => reply.cache("max-age=3600").header("location", "/"),
            200 | 404 => reply.cache("max-age=3600"),
            _ => reply.cache("no-store"),
        }
    }

    fn cacheable(&self, entry: &Entry) -> bool {
        let safe = matches!(entry.method.as_str(), "GET" | "HEAD");
        safe && matches!(self.status(&entry.target), 200 | 301 | 404)
    }

    fn version(&self, target: &str) -> u64 {
        *self.versions.lock().get(&content(target)).unwrap_or(&1)
    }

    fn edit(&self, target: &str) -> u64 {
        let mut versions = self.versions.lock();
        let version = versions.entry(content(target)).or_insert(1);
        *version += 1;
        *version
    }

    fn floor(&self, target: &str) -> u64 {
        *self.acknowledged.lock().get(target).unwrap_or(&1)
    }
}

/// What a pass saw.
#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    cacheable: AtomicU64,
    hits: AtomicU64,
}

struct Play {
    site: Arc<Site>,
    base: String,
    /// The requests of each client, in order.
    log: Vec<Vec<Entry>>,
    tally: Tally,
}

impl Play {
    /// Plays the whole log once.
    async fn pass(self: &Arc<Self>) {
        let queue: VecDeque<usize> = (0..self.log.len()).collect();
        let queue = Arc::new(Mutex::new(queue));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (play, queue) = (self.clone(), queue.clone());
            clients.spawn(async move {
                let client = answer::client();
                loop {
                    let Some(next) = queue.lock().pop_front() else {
                        return;
                    };
                    for entry in &play.log[next] {
                        play.ask(&client, entry).await;
                    }
                }
            });
        }
        while let Some(ended) = clients.join_next().await {
            ended.expect("a client of the log");
        }
    }

    async fn ask(&self, client: &Client, entry: &Entry) {
        let method: Method = entry.method.parse().expect("a method");
        let floor = self.site.floor(&entry.target);
        let request = client
            .request(method.clone(), format!("{}{}", self.base, entry.target))
            .header("user-agent", &entry.agent);
        let answer = Answer::of(request).await;
        let answer = answer.unwrap_or_else(|error| panic!("{method} {}: {error:?}", entry.target));
        assert_eq!(
            answer.status,
            self.site.status(&entry.target),
            "{method} {}",
            entry.target
        );
        if method != Method::HEAD {
            self.judge(entry, &answer, floor);
        }
        self.tally.answered.fetch_add(1, Ordering::SeqCst);
        if self.site.cacheable(entry) {
            self.tally.cacheable.fetch_add(1, Ordering::SeqCst);
            let hit = u64::from(answer.is_hit());
            self.tally.hits.fetch_add(hit, Ordering::SeqCst);
        }
    }

    /// The body is the page's, at a version that no purge had ended when it was asked for.
    fn judge(&self, entry: &Entry, answer: &Answer, floor: u64) {
        let told = answer.text();
        let version = told
            .strip_prefix('v')
            .and_then(|rest| rest.split(' ').next())
            .and_then(|number| number.parse::<u64>().ok());
        let version = version.unwrap_or_else(|| panic!("{}: another body", entry.target));
        let newest = self.site.version(&entry.target);
        assert!(
            (floor..=newest).contains(&version),
            "{} came at version {version}; purged below {floor}, newest {newest}",
            entry.target
        );
        assert!(
            answer.body == self.site.body(&entry.target, version),
            "{}: not the page's body",
            entry.target
        );
    }

    fn ratio(&self) -> f64 {
        let (hits, cacheable) = (&self.tally.hits, &self.tally.cacheable);
        hits.load(Ordering::SeqCst) as f64 / cacheable.load(Ordering::SeqCst) as f64
    }
}

fn by_client(log: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut clients: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in log {
        clients.entry(entry.client.clone()).or_default().push(entry);
    }
    clients.into_values().collect()
}

/// Changes pages and purges them until told to stop. Returns how many.
async fn edit_pages(play: Arc<Play>, node: Arc<Weir>, done: Arc<AtomicBool>) -> usize {
    // Pages with one URL only: where a policy gives several URLs one key, each of them
    // would have to be purged.
    let targets = || play.log.iter().flatten().map(|entry| &entry.target);
    let queried: HashSet<_> = targets()
        .filter_map(|target| target.split_once('?'))
        .collect();
    let queried: HashSet<_> = queried.into_iter().map(|(path, _)| path).collect();
    let alone = |target: &&String| !target.contains('?') && !queried.contains(target.as_str());
    let popular: Vec<_> = targets().filter(alone).take(200).cloned().collect();
    let mut edits = 0;
    for target in popular.iter().cycle() {
        if done.load(Ordering::SeqCst) {
            break;
        }
        let version = play.site.edit(target);
        let url = format!("{}{target}", play.base);
        node.admin().invalidate(json!({ "urls": [url] })).await;
        play.site
            .acknowledged
            .lock()
            .insert(target.clone(), version);
        edits += 1;
    }
    edits
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_real_requests_twice_while_the_policy_is_replaced() {
    let Some(path) = access_log::find() else {
        println!(
            "SKIPPED: no ../shared/data/access-2015.log.gz above {} (WEIR_SHARED names another place)",
            env!("CARGO_MANIFEST_DIR")
        );
        return;
    };
    let log = access_log::read(&path);
    assert_eq!(log.len(), 10_000);
    let site = Arc::new(Site::of(&log));
    let pages = site.clone();
    let origin = Origin::with(move |call| pages.reply(call)).await;

    let policies = Scratch::new();
    let component = std::fs::read(guests().static_site()).expect("the component");
    let file = policies.write("site.wasm", &component);
    let node = Config::policy(&origin.url(), &file, "").start().await;
    let node = Arc::new(node);
    let play = |log: Vec<Vec<Entry>>| {
        Arc::new(Play {
            site: site.clone(),
            base: node.url(""),
            log,
            tally: Tally::default(),
        })
    };

    let first = play(by_client(log));
    let done = Arc::new(AtomicBool::new(false));
    let editor = tokio::spawn(edit_pages(first.clone(), node.clone(), done.clone()));
    first.pass().await;
    done.store(true, Ordering::SeqCst);
    let edits = editor.await.expect("the editor");
    assert!(edits > 0);
    assert_eq!(first.tally.answered.load(Ordering::SeqCst), 10_000);
    // What the last edits purged is fetched once more before hits are counted.
    first.pass().await;

    let second = play(first.log.clone());
    let replaced = AtomicBool::new(false);
    let replacing = async {
        for number in 1..=REPLACEMENTS {
            let due = (number * 10_000 / (REPLACEMENTS + 1)) as u64;
            until("the load's progress", async || {
                (second.tally.answered.load(Ordering::SeqCst) >= due).then_some(())
            })
            .await;
            let before = node.admin().version("site").await;
            policies.write("site.wasm", marked(&component, &format!("edit {number}")));
            until("another version in force", async || {
                (node.admin().version("site").await != before).then_some(())
            })
            .await;
        }
        replaced.store(true, Ordering::SeqCst);
    };
    let playing = async {
        second.pass().await;
        // The replacements lie within traffic, however fast the log was played.
        while !replaced.load(Ordering::SeqCst) {
            second.pass().await;
        }
    };
    tokio::join!(replacing, playing);
    let ratio = second.ratio();
    println!(
        "real log: {edits} pages changed under way, {} requests in the last passes, {:.2} % hits of \
         what is cacheable, {} requests to the origin",
        second.tally.answered.load(Ordering::SeqCst),
        ratio * 100.0,
        origin.total(),
    );
    assert!(ratio >= 0.99, "{:.2} % hits", ratio * 100.0);
    until("the old generations' end", async || {
        let alive = node
            .admin()
            .metric(weir_tests::names::GENERATIONS, &[])
            .await;
        (alive <= 1.0).then_some(())
    })
    .await;
}
