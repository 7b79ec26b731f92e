//! `cargo xtask cache-tests`: the public suite http-tests/cache-tests against Weir, nginx
//! and Varnish, each by its default rules, and the scores in one table.
//!
//! The suite is not part of this repository: `--suite` names a checkout of it in which
//! `npm i --omit=dev` has run, `--tools` the folder with `cache-tests.sh` and
//! `cache-tests-score.mjs`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::bench::server::{Server, free_port};
use crate::install::{self, Tool};
use crate::run;

/// What `cargo xtask cache-tests` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// A checkout of github.com/http-tests/cache-tests with its dependencies installed.
    #[arg(long, env = "CACHE_TESTS_DIR")]
    suite: PathBuf,
    /// The folder of cache-tests.sh and cache-tests-score.mjs.
    #[arg(long, default_value = "../shared/tools")]
    tools: PathBuf,
    /// How often Weir is tested with its default configuration.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Weir alone.
    #[arg(long)]
    alone: bool,
    /// List every test that was not passed.
    #[arg(long)]
    list: bool,
}

/// What a run of the default configuration has to reach: all but storing Set-Cookie.
const REQUIRED: u64 = 159;
const OPTIMAL: u64 = 99;

const TOOLS: &[Tool] = &[
    Tool {
        program: "taskset",
        package: "util-linux",
    },
    Tool {
        program: "curl",
        package: "curl",
    },
    Tool {
        program: "nginx",
        package: "nginx-light",
    },
    Tool {
        program: "varnishd",
        package: "varnish",
    },
];

/// Runs the suite against each server and prints the scores. Fails when Weir is below
/// what it has reached before.
pub(crate) fn run(options: &Options) -> Result<()> {
    let tools = run::workspace().join(&options.tools);
    let suite = options.suite.canonicalize().with_context(|| {
        format!(
            "{} is no checkout of http-tests/cache-tests; name one with --suite",
            options.suite.display()
        )
    })?;
    if !tools.join("cache-tests.sh").is_file() {
        bail!(
            "{} has no cache-tests.sh; name its folder with --tools",
            tools.display()
        );
    }
    install::tools(TOOLS)?;
    let dir = std::env::temp_dir().join(format!("weir-cache-tests-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let mut results = Vec::new();
    let mut test = |name: String, start: &dyn Fn(u16) -> Result<Server>| -> Result<()> {
        let origin = free_port()?;
        let server = start(origin)?;
        let out = dir.join(format!("{}.json", name.replace(' ', "-")));
        run::shown(
            Command::new(tools.join("cache-tests.sh"))
                .arg("-d")
                .arg(&suite)
                .arg(format!("http://127.0.0.1:{}", server.port))
                .arg(origin.to_string())
                .arg(&out),
        )?;
        results.push(format!("{name}={}", out.display()));
        Ok(())
    };
    let program = weir_binary()?;
    for round in 1..=options.runs {
        let name = format!("weir run {round}");
        test(name, &|origin| weir(&program, &dir, origin, ""))?;
    }
    test("weir store_set_cookie".to_owned(), &|origin| {
        weir(&program, &dir, origin, "store_set_cookie = true\n")
    })?;
    if !options.alone {
        test("nginx".to_owned(), &|origin| nginx(&dir, origin))?;
        test("varnish".to_owned(), &|origin| varnish(&dir, origin))?;
    }
    let score = |flags: &[&str]| {
        let mut command = Command::new("node");
        command
            .arg(tools.join("cache-tests-score.mjs"))
            .arg("--suite")
            .arg(&suite)
            .args(flags)
            .args(&results);
        command
    };
    let flags: &[&str] = if options.list { &["--list"] } else { &[] };
    run::shown(&mut score(flags))?;
    let counts = score(&["--json"]).output().context("node")?;
    check(&serde_json::from_slice(&counts.stdout)?, options.runs)
}

/// Compares the first `runs` rows and the one with Set-Cookie to what they must reach.
fn check(scores: &Value, runs: usize) -> Result<()> {
    let rows = scores.as_array().context("the scorer printed no list")?;
    let passed = |row: &Value, kind: &str| {
        let count = &row[kind]["passed"];
        count
            .as_u64()
            .with_context(|| format!("no {kind} in {row}"))
    };
    for (at, row) in rows.iter().take(runs + 1).enumerate() {
        let more = u64::from(at == runs);
        let (required, optimal) = (passed(row, "required")?, passed(row, "optimal")?);
        if required < REQUIRED + more || optimal < OPTIMAL + more {
            bail!(
                "{} passed {required} required and {optimal} optimal tests, not {} and {}: \
                 run it with --list to see which are missing",
                row["name"],
                REQUIRED + more,
                OPTIMAL + more
            );
        }
    }
    Ok(())
}

fn weir_binary() -> Result<PathBuf> {
    if let Some(program) = std::env::var_os("WEIR_BIN") {
        return Ok(PathBuf::from(program));
    }
    run::shown(&mut run::cargo(&[
        "build",
        "--release",
        "--workspace",
        "--bin",
        "weir",
    ]))?;
    Ok(run::target_dir().join("release/weir"))
}

fn weir(program: &Path, dir: &Path, origin: u16, route: &str) -> Result<Server> {
    let port = free_port()?;
    let config = dir.join("weir.toml");
    let text = format!(
        "listen = [\"127.0.0.1:{port}\"]\n\
         [upstreams.origin]\nservers = [\"http://127.0.0.1:{origin}\"]\n\
         [[routes]]\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n{route}"
    );
    std::fs::write(&config, text)?;
    let version = run::answer(program, &["--version"]).unwrap_or_default();
    let words = ["run", "-c", &config.to_string_lossy()];
    Server::start("weir", version, port, dir, program, &words)
}

/// As the suite's authors configure it.
fn nginx(dir: &Path, origin: u16) -> Result<Server> {
    let port = free_port()?;
    let user = match run::answer("id", &["-u"]).as_deref() {
        Some("0") => "user root;",
        _ => "",
    };
    let at = dir.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|part| format!("{part}_temp_path {at}/{part};\n"))
        .concat();
    let text = format!(
        "{user}\nworker_processes 1;\npid {at}/nginx.pid;\nerror_log {at}/error.log;\n\
         events {{ worker_connections 1024; }}\nhttp {{\naccess_log off;\n{temporary}\
         proxy_cache_path {at}/cache levels=1:2 keys_zone=my-cache:8m max_size=1000m inactive=600m;\n\
         server {{ listen 127.0.0.1:{port}; location / {{\n\
         proxy_pass http://127.0.0.1:{origin};\nproxy_cache my-cache;\n\
         proxy_cache_revalidate on;\nproxy_http_version 1.1;\n}} }} }}\n"
    );
    let config = dir.join("nginx.conf");
    std::fs::write(&config, text)?;
    let program = run::find("nginx").context("nginx is not on PATH")?;
    let words = ["-c", &config.to_string_lossy(), "-g", "daemon off;"];
    Server::start("nginx", String::new(), port, dir, &program, &words)
}

/// As the suite's authors configure it: no freshness and no grace of its own.
fn varnish(dir: &Path, origin: u16) -> Result<Server> {
    let port = free_port()?;
    let vcl = dir.join("default.vcl");
    let text =
        format!("vcl 4.0;\nbackend default {{ .host = \"127.0.0.1\"; .port = \"{origin}\"; }}\n");
    std::fs::write(&vcl, text)?;
    let program = run::find("varnishd").context("varnishd is not on PATH")?;
    let (work, listen) = (dir.join("varnish"), format!("127.0.0.1:{port}"));
    let (work, vcl) = (work.to_string_lossy(), vcl.to_string_lossy());
    let words = [
        "-F",
        "-n",
        &work,
        "-a",
        &listen,
        "-f",
        &vcl,
        "-T",
        "none",
        "-p",
        "default_ttl=0",
        "-p",
        "default_grace=0",
        "-p",
        "default_keep=3600",
        "-s",
        "malloc,64M",
    ];
    Server::start("varnish", String::new(), port, dir, &program, &words)
}
