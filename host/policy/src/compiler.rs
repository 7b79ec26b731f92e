//! The process that compiles components for a node: this program, started anew.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Signal;
use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};

use crate::engine;

/// The lowest priority that there is: beside a thread that serves, about one part in
/// seventy.
pub(crate) const NICE: i32 = 19;
/// How long a compiler tries with what nobody else wants: this, and [`PATIENCE_PER_BYTE`]; and as
/// long again while it has [`SHARE`]. A thread that serves would wait for a slice of the lowest
/// priority, a millisecond or two.
const PATIENCE: Duration = Duration::from_millis(500);
/// Several times what a component takes where nobody else wants anything.
const PATIENCE_PER_BYTE: Duration = Duration::from_micros(2);
/// One part in so many of a core. It would have less with a part for itself, and begin anew.
const SHARE: u32 = 10;
/// The exit status that says: what it wrote is no code, but what is wrong with the component.
const REFUSED: u8 = 3;
/// The longest text of that, in bytes.
const LONGEST_TEXT: u64 = 64 * 1024;
/// The exit status that says: what nobody else wanted was too little.
const STARVED: u8 = 4;
/// The argument with how long that is tried, in milliseconds.
const IDLE_FOR: &str = "--idle-for";

/// A program that does [`compile_component`] with its standard input and output.
#[derive(Debug, Clone)]
pub struct Compiler {
    program: PathBuf,
    args: Vec<OsString>,
    /// Held open where `program` names it so.
    _file: Option<Arc<File>>,
}

/// What a compiler wrote, in memory that this process alone can reach.
#[derive(Debug)]
pub(crate) struct Code(File);

/// Why there is no code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The program cannot be started.
    Start(String),
    /// The component is wrong: what wasmtime says.
    Refused(String),
    /// It ended without an answer.
    Died(String),
}

impl Compiler {
    /// `program`, started with `args`. Its answers are trusted like this program itself.
    pub fn new(
        program: impl AsRef<Path>,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: args.into_iter().map(|it| it.as_ref().to_owned()).collect(),
            _file: None,
        }
    }

    /// The program that is running, whatever becomes of its file.
    pub fn this_program(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        // Started by that name it would be valgrind itself, where that runs this program.
        let this = "/proc/self/exe";
        match File::open(this) {
            Ok(file) => {
                let compiler = Self::new(path_of(&file), args);
                Self {
                    _file: Some(Arc::new(file)),
                    ..compiler
                }
            }
            Err(_) => Self::new(this, args),
        }
    }

    /// Blocks until it has answered. On a node whose processors have no time to spare it begins
    /// anew, with a small part of theirs. It takes as many of them as there are, or `threads`.
    pub(crate) fn compile(
        &self,
        component: &[u8],
        threads: Option<usize>,
    ) -> Result<Code, Failure> {
        let bytes = u32::try_from(component.len()).unwrap_or(u32::MAX);
        let patience = PATIENCE + PATIENCE_PER_BYTE.saturating_mul(bytes);
        if let Some(code) = self.try_compile(component, threads, Some(patience))? {
            return Ok(code);
        }
        let code = self.try_compile(component, threads, None)?;
        code.ok_or_else(|| Failure::Died("the process that compiles it gave up twice".to_owned()))
    }

    /// `None` where it was starved.
    fn try_compile(
        &self,
        component: &[u8],
        threads: Option<usize>,
        idle_for: Option<Duration>,
    ) -> Result<Option<Code>, Failure> {
        let start = |error: io::Error| {
            Failure::Start(format!(
                "{} does not start: {error}",
                self.program.display()
            ))
        };
        // Written by the one and mapped by the other, with no copy through this process.
        let code = memfd_create("weir-compiled", MemfdFlags::CLOEXEC)
            .map_err(|error| start(error.into()))?;
        let code = File::from(code);
        let output = code.try_clone().map_err(start)?;
        let limit = idle_for.map(|time| [IDLE_FOR.to_owned(), time.as_millis().to_string()]);
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .args(limit.iter().flatten())
            .stdin(Stdio::piped())
            .stdout(output)
            // It ends soon: what it would give back meanwhile it takes again at once.
            .env("MIMALLOC_PURGE_DELAY", "-1")
            // By which wasmtime divides the work.
            .envs(threads.map(|threads| ("RAYON_NUM_THREADS", threads.to_string())))
            .spawn()
            .map_err(start)?;
        // One that ends before it has read all is told by its status. What is written here is
        // closed with it, which tells the process that it has all.
        if let Some(mut input) = child.stdin.take() {
            drop(input.write_all(component));
        }
        let died = |what: &dyn fmt::Display| {
            Failure::Died(format!(
                "the process that compiles it ended without an answer ({what}): has it enough memory?"
            ))
        };
        let status = child.wait().map_err(|error| died(&error))?;
        if status.success() {
            Ok(Some(Code(code)))
        } else if status.code() == Some(REFUSED.into()) {
            let text = text(code).map_err(|error| died(&error))?;
            Err(Failure::Refused(text))
        } else if status.code() == Some(STARVED.into()) {
            Ok(None)
        } else {
            Err(died(&status))
        }
    }
}

impl Code {
    /// Where to open it.
    pub(crate) fn path(&self) -> String {
        path_of(&self.0)
    }
}

fn path_of(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn text(mut written: File) -> io::Result<String> {
    let mut text = Vec::new();
    written.rewind()?;
    written.take(LONGEST_TEXT).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Compiles the component that `input` holds and writes what became of it to `output`, at the
/// lowest priority, and no longer than the process that asked for it lives. With `idle_for` it
/// has only what nobody else wants, and the process ends when it is not done by then and had less
/// than a tenth of a core. For the
/// process that a [`Compiler`] starts, which is to end with the status that this returns.
///
/// # Errors
/// When reading or writing fails.
pub fn compile_component(
    mut input: impl Read,
    mut output: impl Write,
    idle_for: Option<Duration>,
) -> io::Result<ExitCode> {
    // Without the two it takes more from the requests, or is of no use to anybody.
    let _ = lower_priority();
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let mut component = Vec::new();
    input.read_to_end(&mut component)?;
    let watch = idle_for.and_then(|time| idle(time).ok());
    let compiled =
        engine::wasmtime_engine().and_then(|engine| engine.precompile_component(&component));
    drop(watch);
    let (answer, status) = match compiled {
        Ok(code) => (code, ExitCode::SUCCESS),
        Err(error) => (format!("{error:#}").into_bytes(), REFUSED.into()),
    };
    output.write_all(&answer)?;
    output.flush()?;
    Ok(status)
}

/// Takes only what nobody else wants from now on. The process ends after this time if that was
/// too little, unless what is returned is dropped before.
fn idle(time: Duration) -> io::Result<Sender<()>> {
    let (done, ended) = mpsc::channel();
    // Begun before, it is not starved itself.
    std::thread::Builder::new().spawn(move || {
        let mut used = Duration::ZERO;
        while ended.recv_timeout(time) == Err(RecvTimeoutError::Timeout) {
            let now = cpu_time();
            if !is_enough(now.saturating_sub(used), time) {
                std::process::exit(STARVED.into());
            }
            used = now;
        }
    })?;
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let lowest = ThreadPriority::Min;
    // Where that is not to be had it is slow for others.
    let _ = set_thread_priority_and_policy(thread_native_id(), lowest, idle);
    Ok(done)
}

/// Does a compiler that had so much CPU time in this time go on?
fn is_enough(used: Duration, time: Duration) -> bool {
    used > time / SHARE && !time.is_zero()
}

/// What this process has used.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .map(Duration::from)
        .unwrap_or_default()
}

/// Of this thread, and of those that it starts.
pub(crate) fn lower_priority() -> rustix::io::Result<()> {
    rustix::process::setpriority_process(None, NICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_has_a_tenth_of_a_core_is_not_starved() {
        let second = Duration::from_secs(1);
        assert!(is_enough(Duration::from_millis(101), second));
        assert!(!is_enough(Duration::from_millis(99), second));
        assert!(!is_enough(second, Duration::ZERO), "no time at all");
    }

    #[test]
    fn what_this_process_uses_is_known() {
        let before = cpu_time();
        let mut number = 1_u64;
        while cpu_time() == before {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
        assert!(cpu_time() > before);
    }
}
