//! Limits on requests: `ratelimit:{endpoint}:{clientID}` of the record.

use weir_sdk::prelude::*;
use weir_sdk::rate_limit;

use crate::config::Config;
use crate::sessions;

/// Is it an attempt to log in?
pub(crate) fn is_login(request: &Request) -> bool {
    request.path_matches("/login") && request.method() == "POST"
}

/// Lets so many attempts of one client address through, and answers the others 429.
/// RFC 6585 section 4.
pub(crate) fn login(config: &Config, request: &Request) -> Decision {
    let verdict = rate_limit::check(
        "login",
        &request.client(),
        config.login_limit,
        config.login_window.into(),
    );
    if verdict.allowed {
        return Pass::new("login").note(sessions::ISSUES).into();
    }
    let seconds = verdict.retry_after_seconds();
    let message = format!("Too many logins from this address; try again in {seconds} s.");
    sessions::error(429, &message)
        .header("retry-after", seconds.to_string())
        .into()
}
