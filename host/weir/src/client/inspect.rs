//! `weir inspect`: what each tier holds under a key.

use clap::{ArgGroup, Args};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::http::Node;
use super::stats::seconds;
use super::{AdminArgs, print, printable, raw};

/// Show what each tier holds under a key, purged objects too
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("what").args(["key", "url"]).required(true)))]
pub(crate) struct InspectArgs {
    /// The full key, as explain shows it: 'http://api.example.org|user:profile:42'
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// The key that the route gives a GET of this URL
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// A request header field, 'name: value', that selects a variant; may be repeated
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs `weir inspect`.
///
/// # Errors
/// As [`super::purge::run`]. A key that nothing is stored under is no error.
pub(crate) async fn run(args: InspectArgs) -> anyhow::Result<()> {
    Ok(print(&execute(args).await?)?)
}

pub(super) async fn execute(args: InspectArgs) -> anyhow::Result<String> {
    let node = Node::new(&args.admin)?;
    let mut pairs = Vec::new();
    pairs.extend(args.key.iter().map(|key| ("key", key)));
    pairs.extend(args.url.iter().map(|url| ("url", url)));
    pairs.extend(args.headers.iter().map(|header| ("header", header)));
    let query: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .collect();
    let path = format!("/v1/inspect?{}", query.join("&"));
    let answer = node.success(node.get(&path).await?)?;
    if args.admin.json {
        return Ok(raw(&answer));
    }
    Ok(shown(&answer).trim_end().to_owned())
}

struct Lines(String);

impl Lines {
    fn add(&mut self, indent: usize, name: &str, value: &str) {
        let indent = " ".repeat(indent);
        self.0
            .push_str(&format!("{indent}{name:<10} {}\n", printable(value)));
    }
}

fn shown(answer: &Value) -> String {
    let mut out = Lines(String::new());
    out.add(0, "key", text(&answer["key"]));
    if let Some(namespace) = answer["namespace"].as_str() {
        out.add(0, "namespace", namespace);
    }
    out.add(0, "log", &position(&answer["log"]));
    let tiers = list(&answer["tiers"]);
    for tier in tiers {
        out.0.push('\n');
        show_tier(&mut out, tier, &answer["log"]);
    }
    if tiers.iter().all(is_empty) {
        out.0.push_str("\nNothing is stored under this key. ");
        out.0.push_str(match text(&answer["key"]).contains('|') {
            true => "`weir explain URL` shows the key of a URL, and `weir stats` the namespaces.\n",
            false => {
                "A key has its origin in front, http://HOST|…, unless its route is shared; `weir explain URL` shows it.\n"
            }
        });
    }
    out.0
}

/// It could be read, and has nothing.
fn is_empty(tier: &Value) -> bool {
    let none = |name: &str| list(&tier[name]).is_empty();
    tier["error"].is_null()
        && none("objects")
        && none("unreadable")
        && none("selected_by")
        && is_zero(&tier["parts"])
}

fn show_tier(out: &mut Lines, tier: &Value, log: &Value) {
    let objects = list(&tier["objects"]);
    let unreadable = list(&tier["unreadable"]);
    let name = text(&tier["tier"]);
    match tier["error"].as_str() {
        Some(error) => out.add(0, name, error),
        None if is_empty(tier) => out.add(0, name, "nothing"),
        None => out.add(0, name, &found(objects.len(), &tier["parts"])),
    }
    let selected_by = list(&tier["selected_by"]);
    if !selected_by.is_empty() {
        let fields: Vec<_> = selected_by.iter().map(text).collect();
        let hint = match name {
            "redis" => "variants by these fields; -H selects others",
            _ => "variants by these fields",
        };
        out.add(2, "variants", &format!("{} ({hint})", fields.join("; ")));
    }
    for (at, object) in objects.iter().enumerate() {
        if at > 0 {
            out.0.push('\n');
        }
        show_object(out, object, log);
    }
    for record in unreadable {
        let (name, error) = (text(&record["name"]), text(&record["error"]));
        out.add(
            2,
            "unreadable",
            &format!("{name}, {} bytes: {error}", record["bytes"]),
        );
    }
}

fn found(objects: usize, parts: &Value) -> String {
    let objects = match objects {
        0 => "no object".to_owned(),
        1 => "1 object".to_owned(),
        several => format!("{several} objects"),
    };
    match is_zero(parts) {
        true => objects,
        false => format!("{objects}, {parts} parts"),
    }
}

fn show_object(out: &mut Lines, object: &Value, log: &Value) {
    out.add(2, "state", text(&object["state"]));
    for cause in list(&object["purged_by"]) {
        let kind = if cause["soft"] == true {
            "soft"
        } else {
            "hard"
        };
        out.add(
            2,
            "purged by",
            &match text(&cause["named"]) {
                "epoch" => "a new epoch of the log: all from before is dead".to_owned(),
                named => format!(
                    "{named}, {kind}, sequence {} of the {}",
                    cause["sequence"],
                    text(&cause["log"])
                ),
            },
        );
    }
    let coding = object["coding"].as_str();
    out.add(
        2,
        "response",
        &format!(
            "{}, body {} bytes{}, header fields {} bytes",
            object["status"],
            object["body_bytes"],
            coding.map_or(String::new(), |coding| format!(" in {coding}")),
            object["header_bytes"],
        ),
    );
    for (coding, bytes) in object["coded"].as_object().into_iter().flatten() {
        out.add(2, "also in", &format!("{coding}, {bytes} bytes"));
    }
    for field in list(&object["vary"]) {
        let value = field["value"].as_str().unwrap_or("(absent)");
        out.add(
            2,
            "selected",
            &format!("{}: {value}", text(&field["field"])),
        );
    }
    out.add(2, "life", &life(object));
    if let Some(left) = object["memory_remaining"].as_f64() {
        out.add(2, "leaves", &format!("memory in {}", seconds(left)));
    }
    if let Some(ttl) = object["ttl"].as_f64() {
        let bytes = &object["record_bytes"];
        out.add(2, "record", &format!("{bytes} bytes, TTL {}", seconds(ttl)));
    } else if let Some(bytes) = object["record_bytes"].as_u64() {
        out.add(2, "record", &format!("{bytes} bytes, no TTL"));
    }
    if let chunks @ Value::Object(_) = &object["chunks"] {
        let (count, there) = (&chunks["count"], &chunks["there"]);
        let gone = match count == there {
            true => "",
            false => ", so the object is not served from here",
        };
        let bytes = &chunks["bytes"];
        out.add(
            2,
            "chunks",
            &format!("{there} of {count} there, {bytes} bytes in all{gone}"),
        );
    }
    let tags: Vec<_> = list(&object["tags"]).iter().map(text).collect();
    if !tags.is_empty() {
        out.add(2, "tags", &tags.join(" "));
    }
    out.add(2, "url", text(&object["url"]));
    out.add(2, "policy", object["policy"].as_str().unwrap_or("-"));
    let place = position(&object["position"]);
    let behind = match &object["position"] == log {
        true => " (the log has not moved since)",
        false => "",
    };
    out.add(2, "fetched at", &format!("{place}{behind}"));
    if let Some(name) = object["name"].as_str() {
        out.add(2, "stands as", name);
    }
    if object["shared"] == false {
        out.add(2, "shared", "no: this node alone");
    }
}

fn life(object: &Value) -> String {
    let number = |name: &str| object[name].as_f64().unwrap_or_default();
    let remaining = number("remaining");
    let mut life = format!("age {}", seconds(number("age")));
    life.push_str(&match remaining < 0.0 {
        true => format!(", over for {}", seconds(-remaining)),
        false => format!(", {} left", seconds(remaining)),
    });
    for (name, told) in [
        ("stale_while_revalidate", "stale while revalidated"),
        ("stale_if_error", "stale if error"),
    ] {
        let window = number(name);
        if window > 0.0 {
            life.push_str(&format!(", then {told} {}", seconds(window)));
        }
    }
    life
}

fn position(position: &Value) -> String {
    let mut text = format!(
        "epoch {}, sequence {}",
        text(&position["epoch"]),
        position["sequence"]
    );
    if !is_zero(&position["node_sequence"]) {
        text.push_str(&format!(", node sequence {}", position["node_sequence"]));
    }
    text
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn is_zero(value: &Value) -> bool {
    value.as_u64().unwrap_or_default() == 0
}
