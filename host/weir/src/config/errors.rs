//! What is said about a configuration that is wrong: one [`Problem`] for each
//! finding, all problems of a file in [`ConfigErrors`].

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::excerpt::Excerpt;

/// How much a [`Problem`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but probably does not do what was meant.
    Warning,
}

/// One finding in a configuration file.
///
/// Its [`Display`](fmt::Display) is several lines without a final line break:
/// place, key path and message; the line with the place marked; a hint.
/// Passwords in the shown line are masked.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// Error or warning.
    pub(crate) severity: Severity,
    /// The configuration file, as it was named on the command line.
    pub(crate) file: PathBuf,
    /// Line and column; absent only when the file could not be read at all.
    pub(crate) position: Option<Position>,
    /// The key path, such as `routes[2].upstream`; empty where there is none
    /// (syntax errors, an unreadable file).
    pub(crate) path: String,
    /// What is wrong.
    pub(crate) message: String,
    /// What to write instead.
    pub(crate) hint: String,
    excerpt: Option<Excerpt>,
}

/// A place in a text file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// Counted from 1.
    pub(crate) line: usize,
    /// In characters, counted from 1.
    pub(crate) column: usize,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        if self.severity == Severity::Warning {
            f.write_str(" warning:")?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.message)?;
        if let (Some(excerpt), Some(position)) = (&self.excerpt, self.position) {
            let line = position.line.to_string();
            write!(f, "\n   {line} | {}", excerpt.text)?;
            write!(f, "\n   {:1$} | {2}", "", line.len(), excerpt.marks)?;
        }
        write!(f, "\n   hint: {}", self.hint)
    }
}

/// All errors of a configuration file, in the order of their places in it.
/// Never empty.
#[derive(Clone, Debug)]
pub(crate) struct ConfigErrors {
    problems: Vec<Problem>,
}

impl ConfigErrors {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.position);
        Self { problems }
    }

    /// A file that could not be read.
    pub(super) fn unreadable(file: &Path, message: String, hint: &str) -> Self {
        Self::new(vec![Problem {
            severity: Severity::Error,
            file: file.to_owned(),
            position: None,
            path: String::new(),
            message,
            hint: hint.to_owned(),
            excerpt: None,
        }])
    }

    /// The errors, first in the file first.
    #[cfg(test)]
    pub(crate) fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Where a value stands in the file, and under which key path.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Such as `routes[2].upstream`.
    pub(super) path: String,
    /// In bytes of the file. That of the enclosing table for a default.
    pub(super) span: Range<usize>,
    /// Whether the file says it; false for a default.
    pub(super) given: bool,
}

impl Place {
    /// The whole document.
    pub(super) fn root() -> Self {
        Self {
            path: String::new(),
            span: 0..0,
            given: true,
        }
    }

    /// The place of a key in the table that stands here.
    pub(super) fn key(&self, key: &str, span: Range<usize>) -> Self {
        let bare = !key.is_empty()
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        let key = if bare {
            key.to_owned()
        } else {
            format!("{key:?}")
        };
        let path = if self.path.is_empty() {
            key
        } else {
            format!("{}.{key}", self.path)
        };
        self.inner(path, span)
    }

    /// The place of an element of the array that stands here.
    pub(super) fn index(&self, index: usize, span: Range<usize>) -> Self {
        self.inner(format!("{}[{index}]", self.path), span)
    }

    /// The place of a default in the table that stands here.
    pub(super) fn absent(&self, key: &str) -> Self {
        Self {
            given: false,
            ..self.key(key, self.span.clone())
        }
    }

    /// A part of the string `value` that stands here, by its bytes. The whole
    /// of it where escapes make the position in the file uncertain.
    pub(super) fn part(&self, value: &str, part: Range<usize>) -> Self {
        let mut place = self.clone();
        if self.given && self.span.len() == value.len() + 2 {
            let start = self.span.start + 1;
            place.span = start + part.start..start + part.end;
        }
        place
    }

    /// The last key of the path, for hints; none in arrays.
    pub(super) fn name(&self) -> Option<&str> {
        let name = self.path.rsplit('.').next()?;
        (!name.is_empty() && !name.ends_with([']', '"'])).then_some(name)
    }

    // A default's parts have no place of their own: their spans are of another text.
    fn inner(&self, path: String, span: Range<usize>) -> Self {
        let span = if self.given { span } else { self.span.clone() };
        Self {
            path,
            span,
            given: self.given,
        }
    }
}

/// Collects the problems of one file while it is read and checked.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    file: &'a Path,
    text: &'a str,
    /// Whether the files that the configuration names are looked at.
    pub(super) check_files: bool,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(text: &'a str, file: &'a Path, check_files: bool) -> Self {
        Self {
            file,
            text,
            check_files,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn error(
        &mut self,
        place: &Place,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let problem = self.problem(Severity::Error, place, message.into(), hint.into());
        self.errors.push(problem);
    }

    pub(super) fn warning(
        &mut self,
        place: &Place,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let problem = self.problem(Severity::Warning, place, message.into(), hint.into());
        self.warnings.push(problem);
    }

    /// A warning that holds only if the component turns out not to be what the file needs.
    pub(super) fn doubt(
        &self,
        place: &Place,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Problem {
        self.problem(Severity::Warning, place, message.into(), hint.into())
    }

    /// The line, counted from 1, on which a place begins.
    pub(super) fn line(&self, place: &Place) -> usize {
        Excerpt::locate(self.text, &place.span).0.line
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The errors, or where there are none the warnings.
    pub(super) fn finish(self) -> Result<Vec<Problem>, ConfigErrors> {
        if self.has_errors() {
            return Err(self.into_errors());
        }
        let mut warnings = self.warnings;
        warnings.sort_by_key(|problem| problem.position);
        Ok(warnings)
    }

    /// The errors; the caller has reported one.
    pub(super) fn into_errors(self) -> ConfigErrors {
        ConfigErrors::new(self.errors)
    }

    fn problem(&self, severity: Severity, place: &Place, message: String, hint: String) -> Problem {
        let (position, excerpt) = Excerpt::locate(self.text, &place.span);
        Problem {
            severity,
            file: self.file.to_owned(),
            position: Some(position),
            path: place.path.clone(),
            message,
            hint,
            excerpt: Some(excerpt),
        }
    }
}
