//! TLS from clients: certificates, ALPN, reloads, failures, and https as a scheme.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Request;
use http_body_util::Full;
use rustls::pki_types::CertificateDer;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use weir_tests::port::Port;
use weir_tests::raw::{End, Raw};
use weir_tests::tls::{Authority, Issued, Secure, certificate_table, handshake};
use weir_tests::{Config, Origin, Reply, Scratch, Weir, until, weir_command};

/// A node with a TLS listener in front of an origin.
struct Node {
    weir: Weir,
    tls: Port,
    authority: Authority,
    files: Scratch,
}

impl Node {
    /// With a certificate for each of these lists of names, written as `0.pem`, `1.pem`, …
    async fn start(origin: &Origin, certificates: &[&[&str]], more: &str) -> Self {
        let (authority, files, tls) = (Authority::new(), Scratch::new(), Port::reserve());
        let mut tables = format!("[tls]\nlisten = \"127.0.0.1:{}\"\n{more}\n", tls.number());
        for (index, names) in certificates.iter().enumerate() {
            let paths = authority.issue(names).write(&files, &index.to_string());
            tables.push_str(&certificate_table(&paths));
        }
        Self {
            weir: Config::plain(&origin.url()).and(&tables).start().await,
            tls,
            authority,
            files,
        }
    }

    fn port(&self) -> u16 {
        self.tls.number()
    }

    async fn connect(&self, name: &str, alpn: &[&str]) -> std::io::Result<Secure> {
        Secure::connect(self.port(), name, self.authority.client(alpn)).await
    }

    /// The certificate that a client is shown which asks for this name, trusted or not.
    async fn shown(&self, name: &str) -> CertificateDer<'static> {
        let connected = self.connect(name, &[]).await;
        connected.expect("a handshake").certificate
    }

    fn write(&self, issued: &Issued, name: &str) -> (PathBuf, PathBuf) {
        issued.write(&self.files, name)
    }

    /// Waits until new handshakes get this certificate.
    async fn until_shown(&self, name: &str, wanted: &Issued) {
        until("the new certificate", async || {
            (self.shown(name).await == wanted.der()).then_some(())
        })
        .await;
    }
}

async fn origin() -> Origin {
    Origin::with(|call| {
        Reply::ok()
            .header("cache-control", "max-age=600")
            .text(call.header("x-forwarded-proto").unwrap_or_default())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_name_chooses_the_certificate() {
    let origin = origin().await;
    let lists: [&[&str]; 3] = [
        &["first.test", "other.test", "x.y.wild.test"],
        &["*.wild.test"],
        &["exact.wild.test"],
    ];
    let node = Node::start(&origin, &lists, "").await;
    let issued: Vec<_> = (0..3)
        .map(|index| {
            let chain = std::fs::read(node.files.join(format!("{index}.pem"))).expect("a chain");
            use rustls::pki_types::pem::PemObject as _;
            CertificateDer::from_pem_slice(&chain).expect("a certificate")
        })
        .collect();
    for (asked, expected) in [
        ("first.test", 0),
        ("OTHER.test", 0),
        ("a.wild.test", 1),
        ("exact.wild.test", 2),
        // A wildcard stands for one label; the first certificate is for it by its name.
        ("x.y.wild.test", 0),
    ] {
        assert_eq!(node.shown(asked).await, issued[expected], "{asked}");
    }
    // Unknown names and clients without a name get the first, which they may refuse.
    for unknown in ["unknown.test", "127.0.0.1"] {
        let error = node.connect(unknown, &[]).await.expect_err(unknown);
        let told = error.to_string();
        assert!(told.contains("\"first.test\""), "{unknown}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alpn_decides_what_is_spoken() {
    let origin = origin().await;
    let node = Node::start(&origin, &[&["a.test"]], "").await;
    for (offered, agreed) in [
        (&["h2", "http/1.1"] as &[&str], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.0x", "http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let mut client = node.connect("a.test", offered).await.expect("a handshake");
        assert_eq!(client.alpn.as_deref(), agreed, "{offered:?}");
        let answer = client.get("https://a.test/x").await.expect("an answer");
        assert_eq!(answer.text(), "https", "{offered:?}");
    }
    assert_eq!(origin.count("/x"), 1);

    let refused = node.connect("a.test", &["spdy/3"]).await;
    let told = refused.expect_err("no protocol in common").to_string();
    assert!(told.contains("NoApplicationProtocol"), "{told}");

    // HTTP/2 where HTTP/1.1 was agreed is not spoken.
    let config = node.authority.client(&["http/1.1"]);
    let mut stream = handshake(node.port(), "a.test", config)
        .await
        .expect("a handshake");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(preface).await.expect("sending");
    let mut answer = Vec::new();
    // It may be reset after the answer.
    drop(stream.read_to_end(&mut answer).await);
    let answer = String::from_utf8_lossy(&answer);
    let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 505 ");
    assert!(refused, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_from_1_2_are_spoken() {
    let origin = origin().await;
    let node = Node::start(&origin, &[&["a.test"]], "").await;
    for version in ["--tls-max 1.2", "--tlsv1.3"] {
        let mut curl = curl(&node, "https://a.test/x");
        let output = curl.args(version.split(' ')).output().expect("curl");
        assert_eq!(output.stdout, b"https", "{version}: {output:?}");
    }
    let mut curl = curl(&node, "https://a.test/x");
    curl.args(["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"]);
    assert_eq!(curl.output().expect("curl").status.code(), Some(35));
}

fn curl(node: &Node, url: &str) -> Command {
    let authority = node.files.write("authority.pem", node.authority.pem());
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--noproxy", "*", "--cacert"])
        .arg(authority)
        .args(["--connect-to", &format!("::127.0.0.1:{}", node.port()), url]);
    curl
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_speaks_http2_with_it() {
    let origin = origin().await;
    let node = Node::start(&origin, &[&["a.test"]], "").await;
    let said = |curl: &mut Command| {
        let output = curl.args(["-w", " %{http_version}"]).output();
        let output = output.expect("curl");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let url = "https://a.test/x";
    assert_eq!(said(curl(&node, url).arg("--http2")), "https 2");
    assert_eq!(said(curl(&node, url).arg("--http1.1")), "https 1.1");
    let local = format!("https://127.0.0.1:{}/x", node.port());
    let mut insecure = Command::new("curl");
    insecure.args(["-sS", "--noproxy", "*", "--http2", "-k", &local]);
    assert_eq!(said(&mut insecure), "https 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_and_https_are_two_objects_and_a_purge_of_the_url_takes_both() {
    let origin = origin().await;
    let node = Node::start(&origin, &[&["a.test"]], "").await;
    let mut client = node.connect("a.test", &["h2"]).await.expect("a handshake");
    let in_clear = [("host", "a.test")];

    let answer = client.get("https://a.test/x").await.expect("an answer");
    assert_eq!((answer.text().as_str(), answer.is_hit()), ("https", false));
    let answer = node.weir.get_with("/x", &in_clear).await;
    assert_eq!((answer.text().as_str(), answer.is_hit()), ("http", false));
    // The default port is no part of the authority.
    let answer = client.get("https://a.test:443/x").await.expect("an answer");
    assert_eq!((answer.text().as_str(), answer.is_hit()), ("https", true));
    assert_eq!(
        origin.last("/x").header("x-forwarded-host").as_deref(),
        Some("a.test")
    );
    assert!(node.weir.get_with("/x", &in_clear).await.is_hit());
    assert_eq!(origin.count("/x"), 2);

    for url in [
        "https://a.test/x",
        "https://A.test:443/x",
        "http://a.test/x",
    ] {
        let purge = json!({ "urls": [url] });
        node.weir.admin().invalidate(purge).await;
        assert!(!node.weir.get_with("/x", &in_clear).await.is_hit(), "{url}");
        let answer = client.get("https://a.test/x").await.expect("an answer");
        assert!(!answer.is_hit(), "{url}");
        let answer = client.get("https://a.test/x").await.expect("an answer");
        assert!(answer.is_hit(), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_request_by_https_purges_what_is_stored_for_it() {
    let origin = origin().await;
    let node = Node::start(&origin, &[&["a.test"]], "").await;
    let mut client = node.connect("a.test", &["h2"]).await.expect("a handshake");
    let url = "https://a.test/x";
    client.get(url).await.expect("an answer");
    assert!(client.get(url).await.expect("an answer").is_hit());
    let post = Request::post(url).body(Full::from("y")).expect("a request");
    client.send(post).await.expect("an answer");
    assert!(!client.get(url).await.expect("an answer").is_hit());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_another_scheme_is_misdirected() {
    let origin = origin().await;
    let node = Node::start(&origin, &[&["a.test"]], "").await;
    let config = node.authority.client(&["http/1.1"]);
    let mut stream = handshake(node.port(), "a.test", config)
        .await
        .expect("a handshake");
    let request = |url: &str| format!("GET {url} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    stream
        .write_all(request("http://a.test/x").as_bytes())
        .await
        .expect("sending");
    let mut answer = String::new();
    drop(stream.read_to_string(&mut answer).await);
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");

    let (answer, _) = Raw::exchange(node.weir.port(), request("https://a.test/x")).await;
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    assert_eq!(origin.total(), 0);

    let mut client = node.connect("a.test", &["h2"]).await.expect("a handshake");
    let answer = client.get("http://a.test/x").await.expect("an answer");
    assert_eq!(answer.status, 421);
    let answer = client.get("https://a.test/x").await.expect("an answer");
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_without_a_failed_request() {
    let origin = origin().await;
    let node = Arc::new(Node::start(&origin, &[&["a.test"]], "").await);
    let mut open = node.connect("a.test", &["h2"]).await.expect("a handshake");
    let before = open.certificate.clone();
    open.get("https://a.test/x").await.expect("an answer");

    let (stop, answered) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients: Vec<_> = ["h2", "http/1.1"]
        .map(|alpn| {
            let (node, stop, answered) = (node.clone(), stop.clone(), answered.clone());
            tokio::spawn(async move {
                let mut kept = node.connect("a.test", &[alpn]).await.expect("a handshake");
                while !stop.load(Ordering::Relaxed) {
                    let mut fresh = node.connect("a.test", &[alpn]).await.expect("a handshake");
                    for client in [&mut kept, &mut fresh] {
                        let answer = client.get("https://a.test/x").await.expect("an answer");
                        assert_eq!(answer.status, 200);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .into();
    for _ in 0..3 {
        let renewed = node.authority.issue(&["a.test"]);
        node.write(&renewed, "0");
        node.until_shown("a.test", &renewed).await;
    }
    let so_far = answered.load(Ordering::Relaxed);
    until("requests after the last renewal", async || {
        (answered.load(Ordering::Relaxed) > so_far + 10).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client without a failed request");
    }
    assert_eq!(open.certificate, before);
    let answer = open.get("https://a.test/x").await.expect("an answer");
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_renewal_leaves_the_certificate_in_force() {
    let origin = origin().await;
    let mut node = Node::start(&origin, &[&["a.test"], &["b.test"]], "").await;
    let before = node.shown("a.test").await;

    node.files.write("0.pem", "no certificate\n");
    let chain = node.files.join("0.pem").display().to_string();
    said(
        &node,
        &format!("{chain}: there is no `-----BEGIN CERTIFICATE-----` in it"),
    )
    .await;
    assert_eq!(node.shown("a.test").await, before);
    // The other one is not held up by it.
    let renewed = node.authority.issue(&["b.test"]);
    node.write(&renewed, "1");
    node.until_shown("b.test", &renewed).await;

    // SIGHUP takes all or nothing.
    node.weir.hangup();
    said(&node, "not reloaded, everything stays as it was").await;
    assert_eq!(node.shown("a.test").await, before);

    let other = node.authority.issue(&["a.test"]);
    node.files.write("0.pem", &other.chain);
    let key = node.files.join("0.key").display().to_string();
    said(
        &node,
        &format!("the key in {key} does not belong to the first certificate in {chain}"),
    )
    .await;
    assert_eq!(node.shown("a.test").await, before);
    node.files.write("0.key", &other.key);
    node.until_shown("a.test", &other).await;
}

async fn said(node: &Node, text: &str) {
    until(text, async || {
        node.weir.output().contains(text).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_takes_certificates_that_the_configuration_adds() {
    let origin = origin().await;
    let mut node = Node::start(&origin, &[&["a.test"]], "").await;
    let added = node.authority.issue(&["b.test"]);
    let table = certificate_table(&node.write(&added, "added"));
    node.weir.rewrite(|text| format!("{text}{table}"));
    node.weir.hangup();
    until("the added certificate", async || {
        let connected = node.connect("b.test", &[]).await.ok()?;
        (connected.certificate == added.der()).then_some(())
    })
    .await;
    // Watched from now on too.
    let renewed = node.authority.issue(&["b.test"]);
    node.write(&renewed, "added");
    node.until_shown("b.test", &renewed).await;
    let expires = node.weir.admin().get("/metrics").await.text();
    assert_eq!(
        expires
            .matches("weir_tls_certificate_expires_seconds{")
            .count(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tls_ends_clean() {
    let origin = origin().await;
    let node = Node::start(&origin, &[&["a.test"]], "").await;
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let (answer, end) = Raw::exchange(node.port(), request).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
    assert!(answer.ends_with("https://\n"), "{answer:?}");
    assert_eq!(end, End::Closed);
    // A hello cut short is answered in TLS, by an alert.
    let (answer, _) = Raw::exchange(node.port(), b"\x16\x03\x01\0\x05\x01\0\0\x01\0").await;
    assert!(answer.starts_with("\u{15}\u{3}"), "{answer:?}");

    let failures = "weir_tls_handshake_failures_total";
    until("two failed handshakes in the metrics", async || {
        (node.weir.admin().metric(failures, &[]).await == 2.0).then_some(())
    })
    .await;
    assert_eq!(origin.total(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_shake_hands_is_let_go() {
    let origin = origin().await;
    let node = Node::start(&origin, &[&["a.test"]], "handshake_timeout = \"100ms\"").await;
    let mut silent = Raw::connect(node.port()).await;
    assert_eq!(silent.read_to_end().await.0, "");
    let mut slow = Raw::connect(node.port()).await;
    slow.send(b"\x16\x03\x01\x02\0\x01").await;
    assert_eq!(slow.read_to_end().await.0, "");
    let mut in_clear = Raw::connect(node.port()).await;
    in_clear.send("GET / HTTP/1.1\r\n").await;
    let (answer, _) = in_clear.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_does_not_hold_up_the_end() {
    let origin = origin().await;
    let patient = "handshake_timeout = \"5m\"\n[limits]\ndrain_timeout = \"1h\"";
    let mut node = Node::start(&origin, &[&["a.test"]], patient).await;
    let mut silent = Raw::connect(node.port()).await;
    until("the connection in the metrics", async || {
        let open = node.weir.admin().metric("weir_connections", &[]).await;
        (open == 1.0).then_some(())
    })
    .await;
    node.weir.terminate();
    assert!(node.weir.ended().await.success());
    assert_eq!(silent.read_to_end().await.0, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_alone_needs_no_cleartext_listener() {
    let origin = origin().await;
    let (authority, files, tls) = (Authority::new(), Scratch::new(), Port::reserve());
    let paths = authority.issue(&["a.test"]).write(&files, "a");
    let _node = Config::whole(
        "listen = []\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
         [upstreams.origin]\nservers = [\"{origin}\"]\n\
         [[routes]]\npath = \"/{*rest}\"\nupstream = \"origin\"\n\
         [tls]\nlisten = [\"127.0.0.1:{tls}\"]\n",
    )
    .set("origin", origin.url())
    .set("tls", tls.number())
    .and(&certificate_table(&paths))
    .start()
    .await;
    let connected = Secure::connect(tls.number(), "a.test", authority.client(&["h2"])).await;
    let mut client = connected.expect("a handshake");
    let answer = client.get("https://a.test/x").await.expect("an answer");
    assert_eq!(answer.text(), "https");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_looks_into_the_files() {
    let (authority, files) = (Authority::new(), Scratch::new());
    let issued = authority.issue(&["a.test"]);
    let check = async |chain: &str, key: &str| {
        files.write("a.pem", chain);
        files.write("a.key", key);
        files.write(
            "weir.toml",
            "[upstreams.o]\nservers = [\"http://127.0.0.1:1\"]\n\
             [[routes]]\npath = \"/{*rest}\"\nupstream = \"o\"\n\
             [tls]\nlisten = \"127.0.0.1:8443\"\n\
             [[tls.certificates]]\nchain = \"a.pem\"\nkey = \"a.key\"\n",
        );
        weir_command(files.path(), &["check", "-c", "weir.toml"]).await
    };
    let good = check(&issued.chain, &issued.key).await;
    assert_eq!((good.code, good.stderr.as_str()), (Some(0), ""));

    let expired = authority.issue_expired(&["a.test"]);
    let run = check(&expired.chain, &expired.key).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    let warning = "weir.toml:9:9: warning: tls.certificates[0].chain: the certificate in a.pem expired on Wed, 01 Jan 2020";
    assert!(run.all().contains(warning), "{}", run.all());

    for (chain, key, told) in [
        (
            issued.chain.as_str(),
            expired.key.as_str(),
            "weir.toml:10:7: tls.certificates[0].key: the key in a.key does not belong to the first certificate in a.pem",
        ),
        (
            "",
            issued.key.as_str(),
            "weir.toml:9:9: tls.certificates[0].chain: a.pem: there is no `-----BEGIN CERTIFICATE-----` in it",
        ),
        (
            issued.chain.as_str(),
            issued.chain.as_str(),
            "weir.toml:10:7: tls.certificates[0].key: a.key: there is no private key in it",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            issued.key.as_str(),
            "weir.toml:9:9: tls.certificates[0].chain: a.pem: its first certificate cannot be read",
        ),
    ] {
        let run = check(chain, key).await;
        assert_eq!(run.code, Some(1), "{told}: {}", run.all());
        assert!(run.all().contains(told), "{told} is not in {}", run.all());
        assert!(run.all().contains("hint: name"), "{}", run.all());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn https_urls_are_explained() {
    let files = Scratch::new();
    files.write(
        "weir.toml",
        "[upstreams.o]\nservers = [\"http://127.0.0.1:1\"]\n\
         [[routes]]\nhost = \"a.test\"\npath = \"/{*rest}\"\nupstream = \"o\"\n",
    );
    let words = ["explain", "-c", "weir.toml", "https://A.test:443/x"];
    let run = weir_command(files.path(), &words).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    assert!(
        run.stdout.contains("GET https://a.test/x\n"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("https://a.test|/x\n"), "{}", run.stdout);
    let run = weir_command(files.path(), &["explain", "ftp://a.test/x"]).await;
    assert!(run.stderr.contains("https://HOST/PATH"), "{}", run.all());
}
