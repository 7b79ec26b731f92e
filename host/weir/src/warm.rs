//! `weir warm`: sends a list of URLs through a node, so that it has them stored before
//! clients ask.

mod fetch;
mod list;
mod progress;
mod tally;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use http::Uri;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use self::fetch::Fetcher;
use self::list::Line;
use self::progress::Progress;
use self::tally::{Done, Outcome, Tally};
use crate::client;

/// How many lines are read ahead.
const AHEAD: usize = 1_024;
/// What a process ends with that was ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

#[derive(Debug, Args)]
pub(crate) struct WarmArgs {
    /// A file with one absolute URL a line; `#` begins a comment. `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    list: PathBuf,
    /// The node to send them to; each URL's host stays in the request. Without it each URL
    /// goes to its own host
    #[arg(long, value_name = "URL")]
    node: Option<Uri>,
    /// A header field of every request, 'name: value'; may be repeated
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// How many requests are under way at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    concurrency: u16,
    /// At most so many requests a second [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// How long one response may take, body included
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Certificate authorities for https, instead of the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// Runs `weir warm`.
///
/// # Errors
/// What keeps it from starting. URLs that fail are told in the summary, and make the exit
/// status 1.
pub(crate) fn run(args: &WarmArgs) -> anyhow::Result<ExitCode> {
    ensure!(!args.timeout.is_zero(), "--timeout must not be zero");
    let fetcher = Fetcher::new(
        args.node.as_ref(),
        &args.headers,
        args.ca_file.as_deref(),
        args.timeout,
    )?;
    let (total, lines) = list::open(&args.list)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the threads cannot be started")?;
    let (tally, interrupted) = runtime.block_on(warm(args, Arc::new(fetcher), total, lines));
    // A reader of standard input may wait for a line for ever.
    runtime.shutdown_background();
    client::print(tally.summary(interrupted).trim_end())?;
    Ok(match (interrupted, tally.failed()) {
        (true, _) => ExitCode::from(INTERRUPTED),
        (false, 0) => ExitCode::SUCCESS,
        (false, _) => ExitCode::FAILURE,
    })
}

async fn warm(
    args: &WarmArgs,
    fetcher: Arc<Fetcher>,
    total: Option<u64>,
    lines: list::Lines,
) -> (Tally, bool) {
    let lines = Arc::new(Mutex::new(list::read(lines, AHEAD)));
    let pace = Arc::new(Pace::new(args.rate));
    let (tell, mut told) = mpsc::channel(usize::from(args.concurrency));
    for _ in 0..args.concurrency {
        tokio::spawn(work(
            Arc::clone(&lines),
            Arc::clone(&pace),
            Arc::clone(&fetcher),
            tell.clone(),
        ));
    }
    drop(tell);
    let (mut tally, progress) = (Tally::start(&args.list), Progress::start(total));
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let interrupted = loop {
        tokio::select! {
            // What is done is counted, also when it ends now.
            biased;
            done = told.recv() => match done {
                Some(done) => {
                    tally.count(done);
                    progress.show(&tally);
                }
                None => break false,
            },
            _ = &mut interrupt => break true,
        }
    };
    progress.finish();
    (tally, interrupted)
}

/// Takes one line after the other until there are none.
async fn work(
    lines: Arc<Mutex<mpsc::Receiver<Line>>>,
    pace: Arc<Pace>,
    fetcher: Arc<Fetcher>,
    tell: mpsc::Sender<Done>,
) {
    loop {
        let Some(line) = lines.lock().await.recv().await else {
            return;
        };
        let outcome = match &line.text {
            Ok(text) => match fetcher.check(text) {
                Ok(url) => {
                    pace.wait().await;
                    fetcher.fetch(url).await
                }
                Err(why) => Outcome::Failed(why),
            },
            Err(why) => Outcome::Failed(why.clone()),
        };
        let done = Done {
            line: line.number,
            url: line.text.unwrap_or_default(),
            outcome,
        };
        if tell.send(done).await.is_err() {
            return;
        }
    }
}

/// When the next request may begin.
#[derive(Debug)]
struct Pace(Option<(Duration, Mutex<Instant>)>);

impl Pace {
    fn new(rate: Option<u32>) -> Self {
        let between = rate.map(|rate| Duration::from_secs(1) / rate);
        Self(between.map(|between| (between, Mutex::new(Instant::now()))))
    }

    async fn wait(&self) {
        let Some((between, next)) = &self.0 else {
            return;
        };
        let at = {
            let mut next = next.lock().await;
            // What was not used is not made up for: that would be a burst.
            let at = (*next).max(Instant::now() - *between);
            *next = at + *between;
            at
        };
        tokio::time::sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_spreads_requests_evenly() {
        let pace = Pace::new(Some(100));
        let began = Instant::now();
        for _ in 0..101 {
            pace.wait().await;
        }
        let took = began.elapsed();
        assert!(
            took >= Duration::from_secs(1) - Duration::from_millis(1),
            "{took:?}"
        );
        assert!(took < Duration::from_millis(1_200), "{took:?}");
        Pace::new(None).wait().await;
    }
}
