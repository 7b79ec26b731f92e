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
    args: Vec<String>,
}

impl RedisServer {
    /// Starts one and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with more arguments of redis-server, and waits until it answers in
    /// cleartext without a password.
    pub async fn start_with(args: &[&str]) -> Self {
        let server = Self::spawn_with(args, Scratch::new());
        server.ready().await;
        server
    }

    /// Starts one in this directory, and does not wait.
    pub fn spawn_with(args: &[&str], scratch: Scratch) -> Self {
        let port = Port::reserve();
        let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let process = spawn(&port, &scratch, &args);
        Self {
            process,
            port,
            scratch,
            args,
        }
    }

    /// A place for a Redis that is not there yet: [`RedisServer::revive`] starts it.
    pub async fn absent() -> Self {
        let mut server = Self::start().await;
        server.kill();
        server
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// `redis://127.0.0.1:PORT/0`.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address())
    }

    /// Kills it: its connections are reset, its data is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, empty, on the same port.
    pub async fn revive(&mut self) {
        self.process.kill();
        self.process = spawn(&self.port, &self.scratch, &self.args);
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

    /// The CPU time that it has used.
    pub fn cpu(&self) -> Duration {
        self.process.cpu()
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// A connection for the test's own questions.
    pub fn connection(&self) -> Connection {
        self.try_connection().expect("a connection to Redis")
    }

    fn try_connection(&self) -> redis::RedisResult<Connection> {
        let client = redis::Client::open(self.url())?;
        client.get_connection_with_timeout(Duration::from_secs(5))
    }

    /// Every key whose name matches the glob, sorted.
    pub fn keys(&self, glob: &str) -> Vec<String> {
        let mut keys: Vec<String> = self.connection().keys(glob).expect("KEYS");
        keys.sort();
        keys
    }

    /// Any command.
    pub fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_command(words)
            .unwrap_or_else(|error| panic!("Redis {words:?}: {error}"))
    }

    /// Any command, which may be refused, or find nobody.
    pub fn try_command<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query(&mut self.try_connection()?)
    }

    /// Waits until it answers a PING.
    pub async fn ready(&self) {
        let client = redis::Client::open(self.url()).expect("the URL of a Redis");
        poll::until("an answer of redis-server", async || {
            let timeout = Duration::from_secs(1);
            let mut connection = client.get_connection_with_timeout(timeout).ok()?;
            redis::cmd("PING").query::<String>(&mut connection).ok()
        })
        .await;
    }
}

fn spawn(port: &Port, scratch: &Scratch, args: &[String]) -> Process {
    let mut command = Command::new("redis-server");
    command
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--port", &port.number().to_string(), "--dir"])
        .arg(scratch.path())
        .args(args);
    Process::spawn("redis-server", &mut command, &scratch.join("redis.log"))
}
