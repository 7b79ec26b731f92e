//! The policy's settings.

use serde::Deserialize;
use weir_sdk::Span;

/// The `config` table. Every lifetime is written with its unit, like `"5m"`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What pages differ by, besides path and query.
    pub variants: Vec<Variant>,
    /// The site's languages, the one for everybody else first. Needed by the variant
    /// `language`.
    pub languages: Vec<String>,
    /// Files with a hash in their name.
    pub asset_lifetime: Span,
    /// Other files, when the origin says nothing.
    pub static_lifetime: Span,
    /// Everything else, when the origin says nothing.
    pub page_lifetime: Span,
    /// How long after its lifetime a page may be served while it is fetched anew.
    pub stale_while_revalidate: Span,
    /// How long after its lifetime anything may be served when the origin fails.
    pub stale_if_error: Span,
    /// Globs of query parameters that leave the content as it is.
    pub ignored_query: Vec<String>,
}

/// What pages differ by.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// The class of the client's device.
    Device,
    /// The best of the site's languages.
    Language,
}

/// Marks that advertising and mail services add to links.
const TRACKING: [&str; 17] = [
    "utm_*",
    "fbclid",
    "gclid",
    "gclsrc",
    "gbraid",
    "wbraid",
    "dclid",
    "msclkid",
    "mc_cid",
    "mc_eid",
    "igshid",
    "twclid",
    "ttclid",
    "yclid",
    "li_fat_id",
    "_ga",
    "_gl",
];

impl Default for Config {
    fn default() -> Self {
        const DAY: u64 = 24 * 3_600;
        Self {
            variants: Vec::new(),
            languages: Vec::new(),
            asset_lifetime: Span::seconds(365 * DAY),
            static_lifetime: Span::seconds(3_600),
            page_lifetime: Span::seconds(60),
            stale_while_revalidate: Span::seconds(300),
            stale_if_error: Span::seconds(DAY),
            ignored_query: TRACKING.map(str::to_owned).to_vec(),
        }
    }
}

impl Config {
    /// Refuses what cannot be meant.
    pub(crate) fn check(&self) -> Result<(), String> {
        let by_language = self.variants.contains(&Variant::Language);
        if by_language && self.languages.is_empty() {
            return Err(
                "variants has \"language\", but languages is empty: name the site's languages, \
                 like languages = [\"en\", \"de\"]"
                    .to_owned(),
            );
        }
        if !by_language && !self.languages.is_empty() {
            return Err(
                "languages is set, but variants lacks \"language\": pages would not differ by it"
                    .to_owned(),
            );
        }
        if let Some(empty) = self.languages.iter().position(String::is_empty) {
            return Err(format!("languages[{empty}] is empty"));
        }
        Ok(())
    }
}
