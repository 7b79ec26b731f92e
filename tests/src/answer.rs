//! A response read to its end, and what its Cache-Status says.

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder, StatusCode};

/// A whole response.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The header section.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// Sends a request and reads the response to its end. Fails when it was cut short.
    pub async fn of(request: RequestBuilder) -> Result<Self, reqwest::Error> {
        let response = request.send().await?;
        Ok(Self {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.bytes().await?,
        })
    }

    /// The first value of a header field. Bytes that are not UTF-8 are replaced.
    pub fn header(&self, name: &str) -> Option<String> {
        let value = self.headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON. Panics, showing it, when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }

    /// The Age field in seconds. RFC 9111 section 5.1.
    pub fn age(&self) -> Option<u64> {
        self.header("age")?.parse().ok()
    }

    /// What the node said about its cache. Panics when it said nothing.
    pub fn cache(&self) -> CacheStatus {
        let value = self.header("cache-status");
        value
            .as_deref()
            .and_then(CacheStatus::parse)
            .unwrap_or_else(|| panic!("no Cache-Status of weir's in {self:?}"))
    }

    /// Did the cache answer without asking the origin?
    pub fn is_hit(&self) -> bool {
        self.cache().hit
    }
}

/// The member of a Cache-Status field that `weir` added. RFC 9211.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// `hit`.
    pub hit: bool,
    /// `fwd`.
    pub fwd: Option<String>,
    /// `ttl` in seconds; negative when stale.
    pub ttl: Option<i64>,
    /// `stored`.
    pub stored: bool,
    /// `collapsed`.
    pub collapsed: bool,
    /// `key`, unquoted.
    pub key: Option<String>,
    /// `detail`, unquoted.
    pub detail: Option<String>,
}

impl CacheStatus {
    /// Reads the last member whose cache is called `weir`.
    pub fn parse(field: &str) -> Option<Self> {
        let mut status = Self::default();
        for (name, value) in parameters(field)? {
            match name.as_str() {
                "hit" => status.hit = value == "?1",
                "stored" => status.stored = value == "?1",
                "collapsed" => status.collapsed = value == "?1",
                "fwd" => status.fwd = Some(value),
                "ttl" => status.ttl = value.parse().ok(),
                "key" => status.key = Some(value),
                "detail" => status.detail = Some(value),
                _ => {}
            }
        }
        Some(status)
    }

    /// Does `detail` mention this text?
    pub fn details(&self, text: &str) -> bool {
        self.detail
            .as_deref()
            .is_some_and(|detail| detail.contains(text))
    }
}

/// Names and values, unquoted, of all parameters of the last member of a Cache-Status
/// field whose cache is called `weir`. A parameter without a value has `?1`.
pub fn parameters(field: &str) -> Option<Vec<(String, String)>> {
    let members = split(field, ',');
    let member = members.iter().rev().find(|member| {
        let name = split(member, ';');
        name.first()
            .is_some_and(|name| name.trim().trim_matches('"') == "weir")
    })?;
    let parameters = split(member, ';').into_iter().skip(1).map(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, "?1"));
        (name.trim().to_owned(), unquoted(value.trim()))
    });
    Some(parameters.collect())
}

/// Splits at `separator` outside quoted strings.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character: char| {
        let plain = !quoted;
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        plain && character == separator
    })
    .collect()
}

fn unquoted(value: &str) -> String {
    let inner = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    match inner {
        Some(inner) => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => value.to_owned(),
    }
}

/// A client that follows no redirect, uses no proxy and pools its connections.
pub fn client() -> Client {
    builder().build().expect("an HTTP client")
}

/// The same over cleartext HTTP/2 with prior knowledge.
pub fn http2_client() -> Client {
    builder()
        .http2_prior_knowledge()
        .build()
        .expect("an HTTP/2 client")
}

/// What both begin with, for a test that needs more.
pub fn builder() -> reqwest::ClientBuilder {
    // reqwest asks for one before it makes a client. Where another test of the process
    // has been first, it is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
}

#[cfg(test)]
mod tests {
    use super::CacheStatus;

    #[test]
    fn reads_the_last_member_of_ours_and_respects_quotes() {
        let field =
            r#"origin; hit, weir;fwd=stale;ttl=-3;stored;key="a,b;c";detail="redis charity@1""#;
        let status = CacheStatus::parse(field).unwrap();
        assert!(!status.hit && status.stored && !status.collapsed);
        assert_eq!(status.fwd.as_deref(), Some("stale"));
        assert_eq!(status.ttl, Some(-3));
        assert_eq!(status.key.as_deref(), Some("a,b;c"));
        assert!(status.details("redis"));
        assert_eq!(CacheStatus::parse("other; hit"), None);
    }
}
