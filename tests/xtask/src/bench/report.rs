//! The table, and the file of raw results.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::load::Load;
use super::server::Server;
use crate::run;

/// One round of one server.
pub(crate) struct Round {
    load: Load,
    cpu: Duration,
}

impl Round {
    /// `cpu` is what the server's processes used meanwhile.
    pub(crate) fn new(load: Load, cpu: Duration) -> Self {
        Self { load, cpu }
    }

    /// CPU microseconds for each request.
    fn cost(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.load.requests as f64
    }

    /// The share of its core that the server was busy.
    fn busy(&self) -> f64 {
        self.cpu.as_secs_f64() / self.load.time.as_secs_f64()
    }

    /// Requests a second.
    fn pace(&self) -> f64 {
        self.load.requests as f64 / self.load.time.as_secs_f64()
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} µs of CPU a request, {:.0} requests/s",
            self.cost(),
            self.pace()
        )
    }
}

/// All results of a run.
pub(crate) struct Report {
    head: Value,
    machine: String,
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    cost: f64,
    pace: f64,
    busy: f64,
    raw: Value,
}

impl Report {
    /// An empty report of a run of so many rounds.
    pub(crate) fn new(rounds: usize, seconds: u64) -> Self {
        let machine = machine();
        let root = run::workspace();
        let commit = run::answer("git", &["-C", &root.to_string_lossy(), "rev-parse", "HEAD"]);
        let head = json!({
            "what": "cache hits",
            "machine": machine,
            "commit": commit,
            "rounds": rounds,
            "seconds": seconds,
            "objects": super::OBJECTS,
            "object_size": super::OBJECT_SIZE,
            "connections": super::CONNECTIONS,
            "target": super::target(0),
        });
        Self {
            head,
            machine,
            rows: Vec::new(),
        }
    }

    /// Adds the rounds of one server, which asked its origin `fetched` times, all of them
    /// before the rounds.
    pub(crate) fn add(&mut self, server: &Server, fetched: u64, rounds: &[Round]) {
        let (cost, pace) = (
            median(rounds.iter().map(Round::cost)),
            median(rounds.iter().map(Round::pace)),
        );
        let raw = rounds.iter().map(|round| {
            json!({
                "requests": round.load.requests,
                "seconds": round.load.time.as_secs_f64(),
                "cpu_seconds": round.cpu.as_secs_f64(),
                "cpu_microseconds_a_request": round.cost(),
                "requests_a_second": round.pace(),
                "p50_microseconds": round.load.p50.as_micros() as u64,
                "p99_microseconds": round.load.p99.as_micros() as u64,
            })
        });
        let raw = json!({
            "server": server.name,
            "version": server.version,
            "cpu_microseconds_a_request": cost,
            "requests_a_second": pace,
            "origin_requests_before": fetched,
            "origin_requests_during": 0,
            "rounds": raw.collect::<Vec<_>>(),
        });
        self.rows.push(Row {
            name: server.name,
            cost,
            pace,
            busy: median(rounds.iter().map(Round::busy)),
            raw,
        });
    }

    /// The table in Markdown: medians, and what a row costs compared with the peers.
    pub(crate) fn table(&self) -> String {
        let peers = ["nginx", "varnish"].map(|name| self.rows.iter().find(|row| row.name == name));
        let ratio = |of: fn(&Row) -> f64, row: &Row, peer: Option<&Row>| match peer {
            Some(peer) => format!("{:.2}", of(row) / of(peer)),
            None => "–".to_owned(),
        };
        let mut text = format!(
            "{}\n{} rounds of {} s, medians; {} objects of {} bytes, {} connections, \
             server on core {}, load on core {}; no request reached an origin\n\n\
             | server | CPU µs/request | requests/s | core busy | CPU ÷ nginx | CPU ÷ Varnish | \
             requests/s ÷ nginx | ÷ Varnish |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|\n",
            self.machine,
            self.head["rounds"],
            self.head["seconds"],
            super::OBJECTS,
            super::OBJECT_SIZE,
            super::CONNECTIONS,
            super::SERVER_CORE,
            super::LOAD_CORE,
        );
        for row in &self.rows {
            text.push_str(&format!(
                "| {} | {:.2} | {:.0} | {:.0} % | {} | {} | {} | {} |\n",
                row.name,
                row.cost,
                row.pace,
                row.busy * 100.0,
                ratio(|row| row.cost, row, peers[0]),
                ratio(|row| row.cost, row, peers[1]),
                ratio(|row| row.pace, row, peers[0]),
                ratio(|row| row.pace, row, peers[1]),
            ));
        }
        text
    }

    /// Writes `<target>/bench/hit.json`.
    pub(crate) fn write(&self) -> Result<PathBuf> {
        let dir = run::target_dir().join("bench");
        std::fs::create_dir_all(&dir)?;
        let path = dir.join("hit.json");
        let mut all = self.head.clone();
        all["servers"] = self.rows.iter().map(|row| row.raw.clone()).collect();
        let text = serde_json::to_string_pretty(&all)?;
        std::fs::write(&path, text + "\n").context("the file of results")?;
        Ok(path)
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown CPU", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = run::answer("uname", &["-sr"]).unwrap_or_default();
    format!("{model}, {cores} cores, {kernel}")
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn median_of_odd_and_even_counts() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }
}
