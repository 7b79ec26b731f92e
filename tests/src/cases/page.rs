//! docs/conformance.md, written from the table.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::table::{Group, Level};

const BEGIN: &str = "# Conformance

Weir is held to the RFCs by a [table of cases](../tests/cases/http): each has a rule, the section where
it stands, and an exchange with a real node that goes otherwise when the rule is broken. All of them run
in CI, and a case that fails is named with its rule. This page is written from the table:
`WEIR_BLESS=1 cargo test -p weir-tests --test http_cases` renews it.

`must` is what the RFC demands or what nothing else is safe; `should` what it recommends, or without
which a cache is of little use; a `choice` is a behaviour that the RFC leaves open.
";

/// Writes the page.
pub fn page(groups: &[Group]) -> String {
    let mut text = BEGIN.to_owned();
    // Writing to a String cannot fail.
    let _ = write!(text, "\n## Cases\n\n");
    let _ = writeln!(
        text,
        "| topic | must | should | choice |\n|---|---:|---:|---:|"
    );
    let mut all = [0; 3];
    for group in groups {
        let counts = [Level::Must, Level::Should, Level::Choice].map(|level| {
            group
                .cases
                .iter()
                .filter(|case| case.level == level)
                .count()
        });
        let [must, should, choice] = counts;
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
    choices(&mut text, groups);
    known(&mut text, groups);
    text
}

fn choices(text: &mut String, groups: &[Group]) {
    let _ = write!(
        text,
        "\n## Choices\n\nWhere an RFC allows more than one behaviour, this is Weir's, and why.\n"
    );
    for group in groups {
        let mut choices = group
            .cases
            .iter()
            .filter_map(|case| Some((case, case.why.as_ref()?)))
            .peekable();
        if choices.peek().is_some() {
            let _ = write!(text, "\n### {}\n\n", group.title);
            let _ = writeln!(text, "| behaviour | RFC | why |\n|---|---|---|");
        }
        let mut last = None;
        for (case, why) in choices {
            // The same case with another value, which is one behaviour.
            if last.replace(&case.rule) != Some(&case.rule) {
                let _ = writeln!(
                    text,
                    "| {} | {} | {} |",
                    cell(&case.rule),
                    case.rfc,
                    cell(why)
                );
            }
        }
    }
}

fn known(text: &mut String, groups: &[Group]) {
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
        "\n## Known not to hold\n\nThese cases must fail in CI, so that the day they hold is noticed.\n\n\
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
