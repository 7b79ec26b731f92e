//! What a response may depend on although its key does not say so, as far as the host can
//! see it: looked for when a response is stored on a route that is not sealed.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::header::{ACCEPT_LANGUAGE, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use memchr::memmem;
use parking_lot::Mutex;
use weir_policy::{Globs, Input, Lookup, Part, ReadInput, RequestHead, Values, percent_decode};
use weir_semantics::VaryRule;
use weir_store::fill::Head;

use super::call::Call;
use super::plan::Plan;
use super::{keys, origin, seal};
use crate::generation::Route;
use crate::node::Node;

/// Values shorter than this stand in many fields by chance.
const LEAST_REFLECTED: usize = 6;

/// The most texts that are kept of one route and policy, and the most of those.
const MOST_TEXTS: usize = 64;
const MOST_ROUTES: usize = 1_024;

const SEC_CH_UA_MOBILE: HeaderName = HeaderName::from_static("sec-ch-ua-mobile");

/// How the host saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// The policy makes the origin's request of it.
    Change,
    /// The policy read it, and the origin got it.
    Read,
    /// A field of the response repeats it.
    Reflected,
}

impl Check {
    fn as_str(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Read => "read",
            Self::Reflected => "reflected",
        }
    }
}

/// A part of a request that the origin got and the key does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Header(HeaderName),
    Cookie(Box<str>),
    Query(Box<str>),
    Path,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "the header {name}"),
            Self::Cookie(name) => write!(f, "the cookie {name}"),
            Self::Query(name) => write!(f, "the query parameter {name}"),
            Self::Path => f.write_str("the path"),
        }
    }
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    check: Check,
    source: Source,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = &self.source;
        let what = match self.check {
            Check::Change => format!("the policy makes the origin's request of {source}"),
            Check::Read => format!("the policy reads {source}, and the origin gets it too"),
            Check::Reflected => format!("a field of the response repeats {source}"),
        };
        let remedy = match self.source {
            Source::Header(_) => {
                "name it in the key, remove it with origin_without_header, or have the origin name it in Vary"
            }
            Source::Cookie(_) => "name it in the key, or have the origin name Cookie in Vary",
            Source::Query(_) | Source::Path => "name it in the key",
        };
        write!(
            f,
            "{what}, but neither key nor Vary names it: {remedy}; or seal the route"
        )
    }
}

/// What has been seen on live traffic.
#[derive(Debug, Default)]
pub(crate) struct Unkeyed(Mutex<HashMap<Place, Vec<String>>>);

/// A route, and the policy that decided there.
type Place = (Arc<str>, Option<Arc<str>>);

impl Unkeyed {
    /// Keeps a text; answers whether it is new.
    fn keep(&self, place: Place, text: &str) -> bool {
        let mut seen = self.0.lock();
        if seen.len() >= MOST_ROUTES && !seen.contains_key(&place) {
            seen.clear();
        }
        let texts = seen.entry(place).or_default();
        if texts.len() >= MOST_TEXTS || texts.iter().any(|known| known == text) {
            return false;
        }
        texts.push(text.to_owned());
        true
    }

    fn of(&self, place: &Place) -> Vec<String> {
        self.0.lock().get(place).cloned().unwrap_or_default()
    }
}

fn place(route: &Route, plan: &Plan) -> Place {
    let label = plan.decider.as_ref().map(|decider| decider.label());
    (Arc::clone(&route.label), label.cloned())
}

/// Looks at a response that is to be stored. What it finds is counted, and told once.
pub(super) fn watch(call: &Call, plan: &Plan, sent: &HeaderMap, head: &Head) {
    if plan.sealed.is_some() {
        return;
    }
    let decider = plan.decider.as_ref();
    let reads = decider.map(|decider| decider.inputs_of(&call.head));
    let reads = reads.unwrap_or_default();
    let exchange = Exchange {
        route: &call.route,
        head: &call.head,
        plan,
        sent,
        vary: head.vary.names().cloned().collect(),
    };
    let response = text_of(head.headers.iter().map(|line| line.value));
    for finding in exchange.findings(&reads, &response) {
        let check = finding.check.as_str();
        call.node.metrics().unkeyed(&call.route.label, check);
        let text = finding.to_string();
        if call.node.unkeyed.keep(place(&call.route, plan), &text) {
            tracing::warn!(route = %call.route.label, url = %plan.url, check, "what is stored may vary with what no key says: {text}");
        }
    }
}

/// The same for a request that nobody sent, and what live traffic on the route has shown.
pub(super) fn explained(
    node: &Node,
    route: &Route,
    head: &RequestHead,
    plan: &Plan,
    reads: &[ReadInput],
    response: Option<&HeaderMap>,
) -> Vec<String> {
    if plan.sealed.is_some() {
        return Vec::new();
    }
    let sent = origin::fetch(route, head, plan, None).headers;
    let exchange = Exchange {
        route,
        head,
        plan,
        sent: &sent,
        vary: response.map(names_in_vary).unwrap_or_default(),
    };
    let mut texts: Vec<String> = Vec::new();
    let values = response.into_iter().flat_map(HeaderMap::values);
    let response = text_of(values.map(HeaderValue::as_bytes));
    let findings = exchange.findings(reads, &response);
    let here = findings.iter().map(ToString::to_string);
    for text in here.chain(node.unkeyed.of(&place(route, plan))) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts
}

/// The values of fields, each on a line of its own.
fn text_of<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut text = Vec::new();
    for value in values {
        text.extend_from_slice(value);
        text.push(b'\n');
    }
    text
}

fn names_in_vary(response: &HeaderMap) -> Vec<HeaderName> {
    match VaryRule::parse(response) {
        VaryRule::Star => Vec::new(),
        VaryRule::Fields(fields) => fields.names().to_vec(),
    }
}

/// A request, and what is known of its response.
struct Exchange<'a> {
    route: &'a Route,
    head: &'a RequestHead,
    plan: &'a Plan,
    sent: &'a HeaderMap,
    vary: Vec<HeaderName>,
}

impl Exchange<'_> {
    /// `response` holds the values of the response's fields.
    fn findings(&self, reads: &[ReadInput], response: &[u8]) -> Vec<Finding> {
        let mut findings: Vec<Finding> = Vec::new();
        let mut add = |check, source: Source| {
            if !self.is_known(&source) && !findings.iter().any(|known| known.source == source) {
                findings.push(Finding { check, source });
            }
        };
        if let Some(lookup) = &self.plan.lookup {
            for part in lookup.origin_parts() {
                if let Part::Input(input) = part {
                    self.named(input, |source| add(Check::Change, source));
                }
            }
        }
        for input in reads {
            self.read(input, |source| {
                if self.is_sent(&source) {
                    add(Check::Read, source);
                }
            });
        }
        self.reflected(response, |source| add(Check::Reflected, source));
        findings
    }

    fn key(&self) -> impl Iterator<Item = &Input> {
        let lookup = self.plan.lookup.as_deref();
        lookup.into_iter().flat_map(Lookup::inputs)
    }

    /// Do requests that differ in it have different keys, or different variants?
    fn is_known(&self, source: &Source) -> bool {
        let header = |name: &HeaderName| {
            self.vary.contains(name)
                || self.key().any(|input| match input {
                    Input::Header(known) => known == name,
                    Input::Language(_) => *name == ACCEPT_LANGUAGE,
                    Input::Device => *name == USER_AGENT || *name == SEC_CH_UA_MOBILE,
                    Input::BodyDigest => keys::OF_CONTENT.contains(name),
                    _ => false,
                })
                || (*name == HOST && !keys::is_shared(self.route))
        };
        match source {
            Source::Header(name) => header(name),
            Source::Cookie(name) => {
                header(&COOKIE)
                    || self
                        .key()
                        .any(|input| matches!(input, Input::Cookie(known) if known == name))
            }
            Source::Query(name) => {
                let matches = |globs: &Globs| globs.matches(name);
                self.plan.lookup.is_none()
                    || self.key().any(|input| match input {
                        Input::QueryParam(known) => known == name,
                        Input::Query { without } => !matches(without),
                        Input::QueryOnly(names) => matches(names),
                        _ => false,
                    })
            }
            Source::Path => match self.plan.lookup.as_deref() {
                None => true,
                Some(lookup) => seal::says_path(self.route, self.head, lookup),
            },
        }
    }

    /// Did the origin get it as the client sent it?
    fn is_sent(&self, source: &Source) -> bool {
        let header = |name: &HeaderName| {
            self.head.headers.contains_key(name)
                && self.sent.contains_key(name)
                && !self.is_edited(name)
        };
        match source {
            Source::Header(name) => header(name),
            Source::Cookie(name) => header(&COOKIE) && self.head.cookie(name).next().is_some(),
            Source::Query(name) => {
                self.plan.origin_target.is_none() && self.head.query_param(name).next().is_some()
            }
            Source::Path => self.plan.origin_target.is_none(),
        }
    }

    fn is_edited(&self, name: &HeaderName) -> bool {
        let edits = &self.plan.origin_headers;
        edits.iter().any(|(edited, _)| edited == name)
    }

    /// What a named input is made of.
    fn named(&self, input: &Input, mut add: impl FnMut(Source)) {
        match input {
            Input::Path => add(Source::Path),
            Input::Param(name) => {
                if !self.key().any(|known| known == input) && self.head.param(name).is_some() {
                    add(Source::Path);
                }
            }
            Input::QueryParam(name) => add(Source::Query(name.clone())),
            Input::Query { .. } | Input::QueryOnly(_) => {
                if let Values::One(text) = input.values(self.head) {
                    names_of(&String::from_utf8_lossy(&text), &mut add);
                }
            }
            Input::Header(name) => add(Source::Header(name.clone())),
            Input::Cookie(name) => add(Source::Cookie(name.clone())),
            Input::Language(_) => add(Source::Header(ACCEPT_LANGUAGE)),
            Input::Device => {
                for name in [SEC_CH_UA_MOBILE, USER_AGENT] {
                    if self.head.headers.contains_key(&name) {
                        add(Source::Header(name));
                    }
                }
            }
            // A GET is made of what is stored, and content is only what the key names.
            Input::Method | Input::BodyDigest => {}
        }
    }

    /// What a read is made of.
    fn read(&self, input: &ReadInput, mut add: impl FnMut(Source)) {
        match input {
            ReadInput::Header(name) | ReadInput::HeaderOneOf(name, _) => {
                if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                    add(Source::Header(name));
                }
            }
            ReadInput::Language(_) => add(Source::Header(ACCEPT_LANGUAGE)),
            ReadInput::Device => [SEC_CH_UA_MOBILE, USER_AGENT]
                .into_iter()
                .for_each(|name| add(Source::Header(name))),
            ReadInput::Cookie(name) => add(Source::Cookie(name.clone())),
            ReadInput::Query(name) => add(Source::Query(name.clone())),
            ReadInput::QueryString => names_of(self.head.query().unwrap_or_default(), &mut add),
            ReadInput::Host => add(Source::Header(HOST)),
            // What is read of a path mostly goes into the key as text, and a name, a client
            // or a scheme mostly decides no more than whether to look up at all.
            ReadInput::Path
            | ReadInput::PathMatches(_)
            | ReadInput::Param(_)
            | ReadInput::HasParam(_)
            | ReadInput::Method
            | ReadInput::Scheme
            | ReadInput::Client
            | ReadInput::QueryNames
            | ReadInput::HeaderNames => {}
        }
    }

    /// What of the request stands word for word in a field of the response.
    fn reflected(&self, response: &[u8], mut add: impl FnMut(Source)) {
        let repeats = |value: &[u8]| {
            value.len() >= LEAST_REFLECTED && memmem::find(response, value).is_some()
        };
        for (name, value) in &self.head.headers {
            if *name == COOKIE || is_of_course(name) {
                continue;
            }
            let source = Source::Header(name.clone());
            if repeats(value.as_bytes().trim_ascii()) && self.is_sent(&source) {
                add(source);
            }
        }
        let cookies = self.head.headers.get_all(COOKIE).iter();
        for pair in cookies.flat_map(|line| line.as_bytes().split(|&byte| byte == b';')) {
            let Some(at) = memchr::memchr(b'=', pair) else {
                continue;
            };
            let (name, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
            let source = Source::Cookie(String::from_utf8_lossy(name).into());
            if repeats(value) && self.is_sent(&source) {
                add(source);
            }
        }
        for one in self.head.query().unwrap_or_default().split('&') {
            if let Some((name, value)) = one.split_once('=') {
                let name = percent_decode(name);
                let source = Source::Query(String::from_utf8_lossy(&name).into());
                if repeats(value.as_bytes()) && self.is_sent(&source) {
                    add(source);
                }
            }
        }
    }
}

fn names_of(query: &str, add: &mut impl FnMut(Source)) {
    for one in query.split('&').filter(|one| !one.is_empty()) {
        let name = percent_decode(one.split('=').next().unwrap_or_default());
        add(Source::Query(String::from_utf8_lossy(&name).into()));
    }
}

/// Fields whose values stand in responses for other reasons than that they were sent.
fn is_of_course(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("accept")
        || name.starts_with("if-")
        || name.starts_with("sec-")
        || name.starts_with("content-")
        || matches!(
            name,
            "cache-control"
                | "pragma"
                | "range"
                | "te"
                | "connection"
                | "via"
                | "x-forwarded-host"
                | "x-forwarded-proto"
                | "priority"
                | "traceparent"
                | "tracestate"
                | "upgrade-insecure-requests"
        )
}
