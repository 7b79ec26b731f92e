//! What a change of an object makes wrong.

use weir_sdk::prelude::*;

use crate::resource::Resource;

/// The queue of active help requests.
pub(crate) fn queue() -> Selector {
    Selector::key("help", [text("queue"), text("active")])
}

/// The donation statistics of every day.
pub(crate) fn all_donation_stats() -> Selector {
    Selector::prefix("donation", "stats:daily:")
}

/// Every role's dashboard.
pub(crate) fn dashboards() -> Selector {
    Selector::tag("dashboards")
}

/// All that is kept of one user: profile, permissions, sessions.
pub(crate) fn user(id: &str) -> Selector {
    Selector::tag(format!("user:{id}"))
}

/// The object of a resource under its key.
pub(crate) fn object(resource: Resource, id: &str) -> Selector {
    let (namespace, fixed) = resource.key();
    let parts = fixed.iter().map(|part| text(*part)).chain([text(id)]);
    Selector::key(namespace, parts)
}

/// One help request, and what is made of all of them.
pub(crate) fn help_request(id: &str) -> Vec<Selector> {
    vec![Selector::tag(format!("help:{id}")), queue(), dashboards()]
}

/// What a successful change of `resource` makes wrong; `id` as in its path, empty where
/// there is none.
pub(crate) fn selectors(resource: Resource, id: &str) -> Vec<Selector> {
    match resource {
        Resource::Profile => vec![user(id), dashboards()],
        Resource::Permissions => vec![user(id)],
        Resource::HelpQueue => vec![queue(), dashboards()],
        Resource::HelpRequest => help_request(id),
        Resource::DonationStats => vec![object(resource, id), dashboards()],
        Resource::Dashboard => vec![dashboards()],
        Resource::Setting | Resource::Session => vec![object(resource, id)],
    }
}
