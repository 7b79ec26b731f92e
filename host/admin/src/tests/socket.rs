//! What only a real connection shows.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::serve;

async fn start(
    auth: Auth,
) -> (
    SocketAddr,
    oneshot::Sender<()>,
    JoinHandle<std::io::Result<()>>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let node = Arc::new(Fake::new());
    let task = tokio::spawn(serve(listener, auth, node, async {
        let _ = stopped.await;
    }));
    (address, stop, task)
}

async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_rebound_name_is_refused_over_the_wire() {
    let (address, _stop, _task) = start(Auth::loopback()).await;
    let get =
        |host| format!("GET /v1/status HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let answer = exchange(address, &get("localhost")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = exchange(address, &get("evil.example")).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn a_large_body_is_refused_before_it_is_sent() {
    let (address, _stop, _task) = start(Auth::loopback()).await;
    let head = "PUT /v1/policies/a HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/wasm\r\n\
                content-length: 99999999\r\nexpect: 100-continue\r\n\r\n";
    let answer = exchange(address, head).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_refuses_new_ones() {
    let (address, stop, task) = start(Auth::loopback()).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stop.send(()).unwrap();
    task.await.unwrap().unwrap();
    idle.read_to_end(&mut Vec::new()).await.unwrap();
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn an_open_listener_without_a_token_is_refused() {
    let open = || async { TcpListener::bind("0.0.0.0:0").await.unwrap() };
    let node = || -> Arc<dyn Control> { Arc::new(Fake::new()) };
    let error = serve(open().await, Auth::loopback(), node(), async {})
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("[admin] token_file"));
    serve(open().await, token(), node(), async {})
        .await
        .unwrap();
}
