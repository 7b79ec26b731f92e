//! The charity management system's API, as the reference policy knows it.

use crate::guests::guests;
use crate::origin::{Origin, Reply};
use crate::weir::Config;

/// A node that has the policy on every path it decides about. On a busy machine 20 ms pass
/// without the policy: a call that was stopped would let a login through.
pub fn config(origin: &Origin) -> Config {
    Config::new(
        r#"
[upstreams.api]
servers = ["{origin}"]

[policies.charity]
component = "{charity}"
namespaces = ["user", "help", "donation", "metrics", "config", "session", "ratelimit"]
grants = ["kv", "rate-limit", "clock"]
cpu_limit = "2s"

[[routes]]
path = "/users/{id}"
upstream = "api"
policy = "charity"

[[routes]]
path = "/users/{id}/permissions"
upstream = "api"
policy = "charity"

[[routes]]
path = "/{*rest}"
upstream = "api"
policy = "charity"
"#,
    )
    .set("origin", origin.url())
    .file("charity", &guests().charity())
}

/// The same, with these settings of the policy: `login_limit = 5`.
pub fn config_with(origin: &Origin, settings: &str) -> Config {
    let grants = "grants = [\"kv\", \"rate-limit\", \"clock\"]\n";
    let with = format!("{grants}config = {{ {settings} }}\n");
    Config::whole(&config(origin).text().replace(grants, &with))
}

/// An API whose answers say nothing about caching: `TARGET vN`, unsafe methods too.
pub async fn origin() -> Origin {
    Origin::with(|call| Reply::page(call).header("content-type", "application/json")).await
}
