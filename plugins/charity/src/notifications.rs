//! Notifications: events put them into a queue for each user in `kv`, and the user takes
//! them from the edge.

use serde_json::Value;
use weir_sdk::kv;
use weir_sdk::prelude::*;

use crate::config::Config;
use crate::sessions::{self, State};

/// The longest notification, in bytes of JSON.
const LONGEST: usize = 64 * 1_024;

/// What one answer holds: so many notifications, and no more begins beyond so many bytes.
const MOST: usize = 50;
const MOST_BYTES: usize = 256 * 1_024;

/// How many bytes of a user's name count.
const LONGEST_USER: usize = 256;

/// Is it about a user's notifications?
pub(crate) fn is_theirs(request: &Request) -> bool {
    request.path_matches("/users/*/notifications")
}

/// Hands out what waits for the user whose session it is.
pub(crate) fn take(request: &Request) -> Reply {
    // Not HEAD either: what is taken is gone.
    if request.method() != "GET" {
        return sessions::error(405, "Notifications are taken by GET.").header("allow", "GET");
    }
    let Some(token) = sessions::presented(request) else {
        return sessions::unauthorized("Notifications need the token of a session.");
    };
    let user = match sessions::state(&token) {
        Err(_) => return sessions::unavailable(),
        Ok(State::Active {
            user: Some(user),
            genuine: true,
        }) => user,
        Ok(_) => return sessions::unauthorized("The session is not known, or was ended."),
    };
    if whose(request).as_deref() != Some(user.as_str()) {
        return sessions::error(403, "These are another user's notifications.");
    }
    answer(&user)
}

fn whose(request: &Request) -> Option<String> {
    if let Some(value) = request.param("id") {
        return String::from_utf8(value).ok();
    }
    let path = request.path();
    let segment = path
        .strip_prefix("/users/")?
        .strip_suffix("/notifications")?;
    let decoded = percent_encoding::percent_decode_str(segment).decode_utf8();
    decoded.ok().map(String::from)
}

fn answer(user: &str) -> Reply {
    let mut taken: Vec<String> = Vec::new();
    let mut bytes = 0;
    while taken.len() < MOST && bytes < MOST_BYTES {
        match kv::open("user").queue_pop(&key(user)) {
            Ok(Some(notification)) => {
                bytes += notification.len();
                taken.push(String::from_utf8_lossy(&notification).into_owned());
            }
            Ok(None) => break,
            Err(_) if taken.is_empty() => return sessions::unavailable(),
            // What was taken must be handed out.
            Err(_) => break,
        }
    }
    let reply = Reply::new(if taken.is_empty() { 204 } else { 200 });
    let reply = reply.header("cache-control", "no-store");
    if taken.is_empty() {
        return reply;
    }
    // Each was written as JSON by `push`.
    reply
        .header("content-type", "application/json")
        .body(format!("{{\"notifications\":[{}]}}\n", taken.join(",")))
}

/// Puts the notification of an event into its user's queue.
pub(crate) fn push(config: &Config, event: &Event) -> Result<(), String> {
    let user = event.text("id")?;
    let data: Value = event.data()?;
    let notification = data
        .get("notification")
        .ok_or("the event notification.created needs \"notification\" in its data")?
        .to_string();
    if notification.len() > LONGEST || user.len() > LONGEST_USER {
        return Err(format!(
            "the notification has {} bytes and its user's id {}: at most {LONGEST} and {LONGEST_USER} are kept",
            notification.len(),
            user.len()
        ));
    }
    kv::open("user").queue_push(
        &key(&user),
        notification.as_bytes(),
        config.notifications_kept,
        config.notifications_ttl.into(),
    )?;
    Ok(())
}

/// Drops what waits for a user.
pub(crate) fn forget(user: &str) -> Result<(), kv::Error> {
    kv::open("user").delete(&key(user)).map(drop)
}

fn key(user: &str) -> String {
    format!("notifications:{user}")
}
