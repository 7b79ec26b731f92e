//! The reference policy of the charity management system (ADR-003): every key, lifetime,
//! limit and event of the decision record. The table is in the README beside this crate.

mod config;
mod events;
mod jwt;
mod limits;
mod media;
mod mutations;
mod notifications;
mod resource;
mod sessions;

use std::time::Duration;

use weir_sdk::prelude::*;

pub use config::Config;
use resource::{Collection, Resource};

/// How long nodes remember that an answer is not stored.
const NOT_STORED_FOR: Duration = Duration::from_secs(10);

/// The policy.
#[derive(Debug)]
pub struct Charity {
    config: Config,
}

impl Policy for Charity {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, String> {
        config.check()?;
        Ok(Self { config })
    }

    fn on_request(&self, request: &Request) -> Result<Decision, String> {
        // The path first, by globs: a decision about a path that the policy doesn't know
        // depends on nothing else.
        if let Some(resource) = Resource::of(request) {
            if resource == Resource::Session
                && let Some(token) = resource.identity(request)
                && let Some(decision) = sessions::refused(request, &token)
            {
                return Ok(decision);
            }
            return Ok(match request.method().as_str() {
                "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" => {
                    resource.lookup(request).map_or_else(unknown, Into::into)
                }
                _ => Pass::new("method").into(),
            });
        }
        if let Some(collection) = Collection::of(request) {
            return Ok(Pass::new("collection").note(collection.note()).into());
        }
        if limits::is_login(request) {
            return Ok(limits::login(&self.config, request));
        }
        if sessions::is_refresh(request) {
            return Ok(sessions::refresh(request));
        }
        if notifications::is_theirs(request) {
            return Ok(notifications::take(request).into());
        }
        Ok(unknown())
    }

    fn on_response(&self, request: &Request, response: &Response) -> Result<(), String> {
        let note = response.note();
        if note == sessions::ISSUES {
            if response.is_success() {
                sessions::exchanged(request, response);
            }
            return Ok(());
        }
        if let Some(collection) = Collection::from_note(&note) {
            if response.is_success() && !request.is_safe() {
                response.invalidate(collection.dependants());
            }
            return Ok(());
        }
        let Some(resource) = Resource::from_note(&note) else {
            return Ok(());
        };
        if request.is_safe() {
            self.adjust(resource, response);
        } else if response.is_success() {
            self.changed(resource, request, response)?;
        }
        Ok(())
    }

    fn on_event(&self, event: &Event) -> Result<Vec<Selector>, String> {
        events::selectors(&self.config, event)
    }
}

impl Charity {
    /// Lifetimes and tiers of what a GET of `resource` answered.
    fn adjust(&self, resource: Resource, response: &Response) {
        if response.status() != 200 {
            return;
        }
        if resource == Resource::Session {
            match jwt::expiry(response) {
                Some(expiry) => response.set_expiry(expiry),
                None => response.do_not_store(NOT_STORED_FOR),
            };
            if let Some(user) = jwt::subject(response) {
                response.tag(&format!("user:{user}"));
            }
            return;
        }
        let config = &self.config;
        response.set_lifetime(resource.lifetime(config));
        if let Some(memory) = resource.memory_lifetime(config) {
            response.set_memory_lifetime(memory);
        }
        if resource.survives_errors() {
            response.set_stale_if_error(config.stale_if_error.into());
        }
    }

    /// What a change of `resource` that succeeded invalidates, and what of its answer is kept.
    fn changed(
        &self,
        resource: Resource,
        request: &Request,
        response: &Response,
    ) -> Result<(), String> {
        let id = resource
            .identity(request)
            .ok_or("the request changed an object that its path does not name")?;
        if resource == Resource::Session && request.method() == "DELETE" {
            sessions::revoke(&id)?;
        }
        response.invalidate(mutations::selectors(resource, &id));
        let whole = request.method() == "PUT" && response.status() == 200;
        if self.config.write_through
            && whole
            && resource.is_written_through()
            && media::is_json(response)
        {
            self.adjust(resource, response);
            response.write_through();
        }
        Ok(())
    }
}

fn unknown() -> Decision {
    Pass::new("unknown path").into()
}

weir_sdk::export!(Charity);

#[cfg(test)]
mod tests;
