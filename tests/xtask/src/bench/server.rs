//! A server under measurement.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::SERVER_CORE;
use crate::run;

/// A running server, ended when dropped.
pub(crate) struct Server {
    /// What the table calls it.
    pub(crate) name: &'static str,
    /// What it says of its version.
    pub(crate) version: String,
    /// Where it listens on 127.0.0.1.
    pub(crate) port: u16,
    child: Child,
}

impl Server {
    /// Starts `program` on the server's core and waits until its port answers.
    pub(crate) fn start(
        name: &'static str,
        version: String,
        port: u16,
        dir: &Path,
        program: &Path,
        words: &[&str],
    ) -> Result<Self> {
        let log = dir.join(format!("{name}.log").replace(' ', "-"));
        let file = File::create(&log).context("the log of a server")?;
        let child = Command::new("taskset")
            .args(["-c", SERVER_CORE])
            .arg(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut server = Self {
            name,
            version,
            port,
            child,
        };
        run::until(Duration::from_secs(30), "an answer of the server", || {
            if let Some(status) = server.child.try_wait()? {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                bail!("{name} ended with {status}:\n{said}");
            }
            Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
        })?;
        Ok(server)
    }

    /// The process id: taskset becomes the server itself.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM, so that a master ends its workers; they are not ours to find.
        let id = self.id().to_string();
        drop(Command::new("kill").args(["-TERM", &id]).status());
        let ended = run::until(Duration::from_secs(10), "the server's end", || {
            Ok(self.child.try_wait()?.is_some())
        });
        if ended.is_err() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// A port that is free now.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("a free port")?;
    Ok(listener.local_addr()?.port())
}
