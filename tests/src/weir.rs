//! The node under test: the real binary with a configuration of the test's.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use reqwest::{Client, Method};

use crate::admin::Admin;
use crate::answer::{self, Answer};
use crate::artifact;
use crate::names::LOG_SYNCHRONISED;
use crate::poll::{self, PATIENCE};
use crate::port::Port;
use crate::process::{Process, Signal};
use crate::scratch::Scratch;

/// A configuration text with placeholders. `{port}`, `{admin}` and `{dir}` (the node's
/// own directory) are always there; [`Config::set`] adds more. Other braces are left
/// alone, so that path patterns need no escaping.
#[derive(Debug, Clone)]
pub struct Config {
    text: String,
    core: Option<usize>,
}

/// What begins every configuration: the two listeners.
const LISTENERS: &str = "listen = [\"127.0.0.1:{port}\"]\n\
    [admin]\nlisten = \"127.0.0.1:{admin}\"\n";

impl Config {
    /// A whole configuration.
    pub fn whole(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            core: None,
        }
    }

    /// A configuration of tables, to which the listeners are added.
    pub fn new(tables: &str) -> Self {
        Self::whole(&format!("{LISTENERS}{tables}"))
    }

    /// One upstream called `origin` and one route for every path, plain RFC 9111.
    pub fn plain(origin: &str) -> Self {
        Self::new(
            "[upstreams.origin]\nservers = [\"{origin}\"]\n\
             [[routes]]\npath = \"/{*rest}\"\nupstream = \"origin\"\n",
        )
        .set("origin", origin)
    }

    /// One upstream and one policy called `site` on every path, with a namespace of that
    /// name; `more` goes into the policy's table, which is the last.
    pub fn policy(origin: &str, component: &Path, more: &str) -> Self {
        Self::new(
            "[upstreams.origin]\nservers = [\"{origin}\"]\n\
             [[routes]]\npath = \"/{*rest}\"\nupstream = \"origin\"\npolicy = \"site\"\n\
             [policies.site]\ncomponent = \"{component}\"\nnamespaces = [\"site\"]\n",
        )
        .and(more)
        .set("origin", origin)
        .file("component", component)
    }

    /// A whole configuration with a policy called `p` on every path, whose namespace is the one
    /// that `plugins/misbehaving` uses; `more` goes into its table.
    pub fn misbehaving(origin: &str, component: &str, more: &str) -> Self {
        Self::new(
            "[upstreams.o]\nservers = [\"{origin}\"]\n\
             [policies.p]\ncomponent = \"{component}\"\nnamespaces = [\"test\"]\n{more}\
             [[routes]]\npath = \"/{*rest}\"\nupstream = \"o\"\npolicy = \"p\"\n",
        )
        .set("origin", origin)
        .set("component", component)
        .set("more", more)
    }

    /// Replaces `{name}` by `value` everywhere.
    pub fn set(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.text = self
            .text
            .replace(&format!("{{{name}}}"), &value.to_string());
        self
    }

    /// Replaces `{name}` by a path.
    pub fn file(self, name: &str, path: &Path) -> Self {
        self.set(name, path.display())
    }

    /// Adds tables at the end.
    pub fn and(mut self, tables: &str) -> Self {
        self.text.push_str(tables);
        self
    }

    /// Adds a Redis with a prefix of `weir`.
    pub fn redis(self, url: &str) -> Self {
        self.and("[redis]\nurl = \"{redis}\"\n").set("redis", url)
    }

    /// Adds a `data_dir` of the node's own, `data` in its directory.
    pub fn data_dir(mut self) -> Self {
        self.text.insert_str(0, "data_dir = \"{dir}/data\"\n");
        self
    }

    /// Has the node run on this CPU core alone (by `taskset`), for measurements.
    pub fn on_core(mut self, core: usize) -> Self {
        self.core = Some(core);
        self
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Starts a node with it and waits until it lives. Panics, showing what the node
    /// printed, when it ends instead.
    pub async fn start(self) -> Weir {
        Weir::start(self).await
    }
}

/// A running node.
#[derive(Debug)]
pub struct Weir {
    process: Process,
    config: Config,
    port: Port,
    admin_port: Port,
    scratch: Scratch,
    client: Client,
    admin: Admin,
}

impl Weir {
    async fn start(config: Config) -> Self {
        let (port, admin_port, scratch) = (Port::reserve(), Port::reserve(), Scratch::new());
        let config = config
            .set("port", port.number())
            .set("admin", admin_port.number())
            .file("dir", scratch.path());
        let path = scratch.write("weir.toml", config.text());
        let admin = Admin::new(format!("http://127.0.0.1:{}", admin_port.number()));
        let mut node = Self {
            process: spawn(&path, &scratch, config.core),
            config,
            port,
            admin_port,
            scratch,
            client: answer::client(),
            admin,
        };
        node.lives().await;
        node
    }

    async fn lives(&mut self) {
        let admin = self.admin.clone();
        let process = &mut self.process;
        poll::until("an answer of /healthz", async || {
            if let Some(status) = process.exit() {
                panic!("weir ended with {status}:\n{}", process.output());
            }
            let answer = admin.try_get("/healthz").await.ok()?;
            answer.status.is_success().then_some(())
        })
        .await;
    }

    /// The data plane's port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The admin listener's port.
    pub fn admin_port(&self) -> u16 {
        self.admin_port.number()
    }

    /// The URL of a path on the data plane.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port())
    }

    /// The pooled client of this node.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The control plane.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// The node's own directory: its configuration lies there as `weir.toml`.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.scratch.join("weir.toml")
    }

    /// GET of a path on the data plane. Panics when it does not answer.
    pub async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    /// GET with header fields.
    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, headers, "").await
    }

    /// Any request.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = self.client.request(method.clone(), self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_empty() {
            request = request.body(body.to_owned());
        }
        let answer = Answer::of(request).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error:?}"))
    }

    /// Gets a path until the answer is a hit; returns it. For what is stored a moment
    /// after its response ended.
    pub async fn until_hit(&self, path: &str) -> Answer {
        poll::until(&format!("a hit of {path}"), async || {
            let answer = self.get(path).await;
            answer.is_hit().then_some(answer)
        })
        .await
    }

    /// Waits until it has read the log of its Redis, and uses it.
    pub async fn uses_redis(&self) {
        poll::until("a node that uses Redis", async || {
            let read = self.admin.metric(LOG_SYNCHRONISED, &[]).await;
            (read >= 1.0).then_some(())
        })
        .await;
    }

    /// Writes another configuration over its file; the node is not told.
    pub fn rewrite(&mut self, change: impl FnOnce(&str) -> String) {
        self.config.text = change(&self.config.text);
        self.scratch.write("weir.toml", self.config.text());
    }

    /// SIGHUP: read the configuration again.
    pub fn hangup(&mut self) {
        self.process.signal(Signal::HUP);
    }

    /// SIGTERM: finish what is in flight and end.
    pub fn terminate(&mut self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        self.process.wait(PATIENCE).await
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Ends it in order and starts it again with its file, ports and directory.
    pub async fn restart(&mut self) {
        self.terminate();
        self.ended().await;
        self.start_again().await;
    }

    /// Kills it, if it lives, and starts it again with its file, ports and directory.
    pub async fn kill_and_start(&mut self) {
        self.kill();
        self.start_again().await;
    }

    /// Starts it, once it has ended, with its file, ports and directory.
    pub async fn start_again(&mut self) {
        self.process = spawn(&self.config_file(), &self.scratch, self.config.core);
        self.lives().await;
    }

    /// Its configuration, with all placeholders filled in.
    pub fn config_text(&self) -> String {
        self.config.text().to_owned()
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Everything it has printed so far.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// The CPU time that it has used.
    pub fn cpu(&self) -> Duration {
        self.process.cpu()
    }

    /// The CPU time of the processes that it had started and that have ended.
    pub fn cpu_of_children(&self) -> Duration {
        self.process.cpu_of_children()
    }

    /// Resident memory now, in bytes.
    pub fn resident(&self) -> u64 {
        self.process.resident()
    }
}

fn spawn(config: &Path, scratch: &Scratch, core: Option<usize>) -> Process {
    let mut command = match core {
        None => Command::new(artifact::weir_binary()),
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &core.to_string()]);
            command.arg(artifact::weir_binary());
            command
        }
    };
    command.arg("run").arg("-c").arg(config);
    Process::spawn("weir", &mut command, &scratch.join("weir.log"))
}

/// What a run of the command line gave.
#[derive(Debug, Clone)]
pub struct Run {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Run {
    /// Both outputs, for a test that does not care which.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs `weir` with these words in `dir` to its end, at most a minute.
pub async fn weir_command(dir: &Path, words: &[&str]) -> Run {
    let child = tokio::process::Command::new(artifact::weir_binary())
        .args(words)
        .current_dir(dir)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), child)
        .await
        .unwrap_or_else(|_| panic!("weir {words:?} did not end within a minute"))
        .expect("running weir");
    Run {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
