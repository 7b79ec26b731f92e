//! Upgrades to another protocol (RFC 9110 section 7.8), WebSocket above all: the request
//! is forwarded, and when the origin switches, so does the client's connection. Not a
//! byte that the client sent early reaches the origin before its 101.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use weir_semantics::{Fwd, strip_hop_by_hop};

use super::call::{Answer, Call};
use super::change::{self, Forward};
use super::decide::decide;
use super::plan::{Decided, Plan, PlanError};
use super::{failed, finish, forward, respond};
use crate::body::Body;
use crate::incoming::Incoming;
use crate::tunnels::{Open, Side, Tunnel, TunnelEnd};
use crate::upstream::OriginBody;

/// An upgrade that a client asks for.
#[derive(Debug)]
pub(crate) struct Upgrade {
    /// The protocols, as the client wrote them.
    protocols: Vec<Box<str>>,
    client: OnUpgrade,
}

impl Upgrade {
    /// Takes what a client asks for out of a request, before its hop-by-hop fields go.
    /// Costs nothing where no connection can be upgraded: then hyper left no extension.
    pub(crate) fn asked(parts: &mut Parts) -> Option<Self> {
        let client = parts.extensions.remove::<OnUpgrade>()?;
        let named = members(&parts.headers, &CONNECTION);
        if !named
            .iter()
            .any(|name| name.eq_ignore_ascii_case("upgrade"))
        {
            return None;
        }
        let protocols = members(&parts.headers, &UPGRADE);
        Some(Self { protocols, client })
    }

    /// Leaves what the route allows; nothing if that is none. The request is then one
    /// like any other: a server may ignore an Upgrade.
    pub(crate) fn allowed(mut self, allowed: &[String]) -> Option<Self> {
        self.protocols.retain(|asked| {
            allowed
                .iter()
                .any(|known| known.eq_ignore_ascii_case(asked))
        });
        (!self.protocols.is_empty()).then_some(self)
    }

    /// Puts the fields back that concern this connection.
    pub(crate) fn restore(&self, headers: &mut HeaderMap) {
        if let Ok(protocols) = HeaderValue::from_str(&self.protocols.join(", ")) {
            headers.insert(UPGRADE, protocols);
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
    }

    /// The protocol that the origin switched to, if it is one of those asked for.
    fn agreed(&self, headers: &HeaderMap) -> Option<&str> {
        let chosen = members(headers, &UPGRADE);
        let [chosen] = chosen.as_slice() else {
            return None;
        };
        self.protocols
            .iter()
            .find(|asked| asked.eq_ignore_ascii_case(chosen))
            .map(|asked| &**asked)
    }
}

/// The members of a list field, over all its lines.
fn members(headers: &HeaderMap, name: &http::HeaderName) -> Vec<Box<str>> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|line| std::str::from_utf8(line.as_bytes()).ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|member| !member.is_empty())
        .map(Box::from)
        .collect()
}

/// A request that asks for an upgrade: decided like any other, never looked up.
pub(super) async fn upgrade(call: Call, upgrade: Upgrade, body: Incoming) -> Response<Body> {
    let decided = decide(&call.node, &call.route, &call.head, call.now, None).await;
    let by = decided.by().cloned();
    let answer = match decided {
        Decided::Respond(reply, decider) => respond(&reply, decider.label()),
        Decided::Failed(error) => failed(&error),
        Decided::Pass {
            reason,
            note,
            decider,
        } => {
            let details = Forward {
                reason: reason.into(),
                note,
                decider,
                upgrade: Some(upgrade),
                retrieves: false,
            };
            change::forward(&call, None, body.into(), details).await
        }
        Decided::Plain => planned(&call, Plan::plain(&call.route, &call.head), upgrade, body).await,
        Decided::Lookup(lookup, decider) => {
            let plan = Plan::of_policy(&call.route, &call.head, &lookup, decider);
            planned(&call, plan, upgrade, body).await
        }
    };
    let by = by.as_ref();
    let mut response = finish(
        &call.node,
        &call.route,
        &call.head,
        call.started,
        answer,
        by,
    );
    // Here and not earlier: this future is dropped with the client's connection, and then
    // there is nobody to join.
    if let Some(switch) = response.extensions_mut().remove::<Switch>() {
        tokio::spawn(switch.run(call.route.settings.upgrade_idle_timeout));
    }
    response
}

async fn planned(
    call: &Call,
    plan: Result<Plan, PlanError>,
    upgrade: Upgrade,
    body: Incoming,
) -> Answer {
    let plan = plan
        .inspect_err(|error| {
            tracing::warn!(route = %call.route.label, %error, "an upgrade goes without its plan");
        })
        .ok();
    let details = Forward {
        reason: "upgrade".into(),
        note: plan
            .as_ref()
            .map_or_else(Bytes::new, |plan| plan.note.clone()),
        decider: plan.as_ref().and_then(|plan| plan.decider.clone()),
        upgrade: Some(upgrade),
        retrieves: false,
    };
    change::forward(call, plan, body.into(), details).await
}

/// The answer to an origin's 101. The client hears of it only if it asked for just that.
pub(super) fn switched(
    call: &Call,
    fwd: Fwd,
    details: &Forward,
    mut response: Response<OriginBody>,
) -> Answer {
    let agreed = details.upgrade.as_ref().and_then(|upgrade| {
        let protocol = upgrade.agreed(response.headers())?.to_ascii_lowercase();
        Some((upgrade.client.clone(), protocol))
    });
    let Some((client, protocol)) = agreed else {
        tracing::warn!(
            upstream = call.route.upstream.name(), route = %call.route.label,
            "the origin switched to a protocol that nobody asked for"
        );
        return forward::origin_error(
            StatusCode::BAD_GATEWAY,
            fwd,
            "upgrade-mismatch",
            "the origin switched to a protocol that was not asked for",
        );
    };
    let origin = hyper::upgrade::on(&mut response);
    let chosen = response.headers().get(UPGRADE).cloned();
    let headers = response.headers_mut();
    strip_hop_by_hop(headers);
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.extend(chosen.map(|chosen| (UPGRADE, chosen)));
    let open = call.node.tunnels().enter(
        &call.route.label,
        &protocol,
        call.head.client,
        call.route.upstream.name(),
        call.node.clock().now(),
    );
    let mut answer = forward::relay(
        call,
        response,
        fwd,
        &details.reason,
        details.decider.as_ref(),
    );
    *answer.response.body_mut() = Body::empty();
    answer.response.extensions_mut().insert(Switch {
        open: Arc::new(open),
        client,
        origin,
    });
    answer
}

/// Both connections, ready to be joined. Travels with the response, so that nothing is
/// joined for a client that does not get it.
#[derive(Debug, Clone)]
struct Switch {
    open: Arc<Open>,
    client: OnUpgrade,
    origin: OnUpgrade,
}

impl Switch {
    /// Copies both ways until both have ended, or something ends it.
    async fn run(self, idle_timeout: Duration) {
        let Self {
            open,
            client,
            origin,
        } = self;
        let tunnel = Arc::clone(&open.tunnel);
        let end = tokio::select! {
            end = copy(&tunnel, client, origin) => end,
            () = tunnel.idle_for(idle_timeout) => TunnelEnd::Idle,
            end = tunnel.cut_off() => end,
        };
        if let Some(mut open) = Arc::into_inner(open) {
            open.end = end;
        }
    }
}

async fn copy(tunnel: &Tunnel, client: OnUpgrade, origin: OnUpgrade) -> TunnelEnd {
    let (client, origin) = match tokio::try_join!(client, origin) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(route = %tunnel.route, %error, "not switched");
            return TunnelEnd::Unswitched;
        }
    };
    let watched = |io, side| Watched {
        io: TokioIo::new(io),
        side,
        tunnel,
    };
    let mut client = watched(client, Side::Client);
    let mut origin = watched(origin, Side::Origin);
    // Holds 8 KiB each way and reads no more before that is written; passes a half-close on.
    match copy_bidirectional(&mut client, &mut origin).await {
        Ok(_) => TunnelEnd::Closed,
        Err(error) => {
            let end = tunnel.failure();
            tracing::debug!(route = %tunnel.route, %error, reason = end.as_str(), "broken off");
            end
        }
    }
}

/// One side's connection, which tells the tunnel what passes and what fails.
struct Watched<'a, T> {
    io: T,
    side: Side,
    tunnel: &'a Tunnel,
}

impl<T> Watched<'_, T> {
    fn noted<R>(&self, polled: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        polled.map_err(|error| {
            self.tunnel.broke(self.side);
            error
        })
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if polled.is_ready() {
            self.tunnel.moved();
        }
        self.noted(polled)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<'_, T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = polled {
            self.tunnel.sent(self.side, bytes);
        }
        self.noted(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.noted(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.noted(polled)
    }
}
