//! Doubles for testing a policy natively, without a host: `cargo test` in its crate.
//!
//! Globs match as on the host. Languages and devices are what the test says, not worked out
//! from header fields.
//!
//! ```
//! use weir_sdk::prelude::*;
//! use weir_sdk::testing::{TestRequest, TestResponse};
//!
//! fn lifetime(request: &Request, response: &Response) {
//!     if request.path() == "/news" {
//!         response.set_lifetime(std::time::Duration::from_secs(60));
//!     }
//! }
//!
//! let request = TestRequest::get("/news?page=2").with_header("accept", "text/html");
//! let response = TestResponse::new(200);
//! lifetime(&request.view(), &response.view());
//! assert_eq!(response.done().lifetime, Some(std::time::Duration::from_secs(60)));
//! ```

use std::cell::{Cell, RefCell};
use std::time::Duration;

pub(crate) mod kv;

pub use self::kv::{kv_ttl, set_kv};
use crate::rate_limit::Verdict;
use crate::{Device, Request, Response, Selector};

type Pairs = Vec<(String, Vec<u8>)>;

/// A request made by a test.
#[derive(Clone, Debug)]
pub struct TestRequest {
    pub(crate) method: String,
    pub(crate) scheme: String,
    pub(crate) host: String,
    pub(crate) path: String,
    raw_query: Option<String>,
    pub(crate) query: Pairs,
    pub(crate) headers: Pairs,
    pub(crate) cookies: Pairs,
    pub(crate) params: Pairs,
    pub(crate) client: String,
    wanted_language: Option<String>,
    pub(crate) device: Device,
}

impl TestRequest {
    /// A GET of `target`, a path with or without a query (not percent-decoded), at
    /// `http://localhost` by 127.0.0.1.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A request with any method.
    pub fn new(method: &str, target: &str) -> Self {
        let (path, raw_query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let query = raw_query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (name.to_owned(), value.as_bytes().to_vec())
            })
            .collect();
        Self {
            method: method.to_owned(),
            scheme: "http".to_owned(),
            host: "localhost".to_owned(),
            path: path.to_owned(),
            raw_query: raw_query.map(str::to_owned),
            query,
            headers: Vec::new(),
            cookies: Vec::new(),
            params: Vec::new(),
            client: "127.0.0.1".to_owned(),
            wanted_language: None,
            device: Device::Desktop,
        }
    }

    /// Adds a header field line.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// Adds a cookie.
    #[must_use]
    pub fn with_cookie(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.cookies.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a parameter of the route's path pattern.
    #[must_use]
    pub fn with_param(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.params.push((name.to_owned(), value.into()));
        self
    }

    /// The client's address.
    #[must_use]
    pub fn from_client(mut self, address: &str) -> Self {
        self.client = address.to_owned();
        self
    }

    /// The language that the client wants.
    #[must_use]
    pub fn wanting(mut self, language: &str) -> Self {
        self.wanted_language = Some(language.to_owned());
        self
    }

    /// The class of the client's device.
    #[must_use]
    pub fn on_device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// What a hook is given.
    pub fn view(&self) -> Request<'_> {
        Request::test(self)
    }

    pub(crate) fn query_string(&self) -> Option<String> {
        self.raw_query.clone()
    }

    pub(crate) fn values(&self, pairs: &Pairs, name: &str) -> Vec<Vec<u8>> {
        values(pairs, name)
    }

    pub(crate) fn names(&self, pairs: &Pairs) -> Vec<String> {
        names(pairs)
    }

    pub(crate) fn path_matches(&self, glob: &str) -> bool {
        globset::GlobBuilder::new(glob)
            .literal_separator(true)
            .build()
            .is_ok_and(|glob| glob.compile_matcher().is_match(&self.path))
    }

    pub(crate) fn header_one_of(&self, name: &str, candidates: &[&str]) -> Option<usize> {
        let value = crate::request::single(values(&self.headers, name))?;
        candidates
            .iter()
            .position(|one| one.eq_ignore_ascii_case(value.trim()))
    }

    pub(crate) fn language(&self, available: &[String]) -> String {
        available
            .iter()
            .find(|one| self.wanted_language.as_ref() == Some(*one))
            .or(available.first())
            .cloned()
            .unwrap_or_default()
    }
}

/// A response made by a test. It notes what the policy does with it.
#[derive(Clone, Debug)]
pub struct TestResponse {
    pub(crate) status: u16,
    headers: Pairs,
    pub(crate) note: Vec<u8>,
    pub(crate) suggested_lifetime: Option<Duration>,
    pub(crate) refusal: Option<String>,
    done: RefCell<Done>,
}

/// What a policy did with a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// By `set_lifetime`.
    pub lifetime: Option<Duration>,
    /// By `set_expiry`, seconds since the Unix epoch.
    pub expiry: Option<u64>,
    /// By `set_stale_while_revalidate`.
    pub stale_while_revalidate: Option<Duration>,
    /// By `set_stale_if_error`.
    pub stale_if_error: Option<Duration>,
    /// By `set_memory_lifetime`.
    pub memory_lifetime: Option<Duration>,
    /// By `set_shared`.
    pub shared: Option<bool>,
    /// By `tag`.
    pub tags: Vec<String>,
    /// By `do_not_store`.
    pub do_not_store: Option<Duration>,
    /// By `invalidate`.
    pub invalidated: Vec<Selector>,
    /// By `write_through`.
    pub write_through: bool,
}

impl TestResponse {
    /// A response with this status, for which RFC 9111 suggests a lifetime of zero.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            note: Vec::new(),
            suggested_lifetime: Some(Duration::ZERO),
            refusal: None,
            done: RefCell::default(),
        }
    }

    /// Adds a header field line.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// The note that `on_request` left.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<Vec<u8>>) -> Self {
        self.note = note.into();
        self
    }

    /// What RFC 9111 suggests.
    #[must_use]
    pub fn suggesting(mut self, lifetime: Duration) -> Self {
        self.suggested_lifetime = Some(lifetime);
        self
    }

    /// Why RFC 9111 does not let it be stored.
    #[must_use]
    pub fn refused(mut self, why: &str) -> Self {
        self.suggested_lifetime = None;
        self.refusal = Some(why.to_owned());
        self
    }

    /// What a hook is given.
    pub fn view(&self) -> Response<'_> {
        Response::test(self)
    }

    /// What the policy did so far.
    pub fn done(&self) -> Done {
        self.done.borrow().clone()
    }

    pub(crate) fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        values(&self.headers, &name.to_ascii_lowercase())
    }

    pub(crate) fn header_names(&self) -> Vec<String> {
        names(&self.headers)
    }

    pub(crate) fn record(&self, what: impl FnOnce(&mut Done)) {
        what(&mut self.done.borrow_mut());
    }
}

fn values(pairs: &Pairs, name: &str) -> Vec<Vec<u8>> {
    pairs
        .iter()
        .filter(|(one, _)| one == name)
        .map(|(_, value)| value.clone())
        .collect()
}

fn names(pairs: &Pairs) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in pairs {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static VERDICT: Cell<Option<Verdict>> = const { Cell::new(None) };
}

/// Sets what [`crate::clock::now`] says on this thread.
pub fn set_now(since_epoch: Duration) {
    NOW.set(since_epoch);
}

/// Sets what [`crate::rate_limit::check`] says on this thread; `None`: allowed.
pub fn set_verdict(verdict: Option<Verdict>) {
    VERDICT.set(verdict);
}

pub(crate) fn now() -> Duration {
    NOW.get()
}

pub(crate) fn verdict(limit: u32) -> Verdict {
    VERDICT.get().unwrap_or(Verdict {
        allowed: limit > 0,
        remaining: limit.saturating_sub(1),
        retry_after: Duration::ZERO,
    })
}
