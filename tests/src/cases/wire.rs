//! HTTP/1.1 messages as they are on the wire: every line, in its order, with its letters.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::poll::PATIENCE;

/// One side of a connection.
pub type Stream = BufReader<TcpStream>;

/// A start line and header lines.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// The start line.
    pub start: String,
    /// Names and values in order, letters as they came.
    pub fields: Vec<(String, String)>,
}

/// What follows a head.
#[derive(Debug, Clone, Default)]
pub struct Content {
    /// The body, decoded.
    pub body: String,
    /// Trailer lines.
    pub trailers: Vec<(String, String)>,
    /// Whether it ended as its framing said.
    pub whole: bool,
}

/// A response as the client got it.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// The interim responses, with their status.
    pub interim: Vec<(u16, Head)>,
    /// The status.
    pub status: u16,
    /// The head.
    pub head: Head,
    /// The rest.
    pub content: Content,
}

impl Head {
    /// The value of a field, its lines joined; `None` when there is no line of it.
    pub fn value(&self, name: &str) -> Option<String> {
        let lines: Vec<&str> = self
            .fields
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    /// Reads one; `None` when the peer ended before it began.
    pub async fn read(stream: &mut Stream) -> io::Result<Option<Self>> {
        let start = match line(stream).await? {
            None => return Ok(None),
            Some(start) => start,
        };
        let fields = fields(stream).await?;
        Ok(Some(Self { start, fields }))
    }

    fn is_chunked(&self) -> bool {
        self.value("transfer-encoding")
            .is_some_and(|coding| coding.to_ascii_lowercase().ends_with("chunked"))
    }

    fn length(&self) -> Option<usize> {
        self.value("content-length")?.parse().ok()
    }
}

impl Content {
    /// Reads what follows the head of a request.
    pub async fn of_request(head: &Head, stream: &mut Stream) -> Self {
        match (head.is_chunked(), head.length()) {
            (false, None) => Self {
                whole: true,
                ..Self::default()
            },
            _ => Self::read(head, stream).await,
        }
    }

    /// Reads what follows the head of a response that has a body.
    async fn read(head: &Head, stream: &mut Stream) -> Self {
        let mut body = Vec::new();
        let mut this = Self::default();
        if head.is_chunked() {
            if let Ok(trailers) = chunks(stream, &mut body).await {
                this.whole = true;
                this.trailers = trailers;
            }
        } else if let Some(length) = head.length() {
            let mut taken = stream.take(length as u64);
            this.whole = taken.read_to_end(&mut body).await.is_ok() && body.len() == length;
        } else {
            this.whole = stream.read_to_end(&mut body).await.is_ok();
        }
        this.body = String::from_utf8_lossy(&body).into_owned();
        this
    }
}

/// Sends a request on a connection of its own and reads its response.
///
/// # Errors
/// Says what was wrong with the response, or that there was none.
pub async fn exchange(port: u16, method: &str, request: &str) -> Result<Response, String> {
    let exchanging = async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        stream.write_all(request.as_bytes()).await?;
        response(&mut stream, method).await
    };
    tokio::time::timeout(PATIENCE, exchanging)
        .await
        .map_err(|_| format!("no whole response within {PATIENCE:?}"))?
        .map_err(|error| format!("no response: {error}"))
}

async fn response(stream: &mut Stream, method: &str) -> io::Result<Response> {
    let mut response = Response::default();
    loop {
        let head = Head::read(stream)
            .await?
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head
            .start
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| io::Error::other(format!("no status line: {:?}", head.start)))?;
        if status < 200 {
            response.interim.push((status, head));
            continue;
        }
        let bodyless = method == "HEAD" || matches!(status, 204 | 304);
        response.content = match bodyless {
            true => Content {
                whole: true,
                ..Content::default()
            },
            false => Content::read(&head, stream).await,
        };
        (response.status, response.head) = (status, head);
        return Ok(response);
    }
}

/// A line without its end; `None` when the peer ended.
async fn line(stream: &mut Stream) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if stream.read_until(b'\n', &mut bytes).await? == 0 {
        return Ok(None);
    }
    let line = bytes
        .strip_suffix(b"\r\n")
        .ok_or_else(|| io::Error::other("a line that does not end in CRLF"))?;
    Ok(Some(String::from_utf8_lossy(line).into_owned()))
}

async fn fields(stream: &mut Stream) -> io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| io::Error::other(format!("no header line: {line:?}")))?;
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// Reads chunks into `body`; returns the trailer section.
async fn chunks(stream: &mut Stream, body: &mut Vec<u8>) -> io::Result<Vec<(String, String)>> {
    loop {
        let size = line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
        if size == 0 {
            return fields(stream).await;
        }
        let start = body.len();
        body.resize(start + size, 0);
        if let Err(error) = stream.read_exact(&mut body[start..]).await {
            body.truncate(start);
            return Err(error);
        }
        line(stream).await?;
    }
}
