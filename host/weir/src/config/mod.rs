//! The configuration of a node: `weir.toml`.
//!
//! In three stages, each whole before the next: the text becomes a TOML
//! document with places, the tables of [`raw`] are read from it, and
//! [`validate`] resolves them into [`Config`]. Problems are collected, so that
//! one run reports all that is wrong.

mod compound;
mod errors;
mod excerpt;
mod http;
mod model;
mod pattern;
mod raw;
mod read;
mod scalar;
mod schema;
mod secret;
mod suggest;
mod syntax;
mod units;
mod validate;

use std::io::Read as _;
use std::path::Path;

use toml::de::{DeTable, DeValue};

pub(crate) use self::errors::{ConfigErrors, Problem};
pub(crate) use self::excerpt::Excerpt;
pub(crate) use self::model::{
    Admin, CertificateFiles, Component, Config, Disk, Grants, Guard, Log, LogFormat, LogLevel,
    OnPolicyError, Policy, Protection, Redis, RedisDown, RedisProtocol, RedisServers, RedisTls,
    Route, Server, Tls, Upstream, UpstreamTls,
};

use self::errors::{Findings, Place};
use self::read::Read;

/// Most bytes of a configuration file.
const LIMIT: u64 = 4 << 20;

impl Config {
    /// Reads and checks a configuration file and the files that it names
    /// (components and secrets: that they can be read, not what is in a
    /// component).
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let text = read_file(path)?;
        resolve(&text, path, true)
    }

    /// Checks the text of a configuration. `path` stands in messages, and its
    /// folder before relative paths; no file is looked at.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, ConfigErrors> {
        resolve(text, path, false)
    }
}

/// The reference of all keys, with type, default and meaning, as Markdown.
pub(crate) fn reference() -> String {
    schema::markdown(raw::TABLES)
}

fn resolve(text: &str, path: &Path, check_files: bool) -> Result<Config, ConfigErrors> {
    let mut findings = Findings::new(text, path, check_files);
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        syntax::report(&errors, &mut findings);
    }
    // What follows a syntax error would be reported as missing.
    let config = if findings.has_errors() {
        None
    } else {
        let document = DeValue::Table(document.into_inner());
        raw::Root::read(&document, &Place::root(), &mut findings)
            .and_then(|root| validate::config(root, path, &mut findings))
    };
    let warnings = findings.finish()?;
    match config {
        Some(config) => Ok(Config { warnings, ..config }),
        None => Err(ConfigErrors::unreadable(
            path,
            "the configuration could not be resolved".to_owned(),
            "this is a defect of Weir; please report it with the file",
        )),
    }
}

fn read_file(path: &Path) -> Result<String, ConfigErrors> {
    let unreadable = |error: std::io::Error| {
        let hint = "name the configuration file with -c FILE";
        ConfigErrors::unreadable(path, format!("the file cannot be read: {error}"), hint)
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > LIMIT {
        let message = "the file is larger than 4 MiB".to_owned();
        return Err(ConfigErrors::unreadable(
            path,
            message,
            "is it a configuration file?",
        ));
    }
    String::from_utf8(bytes).map_err(|error| not_utf8(path, &error))
}

fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> ConfigErrors {
    let start = error.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(error.as_bytes());
    let mut findings = Findings::new(&text, path, false);
    let place = Place {
        span: start..start + 1,
        ..Place::root()
    };
    findings.error(
        &place,
        "the file is not UTF-8 text",
        "save it with the encoding UTF-8",
    );
    findings.into_errors()
}

#[cfg(test)]
mod tests;
