//! Recorded reads: every input that a decision rests on, in the order it was read.
//!
//! A decision of a call that touched nothing else is a function of these answers.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::device::DeviceClass;
use crate::globs::Globs;
use crate::input::Values;
use crate::query;
use crate::request::RequestHead;

/// The most reads that are kept of one call; more of them mark it as cut short.
const MAX_READS: usize = 256;
/// The most bytes of questions and answers that are kept of one call.
const MAX_BYTES: usize = 256 * 1024;
/// Up to so many bytes of two answers are compared one by one.
const SHORT: usize = 8;

/// Whether the reads of a call are to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// Not recorded: costs nothing.
    No,
    /// Recorded.
    Yes,
}

/// What was asked of the request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReadInput {
    /// The method.
    Method,
    /// The scheme.
    Scheme,
    /// The authority.
    Host,
    /// The path.
    Path,
    /// The whole query.
    QueryString,
    /// The values of one query parameter.
    Query(Box<str>),
    /// The names of all query parameters.
    QueryNames,
    /// The values of one header field; the name in lower case.
    Header(Box<str>),
    /// The names of all header fields.
    HeaderNames,
    /// The values of one cookie.
    Cookie(Box<str>),
    /// One parameter of the route's path pattern.
    Param(Box<str>),
    /// Is there such a parameter?
    HasParam(Box<str>),
    /// The client's address.
    Client,
    /// Does the path match a glob?
    PathMatches(Globs),
    /// Which of these does the header field equal?
    HeaderOneOf(Box<str>, Box<[String]>),
    /// The best of these for Accept-Language.
    Language(Arc<[String]>),
    /// The class of device.
    Device,
}

/// What the answer was. Together with its [`ReadInput`] unambiguous: `true`/`false` for
/// a question, the index for one-of, [`Answer::Absent`] for no value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    /// No value.
    Absent,
    /// One value.
    One(Box<[u8]>),
    /// Several values in order.
    Many(Box<[Box<[u8]>]>),
}

/// One recorded read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Read {
    /// What was asked.
    pub input: ReadInput,
    /// What the answer was.
    pub answer: Answer,
}

/// The reads of one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reads {
    /// The reads in order, repeated ones too; empty when none were to be recorded.
    pub list: Vec<Read>,
    /// The call touched a capability (`kv`, `rate-limit`, `log`, `clock`), or read more
    /// than is kept: its decision is not a function of `list`.
    pub impure: bool,
}

impl From<Values<'_>> for Answer {
    fn from(values: Values<'_>) -> Self {
        match values {
            Values::Absent => Self::Absent,
            Values::One(value) => Self::One(value.into()),
            Values::Many(values) => Self::Many(values.into_iter().map(Box::from).collect()),
        }
    }
}

impl Answer {
    /// All values, in order.
    pub(crate) fn as_slice(&self) -> &[Box<[u8]>] {
        match self {
            Self::Absent => &[],
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }

    /// Are these the values, in this order?
    #[inline]
    pub(crate) fn is<V: AsRef<[u8]>>(&self, values: &[V]) -> bool {
        // Nearly all answers are one, and short: compared here for less than a call costs.
        if let (Self::One(known), [value]) = (self, values) {
            let value = value.as_ref();
            return known.len() == value.len()
                && match known.len() {
                    0..=SHORT => known.iter().eq(value),
                    _ => **known == *value,
                };
        }
        let known = self.as_slice();
        let mut pairs = known.iter().zip(values);
        known.len() == values.len() && pairs.all(|(a, b)| **a == *b.as_ref())
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Absent => 0,
            Self::One(value) => value.len(),
            Self::Many(values) => values.iter().map(|v| v.len() + 16).sum(),
        }
    }
}

impl ReadInput {
    /// Asks the same of a request, without a guest.
    pub fn answer(&self, head: &RequestHead) -> Answer {
        self.values(head).into()
    }

    /// The value of this input in `head`, of those that have just one in each request: to follow
    /// it costs less so than by way of [`ReadInput::values`].
    #[inline]
    pub(crate) fn text<'a>(&'a self, head: &'a RequestHead) -> Option<&'a str> {
        match self {
            Self::Method => Some(head.method.as_str()),
            Self::Scheme => Some(head.scheme.as_str()),
            Self::Host => Some(&head.host),
            Self::Path => Some(head.path()),
            Self::HasParam(name) => Some(truth(head.param(name).is_some())),
            Self::PathMatches(glob) => Some(truth(glob.matches(head.path()))),
            Self::Language(available) => Some(head.language(available)),
            Self::Device => Some(head.device().as_str()),
            _ => None,
        }
    }

    /// How many answers there can be to the questions that have a table of them; else none.
    pub(crate) fn choices(&self) -> usize {
        match self {
            Self::HasParam(_) | Self::PathMatches(_) => 2,
            Self::Language(available) => available.len(),
            Self::Device => DeviceClass::ALL.len(),
            _ => 0,
        }
    }

    /// Which of these the answer for a request is.
    #[inline]
    pub(crate) fn choice(&self, head: &RequestHead) -> Option<usize> {
        match self {
            Self::HasParam(name) => Some(usize::from(head.param(name).is_some())),
            Self::PathMatches(glob) => Some(usize::from(glob.matches(head.path()))),
            Self::Language(available) => Some(head.language_at(available)),
            Self::Device => Some(head.device() as usize),
            _ => None,
        }
    }

    /// Which of these an answer is.
    pub(crate) fn choice_of(&self, answer: &Answer) -> Option<usize> {
        let Answer::One(text) = answer else {
            return None;
        };
        let is = |other: &str| *other.as_bytes() == **text;
        match self {
            Self::HasParam(_) | Self::PathMatches(_) => {
                [false, true].iter().position(|a| is(truth(*a)))
            }
            Self::Language(available) => available.iter().position(|it| is(it)),
            Self::Device => DeviceClass::ALL.iter().position(|class| is(class.as_str())),
            _ => None,
        }
    }

    /// The same as it lies in the request, where it does.
    pub(crate) fn values<'a>(&'a self, head: &'a RequestHead) -> Values<'a> {
        let owned = |text: String| Values::One(Cow::Owned(text.into_bytes()));
        match self {
            Self::Method
            | Self::Scheme
            | Self::Host
            | Self::Path
            | Self::HasParam(_)
            | Self::PathMatches(_)
            | Self::Language(_)
            | Self::Device => self.text(head).map_or(Values::Absent, Values::text),
            Self::QueryString => head.query().map_or(Values::Absent, Values::text),
            Self::Query(name) => Values::of(head.query_param(name)),
            Self::QueryNames => {
                let names = query::names(head.query().unwrap_or_default());
                Values::of(names.into_iter().map(|name| Cow::Owned(name.into_bytes())))
            }
            Self::Header(name) => Values::of(head.header(name).map(Cow::Borrowed)),
            Self::HeaderNames => {
                let names = head.headers.keys();
                Values::of(names.map(|name| Cow::Borrowed(name.as_str().as_bytes())))
            }
            Self::Cookie(name) => {
                let values = head.cookie(name);
                Values::of(values.map(Cow::Borrowed))
            }
            Self::Param(name) => Values::option(head.param(name).map(Cow::Borrowed)),
            Self::Client => owned(head.client.to_string()),
            Self::HeaderOneOf(name, candidates) => {
                let found = head.header_one_of(name, candidates);
                found.map_or(Values::Absent, |at| owned(at.to_string()))
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        let list = |texts: &[String]| texts.iter().map(|t| t.len() + 24).sum();
        match self {
            Self::Query(name)
            | Self::Header(name)
            | Self::Cookie(name)
            | Self::Param(name)
            | Self::HasParam(name) => name.len(),
            Self::HeaderOneOf(name, candidates) => name.len() + list(candidates),
            Self::Language(available) => list(available),
            _ => 0,
        }
    }
}

fn truth(answer: bool) -> &'static str {
    if answer { "true" } else { "false" }
}

/// As an explanation names it: `header accept-language`, `path matches /a/*`.
impl fmt::Display for ReadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method => f.write_str("method"),
            Self::Scheme => f.write_str("scheme"),
            Self::Host => f.write_str("host"),
            Self::Path => f.write_str("path"),
            Self::QueryString => f.write_str("query-string"),
            Self::Query(name) => write!(f, "query {name}"),
            Self::QueryNames => f.write_str("query-names"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::HeaderNames => f.write_str("header-names"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
            Self::Param(name) => write!(f, "param {name}"),
            Self::HasParam(name) => write!(f, "has param {name}"),
            Self::Client => f.write_str("client"),
            Self::PathMatches(glob) => write!(f, "path matches {}", glob.patterns().join(" ")),
            Self::HeaderOneOf(name, candidates) => {
                write!(f, "header {name} one of {}", candidates.join(" "))
            }
            Self::Language(available) => write!(f, "language of {}", available.join(" ")),
            Self::Device => f.write_str("device"),
        }
    }
}

/// Values in quotes, separated by commas, with what is not printable escaped.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::One(value) => write!(f, "\"{}\"", value.escape_ascii()),
            Self::Many(values) => {
                for (i, value) in values.iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    write!(f, "{comma}\"{}\"", value.escape_ascii())?;
                }
                Ok(())
            }
        }
    }
}

/// Keeps the reads of the call that is running.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    on: bool,
    bytes: usize,
    reads: Reads,
}

impl Recorder {
    pub(crate) fn begin(&mut self, record: Record) {
        self.on = record == Record::Yes;
        self.bytes = 0;
        self.reads.list.clear();
        self.reads.impure = false;
    }

    /// The call is no function of its reads.
    pub(crate) fn impure(&mut self) {
        self.reads.impure = true;
    }

    /// Keeps what `input` answers, when it is asked to.
    #[inline]
    pub(crate) fn note(&mut self, head: &RequestHead, input: impl FnOnce() -> ReadInput) {
        if self.on {
            self.keep(head, input());
        }
    }

    #[cold]
    fn keep(&mut self, head: &RequestHead, input: ReadInput) {
        if self.reads.list.len() >= MAX_READS || self.bytes >= MAX_BYTES {
            self.reads.impure = true;
            return;
        }
        let answer = input.answer(head);
        self.bytes += input.len() + answer.len();
        self.reads.list.push(Read { input, answer });
    }

    pub(crate) fn take(&mut self) -> Reads {
        self.on = false;
        std::mem::take(&mut self.reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::head;

    #[test]
    fn names_and_answers_read_as_an_explanation() {
        let request = head(
            "/a/b?q=%00&q=2",
            &[("accept-language", "de"), ("x-plan", "gold")],
        );
        let list = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let glob = Globs::compile(&["/a/*"]).unwrap();
        for (input, text) in [
            (ReadInput::Method, "method \"GET\""),
            (ReadInput::Scheme, "scheme \"https\""),
            (ReadInput::Host, "host \"api.example.org\""),
            (ReadInput::Path, "path \"/a/b\""),
            (ReadInput::QueryString, "query-string \"q=%00&q=2\""),
            (ReadInput::Query("q".into()), "query q \"\\x00\", \"2\""),
            (ReadInput::QueryNames, "query-names \"q\""),
            (
                ReadInput::HeaderNames,
                "header-names \"accept-language\", \"x-plan\"",
            ),
            (ReadInput::Cookie("s".into()), "cookie s absent"),
            (ReadInput::Param("id".into()), "param id \"42\""),
            (ReadInput::HasParam("id".into()), "has param id \"true\""),
            (ReadInput::HasParam("no".into()), "has param no \"false\""),
            (ReadInput::Client, "client \"192.0.2.7\""),
            (ReadInput::PathMatches(glob), "path matches /a/* \"true\""),
            (
                ReadInput::HeaderOneOf("x-plan".into(), list(&["free", "gold"]).into()),
                "header x-plan one of free gold \"1\"",
            ),
            (
                ReadInput::Language(list(&["en", "de"]).into()),
                "language of en de \"de\"",
            ),
            (ReadInput::Device, "device \"desktop\""),
        ] {
            assert_eq!(format!("{input} {}", input.answer(&request)), text);
        }
    }

    #[test]
    fn one_empty_value_is_not_absence() {
        let of = |query: &str| {
            let request = head(&format!("/?{query}"), &[]);
            ReadInput::Query("q".into()).answer(&request)
        };
        assert_ne!(of("q="), of(""));
        assert_ne!(of("q=&q="), of("q="));
    }

    #[test]
    fn too_many_reads_make_the_call_impure_and_stay_bounded() {
        let request = head("/", &[]);
        let mut recorder = Recorder::default();
        recorder.begin(Record::Yes);
        for _ in 0..=MAX_READS {
            recorder.note(&request, || ReadInput::Path);
        }
        let reads = recorder.take();
        assert_eq!(reads.list.len(), MAX_READS);
        assert!(reads.impure);
    }

    #[test]
    fn switched_off_it_does_not_even_name_the_input() {
        let mut recorder = Recorder::default();
        recorder.begin(Record::No);
        recorder.note(&head("/", &[]), || unreachable!("asked for"));
        assert_eq!(recorder.take(), Reads::default());
    }
}
