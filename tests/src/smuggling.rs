//! The corpus of requests that two parsers could read in two ways: `tests/cases/smuggling.toml`.

use serde::Deserialize;

use crate::artifact::workspace;

/// One case. The file says what its keys mean.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its name, in one word.
    pub name: String,
    /// The section of the RFC that decides.
    pub section: String,
    /// Why it is a case.
    pub why: String,
    send: String,
    fill: Option<usize>,
    lines: Option<usize>,
    /// The statuses that come back, in order.
    pub answers: Vec<u16>,
    /// The reason that the last answer names.
    pub detail: Option<String>,
    /// The requests that the origin gets.
    #[serde(default)]
    pub origin: Vec<String>,
}

impl Case {
    /// The bytes. Characters up to U+00FF stand for one byte each.
    pub fn bytes(&self) -> Vec<u8> {
        let mut text = self.send.clone();
        if let Some(length) = self.fill {
            text = text.replace("FILL", &"x".repeat(length));
        }
        if let Some(count) = self.lines {
            text = text.replace("LINES", &"X: y\r\n".repeat(count));
        }
        let byte = |letter| u8::try_from(u32::from(letter)).expect("a letter of one byte");
        text.chars().map(byte).collect()
    }

    /// Whether the node takes all of it.
    pub fn is_taken(&self) -> bool {
        self.answers.iter().all(|status| *status == 200)
    }
}

/// All cases.
pub fn cases() -> Vec<Case> {
    #[derive(Deserialize)]
    struct File {
        case: Vec<Case>,
    }
    let path = workspace().join("tests/cases/smuggling.toml");
    let text = std::fs::read_to_string(&path).expect("the corpus");
    let file: File = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
    file.case
}
