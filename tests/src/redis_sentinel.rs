//! A master with two replicas, and three sentinels that watch them.

use std::process::Command;
use std::time::Duration;

use redis::RedisResult;

use crate::poll;
use crate::port::Port;
use crate::process::Process;
use crate::redis_server::RedisServer;
use crate::scratch::Scratch;

/// What the sentinels call the master.
pub const SERVICE: &str = "mymaster";

/// How long a silent server counts as alive, in milliseconds.
const DOWN_AFTER: &str = "500";

/// Three redis-servers and three sentinels.
#[derive(Debug)]
pub struct RedisSentinel {
    /// The servers; the first is the master at the start.
    pub servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    process: Process,
    port: Port,
    scratch: Scratch,
}

impl RedisSentinel {
    /// Starts them all, and waits until the sentinels know each other and every server.
    pub async fn start() -> Self {
        let mut servers = vec![server(None).await];
        let master = servers[0].port().to_string();
        for _ in 0..2 {
            servers.push(server(Some(&master)).await);
        }
        for replica in &servers[1..] {
            poll::until("a replica in step", async || {
                let info: String = replica.command(&["INFO", "replication"]);
                info.contains("master_link_status:up").then_some(())
            })
            .await;
        }
        let sentinels = (0..3).map(|_| Sentinel::start(&master)).collect();
        let this = Self { servers, sentinels };
        this.settled().await;
        this
    }

    /// `127.0.0.1:PORT` of each sentinel.
    pub fn addresses(&self) -> Vec<String> {
        self.sentinels.iter().map(Sentinel::address).collect()
    }

    /// The tables of a node's configuration that lead to the master.
    pub fn tables(&self) -> String {
        let servers = self.addresses();
        format!("[redis.sentinel]\nservers = {servers:?}\nservice = {SERVICE:?}\n")
    }

    /// Waits until every living sentinel knows the others and two replicas in good health.
    pub async fn settled(&self) {
        for sentinel in &self.sentinels {
            poll::until("sentinels that know each other", async || {
                let fields = sentinel.ask(&["SENTINEL", "MASTER", SERVICE]).ok()?;
                let field = |name: &str| {
                    let at = fields.iter().position(|field| field == name)?;
                    fields.get(at + 1).cloned()
                };
                let known = field("flags")? == "master"
                    && field("num-other-sentinels")? == "2"
                    && field("num-slaves")? == "2";
                let replicas = sentinel.replicas().ok()?;
                let well = replicas
                    .iter()
                    .all(|flags| !flags.contains("down") && !flags.contains("disconnected"));
                (known && well).then_some(())
            })
            .await;
        }
    }

    /// Which of the servers most sentinels call the master now.
    pub fn master(&self) -> Option<usize> {
        let ports: Vec<String> = self
            .sentinels
            .iter()
            .filter_map(|sentinel| {
                let said = sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]);
                said.ok()?.pop()
            })
            .collect();
        let named = |port: &&String| ports.iter().filter(|other| other == port).count() >= 2;
        let port = ports.iter().find(named)?;
        self.servers
            .iter()
            .position(|server| server.port().to_string() == *port)
    }

    /// Waits until another server than `from` is the master and says so itself; which one.
    pub async fn promoted(&self, from: usize) -> usize {
        poll::until("a new master", async || {
            let now = self.master().filter(|now| *now != from)?;
            let role: Vec<redis::Value> = self.servers[now].try_command(&["ROLE"]).ok()?;
            let role: String = redis::from_redis_value(role.into_iter().next()?).ok()?;
            (role == "master").then_some(now)
        })
        .await
    }

    /// Has the sentinels promote a replica of a healthy master. See
    /// [`RedisSentinel::promoted`].
    pub async fn fail_over(&self) {
        poll::until("a sentinel that begins a failover", async || {
            let asked = self.sentinels[0].ask_ok(&["SENTINEL", "FAILOVER", SERVICE]);
            asked.ok()
        })
        .await;
    }

    /// Ends one sentinel.
    pub fn kill_sentinel(&mut self, at: usize) {
        self.sentinels[at].process.kill();
    }
}

async fn server(master: Option<&str>) -> RedisServer {
    // A replica that was lost a moment ago is let in at once.
    let mut args = vec![
        "--repl-diskless-sync-delay",
        "0",
        "--repl-ping-replica-period",
        "1",
    ];
    if let Some(master) = master {
        args.extend(["--replicaof", "127.0.0.1", master]);
    }
    RedisServer::start_with(&args).await
}

impl Sentinel {
    fn start(master: &str) -> Self {
        let (port, scratch) = (Port::reserve(), Scratch::new());
        let number = port.number();
        let config = format!(
            "port {number}\nbind 127.0.0.1\ndir {}\n\
             sentinel monitor {SERVICE} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}\n\
             sentinel failover-timeout {SERVICE} 3000\n",
            scratch.path().display()
        );
        // It writes into the file what it learns.
        let file = scratch.write("sentinel.conf", config);
        let mut command = Command::new("redis-server");
        command.arg(file).arg("--sentinel");
        let process = Process::spawn("sentinel", &mut command, &scratch.join("sentinel.log"));
        Self {
            process,
            port,
            scratch,
        }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    fn connection(&self) -> RedisResult<redis::Connection> {
        redis::Client::open(format!("redis://{}", self.address()))?
            .get_connection_with_timeout(Duration::from_secs(1))
    }

    fn ask(&self, words: &[&str]) -> RedisResult<Vec<String>> {
        redis::cmd(words[0])
            .arg(&words[1..])
            .query(&mut self.connection()?)
    }

    fn ask_ok(&self, words: &[&str]) -> RedisResult<()> {
        redis::cmd(words[0])
            .arg(&words[1..])
            .query(&mut self.connection()?)
    }

    /// The flags of each replica.
    fn replicas(&self) -> RedisResult<Vec<String>> {
        let replicas: Vec<std::collections::HashMap<String, String>> = redis::cmd("SENTINEL")
            .arg(&["REPLICAS", SERVICE])
            .query(&mut self.connection()?)?;
        Ok(replicas
            .into_iter()
            .filter_map(|mut replica| replica.remove("flags"))
            .collect())
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        // What a sentinel logged tells why a failover did not happen.
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.scratch.join("sentinel.log"));
            eprintln!("--- sentinel:\n{}", log.unwrap_or_default());
        }
    }
}
