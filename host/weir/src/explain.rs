//! `weir explain`: what would become of a request, offline.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use http::{Method, StatusCode, Uri};
use weir_proxy::{Assumed, Explanation, Outcome};

use crate::app::App;
use crate::config::Config;
use crate::fields;
use crate::run::runtime;

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The absolute URL of the request.
    url: String,
    /// The configuration file.
    #[arg(short, long, default_value = "weir.toml")]
    config: PathBuf,
    /// The request method [default: GET].
    #[arg(short = 'X', long)]
    method: Option<String>,
    /// A request header field: 'name: value'. Repeatable.
    #[arg(short = 'H', long = "header")]
    headers: Vec<String>,
    /// The content of the request; `@FILE` reads it from a file. Without -X it is a POST.
    #[arg(short = 'd', long = "data")]
    data: Option<String>,
    /// The status of the response to assume.
    #[arg(long, default_value_t = 200)]
    status: u16,
    /// A header field of the response to assume: 'cache-control: max-age=60'. Repeatable.
    #[arg(short = 'R', long = "response-header")]
    response_headers: Vec<String>,
    /// Print the explanation as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let url: Uri = args
        .url
        .parse()
        .with_context(|| format!("{:?} is not a URL; write http://HOST/PATH", args.url))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.authority().is_none() {
        bail!(
            "{:?} is not absolute; write http://HOST/PATH or https://HOST/PATH",
            args.url
        );
    }
    let method = match (&args.method, &args.data) {
        (None, None) => Method::GET,
        (None, Some(_)) => Method::POST,
        (Some(text), _) => text
            .parse()
            .with_context(|| format!("{text:?} is not a method; write e.g. GET"))?,
    };
    let content = content(args.data.as_deref())?;
    let headers = fields::header_map(&args.headers)?;
    let assumed = Assumed {
        status: StatusCode::from_u16(args.status)
            .with_context(|| format!("{} is not a status code; write e.g. 200", args.status))?,
        headers: fields::header_map(&args.response_headers)?,
    };
    let explanation = runtime(1)?.block_on(async {
        let app = App::untested(config).await?;
        anyhow::Ok(
            app.node
                .explain(method, &url, headers, content, Some(assumed))
                .await?,
        )
    })?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&explanation)?);
    } else {
        print(&explanation);
    }
    Ok(ExitCode::SUCCESS)
}

fn content(data: Option<&str>) -> anyhow::Result<Bytes> {
    match data {
        None => Ok(Bytes::new()),
        Some(text) => match text.strip_prefix('@') {
            Some(file) => {
                let read = std::fs::read(file);
                Ok(read
                    .with_context(|| format!("{file} cannot be read"))?
                    .into())
            }
            None => Ok(Bytes::copy_from_slice(text.as_bytes())),
        },
    }
}

fn print(explanation: &Explanation) {
    let line = |name: &str, value: &str| println!("{name:<10} {value}");
    line(
        "request",
        &format!("{} {}", explanation.method, explanation.url),
    );
    line("route", &explanation.route);
    for (name, value) in &explanation.params {
        line("", &format!("{{{name}}} = {value}"));
    }
    line("upstream", &explanation.upstream);
    line(
        "policy",
        explanation
            .policy
            .as_deref()
            .unwrap_or("none: RFC 9111 alone"),
    );
    for (index, read) in explanation.reads.iter().enumerate() {
        let answer = match &read.answer {
            None => "(absent)".to_owned(),
            Some(values) => values.join(", "),
        };
        let name = if index == 0 { "reads" } else { "" };
        line(name, &format!("{} = {answer}", read.input));
    }
    if explanation.policy.is_some() && explanation.reads.is_empty() {
        line(
            "reads",
            "nothing: the decision is the same for every request of the route",
        );
    }
    if explanation.impure {
        line("", "and a capability (kv, rate-limit, log or clock)");
    }
    if let Some(cost) = &explanation.cost {
        let remembered = match cost.remembered {
            true => "remembered",
            false => "every request calls the policy",
        };
        line(
            "cost",
            &format!(
                "{} µs for the call, {} KiB of memory; {remembered}",
                cost.took_us,
                cost.memory_bytes / 1_024
            ),
        );
        for note in &cost.notes {
            line("", note);
        }
    }
    let decision = match (&explanation.reason, explanation.status) {
        (Some(reason), _) => format!("{}: {reason}", explanation.decision),
        (None, Some(status)) => format!("{} {status}", explanation.decision),
        (None, None) => explanation.decision.to_owned(),
    };
    line("decision", &decision);
    if let Some(key) = &explanation.key {
        line("key", key);
        line("", &format!("from {}", explanation.key_parts.join(", ")));
    }
    if let Some(origin) = &explanation.origin {
        line("origin", &format!("asked for {origin}"));
    }
    if explanation.sealed {
        line("sealed", "the origin sees only what the key says");
    }
    for text in &explanation.unkeyed {
        line("warning", text);
    }
    if !explanation.tags.is_empty() {
        line("tags", &explanation.tags.join(" "));
    }
    if let Some(outcome) = &explanation.response {
        print_outcome(outcome, line);
    }
}

/// What becomes of the assumed response.
fn print_outcome(outcome: &Outcome, line: impl Fn(&str, &str)) {
    match &outcome.refusal {
        Some(refusal) => line("response", &format!("not stored: {refusal}")),
        None => {
            let text = |ms: u64| humantime::format_duration(Duration::from_millis(ms)).to_string();
            let mut lifetimes = format!("fresh for {}", text(outcome.lifetime_ms));
            if outcome.stale_while_revalidate_ms > 0 {
                let window = text(outcome.stale_while_revalidate_ms);
                lifetimes.push_str(&format!(", stale while revalidated {window}"));
            }
            if outcome.stale_if_error_ms > 0 {
                let window = text(outcome.stale_if_error_ms);
                lifetimes.push_str(&format!(", stale if error {window}"));
            }
            line("response", &format!("stored, {lifetimes}"));
            let tiers = match (outcome.memory_ms, outcome.shared) {
                (Some(0), true) => "Redis alone".to_owned(),
                (Some(0), false) => "nowhere".to_owned(),
                (Some(ms), true) => format!("memory for {}, Redis", text(ms)),
                (Some(ms), false) => format!("memory for {}", text(ms)),
                (None, true) => "memory, Redis".to_owned(),
                (None, false) => "memory".to_owned(),
            };
            line("tiers", &tiers);
            if !outcome.compress.is_empty() {
                line("compress", &outcome.compress.join(" "));
            }
        }
    }
    for selector in &outcome.invalidates {
        line("purges", selector);
    }
}
