use std::time::Duration;

use super::*;
use crate::config::model::{Coding, Endpoint};
use crate::config::raw::TABLES;
use proptest::prelude::*;
use toml::de::DeValue;

/// The file that the design shows.
const DESIGN: &str = r#"
listen = ["127.0.0.1:8080"]
data_dir = "/var/lib/weir"
[admin]
listen = "127.0.0.1:9900"
token_file = "admin.token"
[memory]
capacity = "256MiB"
[redis]
url = "redis://127.0.0.1:6379/0"
prefix = "weir"
pool_size = 10
min_idle = 5
deadline = "20ms"
coherence_window = "2s"
[upstreams.api]
servers = ["http://127.0.0.1:3000"]
[policies.charity]
component = "policies/charity.wasm"
namespaces = ["user", "help", "donation", "metrics", "config", "session", "ratelimit"]
grants = ["kv", "rate-limit"]
config = { default_ttl = "5m" }
[[routes]]
host = "api.example.org"
path = "/users/{id}"
upstream = "api"
policy = "charity"
on_policy_error = "pass"
redis_down = "memory-only"
sealed = false
shared = false
store_set_cookie = false
"#;

#[test]
fn tls_in_front_and_behind() {
    let text = "listen = []\n[tls]\nlisten = \"0.0.0.0:8443\"\n\
        [[tls.certificates]]\nchain = \"c.pem\"\nkey = \"/k.pem\"\n\
        [upstreams.api]\nservers = [\"https://a\", \"HTTPS://b:8443\"]\ntls = { ca_file = \"ca.pem\" }\n\
        [[routes]]\nhost = \"A.example:443\"\npath = \"/{*rest}\"\nupstream = \"api\"\n";
    let config = valid(text);
    assert!(config.listen.is_empty());
    let tls = config.tls.unwrap();
    assert_eq!(tls.listen, ["0.0.0.0:8443".parse().unwrap()]);
    assert_eq!(tls.handshake_timeout, Duration::from_secs(10));
    // Relative to the folder of the file.
    assert_eq!(tls.certificates[0].chain, Path::new("etc/c.pem"));
    assert_eq!(tls.certificates[0].key, Path::new("/k.pem"));
    let api = &config.upstreams["api"];
    let authorities: Vec<_> = api.servers.iter().map(Server::authority).collect();
    assert_eq!(authorities, ["a:443", "b:8443"]);
    let tls = api.tls.as_ref().unwrap();
    assert_eq!(tls.ca_file.as_deref(), Some(Path::new("etc/ca.pem")));
    assert!(tls.verify && tls.server_name.is_none());
    assert_eq!(config.routes[0].host.as_deref(), Some("a.example"));
    assert!(valid(MINIMAL).upstreams["api"].tls.is_none());
}

#[test]
fn the_file_of_the_design_is_valid() {
    let config = valid(DESIGN);
    assert_eq!(config.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(config.data_dir.as_deref(), Some(Path::new("/var/lib/weir")));
    let admin = config.admin.unwrap();
    assert_eq!(
        admin.token_file.as_deref(),
        Some(Path::new("etc/admin.token"))
    );
    let redis = config.redis.unwrap();
    let server = RedisServers::Single(Endpoint::tcp("127.0.0.1", 6379));
    assert_eq!((redis.servers, redis.database), (server, 0));
    assert_eq!(redis.protocol, RedisProtocol::Resp3);
    assert_eq!((redis.pool_size, redis.min_idle), (10, 5));
    assert_eq!(redis.deadline, Duration::from_millis(20));
    assert_eq!(
        config.upstreams["api"].servers[0].authority(),
        "127.0.0.1:3000"
    );
    let policy = &config.policies["charity"];
    assert_eq!(policy.component.to_string(), "etc/policies/charity.wasm");
    assert_eq!(policy.namespaces.len(), 7);
    let grants = Grants {
        kv: true,
        rate_limit: true,
        log: false,
        clock: false,
    };
    assert_eq!(policy.grants, grants);
    assert_eq!(policy.config, serde_json::json!({ "default_ttl": "5m" }));
    let route = &config.routes[0];
    assert_eq!(route.path.as_str(), "/users/{id}");
    assert_eq!(route.host.as_deref(), Some("api.example.org"));
    assert_eq!(
        (route.upstream.as_str(), route.policy.as_deref()),
        ("api", Some("charity"))
    );
    assert_eq!(route.on_policy_error, OnPolicyError::Pass);
    assert_eq!(route.redis_down, RedisDown::MemoryOnly);
}

#[test]
fn what_is_not_said_has_its_default() {
    let config = valid(MINIMAL);
    assert!(config.admin.is_none() && config.redis.is_none() && config.data_dir.is_none());
    assert_eq!(config.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert!(config.threads >= 1);
    assert_eq!(config.limits.header_timeout, Duration::from_secs(60));
    assert_eq!(config.limits.max_header_size, 64 << 10);
    assert_eq!(config.limits.max_uri_size, 16 << 10);
    assert_eq!(config.limits.body_timeout, Duration::from_secs(30));
    assert_eq!(config.limits.write_timeout, Duration::from_secs(60));
    assert_eq!(config.memory.capacity, 256 << 20);
    assert_eq!(config.cache.longest_life, Duration::from_secs(30 * 86_400));
    assert_eq!(config.cache.max_object, 32 << 20);
    assert_eq!(config.cache.max_keyed_body, 64 << 10);
    assert!(config.routes[0].may_override.is_empty());
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.log.level, LogLevel::Info);
    let upstream = &config.upstreams["api"];
    assert_eq!(upstream.connect_timeout, Duration::from_secs(2));
    assert_eq!((upstream.max_idle, upstream.retries), (64, 1));
    assert_eq!(config.routes[0].shed_above, 64);
    assert_eq!(config.routes[0].upgrades, ["websocket"]);
    assert!(config.warnings.is_empty());
}

#[test]
fn a_route_compresses_what_it_is_told() {
    assert!(valid(MINIMAL).routes[0].compress.is_none());
    let config = valid(&format!("{MINIMAL}compress = [\"br\", \"gzip\"]\n"));
    let compress = config.routes[0].compress.as_ref().unwrap();
    assert_eq!(compress.codings, [Coding::Brotli, Coding::Gzip]);
    assert_eq!(compress.min, 1024);
    for (kind, compressed) in [
        ("text/html; charset=utf-8", true),
        ("application/ld+json", true),
        ("image/svg+xml", true),
        ("image/png", false),
        ("application/octet-stream", false),
    ] {
        assert_eq!(
            compress.types.contain(kind.as_bytes()),
            compressed,
            "{kind}"
        );
    }
    let config = valid(&format!(
        "{MINIMAL}compress_min = \"4KiB\"\ncompress_types = [\"text/*\"]\n"
    ));
    assert!(config.routes[0].compress.is_none());
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
}

#[test]
fn defaults_follow_from_other_keys() {
    let config = valid(&format!("{MINIMAL}[memory]\ncapacity = \"4GiB\""));
    assert_eq!(config.cache.max_object, 64 << 20);
    let config = valid(&format!(
        "{MINIMAL}[redis]\nurl = \"redis://h\"\npool_size = 3"
    ));
    assert_eq!(config.redis.unwrap().min_idle, 3);
}

#[test]
fn one_address_needs_no_list_and_port_0_may_repeat() {
    assert_eq!(
        valid(&format!("listen = \"[::1]:80\"\n{MINIMAL}"))
            .listen
            .len(),
        1
    );
    let config = valid(&format!(
        "listen = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n{MINIMAL}"
    ));
    assert_eq!(config.listen.len(), 2);
}

#[test]
fn urls_of_redis() {
    let redis = |rest: &str| valid(&format!("{MINIMAL}[redis]\n{rest}")).redis.unwrap();
    let found = redis("url = \"redis://u%40:p%2Fw@[::1]/7\"");
    let single = |host: &str| RedisServers::Single(Endpoint::tcp(host, 6379));
    assert_eq!(found.servers, single("::1"));
    assert_eq!((found.database, found.username.as_deref()), (7, Some("u@")));
    assert_eq!(found.password().unwrap().unwrap().expose(), "p/w");
    assert!(!format!("{found:?}").contains("p/w"));
    for url in [
        "unix:///run/redis.sock?db=2",
        "redis+unix:///run/redis.sock?db=2",
    ] {
        let found = redis(&format!("url = \"{url}\""));
        let socket = Endpoint::Unix("/run/redis.sock".into());
        assert_eq!(found.servers, RedisServers::Single(socket));
        assert_eq!(found.database, 2);
    }
    let found = redis("url = \"redis://h\"\nusername = \"u\"\npassword = \"p\"");
    assert_eq!(found.username.as_deref(), Some("u"));
    assert_eq!(found.password().unwrap().unwrap().expose(), "p");
    for (url, tls) in [
        ("valkey://h", false),
        ("valkeys://h", true),
        ("rediss://h", true),
    ] {
        let found = redis(&format!("url = \"{url}\""));
        assert_eq!(
            (found.servers, found.tls.is_some()),
            (single("h"), tls),
            "{url}"
        );
    }
}

#[test]
fn a_cluster_and_sentinels() {
    let redis = |rest: &str| valid(&format!("{MINIMAL}[redis]\n{rest}")).redis.unwrap();
    let nodes = vec![Endpoint::tcp("a", 7000), Endpoint::tcp("b", 7001)];
    let found = redis("urls = [\"redis://u:p@a:7000\", \"redis://u:p@b:7001\"]\ncluster = true");
    assert_eq!(found.servers, RedisServers::Cluster(nodes));
    assert_eq!(found.password().unwrap().unwrap().expose(), "p");
    let found = redis("url = \"redis://a:7000\"\ncluster = true\nprotocol = \"resp2\"");
    let one = RedisServers::Cluster(vec![Endpoint::tcp("a", 7000)]);
    assert_eq!((found.servers, found.protocol), (one, RedisProtocol::Resp2));

    let found = redis(
        "database = 3\ntls = { server_name = \"r\" }\n\
         [redis.sentinel]\nservers = [\"a\", \"[::1]:5000\"]\nservice = \"cache\"\nusername = \"s\"",
    );
    let RedisServers::Sentinel(sentinel) = found.servers else {
        panic!("{:?}", found.servers)
    };
    let addresses = [Endpoint::tcp("a", 26379), Endpoint::tcp("::1", 5000)];
    assert_eq!(sentinel.servers, addresses);
    assert_eq!((sentinel.tls, sentinel.master_tls), (false, true));
    assert_eq!((sentinel.service.as_str(), found.database), ("cache", 3));
    assert_eq!(
        (sentinel.username.as_deref(), found.username),
        (Some("s"), None)
    );
    assert_eq!(found.tls.unwrap().server_name.as_deref(), Some("r"));
}

#[test]
fn the_disk_tier_lies_in_the_data_dir_unless_it_has_a_path() {
    let disk = |keys: &str| {
        let text = format!("data_dir = \"data\"\n{MINIMAL}[disk]\n{keys}");
        valid(&text).disk.unwrap()
    };
    let found = disk("");
    assert_eq!(found.path, Path::new("etc/data/objects"));
    assert_eq!((found.capacity, found.max_object), (10 << 30, 32 << 20));
    assert_eq!(disk("path = \"/ssd/weir\"").path, Path::new("/ssd/weir"));
}

#[test]
fn a_host_is_as_requests_name_it() {
    let host = |host: &str| {
        let route = format!("{MINIMAL}host = \"{host}\"");
        valid(&route).routes[0].host.clone().unwrap()
    };
    assert_eq!(host("API.example.org"), "api.example.org");
    assert_eq!(host("localhost:8080"), "localhost:8080");
    assert_eq!(host("localhost:80"), "localhost");
    assert_eq!(host("[::1]:8080"), "[::1]:8080");
    assert_eq!(host("[::1]"), "[::1]");
}

#[test]
fn overlapping_paths_are_told_apart_by_how_specific_they_are() {
    let more = "[[routes]]\npath = \"/users/{id}\"\nupstream = \"api\"\n\
                [[routes]]\npath = \"/users/me\"\nupstream = \"api\"\n\
                [[routes]]\nhost = \"a\"\npath = \"/{*all}\"\nupstream = \"api\"\n";
    assert_eq!(valid(&format!("{MINIMAL}{more}")).routes.len(), 4);
}

#[test]
fn config_of_a_policy_is_json() {
    let policy = "[policies.p]\ncomponent = \"p.wasm\"\nnamespaces = [\"p\"]\n\
        [policies.p.config]\nn = 0x10\nf = 1.5\nd = 2024-01-02\nlist = [true, { s = \"x\" }]\n";
    let config = valid(&format!("{MINIMAL}policy = \"p\"\n{policy}"));
    let expected =
        serde_json::json!({"n": 16, "f": 1.5, "d": "2024-01-02", "list": [true, {"s": "x"}]});
    assert_eq!(config.policies["p"].config, expected);
}

#[test]
fn each_default_and_bound_of_the_schema_can_be_read() {
    let all = format!(
        "{MINIMAL}policy = \"p\"\n[admin]\n[redis]\nurl = \"redis://h\"\n\
         [policies.p]\ncomponent = \"p\"\nnamespaces = [\"p\"]"
    );
    valid(&all);
    for table in TABLES {
        for key in table.keys {
            let bounds = key.bounds.map_or(vec![], |(low, high)| vec![low, high]);
            assert!(
                bounds.iter().all(|text| DeValue::parse(text).is_ok()),
                "{}",
                key.name
            );
            assert!(!key.doc.trim().is_empty(), "{}", key.name);
        }
    }
}

#[test]
fn the_reference_names_every_key_of_the_design() {
    let page = reference();
    for line in DESIGN.lines().filter(|line| line.contains(" = ")) {
        let key = line.split(" = ").next().unwrap();
        assert!(page.contains(&format!("| `{key}` |")), "{key}");
    }
    assert!(page.contains(
        "| `deadline` | duration, `\"1ms\"` to `\"10s\"` | `\"20ms\"` | Longest time for each call"
    ));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(at in 0..DESIGN.len(), cut in 0usize..30, new in "[\\[\\]{}\"=.\n a-z0-9é/:@*]{0,12}") {
        let end = DESIGN.floor_char_boundary((at + cut).min(DESIGN.len()));
        let text = format!("{}{new}{}", &DESIGN[..at], &DESIGN[end..]);
        if let Err(errors) = parse(&text) {
            prop_assert!(!errors.problems().is_empty());
            prop_assert!(errors.problems().iter().all(|problem| problem.position.is_some() && !problem.hint.is_empty()));
            prop_assert!(!errors.to_string().contains("defect"));
        }
    }
}
