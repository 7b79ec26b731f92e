use super::*;

/// The one error of `MINIMAL` with `tables` after it. Those begin on line 6.
fn error(tables: &str) -> String {
    let mut errors = errors(&format!("{MINIMAL}{tables}"));
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.remove(0)
}

#[test]
fn an_error_shows_the_place_and_a_hint() {
    let text = MINIMAL.replace("upstream = \"api\"", "upstream = \"apis\"");
    let expected = "\
etc/weir.toml:5:12: routes[0].upstream: there is no upstream named \"apis\"
   5 | upstream = \"apis\"
     |            ^^^^^^
   hint: did you mean \"api\"? Upstreams are defined as [upstreams.NAME]";
    assert_eq!(parse(&text).unwrap_err().to_string(), expected);
}

#[test]
fn all_errors_of_a_file_are_reported_in_its_order() {
    let text = "listen = 8080\nthreads = 0\n[memory]\ncapacity = \"lots\"\n[upstreams.a]\n\
        servers = []\n[[routes]]\npath = \"x\"\nupstream = \"b\"\nsealed = true\n";
    assert_eq!(
        errors(text),
        [
            "1:10: listen: expected an address, found an integer",
            "2:11: threads: the value is too small, the least is 1",
            "4:12: memory.capacity: \"lots\" is not a size",
            "6:11: upstreams.a.servers: an upstream needs at least one server",
            "8:9: routes[0].path: the path does not begin with `/`",
            "9:12: routes[0].upstream: there is no upstream named \"b\"",
            "10:10: routes[0].sealed: the route has no policy that could say what the origin may see",
        ]
    );
}

#[test]
fn an_error_that_one_client_may_cause_is_not_kept_for_all() {
    let error = error("negative = { 404 = \"10s\", 400 = \"10s\" }\n");
    assert!(error.starts_with("6:"), "{error}");
    assert!(
        error.contains("negative.400: a 400 may be the answer"),
        "{error}"
    );
}

#[test]
fn compression_is_checked() {
    assert_eq!(
        error("compress = [\"gzip\", \"gzip\"]"),
        "6:21: routes[0].compress[1]: the coding is listed twice"
    );
    assert_eq!(
        error("compress = [\"deflate\"]"),
        "6:13: routes[0].compress[0]: \"deflate\" is not one of the choices"
    );
    assert_eq!(
        error("compress = [\"br\"]\ncompress_types = [\"text/*\", \"html\"]"),
        "7:29: routes[0].compress_types[1]: \"html\" is not a media type"
    );
}

#[test]
fn sizes_of_the_disk_tier_fit_into_one_another() {
    let disk = |keys: &str| errors(&format!("data_dir = \"d\"\n{MINIMAL}[disk]\n{keys}"));
    assert_eq!(
        disk("max_object = \"64MiB\""),
        [
            "8:14: disk.max_object: nothing larger than the 33554432 bytes of cache.max_object is stored"
        ]
    );
    assert_eq!(
        disk("capacity = \"1MiB\""),
        ["8:12: disk.capacity: the value is too small, the least is \"256MiB\""]
    );
    assert_eq!(
        disk("queue = \"1MiB\""),
        ["8:9: disk.queue: an object of max_object bytes would never fit into the queue"]
    );
}

#[test]
fn a_mistyped_required_key_is_one_error() {
    let text = MINIMAL.replace("upstream =", "upstrem =");
    let found = parse(&text).unwrap_err();
    assert_eq!(found.problems().len(), 1, "{found}");
    assert_eq!(found.problems()[0].hint, "did you mean `upstream`?");
}

#[test]
fn an_unknown_key_is_sent_where_it_belongs() {
    let hint = |text: &str| {
        parse(&format!("{MINIMAL}{text}")).unwrap_err().problems()[0]
            .hint
            .clone()
    };
    assert_eq!(
        hint("[memory]\npool_size = 3"),
        "`pool_size` belongs to [redis]"
    );
    assert_eq!(
        hint("[memory]\nthreads = 3"),
        "`threads` belongs to the top of the file, before the first [table]"
    );
    assert_eq!(
        hint("[memory]\ncolour = 3"),
        "the keys of [memory] are `capacity`"
    );
}

#[test]
fn each_mistake_has_its_message() {
    let policy = "policy = \"p\"\n[policies.p]\ncomponent = \"p.wasm\"\nnamespaces = [\"p\"]\n";
    for (tables, expected) in [
        ("[memroy]", "6:2: memroy: there is no such key"),
        (
            "[memory]\ncapacity = 256",
            "7:12: memory.capacity: expected a size, found an integer",
        ),
        (
            "[memory]\ncapacity = \"1KiB\"",
            "7:12: memory.capacity: the value is too small, the least is \"1MiB\"",
        ),
        (
            "[policies.p]\ncomponent = \"p.wasm\"\nnamespaces = [\"p\"]\ntotal_memory = \"32MiB\"",
            "9:16: policies.p.total_memory: no instance could use the 67108864 bytes of memory_limit",
        ),
        (
            "[memory]\ncapacity = \"0\"",
            "7:12: memory.capacity: with the memory tier off there is no tier that could store anything",
        ),
        (
            "[cache]\nmax_object = \"1GiB\"",
            "7:14: cache.max_object: an object of this size is larger than the 268435456 bytes of memory.capacity",
        ),
        (
            "[limits]\nheader_timeout = \"ten\"",
            "7:18: limits.header_timeout: \"ten\" is not a duration",
        ),
        (
            "[log]\naccess = \"yes\"",
            "7:10: log.access: expected a boolean, found a string",
        ),
        (
            "[log]\nlevel = \"loud\"",
            "7:9: log.level: \"loud\" is not one of the choices",
        ),
        ("[[log]]", "6:1: log: expected a table, found an array"),
        (
            "[admin]\nlisten = \"0.0.0.0:9900\"",
            "7:10: admin.listen: 0.0.0.0 can be reached from other machines, and no token is asked for",
        ),
        (
            "[deploy]\ntrusted_keys = []",
            "7:16: deploy.trusted_keys: the list is empty: no component could be deployed",
        ),
        (
            "[admin]\nlisten = \"localhost:9900\"",
            "7:10: admin.listen: \"localhost:9900\" is not an address to listen on",
        ),
        (
            "[admin]\nlisten = \"127.0.0.1:8080\"",
            "7:10: admin.listen: port 8080 is taken by listen, by default",
        ),
        ("[redis]", "6:1: redis.url: the key is missing"),
        (
            "[redis]\nurl = \"redis://h\"\ntls = {}",
            "8:7: redis.tls: Redis is reached without TLS",
        ),
        (
            "[redis]\nurl = \"rediss://h\"\ntls = { cert_file = \"c\" }",
            "8:21: redis.tls.cert_file: a certificate goes with its key",
        ),
        (
            "[redis]\nurl = \"rediss://h\"\ntls = { server_name = \"h:1\" }",
            "8:23: redis.tls.server_name: this is not the name of a server",
        ),
        (
            "[redis]\nurl = \"redis://h\"\nurls = [\"redis://h\"]",
            "8:8: redis.urls: where Redis is, is said already",
        ),
        (
            "[redis]\nurls = [\"redis://h\", \"redis://i\"]",
            "7:8: redis.urls: several servers are a cluster",
        ),
        (
            "[redis]\nurls = [\"redis://h\", \"rediss://i\"]\ncluster = true",
            "7:22: redis.urls[1]: the nodes of a cluster are reached alike",
        ),
        (
            "[redis]\nurl = \"redis://h/2\"\ncluster = true",
            "7:7: redis.url: a cluster has database 0 alone, not 2",
        ),
        (
            "[redis]\nurl = \"redis://h/2\"\ndatabase = 3",
            "8:12: redis.database: the URL gives another database, 2",
        ),
        (
            "[redis]\ncluster = true\n[redis.sentinel]\nservers = [\"h\"]",
            "7:11: redis.cluster: sentinels know no clusters",
        ),
        (
            "[redis.sentinel]\nservers = []",
            "7:11: redis.sentinel.servers: the list is empty",
        ),
        (
            "[redis.sentinel]\nservers = [\"redis://u:p@h\"]",
            "7:12: redis.sentinel.servers[0]: this is not the address of a sentinel",
        ),
        (
            "[redis.sentinel]\nservers = [\"h\", \"rediss://i\"]",
            "7:17: redis.sentinel.servers[1]: sentinels are reached by TLS or without it, not by both",
        ),
        (
            "[redis]\nurl = \"localhost:6379\"",
            "7:7: redis.url: this is not the URL of a Redis server",
        ),
        (
            "[redis]\nurl = \"redis://h/x\"",
            "7:7: redis.url: \"x\" is not the number of a database",
        ),
        (
            "[redis]\nurl = \"redis://h?a=b\"",
            "7:7: redis.url: the URL of Redis has options",
        ),
        (
            "[redis]\nurl = \"unix://run/x\"",
            "7:7: redis.url: the URL names no socket",
        ),
        (
            "[redis]\nurl = \"redis://h\"\nprefix = \"{a}\"",
            "8:10: redis.prefix: \"{a}\" cannot begin the names of keys",
        ),
        (
            "[redis]\nurl = \"redis://h\"\npool_size = 1001",
            "8:13: redis.pool_size: the value is too large, the greatest is 1000",
        ),
        (
            "[redis]\nurl = \"redis://h\"\npool_size = -1",
            "8:13: redis.pool_size: -1 is not a whole number from 0 to 2^64",
        ),
        (
            "[redis]\nurl = \"redis://h\"\nmin_idle = 11",
            "8:12: redis.min_idle: 11 idle connections do not fit into a pool of 10",
        ),
        (
            "[redis]\nurl = \"redis://h\"\nqueue = \"1MiB\"",
            "8:9: redis.queue: an object of max_object bytes would never fit into the queue",
        ),
        (
            "[redis]\nurl = \"redis://:a@h\"\npassword = \"b\"",
            "8:12: redis.password: the URL gives a password already",
        ),
        (
            "[disk]",
            "6:1: disk: there is no data_dir, where purges are kept that must not be forgotten before the objects are",
        ),
        (
            "[redis]\nurl = \"redis://h\"\n[disk]",
            "8:1: disk: there is a [redis] table too, and a node has one tier behind memory",
        ),
        (
            "[upstreams.b]\nservers = [\"http://h\", \"https://h\"]",
            "7:24: upstreams.b.servers[1]: the servers of an upstream are reached by http or by https, not by both",
        ),
        (
            "[upstreams.b]\nservers = [\"http://h\"]\ntls = {}",
            "8:7: upstreams.b.tls: the servers of this upstream are reached without TLS",
        ),
        (
            "[upstreams.b]\nservers = [\"https://h\"]\ntls = { verify = false, ca_file = \"ca\" }",
            "8:35: upstreams.b.tls.ca_file: where nothing is verified, this has no use",
        ),
        (
            "[upstreams.b]\nservers = [\"https://h\"]\ntls = { server_name = \"h:443\" }",
            "8:23: upstreams.b.tls.server_name: this is not the name of a server",
        ),
        (
            "[tls]\nlisten = []\ncertificates = [{ chain = \"c\", key = \"k\" }]",
            "7:10: tls.listen: the list is empty",
        ),
        (
            "[tls]\nlisten = \"0.0.0.0:8443\"\ncertificates = []",
            "8:16: tls.certificates: TLS needs a certificate",
        ),
        (
            "[tls]\nlisten = \"0.0.0.0:8080\"\ncertificates = [{ chain = \"c\", key = \"k\" }]",
            "7:10: tls.listen: port 8080 is taken by listen, by default",
        ),
        (
            "[upstreams.b]\nservers = [\"http://h/a\"]",
            "7:21: upstreams.b.servers[0]: the URL of a server has no path",
        ),
        (
            "[upstreams.b]\nservers = [\"http://h?a\"]",
            "7:21: upstreams.b.servers[0]: the URL of a server has no query",
        ),
        (
            "[upstreams.b]\nservers = [\"h:3000\"]",
            "7:12: upstreams.b.servers[0]: this is not the URL of a server",
        ),
        (
            "[upstreams.\"a b\"]\nservers = [\"http://h\"]",
            "6:12: upstreams.\"a b\": the name may have only ASCII letters, digits, `-` and `_`, 1 to 64 of them",
        ),
        (
            "[policies]\nx = 1",
            "7:1: policies.x: expected a table, found an integer",
        ),
        (
            "[policies.q]\ncomponent = \"q\"\nnamespaces = []",
            "8:14: policies.q.namespaces: a policy needs at least one namespace for its keys",
        ),
        (
            "[policies.q]\ncomponent = \"q\"\nnamespaces = [\"A\"]",
            "8:15: policies.q.namespaces[0]: \"A\" is not a namespace",
        ),
        (
            "[policies.q]\ncomponent = \"q\"\nnamespaces = [\"q\"]\ngrants = [\"net\"]",
            "9:11: policies.q.grants[0]: \"net\" is not one of the choices",
        ),
        (
            "[policies.q]\ncomponent = \"q\"\nnamespaces = [\"q\"]\nconfig = { a = inf }",
            "9:16: policies.q.config.a: inf has no place in JSON, as which a policy gets its config",
        ),
        (
            &format!("{policy}[policies.q]\ncomponent = \"q\"\nnamespaces = [\"p\"]"),
            "12:15: policies.q.namespaces[0]: the namespace \"p\" is taken by policies.p.namespaces[0] on line 9",
        ),
        (
            "sealed = true",
            "6:10: routes[0].sealed: the route has no policy that could say what the origin may see",
        ),
        (
            &format!("sealed = true\non_policy_error = \"rfc9111\"\n{policy}"),
            "7:19: routes[0].on_policy_error: on a sealed route nothing may be stored whose key no policy made",
        ),
        (
            "on_policy_error = \"503\"",
            "6:19: routes[0].on_policy_error: the route has no policy that could fail",
        ),
        (
            "on_policy_error = 503",
            "6:19: routes[0].on_policy_error: expected a string, found an integer",
        ),
        (
            "policy = \"q\"",
            "6:10: routes[0].policy: there is no policy named \"q\"",
        ),
        (
            "host = \"*.example.org\"",
            "6:8: routes[0].host: \"*.example.org\" is not a host as requests name it",
        ),
        (
            "[[routes]]\nupstream = \"api\"",
            "6:1: routes[1].path: the key is missing",
        ),
        (
            "[[routes]]\nupstream = \"api\"\npath = \"/{*rest}\"",
            "8:8: routes[1].path: the same host and path as routes[0].path on line 4",
        ),
        (
            "[[routes]]\nupstream = \"api\"\npath = \"/{*all}\"",
            "8:8: routes[1].path: matches the same requests as /{*rest} (routes[0].path on line 4)",
        ),
        (
            "[[routes]]\nupstream = \"api\"\npath = \"/{a}.png\"",
            "8:8: routes[1].path: it cannot be told which is more specific, this path or /{*rest} (routes[0].path on line 4)",
        ),
        (
            "[[routes]]\nupstream = \"api\"\npath = \"/{*a}/b\"",
            "8:10: routes[1].path: `{*a}` is not at the end of the path",
        ),
        (
            "a 1",
            "6:3: not valid TOML: key with no value, expected `=`",
        ),
        (
            "shared = true\nshared = true",
            "7:1: not valid TOML: duplicate key",
        ),
        (
            "policy = p",
            "6:10: not valid TOML: string values must be quoted, expected literal string",
        ),
    ] {
        assert_eq!(error(tables), expected);
    }
}

#[test]
fn ports_collide_where_the_system_would_refuse() {
    let listen = |text: &str| errors(&format!("listen = {text}\n{MINIMAL}"));
    let expected = ["1:27: listen[1]: port 80 is taken by listen[0] on line 1"];
    assert_eq!(listen("[\"127.0.0.1:80\", \"0.0.0.0:80\"]"), expected);
    let distinct = format!("listen = [\"127.0.0.1:80\", \"127.0.0.2:80\"]\n{MINIMAL}");
    assert_eq!(valid(&distinct).listen.len(), 2);
}

#[test]
fn nothing_at_all_lacks_routes() {
    assert_eq!(errors(""), ["1:1: routes: the key is missing"]);
    assert_eq!(errors("routes = []"), ["1:10: routes: there are no routes"]);
    assert_eq!(
        errors("[routes]\npath = \"/\""),
        ["1:1: routes: expected a list of tables, found a table"]
    );
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let warnings = |tables: &str| -> Vec<String> {
        let config = valid(&format!("{MINIMAL}{tables}"));
        let lines = config.warnings.iter().map(ToString::to_string);
        lines
            .map(|text| text.lines().next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        warnings("[upstreams.b]\nservers = [\"http://h\"]"),
        ["etc/weir.toml:6:12: warning: upstreams.b: no route uses this upstream"]
    );
    assert_eq!(
        warnings("[policies.p]\ncomponent = \"p\"\nnamespaces = [\"p\"]"),
        ["etc/weir.toml:6:11: warning: policies.p: no route uses this policy"]
    );
    assert_eq!(
        warnings("shed_above = 3"),
        [
            "etc/weir.toml:6:14: warning: routes[0].shed_above: it has no effect without redis_down = \"shed\""
        ]
    );
    let policy = "policy = \"p\"\n[policies.p]\ncomponent = \"p\"\nnamespaces = [\"p\"]\ngrants = [\"rate-limit\"]";
    assert_eq!(
        warnings(policy),
        [
            "etc/weir.toml:6:10: warning: routes[0].policy: a request made to crash this policy would pass its rate limit"
        ]
    );
    assert!(warnings(&format!("on_policy_error = \"503\"\n{policy}")).is_empty());
}

#[test]
fn a_password_stays_out_of_every_message() {
    for tables in [
        "[redis]\nurl = \"redis://u:hunter2@h?x\"",
        "[redis.sentinel]\nservers = [\"redis://u:hunter2@h\"]",
        "[redis]\nurl = \"u:hunter2@h\"\npasword = 3",
        "[redis]\nurl = \"redis://u:hunter2@h:x\"",
        "[redis]\nurl = \"redis://h\"\npassword = \"hunter2",
        "[upstreams.b]\nservers = [\"https://u:hunter2@h\", \"u:hunter2@h\", \"http://u:hunter2@h\"]",
    ] {
        let shown = parse(&format!("{MINIMAL}{tables}"))
            .unwrap_err()
            .to_string();
        let messages: String = shown.lines().filter(|line| !line.contains(" | ")).collect();
        assert!(!messages.contains("hunter2"), "{shown}");
        if tables.contains("://u:") && !tables.contains(", ") {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}

#[test]
fn what_was_left_open_hides_the_errors_that_follow_from_it() {
    let text = format!("listen = [\"127.0.0.1:8080]\n{MINIMAL}");
    let expected = ["1:27: not valid TOML: invalid basic string, expected `\"`"];
    assert_eq!(errors(&text), expected);
    let text = "a = foo\nb = 01\nc = \"x";
    assert_eq!(errors(text).len(), 3);
}

#[test]
fn a_number_without_its_unit_gets_units_to_choose_from() {
    let hint = |text: &str| parse(text).unwrap_err().problems()[0].hint.clone();
    let redis = format!("{MINIMAL}[redis]\nurl = \"redis://h\"\n");
    assert_eq!(
        hint(&format!("{redis}deadline = 20")),
        "a duration needs quotes and a unit: write deadline = \"20s\" or \"20ms\""
    );
    assert_eq!(
        hint(&format!("{redis}pool_size = \"10\"")),
        "leave the quotes out: write pool_size = 10"
    );
}

#[test]
fn shared_routes_that_would_mix_two_origins_are_refused() {
    let text = |second: &str| {
        format!(
            "listen = [\"127.0.0.1:1\"]\n[upstreams.a]\nservers = [\"http://a\"]\n\
             [upstreams.b]\nservers = [\"http://b\"]\n\
             [[routes]]\nhost = \"a.example\"\npath = \"/{{*r}}\"\nupstream = \"a\"\nshared = true\n\
             [[routes]]\nhost = \"b.example\"\npath = \"/{{*r}}\"\nupstream = \"{second}\"\nshared = true\n"
        )
    };
    let parse = |text: &str| Config::parse(text, Path::new("weir.toml"));
    let error = parse(&text("b")).unwrap_err().to_string();
    assert!(
        error.contains("weir.toml:15:10: routes[1].shared:"),
        "{error}"
    );
    assert!(parse(&text("a")).is_ok_and(|config| config.routes.len() == 2));
}

#[test]
fn a_tunnel_is_not_for_what_routes_and_policies_decide() {
    assert!(
        valid(&format!("{MINIMAL}upgrades = []")).routes[0]
            .upgrades
            .is_empty()
    );
    let upgrades = |one: &str| error(&format!("upgrades = [\"websocket\", \"{one}\"]"));
    for one in ["h2c", "H2C", "HTTP/2.0", "TLS/1.0"] {
        let said = upgrades(one);
        assert!(said.contains("by routes and policies unseen"), "{said}");
    }
    for one in ["a b", "spdy/", "a/b/c"] {
        let said = upgrades(one);
        assert!(said.contains("is not a protocol"), "{said}");
    }
    let config = valid(&format!("{MINIMAL}upgrades = [\"spdy/3.1\"]"));
    assert_eq!(config.routes[0].upgrades, ["spdy/3.1"]);
}
