//! An HTTP/2 client that shows what others hide: interim responses, resets, trailers.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// One connection, by prior knowledge.
#[derive(Debug)]
pub struct Http2 {
    send: SendRequest<Bytes>,
    port: u16,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A whole response.
#[derive(Debug)]
pub struct Http2Answer {
    /// What came before it.
    pub interim: Vec<Response<()>>,
    /// Its status.
    pub status: StatusCode,
    /// Its header section.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
    /// Its trailer section.
    pub trailers: Option<HeaderMap>,
}

impl Http2 {
    /// Connects to 127.0.0.1. Windows are small, so that flow control is at work.
    pub async fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await;
        let stream = stream.expect("a connection");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(65_535)
            .max_concurrent_reset_streams(0)
            .handshake(stream)
            .await
            .expect("a handshake");
        Self {
            send,
            port,
            connection: tokio::spawn(connection),
        }
    }

    /// A GET of this path.
    pub fn request(&self, method: &str, path: &str) -> Request<()> {
        Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:{}{path}", self.port))
            .body(())
            .expect("a request")
    }

    /// Sends a head.
    pub async fn start(
        &mut self,
        request: Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        poll_fn(|cx| self.send.poll_ready(cx)).await?;
        self.send.send_request(request, ends)
    }

    /// GET to its end.
    pub async fn get(&mut self, path: &str) -> Result<Http2Answer, h2::Error> {
        let request = self.request("GET", path);
        let (response, _) = self.start(request, true).await?;
        read(response).await
    }

    /// Waits for the connection's end.
    pub async fn ended(&mut self) -> Result<(), h2::Error> {
        (&mut self.connection).await.expect("the connection's task")
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The interim responses and the head of the final one.
pub async fn head(
    mut response: ResponseFuture,
) -> Result<(Vec<Response<()>>, Response<RecvStream>), h2::Error> {
    let mut interim = Vec::new();
    let response = poll_fn(|cx| {
        while let Poll::Ready(Some(head)) = response.poll_informational(cx) {
            match head {
                Ok(head) => interim.push(head),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        std::pin::Pin::new(&mut response).poll(cx)
    })
    .await?;
    Ok((interim, response))
}

/// A response to its end.
pub async fn read(response: ResponseFuture) -> Result<Http2Answer, h2::Error> {
    let (interim, response) = head(response).await?;
    let (head, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await?;
    Ok(Http2Answer {
        interim,
        status: head.status,
        headers: head.headers,
        body,
        trailers,
    })
}
