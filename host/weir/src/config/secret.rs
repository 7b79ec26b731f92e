//! Tokens and passwords: kept out of messages, read from small files.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Most bytes of a file with a secret.
const LIMIT: u64 = 4096;

/// A token or password. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself. Not for messages.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Why a file with a secret is of no use. Names no file: the caller does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// It could not be read.
    #[error("the file cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It has no content but blanks.
    #[error("the file is empty")]
    Empty,
    /// It is not one line of visible ASCII of at most 4096 bytes.
    #[error("the file is not one line of visible ASCII characters without blanks")]
    Malformed,
}

/// Reads a secret: one line of visible ASCII; blanks around it do not count.
pub(super) fn read_secret(path: &Path) -> Result<Secret, SecretError> {
    let mut text = Vec::new();
    open_file(path)?.take(LIMIT + 1).read_to_end(&mut text)?;
    let trimmed = text.trim_ascii();
    if trimmed.is_empty() {
        return Err(SecretError::Empty);
    }
    if text.len() as u64 > LIMIT || !trimmed.iter().all(u8::is_ascii_graphic) {
        return Err(SecretError::Malformed);
    }
    Ok(Secret(String::from_utf8_lossy(trimmed).into_owned()))
}

/// Opens a regular file. A folder is refused, and so is a pipe, on which
/// opening would wait for a writer.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    File::open(path)
}
