//! What domain events invalidate.

use weir_sdk::prelude::*;

use crate::config::Config;
use crate::mutations::{all_donation_stats, dashboards, help_request, object, queue, user};
use crate::resource::Resource;
use crate::{notifications, sessions};

/// The selectors of an event; none for one that the policy does not know. What an event
/// changes in `kv` comes first: when that fails, nothing is acknowledged, and the event is
/// sent again.
pub(crate) fn selectors(config: &Config, event: &Event) -> Result<Vec<Selector>, String> {
    Ok(match event.kind() {
        "user.updated" | "user.role_changed" => vec![user(&event.text("id")?)],
        "user.logged_out" => {
            let id = event.text("id")?;
            sessions::revoke_all(&id)?;
            vec![user(&id)]
        }
        "user.deleted" => {
            let id = event.text("id")?;
            sessions::revoke_all(&id)?;
            notifications::forget(&id)?;
            vec![user(&id), dashboards()]
        }
        "notification.created" => {
            notifications::push(config, event)?;
            Vec::new()
        }
        "help.created" => vec![queue(), dashboards()],
        "help.updated" => help_request(&event.text("id")?),
        // Of which day it is, only the origin knows, unless the event says.
        "donation.created" => vec![
            match event.text("date") {
                Ok(date) => object(Resource::DonationStats, &date),
                Err(_) => all_donation_stats(),
            },
            dashboards(),
        ],
        "config.updated" => vec![match event.text("id").or_else(|_| event.text("name")) {
            Ok(name) => object(Resource::Setting, &name),
            Err(_) => Selector::namespace("config"),
        }],
        "session.revoked" => {
            let id = event.text("id")?;
            sessions::revoke(&id)?;
            vec![object(Resource::Session, &id)]
        }
        _ => Vec::new(),
    })
}
