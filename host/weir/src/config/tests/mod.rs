mod files;
mod messages;
mod valid;

use std::path::Path;

use super::errors::Problem;
use super::*;

/// An upstream and a route, to which other tables are added.
const MINIMAL: &str = "\
[upstreams.api]
servers = [\"http://127.0.0.1:3000\"]
[[routes]]
path = \"/{*rest}\"
upstream = \"api\"
";

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new("etc/weir.toml"))
}

fn valid(text: &str) -> Config {
    parse(text).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The first lines of all errors, without the file's name.
fn errors(text: &str) -> Vec<String> {
    let errors = parse(text).expect_err(text);
    let first = |problem: &Problem| problem.to_string().lines().next().unwrap().to_owned();
    let lines = errors.problems().iter().map(first);
    lines
        .map(|line| line.strip_prefix("etc/weir.toml:").unwrap().to_owned())
        .collect()
}
