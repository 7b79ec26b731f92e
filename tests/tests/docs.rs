//! What README.md, ARCHITECTURE.md and docs/ say, held against the code and the binary.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use weir_tests::artifact::{target_dir, weir_binary, workspace};
use weir_tests::{RedisServer, Scratch, charity, guests, weir_command};

/// The pages that are checked, relative to the workspace.
const PAGES: [&str; 6] = [
    "README.md",
    "ARCHITECTURE.md",
    "docs/policies.md",
    "docs/invalidation.md",
    "docs/fleet.md",
    "docs/operations.md",
];

fn read(path: impl AsRef<Path>) -> String {
    let path = workspace().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fenced blocks of a page in this language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = read(page);
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if info == language {
            found.push(format!("{}\n", block.join("\n")));
        }
    }
    found
}

fn only(page: &str, language: &str) -> String {
    one_with(page, language, "")
}

/// The only one of them with this in it.
fn one_with(page: &str, language: &str, text: &str) -> String {
    let mut found = blocks(page, language);
    found.retain(|block| block.contains(text));
    assert_eq!(found.len(), 1, "{page} has several {language} blocks");
    found.remove(0)
}

/// The commands of a page's shell blocks, without their comments.
fn commands(page: &str) -> Vec<String> {
    blocks(page, "sh")
        .iter()
        .flat_map(|block| block.lines())
        .map(|line| line.split(" # ").next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

fn run(command: &mut Command) -> String {
    // Set by `cargo test` for this process; a build of another package must not inherit it.
    command.env_remove("CARGO_MANIFEST_DIR");
    let output = command.output().expect("starting a command");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{command:?} failed:\n{said}");
    said
}

/// `weir plugin new NAME` with another library, in `dir`, and without its cases. It takes the workspace's lock
/// file, so that nothing newer is looked for.
fn policy_crate(dir: &Path, name: &str, library: &str) -> PathBuf {
    run(Command::new(weir_binary())
        .args(["plugin", "new", name])
        .current_dir(dir));
    let made = dir.join(name);
    std::fs::write(made.join("src/lib.rs"), library).expect("the policy's source");
    std::fs::remove_file(made.join("cases.toml")).expect("cases of another policy");
    std::fs::copy(workspace().join("Cargo.lock"), made.join("Cargo.lock")).expect("a lock file");
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_policy_compiles_loads_and_decides_as_it_says() {
    let scratch = Scratch::new();
    let made = policy_crate(scratch.path(), "pages", &only("README.md", "rust"));
    let cases = one_with("README.md", "toml", "[[case]]");
    std::fs::write(made.join("cases.toml"), cases).expect("its cases");
    run(Command::new(weir_binary())
        .args(["plugin", "build", "pages"])
        .env("CARGO_TARGET_DIR", target_dir())
        .current_dir(scratch.path()));
    scratch.write("weir.toml", one_with("README.md", "toml", "listen = "));

    let check = weir_command(scratch.path(), &["check", "-c", "weir.toml"]).await;
    assert_eq!(check.code, Some(0), "{}", check.all());
    assert!(!check.all().contains("warning"), "{}", check.all());

    let line = commands("README.md")
        .into_iter()
        .find(|line| line.starts_with("weir explain"))
        .expect("the README explains");
    let words: Vec<&str> = line
        .split_whitespace()
        .skip(1)
        .map(|word| word.trim_matches('\''))
        .collect();
    let explained = weir_command(scratch.path(), &words).await;
    assert_eq!(explained.code, Some(0), "{}", explained.all());
    for told in [
        "|pages:/news:page=2\n",
        "tags       page:/news\n",
        "fresh for 5m",
        "stale if error 1h",
    ] {
        assert!(
            explained.stdout.contains(told),
            "{told:?} is not in:\n{}",
            explained.stdout
        );
    }
}

#[test]
fn the_code_in_the_policy_page_compiles_and_its_tests_pass() {
    let scratch = Scratch::new();
    let mut library = String::from("#![allow(dead_code, unused_imports)]\n");
    let blocks = blocks("docs/policies.md", "rust");
    assert!(blocks.len() >= 7, "{} blocks", blocks.len());
    let (imports, rest) = blocks.split_first().expect("blocks");
    for (number, block) in rest.iter().enumerate() {
        library.push_str(&format!("mod block{number} {{\n{imports}\n{block}}}\n"));
    }
    let made = policy_crate(scratch.path(), "blocks", &library);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let said = run(Command::new(cargo)
        .args(["test", "--quiet", "--lib"])
        .env("CARGO_TARGET_DIR", target_dir())
        .current_dir(made));
    assert!(said.contains("1 passed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_is_what_the_binary_prints() {
    let printed = weir_command(&workspace(), &["reference"]).await;
    assert_eq!(printed.code, Some(0), "{}", printed.all());
    if std::env::var_os("WEIR_BLESS").is_some() {
        let page = workspace().join("docs/configuration.md");
        std::fs::write(page, &printed.stdout).expect("writing the reference");
    }
    assert!(
        printed.stdout == read("docs/configuration.md"),
        "docs/configuration.md is not what `weir reference` prints; write it anew with \
         WEIR_BLESS=1 cargo test -p weir-tests --test docs"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_on_the_pages_exists_with_its_options() {
    let mut seen = 0;
    for line in PAGES.iter().flat_map(|page| commands(page)) {
        let Some(rest) = line.strip_prefix("weir ") else {
            continue;
        };
        seen += 1;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let depth = if words.first() == Some(&"plugin") {
            2
        } else {
            1
        };
        let (name, arguments) = words.split_at(depth);
        let help = weir_command(&workspace(), &[name, &["--help"]].concat()).await;
        assert_eq!(help.code, Some(0), "{line}: {}", help.all());
        for option in arguments.iter().filter(|word| word.starts_with('-')) {
            let told = help
                .stdout
                .split(|c: char| c.is_whitespace() || c == ',')
                .any(|word| word == *option);
            assert!(told, "{line}: no {option} in\n{}", help.stdout);
        }
    }
    assert!(seen >= 15, "only {seen} commands were found");
}

#[test]
fn the_readmes_first_two_commands_are_what_they_say() {
    let commands = commands("README.md");
    assert_eq!(commands[0], "cargo run --release -- demo");
    assert_eq!(commands[1], "cargo xtask test");

    // `cargo run` names no package: one default member must have a binary, and one only.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(workspace())
        .output()
        .expect("cargo metadata");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let defaults = list(&metadata["workspace_default_members"]);
    let binaries: Vec<_> = list(&metadata["packages"])
        .into_iter()
        .filter(|package| defaults.contains(&package["id"]))
        .flat_map(|package| list(&package["targets"]))
        .filter(|target| list(&target["kind"]).contains(&"bin".into()))
        .map(|target| target["name"].clone())
        .collect();
    assert_eq!(
        binaries,
        ["weir"],
        "`cargo run` must know which binary is meant: see default-members in Cargo.toml"
    );

    let tasks = read("tests/xtask/src/main.rs");
    for task in commands
        .iter()
        .filter_map(|line| line.strip_prefix("cargo xtask ")?.split(' ').next())
    {
        let variant: String = task
            .split('-')
            .map(|word| word.split_at(1))
            .map(|(first, rest)| first.to_uppercase() + rest)
            .collect();
        let variant = format!("    {variant}");
        let known = |line: &str| line.trim_end_matches(',').split('(').next() == Some(&variant);
        assert!(tasks.lines().any(known), "there is no task {task}");
    }
}

/// Names at the beginning of a line, outside what is indented.
fn first_words(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

#[test]
fn the_phase_chart_names_the_stages_that_exist() {
    let chart = blocks("ARCHITECTURE.md", "text")
        .into_iter()
        .find(|block| block.contains("on-request"))
        .expect("the chart");
    let proxy = workspace().join("host/proxy/src");
    let stages = first_words(&chart);
    assert!(stages.len() >= 9, "{stages:?}");
    for stage in stages {
        let file = format!("{stage}.rs");
        assert!(
            proxy.join("pipeline").join(&file).is_file()
                || proxy.join(&file).is_file()
                || proxy.join(stage).join("mod.rs").is_file(),
            "the chart names {stage}, which is no module of host/proxy"
        );
    }
    let page = read("ARCHITECTURE.md");
    for entry in proxy.join("pipeline").read_dir().expect("the pipeline") {
        let name = entry.expect("an entry").file_name();
        let link = format!("host/proxy/src/pipeline/{}", name.to_string_lossy());
        assert!(page.contains(&link), "ARCHITECTURE.md does not name {link}");
    }
}

#[test]
fn the_crates_use_one_another_as_the_page_says() {
    let said = blocks("ARCHITECTURE.md", "text")
        .into_iter()
        .find(|block| block.starts_with("weir-tally:"))
        .expect("the list of crates");
    for line in said.lines() {
        let (name, uses) = line.split_once(':').expect("crate: crates");
        let folder = name.strip_prefix("weir-").unwrap_or(name);
        let manifest = read(format!("host/{folder}/Cargo.toml"));
        let (_, after) = manifest.split_once("[dependencies]\n").expect("a table");
        let real: BTreeSet<&str> = after
            .lines()
            .take_while(|line| !line.starts_with('['))
            .filter_map(|line| line.split(['.', ' ']).next())
            .filter(|name| name.starts_with("weir-"))
            .collect();
        let said: BTreeSet<&str> = uses.split_whitespace().collect();
        assert_eq!(said, real, "the dependencies of {name}");
    }
    assert_eq!(
        said.lines().count(),
        workspace().join("host").read_dir().expect("host/").count()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_curl_lines_work_and_every_metric_is_explained() {
    let (origin, redis) = (charity::origin().await, RedisServer::start().await);
    let node = charity::config(&origin).redis(&redis.url()).start().await;
    node.get("/users/42").await;
    node.get("/unknown").await;
    let component = std::fs::read(guests().charity()).expect("a component");
    node.scratch().write("charity.wasm", component);
    let lines: Vec<String> = ["docs/operations.md", "docs/invalidation.md"]
        .iter()
        .flat_map(|page| commands(page))
        .filter(|line| line.starts_with("curl "))
        .collect();
    assert!(lines.len() >= 10, "{lines:?}");
    for line in lines {
        let here = line
            .replace(":9900", &format!(":{}", node.admin_port()))
            .replace(":8080", &format!(":{}", node.port()));
        let said = run(Command::new("sh")
            .args(["-c", &here])
            .current_dir(node.scratch().path()));
        // The one that cannot work here: nothing was deployed that could be taken back.
        let expected = line.contains("/rollback") && said.contains("no earlier version");
        assert!(!said.contains("\"error\":{") || expected, "{line}: {said}");
        assert!(!said.is_empty(), "{line} answers nothing");
    }

    let page = read("docs/operations.md");
    let metrics = node.admin().get("/metrics").await.text();
    let types: Vec<(&str, &str)> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    assert!(types.len() > 30, "{metrics}");
    for (name, kind) in types {
        let scraped = match kind {
            "counter" => format!("| `{name}_total` |"),
            _ => format!("| `{name}` |"),
        };
        assert!(page.contains(&scraped), "{scraped} is not on the page");
        if kind == "histogram" {
            // Whoever scrapes it reckons from the last class, which is to have no end.
            let lines = |suffix: &str| {
                let start = format!("{name}_{suffix}{{");
                metrics.lines().filter(move |line| line.starts_with(&start))
            };
            let classes = lines("bucket").filter(|line| line.contains("le=\"+Inf\""));
            let (classes, series) = (classes.count(), lines("count").count());
            assert!(classes > 0 && classes == series, "{name} in {metrics}");
        }
    }
    let sources = [
        "proxy/src/metrics.rs",
        "proxy/src/metrics/tallied.rs",
        "proxy/src/compress.rs",
        "proxy/src/tunnels.rs",
        "weir/src/metrics.rs",
    ]
    .map(|file| read(format!("host/{file}")))
    .concat();
    for line in page.lines().filter(|line| line.starts_with("| `weir_")) {
        let name = line.split('`').nth(1).unwrap_or_default();
        let name = name.trim_start_matches("weir_");
        let known = [
            name,
            name.trim_end_matches("_total"),
            name.trim_end_matches("_bytes"),
            name.trim_end_matches("_seconds"),
            name.trim_end_matches("_seconds_total"),
        ]
        .iter()
        .any(|name| sources.contains(&format!("\"{name}\"")));
        assert!(known, "no metric is called {name}");
    }
}
