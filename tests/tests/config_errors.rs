//! What `weir check` says about broken configurations, kept in `data/broken`.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use weir_tests::{Scratch, weir_command};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/broken")
}

fn cases() -> Vec<PathBuf> {
    let entries = folder().read_dir().expect("tests/data/broken");
    let mut cases: Vec<_> = entries
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect();
    cases.sort();
    cases
}

/// `# line 7`, `# key memory.capacity`, `# write "256MiB"`.
fn claim<'a>(text: &'a str, name: &str) -> &'a str {
    let start = format!("# {name} ");
    let found = text
        .lines()
        .take(3)
        .find_map(|line| line.strip_prefix(start.as_str()));
    found.unwrap_or_else(|| panic!("no line `{start}…` among the first three of:\n{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_broken_configuration_gets_its_exact_message() {
    let bless = std::env::var_os("WEIR_BLESS").is_some();
    let cases = cases();
    assert_eq!(cases.len(), 10);
    let mut seen = HashMap::new();
    for case in cases {
        let file = case
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a file name");
        let text = std::fs::read_to_string(&case).expect("a configuration");
        let run = weir_command(&folder(), &["check", "-c", file]).await;
        assert_eq!(run.code, Some(1), "{file}: {}", run.all());
        let message = run.all();

        let place = format!("{file}:{}", claim(&text, "line"));
        for named in [place.as_str(), claim(&text, "key"), claim(&text, "write")] {
            assert!(
                message.contains(named),
                "{file}: {named:?} is not in:\n{message}"
            );
        }
        for leak in ["panicked", "Backtrace", "Error {", "Some("] {
            assert!(
                !message.contains(leak),
                "{file}: {leak:?} is in:\n{message}"
            );
        }
        let body = message.replace(file, "");
        if let Some(other) = seen.insert(body, file.to_owned()) {
            panic!("{file} and {other} get the same message:\n{message}");
        }

        let expected = case.with_extension("txt");
        if bless {
            std::fs::write(&expected, &message).expect("writing the message");
        }
        let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(message, wanted, "{file}: see tests/data/broken/README.md");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_refuses_what_check_refuses() {
    let run = weir_command(&folder(), &["run", "-c", "02-unknown-key.toml"]).await;
    assert_eq!(run.code, Some(1), "{}", run.all());
    assert!(
        run.stderr.contains("02-unknown-key.toml:7"),
        "{}",
        run.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_not_there_is_named() {
    let scratch = Scratch::new();
    let run = weir_command(scratch.path(), &["check", "-c", "absent.toml"]).await;
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("absent.toml"), "{}", run.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_errors_of_a_file_come_at_once() {
    let scratch = Scratch::new();
    scratch.write(
        "weir.toml",
        "listen = [\"nowhere\"]\n[memory]\ncapacity = 5\n[[routes]]\npath = \"x\"\nupstream = \"none\"\n",
    );
    let run = weir_command(scratch.path(), &["check", "-c", "weir.toml"]).await;
    assert_eq!(run.code, Some(1));
    for line in ["weir.toml:1", "weir.toml:3", "weir.toml:5", "weir.toml:6"] {
        assert!(run.all().contains(line), "{line} is not in:\n{}", run.all());
    }
}
