//! Traffic of many clients for many URLs: which URL follows Zipf's law, the User-Agents are
//! those of the real log, and Accept-Language is mixed.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use weir_tests::access_log;

use super::site::HOST;

/// What browsers send, and how many of a hundred do.
const LANGUAGES: [(&str, u32); 8] = [
    ("en-US,en;q=0.9", 38),
    ("en-GB,en;q=0.8,de;q=0.5", 12),
    ("de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7", 14),
    ("fr-FR,fr;q=0.9,en;q=0.6", 8),
    ("es-ES,es;q=0.9,en;q=0.8", 7),
    ("pt-BR,pt;q=0.9,en;q=0.7", 5),
    ("zh-CN,zh;q=0.9", 6),
    ("", 10),
];
/// A telephone, a desktop, a tablet and a robot.
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPad; CPU OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
];
/// Connections that a node is warmed by.
const WARMERS: usize = 8;

/// Requests, drawn once: all that is measured is sent the same ones.
pub(crate) struct Traffic {
    text: String,
    ends: Vec<usize>,
    /// Different URLs among them.
    pub(crate) urls: usize,
}

impl Traffic {
    /// Draws them from so many URLs. The same numbers draw the same requests.
    pub(crate) fn draw(urls: usize, requests: usize) -> Result<Self> {
        let log = access_log::find().context(
            "this needs the real log, data/access-2015.log.gz in the folder that WEIR_SHARED \
             names or in ../shared",
        )?;
        Ok(Self::of(urls, requests, &agents(&log)))
    }

    /// The same; without the real log of a few User-Agents, which is said.
    pub(crate) fn draw_anywhere(urls: usize, requests: usize) -> Self {
        match access_log::find() {
            Some(log) => Self::of(urls, requests, &agents(&log)),
            None => {
                println!("without the real log: its many User-Agents are a few here");
                Self::of(urls, requests, &AGENTS.map(str::to_owned))
            }
        }
    }

    fn of(urls: usize, requests: usize, agents: &[String]) -> Self {
        let mut random = fastrand::Rng::with_seed(20_150_517);
        let zipf = Zipf::new(urls);
        let (mut text, mut ends, mut asked) = (String::new(), Vec::new(), vec![false; urls]);
        for _ in 0..requests {
            let url = zipf.draw(&mut random);
            let agent = &agents[random.usize(..agents.len())];
            let language = language(&mut random);
            let target = target(url);
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "GET {target} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n"
            );
            if !language.is_empty() {
                let _ = write!(text, "Accept-Language: {language}\r\n");
            }
            text.push_str("\r\n");
            ends.push(text.len());
            asked[url] = true;
        }
        let urls = asked.into_iter().filter(|asked| *asked).count();
        Self { text, ends, urls }
    }

    /// Writes them down for [`super::wrk::play`].
    pub(crate) fn write(&self, dir: &Path) -> Result<PathBuf> {
        let path = dir.join("requests");
        std::fs::write(&path, &self.text)?;
        Ok(path)
    }

    /// Sends each of them once, so that all they ask for is in memory.
    pub(crate) async fn warm(&self, port: u16) -> Result<()> {
        let share = self.ends.len().div_ceil(WARMERS);
        let mut warmers = JoinSet::new();
        for first in (0..self.ends.len()).step_by(share) {
            let last = (first + share).min(self.ends.len());
            let requests: Vec<_> = (first..last).map(|at| self.get(at).to_owned()).collect();
            warmers.spawn(async move { send(port, &requests).await });
        }
        while let Some(ended) = warmers.join_next().await {
            ended??;
        }
        Ok(())
    }

    fn get(&self, at: usize) -> &str {
        let begin = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        let range: Range<usize> = begin..self.ends[at];
        &self.text[range]
    }
}

/// Those of the real log that are text.
fn agents(log: &Path) -> Vec<String> {
    access_log::read(log)
        .into_iter()
        .map(|entry| entry.agent)
        .filter(|agent| agent.bytes().all(|byte| (b' '..=b'~').contains(&byte)))
        .collect()
}

/// Three of five are files, which a site's pages share; the others are pages. Many have a
/// query in need of normalising, since the policy does that.
fn target(url: usize) -> String {
    match url % 5 {
        0 | 2 => format!("/assets/site-{url}.css?v=3"),
        4 => format!("/images/{url}/teaser.css?utm_source=news&w=640&h=480"),
        1 => format!("/articles/{url}"),
        _ => format!("/articles/{url}?utm_source=mail&page=2&utm_campaign=spring"),
    }
}

fn language(random: &mut fastrand::Rng) -> &'static str {
    let all: u32 = LANGUAGES.iter().map(|(_, share)| share).sum();
    let mut left = random.u32(..all);
    for (language, share) in LANGUAGES {
        match left.checked_sub(share) {
            Some(rest) => left = rest,
            None => return language,
        }
    }
    ""
}

/// The n-th is asked for 1/n as often as the first.
struct Zipf {
    sums: Vec<f64>,
}

impl Zipf {
    fn new(size: usize) -> Self {
        let mut sum = 0.0;
        #[expect(clippy::cast_precision_loss, reason = "a rank")]
        let sums = (1..=size).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        Self {
            sums: sums.collect(),
        }
    }

    fn draw(&self, random: &mut fastrand::Rng) -> usize {
        let all = self.sums.last().copied().unwrap_or_default();
        let at = random.f64() * all;
        self.sums.partition_point(|sum| *sum <= at)
    }
}

/// Sends requests over one connection, each once the one before is answered.
async fn send(port: u16, requests: &[String]) -> Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let (mut line, mut body) = (String::new(), Vec::new());
    for request in requests {
        stream.write_all(request.as_bytes()).await?;
        let mut length = None;
        let mut first = true;
        loop {
            line.clear();
            stream.read_line(&mut line).await?;
            let text = line.trim_end();
            if first {
                ensure!(text.starts_with("HTTP/1.1 200"), "{request}{text}");
                first = false;
            }
            if text.is_empty() {
                break;
            }
            let (name, value) = text.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok();
            }
        }
        body.resize(length.context("an answer without a length")?, 0);
        stream.read_exact(&mut body).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Zipf, language, target};

    #[test]
    fn the_first_is_asked_for_ten_times_as_often_as_the_tenth() {
        let (zipf, mut random) = (Zipf::new(1_000), fastrand::Rng::with_seed(1));
        let mut counts = vec![0_u32; 1_000];
        for _ in 0..200_000 {
            counts[zipf.draw(&mut random)] += 1;
        }
        let ratio = f64::from(counts[0]) / f64::from(counts[9]);
        assert!((8.0..12.0).contains(&ratio), "{ratio}");
        assert!(counts[999] > 0);
    }

    #[test]
    fn urls_differ_and_languages_are_mixed() {
        let all: std::collections::HashSet<_> = (0..1_000).map(target).collect();
        assert_eq!(all.len(), 1_000);
        let mut random = fastrand::Rng::with_seed(1);
        let seen: std::collections::HashSet<_> = (0..500).map(|_| language(&mut random)).collect();
        assert_eq!(seen.len(), super::LANGUAGES.len());
    }
}
