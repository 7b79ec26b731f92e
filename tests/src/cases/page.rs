//! docs/conformance.md, written from the table.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::table::{Case, Group, Level};

const BEGIN: &str = "# Conformance

Weir is held to the RFCs by a [table of cases](../tests/cases/http): each has a rule, the section where
it stands, and an exchange with a real node that goes otherwise when the rule is broken. All of them run
in CI, and a case that fails is named with its rule. This page is written from the table:
`WEIR_BLESS=1 cargo test -p weir-tests --test http_cases` renews it.

## If you know Varnish

These differ from what Varnish does unless its VCL says otherwise; the reasons are below.

- A client's `Cache-Control` and `Pragma: no-cache` are heeded: see [request directives](#request-directives).
- There is no default lifetime. A response without one, and without Last-Modified, is not reused:
  see [heuristic lifetimes](#heuristic-lifetimes).
- A request with Cookie or Authorization is looked up: see [cookies](#cookies) and
  [authorization](#authorization).
- There is no general grace. The origin gives it, in stale-while-revalidate and stale-if-error; without
  them a minute is bridged while it cannot be reached: see [stale responses](#stale-responses).
- A POST, PUT or DELETE makes what is stored for its target invalid: see [invalidation](#invalidation).
- What the origin marks `no-cache` is stored, and confirmed for each request: see
  [response directives](#response-directives).
";

const TOPICS: &str = "
## Topics

`must` is what the RFC demands or what nothing else is safe; `should` what it recommends, or without
which a cache is of little use; a `choice` is a behaviour that the RFC leaves open. The numbers are those
of the cases.

| topic | must | should | choice |
|---|---:|---:|---:|
";

const CHOICES: &str = "
## Choices

Where an RFC leaves it open, or other caches read it otherwise, this is what Weir does, and why.
";

/// Writes the page.
pub fn page(groups: &[Group]) -> String {
    let mut groups: Vec<_> = groups.iter().collect();
    groups.sort_by_key(|group| group.title.to_lowercase());
    let mut text = [BEGIN, TOPICS].concat();
    let mut all = [0; 3];
    for group in &groups {
        let levels = [Level::Must, Level::Should, Level::Choice];
        let counts = levels.map(|level| {
            let cases = group.cases.iter();
            cases.filter(|case| case.level == level).count()
        });
        let [must, should, choice] = counts;
        let reasons = group.cases.iter().any(|case| case.why.is_some());
        let choice = match reasons {
            true => format!("[{choice}](#{})", anchor(&group.title)),
            false => choice.to_string(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| [{}](../tests/cases/http/{}.toml) | {must} | {should} | {choice} |",
            group.title, group.name
        );
        for (sum, count) in all.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    let [must, should, choice] = all;
    let _ = writeln!(text, "| all | {must} | {should} | {choice} |");
    known(&mut text, &groups);
    text.push_str(CHOICES);
    for group in &groups {
        let rows = rows(&group.cases);
        if rows.is_empty() {
            continue;
        }
        let _ = write!(text, "\n### {}\n\n", group.title);
        let _ = writeln!(text, "| behaviour | RFC | why |\n|---|---|---|");
        for row in rows {
            let rules = row.rules.join(" ");
            let (rfc, why) = (link(row.rfc), cell(row.why));
            let _ = writeln!(text, "| {} | {rfc} | {why} |", cell(&rules));
        }
    }
    text
}

/// Behaviours with the same reason.
struct Row<'a> {
    rules: Vec<&'a str>,
    rfc: &'a str,
    why: &'a str,
}

fn rows(cases: &[Case]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for case in cases {
        let Some(why) = case.why.as_deref() else {
            continue;
        };
        match rows.last_mut() {
            Some(row) if row.rfc == case.rfc && (why == row.why || why == "As above.") => {
                // The same rule is the same case with another value.
                if !row.rules.contains(&case.rule.as_str()) {
                    row.rules.push(&case.rule);
                }
            }
            _ => rows.push(Row {
                rules: vec![&case.rule],
                rfc: &case.rfc,
                why,
            }),
        }
    }
    rows
}

/// The section on the RFC editor's page.
fn link(rfc: &str) -> String {
    match rfc.split_once(" §") {
        Some((number, section)) => {
            format!("[{rfc}](https://www.rfc-editor.org/rfc/rfc{number}#section-{section})")
        }
        None => rfc.to_owned(),
    }
}

/// What a heading can be linked by.
fn anchor(title: &str) -> String {
    let letters = title.to_lowercase();
    let letters = letters.chars().filter_map(|letter| match letter {
        ' ' | '-' => Some('-'),
        letter => letter.is_alphanumeric().then_some(letter),
    });
    letters.collect()
}

fn known(text: &mut String, groups: &[&Group]) {
    let mut reasons: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for group in groups {
        for reason in group.cases.iter().filter_map(|case| case.fails.as_ref()) {
            *reasons.entry((&group.title, reason)).or_default() += 1;
        }
    }
    if reasons.is_empty() {
        return;
    }
    let _ = write!(
        text,
        "\n### Known not to hold\n\nThese cases must fail in CI, so that the day they hold is noticed.\n\n\
         | topic | cases | reason |\n|---|---:|---|\n"
    );
    for ((title, reason), count) in reasons {
        let _ = writeln!(text, "| {title} | {count} | {} |", cell(reason));
    }
}

/// A cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
