//! The format of a case.

use serde::Deserialize;

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
    /// Why it is so: for a choice, and for a rule that not all caches keep. Goes into
    /// docs/conformance.md; `As above.` is the reason of the case before.
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
    /// The RFC allows both; the case says `why`.
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
    /// The body ends before its framing says so, or there is an error in place of it, or
    /// nothing.
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

/// An answer of the origin. Date and framing are added where they are not given.
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
    /// A last chunk, and a length in answer to HEAD. The client then sees the end of a
    /// response only once it has been stored.
    #[default]
    Usual,
    /// Content-Length.
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
