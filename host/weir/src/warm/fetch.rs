//! Sending one URL, and reading what the node says it did.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use weir_proxy::Dialer;

use crate::fields;

use super::tally::{Cached, Outcome};

/// Sends GETs, all with the same header fields.
#[derive(Debug)]
pub(super) struct Fetcher {
    client: Client<Dialer, Empty<Bytes>>,
    headers: HeaderMap,
    /// The scheme of the node, where there is one.
    scheme: Option<String>,
    timeout: Duration,
}

impl Fetcher {
    /// Connects to nothing yet.
    pub(super) fn new(
        node: Option<&Uri>,
        headers: &[String],
        ca_file: Option<&Path>,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        if let Some(node) = node {
            let known = matches!(node.scheme_str(), Some("http" | "https"));
            ensure!(
                known && node.authority().is_some(),
                "--node {node} is not a node's address; write http://HOST:PORT"
            );
        }
        let dialer = Dialer::new(node.cloned(), ca_file, timeout).map_err(|why| anyhow!(why))?;
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(dialer),
            headers: header_map(headers)?,
            scheme: node.and_then(Uri::scheme_str).map(str::to_owned),
            timeout,
        })
    }

    /// The URL of a line, or what is wrong with it.
    pub(super) fn check(&self, text: &str) -> Result<Uri, String> {
        // What follows a '#' is for browsers, and never sent.
        let sent = text.split('#').next().unwrap_or(text);
        let url: Uri = sent
            .parse()
            .map_err(|error| format!("not a URL: {error}"))?;
        let scheme = url.scheme_str().unwrap_or_default();
        if !matches!(scheme, "http" | "https") || url.authority().is_none() {
            return Err("not an absolute URL; write http://HOST/PATH".to_owned());
        }
        match &self.scheme {
            // The node goes by its connection: it would store another object.
            Some(node) if node != scheme => Err(format!(
                "the node is reached by {node}, so it would take the URL for {node}; give --node {scheme}://…"
            )),
            _ => Ok(url),
        }
    }

    /// Gets the URL, body included, and drops it.
    pub(super) async fn fetch(&self, url: Uri) -> Outcome {
        match tokio::time::timeout(self.timeout, self.exchange(url)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(why)) => Outcome::Failed(why),
            Err(_) => Outcome::Failed(format!("no whole response within {:?}", self.timeout)),
        }
    }

    async fn exchange(&self, url: Uri) -> Result<Outcome, String> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = url;
        *request.headers_mut() = self.headers.clone();
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| chain(&error))?;
        let status = response.status();
        let cached = Cached::read(response.headers());
        let mut body = response.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("the body broke off: {}", chain(&error)))?;
            bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        if status.is_client_error() || status.is_server_error() {
            return Ok(Outcome::Failed(status.to_string()));
        }
        Ok(Outcome::Answered { cached, bytes })
    }
}

fn header_map(lines: &[String]) -> anyhow::Result<HeaderMap> {
    let headers = fields::header_map(lines)?;
    ensure!(
        !headers.contains_key(header::HOST),
        "the host is that of each URL; leave out the Host field"
    );
    Ok(headers)
}

/// An error with what caused it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetcher(node: Option<&str>) -> Fetcher {
        let node = node.map(|node| node.parse().unwrap());
        Fetcher::new(node.as_ref(), &[], None, Duration::from_secs(1)).unwrap()
    }

    #[test]
    fn only_what_can_be_sent_as_it_is_meant_passes() {
        let direct = fetcher(None);
        let url = direct.check("http://a/b?c#d").unwrap();
        assert_eq!(url, "http://a/b?c");
        for (text, told) in [
            ("/a", "absolute"),
            ("ftp://a/", "absolute"),
            ("http://a b/", "not a URL"),
            ("", "not a URL"),
        ] {
            let why = direct.check(text).unwrap_err();
            assert!(why.contains(told), "{text}: {why}");
        }
        let through = fetcher(Some("http://127.0.0.1:8080"));
        assert!(through.check("http://a/").is_ok());
        let why = through.check("https://a/").unwrap_err();
        assert!(why.contains("--node https://"), "{why}");
    }

    #[test]
    fn options_that_cannot_be_meant_are_refused() {
        let with = |node: Option<&str>, header: &str| {
            let node: Option<Uri> = node.map(|node| node.parse().unwrap());
            let headers = [header.to_owned()];
            let made = Fetcher::new(node.as_ref(), &headers, None, Duration::from_secs(1));
            made.unwrap_err().to_string()
        };
        assert!(with(None, "host: a").contains("Host"));
        assert!(with(None, "no colon").contains("-H 'name: value'"));
        assert!(with(Some("127.0.0.1:8080"), "a: b").contains("http://HOST:PORT"));
    }
}
