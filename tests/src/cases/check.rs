//! What a step expects, held against what came of it.

use super::origin::Ask;
use super::table::{Case, Source, Step};
use super::text::Texts;
use super::wire::{Head, Response};
use crate::answer::parameters;

/// A step and what came of it.
#[derive(Debug)]
pub struct Done<'a> {
    /// The case.
    pub case: &'a Case,
    /// The step's place in it, from 0.
    pub number: usize,
    /// What its lines are completed with.
    pub texts: &'a Texts,
    /// What the client got.
    pub response: &'a Response,
    /// What the origin was asked in this step.
    pub asks: &'a [Ask],
}

/// The body of an answer that says none: it names the step.
pub fn own_body(case: &Case, number: usize) -> String {
    format!("{}, step {}\n", case.name, number + 1)
}

/// Everything that is not as expected, in words; empty when all is well.
pub fn problems(done: &Done<'_>) -> Vec<String> {
    let step = done.step();
    let mut problems = Vec::new();
    problems.extend(done.source());
    if done.ended_before_head() {
        return problems;
    }
    problems.extend(done.status());
    problems.extend(done.body());
    problems.extend(done.cache_status());
    let head = &done.response.head;
    problems.extend(done.fields("the client got", head, &step.got, &step.lacks));
    problems.extend(done.always());
    problems.extend(done.interim());
    if let Some(expected) = &step.trailers {
        let got = &done.response.content.trailers;
        let got: Vec<_> = got
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        if got != *expected {
            problems.push(format!("trailers: expected {expected:?}, got {got:?}"));
        }
    }
    problems.extend(done.question());
    problems
}

impl Done<'_> {
    fn step(&self) -> &Step {
        &self.case.steps[self.number]
    }

    /// The status and the body of the response that should answer.
    fn answering(&self) -> Option<(u16, String)> {
        let (step, number) = match self.step().from {
            Source::Node => return None,
            Source::Origin => (self.step(), self.number),
            Source::Cache | Source::Validated | Source::Fallback => {
                let number = self.step().source(self.number, &self.case.steps)?;
                (&self.case.steps[number], number)
            }
        };
        let reply = step.replies().last()?;
        let body = reply.body.clone();
        let body = body.unwrap_or_else(|| own_body(self.case, number));
        Some((reply.status, body))
    }

    fn source(&self) -> Vec<String> {
        let step = self.step();
        let expected = step.asked.unwrap_or_else(|| step.replies().count());
        let mut problems = Vec::new();
        if self.asks.len() != expected {
            problems.push(format!(
                "expected {} to the origin, there were {}",
                requests(expected),
                self.asks.len()
            ));
        }
        let conditional = self.asks.last().is_some_and(|ask| {
            ["if-none-match", "if-modified-since"]
                .iter()
                .any(|name| ask.head.value(name).is_some())
        });
        if step.from == Source::Validated && !conditional {
            problems.push("expected a conditional request to the origin".to_owned());
        }
        problems
    }

    fn status(&self) -> Option<String> {
        let answering = || self.answering().map(|(status, _)| status);
        let expected = self.step().status.or_else(answering)?;
        let got = self.response.status;
        (got != expected).then(|| format!("expected status {expected}, got {got}"))
    }

    fn body(&self) -> Option<String> {
        let step = self.step();
        let content = &self.response.content;
        if content.whole == step.cut {
            return Some(match step.cut {
                true => "expected a body that breaks off, it ended in order".to_owned(),
                false => format!("the body breaks off after {:?}", content.body),
            });
        }
        if !step.parts.is_empty() {
            return self.parts();
        }
        let bodyless = step.method == "HEAD" || matches!(self.response.status, 204 | 304);
        let expected = match &step.text {
            Some(text) => text.clone(),
            None if bodyless => String::new(),
            None if step.cut => return None,
            None => self.answering()?.1,
        };
        let got = &content.body;
        (*got != expected).then(|| format!("expected the body {expected:?}, got {got:?}"))
    }

    /// A body that breaks off so early that the client has not got the head yet may end as
    /// an error instead, or with the connection.
    fn ended_before_head(&self) -> bool {
        let refused = self.response.status == 502 && self.response.content.whole;
        self.step().cut && (refused || self.response.status == 0)
    }

    /// RFC 9110 section 14.6.
    fn parts(&self) -> Option<String> {
        let expected = &self.step().parts;
        let kind = self.response.head.value("content-type").unwrap_or_default();
        let boundary = kind
            .strip_prefix("multipart/byteranges")
            .and_then(|rest| rest.split_once("boundary="))
            .map(|(_, boundary)| boundary.trim_matches('"'));
        let Some(boundary) = boundary else {
            return Some(format!("expected multipart/byteranges, got {kind:?}"));
        };
        let body = format!("\r\n{}", self.response.content.body);
        let delimiter = format!("\r\n--{boundary}");
        let mut pieces = body.split(delimiter.as_str()).skip(1);
        let mut got = Vec::new();
        for piece in pieces.by_ref().take_while(|piece| !piece.starts_with("--")) {
            let (head, content) = piece.split_once("\r\n\r\n")?;
            let range = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let is_range = name.eq_ignore_ascii_case("content-range");
                is_range.then(|| value.trim().to_owned())
            });
            got.push((range.unwrap_or_default(), content.to_owned()));
        }
        (got != *expected).then(|| format!("expected the parts {expected:?}, got {got:?}"))
    }

    /// Cache-Status tells the truth in every step: that it is a hit exactly when the
    /// client did not wait for the origin, and else why not.
    fn cache_status(&self) -> Vec<String> {
        let step = self.step();
        let line = self.response.head.value("cache-status").unwrap_or_default();
        let Some(parameters) = parameters(&line) else {
            return vec![format!("no Cache-Status of weir's, but {line:?}")];
        };
        let value = |name: &str| {
            let found = parameters.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str())
        };
        let mut expected: Vec<&str> = step.says.iter().map(String::as_str).collect();
        match step.from {
            Source::Cache => expected.extend(["hit", "!fwd"]),
            Source::Origin | Source::Validated | Source::Fallback => {
                expected.extend(["!hit", "fwd=*"]);
            }
            Source::Node => expected.push("!hit"),
        }
        let holds = |wanted: &str| match wanted.strip_prefix('!') {
            Some(name) => value(name).is_none(),
            None => match wanted.split_once('=') {
                Some((name, pattern)) => value(name).is_some_and(|got| fits(pattern, got)),
                None => value(wanted) == Some("?1"),
            },
        };
        expected
            .into_iter()
            .filter(|wanted| !holds(wanted))
            .map(|wanted| format!("expected {wanted:?} in Cache-Status, got {line:?}"))
            .collect()
    }

    fn fields(&self, who: &str, head: &Head, with: &[String], without: &[String]) -> Vec<String> {
        let mut problems = Vec::new();
        for line in with {
            let line = self.texts.expand(line).unwrap_or_default();
            let (name, pattern) = line.split_once(':').unwrap_or((&line, "*"));
            let got = head.value(name);
            if !got.as_deref().is_some_and(|got| fits(pattern.trim(), got)) {
                problems.push(format!("expected {line:?}, {who} {got:?}"));
            }
        }
        for name in without {
            if let Some(got) = head.value(name) {
                problems.push(format!("expected no {name}, {who} {got:?}"));
            }
        }
        problems
    }

    /// What holds of every response.
    fn always(&self) -> Vec<String> {
        let head = &self.response.head;
        let mut problems = Vec::new();
        let from_cache = matches!(self.step().from, Source::Cache | Source::Fallback);
        if from_cache && head.value("age").is_none() {
            problems.push("no Age in a stored response (RFC 9111 §4)".to_owned());
        }
        let once: &[&str] = match self.step().from {
            Source::Origin => &["content-length"],
            _ => &["content-length", "date", "age"],
        };
        for name in once {
            let lines = head.fields.iter();
            let lines = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
            if lines.count() > 1 {
                problems.push(format!("more than one {name}"));
            }
        }
        if head.value("content-length").is_some() && head.value("transfer-encoding").is_some() {
            problems.push("both Content-Length and Transfer-Encoding".to_owned());
        }
        problems
    }

    fn interim(&self) -> Vec<String> {
        let (expected, got) = (&self.step().interim, &self.response.interim);
        let statuses: Vec<u16> = got.iter().map(|(status, _)| *status).collect();
        let wanted: Vec<u16> = expected.iter().map(|interim| interim.status).collect();
        if statuses != wanted {
            return vec![format!(
                "expected the interim responses {wanted:?}, got {statuses:?}"
            )];
        }
        let pairs = expected.iter().zip(got);
        pairs
            .flat_map(|(wanted, (_, head))| {
                self.fields(
                    "the interim response has",
                    head,
                    &wanted.head,
                    &wanted.lacks,
                )
            })
            .collect()
    }

    /// What the origin was asked.
    fn question(&self) -> Vec<String> {
        let step = self.step();
        let Some(ask) = self.asks.last() else {
            return Vec::new();
        };
        let mut problems = self.fields(
            "the origin got",
            &ask.head,
            &step.asks_with,
            &step.asks_without,
        );
        let method = step.asks.as_ref().unwrap_or(&step.method);
        if ask.method != *method {
            problems.push(format!(
                "expected the origin to get {method}, it got {}",
                ask.method
            ));
        }
        let content = step.content.clone().unwrap_or_default();
        if ask.content.body != content {
            problems.push(format!("the origin got the content {:?}", ask.content.body));
        }
        problems
    }
}

fn requests(count: usize) -> String {
    match count {
        0 => "no request".to_owned(),
        1 => "one request".to_owned(),
        _ => format!("{count} requests"),
    }
}

/// `*` fits everything, `3..5` the whole numbers from 3 to 5, anything else itself.
fn fits(pattern: &str, value: &str) -> bool {
    if let Some((low, high)) = pattern.split_once("..")
        && let (Ok(low), Ok(high)) = (low.parse::<i64>(), high.parse::<i64>())
    {
        return value
            .parse::<i64>()
            .is_ok_and(|value| (low..=high).contains(&value));
    }
    pattern == "*" || pattern == value
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_pattern_is_a_star_a_span_or_the_value() {
        assert!(fits("*", "") && fits("a..b", "a..b") && fits("-3..5", "-3") && fits("3..5", "5"));
        assert!(!fits("3..5", "6") && !fits("3..5", "x") && !fits("a", "A"));
    }
}
