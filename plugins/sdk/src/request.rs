//! The request being decided.

use crate::bindings::weir::policy::http as wit;

/// The request being decided.
///
/// Every value is read through a call, and the host records what was read: the decision is
/// remembered for requests that read the same. So read little, and only what decides; what
/// merely goes into the key is better *named* there (see [`crate::Part`]). Of the readers,
/// prefer the matchers ([`path_matches`](Self::path_matches),
/// [`header_one_of`](Self::header_one_of), [`language`](Self::language),
/// [`device`](Self::device)): only their small answer is recorded.
///
/// Values are bytes, since field values need not be UTF-8. An empty list means absent.
#[derive(Debug)]
pub struct Request<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    Host(&'a wit::Request),
    #[cfg(not(target_arch = "wasm32"))]
    Test(&'a crate::testing::TestRequest),
}

/// Coarse classes of client devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// Everything that is none of the others.
    #[default]
    Desktop,
    /// Phones.
    Mobile,
    /// Tablets.
    Tablet,
    /// Crawlers and other robots that say so.
    Bot,
}

macro_rules! read {
    ($self:ident, $request:ident => $host:expr, $test:expr) => {
        match $self.0 {
            Source::Host($request) => $host,
            #[cfg(not(target_arch = "wasm32"))]
            Source::Test($request) => $test,
        }
    };
}

impl<'a> Request<'a> {
    pub(crate) fn host_side(request: &'a wit::Request) -> Self {
        Self(Source::Host(request))
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn test(request: &'a crate::testing::TestRequest) -> Self {
        Self(Source::Test(request))
    }

    /// The method, as sent: `GET`, `PURGE`. RFC 9110 section 9.
    pub fn method(&self) -> String {
        read!(self, request => request.method(), request.method.clone())
    }

    /// `http` or `https`, as the client reached the node.
    pub fn scheme(&self) -> String {
        read!(self, request => request.scheme(), request.scheme.clone())
    }

    /// The normalised authority: lower case, without a default port.
    pub fn host(&self) -> String {
        read!(self, request => request.host(), request.host.clone())
    }

    /// The path, percent-encoded as it was sent, beginning with `/`.
    pub fn path(&self) -> String {
        read!(self, request => request.path(), request.path.clone())
    }

    /// All the query, percent-encoded as it was sent, without the `?`. `/a` has none,
    /// `/a?` an empty one.
    pub fn query_string(&self) -> Option<String> {
        read!(self, request => request.query_string(), request.query_string())
    }

    /// The percent-decoded values of one query parameter, in order.
    pub fn query(&self, name: &str) -> Vec<Vec<u8>> {
        read!(self, request => request.query(name), request.values(&request.query, name))
    }

    /// The percent-decoded names of all query parameters, in order, repeated ones once.
    pub fn query_names(&self) -> Vec<String> {
        read!(self, request => request.query_names(), request.names(&request.query))
    }

    /// The values of one header field, a value for each field line, in order.
    pub fn header(&self, name: &str) -> Vec<Vec<u8>> {
        read!(self, request => request.header(name), request.values(&request.headers, &name.to_ascii_lowercase()))
    }

    /// The value of a header field that came once and is UTF-8; absent otherwise.
    pub fn header_text(&self, name: &str) -> Option<String> {
        single(self.header(name))
    }

    /// The lower-case names of all header fields, repeated ones once.
    pub fn header_names(&self) -> Vec<String> {
        read!(self, request => request.header_names(), request.names(&request.headers))
    }

    /// The values of one cookie, in order. RFC 6265 section 4.2.
    pub fn cookie(&self, name: &str) -> Vec<Vec<u8>> {
        read!(self, request => request.cookie(name), request.values(&request.cookies, name))
    }

    /// A parameter of the route's path pattern (`{id}`), percent-decoded.
    pub fn param(&self, name: &str) -> Option<Vec<u8>> {
        read!(self, request => request.param(name), request.values(&request.params, name).into_iter().next())
    }

    /// Does the route's path pattern have this parameter? Ask before naming one in a key: an
    /// absent one is the same for every request. Only the answer is recorded.
    pub fn has_param(&self, name: &str) -> bool {
        read!(self, request => request.has_param(name), !request.values(&request.params, name).is_empty())
    }

    /// The client's IP address in text form.
    pub fn client(&self) -> String {
        read!(self, request => request.client(), request.client.clone())
    }

    /// Does the path match this glob? `*` and `?` stop at `/`, `**` does not; `[a-z]` and
    /// `{css,js}` work as in a shell. Only the answer is recorded.
    pub fn path_matches(&self, glob: &str) -> bool {
        read!(self, request => request.path_matches(glob), request.path_matches(glob))
    }

    /// Which of `candidates` the header field equals after trimming, ignoring case; absent
    /// when none does. Only the answer is recorded.
    pub fn header_one_of(&self, name: &str, candidates: &[&str]) -> Option<usize> {
        read!(
            self,
            request => {
                let candidates: Vec<String> =
                    candidates.iter().map(|one| (*one).to_owned()).collect();
                request.header_one_of(name, &candidates).map(|index| index as usize)
            },
            request.header_one_of(name, candidates)
        )
    }

    /// Is the method one that changes nothing (GET, HEAD, OPTIONS, TRACE, QUERY)? RFC 9110
    /// section 9.2.1. Reads the method.
    pub fn is_safe(&self) -> bool {
        matches!(
            self.method().as_str(),
            "GET" | "HEAD" | "OPTIONS" | "TRACE" | "QUERY"
        )
    }

    /// Is the method QUERY (RFC 10008), whose content says what is asked for? Its key must
    /// name [`body_digest`](crate::body_digest), or it is forwarded. Reads the method.
    pub fn is_query(&self) -> bool {
        self.method() == "QUERY"
    }

    /// The best of `available` for Accept-Language, by RFC 4647 lookup with weights; the
    /// first of `available` when nothing fits; empty when `available` is empty. Only the
    /// answer is recorded.
    pub fn language(&self, available: &[String]) -> String {
        read!(self, request => request.language(available), request.language(available))
    }

    /// The class of device, from Sec-CH-UA-Mobile and User-Agent. Only the answer is
    /// recorded.
    pub fn device(&self) -> Device {
        read!(
            self,
            request => match request.device() {
                wit::DeviceClass::Desktop => Device::Desktop,
                wit::DeviceClass::Mobile => Device::Mobile,
                wit::DeviceClass::Tablet => Device::Tablet,
                wit::DeviceClass::Bot => Device::Bot,
            },
            request.device
        )
    }
}

/// The value of a field that came once and is UTF-8.
pub(crate) fn single(values: Vec<Vec<u8>>) -> Option<String> {
    let [value] = <[Vec<u8>; 1]>::try_from(values).ok()?;
    String::from_utf8(value).ok()
}
