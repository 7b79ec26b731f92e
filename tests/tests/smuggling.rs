//! Every case of `tests/cases/smuggling.toml`, at once and byte by byte. With WEIR_SHOW set
//! it prints each with its answer (`cargo xtask smuggling`).
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use weir_tests::raw::Raw;
use weir_tests::raw_origin::RawOrigin;
use weir_tests::smuggling::{Case, cases};
use weir_tests::{Config, Weir, until};

/// What stands behind each case.
const BEHIND: &str = "GET /behind HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn each_is_refused_or_forwarded_as_one_unambiguous_request() {
    let origin = RawOrigin::start().await;
    let node = Config::plain(&origin.url()).start().await;
    let (mut table, mut wrong) = (String::new(), String::new());
    let all = cases();
    assert!(all.len() >= 60, "{} cases", all.len());
    for case in &all {
        for byte_by_byte in [false, true] {
            match run(case, byte_by_byte, &node, &origin).await {
                Ok(answer) if !byte_by_byte => {
                    let _ = writeln!(table, "{:32} {:28} {answer}", case.name, case.section);
                }
                Ok(_) => {}
                Err(why) => {
                    let how = if byte_by_byte {
                        "byte by byte"
                    } else {
                        "at once"
                    };
                    let _ = writeln!(wrong, "{} ({how}): {why}", case.name);
                }
            }
        }
    }
    if std::env::var_os("WEIR_SHOW").is_some() {
        println!("{table}");
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Sends a case and compares. Returns its answer in a few words.
async fn run(
    case: &Case,
    byte_by_byte: bool,
    node: &Weir,
    origin: &RawOrigin,
) -> Result<String, String> {
    let mut raw = Raw::connect(node.port()).await;
    let bytes = [case.bytes(), BEHIND.as_bytes().to_vec()].concat();
    if byte_by_byte {
        for byte in &bytes {
            // The node may have had enough, and says so.
            if !raw.send([*byte]).await {
                break;
            }
            tokio::task::yield_now().await;
        }
    } else {
        raw.send(&bytes).await;
    }
    let (answer, _) = raw.read_to_end().await;
    let statuses = statuses(&answer);
    let (mut answers, mut expected) = (case.answers.clone(), case.origin.clone());
    if case.is_taken() {
        answers.push(200);
        expected.push("GET /behind".to_owned());
    }
    if statuses != answers {
        return Err(format!(
            "answered {statuses:?} and not {answers:?}: {answer:?}"
        ));
    }
    // A body that breaks off is known to the origin when its connection ends.
    let got = origin.take();
    if !got.ambiguous.is_empty() {
        return Err(format!("the origin got {:?}", got.ambiguous));
    }
    if got.requests != expected {
        return Err(format!(
            "the origin got {:?} and not {expected:?}",
            got.requests
        ));
    }
    let Some(detail) = &case.detail else {
        return Ok(format!("{:?} forwarded", case.answers));
    };
    if !answer.contains(&format!("detail=\"{detail}\"")) {
        return Err(format!("no {detail} in {answer:?}"));
    }
    let reason = answer.trim_end().rsplit("\r\n").next().unwrap_or_default();
    Ok(format!("{statuses:?} {detail}: {reason}"))
}

fn statuses(answer: &str) -> Vec<u16> {
    answer
        .split("HTTP/1.")
        .skip(1)
        .filter_map(|rest| rest.get(2..5)?.parse().ok())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_goes_wrong_in_its_middle_never_ends_clean_at_the_origin() {
    let heads = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&heads);
    let origin = RawOrigin::with(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
        Vec::new()
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    let mut raw = Raw::connect(node.port()).await;
    raw.send("POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .await;
    until("the request's beginning at the origin", async || {
        (heads.load(Ordering::Relaxed) == 1).then_some(())
    })
    .await;
    raw.send(format!("3\r\ndefg\r\n0\r\n\r\n{BEHIND}")).await;
    let (answer, _) = raw.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("detail=\"chunk-end\""), "{answer}");
    assert!(
        answer.to_lowercase().contains("connection: close"),
        "{answer}"
    );
    until("the end of the origin's connection", async || {
        (origin.got().cut == 1).then_some(())
    })
    .await;
    let got = origin.got();
    assert_eq!(got.requests, Vec::<String>::new());
    let labels = [("reason", "chunk-end")];
    let counted = node.admin().metric("weir_refused_total", &labels).await;
    assert!((counted - 1.0).abs() < f64::EPSILON, "{counted}");
    // The connection to the origin is not used again.
    assert_eq!(node.get("/b").await.status, 200);
    assert_eq!(origin.got().requests, ["GET /b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_why_in_words_and_is_counted() {
    let origin = RawOrigin::start().await;
    let node = Config::plain(&origin.url()).start().await;
    let (answer, _) =
        Raw::exchange(node.port(), "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
    assert!(
        answer.ends_with("\r\n\r\nthe request has more than one Host; send exactly one\n"),
        "{answer}"
    );
    assert!(answer.contains("cache-control: no-store"), "{answer}");
    // HEAD gets no body, refused or not.
    let (answer, _) =
        Raw::exchange(node.port(), "HEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
    let labels = [("reason", "many-hosts")];
    let counted = node.admin().metric("weir_refused_total", &labels).await;
    assert!((counted - 2.0).abs() < f64::EPSILON, "{counted}");
}
