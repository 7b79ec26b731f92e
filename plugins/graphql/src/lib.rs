//! A policy for GraphQL, and for whatever else asks its question in the content of a request.
//! The README beside this crate says what it needs from clients.

use serde::Deserialize;
use weir_sdk::prelude::*;

/// The `config` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The request header field by which a client says what its POST is.
    pub operation_header: String,
    /// Header fields that tell users apart.
    pub user_headers: Vec<String>,
    /// Cookies that tell users apart.
    pub user_cookies: Vec<String>,
    /// How long a 200 is kept that has no lifetime of its own; absent: not at all.
    pub lifetime: Option<Span>,
    /// How long after its lifetime it may be served while it is fetched anew.
    pub stale_while_revalidate: Option<Span>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            operation_header: "x-graphql-operation".to_owned(),
            user_headers: Vec::new(),
            user_cookies: Vec::new(),
            lifetime: None,
            stale_while_revalidate: None,
        }
    }
}

/// The policy.
#[derive(Debug)]
pub struct GraphQl {
    config: Config,
}

impl Policy for GraphQl {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, String> {
        if config.operation_header.is_empty() {
            return Err("operation_header is empty: name a header field".to_owned());
        }
        Ok(Self { config })
    }

    // The content is named and not read: one decision for all queries.
    fn on_request(&self, request: &Request) -> Result<Decision, String> {
        let reads = match request.method().as_str() {
            "GET" | "HEAD" | "QUERY" => true,
            "POST" => {
                let header = &self.config.operation_header;
                request.header_one_of(header, &["query"]).is_some()
            }
            _ => false,
        };
        if !reads {
            return Ok(Pass::new("mutation").into());
        }
        let users = self.config.user_headers.iter().map(header);
        let users = users.chain(self.config.user_cookies.iter().map(cookie));
        Ok(Lookup::new("graphql")
            .key(path())
            .key(query())
            .keys(users)
            .key(body_digest())
            .tag([text("graphql")])
            .into())
    }

    fn on_response(&self, _: &Request, response: &Response) -> Result<(), String> {
        // The origin's word holds where it has one. Against `no-store` this does nothing, and
        // against what protects users only where the route says so.
        if response.status() == 200
            && response.refusal().is_some()
            && let Some(lifetime) = self.config.lifetime
        {
            response.set_lifetime(lifetime.into());
        }
        if let Some(window) = self.config.stale_while_revalidate {
            response.set_stale_while_revalidate(window.into());
        }
        Ok(())
    }

    fn on_event(&self, event: &Event) -> Result<Vec<Selector>, String> {
        Ok(match event.kind() {
            "graphql.changed" => vec![Selector::tag("graphql")],
            _ => Vec::new(),
        })
    }
}

weir_sdk::export!(GraphQl);

#[cfg(test)]
mod tests;
