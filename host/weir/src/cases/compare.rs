//! What a case expects beside what came.

use std::time::Duration;

use http::HeaderMap;
use weir_policy::{CallError, CallErrorKind};
use weir_proxy::Explanation;
use weir_store::Key;
use weir_store::log::Selector;

use super::format::{Ask, Case, Expected, Kind};
use super::report::Fault;
use super::run::Seen;

/// What did not come as the case expects it.
pub(super) fn faults(case: &Case, seen: &Seen) -> Vec<Fault> {
    // A trap, a limit: nothing that anybody expects.
    if let Some(error) = seen
        .error()
        .filter(|error| error.kind != CallErrorKind::Refused)
    {
        let hint = match error.kind {
            CallErrorKind::Namespace => "; for a test, `namespaces` of the cases' file sets them",
            _ => "",
        };
        return vec![Fault::failed(
            error.hook.name(),
            &format!("{}{hint}", error.message),
        )];
    }
    let mut found = Found(Vec::new());
    match seen {
        Seen::Request(explanation) => found.of_request(case, explanation),
        Seen::Event(selected) => found.of_event(&case.expected, selected),
    }
    found.0
}

struct Found(Vec<Fault>);

impl Found {
    fn compare(&mut self, what: &str, expected: Option<&str>, came: &str) {
        if let Some(expected) = expected
            && expected != came
        {
            self.0.push(Fault::new(what, expected, came));
        }
    }

    fn sets(&mut self, what: &str, expected: Option<Vec<&str>>, came: Vec<&str>) {
        let sorted = |mut list: Vec<&str>| {
            list.sort_unstable();
            list.dedup();
            list.join(", ")
        };
        let expected = expected.map(sorted);
        let (wanted, came) = (expected.as_deref().map(or_none), sorted(came));
        self.compare(what, wanted, or_none(&came));
    }

    fn of_request(&mut self, case: &Case, explanation: &Explanation) {
        let expected = &case.expected;
        let decision = decision(explanation);
        if let Some(wanted) = expected.decision
            && word(wanted) != decision.0
        {
            self.0
                .push(Fault::new("decision", word(wanted), &decision.1));
        }
        self.reason(expected, explanation);
        let instead = format!("none: {}", decision.1);
        let key = expected.key.as_deref();
        self.compare(
            "key",
            key,
            &shown_key(key, explanation).unwrap_or(instead.clone()),
        );
        let origin = explanation.key.is_some().then(|| origin(case, explanation));
        self.compare(
            "origin",
            expected.origin.as_deref(),
            &origin.unwrap_or(instead.clone()),
        );
        let response = explanation.response.as_ref();
        let stored = response.filter(|outcome| outcome.stored);
        let tags = stored.map_or(&explanation.tags, |outcome| &outcome.tags);
        self.sets("tags", expected.tags.as_deref().map(texts), texts(tags));
        let reply = explanation.reply.as_ref();
        let status = reply.map_or(instead.clone(), |reply| reply.status.as_u16().to_string());
        let wanted = expected.status.map(|status| status.0.as_u16().to_string());
        self.compare("status", wanted.as_deref(), &status);
        let body = reply.map(|reply| String::from_utf8_lossy(&reply.body).into_owned());
        self.compare("body", expected.body.as_deref(), &body.unwrap_or(instead));
        if let Some(fields) = &expected.headers {
            let none = HeaderMap::new();
            let came = reply.map_or(&none, |reply| &reply.headers);
            for name in fields.0.keys() {
                let values = |fields: &HeaderMap| {
                    let values = fields.get_all(name).into_iter();
                    let values: Vec<_> = values
                        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                        .collect();
                    or_none(&values.join(", ")).to_owned()
                };
                self.compare(
                    &format!("headers.{name}"),
                    Some(&values(&fields.0)),
                    &values(came),
                );
            }
        }
        self.of_response(expected, explanation);
    }

    fn of_response(&mut self, expected: &Expected, explanation: &Explanation) {
        let Some(outcome) = &explanation.response else {
            // Nothing was sent to an origin, so nothing came back.
            let instead = format!("no response: {}", decision(explanation).1);
            let wanted = [
                (
                    "stored",
                    expected.stored.filter(|stored| *stored).map(stores),
                ),
                ("lifetime", expected.lifetime.map(|_| "one")),
                (
                    "stale_while_revalidate",
                    expected.stale_while_revalidate.map(|_| "one"),
                ),
                ("stale_if_error", expected.stale_if_error.map(|_| "one")),
            ];
            for (what, wanted) in wanted {
                self.compare(what, wanted, &instead);
            }
            let invalidates = expected.invalidates.as_deref();
            let invalidates = invalidates.map(|list| list.iter().map(|one| one.0.as_str()));
            self.sets(
                "invalidates",
                invalidates.map(Iterator::collect),
                Vec::new(),
            );
            return;
        };
        let not = outcome.refusal.as_deref().unwrap_or_default();
        let not = || format!("not stored: {not}");
        if expected
            .stored
            .is_some_and(|stored| stored != outcome.stored)
        {
            let lifetime = span(Duration::from_millis(outcome.lifetime_ms));
            let came = match outcome.stored {
                true => format!("stored, fresh for {lifetime}"),
                false => not(),
            };
            let wanted = expected.stored.map(stores);
            self.compare("stored", wanted, &came);
        } else if let Some(error) = outcome.error.as_ref().filter(|_| expected.stored.is_none()) {
            // It returned an error, which nobody who expects one leaves unsaid.
            self.0
                .push(Fault::failed(error.hook.name(), &error.message));
        }
        let lifetimes = [
            ("lifetime", expected.lifetime, outcome.lifetime_ms),
            (
                "stale_while_revalidate",
                expected.stale_while_revalidate,
                outcome.stale_while_revalidate_ms,
            ),
            (
                "stale_if_error",
                expected.stale_if_error,
                outcome.stale_if_error_ms,
            ),
        ];
        for (what, wanted, came) in lifetimes {
            let came = match outcome.stored {
                true => span(Duration::from_millis(came)),
                false => not(),
            };
            self.compare(what, wanted.map(|wanted| span(wanted.0)).as_deref(), &came);
        }
        let wanted = expected.invalidates.as_deref();
        let wanted = wanted.map(|list| list.iter().map(|one| one.0.as_str()).collect());
        self.sets("invalidates", wanted, texts(&outcome.invalidates));
    }

    /// Why it was passed or refused, or why the response is not stored.
    fn reason(&mut self, expected: &Expected, explanation: &Explanation) {
        let Some(wanted) = expected.reason.as_deref() else {
            return;
        };
        let outcome = explanation.response.as_ref();
        let of_response = outcome.and_then(|outcome| match &outcome.error {
            Some(error) => Some(error.message.as_str()),
            None => outcome.refusal.as_deref(),
        });
        let came = match &explanation.error {
            Some(error) => Some(error.message.as_str()),
            None => explanation.reason.as_deref().or(of_response),
        };
        self.compare("reason", Some(wanted), came.unwrap_or("none"));
    }

    fn of_event(&mut self, expected: &Expected, selected: &Result<Vec<Selector>, CallError>) {
        let refused = expected.decision == Some(Kind::Refused);
        let selectors = match selected {
            Ok(selectors) => selectors,
            Err(error) => {
                if !refused {
                    self.0
                        .push(Fault::failed(error.hook.name(), &error.message));
                }
                self.compare("reason", expected.reason.as_deref(), &error.message);
                return;
            }
        };
        if refused {
            self.0
                .push(Fault::new("decision", word(Kind::Refused), "taken"));
        }
        self.compare("reason", expected.reason.as_deref(), "none");
        let came: Vec<String> = selectors.iter().map(ToString::to_string).collect();
        let wanted = expected.invalidates.as_deref();
        let wanted = wanted.map(|list| list.iter().map(|one| one.0.as_str()).collect());
        self.sets("invalidates", wanted, texts(&came));
    }
}

fn texts(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

fn or_none(text: &str) -> &str {
    match text {
        "" => "none",
        text => text,
    }
}

fn stores(stored: bool) -> &'static str {
    match stored {
        true => "stored",
        false => "not stored",
    }
}

fn span(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Lookup => "lookup",
        Kind::Pass => "pass",
        Kind::Respond => "respond",
        Kind::Refused => "refused",
    }
}

/// The decision's word, and the same with why.
fn decision(explanation: &Explanation) -> (&'static str, String) {
    let (word, why) = match &explanation.error {
        Some(error) => (word(Kind::Refused), Some(error.message.clone())),
        None => {
            let status = explanation.status.map(|status| status.to_string());
            (explanation.decision, explanation.reason.clone().or(status))
        }
    };
    let all = why.map_or_else(|| word.to_owned(), |why| format!("{word}: {why}"));
    (word, all)
}

/// With its origin only where the case names one.
fn shown_key(expected: Option<&str>, explanation: &Explanation) -> Option<String> {
    let key = explanation.key.as_deref()?;
    let whole = expected.is_some_and(|expected| expected.contains('|'));
    let parsed = Key::parse(key).ok().filter(|_| !whole);
    Some(parsed.map_or_else(|| key.to_owned(), |key| key.name().to_owned()))
}

/// What the origin is asked for.
fn origin(case: &Case, explanation: &Explanation) -> String {
    let own = match &case.ask {
        Ask::Request(request) => request.url.path_and_query(),
        Ask::Event { .. } => None,
    };
    let own = own.map(ToString::to_string);
    explanation.origin.clone().or(own).unwrap_or_default()
}
