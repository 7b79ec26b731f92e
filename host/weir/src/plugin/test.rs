//! `weir plugin test`: a policy's cases against its component, without a node.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::build::Built;
use crate::cases::{FILE, Report, Suite, report_of};

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// The policy's folder, which is built as by `weir plugin build`, or a component.
    #[arg(default_value = ".")]
    path: PathBuf,
    /// The cases [default: DIR/cases.toml, or those inside the component].
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
}

/// Runs the cases and prints what each came to. A folder's component is written where
/// `weir plugin build` writes it, unless its own cases failed or were not asked for.
///
/// # Errors
/// When there is nothing to test, no case, or the component does not load.
pub(crate) fn test(args: &TestArgs) -> Result<ExitCode> {
    let given = args.cases.as_deref().map(Suite::read).transpose()?;
    let path = &args.path;
    if path.is_dir() {
        // Read first: a mistake in it should not cost a compilation.
        let own = own_cases(path)?;
        let built = Built::of(path, own.as_ref(), &super::terminal())?;
        let Some(given) = given else {
            let Some(own) = own else {
                bail!(
                    "{} has no {FILE}: there is nothing to test. {HINT}",
                    path.display()
                );
            };
            let report = report_of(&built.component, own)?;
            print(&report)?;
            if report.passed() {
                built.write(path, None)?;
            }
            return Ok(code(&report));
        };
        let report = report_of(&built.component, given)?;
        print(&report)?;
        return Ok(code(&report));
    }
    let component = std::fs::read(path)
        .with_context(|| format!("the component {} cannot be read", path.display()))?;
    let suite = match given {
        Some(given) => given,
        None => Suite::inside(&component)?.with_context(|| {
            format!(
                "{} has no cases inside: there is nothing to test. {HINT}",
                path.display()
            )
        })?,
    };
    let report = report_of(&component, suite)?;
    print(&report)?;
    Ok(code(&report))
}

const HINT: &str = "Write some as docs/policies.md says, or name a file of them with --cases";

/// The cases in a policy's folder.
pub(super) fn own_cases(dir: &Path) -> Result<Option<Suite>> {
    let file = dir.join(FILE);
    file.exists().then(|| Suite::read(&file)).transpose()
}

/// A pipe that has been closed is told like any other error.
fn print(report: &Report) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for line in report.lines() {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn code(report: &Report) -> ExitCode {
    match report.passed() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
