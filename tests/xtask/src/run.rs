//! Running programs, and where things lie.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    let mut dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    // tests/xtask lies two levels below it.
    dir.pop();
    dir.pop();
    dir
}

/// Cargo's target directory.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => workspace().join(dir),
        None => workspace().join("target"),
    }
}

/// A cargo command in the workspace.
pub(crate) fn cargo(words: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(words).current_dir(workspace());
    command
}

/// The path of a program, if `PATH` (or the places of servers) has it.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let servers = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(servers)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// Runs a command with its output shown. Fails when it does.
pub(crate) fn shown(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", text_of(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", text_of(command));
    }
    Ok(())
}

/// Builds the node and a program of the tests in the release profile, and runs that.
pub(crate) fn released(program: &str, words: &[String]) -> Result<()> {
    shown(&mut cargo(&[
        "build",
        "--release",
        "--workspace",
        "--bin",
        "weir",
    ]))?;
    beside(&target_dir().join("release/weir"), program, words)
}

/// Builds a program of the tests, and runs it with this node.
pub(crate) fn beside(node: &Path, program: &str, words: &[String]) -> Result<()> {
    shown(&mut cargo(&[
        "build",
        "--release",
        "--workspace",
        "--bin",
        program,
    ]))?;
    let mut command = Command::new(target_dir().join("release").join(program));
    command
        .args(words)
        .env("WEIR_BIN", node)
        .current_dir(workspace());
    shown(&mut command)
}

/// Runs a command with its output shown, and returns its last `keep` lines beside whether
/// it succeeded.
pub(crate) fn kept(mut command: Command, keep: usize) -> Result<(bool, Vec<String>)> {
    announce(&command);
    let (reader, writer) = std::io::pipe().context("a pipe")?;
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("a pipe")?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("cannot start {}", text_of(&command)))?;
    // It holds the pipe's writing end: while it lives, no end of file comes.
    drop(command);
    let mut last = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(std::io::stdout(), "{line}")?;
        last.push(line);
        if last.len() > keep {
            last.remove(0);
        }
    }
    Ok((child.wait()?.success(), last))
}

/// What the compiler that cargo uses answers.
pub(crate) fn rustc(words: &[&str]) -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    answer(&rustc, words).with_context(|| format!("{} {} fails", rustc.display(), words.join(" ")))
}

/// A command's standard output, trimmed; `None` when it fails or is not there.
pub(crate) fn answer(program: impl AsRef<OsStr>, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// Asks `probe` until it answers true, at most for `deadline`.
pub(crate) fn until(
    deadline: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let begun = Instant::now();
    while !probe()? {
        if begun.elapsed() > deadline {
            bail!("waited {deadline:?} in vain: {what}");
        }
        pause(Duration::from_millis(20));
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a task runner serves nobody whom a blocked thread could keep waiting"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A file's path relative to the workspace, for people.
pub(crate) fn short(path: &Path) -> String {
    let root = workspace();
    path.strip_prefix(&root)
        .unwrap_or(path)
        .display()
        .to_string()
}

fn announce(command: &Command) {
    println!("\n$ {}", text_of(command));
}

fn text_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let mut text = name.to_string_lossy().into_owned();
    for word in command.get_args() {
        text.push(' ');
        text.push_str(&word.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{find, kept};

    #[test]
    fn keeps_the_last_lines_of_both_outputs_and_the_verdict() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo a; echo b; echo c >&2; exit 3"]);
        let (passed, lines) = kept(command, 2).unwrap();
        assert!(!passed);
        assert_eq!(lines, ["b", "c"]);
    }

    #[test]
    fn finds_programs_on_the_path() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }
}
