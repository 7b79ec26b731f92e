//! Reading the table, and finding the cases in it that make no sense.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::Deserialize;

use super::table::{Case, Group, Level, Source, Step};
use super::text::Texts;
use crate::artifact::workspace;

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
            self.level == Level::Choice && self.why.is_none(),
            "a choice has a `why`",
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
}
