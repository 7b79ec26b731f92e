//! The format of a case, and reading the table.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::Deserialize;

use super::text::Texts;
use crate::artifact::workspace;

/// The cases of one topic.
#[derive(Debug)]
pub struct Group {
    /// The name of its file, without the ending.
    pub name: String,
    /// What the topic is, as a heading.
    pub title: String,
    /// The cases, one for each member of a case's `each`.
    pub cases: Vec<Case>,
}

/// A file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    /// Each a [`Case`], with one key more: `each`, a list. The case is there once for each
    /// of its members, which stands in place of `{each}`: of the whole value where that is
    /// all there is, so that it may be a number, else as text.
    #[serde(rename = "case")]
    cases: Vec<toml::Table>,
}

/// A rule, and an exchange that would go otherwise if the rule did not hold.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What is tried, unique in its group.
    pub name: String,
    /// Where the rule stands: `9111 §4.2.1`.
    pub rfc: String,
    /// The rule, in one sentence.
    pub rule: String,
    /// How much it binds.
    pub level: Level,
    /// For a choice: why it was made so. Goes into docs/conformance.md.
    pub why: Option<String>,
    /// Known not to hold yet, and why. The case must then fail.
    pub fails: Option<String>,
    /// More keys for the route.
    #[serde(default)]
    pub route: toml::Table,
    /// Keys for the table `[cache]`.
    #[serde(default)]
    pub cache: toml::Table,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// How much a rule binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The RFC demands it, or nothing else is safe.
    Must,
    /// The RFC recommends it, or a cache is of little use without it.
    Should,
    /// The RFC allows both; the case has a `why`.
    Choice,
}

/// A request and what comes of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Seconds to let pass before the request.
    #[serde(default)]
    pub wait: u64,
    /// The method; GET.
    #[serde(default = "get")]
    pub method: String,
    /// What follows the case's own path: `/b`, `?x=1`.
    #[serde(default)]
    pub path: String,
    /// The Host; that of all cases.
    pub host: Option<String>,
    /// Header lines of the request, sent as they are here.
    #[serde(default)]
    pub send: Vec<String>,
    /// The request's content, sent with its Content-Length.
    pub content: Option<String>,

    /// The origin's answer, if it is asked once. Without it the origin must not be asked.
    pub reply: Option<Reply>,
    /// Its answers, in order, if it is asked more than once.
    #[serde(default)]
    pub replies: Vec<Reply>,

    /// Where the answer comes from.
    pub from: Source,
    /// The step, from 1, whose response is the stored one that answers. The last one
    /// before that asked the origin for the same path.
    pub of: Option<usize>,
    /// How often the origin is asked: as many times as there are replies.
    pub asked: Option<usize>,
    /// The origin is asked behind the client's back: wait for that.
    #[serde(default)]
    pub behind: bool,
    /// Ask again until it is as expected: what comes about behind the client's back.
    #[serde(default)]
    pub eventually: bool,

    /// The status: the reply's, or that of the stored response.
    pub status: Option<u16>,
    /// The body: the reply's, or that of the stored response.
    pub text: Option<String>,
    /// `["bytes 0-1/10", "ab"]`: the parts of a multipart/byteranges body.
    #[serde(default)]
    pub parts: Vec<(String, String)>,
    /// Header lines that the client gets. `*` is any value, `3..5` a number between.
    #[serde(default)]
    pub got: Vec<String>,
    /// Names of fields that the client does not get.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// Interim responses that the client gets, all of them.
    #[serde(default)]
    pub interim: Vec<Interim>,
    /// Trailer lines that the client gets, all of them.
    pub trailers: Option<Vec<String>>,
    /// The body ends before its framing says so, or is an error in place of it.
    #[serde(default)]
    pub cut: bool,
    /// Parameters of Cache-Status: `fwd=stale`, `stored`, `!stored`, `ttl=5..9`.
    #[serde(default)]
    pub says: Vec<String>,

    /// The method that the origin is asked with: the client's.
    pub asks: Option<String>,
    /// Header lines that the origin gets, in the last request of the step.
    #[serde(default)]
    pub asks_with: Vec<String>,
    /// Names of fields that it does not get.
    #[serde(default)]
    pub asks_without: Vec<String>,
}

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The origin.
    Origin,
    /// What is stored; the client did not wait for the origin.
    Cache,
    /// What is stored, after the origin said 304 to a conditional request.
    Validated,
    /// What is stored, because the origin failed.
    Fallback,
    /// The node itself: an error.
    Node,
}

/// An answer of the origin. Date and Content-Length are added where they are not given.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// The status; 200.
    #[serde(default = "ok")]
    pub status: u16,
    /// Header lines, sent as they are here, after replacing `{date+60}` and the like.
    #[serde(default)]
    pub head: Vec<String>,
    /// The body; a text that names the step.
    pub body: Option<String>,
    /// Add no Date.
    #[serde(default)]
    pub dateless: bool,
    /// How the body ends.
    #[serde(default)]
    pub framing: Framing,
    /// Trailer lines of a chunked body.
    #[serde(default)]
    pub trailers: Vec<String>,
    /// Interim responses before it.
    #[serde(default)]
    pub interim: Vec<Interim>,
    /// What goes wrong.
    pub fault: Option<Fault>,
    /// Seconds before it is sent.
    #[serde(default)]
    pub delay: u64,
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// Content-Length.
    #[default]
    Length,
    /// A last chunk.
    Chunked,
    /// The end of the connection.
    Close,
}

/// What goes wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The connection ends before the head.
    Close,
    /// The connection ends in the middle of the body.
    Cut,
}

/// A response with a status of 1xx.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interim {
    /// The status.
    pub status: u16,
    /// Header lines.
    #[serde(default)]
    pub head: Vec<String>,
    /// Names of fields that the client does not get with it.
    #[serde(default)]
    pub lacks: Vec<String>,
}

fn get() -> String {
    "GET".to_owned()
}

fn ok() -> u16 {
    200
}

impl Step {
    /// The origin's answers, however they were written.
    pub fn replies(&self) -> impl Iterator<Item = &Reply> {
        self.reply.iter().chain(&self.replies)
    }
}

/// Where the table lies.
pub fn directory() -> PathBuf {
    workspace().join("tests/cases/http")
}

/// Reads the whole table, in the order of the files' names. Panics when a file is no
/// table, and lists all cases that make no sense.
pub fn load() -> Vec<Group> {
    let mut files: Vec<_> = std::fs::read_dir(directory())
        .expect("the table of cases")
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    files.sort();
    let (mut groups, mut problems) = (Vec::new(), Vec::new());
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a file of cases");
        let file: File =
            toml::from_str(&text).unwrap_or_else(|error| panic!("{}:\n{error}", path.display()));
        let stem = path.file_stem().unwrap_or_default();
        let mut group = Group {
            name: stem.to_string_lossy().into_owned(),
            title: file.title,
            cases: Vec::new(),
        };
        for written in file.cases.into_iter().flat_map(repeated) {
            let name = written.get("name").cloned();
            match written.try_into() {
                Ok(case) => group.cases.push(case),
                Err(error) => problems.push(format!("{}: {name:?}: {error}", group.name)),
            }
        }
        problems.extend(group.problems());
        groups.push(group);
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
    groups
}

/// A case once for each member of its `each`.
fn repeated(mut written: toml::Table) -> Vec<toml::Table> {
    let Some(toml::Value::Array(each)) = written.remove("each") else {
        return vec![written];
    };
    let filled = |member| {
        let entries = written.iter();
        let entries = entries.map(|(key, value)| (key.clone(), fill(value, member)));
        entries.collect()
    };
    each.iter().map(filled).collect()
}

/// The value with `member` in place of `{each}`.
fn fill(value: &toml::Value, member: &toml::Value) -> toml::Value {
    match value {
        toml::Value::String(text) if text == "{each}" => member.clone(),
        toml::Value::String(text) => {
            let plain = member.as_str().map(str::to_owned);
            let plain = plain.unwrap_or_else(|| member.to_string());
            toml::Value::String(text.replace("{each}", &plain))
        }
        toml::Value::Array(values) => {
            toml::Value::Array(values.iter().map(|value| fill(value, member)).collect())
        }
        toml::Value::Table(table) => {
            let entries = table.iter();
            let entries = entries.map(|(key, value)| (key.clone(), fill(value, member)));
            toml::Value::Table(entries.collect())
        }
        other => other.clone(),
    }
}

impl Group {
    fn problems(&self) -> Vec<String> {
        let mut names = HashSet::new();
        let mut problems = Vec::new();
        for case in &self.cases {
            let mut found = case.problems();
            if !names.insert(case.name.as_str()) {
                found.push("the name is taken".to_owned());
            }
            problems.extend(
                found
                    .into_iter()
                    .map(|problem| format!("{}: {}: {problem}", self.name, case.name)),
            );
        }
        problems
    }
}

impl Case {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut no = |wrong: bool, what: &str| {
            if wrong {
                problems.push(what.to_owned());
            }
        };
        no(
            (self.level == Level::Choice) != self.why.is_some(),
            "a choice, and nothing else, has a `why`",
        );
        no(!self.rfc.contains('§'), "`rfc` names no section");
        for text in std::iter::once(&self.rule).chain(&self.why) {
            no(!text.ends_with('.'), "`rule` and `why` are sentences");
        }
        no(self.steps.is_empty(), "there is no step");
        for (number, step) in self.steps.iter().enumerate() {
            let wrong = step.problem(number, &self.steps);
            no(
                wrong.is_some(),
                &format!("step {}: {}", number + 1, wrong.unwrap_or_default()),
            );
        }
        problems
    }
}

impl Step {
    fn problem(&self, number: usize, steps: &[Self]) -> Option<String> {
        if self.reply.is_some() && !self.replies.is_empty() {
            return Some("`reply` or `replies`, not both".to_owned());
        }
        let last = self.replies().last();
        let needs_reply = match self.from {
            Source::Origin | Source::Fallback => true,
            Source::Validated => {
                if last.is_none_or(|reply| reply.status != 304) {
                    return Some("validated, but the origin says no 304".to_owned());
                }
                true
            }
            Source::Cache => self.behind,
            Source::Node => last.is_some(),
        };
        if needs_reply != last.is_some() {
            return Some("`reply` does not fit `from`".to_owned());
        }
        let stored = matches!(
            self.from,
            Source::Cache | Source::Validated | Source::Fallback
        );
        if stored && self.source(number, steps).is_none() {
            return Some("there is no stored response it could be; see `of`".to_owned());
        }
        let texts = Texts::sample();
        let replies = self.replies();
        let lines = replies.flat_map(|reply| {
            let interim = reply.interim.iter().flat_map(|interim| &interim.head);
            reply.head.iter().chain(&reply.trailers).chain(interim)
        });
        let lines = lines
            .chain(&self.send)
            .chain(&self.got)
            .chain(&self.asks_with);
        lines
            .map(|line| match texts.expand(line) {
                Ok(line) if line.contains(':') => None,
                Ok(line) => Some(format!("{line:?} is no header line")),
                Err(error) => Some(error),
            })
            .find_map(|problem| problem)
    }

    /// The step whose response is the stored one that answers this one, from 0.
    pub fn source(&self, number: usize, steps: &[Self]) -> Option<usize> {
        if let Some(of) = self.of {
            return (1..=number).contains(&of).then(|| of - 1);
        }
        steps[..number].iter().rposition(|step| {
            step.path == self.path
                && step.host == self.host
                && step.replies().any(|reply| {
                    reply.status != 304 && reply.fault.is_none() && step.method != "HEAD"
                })
        })
    }
}
