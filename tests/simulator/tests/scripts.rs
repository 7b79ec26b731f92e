//! The simulator's Redis against the real scripts on a real redis-server: the same random
//! operations, the same answers.
//!
//! What it cannot compare: forgetting by time, which takes more than ten minutes, and pages,
//! which begin at 4,096 counters.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy knows functions marked as tests, but not what they call"
)]

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use weir_semantics::Timestamp;
use weir_simulator::server::{Broken, CHANCES, Caps, Server, number};
use weir_simulator::universe::universe;
use weir_store::Clock;
use weir_store::log::{EntryMark, Fleet, Limits, Purge, Standing};
use weir_store::redis::{Endpoint, RedisConfig, Servers, fleet};

const COUNTERS: usize = 6;
const PREFIXES: usize = 2;
const STREAM: usize = 8;
const LIFE: Duration = Duration::from_secs(3_600);

/// A redis-server of this test, which keeps as many entries of a stream as it is told to.
struct Real {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Real {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..20 {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            drop(listener);
            let mut child = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
                .args(["--save", "", "--appendonly", "no"])
                .args(["--stream-node-max-entries", "1"])
                .arg("--dir")
                .arg(dir.path())
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server must be installed (Debian: apt-get install redis-server)");
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(20) && child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self {
                        child,
                        port,
                        _dir: dir,
                    };
                }
                std::thread::yield_now();
            }
            drop(child.kill());
        }
        panic!("redis-server did not come up on any of 20 ports");
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// All that a Redis holds: names, and values as `DUMP` gives them.
type Dump = Vec<(Vec<u8>, Vec<u8>)>;

/// Both, and which entry of one is which of the other.
struct Pair {
    redis: redis::aio::MultiplexedConnection,
    fleet: Arc<dyn Fleet>,
    model: Server,
    entries: HashMap<String, EntryMark>,
    /// Entries and epochs that a node could know.
    known: Vec<Standing>,
    sent: Vec<Purge>,
    rng: Rng,
}

impl Pair {
    async fn command<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut self.redis).await.unwrap()
    }

    /// The millisecond of Redis's clock.
    async fn time(&mut self) -> u64 {
        let (seconds, micros): (u64, u64) = self.command(&["TIME"]).await;
        seconds * 1_000 + micros / 1_000
    }

    /// Ids of entries are times, which must not be given again after what is lost.
    async fn tick(&mut self) {
        let began = self.time().await;
        while self.time().await <= began {}
    }

    async fn dump(&mut self) -> Dump {
        let mut names: Vec<Vec<u8>> = self.command(&["KEYS", "*"]).await;
        names.sort_unstable();
        let mut dump = Vec::new();
        for name in names {
            let value = redis::cmd("DUMP")
                .arg(&name)
                .query_async(&mut self.redis)
                .await;
            dump.push((name, value.unwrap()));
        }
        dump
    }

    async fn load(&mut self, dump: &Dump) {
        let () = self.command(&["FLUSHALL"]).await;
        for (name, value) in dump {
            let mut command = redis::cmd("RESTORE");
            let () = command
                .arg(name)
                .arg(0)
                .arg(value)
                .query_async(&mut self.redis)
                .await
                .unwrap();
        }
        self.tick().await;
    }

    async fn purge(&mut self, purge: &Purge) {
        let real = self.fleet.purge(purge).await.unwrap();
        let now = Timestamp::from_millis(real.epoch / CHANCES);
        let chance = (real.epoch % CHANCES, real.entry.nonce);
        let (model, _) = self.model.purge(purge, now, chance);
        self.same_entry(&real.entry, &model.entry);
        assert_eq!(
            (real.epoch, real.sequence, real.earlier, real.previous),
            (model.epoch, model.sequence, model.earlier, model.previous)
        );
        self.know(real.epoch, real.sequence, Some(real.entry));
    }

    fn know(&mut self, epoch: u64, applied: u64, entry: Option<EntryMark>) {
        self.known.push(Standing {
            epoch,
            applied,
            entry,
        });
    }

    /// Ids of entries are of each one's own making; what they name is not.
    fn same_entry(&mut self, real: &EntryMark, model: &EntryMark) {
        let known = self.entries.entry(real.id.clone());
        assert_eq!(*known.or_insert_with(|| model.clone()), *model);
        assert_eq!(real.nonce, model.nonce);
    }

    fn in_model(&self, mark: &Option<EntryMark>) -> Option<EntryMark> {
        mark.as_ref().map(|mark| self.entries[&mark.id].clone())
    }

    async fn snapshot(&mut self, have: &Standing, since: u64) {
        let real = self.fleet.snapshot(have, since).await.unwrap();
        let of_node = Standing {
            entry: self.in_model(&have.entry),
            ..have.clone()
        };
        let nonce = real.last.as_ref().map_or(0, |last| last.nonce);
        let now = Timestamp::from_millis(real.epoch / CHANCES);
        let chance = real.epoch % CHANCES;
        let model = self.model.snapshot(&of_node, since, now, (chance, nonce));
        if let (Some(real), Some(model)) = (&real.last, &model.last) {
            self.same_entry(real, model);
        }
        let told = |it: &weir_store::log::Snapshot| {
            let mut floors = it.floors().to_vec();
            floors.sort_unstable();
            let nonce = it.last.as_ref().map(|last| last.nonce);
            (it.epoch, it.sequence, nonce, it.raised(), floors, it.next)
        };
        assert_eq!(told(&real), told(&model), "have {have:?}, since {since}");
        self.know(real.epoch, real.sequence, real.last);
    }

    async fn seen(&mut self) {
        let states: Vec<String> = self.command(&["KEYS", "*state"]).await;
        let Some(state) = states.first() else {
            return;
        };
        let words = ["HMGET", state, "epoch", "sequence", "nonce"];
        let (epoch, sequence, nonce): (Option<u64>, Option<u64>, Option<u64>) =
            self.command(&words).await;
        let seen = self.model.seen();
        assert_eq!(epoch, seen.epoch);
        assert_eq!(sequence.unwrap_or(0), seen.sequence);
        assert_eq!(nonce.unwrap_or(0), seen.nonce);
    }

    fn any_purge(&mut self) -> Purge {
        if !self.sent.is_empty() && self.rng.u32(..4) == 0 {
            return self.sent[self.rng.usize(..self.sent.len())].clone();
        }
        let selectors = &universe().selectors;
        let some = (0..self.rng.usize(1..4)).map(|_| {
            let selector = selectors[self.rng.usize(..selectors.len())].0.clone();
            match self.rng.u32(..3) {
                0 => selector.soft(),
                _ => selector,
            }
        });
        let purge = Purge::new(
            some.collect(),
            Timestamp::from_millis(self.rng.u64(1..1 << 40)),
        );
        self.sent.push(purge.clone());
        purge
    }

    fn any_standing(&mut self) -> Standing {
        match self.rng.u32(..8) {
            0 => Standing::default(),
            1 => self.known[self.rng.usize(..self.known.len())].clone(),
            _ => self.known[self.known.len() - 1].clone(),
        }
    }
}

#[test]
fn the_model_answers_as_the_scripts_do() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(compare(0x5eed, 2_500));
}

async fn compare(seed: u64, operations: usize) {
    let server = Real::start();
    let url = format!("redis://127.0.0.1:{}/0", server.port);
    let client = redis::Client::open(url.as_str()).unwrap();
    let redis = client.get_multiplexed_async_connection().await.unwrap();
    let limits = Limits {
        counters: COUNTERS,
        prefixes: PREFIXES,
        longest_life: LIFE,
        ..Limits::default()
    };
    let patient = Duration::from_secs(20);
    let config = RedisConfig {
        stream_entries: STREAM,
        deadline: patient,
        background_deadline: patient,
        ..config(server.port)
    };
    let caps = Caps {
        counters: COUNTERS,
        prefixes: PREFIXES,
        stream: STREAM,
        page: 4_096,
        life: LIFE.as_secs() * 1_000,
    };
    let mut pair = Pair {
        redis,
        fleet: fleet(&config, limits, &Clock::system()).unwrap(),
        model: Server::new(caps, Broken::default()),
        entries: HashMap::new(),
        known: vec![Standing::default()],
        sent: Vec::new(),
        rng: Rng::with_seed(seed),
    };
    // It connects in the background.
    let began = Instant::now();
    while pair.fleet.snapshot(&Standing::default(), 0).await.is_err() {
        assert!(began.elapsed() < patient, "the log does not answer");
    }
    let () = pair.command(&["FLUSHALL"]).await;
    pair.tick().await;
    let mut saved = (Dump::new(), pair.model.clone());
    for step in 0..operations {
        match pair.rng.u32(..100) {
            0..55 => {
                let purge = pair.any_purge();
                pair.purge(&purge).await;
            }
            55..90 => {
                let have = pair.any_standing();
                let since = match pair.rng.bool() {
                    true => have.applied,
                    false => pair.rng.u64(..=have.applied),
                };
                pair.snapshot(&have, since).await;
            }
            90..94 => saved = (pair.dump().await, pair.model.clone()),
            94..98 => {
                pair.load(&saved.0).await;
                let mut model = saved.1.clone();
                model.succeed(&pair.model);
                pair.model = model;
            }
            _ => {
                let () = pair.command(&["FLUSHALL"]).await;
                pair.model.flush();
                pair.tick().await;
            }
        }
        pair.seen().await;
        let last = pair.model.last_entry();
        assert!(step == 0 || last < number("18446744073709551615-0"));
    }
    println!("{operations} operations, seed {seed:#x}: the same answers");
}

fn config(port: u16) -> RedisConfig {
    let host = "127.0.0.1".into();
    RedisConfig::new(Servers::Single(Endpoint::Tcp { host, port }))
}
