//! TLS to origins: who is trusted, and what happens when nobody is.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use tokio::net::TcpListener;
use weir_tests::artifact::weir_binary;
use weir_tests::tls::{Authority, Terminator};
use weir_tests::{Config, Origin, Reply, Scratch, Weir, until};

async fn origin() -> Origin {
    Origin::with(|_| {
        Reply::ok()
            .header("cache-control", "max-age=600")
            .text("from afar")
    })
    .await
}

/// A node whose upstream has these servers and these lines in its table `tls`.
async fn node(servers: &[String], tls: &str) -> Weir {
    let config = format!(
        "[upstreams.origin]\nservers = {servers:?}\nconnect_timeout = \"5s\"\n\
         [[routes]]\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n\
         [upstreams.origin.tls]\n{tls}\n"
    );
    Config::new(&config).start().await
}

fn ca_file(authority: &Authority, files: &Scratch) -> String {
    let path = files.write("ca.pem", authority.pem());
    format!("ca_file = {:?}\n", path.display().to_string())
}

/// The answer of a node that cannot trust its origin, and what it logs.
async fn assert_refused(node: &Weir, told: &str) {
    let answer = node.get("/x").await;
    assert_eq!(answer.status, 502);
    assert!(answer.cache().details("tls-failed"), "{:?}", answer.cache());
    until(told, async || node.output().contains(told).then_some(())).await;
    let labels = [("upstream", "origin"), ("result", "tls-failed")];
    let failed = node.admin().metric("weir_origin_results_total", &labels);
    assert!(failed.await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_of_a_known_authority_is_reached() {
    let (origin, authority, files) = (origin().await, Authority::new(), Scratch::new());
    let issued = authority.issue(&["localhost"]);
    let tls = Terminator::before(origin.address(), &issued).await;
    let server = format!("https://localhost:{}", tls.port());
    let node = node(&[server], &ca_file(&authority, &files)).await;
    let answer = node.get("/x").await;
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (200, "from afar")
    );
    assert!(node.get("/x").await.is_hit());
    assert_eq!(tls.names(), [Some("localhost".to_owned())]);
    assert_eq!(tls.protocols(), [Some("http/1.1".to_owned())]);
    // The client's scheme is told, not the origin's.
    let proto = origin.last("/x").header("x-forwarded-proto");
    assert_eq!(proto.as_deref(), Some("http"));
    // A second request goes over the same connection.
    assert_eq!(node.get("/y").await.status, 200);
    assert_eq!(tls.names().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_of_an_unknown_authority_is_not() {
    let (origin, files) = (origin().await, Scratch::new());
    let issued = Authority::new().issue(&["localhost"]);
    let tls = Terminator::before(origin.address(), &issued).await;
    let server = format!("https://localhost:{}", tls.port());
    let node = node(&[server], &ca_file(&Authority::new(), &files)).await;
    assert_refused(&node, "UnknownIssuer").await;
    assert_eq!(origin.total(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_must_have_the_name_that_is_asked_for() {
    let (origin, authority, files) = (origin().await, Authority::new(), Scratch::new());
    let issued = authority.issue(&["api.test"]);
    let tls = Terminator::before(origin.address(), &issued).await;
    let server = format!("https://127.0.0.1:{}", tls.port());
    let ca = ca_file(&authority, &files);
    let wrong = node(std::slice::from_ref(&server), &ca).await;
    assert_refused(&wrong, "certificate not valid for name \"127.0.0.1\"").await;
    assert_eq!(origin.total(), 0);

    let right = node(&[server], &format!("{ca}server_name = \"api.test\"\n")).await;
    assert_eq!(right.get("/x").await.text(), "from afar");
    assert_eq!(tls.names(), [Some("api.test".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_refused() {
    let (origin, authority, files) = (origin().await, Authority::new(), Scratch::new());
    let issued = authority.issue_expired(&["localhost"]);
    let tls = Terminator::before(origin.address(), &issued).await;
    let server = format!("https://localhost:{}", tls.port());
    let node = node(&[server], &ca_file(&authority, &files)).await;
    assert_refused(&node, "certificate expired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_without_tls_is_a_failure_of_tls() {
    let (origin, authority, files) = (origin().await, Authority::new(), Scratch::new());
    let server = origin.url().replace("http://", "https://");
    let node = node(&[server], &ca_file(&authority, &files)).await;
    assert_refused(&node, "received corrupt message").await;
    assert_eq!(origin.total(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_can_be_switched_off_and_is_complained_about() {
    let origin = origin().await;
    let issued = Authority::new().issue(&["somebody.test"]);
    let tls = Terminator::before(origin.address(), &issued).await;
    let server = format!("https://127.0.0.1:{}", tls.port());
    let node = node(&[server], "verify = false").await;
    assert_eq!(node.get("/x").await.text(), "from afar");
    let warning = "upstreams.origin.tls.verify: these servers are not verified";
    assert!(node.output().contains(warning), "{}", node.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_trusted_is_set_aside_for_another() {
    let (origin, authority, files) = (origin().await, Authority::new(), Scratch::new());
    let bad = Terminator::before(origin.address(), &Authority::new().issue(&["localhost"])).await;
    let good = Terminator::before(origin.address(), &authority.issue(&["localhost"])).await;
    let servers = [&bad, &good].map(|tls| format!("https://localhost:{}", tls.port()));
    let node = node(&servers, &ca_file(&authority, &files)).await;
    for index in 0..4 {
        let answer = node.get(&format!("/{index}")).await;
        assert_eq!(answer.text(), "from afar", "{answer:?}");
    }
    assert!(bad.names().is_empty() && !good.names().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_shake_hands_is_late() {
    let (authority, files) = (Authority::new(), Scratch::new());
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let config = format!(
        "[upstreams.origin]\nservers = [\"https://localhost:{port}\"]\nconnect_timeout = \"100ms\"\n\
         response_timeout = \"1h\"\n\
         [[routes]]\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n\
         [upstreams.origin.tls]\n{}",
        ca_file(&authority, &files)
    );
    let node = Config::new(&config).start().await;
    let answer = node.get("/x").await;
    assert_eq!(answer.status, 504);
    assert!(
        answer.cache().details("connect-timeout"),
        "{:?}",
        answer.cache()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_another_authority() {
    let (origin, authority, files) = (origin().await, Authority::new(), Scratch::new());
    let tls = Terminator::before(origin.address(), &authority.issue(&["localhost"])).await;
    let server = format!("https://localhost:{}", tls.port());
    let mut node = node(&[server], &ca_file(&Authority::new(), &files)).await;
    assert_refused(&node, "UnknownIssuer").await;
    ca_file(&authority, &files);
    node.hangup();
    until("an answer of the origin", async || {
        (node.get("/x").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_without_authorities_is_told_what_to_do() {
    let files = Scratch::new();
    let check = async |server: &str, tls: &str| {
        let config = format!(
            "[upstreams.o]\nservers = [\"{server}\"]\n[[routes]]\npath = \"/{{*rest}}\"\n\
             upstream = \"o\"\n{tls}"
        );
        files.write("weir.toml", config);
        // Where rustls-native-certs looks first; a bare Debian has nothing anywhere.
        let output = tokio::process::Command::new(weir_binary())
            .args(["check", "-c", "weir.toml"])
            .current_dir(files.path())
            .env("SSL_CERT_FILE", files.join("absent.pem"))
            .env_remove("SSL_CERT_DIR")
            .output()
            .await
            .expect("running weir");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), told)
    };
    let (code, told) = check("https://origin.test", "").await;
    assert_eq!(code, Some(1), "{told}");
    for part in [
        "weir.toml:2:11: upstreams.o.servers: the system has no certificate authorities",
        "hint: install them",
        "ca_file",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    // Who does not need them does not hear of them.
    assert_eq!(
        check("http://origin.test", "").await,
        (Some(0), String::new())
    );
    let own = format!("[upstreams.o.tls]\n{}", ca_file(&Authority::new(), &files));
    assert_eq!(
        check("https://origin.test", &own).await,
        (Some(0), String::new())
    );

    let (code, told) = check(
        "https://origin.test",
        "[upstreams.o.tls]\nca_file = \"weir.toml\"\n",
    )
    .await;
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("upstreams.o.tls.ca_file: weir.toml: there is no"),
        "{told}"
    );
}
