//! Asking the admin API, and saying what to do when that fails.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use weir_admin::{SIGNATURE, Upload};

use super::{AdminArgs, printable};

/// A node that does not accept within this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Compiling a large component takes several seconds; nothing takes longer.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// What stands for itself in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// A node's admin API.
#[derive(Debug)]
pub(super) struct Node {
    /// Without a trailing slash.
    base: String,
    token: Option<HeaderValue>,
    token_file: Option<PathBuf>,
    client: legacy::Client<HttpConnector, Full<Bytes>>,
}

/// What the node answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl Node {
    /// Checks the address and reads the token; connects to nothing yet.
    pub(super) fn new(args: &AdminArgs) -> anyhow::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Ok(Self {
            base: base(&args.admin)?,
            token: args.token_file.as_ref().map(read_token).transpose()?,
            token_file: args.token_file.clone(),
            client: legacy::Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// GET, whatever the status.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, HeaderMap::new(), Bytes::new())
            .await
    }

    /// POST of JSON that succeeded.
    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let body = Bytes::from(body.to_string());
        let answer = self.send(Method::POST, path, of_type("application/json"), body);
        self.success(answer.await?)
    }

    /// PUT of a component that succeeded.
    pub(super) async fn put(&self, path: &str, upload: Upload) -> anyhow::Result<Value> {
        let mut headers = of_type("application/wasm");
        if let Some(signature) = &upload.signature {
            headers.insert(SIGNATURE, HeaderValue::try_from(signature)?);
        }
        let answer = self.send(Method::PUT, path, headers, upload.component);
        self.success(answer.await?)
    }

    /// The body of a success; for anything else, the node's own words and what to do.
    pub(super) fn success(&self, answer: Answer) -> anyhow::Result<Value> {
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        let message = answer.body["error"]["message"].as_str().map(printable);
        let Some(message) = message else {
            bail!("{} answered {}", self.base, answer.status);
        };
        match (answer.status, &self.token_file) {
            (StatusCode::UNAUTHORIZED, None) => bail!(
                "the node at {} asks for a token: give --token-file FILE (or set WEIR_TOKEN_FILE), the file that [admin] token_file names",
                self.base
            ),
            (StatusCode::UNAUTHORIZED, Some(file)) => bail!(
                "the node at {} refused the token in {}: is it the one that [admin] token_file names, as it was when the node started?",
                self.base,
                file.display()
            ),
            (StatusCode::FORBIDDEN, _) => bail!(
                "the node at {} refused: {message} (or give --admin with 127.0.0.1)",
                self.base
            ),
            _ => bail!("{message}"),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .body(Full::new(body))?;
        *request.headers_mut() = headers;
        if let Some(token) = &self.token {
            let headers = request.headers_mut();
            headers.insert(header::AUTHORIZATION, token.clone());
        }
        tokio::time::timeout(TIMEOUT, self.exchange(request))
            .await
            .map_err(|_| {
                anyhow!(
                    "the node at {} did not answer within {} s",
                    self.base,
                    TIMEOUT.as_secs()
                )
            })?
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| self.unreachable(error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| anyhow!("the answer of {} broke off: {error}", self.base))?
            .to_bytes();
        let body = serde_json::from_slice(&body).map_err(|_| {
            anyhow!(
                "{} answered {status}, but not as an admin API does: --admin must name the address of [admin] listen, not one that serves clients",
                self.base
            )
        })?;
        Ok(Answer { status, body })
    }

    fn unreachable(&self, error: legacy::Error) -> anyhow::Error {
        if !error.is_connect() {
            return anyhow::Error::new(error)
                .context(format!("the exchange with {} broke off", self.base));
        }
        let error = anyhow::Error::new(error);
        let cause = error.root_cause().to_string();
        let refused = error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        let advice = if refused {
            "is the node running, and does its configuration set [admin] listen to this address?"
        } else {
            "is the address right? --admin URL or WEIR_ADMIN names another"
        };
        anyhow!(
            "cannot reach the admin API at {}: {cause}; {advice}",
            self.base
        )
    }
}

fn of_type(kind: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))])
}

/// The answer as the type it should have.
pub(super) fn typed<T: DeserializeOwned>(answer: &Value) -> anyhow::Result<T> {
    T::deserialize(answer).context(
        "the node's answer has another form than this weir knows: are both of the same version?",
    )
}

/// The path of one policy: `/v1/policies/NAME`.
pub(super) fn policy_path(name: &str) -> String {
    format!("/v1/policies/{}", utf8_percent_encode(name, SEGMENT))
}

fn base(admin: &str) -> anyhow::Result<String> {
    let text = admin.trim_end_matches('/');
    let text = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let uri: Uri = text
        .parse()
        .with_context(|| format!("--admin {admin} is not a URL; write http://HOST:PORT"))?;
    if uri.scheme_str() == Some("https") {
        bail!(
            "--admin {admin}: the admin API speaks http only; reach it through a tunnel (ssh -L 9900:127.0.0.1:9900 HOST)"
        );
    }
    if uri.scheme_str() != Some("http") || uri.query().is_some() {
        bail!("--admin {admin} must be of the form http://HOST:PORT");
    }
    Ok(text)
}

fn read_token(file: &PathBuf) -> anyhow::Result<HeaderValue> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read the token file {}", file.display()))?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!(
            "the token file {} must hold one line of visible ASCII without spaces",
            file.display()
        );
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
    value.set_sensitive(true);
    Ok(value)
}
