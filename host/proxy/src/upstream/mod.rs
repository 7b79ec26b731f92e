//! Origin servers: pooled HTTP/1.1 connections, timeouts at each step, and the choice
//! of a server.

mod body;
mod connect;
mod dial;
mod error;
mod request_body;
mod reuse;
mod servers;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{Either, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};

pub use self::body::OriginBody;
use self::connect::Connector;
pub use self::connect::system_authorities;
pub(crate) use self::connect::{authorities_in, versions};
pub use self::dial::Dialer;
pub use self::error::{UpstreamError, UpstreamErrorKind};
use self::request_body::{ClientBody, GoAhead, Progress};
use self::servers::Servers;
use crate::interim::{Interim, is_expecting};
use crate::settings::UpstreamSettings;
use crate::upload::Upload;

/// The body of a request to an origin: at hand (most are empty), or what the client sends.
type RequestBody = Either<Full<Bytes>, ClientBody>;

/// A request on its way to an origin, without the server's address.
#[derive(Debug)]
pub struct OriginRequest {
    /// The method.
    pub method: Method,
    /// Path and query, sent in origin form.
    pub target: PathAndQuery,
    /// End-to-end header fields, Host included.
    pub headers: HeaderMap,
    /// The content, where it is at hand: what [`Upstream::fetch`] sends.
    pub content: Bytes,
}

/// A named group of servers with its connection pool. Outlives generations.
#[derive(Debug)]
pub struct Upstream {
    settings: UpstreamSettings,
    servers: Servers,
    client: Client<Connector, RequestBody>,
}

impl Upstream {
    /// Builds the pool; connects to nothing yet.
    ///
    /// # Errors
    /// Names the server whose address is not `host:port`, or what is wrong with TLS.
    pub fn new(settings: UpstreamSettings) -> Result<Arc<Self>, UpstreamError> {
        let servers = settings
            .servers
            .iter()
            .map(|server| {
                server.parse::<Authority>().map_err(|error| {
                    UpstreamError::new(
                        UpstreamErrorKind::Configuration,
                        format!("server {server:?} of upstream {:?}: {error}", settings.name),
                    )
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let connector = Connector::new(&settings).map_err(|reason| {
            UpstreamError::new(
                UpstreamErrorKind::Configuration,
                format!("upstream {:?}: {reason}", settings.name),
            )
        })?;
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(settings.idle_timeout)
            .pool_max_idle_per_host(settings.max_idle)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http1_max_headers(256)
            .build(connector);
        Ok(Arc::new(Self {
            servers: Servers::new(servers),
            settings,
            client,
        }))
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The settings it was built from, so that a reload can keep what did not change.
    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// Sends a request whose content, if any, is at hand. A server that refuses the connection is set
    /// aside, and the next one tried, as often as `retries` allows. One that closes a connection
    /// which has answered before is asked again by another one.
    ///
    /// # Errors
    /// What the last server tried answered, see [`UpstreamErrorKind`].
    pub async fn fetch(
        &self,
        request: &OriginRequest,
        interim: &Interim,
    ) -> Result<Response<OriginBody>, UpstreamError> {
        let (mut attempt, mut closed) = (0, 0);
        loop {
            let progress = Progress::new();
            let result = self
                .send_once(
                    request,
                    Either::Left(Full::new(request.content.clone())),
                    &progress,
                    interim,
                    None,
                )
                .await;
            match result {
                Err(error) if error.is_connect() && attempt < self.settings.retries => attempt += 1,
                // Each try uses one up, so it ends with a new connection.
                Err(error)
                    if error.was_closed
                        && request.method.is_idempotent()
                        && closed < self.settings.max_idle =>
                {
                    closed += 1;
                }
                result => return result,
            }
        }
    }

    /// Sends a request with the client's body, once: the body cannot be sent again.
    ///
    /// # Errors
    /// See [`UpstreamErrorKind`].
    pub async fn forward(
        &self,
        request: &OriginRequest,
        body: Upload,
        interim: &Interim,
    ) -> Result<Response<OriginBody>, UpstreamError> {
        let progress = Progress::new();
        // RFC 9110 section 10.1.1: the client sends its body when the origin wants it.
        let go_ahead = is_expecting(&request.headers).then(|| Arc::new(GoAhead::default()));
        let body = ClientBody::new(body, progress.clone(), go_ahead.clone());
        self.send_once(request, Either::Right(body), &progress, interim, go_ahead)
            .await
    }

    async fn send_once(
        &self,
        request: &OriginRequest,
        body: RequestBody,
        progress: &Progress,
        interim: &Interim,
        go_ahead: Option<Arc<GoAhead>>,
    ) -> Result<Response<OriginBody>, UpstreamError> {
        let server = self.servers.choose();
        let scheme = match self.settings.tls {
            Some(_) => Scheme::HTTPS,
            None => Scheme::HTTP,
        };
        let mut outgoing = build(scheme, server.authority(), request, body).map_err(|error| {
            UpstreamError::new(UpstreamErrorKind::Configuration, error.to_string())
        })?;
        if let Either::Right(_) = outgoing.body()
            && !outgoing.headers().contains_key(CONTENT_LENGTH)
        {
            // Said outright: hyper takes a GET without it for one that has no body.
            let chunked = HeaderValue::from_static("chunked");
            outgoing.headers_mut().insert(TRANSFER_ENCODING, chunked);
        }
        if interim.is_wanted() || go_ahead.is_some() {
            let interim = interim.clone();
            hyper::ext::on_informational(&mut outgoing, move |response| {
                if let Some(go_ahead) = &go_ahead
                    && response.status() == StatusCode::CONTINUE
                {
                    go_ahead.give();
                }
                interim.forward(response.status(), response.headers());
            });
        }
        let sent = tokio::select! {
            sent = self.client.request(outgoing) => Some(sent),
            () = idle_for(self.settings.response_timeout, progress) => None,
        };
        match sent {
            None => Err(UpstreamError::new(
                UpstreamErrorKind::ResponseTimeout,
                format!(
                    "{} sent no response header within {:?}",
                    server.authority(),
                    self.settings.response_timeout
                ),
            )),
            Some(Err(error)) => {
                let error = UpstreamError::from_client(server.authority(), &error);
                if error.is_connect() {
                    server.failed();
                }
                Err(error)
            }
            // A 101 that nobody asked for: the connection speaks who knows what.
            Some(Ok(response))
                if response.status() == StatusCode::SWITCHING_PROTOCOLS
                    && !request.headers.contains_key(UPGRADE) =>
            {
                Err(UpstreamError::new(
                    UpstreamErrorKind::Broken,
                    format!(
                        "{} switched protocols (101) without being asked",
                        server.authority()
                    ),
                ))
            }
            Some(Ok(response)) => {
                server.answered();
                reuse::answered(response.extensions());
                Ok(response.map(|body| OriginBody::new(body, self.settings.body_timeout)))
            }
        }
    }
}

/// Completes when the request has not moved for so long: a client that sends a large body
/// over a slow line is not an origin that does not answer.
async fn idle_for(timeout: Duration, progress: &Progress) {
    while let Some(left) = timeout.checked_sub(progress.idle()) {
        // A little later, since the clock counts whole milliseconds.
        tokio::time::sleep(left + Duration::from_millis(1)).await;
    }
}

fn build(
    scheme: Scheme,
    server: &Authority,
    request: &OriginRequest,
    body: RequestBody,
) -> Result<Request<RequestBody>, http::Error> {
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(server.clone())
        .path_and_query(request.target.clone())
        .build()?;
    let mut outgoing = Request::new(body);
    *outgoing.method_mut() = request.method.clone();
    *outgoing.uri_mut() = uri;
    *outgoing.version_mut() = Version::HTTP_11;
    *outgoing.headers_mut() = request.headers.clone();
    Ok(outgoing)
}
