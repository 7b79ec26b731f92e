//! What domain events invalidate.

use weir_sdk::prelude::*;

use crate::mutations::{all_donation_stats, dashboards, help_request, object, queue, user};
use crate::resource::Resource;

/// The selectors of an event; none for one that the policy does not know.
pub(crate) fn selectors(event: &Event) -> Result<Vec<Selector>, String> {
    Ok(match event.kind() {
        "user.updated" | "user.role_changed" => vec![user(&event.text("id")?)],
        "user.deleted" => vec![user(&event.text("id")?), dashboards()],
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
        "session.revoked" => vec![object(Resource::Session, &event.text("id")?)],
        _ => Vec::new(),
    })
}
