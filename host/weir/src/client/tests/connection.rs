//! `status`, and what a command says when the node does not let it in or is not there.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[tokio::test]
async fn status_shows_readiness_state_and_policies() {
    let (_, admin) = node().await;
    let output = run(&admin, &["status"]).await.unwrap();
    assert_eq!(
        output,
        "serving\n\
         memory\n  bytes    7\n  entries  1\n\
         redis    -\nversion  0.1.0\n\n\
         POLICY   VERSION  FROM      INSTANCES  CALLS  FAILED\n\
         charity  abc      deployed          2   1234       1\n\
         \n\
         POLICY   HOOK        REMEMBERED  CALLS  FAILED     TIME   P50      P99\n\
         charity  on-request        5000   1234       1  0.500 s  2 µs  2000 µs\n\n\
         charity: abc is 1.4.0\u{fffd} by Ada, in force since 2026-11-26T19:00:00Z\n\
         charity: ghi is tried in shadow (12.5 %): weir trial charity\n\
         charity: xyz is in quarantine: it \u{fffd}traps; it is tried again after 5m\n\
         charity: last error: trap \u{fffd}[2J\n\n\
         NAMESPACE  OBJECTS  BYTES  HITS  MISSES  RATIO  EVICTED   SHARE  EXPIRED  HIT AGE  EVICTED AGE\n\
         user             3    0 B     9       1  90.0%        1   25.0%        0        -            -\n\
         all              0    0 B     0       0      -        4  100.0%        0        -            -"
    );
}

#[tokio::test]
async fn status_of_a_degraded_and_of_a_draining_node() {
    for (readiness, headline, ready) in [
        (
            Readiness::Ready {
                degraded: vec!["redis: refused".into()],
            },
            "serving, degraded: redis: refused\n",
            true,
        ),
        (
            Readiness::NotReady {
                reasons: vec!["draining".into()],
            },
            "not serving: draining\n",
            false,
        ),
    ] {
        let mut fake = Fake::new();
        fake.readiness = readiness;
        let address = start(Auth::loopback(), Arc::new(fake)).await;
        let words = ["weir", "status", "--admin", &address.to_string()].map(str::to_owned);
        let Ok(Line::Status(args)) = Line::try_parse_from(words) else {
            panic!("status takes --admin");
        };
        let report = status::execute(args.clone()).await.unwrap();
        assert!(report.text.starts_with(headline), "{}", report.text);
        assert_eq!(report.ready, ready);
        assert_eq!(status(args).await.is_ok(), ready);
    }
}

#[tokio::test]
async fn tokens_come_from_a_file_and_their_errors_say_what_to_do() {
    let auth = Auth::token("s3cret").unwrap();
    let admin = start(auth, Arc::new(Fake::new())).await.to_string();
    let error = run(&admin, &["purge", "--all"]).await.unwrap_err();
    assert!(error.contains("give --token-file FILE"), "{error}");
    let with = |content: &'static [u8]| {
        let admin = admin.clone();
        async move {
            let file = file(content);
            let path = file.path().to_str().unwrap();
            run(&admin, &["purge", "--all", "--token-file", path]).await
        }
    };
    assert!(with(b"s3cret\n").await.is_ok());
    assert!(
        with(b"wrong\n")
            .await
            .unwrap_err()
            .contains("refused the token in /")
    );
    assert!(
        with(b" \n")
            .await
            .unwrap_err()
            .contains("must hold one line")
    );
    let gone = ["purge", "--all", "--token-file", "/nonexistent/token"];
    let error = run(&admin, &gone).await.unwrap_err();
    assert!(
        error.contains("cannot read the token file /nonexistent/token"),
        "{error}"
    );
}

#[tokio::test]
async fn an_address_without_a_node_says_what_to_check() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = run(&address, &["status"]).await.unwrap_err();
    assert!(error.contains("is the node running"), "{error}");
    assert!(error.contains("[admin] listen"), "{error}");
    for (admin, part) in [
        ("https://a", "ssh -L"),
        ("ftp://a", "http://HOST:PORT"),
        ("http://a?b", "http://HOST:PORT"),
        ("http://a b", "is not a URL"),
    ] {
        let error = run(admin, &["status"]).await.unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn an_address_that_is_no_admin_api_is_told_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 16]).await.unwrap();
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nwhat";
        stream.write_all(answer).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    });
    let error = run(&address, &["status"]).await.unwrap_err();
    assert!(
        error.contains("must name the address of [admin] listen"),
        "{error}"
    );
}
