//! A redis-server of the test's own.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a condition may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A redis-server on a free port, killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    port: u16,
    dir: TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory for redis-server");
        // Another test may take the port between its choice and its use.
        for _ in 0..20 {
            let port = free_port();
            if let Some(child) = spawn(dir.path(), port) {
                return Self { child, port, dir };
            }
        }
        panic!("redis-server did not come up on any of 20 ports");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends it as a crash would, with all it held.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("redis-server can be killed");
        self.child.wait().expect("redis-server has ended");
    }

    /// Starts it again at the same port, empty.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.dir.path(), self.port).expect("redis-server comes up again");
    }

    /// Stops it from answering, without closing its connections.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .arg(signal)
            .arg(self.child.id().to_string())
            .status();
        assert!(status.expect("kill runs").success());
    }

    /// A connection beside those of the code under test.
    pub(crate) fn connect(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("a URL of Redis");
        client
            .get_connection_with_timeout(PATIENCE)
            .expect("redis-server answers")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A stopped process ends by SIGKILL too; it may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn spawn(dir: &Path, port: u16) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
        .arg("--dir")
        .arg(dir)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server must be installed to run these tests (Debian: apt-get install redis-server)");
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if child
            .try_wait()
            .expect("the state of redis-server")
            .is_some()
        {
            return None;
        }
        if answers(port, child.id()) {
            return Some(child);
        }
        std::thread::yield_now();
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// Does this very process answer? The server of another test may have taken the port first, and
/// ours not yet have noticed.
fn answers(port: u16, process: u32) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
        && redis::Client::open(format!("redis://127.0.0.1:{port}/0"))
            .and_then(|client| client.get_connection_with_timeout(Duration::from_secs(1)))
            .and_then(|mut link| redis::cmd("INFO").arg("server").query::<String>(&mut link))
            .is_ok_and(|info| {
                let ours = format!("process_id:{process}");
                info.lines().any(|line| line == ours)
            })
}
