//! TLS, users and passwords, databases, protocols; and what is said when they are wrong.

use std::sync::Arc;

use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore};
use weir_store::kv::KvStore;
use weir_store::published::{Document, Published};
use weir_store::rate_limit::RateLimiter;
use weir_store::redis::{Leased, Protocol, RedisState, Tls};
use weir_store::roster::{LiveNodes, Roster};

use super::*;
use crate::port::Port;
use crate::redis_server::RedisServer;
use crate::scratch::Scratch;

/// What Weir may do in Redis: the list in docs/operations.md.
const ACL: &str = include_str!("../../../../docs/redis.acl");

/// An authority, and what it issued for a server and for a client.
struct Pki {
    issuer: Issuer<'static, KeyPair>,
    authority: rcgen::Certificate,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        // By its name a certificate finds its authority.
        params
            .distinguished_name
            .push(DnType::CommonName, "the authority");
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            authority,
        }
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// What a client trusts and shows.
    fn client(&self, shown: bool) -> Tls {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = if shown {
            let (certificate, key) = self.issue("node.example");
            let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
            let chain = vec![certificate.der().clone()];
            config.with_client_auth_cert(chain, key).unwrap()
        } else {
            config.with_no_client_auth()
        };
        Tls {
            config: Arc::new(config),
            server_name: None,
        }
    }
}

/// A server that speaks TLS alone, asks for certificates, and calls itself `name`.
async fn secured(pki: &Pki, name: &str) -> (RedisServer, Port) {
    let (scratch, port) = (Scratch::new(), Port::reserve());
    let (certificate, key) = pki.issue(name);
    let ca = scratch.write("ca.pem", pki.authority.pem());
    let cert = scratch.write("cert.pem", certificate.pem());
    let key = scratch.write("key.pem", key.serialize_pem());
    let [ca, cert, key] = [ca, cert, key].map(|path| path.display().to_string());
    let number = port.number().to_string();
    let args = [
        ["--tls-port", &number],
        ["--tls-ca-cert-file", &ca],
        ["--tls-cert-file", &cert],
        ["--tls-key-file", &key],
        ["--tls-auth-clients", "yes"],
    ];
    let server = RedisServer::spawn_with(&args.concat(), scratch);
    server.ready().await;
    (server, port)
}

fn single(port: u16) -> RedisConfig {
    RedisConfig {
        deadline: Duration::from_millis(250),
        ..RedisConfig::new(Servers::Single(endpoint(port)))
    }
}

/// Waits until the node gives a reason like this for not using Redis.
async fn refused(config: &RedisConfig, expected: &str) {
    let redis = Redis::start(config, Limits::default(), &CLOCK).unwrap();
    let mut said = String::new();
    let began = Instant::now();
    while began.elapsed() < PATIENCE && !said.contains(expected) {
        if let RedisState::Down { reason, .. } = redis.state() {
            said = reason;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(said.contains(expected), "expected {expected}: {said}");
}

/// Uses everything that a node does with Redis.
async fn works(config: &RedisConfig) {
    let redis = node_with(config, Limits::default()).await;
    let id = fastrand_id();
    put(&redis, object(&id, &["team"], redis.log().position())).await;
    assert!(get(&redis, &id).await.is_some());
    // Large enough for chunks; the second one lets those of the first go.
    let large = format!("large-{id}");
    for byte in [b'x', b'y'] {
        let body = Bytes::from(vec![byte; 3 << 20]);
        let position = redis.log().position();
        put(
            &redis,
            Object::new(ObjectParts {
                body: body.clone(),
                ..parts(&large, &[], position)
            }),
        )
        .await;
        assert_eq!(get(&redis, &large).await.expect("found").body, body);
    }
    let name = key("a.example", &format!("lease-{id}"));
    let until = redis.lease_patience().expect("leases are used");
    match redis.lease(name.as_str(), until).await {
        Leased::Yours(lease, false) => drop(lease),
        other => panic!("{other:?}"),
    }
    let kv = KvStore::redis(&redis);
    let ttl = Duration::from_secs(60);
    assert_eq!(kv.increment("n", &id, 1, ttl).await, Ok(1));
    kv.set("s", &id, Bytes::from_static(b"v"), ttl)
        .await
        .unwrap();
    assert!(kv.get("s", &id).await.unwrap().is_some());
    assert!(kv.delete("s", &id).await.unwrap());
    assert!(
        kv.set_add("s", &id, Bytes::from_static(b"v"), ttl)
            .await
            .unwrap()
    );
    assert!(kv.set_contains("s", &id, b"v").await.unwrap());
    assert!(kv.set_remove("s", &id, b"v").await.unwrap());
    assert_eq!(
        kv.queue_push("q", &id, Bytes::from_static(b"v"), 2, ttl)
            .await,
        Ok(1)
    );
    assert!(kv.queue_pop("q", &id).await.unwrap().is_some());
    let limiter = RateLimiter::shared(&redis, LiveNodes::default());
    let minute = Duration::from_secs(60);
    assert!(limiter.check("b", &id, 1, minute).await.allowed);
    assert!(!limiter.check("b", &id, 1, minute).await.allowed);
    let roster = Roster::new(&redis, "nodes", &id);
    let told = serde_json::from_str(r#"{"version":"1"}"#).unwrap();
    let names = roster.tell(&told, minute).await.unwrap();
    assert!(names.iter().any(|name| name == roster.node()));
    assert!(roster.all().await.unwrap().contains_key(roster.node()));
    roster.leave().await.unwrap();
    let published = Published::new(&redis, "policies");
    let content = Bytes::from_static(b"content");
    published.put(&id, "aa", &content).await.unwrap();
    let document = Document {
        revision: 1,
        text: String::new(),
    };
    for (needs, lets_go) in [(&["aa"][..], &[][..]), (&[], &["aa"])] {
        let published = published.publish(&id, &document, needs, lets_go).await;
        assert!(published.is_ok(), "{published:?}");
    }
    assert!(published.has(&id, "aa", 7).await.unwrap());
    assert_eq!(published.get(&id, "aa", 7).await.unwrap(), Some(content));
    assert!(published.documents().await.unwrap().contains_key(&id));
    assert!(published.changed().await.unwrap().is_some());
    let large = key("a.example", &large);
    let found = redis.inspect(large.as_str(), &[], &[]).await.unwrap();
    let record = &found.records[0];
    let chunks = record.chunks.expect("a body beside its record");
    assert!(record.ttl.is_some() && chunks.there == chunks.told.count());
    let receipt = redis.log().invalidate(&[tag("team")], now()).await;
    assert_eq!(receipt.scope, weir_store::log::Scope::Fleet);
    assert!(get(&redis, &id).await.is_none());
    assert_eq!(redis.stats().refused.get(), 0, "{:?}", redis.stats());
}

fn fastrand_id() -> String {
    format!("{:x}", fastrand::u64(..))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_verifies_both_sides_and_says_what_is_missing() {
    let pki = Pki::new();
    let (server, port) = secured(&pki, "redis.example").await;
    let with = |port: u16, tls: Option<Tls>| RedisConfig {
        tls,
        ..single(port)
    };
    let named = |tls: Tls| Tls {
        server_name: Some("redis.example".into()),
        ..tls
    };
    works(&with(port.number(), Some(named(pki.client(true))))).await;
    let other_name = with(port.number(), Some(pki.client(true)));
    refused(&other_name, "redis.tls.server_name").await;
    let unknown = with(port.number(), Some(named(Pki::new().client(true))));
    refused(&unknown, "redis.tls.ca_file").await;
    let unshown = with(port.number(), Some(named(pki.client(false))));
    refused(&unshown, "redis.tls.cert_file").await;
    let cleartext = with(server.port(), Some(named(pki.client(true))));
    refused(&cleartext, "redis:// instead of rediss://").await;
    refused(&with(port.number(), None), "rediss://").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_may_do_what_the_documentation_lists_and_that_is_enough() {
    let server = RedisServer::start().await;
    let mut rules = vec!["ACL", "SETUSER"];
    rules.extend(ACL.split_whitespace().skip(1));
    server.command::<()>(&rules);
    let few = ["ACL", "SETUSER", "few", "on", ">secret", "+@all", "-select"];
    server.command::<()>(&few);
    server.command::<()>(&["CONFIG", "SET", "requirepass", "another"]);
    let login = |username: Option<&str>, password: Option<&str>| RedisConfig {
        login: Login {
            username: username.map(str::to_owned),
            password: password.map(str::to_owned),
        },
        ..single(server.port())
    };
    let listed = || login(Some("weir"), Some("secret"));
    let numbered = || RedisConfig {
        database: 1,
        ..listed()
    };
    works(&listed()).await;
    works(&numbered()).await;
    works(&login(None, Some("another"))).await;
    let unnumbered = RedisConfig {
        database: 1,
        ..login(Some("few"), Some("secret"))
    };
    refused(&unnumbered, "+select").await;
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let config = |config| RedisConfig { protocol, ..config };
        works(&config(login(Some("weir"), Some("secret")))).await;
        refused(
            &config(login(Some("weir"), Some("wrong"))),
            "redis.password_file",
        )
        .await;
        refused(&config(login(Some("nobody"), Some("x"))), "redis.username").await;
        refused(&config(login(None, None)), "redis.password_file").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_hello_is_refused_resp2_is_spoken() {
    let server = RedisServer::start_with(&["--rename-command", "HELLO", ""]).await;
    works(&single(server.port())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_the_one_that_was_named() {
    let server = RedisServer::start().await;
    let numbered = |database| RedisConfig {
        database,
        ..single(server.port())
    };
    works(&numbered(3)).await;
    let sizes: String = server.command(&["INFO", "keyspace"]);
    assert!(sizes.contains("db3:") && !sizes.contains("db0:"), "{sizes}");
    refused(&numbered(99), "redis.database").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unix_socket_serves_too() {
    let scratch = Scratch::new();
    let socket = scratch.join("redis.sock");
    let path = socket.display().to_string();
    let server = RedisServer::spawn_with(&["--unixsocket", &path], Scratch::new());
    server.ready().await;
    let unix = Servers::Single(Endpoint::Unix(socket));
    works(&RedisConfig {
        servers: unix,
        ..single(0)
    })
    .await;
    let absent = Servers::Single(Endpoint::Unix(scratch.join("none")));
    refused(
        &RedisConfig {
            servers: absent,
            ..single(0)
        },
        "none",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_cluster_is_not_taken_for_a_single_server() {
    // By itself it would take a port for the others that may be in use.
    let bus = Port::reserve();
    let number = bus.number().to_string();
    let args = ["--cluster-enabled", "yes", "--cluster-port", &number];
    let server = RedisServer::spawn_with(&args, Scratch::new());
    server.ready().await;
    refused(&single(server.port()), "redis.cluster = true").await;
}
