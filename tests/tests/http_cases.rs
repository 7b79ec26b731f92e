//! The table of HTTP cases through the real binary, and the page that is written from it.
//!
//! `WEIR_CASES=freshness` runs only the cases whose `GROUP: NAME` contains that.

use weir_tests::artifact::workspace;
use weir_tests::cases::{self, page::page};

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_http_cases_holds() {
    let filter = std::env::var("WEIR_CASES").unwrap_or_default();
    let report = cases::run(cases::load(), &filter).await;
    let summary = report.summary();
    println!("{summary}");
    assert!(!report.groups.is_empty(), "no case contains {filter:?}");
    assert!(
        report.failures.is_empty(),
        "{} cases:\n\n{}\n{summary}",
        report.failures.len(),
        report.failures.join("\n")
    );
}

#[test]
fn the_conformance_page_is_what_the_table_says() {
    let path = workspace().join("docs/conformance.md");
    let written = page(&cases::load());
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(&path, &written).expect("writing docs/conformance.md");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == written,
        "docs/conformance.md is out of date; renew it with \
         WEIR_BLESS=1 cargo test -p weir-tests --test http_cases"
    );
}
