//! A redis-server of the test's own.

use std::process::Command;
use std::time::Duration;

use redis::{Commands, Connection, FromRedisValue};

use crate::poll;
use crate::port::Port;
use crate::process::{Process, Signal};
use crate::scratch::Scratch;

/// A real redis-server without persistence, on a port of its own.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    port: Port,
    scratch: Scratch,
}

impl RedisServer {
    /// Starts one and waits until it answers.
    pub async fn start() -> Self {
        let (port, scratch) = (Port::reserve(), Scratch::new());
        let process = spawn(&port, &scratch);
        let server = Self {
            process,
            port,
            scratch,
        };
        server.ready().await;
        server
    }

    /// A place for a Redis that is not there yet: [`RedisServer::revive`] starts it.
    pub async fn absent() -> Self {
        let mut server = Self::start().await;
        server.kill();
        server
    }

    /// `redis://127.0.0.1:PORT/0`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port.number())
    }

    /// Kills it: its connections are reset, its data is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, empty, on the same port.
    pub async fn revive(&mut self) {
        self.process.kill();
        self.process = spawn(&self.port, &self.scratch);
        self.ready().await;
    }

    /// Freezes it: connections stand, nothing answers.
    pub fn stop(&mut self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on after [`RedisServer::stop`].
    pub fn cont(&mut self) {
        self.process.signal(Signal::CONT);
    }

    /// A connection for the test's own questions.
    pub fn connection(&self) -> Connection {
        let client = redis::Client::open(self.url()).expect("the URL of a Redis");
        client
            .get_connection_with_timeout(Duration::from_secs(5))
            .expect("a connection to Redis")
    }

    /// Every key whose name matches the glob, sorted.
    pub fn keys(&self, glob: &str) -> Vec<String> {
        let mut keys: Vec<String> = self.connection().keys(glob).expect("KEYS");
        keys.sort();
        keys
    }

    /// Any command.
    pub fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        let answer = command.query(&mut self.connection());
        answer.unwrap_or_else(|error| panic!("Redis {words:?}: {error}"))
    }

    async fn ready(&self) {
        let client = redis::Client::open(self.url()).expect("the URL of a Redis");
        poll::until("an answer of redis-server", async || {
            let timeout = Duration::from_secs(1);
            let mut connection = client.get_connection_with_timeout(timeout).ok()?;
            redis::cmd("PING").query::<String>(&mut connection).ok()
        })
        .await;
    }
}

fn spawn(port: &Port, scratch: &Scratch) -> Process {
    let mut command = Command::new("redis-server");
    command
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--port", &port.number().to_string(), "--dir"])
        .arg(scratch.path());
    Process::spawn("redis-server", &mut command, &scratch.join("redis.log"))
}
