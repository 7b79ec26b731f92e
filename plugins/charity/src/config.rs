//! The policy's settings.

use std::time::Duration;

use serde::Deserialize;
use weir_sdk::Span;

/// The `config` table. Every lifetime is written with its unit, like `"5m"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What the record gives no lifetime of its own: daily donation statistics.
    pub default_ttl: Span,
    /// Profiles and permissions.
    pub user_ttl: Span,
    /// How long permissions stay in a node's memory.
    pub permissions_memory_ttl: Span,
    /// Single help requests.
    pub help_request_ttl: Span,
    /// The queue of active help requests.
    pub help_queue_ttl: Span,
    /// Daily donation statistics; absent: `default_ttl`.
    pub donation_stats_ttl: Option<Span>,
    /// Dashboards.
    pub dashboard_ttl: Span,
    /// System configuration.
    pub config_ttl: Span,
    /// How long system configuration stays in a node's memory.
    pub config_memory_ttl: Span,
    /// How long after its lifetime an object may be served when the origin fails; never
    /// permissions and sessions.
    pub stale_if_error: Span,
    /// Whether the answer to a PUT of a profile or of configuration is stored.
    pub write_through: bool,
    /// Logins allowed to one client address per `login_window`.
    pub login_limit: u32,
    /// See `login_limit`.
    pub login_window: Span,
    /// The most notifications that wait for one user; the oldest make room.
    pub notifications_kept: u32,
    /// How long they wait after the last one came.
    pub notifications_ttl: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default_ttl: Span::seconds(300),
            user_ttl: Span::seconds(3_600),
            permissions_memory_ttl: Span::seconds(30),
            help_request_ttl: Span::seconds(30),
            help_queue_ttl: Span::seconds(30),
            donation_stats_ttl: None,
            dashboard_ttl: Span::seconds(300),
            config_ttl: Span::seconds(24 * 3_600),
            config_memory_ttl: Span::seconds(60),
            stale_if_error: Span::seconds(300),
            write_through: true,
            login_limit: 10,
            login_window: Span::seconds(60),
            notifications_kept: 100,
            notifications_ttl: Span::seconds(7 * 24 * 3_600),
        }
    }
}

impl Config {
    /// Refuses what cannot be meant.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.login_limit == 0 {
            return Err(
                "login_limit is 0, which would refuse every login: it must be at least 1".into(),
            );
        }
        if self.login_window.0.is_zero() {
            return Err("login_window is zero: it must be at least \"1ms\"".into());
        }
        if !(1..=65_536).contains(&self.notifications_kept) {
            return Err("notifications_kept must be 1 to 65536".into());
        }
        let ttl = Duration::from(self.notifications_ttl);
        if ttl.is_zero() || ttl > Duration::from_secs(30 * 24 * 3_600) {
            return Err("notifications_ttl must be \"1ms\" to \"30d\"".into());
        }
        Ok(())
    }
}
