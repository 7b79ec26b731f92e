//! The suite itself: its origin, its client, and its own verdicts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::bench::server::Server;
use crate::run;

/// How much a test counts, by the suite's word for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A failure is a violation.
    Required,
    /// A better cache passes.
    Optimal,
    /// A question: a yes is no better than a no.
    Check,
}

/// All of them, in the order of the table.
pub(super) const KINDS: [Kind; 3] = [Kind::Required, Kind::Optimal, Kind::Check];

/// What the suite says of a test.
pub(super) struct Verdict {
    pub(super) kind: Kind,
    /// `GROUP/TEST`
    name: String,
    verdict: String,
    message: String,
}

impl Verdict {
    pub(super) fn passed(&self) -> bool {
        matches!(&*self.verdict, "pass" | "yes")
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Required => "required",
            Kind::Optimal => "optimal",
            Kind::Check => "check",
        };
        write!(f, "{kind} {} {}", self.name, self.verdict)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}

/// A checkout of the suite.
pub(super) struct Suite(PathBuf);

/// How long the suite may take against one cache.
const PATIENCE: &str = "600";

/// Reads a result on its standard input; its argument is the suite's folder.
const SCORER: &str = r"
import fs from 'node:fs'
const load = file => import('file://' + process.argv[1] + '/' + file)
const { default: suites } = await load('tests/index.mjs')
const { determineTestResult, resultTypes } = await load('test-engine/lib/results.mjs')
const results = JSON.parse(fs.readFileSync(0, 'utf8'))
const names = new Map(Object.entries(resultTypes).map(([name, type]) => [type, name]))
const verdicts = suites.flatMap(suite => suite.tests
  .filter(test => test.browser_only !== true)
  .map(test => ({
    name: suite.id + '/' + test.id,
    kind: test.kind ?? 'required',
    verdict: names.get(determineTestResult(suites, test.id, results)),
    message: Array.isArray(results[test.id]) ? results[test.id].join(': ') : ''
  })))
console.log(JSON.stringify(verdicts))
";

impl Suite {
    /// Takes a checkout, and installs what the suite needs from npm if that is missing.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let dir = dir
            .canonicalize()
            .ok()
            .filter(|dir| dir.join("test-engine/cli.mjs").is_file());
        let Some(dir) = dir else {
            bail!(
                "--suite names no checkout of the suite; make one with \
                 `git clone https://github.com/http-tests/cache-tests` outside this repository \
                 (npm's package of that name is a much older suite)"
            );
        };
        if !dir.join("node_modules/undici").is_dir() {
            let mut npm = Command::new("npm");
            run::shown(npm.args(["install", "--omit=dev"]).current_dir(&dir))?;
        }
        Ok(Self(dir))
    }

    /// Starts its origin.
    pub(super) fn origin(&self, port: u16, dir: &Path) -> Result<Server> {
        let pid_file = dir.join("origin.pid");
        let words = [
            "-C",
            &*self.0.to_string_lossy(),
            "npm_config_protocol=http",
            &format!("npm_config_port={port}"),
            &format!("npm_config_pidfile={}", pid_file.display()),
            "node",
            "--no-warnings",
            "test-engine/server/server.mjs",
        ];
        let env = Path::new("env");
        Server::start("origin", String::new(), port, dir, env, &words)
    }

    /// Runs all tests against what listens on a port.
    pub(super) fn test(&self, port: u16) -> Result<Vec<Verdict>> {
        let client = Command::new("timeout")
            .args([PATIENCE, "node", "--no-warnings", "test-engine/cli.mjs"])
            .current_dir(&self.0)
            .env("npm_config_base", format!("http://127.0.0.1:{port}"))
            // Outside npm it runs all tests only if both are there and empty.
            .env("npm_config_id", "")
            .env("npm_package_config_id", "")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start the suite's client")?;
        let said = String::from_utf8_lossy(&client.stdout);
        // It prints errors before its result.
        let result = said.find("\n{\n").map(|at| &said[at + 1..]);
        let result = result.or_else(|| said.starts_with("{\n").then_some(&*said));
        let Some(result) = result.filter(|_| client.status.success()) else {
            bail!("the suite's client ended with {}:\n{said}", client.status);
        };
        self.score(result)
    }

    fn score(&self, result: &str) -> Result<Vec<Verdict>> {
        let mut scorer = Command::new("node")
            .args(["--input-type=module", "--eval", SCORER, "--"])
            .arg(&self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start node")?;
        let mut input = scorer.stdin.take().context("the scorer's input")?;
        std::io::Write::write_all(&mut input, result.as_bytes()).context("the scorer's input")?;
        drop(input);
        let output = scorer.wait_with_output()?;
        let verdicts: Value =
            serde_json::from_slice(&output.stdout).context("the suite's verdicts")?;
        let verdicts = verdicts.as_array().context("the suite's verdicts")?;
        verdicts.iter().map(verdict).collect()
    }
}

fn verdict(value: &Value) -> Result<Verdict> {
    let text = |name: &str| {
        let text = value[name].as_str();
        text.map(str::to_owned)
            .with_context(|| format!("no {name} in {value}"))
    };
    let kind = match &*text("kind")? {
        "required" => Kind::Required,
        "optimal" => Kind::Optimal,
        "check" => Kind::Check,
        other => bail!("the suite has tests of a kind that is not known here: {other}"),
    };
    Ok(Verdict {
        kind,
        name: text("name")?,
        verdict: text("verdict")?,
        message: text("message")?,
    })
}
