//! Apache Traffic Server with the rule of `plugins/static-site` in Lua.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::server::{Server, free_port};
use crate::run;

/// The rule.
const RULE: &str = include_str!("site.lua");

/// One network thread, no log; all that it writes is in memory.
pub(crate) fn start(dir: &Path, origin: u16) -> Result<Server> {
    let dir = dir.join("trafficserver");
    let folders = ["etc", "run", "log", "cache"].map(|name| dir.join(name));
    for folder in &folders {
        std::fs::create_dir_all(folder)?;
    }
    let port = free_port()?;
    let etc = &folders[0];
    let root = dir.join("runroot.yaml");
    let place = dir.display();
    std::fs::write(
        &root,
        format!(
            "prefix: {place}\nexec_prefix: /usr\nbindir: /usr/bin\nsbindir: /usr/sbin\n\
             sysconfdir: {place}/etc\ndatadir: {place}/cache\nincludedir: /usr/include\n\
             libdir: /usr/lib/trafficserver\nlibexecdir: /usr/lib/trafficserver/modules\n\
             localstatedir: {place}/run\nruntimedir: {place}/run\nlogdir: {place}/log\n\
             cachedir: {place}/cache\n"
        ),
    )?;
    std::fs::write(etc.join("site.lua"), RULE)?;
    std::fs::write(etc.join("storage.config"), format!("{place}/cache 256M\n"))?;
    std::fs::write(
        etc.join("remap.config"),
        format!(
            "map http://127.0.0.1:{port}/ http://127.0.0.1:{origin}/ \
             @plugin=tslua.so @pparam={place}/etc/site.lua\n"
        ),
    )?;
    std::fs::write(
        etc.join("ip_allow.yaml"),
        "ip_allow:\n  - apply: in\n    ip_addrs: 127.0.0.1\n    action: allow\n    methods: ALL\n",
    )?;
    let mut records = records(port);
    if run::answer("id", &["-u"]).as_deref() == Some("0") {
        // It does not serve as root, and the one that it becomes must be able to write here.
        records.push_str("CONFIG proxy.config.admin.user_id STRING nobody\n");
        run::shown(Command::new("chown").args(["-R", "nobody"]).arg(&dir))?;
    }
    std::fs::write(etc.join("records.config"), records)?;
    let program = run::find("traffic_server").context("traffic_server is not on PATH")?;
    let version = run::answer(&program, &["-V"]).unwrap_or_default();
    let version = version.lines().next().unwrap_or_default().to_owned();
    let root = format!("--run-root={}", root.display());
    Server::start(
        "traffic server, Lua",
        version,
        port,
        &dir,
        &program,
        &[&root],
    )
}

fn records(port: u16) -> String {
    format!(
        "CONFIG proxy.config.http.server_ports STRING {port}:ip-in=127.0.0.1
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT 1
CONFIG proxy.config.accept_threads INT 0
CONFIG proxy.config.task_threads INT 1
CONFIG proxy.config.cache.threads_per_disk INT 1
CONFIG proxy.config.cache.ram_cache.size INT 268435456
CONFIG proxy.config.log.logging_enabled INT 0
CONFIG proxy.config.http.keep_alive_no_activity_timeout_in INT 3600
"
    )
}
