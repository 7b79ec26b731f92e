//! `cargo xtask smuggling`: each case of the corpus with the node's answer.

use anyhow::Result;

use crate::run;

/// Builds the node, runs the corpus against it and prints the table.
pub(crate) fn run() -> Result<()> {
    run::shown(&mut run::cargo(&["build", "--workspace", "--bin", "weir"]))?;
    let weir = run::target_dir().join("debug/weir");
    let mut command = run::cargo(&[
        "test",
        "--quiet",
        "--workspace",
        "--test",
        "smuggling",
        "--",
        "--nocapture",
        "each_is_refused_or_forwarded",
    ]);
    command.env("WEIR_BIN", weir).env("WEIR_SHOW", "1");
    run::shown(&mut command)
}
