//! How fast calls are, beside `redis-benchmark` on the same machine. Not a claim that a
//! test can hold on a busy machine, so it prints and is run by hand:
//! `cargo test --release -p weir-store --test redis -- --ignored --nocapture throughput`

use std::process::Command;

use weir_store::kv::KvStore;

use super::*;

const TASKS: u32 = 64;
const SIZE: usize = 1_024;
const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_secs(3);

/// Requests a second of `redis-benchmark -t get` at as many connections.
fn benchmark(server: &Server, keep: &str) -> f64 {
    let output = Command::new("redis-benchmark")
        .args(["-p", &server.port().to_string(), "-t", "get", "--csv"])
        .args([
            "-c",
            &TASKS.to_string(),
            "-d",
            &SIZE.to_string(),
            "-n",
            "200000",
        ])
        .output()
        .expect("redis-benchmark runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("\"GET\""));
    let rate = line.and_then(|line| line.split(',').nth(1));
    let rate = rate.and_then(|rate| rate.trim_matches('"').parse().ok());
    rate.unwrap_or_else(|| panic!("{keep}: redis-benchmark said {text:?}"))
}

/// Microseconds of CPU that this process has used.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after = stat.rsplit_once(") ").expect("a name in brackets").1;
    let ticks: f64 = after
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse::<f64>().expect("ticks"))
        .sum();
    ticks * 10_000.0
}

/// Calls a second, and the CPU of this process for each in microseconds.
async fn rate<F: Future<Output = bool> + Send>(
    call: impl Fn() -> F + Clone + Send + 'static,
) -> (f64, f64) {
    let (began, used) = (Instant::now(), cpu());
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let call = call.clone();
            tokio::spawn(async move {
                let (mut good, mut bad) = (0_u64, 0_u64);
                while began.elapsed() < TIME {
                    if call().await { good += 1 } else { bad += 1 }
                }
                (good, bad)
            })
        })
        .collect();
    let (mut good, mut bad) = (0, 0);
    for task in tasks {
        let (one, other) = task.await.expect("a task");
        good += one;
        bad += other;
    }
    assert!(bad * 100 < good, "{bad} of {good} calls failed");
    #[expect(clippy::cast_precision_loss, reason = "it is printed")]
    let calls = good as f64;
    (
        calls / began.elapsed().as_secs_f64(),
        (cpu() - used) / calls,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: see the head of this file"]
async fn throughput() {
    let server = Server::start();
    let patient = RedisConfig {
        deadline: Duration::from_secs(5),
        background_deadline: Duration::from_secs(5),
        ..config(&server)
    };
    let redis = Arc::new(node_with(&patient, Limits::default()).await);
    let kv = Arc::new(KvStore::redis(&redis));
    let value = Bytes::from(vec![b'x'; SIZE]);
    kv.set("n", "k", value.clone(), Duration::from_secs(600))
        .await
        .expect("set");
    let stored = Object::new(ObjectParts {
        body: value,
        ..parts("1", &["team"], redis.log().position())
    });
    put(&redis, stored).await;
    let name: Arc<str> = key("a.example", "1").as_str().into();
    for _ in 0..ROUNDS {
        let reference = benchmark(&server, "get");
        let reading = {
            let kv = Arc::clone(&kv);
            rate(move || {
                let kv = Arc::clone(&kv);
                async move { matches!(kv.get("n", "k").await, Ok(Some(_))) }
            })
            .await
        };
        let hitting = {
            let (redis, name) = (Arc::clone(&redis), Arc::clone(&name));
            rate(move || {
                let (redis, name) = (Arc::clone(&redis), Arc::clone(&name));
                async move { matches!(redis.get(&name, &HeaderMap::new()).await, Ok(Some(_))) }
            })
            .await
        };
        let beside = beside_large(&redis).await;
        println!(
            "redis-benchmark {reference:.0}/s; GET {:.0}/s ({:.2}x, {:.1} us CPU); object {:.0}/s ({:.2}x, {:.1} us CPU); {:?}",
            reading.0,
            reading.0 / reference,
            reading.1,
            hitting.0,
            hitting.0 / reference,
            hitting.1,
            redis.pool(),
        );
        println!("hits while 4 tasks read 1 MiB: {beside}");
    }
}

/// The median and the 99th percentile of hits on a small object, in microseconds, alone
/// and while others read a large one.
async fn beside_large(redis: &Arc<Redis>) -> String {
    let body: Vec<u8> = (0..1_048_576_u32).map(|at| at.to_le_bytes()[1]).collect();
    let large = Object::new(ObjectParts {
        body: body.into(),
        ..parts("large", &[], redis.log().position())
    });
    put(redis, large).await;
    let mut said = Vec::new();
    for readers in [0, 4] {
        let end = Instant::now() + TIME;
        let reader = |name: Key, pause: Duration| {
            let redis = Arc::clone(redis);
            tokio::spawn(async move {
                let mut took = Vec::new();
                while Instant::now() < end {
                    let began = Instant::now();
                    let found = redis.get(name.as_str(), &HeaderMap::new()).await;
                    took.push(began.elapsed().as_micros());
                    assert!(matches!(found, Ok(Some(_))), "{found:?}");
                    tokio::time::sleep(pause).await;
                }
                took
            })
        };
        let large: Vec<_> = (0..readers)
            .map(|_| reader(key("a.example", "large"), Duration::ZERO))
            .collect();
        let small: Vec<_> = (0..8)
            .map(|_| reader(key("a.example", "1"), Duration::from_millis(2)))
            .collect();
        let (mut took, mut bytes) = (Vec::new(), 0);
        for task in small {
            took.extend(task.await.expect("a task"));
        }
        for task in large {
            bytes += task.await.expect("a task").len();
        }
        took.sort_unstable();
        said.push(format!(
            "{} large: p50 {} us, p99 {} us",
            bytes,
            took[took.len() / 2],
            took[took.len() * 99 / 100]
        ));
    }
    said.join("; ")
}
