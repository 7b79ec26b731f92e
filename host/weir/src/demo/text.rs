//! What the demo writes: its configuration, and what to try.

use std::net::SocketAddr;
use std::path::Path;

/// The demo's `weir.toml`, beside the components.
pub(super) fn configuration(
    listen: &SocketAddr,
    admin: &SocketAddr,
    origin: SocketAddr,
    redis: Option<&str>,
) -> String {
    let redis = redis.map_or_else(
        || "# No Redis answered on 127.0.0.1:6379: memory alone.\n".to_owned(),
        |address| format!("[redis]\nurl = \"redis://{address}/0\"\nprefix = \"weir-demo\"\n"),
    );
    format!(
        r#"# Written anew at each start of `weir demo`.
listen = ["{listen}"]
data_dir = "data"

[admin]
listen = "{admin}"

[memory]
capacity = "64MiB"

{redis}
[upstreams.demo]
servers = ["http://{origin}"]

[policies.charity]
component = "charity.wasm"
namespaces = ["user", "help", "donation", "metrics", "config", "session", "ratelimit"]
grants = ["kv", "rate-limit", "clock"]

[policies.static-site]
component = "static-site.wasm"
namespaces = ["site"]
config = {{ variants = ["device"] }}

{routes}
[[routes]]
path = "/{{*rest}}"
upstream = "demo"
policy = "static-site"
"#,
        routes = [
            "/users/{id}",
            "/users/{id}/permissions",
            "/help/queue",
            "/help/requests/{id}",
            "/donations/stats/daily/{date}",
            "/metrics/dashboard",
            "/config/{name}",
        ]
        .map(|path| route(path, "last-good"))
        .into_iter()
        // A request that is made to fail must not slip past the limit.
        .chain([route("/login", "503")])
        .collect::<String>(),
    )
}

fn route(path: &str, on_policy_error: &str) -> String {
    format!(
        "[[routes]]\npath = \"{path}\"\nupstream = \"demo\"\npolicy = \"charity\"\non_policy_error = \"{on_policy_error}\"\n\n"
    )
}

/// The curl lines. `tests/tests/demo.rs` runs each of them: whatever is indented by four
/// spaces is a command.
pub(super) fn to_try(
    listen: &SocketAddr,
    admin: &SocketAddr,
    dir: &Path,
    plugins: &Path,
    redis: Option<&str>,
) -> String {
    let file = |name: &str| shell(&dir.join(name));
    let (toml, component) = (file("weir.toml"), file("charity.wasm"));
    let charity = shell(&plugins.join("charity"));
    let weir = std::env::current_exe().map_or_else(|_| "weir".to_owned(), |path| shell(&path));
    let show = format!("curl -si http://{listen}");
    let ask = format!("curl -s -w '\\n' -H 'content-type: application/json' http://{admin}");
    let second_tier = match redis {
        Some(address) => format!(
            "Redis at {address} is the second tier. Stop this demo (Ctrl-C), start it again, and the
   first request for an object is a hit from Redis:
    {show}/users/42 | grep -i cache-status
   What is there:
    redis-cli -u redis://{address} --scan --pattern 'weir-demo:*'"
        ),
        None => "There is no Redis on 127.0.0.1:6379, so objects live in memory alone. Start one
   (redis-server) and then the demo again, to see hits survive a restart."
            .to_owned(),
    };
    format!(
        "
Weir demo. A node on http://{listen} in front of an origin that takes {latency} ms to answer.
Its policies are WebAssembly components built from {plugins}.
Try these in another terminal, in the folder that you started the demo in.

1. The first request goes to the origin, the second is served from memory:
    {show}/users/42 | grep -iE '^(cache-status|age):'
    {show}/users/42 | grep -iE '^(cache-status|age):'

2. Purge everything that depends on user 42, by tag. The next request is a miss:
    {ask}/v1/invalidate -d '{{\"tags\":[\"user:42\"]}}'
    {show}/users/42 | grep -i cache-status

3. Or send a domain event, and let the policy say what depends on it:
    {ask}/v1/events -d '{{\"type\":\"user.updated\",\"data\":{{\"id\":\"42\"}}}}'
    {show}/users/42 | grep -i cache-status

4. Change the user: the response is written through, and the next GET is a hit with it:
    {show}/users/42 -X PUT -d '{{\"name\":\"Ada\"}}' | grep -i cache-status
    {show}/users/42

5. A web site, with query strings normalised (the second is a hit) and one variant for each
   class of device (the third is a miss):
    {show}'/page.html?utm_source=x&a=1' | grep -i cache-status
    {show}'/page.html?a=1&utm_source=y' | grep -i cache-status
    {show}'/page.html?a=1' -A 'Mozilla/5.0 (iPhone) Mobile' | grep -i cache-status

6. Ask why, offline from the configuration, and the node itself:
    {weir} explain -c {toml} http://{listen}/users/42
    curl -s -w '\\n' 'http://{admin}/v1/explain?url=http://{listen}/users/42'

7. Change a rule while it runs. Give `user_ttl` another lifetime in
   {charity}/src/config.rs, say Span::seconds(120), and build.
   The node follows at once; what it stores from then on has the new lifetime (ttl):
    {weir} plugin build {charity} -o {component}
    {ask}/v1/invalidate -d '{{\"tags\":[\"user:42\"]}}'
    {show}/users/42 | grep -i cache-status
   Or without building: write config = {{ user_ttl = \"2m\" }} under [policies.charity] in
   {toml}, and reload:
    {ask}/v1/reload -X POST

8. {second_tier}

Metrics: http://{admin}/metrics   Ctrl-C ends the demo.
",
        latency = super::origin::LATENCY.as_millis(),
        plugins = plugins.display(),
    )
}

/// A path as a word of the shell.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@".contains(&byte);
    if text.bytes().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_one_word() {
        assert_eq!(shell(Path::new("target/weir-demo")), "target/weir-demo");
        assert_eq!(shell(Path::new("/my work/it's")), r"'/my work/it'\''s'");
    }
}
