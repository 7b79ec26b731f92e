//! What a path names, by the decision record's key table.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use weir_sdk::prelude::*;

use crate::config::Config;
use crate::mutations::{all_donation_stats, dashboards, queue};

/// An object of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// `/users/{id}`
    Profile,
    /// `/users/{id}/permissions`
    Permissions,
    /// `/help/queue`
    HelpQueue,
    /// `/help/requests/{id}`
    HelpRequest,
    /// `/donations/stats/daily/{date}`
    DonationStats,
    /// `/metrics/dashboard`
    Dashboard,
    /// `/config/{name}`
    Setting,
    /// `/sessions/{token}`
    Session,
}

/// The header field that holds the client's role, set by what authenticates in front.
pub(crate) const ROLE_HEADER: &str = "x-user-role";

/// The longest identifier taken from a path, in bytes: with what stands before it in a tag, it
/// stays within the 1,024 that the host takes.
const LONGEST_TEXT: usize = 1_000;

impl Resource {
    /// Hot ones first: the host walks the answers in this order.
    const ALL: [Self; 8] = [
        Self::Profile,
        Self::Permissions,
        Self::HelpQueue,
        Self::HelpRequest,
        Self::DonationStats,
        Self::Dashboard,
        Self::Setting,
        Self::Session,
    ];

    /// What the request's path names. Only the globs' answers are recorded.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|resource| request.path_matches(resource.glob()))
    }

    fn glob(self) -> &'static str {
        match self {
            Self::Profile => "/users/*",
            Self::Permissions => "/users/*/permissions",
            Self::HelpQueue => "/help/queue",
            Self::HelpRequest => "/help/requests/*",
            Self::DonationStats => "/donations/stats/daily/*",
            Self::Dashboard => "/metrics/dashboard",
            Self::Setting => "/config/*",
            Self::Session => "/sessions/*",
        }
    }

    /// What stands around the identifier in the path; `None` when there is none in it.
    fn around(self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::Profile => ("/users/", ""),
            Self::Permissions => ("/users/", "/permissions"),
            Self::HelpRequest => ("/help/requests/", ""),
            Self::DonationStats => ("/donations/stats/daily/", ""),
            Self::Setting => ("/config/", ""),
            Self::Session => ("/sessions/", ""),
            Self::HelpQueue | Self::Dashboard => return None,
        })
    }

    /// The route parameter that holds the identifier.
    fn param(self) -> Option<&'static str> {
        Some(match self {
            Self::Profile | Self::Permissions | Self::HelpRequest => "id",
            Self::DonationStats => "date",
            Self::Setting => "name",
            Self::Session => "token",
            Self::HelpQueue | Self::Dashboard => return None,
        })
    }

    /// The namespace and the key's parts before the identifier.
    pub(crate) fn key(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Profile => ("user", &["profile"]),
            Self::Permissions => ("user", &["permissions"]),
            Self::HelpQueue => ("help", &["queue", "active"]),
            Self::HelpRequest => ("help", &["request"]),
            Self::DonationStats => ("donation", &["stats", "daily"]),
            Self::Dashboard => ("metrics", &["dashboard"]),
            Self::Setting => ("config", &[]),
            Self::Session => ("session", &["refresh"]),
        }
    }

    /// The tag before the identifier.
    fn tag(self) -> Option<&'static str> {
        match self {
            Self::Profile | Self::Permissions => Some("user:"),
            Self::HelpRequest => Some("help:"),
            _ => None,
        }
    }

    /// The decision about a request for this; `None` when the path holds no identifier that
    /// could be one.
    pub(crate) fn lookup(self, request: &Request) -> Option<Lookup> {
        let (namespace, fixed) = self.key();
        let mut lookup = Lookup::new(namespace)
            .keys(fixed.iter().map(|part| text(*part)))
            .note(self.note());
        match self {
            Self::Dashboard => {
                lookup = lookup.key(role(request)).tag([text("dashboards")]);
            }
            Self::HelpQueue => {}
            _ => {
                let id = self.part(request)?;
                if let Some(tag) = self.tag() {
                    lookup = lookup.tag([text(tag), id.clone()]);
                }
                lookup = lookup.key(id);
            }
        }
        Some(lookup)
    }

    /// The identifier as a part of the key: named where the route has the parameter, else
    /// taken from the path.
    fn part(self, request: &Request) -> Option<Part> {
        let name = self.param()?;
        if request.has_param(name) {
            return Some(param(name));
        }
        self.segment(&request.path()).map(text)
    }

    /// The identifier's text, for selectors. Read, not named: not for `on_request`.
    pub(crate) fn identity(self, request: &Request) -> Option<String> {
        let Some(name) = self.param() else {
            return Some(String::new());
        };
        match request.param(name) {
            Some(value) => String::from_utf8(value).ok(),
            None => self.segment(&request.path()),
        }
    }

    /// The identifier in `path`, percent-decoded as a route parameter is, so that both ways
    /// lead to the same key.
    fn segment(self, path: &str) -> Option<String> {
        let (before, after) = self.around()?;
        let segment = path.strip_prefix(before)?.strip_suffix(after)?;
        let segment = percent_decode_str(segment).decode_utf8().ok()?;
        (1..=LONGEST_TEXT)
            .contains(&segment.len())
            .then(|| segment.into_owned())
    }

    /// What `on_response` is told of the request.
    fn note(self) -> Vec<u8> {
        self.glob().as_bytes().to_vec()
    }

    pub(crate) fn from_note(note: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|resource| resource.glob().as_bytes() == note)
    }

    /// How long an answer stays fresh. Sessions live until their token expires instead.
    pub(crate) fn lifetime(self, config: &Config) -> Duration {
        let span = match self {
            Self::Profile | Self::Permissions => config.user_ttl,
            Self::HelpQueue => config.help_queue_ttl,
            Self::HelpRequest => config.help_request_ttl,
            Self::DonationStats => config.donation_stats_ttl.unwrap_or(config.default_ttl),
            Self::Dashboard => config.dashboard_ttl,
            Self::Setting => config.config_ttl,
            Self::Session => return Duration::ZERO,
        };
        span.into()
    }

    /// The record's hybrid pattern: small hot data stays briefly in memory, long in Redis.
    pub(crate) fn memory_lifetime(self, config: &Config) -> Option<Duration> {
        match self {
            Self::Permissions => Some(config.permissions_memory_ttl.into()),
            Self::Setting => Some(config.config_memory_ttl.into()),
            _ => None,
        }
    }

    /// Rights must not outlive their lifetime, whatever fails.
    pub(crate) fn survives_errors(self) -> bool {
        !matches!(self, Self::Permissions | Self::Session)
    }

    /// Is the answer to a PUT what a GET would return?
    pub(crate) fn is_written_through(self) -> bool {
        matches!(self, Self::Profile | Self::Setting)
    }
}

fn role(request: &Request) -> Part {
    if request.header(ROLE_HEADER).is_empty() {
        text("anonymous")
    } else {
        header(ROLE_HEADER)
    }
}

/// A path that holds no object of the record, but whose changes matter to some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collection {
    /// `/help/requests`
    HelpRequests,
    /// `/donations`
    Donations,
    /// `/donations/{id}`
    Donation,
    /// `/users`
    Users,
}

impl Collection {
    const ALL: [Self; 4] = [
        Self::HelpRequests,
        Self::Donations,
        Self::Donation,
        Self::Users,
    ];

    pub(crate) fn of(request: &Request) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|collection| request.path_matches(collection.glob()))
    }

    fn glob(self) -> &'static str {
        match self {
            Self::HelpRequests => "/help/requests",
            Self::Donations => "/donations",
            Self::Donation => "/donations/*",
            Self::Users => "/users",
        }
    }

    pub(crate) fn note(self) -> Vec<u8> {
        self.glob().as_bytes().to_vec()
    }

    pub(crate) fn from_note(note: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|collection| collection.glob().as_bytes() == note)
    }

    /// What a change in the collection makes wrong.
    pub(crate) fn dependants(self) -> Vec<Selector> {
        match self {
            Self::HelpRequests => vec![queue(), dashboards()],
            Self::Donations | Self::Donation => vec![all_donation_stats(), dashboards()],
            Self::Users => vec![dashboards()],
        }
    }
}
