//! A policy for static sites: hashed assets live long, query strings are normalised, and pages
//! may have variants by device and language. The README beside this crate has the table.

mod config;
mod file;
mod freshness;

use std::time::Duration;

use weir_sdk::prelude::*;

pub use config::{Config, Variant};
use file::File;
use freshness::Explicit;

/// How long an error answer that may be stored is kept at most.
const ERROR_LIFETIME: Duration = Duration::from_secs(10);

/// How long nodes remember that a failing origin's answer is not stored.
const NOT_STORED_FOR: Duration = Duration::from_secs(1);

/// The policy.
#[derive(Debug)]
pub struct StaticSite {
    config: Config,
    /// For what has no variants.
    file: Lookup,
    page: Lookup,
}

impl Policy for StaticSite {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, String> {
        config.check()?;
        let variant = |variant: &Variant| match variant {
            Variant::Device => device(),
            Variant::Language => language(&config.languages),
        };
        let query = query_without(&config.ignored_query);
        let file = Lookup::new("site")
            .key(path())
            .key(query.clone())
            // What no key contains must not reach the origin, which may read more out of it.
            .origin_target([path(), text("?"), query])
            .tag([text("site:path:"), path()]);
        let page = file.clone().keys(config.variants.iter().map(variant));
        Ok(Self { config, file, page })
    }

    // Path, query and variants are named, not read: whatever the size of the site, there are
    // two decisions to remember, one for files and one for pages.
    fn on_request(&self, request: &Request) -> Result<Decision, String> {
        if !matches!(request.method().as_str(), "GET" | "HEAD") {
            return Ok(Pass::new("method").into());
        }
        let has_variants = !self.config.variants.is_empty() && !request.path_matches(file::GLOB);
        let lookup = if has_variants { &self.page } else { &self.file };
        Ok(lookup.clone().into())
    }

    // What is read here is not recorded, so the path may be.
    fn on_response(&self, request: &Request, response: &Response) -> Result<(), String> {
        match response.status() {
            500.. => {
                response.do_not_store(NOT_STORED_FOR);
            }
            400.. => {
                if let Some(suggested) = response.suggested_lifetime() {
                    response.set_lifetime(suggested.min(ERROR_LIFETIME));
                }
            }
            200 if request.is_safe() => self.adjust(request, response),
            _ => {}
        }
        Ok(())
    }

    fn on_event(&self, event: &Event) -> Result<Vec<Selector>, String> {
        Ok(match event.kind() {
            // Hashed assets of the old site are still asked for by pages that are open.
            "site.deployed" => vec![
                Selector::tag("site:page").soft(),
                Selector::tag("site:static").soft(),
            ],
            "page.updated" => vec![Selector::tag(format!("site:path:{}", event.text("path")?))],
            _ => Vec::new(),
        })
    }
}

impl StaticSite {
    fn adjust(&self, request: &Request, response: &Response) {
        let config = &self.config;
        let explicit = Explicit::of(response);
        let file = File::of(&request.path());
        if file != File::Page && !file::fits(&request.path(), response) {
            // A page, and perhaps somebody's own, whatever the client wrote behind its path.
            if explicit == Explicit::None {
                response.do_not_store(NOT_STORED_FOR);
            }
            response.tag("site:page");
            return;
        }
        let (tag, lifetime) = match file {
            // The name changes with the content, so a longer life than the origin says is
            // right; but not against a wish that it be asked each time.
            File::Hashed if explicit != Explicit::Always => {
                ("site:asset", Some(config.asset_lifetime))
            }
            File::Hashed => ("site:asset", None),
            File::Static if explicit == Explicit::None => {
                ("site:static", Some(config.static_lifetime))
            }
            File::Static => ("site:static", None),
            File::Page if explicit == Explicit::None => {
                response.set_stale_while_revalidate(config.stale_while_revalidate.into());
                ("site:page", Some(config.page_lifetime))
            }
            File::Page => ("site:page", None),
        };
        response.tag(tag);
        if let Some(lifetime) = lifetime {
            response
                .set_lifetime(lifetime.into())
                .set_stale_if_error(config.stale_if_error.into());
        }
    }
}

weir_sdk::export!(StaticSite);

#[cfg(test)]
mod tests;
