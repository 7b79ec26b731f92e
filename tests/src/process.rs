//! A child process whose output is kept and which ends with the test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

use crate::poll;

/// A running child. Dropping it kills that one process id.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts `command` with both of its outputs appended to the file `output`.
    pub fn spawn(name: &'static str, command: &mut Command, output: &Path) -> Self {
        let file = File::options()
            .create(true)
            .append(true)
            .open(output)
            .expect("the file for a child's output");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle of a file"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self {
            name,
            child,
            output: output.to_owned(),
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to it. Does nothing once it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.exit().is_none() {
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            kill_process(pid.expect("a child has a process id"), signal)
                .expect("a signal to a child");
        }
    }

    /// Its exit status, once it has ended.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of a child")
    }

    /// Waits for its end, at most for `deadline`.
    pub async fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("the end of {} ({})", self.name, self.id());
        poll::until_within(deadline, &what, async || self.exit()).await
    }

    /// Kills it and waits until the kernel has it no more.
    pub fn kill(&mut self) {
        if self.exit().is_none() {
            self.child.kill().expect("killing a child");
            self.child.wait().expect("the end of a killed child");
        }
    }

    /// Everything it has printed so far.
    pub fn output(&self) -> String {
        let bytes = std::fs::read(&self.output).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The CPU time that it has used, all its threads.
    pub fn cpu(&self) -> Duration {
        self.times(0)
    }

    /// CPU time that its children have used that have ended. Panics when it has ended.
    pub fn cpu_of_children(&self) -> Duration {
        self.times(2)
    }

    /// Two fields of `/proc/PID/stat`, from so many behind `utime`.
    fn times(&self, from: usize) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()));
        let stat = stat.expect("/proc of a running child");
        // Behind the name, which may have spaces: the 14th and 15th field are the 12th and
        // 13th there.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
        let fields = fields.expect("a name in /proc").split_whitespace();
        let ticks = fields.skip(11 + from).take(2).map(|ticks| {
            let ticks: u64 = ticks.parse().expect("ticks in /proc");
            ticks
        });
        let each = 1_000_000_000 / rustix::param::clock_ticks_per_second();
        Duration::from_nanos(ticks.sum::<u64>() * each)
    }

    /// Resident memory now, in bytes. Panics when it has ended.
    pub fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(&path).expect("/proc of a live child");
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().strip_suffix("kB"))
            .and_then(|number| number.trim().parse::<u64>().ok());
        kib.expect("VmRSS of a live child") * 1024
    }
}

/// SIGKILL to a child by its id, from a task that has not the child itself. Does nothing
/// once it has ended.
pub fn kill(process: u32) {
    if let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        // Ended already: what the caller wants.
        let _ = kill_process(pid, Signal::KILL);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Not `kill()`: a panic in drop would hide the test's own.
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            eprintln!("--- {} printed:\n{}---", self.name, self.output());
        }
    }
}
