//! Runs the table: all cases at once, a node for each configuration, one origin.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::check::{Done, own_body, problems};
use super::origin::{Ask, Origin, Scripted};
use super::table::{Case, Group, Step};
use super::text::Texts;
use super::wire::{Response, exchange};
use crate::poll::PATIENCE;
use crate::weir::{Config, Weir};

/// Cases under way at once. Most wait, some of them for seconds.
const AT_ONCE: usize = 32;
/// The Host of requests that name no other.
const HOST: &str = "cases.example";

/// What came of the cases.
#[derive(Debug, Default)]
pub struct Report {
    /// By group: how many cases hold, how many are known not to, and how many there are.
    pub groups: BTreeMap<String, (usize, usize, usize)>,
    /// Cases that do not hold, and such as hold against expectation, each explained.
    pub failures: Vec<String>,
}

impl Report {
    /// A line for each group.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (name, (held, known, all)) in &self.groups {
            // Writing to a String cannot fail.
            let _ = write!(text, "{name} {held}/{all}");
            if *known > 0 {
                let _ = write!(text, " ({known} known not to hold yet)");
            }
            text.push('\n');
        }
        text
    }
}

/// Runs all cases whose `GROUP: NAME` contains `filter`.
pub async fn run(groups: Vec<Group>, filter: &str) -> Report {
    let origin = Arc::new(Origin::start().await);
    let mut nodes: BTreeMap<String, Arc<Weir>> = BTreeMap::new();
    let mut running = JoinSet::new();
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    for group in groups {
        for (number, case) in group.cases.into_iter().enumerate() {
            let label = format!("{}: {}", group.name, case.name);
            if !label.contains(filter) {
                continue;
            }
            let config = configuration(&case);
            let node = match nodes.get(&config) {
                Some(node) => Arc::clone(node),
                None => {
                    let node = start(&origin, &config).await;
                    nodes.entry(config).or_insert(node).clone()
                }
            };
            let name = group.name.clone();
            let running_case = Running {
                origin: Arc::clone(&origin),
                node,
                base: format!("/{name}/{number}"),
                case,
            };
            let at_once = Arc::clone(&at_once);
            running.spawn(async move {
                let _turn = at_once.acquire_owned().await;
                let failure = running_case.run().await;
                (name, label, running_case.case, failure)
            });
        }
    }
    let mut report = Report::default();
    while let Some(ended) = running.join_next().await {
        let (group, label, case, failure) = ended.expect("a case panicked");
        let (held, known, all) = report.groups.entry(group).or_default();
        *all += 1;
        match (failure, &case.fails) {
            (None, None) => *held += 1,
            (Some(_), Some(_)) => *known += 1,
            (Some(failure), None) => report.failures.push(explained(&label, &case, &failure)),
            (None, Some(why)) => report.failures.push(format!(
                "{label}\n  holds, but is marked as failing: {why}\n  take the mark away\n"
            )),
        }
    }
    report.failures.sort();
    report
}

fn explained(label: &str, case: &Case, failure: &str) -> String {
    format!(
        "{label}\n  RFC {} ({:?}): {}\n{failure}",
        case.rfc, case.level, case.rule
    )
}

fn configuration(case: &Case) -> String {
    let mut text = String::new();
    if !case.cache.is_empty() {
        let _ = write!(text, "[cache]\n{}", case.cache);
    }
    let _ = write!(
        text,
        "[upstreams.origin]\nservers = [\"{{origin}}\"]\n\
         [[routes]]\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n{}",
        case.route
    );
    text
}

async fn start(origin: &Origin, tables: &str) -> Arc<Weir> {
    let config = Config::new(tables).set("origin", origin.url());
    Arc::new(config.start().await)
}

struct Running {
    origin: Arc<Origin>,
    node: Arc<Weir>,
    base: String,
    case: Case,
}

impl Running {
    /// Says what went wrong in the first step that did, or nothing.
    async fn run(&self) -> Option<String> {
        let texts = Texts::new(&self.base, HOST);
        let mut asked = 0;
        for number in 0..self.case.steps.len() {
            let step = &self.case.steps[number];
            tokio::time::sleep(Duration::from_secs(step.wait)).await;
            let answers = step.replies().map(|reply| {
                let mut reply = reply.clone();
                let interim = reply.interim.iter_mut().map(|interim| &mut interim.head);
                let lines = [&mut reply.head, &mut reply.trailers];
                for line in interim.chain(lines).flatten() {
                    *line = texts.expand(line).unwrap_or_default();
                }
                let body = reply.body.clone();
                let body = body.unwrap_or_else(|| own_body(&self.case, number));
                Scripted { reply, body }
            });
            self.origin.script(&self.base, answers);
            let failure = self.step(&texts, number, asked).await.err();
            if failure.is_some() {
                return failure;
            }
            asked = self.origin.asks(&self.base).0.len();
        }
        None
    }

    async fn step(&self, texts: &Texts, number: usize, asked: usize) -> Result<(), String> {
        let step = &self.case.steps[number];
        let what = |problem: &str| {
            format!(
                "  step {}, {} {}{}:\n    {problem}\n",
                number + 1,
                step.method,
                self.base,
                step.path
            )
        };
        let request = request(step, &self.base, texts);
        let port = self.node.port();
        let begun = tokio::time::Instant::now();
        loop {
            let response = match exchange(port, &step.method, &request).await {
                Err(_) if step.cut => Response::default(),
                other => other.map_err(|error| what(&error))?,
            };
            if step.behind {
                self.asked_behind(asked + step.replies().count()).await;
            }
            let (asks, _) = self.origin.asks(&self.base);
            let done = Done {
                case: &self.case,
                number,
                texts,
                response: &response,
                asks: &asks[asked.min(asks.len())..],
            };
            let problems = problems(&done);
            if problems.is_empty() {
                return Ok(());
            }
            if !step.eventually || begun.elapsed() > PATIENCE {
                let problems = problems.join("\n    ");
                return Err(what(&format!(
                    "{problems}\n{}",
                    exchanged(&response, done.asks)
                )));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the origin has answered so many requests. If it never does, the count
    /// of requests says so afterwards.
    async fn asked_behind(&self, expected: usize) {
        let begun = tokio::time::Instant::now();
        while self.origin.asks(&self.base).1 < expected && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn request(step: &Step, base: &str, texts: &Texts) -> String {
    let host = step.host.as_deref().unwrap_or(HOST);
    let mut text = format!(
        "{} {base}{} HTTP/1.1\r\nHost: {host}\r\n",
        step.method, step.path
    );
    for line in &step.send {
        let line = texts.expand(line).unwrap_or_default();
        let _ = write!(text, "{line}\r\n");
    }
    match &step.content {
        Some(content) => {
            let _ = write!(text, "Content-Length: {}\r\n\r\n{content}", content.len());
        }
        None => text.push_str("\r\n"),
    }
    text
}

/// What went over both wires, for whoever must find the reason.
fn exchanged(response: &Response, asks: &[Ask]) -> String {
    let mut text = String::new();
    for ask in asks {
        let _ = writeln!(text, "    origin got: {}", ask.head.start);
        lines(&mut text, &ask.head.fields);
    }
    let _ = writeln!(text, "    client got: {}", response.head.start);
    lines(&mut text, &response.head.fields);
    text
}

fn lines(text: &mut String, fields: &[(String, String)]) {
    for (name, value) in fields {
        let _ = writeln!(text, "      {name}: {value}");
    }
}
