//! The origin of all cases: each case has its own path, and a script of answers.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::table::{Fault, Framing, Reply};
use super::text::date_now;
use super::wire::{Content, Head, Stream};

/// A request as the origin got it.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The method.
    pub method: String,
    /// The request target.
    pub target: String,
    /// The head.
    pub head: Head,
    /// The content.
    pub content: Content,
}

/// An answer whose texts have been replaced.
#[derive(Debug, Clone)]
pub struct Scripted {
    /// The answer.
    pub reply: Reply,
    /// Its body.
    pub body: String,
}

#[derive(Debug, Default)]
struct Script {
    answers: VecDeque<Scripted>,
    asks: Vec<Ask>,
    answered: usize,
}

type Scripts = Arc<Mutex<HashMap<String, Script>>>;

/// A running origin. Ends when it is dropped.
#[derive(Debug)]
pub struct Origin {
    scripts: Scripts,
    port: u16,
    server: JoinHandle<()>,
}

impl Origin {
    /// Starts it.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let scripts = Scripts::default();
        let server = tokio::spawn(serve(listener, Arc::clone(&scripts)));
        Self {
            scripts,
            port,
            server,
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it answers, in order, to requests under `base` from now on.
    pub fn script(&self, base: &str, answers: impl IntoIterator<Item = Scripted>) {
        let mut scripts = self.scripts.lock();
        scripts.entry(base.to_owned()).or_default().answers = answers.into_iter().collect();
    }

    /// All requests under `base` so far, and how many of them have been answered.
    pub fn asks(&self, base: &str) -> (Vec<Ask>, usize) {
        let scripts = self.scripts.lock();
        let script = scripts.get(base);
        script.map_or_else(Default::default, |script| {
            (script.asks.clone(), script.answered)
        })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, scripts: Scripts) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, Arc::clone(&scripts)));
        while connections.try_join_next().is_some() {}
    }
}

/// The first two segments of a path: `/group/number`.
fn base(target: &str) -> &str {
    let path = target.split('?').next().unwrap_or_default();
    let end = path.match_indices('/').nth(2).map(|(at, _)| at);
    &path[..end.unwrap_or(path.len())]
}

async fn connection(stream: TcpStream, scripts: Scripts) {
    // A test's client sees each piece when it is sent.
    drop(stream.set_nodelay(true));
    let mut stream = BufReader::new(stream);
    let mut is_kept = false;
    while let Ok(Some(head)) = Head::read(&mut stream).await {
        let content = Content::of_request(&head, &mut stream).await;
        let mut words = head.start.split(' ').map(str::to_owned);
        let ask = Ask {
            method: words.next().unwrap_or_default(),
            target: words.next().unwrap_or_default(),
            head: head.clone(),
            content,
        };
        let (base, method) = (base(&ask.target).to_owned(), ask.method.clone());
        let answer = {
            let mut scripts = scripts.lock();
            let script = scripts.entry(base.clone()).or_default();
            let faulty = script.answers.front();
            let closes = faulty.is_some_and(|next| next.reply.fault == Some(Fault::Close));
            if is_kept && closes && matches!(&*method, "GET" | "HEAD") {
                // The node asks again by another connection, since it cannot tell this from
                // one that was just let go. That request is the one that counts.
                return;
            }
            script.asks.push(ask);
            script.answers.pop_front().unwrap_or_else(unscripted)
        };
        let goes_on = send(&mut stream, &method, &answer).await;
        if let Some(script) = scripts.lock().get_mut(&base) {
            script.answered += 1;
        }
        if !goes_on {
            return;
        }
        is_kept = true;
    }
}

/// What it says when it should not have been asked: the case fails for that.
fn unscripted() -> Scripted {
    Scripted {
        reply: Reply {
            status: 500,
            ..toml::from_str("").expect("everything in a reply has a default")
        },
        body: "the origin should not have been asked\n".to_owned(),
    }
}

/// Sends an answer; says whether the connection can be used again.
async fn send(stream: &mut Stream, method: &str, answer: &Scripted) -> bool {
    let Scripted { reply, body } = answer;
    let framing = match reply.framing {
        Framing::Usual if method == "HEAD" || has(reply, "content-length") => Framing::Length,
        Framing::Usual => Framing::Chunked,
        told => told,
    };
    tokio::time::sleep(Duration::from_secs(reply.delay)).await;
    if reply.fault == Some(Fault::Close) {
        return false;
    }
    let mut text = String::new();
    for interim in &reply.interim {
        start(&mut text, interim.status, &interim.head);
        text.push_str("\r\n");
    }
    head(&mut text, reply, framing, body);
    let bodyless = method == "HEAD" || matches!(reply.status, 204 | 304);
    let cut = reply.fault == Some(Fault::Cut);
    if !bodyless {
        let sent = if cut { &body[..body.len() / 2] } else { body };
        match framing {
            Framing::Chunked if !sent.is_empty() => {
                // Writing to a String cannot fail.
                let _ = write!(text, "{:x}\r\n{sent}\r\n", sent.len());
            }
            Framing::Chunked => {}
            _ => text.push_str(sent),
        }
        if framing == Framing::Chunked && !cut {
            text.push_str("0\r\n");
            for line in &reply.trailers {
                let _ = write!(text, "{line}\r\n");
            }
            text.push_str("\r\n");
        }
    }
    stream.write_all(text.as_bytes()).await.is_ok() && !cut && framing != Framing::Close
}

fn start(text: &mut String, status: u16, lines: &[String]) {
    let _ = write!(text, "HTTP/1.1 {status} \r\n");
    for line in lines {
        let _ = write!(text, "{line}\r\n");
    }
}

fn has(reply: &Reply, name: &str) -> bool {
    reply.head.iter().any(|line| {
        let known = line.split(':').next().unwrap_or_default();
        known.eq_ignore_ascii_case(name)
    })
}

fn head(text: &mut String, reply: &Reply, framing: Framing, body: &str) {
    start(text, reply.status, &reply.head);
    if !reply.dateless && !has(reply, "date") {
        let _ = write!(text, "Date: {}\r\n", date_now());
    }
    match framing {
        _ if matches!(reply.status, 204 | 304) => {}
        Framing::Length if !has(reply, "content-length") => {
            let _ = write!(text, "Content-Length: {}\r\n", body.len());
        }
        Framing::Chunked => text.push_str("Transfer-Encoding: chunked\r\n"),
        Framing::Close => text.push_str("Connection: close\r\n"),
        Framing::Length | Framing::Usual => {}
    }
    text.push_str("\r\n");
}
