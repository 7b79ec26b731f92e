//! The self-test of a policy: cases that say what it decides. They stand in a TOML file
//! beside the component, or inside of it, in a custom section.
//!
//! A case is explained as `weir explain` would explain its request, by a node of its own in
//! memory: on a fixed clock, with an empty `kv` and limits that nobody has used.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use weir_policy::{Engine, EngineOptions, Policy, custom_sections};

use crate::run::runtime;

mod compare;
mod format;
mod report;
mod run;
mod values;

pub(crate) use format::Suite;
pub(crate) use report::Report;
use run::Runner;

/// The custom section of a component that holds its cases.
pub(crate) const SECTION: &str = "weir:cases";
/// What the file is called in a policy's folder.
pub(crate) const FILE: &str = "cases.toml";
/// Most bytes of cases.
pub(crate) const MAX_BYTES: usize = 256 << 10;
/// Most cases of a file.
const MAX_CASES: usize = 1_000;

impl Suite {
    /// The cases inside a component, if it has some.
    ///
    /// # Errors
    /// When they are too long, stand there twice, or are not what cases are.
    pub(crate) fn inside(component: &[u8]) -> anyhow::Result<Option<Self>> {
        let mut sections = custom_sections(component).filter(|(name, _)| *name == SECTION);
        let Some((_, data)) = sections.next() else {
            return Ok(None);
        };
        ensure!(
            sections.next().is_none(),
            "the component has cases in two sections {SECTION}; build it with `weir plugin build`, which writes one"
        );
        let name = format!("{FILE} in the component");
        Self::of_bytes(&name, data).map(Some)
    }

    /// The cases in a file.
    ///
    /// # Errors
    /// When it cannot be read, is too long or is not what cases are.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        use std::io::Read as _;
        let unreadable = || format!("the cases {} cannot be read", file.display());
        let mut bytes = Vec::new();
        std::fs::File::open(file)
            .with_context(unreadable)?
            .take(MAX_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .with_context(unreadable)?;
        Self::of_bytes(&file.display().to_string(), &bytes)
    }

    fn of_bytes(name: &str, bytes: &[u8]) -> anyhow::Result<Self> {
        ensure!(
            bytes.len() <= MAX_BYTES,
            "{name}: more than {} KiB; divide the cases, or leave some out",
            MAX_BYTES >> 10
        );
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self::parse(name, text)?),
            Err(error) => {
                let valid = &bytes[..error.valid_up_to()];
                let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
                bail!("{name}:{line}: not UTF-8 text; save it with the encoding UTF-8")
            }
        }
    }
}

/// Runs cases against a component by itself: it is given the file's settings, the defaults
/// where the file sets none, and every capability.
///
/// # Errors
/// When the component does not load with these settings.
pub(crate) fn report_of(component: &[u8], suite: Suite) -> anyhow::Result<Report> {
    let spec = run::spec(&suite)?;
    runtime(1)?.block_on(async {
        let engine = Engine::new(EngineOptions::default());
        let engine = engine.context("the WebAssembly engine cannot be started")?;
        let loaded = engine
            .load(spec, Bytes::copy_from_slice(component), run::fresh())
            .await;
        let policy = loaded.map_err(|error| anyhow::anyhow!("{}", error.cause))?;
        Runner::new(policy)?.run(Arc::new(suite)).await
    })
}

/// Runs the cases that a version ships, and those that stand beside it. Those that the machine
/// is too busy for are told in the log.
///
/// # Errors
/// Names the cases that failed, with what was expected and what came.
pub(crate) async fn test(
    policy: &Policy,
    component: &[u8],
    beside: Option<&Path>,
) -> anyhow::Result<()> {
    let inside = Suite::inside(component).context("its self-test cannot be run")?;
    let beside = beside.map(Suite::read).transpose();
    let beside = beside.context("its self-test cannot be run")?;
    for suite in inside.into_iter().chain(beside) {
        let runner = Runner::new(policy.clone())?;
        let report = runner.run(Arc::new(suite)).await?;
        match report.failure() {
            // A busy node must not lose a version that it had, at a start least of all.
            Some(failure) if report.only_late() => tracing::warn!(
                policy = policy.name(),
                version = policy.version(),
                "the self-test came to no end, and the version is taken without it: {failure}"
            ),
            Some(failure) => bail!("its self-test failed: {failure}"),
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
