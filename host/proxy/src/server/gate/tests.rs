use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

impl Transport for DuplexStream {
    fn reset(&self) {}
}

const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n";
const NEXT: &[u8] = b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n";
const BAD: &[u8] = b"GET /b HTTP/1.1\nHost: h\r\n\r\n";

fn settings() -> ServerSettings {
    ServerSettings {
        listen: Vec::new(),
        header_timeout: Duration::from_secs(60),
        max_headers: 100,
        max_header_size: 64 << 10,
        max_uri_size: 16 << 10,
        body_timeout: Duration::from_secs(30),
        write_timeout: Duration::from_secs(60),
        drain_timeout: Duration::ZERO,
    }
}

fn gate() -> (DuplexStream, Gate<DuplexStream>) {
    let (client, server) = duplex(64 << 10);
    (client, Gate::new(server, &settings()))
}

/// What comes through until nothing more does.
async fn read(gate: &mut Gate<DuplexStream>) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 64];
        tokio::select! {
            biased;
            read = gate.read(&mut piece) => match read {
                Ok(0) | Err(_) => return bytes,
                Ok(length) => bytes.extend_from_slice(&piece[..length]),
            },
            () = std::future::ready(()) => return bytes,
        }
    }
}

/// Notes how it is written to.
struct Noted {
    io: DuplexStream,
    /// How many pieces each write had.
    writes: Vec<usize>,
}

impl Transport for Noted {
    fn reset(&self) {}
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Noted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.push(1);
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes.push(data.len());
        Pin::new(&mut self.io).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_small_response_is_written_in_one_piece() {
    for (body, pieces) in [(SMALL - 4, 1), (SMALL - 3, 2)] {
        let (mut client, io) = duplex(64 << 10);
        let writes = Vec::new();
        let mut gate = Gate::new(Noted { io, writes }, &settings());
        let body = vec![b'x'; body];
        let slices = [io::IoSlice::new(b"head"), io::IoSlice::new(&body)];
        let written = gate.write_vectored(&slices).await.unwrap();
        assert_eq!(written, 4 + body.len());
        assert_eq!(gate.io.writes, [pieces]);
        drop(gate);
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, [&b"head"[..], &body].concat());
    }
}

#[tokio::test]
async fn after_a_switch_the_bytes_pass_untouched() {
    let (mut client, mut gate) = gate();
    let exchange = gate.exchange();
    client.write_all(&[UPGRADE, BAD].concat()).await.unwrap();
    assert_eq!(read(&mut gate).await, UPGRADE);
    exchange.answered(exchange.begin(), true);
    client.write_all(b"\x00\n").await.unwrap();
    assert_eq!(read(&mut gate).await, [BAD, b"\x00\n"].concat());
}

#[tokio::test]
async fn after_a_decline_they_are_looked_at_again() {
    for (behind, passes, refused) in [(NEXT, NEXT, false), (BAD, STAND_IN, true)] {
        let (mut client, mut gate) = gate();
        let exchange = gate.exchange();
        client.write_all(UPGRADE).await.unwrap();
        client.write_all(behind).await.unwrap();
        assert_eq!(read(&mut gate).await, UPGRADE);
        exchange.answered(exchange.begin(), false);
        exchange.ended();
        assert_eq!(read(&mut gate).await, passes);
        assert_eq!(exchange.refusal_of(2).is_some(), refused);
    }
}

#[tokio::test]
async fn who_asks_for_another_protocol_cannot_fill_the_memory() {
    let (mut client, mut gate) = gate();
    client.write_all(UPGRADE).await.unwrap();
    client.write_all(&[b'x'; 60 << 10]).await.unwrap();
    assert_eq!(read(&mut gate).await, UPGRADE);
    assert!(gate.kept.len() <= AHEAD + PIECE, "{}", gate.kept.len());
}

#[tokio::test]
async fn a_refused_head_is_replaced_and_known_by_its_number() {
    let (mut client, mut gate) = gate();
    let exchange = gate.exchange();
    let bytes = [NEXT, BAD, NEXT].concat();
    client.write_all(&bytes).await.unwrap();
    assert_eq!(read(&mut gate).await, [NEXT, STAND_IN].concat());
    assert_eq!(exchange.refusal_of(1), None);
    assert_eq!(exchange.refusal_of(2), Some(Refusal::BareLineEnd));
}

#[tokio::test]
async fn http2_is_told_by_its_preface_however_it_comes() {
    let (mut client, mut http2) = gate();
    let telling = async {
        for byte in PREFACE {
            client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (told, ()) = tokio::join!(http2.is_http2(), telling);
    assert_eq!(told, Some(true));
    assert_eq!(read(&mut http2).await, PREFACE);

    let (mut client, mut http1) = gate();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nXX").await.unwrap();
    assert_eq!(http1.is_http2().await, Some(false));
    assert_eq!(read(&mut http1).await, STAND_IN);
}

#[tokio::test(start_paused = true)]
async fn interim_responses_go_out_at_a_flush() {
    let (mut client, mut gate) = gate();
    let exchange = gate.exchange();
    let number = exchange.begin();
    exchange.open(number);
    exchange.interim(number, b"HTTP/1.1 102 Processing\r\n\r\n");
    gate.flush().await.unwrap();
    assert!(!exchange.close() || exchange.interim_is_written());
    gate.write_all(b"final").await.unwrap();
    drop(gate);
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "HTTP/1.1 102 Processing\r\n\r\nfinal");
}
