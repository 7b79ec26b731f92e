//! Command lines with what they print, checked: what `cargo xtask transcripts` shows.

use std::fmt::Write as _;
use std::process::{Output, Stdio};

use crate::origin::Origin;
use crate::poll::{PATIENCE, until};

/// The steps of one topic. It is printed at its end: always when `WEIR_SHOW` is set, else
/// only when a step does not hold.
#[derive(Debug)]
pub struct Transcript {
    name: &'static str,
    step: String,
    text: String,
}

/// What a step printed. Its checks name the step when they fail.
#[derive(Debug, Clone)]
pub struct Shown {
    step: String,
    text: String,
}

impl Transcript {
    /// Begins a topic.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            step: String::new(),
            text: format!("\n===== {name}\n"),
        }
    }

    /// Begins a step: says in one line what to look at.
    pub fn step(&mut self, words: &str) {
        self.step = format!("{}: {words}", self.name);
        self.line(&format!("\n# {words}"));
    }

    /// Shows a line.
    pub fn line(&mut self, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    /// A step: runs a line of shell once.
    pub async fn run(&mut self, words: &str, line: &str) -> Shown {
        self.until(words, line, |_| true).await
    }

    /// A step: runs a line of shell until what it prints is as wanted. Shows the last run.
    pub async fn until(
        &mut self,
        words: &str,
        line: &str,
        wanted: impl Fn(&Shown) -> bool,
    ) -> Shown {
        self.step(words);
        let step = self.step.clone();
        let shown = until(&step, async || {
            let shown = self.shown(&print(line, &step).await);
            wanted(&shown).then_some(shown)
        });
        let shown = shown.await;
        self.line(&format!("$ {line}\n{}", shown.text.trim_end()));
        shown
    }

    /// This text as what the present step printed. Line ends become the terminal's, other
    /// control characters and bytes that are not UTF-8 are escaped.
    pub fn shown(&self, bytes: &[u8]) -> Shown {
        let mut text = String::new();
        for chunk in bytes.utf8_chunks() {
            for letter in chunk.valid().replace("\r\n", "\n").chars() {
                match letter {
                    '\n' => text.push('\n'),
                    other if other.is_control() => text.extend(other.escape_default()),
                    other => text.push(other),
                }
            }
            let _ = write!(text, "{}", chunk.invalid().escape_ascii());
        }
        Shown {
            step: self.step.clone(),
            text,
        }
    }

    /// Shows and checks how many requests for a target the origin has got so far.
    pub fn origin_has(&mut self, origin: &Origin, target: &str, count: usize) {
        let got = origin.count(target);
        self.line(&format!("(requests for {target} at the origin: {got})"));
        assert_eq!(got, count, "{}: requests at the origin", self.step);
    }
}

impl Drop for Transcript {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("WEIR_SHOW").is_some() {
            println!("{}", self.text);
        }
    }
}

async fn print(line: &str, step: &str) -> Vec<u8> {
    let mut command = tokio::process::Command::new("sh");
    // No proxy of the machine's stands between.
    for name in [
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ] {
        command.env_remove(name);
    }
    let run = command
        .args(["-c", line])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = tokio::time::timeout(PATIENCE, run)
        .await
        .unwrap_or_else(|_| panic!("{step}: no end of: {line}"))
        .expect("running sh");
    let told = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{step}: {status} of: {line}\n{told}");
    stdout
}

impl Shown {
    /// Everything it printed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What stands behind the last header section.
    pub fn body(&self) -> &str {
        let mut rest = self.text.as_str();
        while rest.starts_with("HTTP/") {
            rest = rest.split_once("\n\n").map_or("", |(_, body)| body);
        }
        rest
    }

    /// Whether it has this, in any case of letters.
    pub fn has(&self, wanted: &str) -> bool {
        self.text.to_lowercase().contains(&wanted.to_lowercase())
    }

    /// Checks that it has all of these.
    #[track_caller]
    pub fn expect(&self, all: &[&str]) -> &Self {
        for wanted in all {
            let Self { step, text } = self;
            assert!(self.has(wanted), "{step}: no {wanted:?} in\n{text}");
        }
        self
    }

    /// Checks that it has not this.
    #[track_caller]
    pub fn lacks(&self, unwanted: &str) -> &Self {
        let Self { step, text } = self;
        assert!(!self.has(unwanted), "{step}: {unwanted:?} in\n{text}");
        self
    }

    /// Checks the body.
    #[track_caller]
    pub fn is(&self, body: &str) -> &Self {
        assert_eq!(self.body(), body, "{}: the body", self.step);
        self
    }
}
