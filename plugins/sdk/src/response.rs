//! The origin's response, and what the host does with it.

use std::time::Duration;

use crate::bindings::weir::policy::http as wit;
use crate::request::single;
use crate::selector::Selector;

/// The origin's response, and what the host will do with it unless told otherwise.
///
/// The host starts from RFC 9111 and takes the adjustments below, except that what protects
/// users (private, no-store, Authorization, Set-Cookie) always wins. Durations are cut to
/// whole milliseconds.
///
/// ```
/// use std::time::Duration;
/// use weir_sdk::Response;
///
/// fn adjust(response: &Response) {
///     if response.status() == 200 {
///         response
///             .set_lifetime(Duration::from_secs(300))
///             .set_stale_if_error(Duration::from_secs(3600))
///             .tag("news");
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Response<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    Host(&'a wit::Response),
    #[cfg(not(target_arch = "wasm32"))]
    Test(&'a crate::testing::TestResponse),
}

macro_rules! call {
    ($self:ident, $response:ident => $host:expr, $test:expr) => {
        match $self.0 {
            Source::Host($response) => $host,
            #[cfg(not(target_arch = "wasm32"))]
            Source::Test($response) => $test,
        }
    };
}

impl<'a> Response<'a> {
    pub(crate) fn host_side(response: &'a wit::Response) -> Self {
        Self(Source::Host(response))
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn test(response: &'a crate::testing::TestResponse) -> Self {
        Self(Source::Test(response))
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        call!(self, response => response.status(), response.status)
    }

    /// Is the status 200 to 299?
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status())
    }

    /// The values of one header field, a value for each field line, in order.
    pub fn header(&self, name: &str) -> Vec<Vec<u8>> {
        call!(self, response => response.header(name), response.header_values(name))
    }

    /// The value of a header field that came once and is UTF-8; absent otherwise.
    pub fn header_text(&self, name: &str) -> Option<String> {
        single(self.header(name))
    }

    /// The lower-case names of all header fields, repeated ones once.
    pub fn header_names(&self) -> Vec<String> {
        call!(self, response => response.header_names(), response.header_names())
    }

    /// The bytes that `on_request` left in `note`; empty when it left none.
    pub fn note(&self) -> Vec<u8> {
        call!(self, response => response.note(), response.note.clone())
    }

    /// How long this response stays fresh by RFC 9111 section 4.2 from now; absent when
    /// RFC 9111 does not let it be stored.
    pub fn suggested_lifetime(&self) -> Option<Duration> {
        call!(self, response => response.suggested_lifetime().map(Duration::from_millis), response.suggested_lifetime)
    }

    /// Why RFC 9111 does not let it be stored (`no-store`, `private`, `set-cookie`, …);
    /// absent when it does.
    pub fn refusal(&self) -> Option<String> {
        call!(self, response => response.refusal(), response.refusal.clone())
    }

    /// Store it, fresh for so long from now. The node's longest permitted life still
    /// bounds it.
    pub fn set_lifetime(&self, lifetime: Duration) -> &Self {
        call!(self, response => response.set_lifetime(millis(lifetime)), response.record(|done| done.lifetime = Some(lifetime)));
        self
    }

    /// Store it, fresh until an absolute time in seconds since the Unix epoch, such as a
    /// JWT's `exp`. A time that has passed means: do not store.
    pub fn set_expiry(&self, unix_seconds: u64) -> &Self {
        call!(self, response => response.set_expiry(unix_seconds), response.record(|done| done.expiry = Some(unix_seconds)));
        self
    }

    /// How long after its lifetime it may be served stale while the host revalidates.
    /// RFC 5861 section 3.
    pub fn set_stale_while_revalidate(&self, window: Duration) -> &Self {
        call!(self, response => response.set_stale_while_revalidate(millis(window)), response.record(|done| done.stale_while_revalidate = Some(window)));
        self
    }

    /// How long after its lifetime it may be served stale when the origin fails. RFC 5861
    /// section 4.
    pub fn set_stale_if_error(&self, window: Duration) -> &Self {
        call!(self, response => response.set_stale_if_error(millis(window)), response.record(|done| done.stale_if_error = Some(window)));
        self
    }

    /// Keeps it in memory for at most so long; the next tier keeps it for its whole life.
    /// Zero keeps it out of memory.
    pub fn set_memory_lifetime(&self, lifetime: Duration) -> &Self {
        call!(self, response => response.set_memory_lifetime(millis(lifetime)), response.record(|done| done.memory_lifetime = Some(lifetime)));
        self
    }

    /// Whether it goes to the shared tier (Redis). The default is yes.
    pub fn set_shared(&self, shared: bool) -> &Self {
        call!(self, response => response.set_shared(shared), response.record(|done| done.shared = Some(shared)));
        self
    }

    /// Adds a tag, at most 1,024 bytes.
    pub fn tag(&self, tag: &str) -> &Self {
        call!(self, response => response.tag(tag), response.record(|done| done.tags.push(tag.to_owned())));
        self
    }

    /// Do not store; remember that for so long, so that requests for the same key do not
    /// wait for one another.
    pub fn do_not_store(&self, remember: Duration) -> &Self {
        call!(self, response => response.do_not_store(millis(remember)), response.record(|done| done.do_not_store = Some(remember)));
        self
    }

    /// Invalidates once the response is known.
    pub fn invalidate(&self, selectors: impl IntoIterator<Item = Selector>) -> &Self {
        let selectors: Vec<Selector> = selectors.into_iter().collect();
        call!(
            self,
            response => response.invalidate(selectors.iter().map(Selector::to_host).collect()),
            response.record(|done| done.invalidated.extend(selectors))
        );
        self
    }

    /// After an unsafe method, stores this response as what a GET of the lookup's key would
    /// have returned, for its lifetime as set here. Done only when nothing else invalidated
    /// that key since the request began.
    pub fn write_through(&self) -> &Self {
        call!(self, response => response.write_through(), response.record(|done| done.write_through = true));
        self
    }
}

/// Whole milliseconds, the longest time at most.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
