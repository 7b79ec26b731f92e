//! The configuration as it stands in the file: every table and key, with type,
//! default, bounds and meaning. The readers, the list of known keys and the
//! reference page all come from here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::compound::{Json, List, Named, OneOrMany, Tables};
use super::errors::{Findings, Place};
use super::http::{FieldName, Lifetimes};
use super::model::{
    Coding, Grant, LogFormat, LogLevel, OnPolicyError, Protection, RedisDown, RedisProtocol,
};
use super::read::{At, Fields, Read};
use super::schema::{Absent, KeySpec, TableSpec, table};
use super::units::Size;

/// All tables, in the order of the reference page.
pub(super) const TABLES: &[&TableSpec] = &[
    Root::SPEC,
    Tls::SPEC,
    Certificate::SPEC,
    Limits::SPEC,
    Admin::SPEC,
    Deploy::SPEC,
    Log::SPEC,
    Memory::SPEC,
    Cache::SPEC,
    Redis::SPEC,
    RedisTls::SPEC,
    RedisSentinel::SPEC,
    Disk::SPEC,
    Upstream::SPEC,
    UpstreamTls::SPEC,
    Policy::SPEC,
    Guard::SPEC,
    Route::SPEC,
];

table! {
    /// Durations are written like `"30s"`, sizes like `"256MiB"`. Paths are
    /// relative to the folder of the configuration file.
    "" Root {
        /// Where clients connect in cleartext (HTTP/1.1, and HTTP/2 with prior knowledge). Port 0 takes any free
        /// port. May be empty where `tls.listen` is not.
        listen: OneOrMany<SocketAddr>, = ["127.0.0.1:8080"];
        /// Where clients connect with TLS.
        tls: Tls, absent "none: no TLS listener";
        /// Folder of this node alone for compiled policies, so that a restart need not compile them again, and for
        /// purges that a restart must not forget: those that Redis has not taken yet, or, with `[disk]`, all. The disk
        /// tier is in it too.
        data_dir: PathBuf, absent "none: nothing is kept on disk";
        /// Worker threads.
        threads: u64, absent "the number of CPU cores", in 1..=1024;
        /// Limits on clients.
        limits: Limits, = {};
        /// The admin listener.
        admin: Admin, absent "none: no admin listener";
        /// Whose policies are taken.
        deploy: Deploy, = {};
        /// What is logged.
        log: Log, = {};
        /// The memory tier.
        memory: Memory, = {};
        /// What is stored.
        cache: Cache, = {};
        /// The Redis tier.
        redis: Redis, absent "none: this node caches alone";
        /// The disk tier.
        disk: Disk, absent "none: what is stored ends with the process";
        /// Where responses come from.
        upstreams: Named<Upstream>, = {};
        /// The policies that decide what is cached.
        policies: Named<Policy>, = {};
        /// Which requests go where.
        routes: Tables<Route>;
    }
}

table! {
    /// Listeners with TLS 1.2 and 1.3. ALPN decides between HTTP/2 and HTTP/1.1.
    "[tls]" Tls {
        /// Where clients connect with TLS.
        listen: OneOrMany<SocketAddr>;
        /// Time for a client to finish the handshake.
        handshake_timeout: Duration, = "10s", in "1ms"..="5m";
        /// What clients are shown: the one with the name that the client asks for (SNI), else the first.
        certificates: Tables<Certificate>;
    }
}

table! {
    /// A certificate. The names in it, also with a wildcard for one label, are those it is shown for.
    /// When a file changes both are read again; what is of no use then leaves the old one in force.
    "[[tls.certificates]]" Certificate {
        /// PEM file: the certificate, then those between it and its authority.
        chain: PathBuf;
        /// PEM file: the private key, without a password.
        key: PathBuf;
    }
}

table! {
    /// What a client may do, and how the node stops.
    "[limits]" Limits {
        /// Time for a client to send the header of a request, counted from the connection's
        /// start or the end of its last response: so also how long it may be idle.
        header_timeout: Duration, = "60s", in "1ms"..="1h";
        /// Most header fields in a request; more is answered 431.
        max_headers: u64, = 100, in 1..=10000;
        /// Most bytes in the header of a request; more is answered 431.
        max_header_size: Size, = "64KiB", in "8KiB"..="1MiB";
        /// Most bytes in the target of a request; more is answered 414. No more than
        /// `max_header_size` leaves room for.
        max_uri_size: Size, = "16KiB", in "256B"..="60KiB";
        /// Longest time between two pieces of a request's body; later is answered 408.
        body_timeout: Duration, = "30s", in "1ms"..="1h";
        /// Longest time that a client may read nothing of a response that waits for it. Then
        /// its connection is reset.
        write_timeout: Duration, = "60s", in "1ms"..="1h";
        /// Time that requests in flight have to finish after SIGTERM.
        drain_timeout: Duration, = "30s", in "0s"..="1h";
    }
}

table! {
    /// The admin API, metrics and probes. Without this table there is none of them.
    "[admin]" Admin {
        /// Where it listens. An address other than loopback needs `token_file`.
        listen: SocketAddr, = "127.0.0.1:9900";
        /// File with the token that each request must carry as `Authorization: Bearer TOKEN`.
        token_file: PathBuf, absent "none: loopback only, no token";
    }
}

table! {
    /// What components are taken that come through the admin API or from other nodes. The files that
    /// `policies.NAME.component` names are always.
    "[deploy]" Deploy {
        /// PEM files with public keys of ed25519 (`openssl pkey -in KEY -pubout`). Components must be signed by one of
        /// them (`weir deploy --key KEY`).
        trusted_keys: List<PathBuf>, absent "none: signatures are not asked for";
    }
}

table! {
    /// What is written to standard error.
    "[log]" Log {
        /// Lines for people, or one JSON object on each line.
        format: LogFormat, = "text";
        /// The least important messages that are written.
        level: LogLevel, = "info";
        /// Whether each request is written.
        access: bool, = false;
    }
}

table! {
    /// The memory tier of this node.
    "[memory]" Memory {
        /// What its objects may weigh together, at least `"1MiB"`. `"0"` turns the tier off, where `[redis]` or `[disk]`
        /// stands behind it: each hit is read from there, and what a policy keeps out of that tier is not stored.
        capacity: Size, = "256MiB", in "0"..="16TiB";
    }
}

table! {
    /// What is stored, on all routes.
    "[cache]" Cache {
        /// Longest life of an object: lifetime and stale windows together.
        longest_life: Duration, = "30d", in "1s"..="3650d";
        /// Largest response that is stored; a larger one is streamed through.
        max_object: Size, absent "an eighth of `memory.capacity`, at most `\"64MiB\"`", in "1KiB"..="1GiB";
        /// Largest content of a request that a policy's key may name by its digest. It is read whole before the lookup;
        /// a request with more is forwarded.
        max_keyed_body: Size, = "64KiB", in "1KiB"..="16MiB";
        /// How long it is remembered that a response could not be stored.
        uncacheable_for: Duration, = "120s", in "0s"..="1h";
        /// For how long after its lifetime an object may be served while its origin cannot be reached, unless the
        /// origin forbade that (RFC 9111 section 4.2.4). `stale-if-error` is another matter, and the origin's.
        disconnected: Duration, = "1m", in "0s"..="7d";
        /// Whether an object that is asked for often is fetched anew in the background shortly before it expires: at
        /// a moment drawn anew for each hit, the likelier the less is left beside the time that its fetch took.
        early_refresh: bool, = true;
        /// Targeted fields (RFC 9213), most specific first: the first that a response has and that can be read
        /// stands in for its Cache-Control and Expires.
        targeted: List<FieldName>, = ["weir-cache-control", "cdn-cache-control", "surrogate-control"];
    }
}

table! {
    /// The tier that nodes share. Without this table a node caches alone.
    "[redis]" Redis {
        /// `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, `rediss://` for TLS, or `unix:///PATH[?db=DB]`; `valkey://`
        /// and `valkeys://` mean the same. A name is looked up anew for each connection.
        url: String, absent "required, unless there is `urls` or `sentinel`";
        /// With `cluster = true`: some of its nodes, each as in `url`. The first that answers names the others.
        urls: List<String>, absent "none";
        /// Whether the server in `url`, or those in `urls`, are nodes of a Redis Cluster.
        cluster: bool, = false;
        /// The sentinels that say which server is the master.
        sentinel: RedisSentinel, absent "none";
        /// Number of the database. A cluster has 0 alone.
        database: u64, absent "0, or that of the URL", in 0..=65535;
        /// How servers with `rediss` are verified. With `sentinel`: that the master is reached by TLS.
        tls: RedisTls, absent "with `rediss` the authorities of the system, and no certificate";
        /// RESP3, or RESP2 where the server knows no other; or RESP2 in any case.
        protocol: RedisProtocol, = "resp3";
        /// First part of the name of every key.
        prefix: String, = "weir";
        /// User name (Redis ACL).
        username: String, absent "none, or that of the URL";
        /// Password. Better: `password_file`.
        password: String, absent "none, or that of the URL";
        /// File with the password.
        password_file: PathBuf, absent "none";
        /// Most connections to each server. Calls share them; one more follows the purges.
        pool_size: u64, = 10, in 1..=1000;
        /// Connections to each server that are kept open when idle; at most `pool_size`.
        min_idle: u64, absent "5, or `pool_size` if that is less", in 0..=1000;
        /// Longest time for each call; what is late counts as failed.
        deadline: Duration, = "20ms", in "1ms"..="10s";
        /// Longest time that a purge may take to reach the other nodes.
        coherence_window: Duration, = "2s", in "100ms"..="1h";
        /// Largest response that is written to Redis.
        max_object: Size, = "8MiB", in "1KiB"..="512MiB";
        /// What may wait to be written; beyond that it is dropped and counted.
        queue: Size, = "64MiB", in "1MiB"..="16GiB";
        /// Bodies from this size on are compressed with zstd in Redis, where that saves a tenth and the origin has not
        /// coded them. Clients get them as they were.
        compress_above: Size, absent "none are", in "1KiB"..="512MiB";
        /// How long a node waits for an object that another node fetches, before it fetches too. `"0s"`: nodes do not
        /// wait for one another.
        lease: Duration, = "3s", in "0s"..="1m";
        /// How long `PREFIX:websocket:connections` tells of a node's upgraded connections after its last sign of
        /// life, which it gives three times as often. `"0s"`: they are not told there.
        connections_ttl: Duration, = "30s", in "0s"..="1h";
    }
}

table! {
    /// TLS with Redis, and with its sentinels where they are reached by `rediss`.
    "[redis.tls]" RedisTls {
        /// PEM file with the certificate authorities to trust, and no others.
        ca_file: PathBuf, absent "those of the system";
        /// PEM file with the certificate that this node shows, where Redis asks for one.
        cert_file: PathBuf, absent "none";
        /// PEM file with that certificate's private key, without a password.
        key_file: PathBuf, absent "none";
        /// The name to ask for (SNI) and to verify, the same for all servers.
        server_name: String, absent "the host that is connected to";
    }
}

table! {
    /// A master and its replicas, watched by sentinels. They are asked for the master whenever it does not answer
    /// or is none any more, and every second.
    "[redis.sentinel]" RedisSentinel {
        /// Some or all of the sentinels: `HOST[:PORT]`, or `rediss://HOST[:PORT]` for all of them.
        servers: List<String>;
        /// What they call the master.
        service: String, = "mymaster";
        /// User name (ACL) that the sentinels ask for. That of Redis is in `[redis]`.
        username: String, absent "none";
        /// File with the password that the sentinels ask for.
        password_file: PathBuf, absent "none";
    }
}

table! {
    /// The tier of a node without Redis whose objects outlive a restart, and so do purges. Needs `data_dir`; not
    /// together with `[redis]`.
    "[disk]" Disk {
        /// Its folder, of which it has the sole use: what is damaged there is deleted.
        path: PathBuf, absent "`objects` in `data_dir`";
        /// What it may take on disk; beyond that, what was written longest ago and is not in use goes.
        capacity: Size, = "10GiB", in "256MiB"..="64TiB";
        /// What is left free of the file system for others. With less, the oldest objects make room, and none are
        /// written until there is more.
        min_free: Size, = "256MiB", in "0B"..="64TiB";
        /// Largest response that is written to disk.
        max_object: Size, absent "`cache.max_object`", in "1KiB"..="1GiB";
        /// Longest time for each lookup; what is late counts as a miss.
        deadline: Duration, = "250ms", in "1ms"..="10s";
        /// What may wait to be written; beyond that it is dropped and counted.
        queue: Size, = "128MiB", in "1MiB"..="16GiB";
    }
}

table! {
    /// Servers that answer alike, under a name that routes use.
    "[upstreams.NAME]" Upstream {
        /// URLs of the servers: `http://HOST[:PORT]`, or `https://HOST[:PORT]` for all of them.
        servers: List<String>;
        /// How servers with `https` are verified.
        tls: UpstreamTls, = {};
        /// Time to open a connection, TLS included.
        connect_timeout: Duration, = "2s", in "1ms"..="1h";
        /// Time from the last piece of the request to the head of the response.
        response_timeout: Duration, = "30s", in "1ms"..="1d";
        /// Longest time between two pieces of a response's body.
        body_timeout: Duration, = "30s", in "1ms"..="1d";
        /// Time that an idle connection is kept. Less than the server's own.
        idle_timeout: Duration, = "4s", in "1ms"..="1d";
        /// Idle connections kept to each server.
        max_idle: u64, = 64, in 0..=10000;
        /// How many other servers are tried when a connection fails.
        retries: u64, = 1, in 0..=10;
    }
}

table! {
    /// How the servers of an upstream show that they are those meant. For `https` alone.
    "[upstreams.NAME.tls]" UpstreamTls {
        /// PEM file with the certificate authorities to trust, and no others.
        ca_file: PathBuf, absent "those of the system";
        /// The name to ask for (SNI) and to verify.
        server_name: String, absent "the host in each server's URL";
        /// Whether servers are verified. Without, anyone on the way can answer in their place.
        verify: bool, = true;
    }
}

table! {
    /// A WebAssembly component that decides what is cached, under a name that routes use.
    "[policies.NAME]" Policy {
        /// The component: a file, which is loaded anew when it changes; or `oci://HOST/NAME@sha256:DIGEST` in a registry.
        component: PathBuf;
        /// Cases that each version must pass before it serves, besides those inside the component: a TOML file.
        cases: PathBuf, absent "none";
        /// First parts of the keys that the policy may use: small letters, digits, `-`, `_`.
        namespaces: List<String>;
        /// Capabilities that the component may import.
        grants: List<Grant>, = [];
        /// Given to the policy's `configure` as JSON.
        config: Json, = {};
        /// CPU time for each call.
        cpu_limit: Duration, = "20ms", in "1ms"..="10s";
        /// Memory of an instance, all its linear memories and tables together.
        memory_limit: Size, = "64MiB", in "1MiB"..="4GiB";
        /// Memory of all instances of a version together; the one before and one on trial have as much each.
        total_memory: Size, absent "`memory_limit` for each of `max_instances`", in "1MiB"..="1TiB";
        /// Most instances at once.
        max_instances: u64, absent "four for each CPU core", in 1..=10000;
        /// Calls after which an instance is replaced.
        reuse: u64, = 10000, in 1..=4294967295;
        /// Whether a decision that rests on nothing but what the policy read is remembered, so that the next request
        /// that reads the same needs no call.
        memo: bool, = true;
        /// When a version is taken back by itself.
        guard: Guard, = {};
    }
}

table! {
    /// Bounds that a version of a policy must keep. One that does not is taken back: a canary ends, the version in
    /// force makes way for the one before, and where there is none `on_request` is not called (`on_policy_error`
    /// decides).
    "[policies.NAME.guard]" Guard {
        /// Percent of its calls that may fail within `window`; decisions that were remembered count as good ones.
        failures: u64, = 10, in 1..=100;
        /// Calls, lookups or answers within `window` below which nothing is concluded; where all calls fail, a quarter of it.
        min_calls: u64, = 20, in 1..=1000000;
        /// The time that is looked back.
        window: Duration, = "30s", in "1s"..="1h";
        /// Time that a call may take on average.
        cpu: Duration, absent "any, up to `cpu_limit`", in "1us"..="10s";
        /// Percentage points that its hit ratio may be below that of the version before, for a canary below that of the version in force; from the second `window` on.
        hit_ratio: u64, absent "any", in 1..=100;
        /// Percentage points that the share of 5xx answers to what it decided may be above that of the version before, for a canary above that of the version in force.
        origin_errors: u64, absent "any", in 1..=100;
        /// After this time it is tried again, on 10 % of the clients or calls; each time in a row that fails, twice
        /// as long, up to an hour.
        retry_after: Duration, = "5m", in "1s"..="1d";
    }
}

table! {
    /// Requests by host and path. The most specific route is taken: one with the
    /// host before one without; in a path, literal text before `{name}` before `{*rest}`.
    "[[routes]]" Route {
        /// Host of the requests; without a port for all ports.
        host: String, absent "any host";
        /// Path of the requests: `{name}` stands for a segment, a final `{*rest}` for all that follows, nothing included.
        path: String;
        /// Name of the upstream that answers them.
        upstream: String;
        /// Name of the policy that decides.
        policy: String, absent "none: plain RFC 9111";
        /// What happens to a request when its policy fails: not cached, cached by RFC 9111 under
        /// keys of its own, decided by the last version that worked, or answered 503.
        on_policy_error: OnPolicyError, = "pass";
        /// What happens while Redis is down: memory alone, trusted for `coherence_window`; memory alone, trusted for
        /// the whole lifetime; all to the origin; or as `memory-only`, and 503 above `shed_above` fetches at once.
        redis_down: RedisDown, = "memory-only";
        /// Concurrent fetches from the upstream with `redis_down = "shed"`.
        shed_above: u64, = 64, in 1..=1000000;
        /// Whether the origin sees of a request that is looked up only what is in its key (needs a policy).
        sealed: bool, = false;
        /// Whether all hosts of the route share one object.
        shared: bool, = false;
        /// Whether a response with Set-Cookie may be stored when it is explicitly fresh.
        store_set_cookie: bool, = false;
        /// For how long an error is kept that says nothing of its own lifetime: `{ 404 = "10s", 503 = "1s" }`.
        /// Not 400: it may be the answer to what one client sent.
        negative: Lifetimes, = {};
        /// What protects users and the policy overrides nevertheless where it sets a lifetime: responses that are
        /// `private`, answer a request with Authorization, or set a cookie. Its key must then tell users apart.
        may_override: List<Protection>, = [];
        /// What the node itself compresses stored text to, the favourite first; `[]` for nothing. Each coding is
        /// made once, behind the first hit of a client that wants it.
        compress: List<Coding>, = [];
        /// Least size of a response that is compressed.
        compress_min: Size, = "1KiB", in "64B"..="16MiB";
        /// Media types that are compressed; one `*` in each stands for any text.
        compress_types: List<String>, absent "`\"text/*\"`, JSON, JavaScript, XML, SVG, WebAssembly, plain fonts";
        /// Protocols that a client may upgrade its connection to (HTTP/1.1, `Connection: upgrade`). An Upgrade to
        /// another one is left out, and the request goes on without it. `[]` for none.
        upgrades: List<String>, = ["websocket"];
        /// How long an upgraded connection may be still before it is closed.
        upgrade_idle_timeout: Duration, = "1h", in "1ms"..="30d";
    }
}
