//! `cargo xtask fuzz`: the fuzz targets of `tests/fuzz` under libFuzzer.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{install, run};

/// Inputs are at most so many bytes: what is parsed has bounds of its own, and small inputs
/// run faster.
const LONGEST_INPUT: usize = 4096;
/// An input that takes longer is a finding: nothing here may be slow, whoever sends it.
const SLOWEST: Duration = Duration::from_secs(10);

/// Every parser that meets the network or Redis, under libFuzzer.
///
/// Runs the targets of tests/fuzz one after the other, each on one core. It needs nightly Rust
/// and cargo-fuzz, and installs what is missing.
///
/// A target begins with the inputs in tests/fuzz/corpus. Those it finds go to
/// target/fuzz/corpus, and the next run goes on from there; what it prints goes to
/// target/fuzz/NAME.log.
///
/// After a finding the other targets still run. The command then fails, with the input's file,
/// how to run it again, and how to keep it: the plain tests replay what lies in
/// tests/fuzz/corpus.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask fuzz                        every target, 10 minutes each\n  \
    cargo xtask fuzz wire log --minutes 60  two of them, an hour each\n  \
    cargo test -p weir-fuzz                 replays what was kept, without a fuzzer")]
pub(crate) struct Options {
    /// What to fuzz: names of files in tests/fuzz/libfuzzer/fuzz_targets [default: all]
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Minutes for each target
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    minutes: u64,
}

/// Builds the targets and runs them. Fails if one found something.
pub(crate) fn run(options: &Options) -> Result<()> {
    let targets = chosen(&options.targets, all()?)?;
    install::nightly()?;
    install::cargo_fuzz()?;
    let scratch = run::target_dir().join("fuzz");
    let bin = build(&scratch)?;
    let mut findings = 0;
    for target in &targets {
        let outcome = fuzz(target, &bin, &scratch, options.minutes)?;
        println!("{}", outcome.line(target));
        if let Some(finding) = outcome.finding {
            findings += 1;
            println!("{}", finding.advice(target, &bin.join(target)));
        }
    }
    if findings > 0 {
        bail!("{findings} of {} targets found something", targets.len());
    }
    Ok(())
}

fn project() -> PathBuf {
    run::workspace().join("tests/fuzz")
}

/// The names of the targets: those of their files.
fn all() -> Result<Vec<String>> {
    let dir = project().join("libfuzzer/fuzz_targets");
    let entries = std::fs::read_dir(&dir).with_context(|| dir.display().to_string())?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem()
        {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn chosen(wanted: &[String], known: Vec<String>) -> Result<Vec<String>> {
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name)) {
        bail!(
            "there is no fuzz target `{unknown}`; there are: {}",
            known.join(", ")
        );
    }
    Ok(match wanted {
        [] => known,
        names => names.to_vec(),
    })
}

/// Builds every target, and returns the folder of the programs.
fn build(scratch: &Path) -> Result<PathBuf> {
    // No sanitizer: unsafe code is denied, and without it twice as many inputs are run.
    let mut command = install::nightly_cargo();
    command
        .args(["fuzz", "build", "--sanitizer", "none", "--fuzz-dir"])
        .arg(project().join("libfuzzer"))
        .arg("--target-dir")
        .arg(scratch)
        .current_dir(run::workspace());
    run::shown(&mut command)?;
    let version = run::answer("rustc", &["-vV"]).context("rustc does not answer")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc -vV names no host")?;
    Ok(scratch.join(host).join("release"))
}

fn fuzz(target: &str, bin: &Path, scratch: &Path, minutes: u64) -> Result<Outcome> {
    let (found, findings) = (
        scratch.join("corpus").join(target),
        scratch.join("findings"),
    );
    for dir in [&found, &findings] {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    let log = scratch.join(format!("{target}.log"));
    let output = File::create(&log).with_context(|| log.display().to_string())?;
    println!(
        "\n{target}: {minutes} minutes; what it prints is in {}",
        run::short(&log)
    );
    let begun = Instant::now();
    // New inputs go to the first folder; the tree's is only read.
    let status = Command::new(bin.join(target))
        .arg(format!("-max_total_time={}", minutes * 60))
        .arg(format!("-max_len={LONGEST_INPUT}"))
        .arg(format!("-timeout={}", SLOWEST.as_secs()))
        .arg("-print_final_stats=1")
        .arg(format!(
            "-artifact_prefix={}",
            findings.join(format!("{target}-")).display()
        ))
        .args([found, project().join("corpus").join(target)])
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .with_context(|| format!("cannot start {}", bin.join(target).display()))?;
    let text = std::fs::read(&log).with_context(|| log.display().to_string())?;
    let mut outcome = Outcome::read(&String::from_utf8_lossy(&text), begun.elapsed());
    if !status.success() && outcome.finding.is_none() {
        bail!(
            "{target} ended with {status}, and without an input: see {}",
            log.display()
        );
    }
    if status.success() {
        // Slow inputs are written too, and are none.
        outcome.finding = None;
    }
    Ok(outcome)
}

/// What a target said at its end.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    executions: Option<u64>,
    /// Edges of the program that some input reached.
    coverage: Option<u64>,
    took: Duration,
    finding: Option<Finding>,
}

#[derive(Debug, PartialEq, Eq)]
struct Finding {
    input: String,
    /// The panic, or what else libFuzzer did not like.
    why: String,
}

impl Outcome {
    fn read(log: &str, took: Duration) -> Self {
        let last = |mark: &str| {
            let rest = log.rsplit_once(mark)?.1.trim_start();
            let end = rest.find(|c: char| !c.is_ascii_digit());
            rest[..end.unwrap_or(rest.len())].parse().ok()
        };
        let lines = || log.lines();
        let input = lines()
            .rev()
            .find_map(|line| line.split_once("Test unit written to "));
        let panic = lines()
            .position(|line| line.starts_with("thread ") && line.contains(" panicked at "))
            .map(|at| lines().skip(at).take(4).collect::<Vec<_>>().join("\n"));
        let other = lines().find_map(|line| line.split_once("ERROR: libFuzzer: "));
        let why = panic.or_else(|| other.map(|(_, why)| why.to_owned()));
        Self {
            executions: last("stat::number_of_executed_units:"),
            coverage: last(" cov: "),
            took,
            finding: input.map(|(_, path)| Finding {
                input: path.trim().to_owned(),
                why: why.unwrap_or_default(),
            }),
        }
    }

    fn line(&self, target: &str) -> String {
        let number = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), thousands);
        format!(
            "{target}: {} executions in {} s, {} edges covered, {}",
            number(self.executions),
            self.took.as_secs(),
            number(self.coverage),
            match self.finding {
                Some(_) => "A FINDING",
                None => "no finding",
            }
        )
    }
}

impl Finding {
    fn advice(&self, target: &str, program: &Path) -> String {
        let Self { input, why } = self;
        format!(
            "{why}\n  the input:        {input}\n  \
             to run it again:  {program} {input}\n  \
             to make it small: {program} -minimize_crash=1 -max_total_time=60 {input}\n  \
             to keep it:       copy it to tests/fuzz/corpus/{target}/ under a telling name; \
             `cargo test -p weir-fuzz` then fails until it is dealt with",
            program = program.display()
        )
    }
}

/// `1234567` as `1,234,567`.
fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_quiet_end_has_numbers_and_no_finding() {
        let log = "#2\tINITED cov: 40 ft: 41 corp: 1/1b exec/s: 0 rss: 30Mb\n\
            #1234567\tDONE   cov: 1678 ft: 4711 corp: 9/12Kb lim: 99 exec/s: 2016 rss: 61Mb\n\
            Done 1234567 runs in 601 second(s)\n\
            stat::number_of_executed_units: 1234567\n\
            stat::average_exec_per_sec:     2054\n";
        let outcome = Outcome::read(log, SECOND);
        assert_eq!(
            outcome.line("wire"),
            "wire: 1,234,567 executions in 1 s, 1,678 edges covered, no finding"
        );
        assert_eq!(outcome.finding, None);
    }

    #[test]
    fn a_finding_says_which_input_and_why() {
        let log = "#2\tINITED cov: 40 ft: 41 corp: 1/1b exec/s: 0 rss: 30Mb\n\
            \nthread '<unnamed>' (7) panicked at tests/fuzz/src/wire.rs:1:2:\n\
            bytes pass after a stop\nstack backtrace:\n   0: a\n   1: b\n\
            ==7== ERROR: libFuzzer: deadly signal\n\
            artifact_prefix='/t/wire-'; Test unit written to /t/wire-crash-00\n\
            stat::number_of_executed_units: 7\n";
        let outcome = Outcome::read(log, SECOND);
        assert!(outcome.line("wire").ends_with("A FINDING"));
        let advice = outcome
            .finding
            .unwrap()
            .advice("wire", Path::new("/b/wire"));
        for said in [
            "bytes pass after a stop",
            "/b/wire /t/wire-crash-00",
            "tests/fuzz/corpus/wire/",
        ] {
            assert!(advice.contains(said), "{advice}");
        }
    }

    #[test]
    fn every_target_is_known_and_others_are_named() {
        let known = all().unwrap();
        assert!(known.contains(&"wire".to_owned()));
        assert_eq!(chosen(&[], known.clone()).unwrap(), known);
        let error = chosen(&["wires".into()], known).unwrap_err().to_string();
        assert!(
            error.contains("`wires`") && error.contains("log, "),
            "{error}"
        );
    }
}
