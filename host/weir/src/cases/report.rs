//! What cases came to, told to a person.

use super::run::too_long;

/// How many failed cases a refusal tells.
const TOLD: usize = 5;
/// The longest value that is shown, in characters.
const LONGEST: usize = 300;

/// What the cases of a file came to.
#[derive(Debug)]
pub(crate) struct Report {
    pub(super) file: String,
    pub(super) tested: Vec<Tested>,
    /// Cases that were not run, since all of them took too long.
    pub(super) left: usize,
}

/// What one case came to.
#[derive(Debug)]
pub(super) struct Tested {
    pub(super) name: String,
    pub(super) line: usize,
    /// None: it passed.
    pub(super) faults: Vec<Fault>,
    /// The machine may have been too busy for it.
    pub(super) late: bool,
}

/// What was not as expected.
#[derive(Debug)]
pub(super) struct Fault {
    what: String,
    /// Absent where nothing could have been.
    expected: Option<String>,
    came: String,
}

impl Fault {
    pub(super) fn new(what: &str, expected: &str, came: &str) -> Self {
        Self {
            what: what.to_owned(),
            expected: Some(shown(expected)),
            came: shown(came),
        }
    }

    /// A call that ended without an answer.
    pub(super) fn failed(what: &str, why: &str) -> Self {
        Self {
            what: what.to_owned(),
            expected: None,
            came: shown(why),
        }
    }
}

impl Report {
    /// Whether all cases were run, and passed.
    pub(crate) fn passed(&self) -> bool {
        self.left == 0 && self.failed() == 0
    }

    fn failed(&self) -> usize {
        let failed = self.tested.iter().filter(|case| !case.faults.is_empty());
        failed.count()
    }

    /// A line for each case; below those that failed, what was expected and what came.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for case in &self.tested {
            let name = shown(&case.name);
            if case.faults.is_empty() {
                lines.push(format!("ok      {name}"));
                continue;
            }
            lines.push(format!("FAILED  {name}  ({}:{})", self.file, case.line));
            for fault in &case.faults {
                match &fault.expected {
                    Some(expected) => {
                        lines.push(format!("        {}: expected  {expected}", fault.what));
                        let gap = " ".repeat(fault.what.len());
                        lines.push(format!("        {gap}  came      {}", fault.came));
                    }
                    None => lines.push(format!("        {} failed: {}", fault.what, fault.came)),
                }
            }
        }
        lines.push(self.sum());
        lines
    }

    fn sum(&self) -> String {
        let (failed, all) = (self.failed(), self.tested.len() + self.left);
        let cases = |count: usize| match count {
            1 => "1 case".to_owned(),
            count => format!("{count} cases"),
        };
        let mut sum = match failed {
            0 => format!("{} passed", cases(self.tested.len())),
            failed => format!("{failed} of {} failed", cases(all)),
        };
        if self.left > 0 {
            sum.push_str(&format!(", {} not run: {}", self.left, too_long()));
        }
        sum
    }

    /// Did nothing fail but what the machine may have been too busy for?
    pub(crate) fn only_late(&self) -> bool {
        let mut failed = self.tested.iter().filter(|case| !case.faults.is_empty());
        failed.all(|case| case.late)
    }

    /// Why the version is refused, if it is: the first cases that failed.
    pub(crate) fn failure(&self) -> Option<String> {
        if self.passed() {
            return None;
        }
        let mut text = self.sum();
        let failed = self.tested.iter().filter(|case| !case.faults.is_empty());
        for case in failed.take(TOLD) {
            let name = shown(&case.name);
            text.push_str(&format!("\n{}:{}: {name:?}: ", self.file, case.line));
            let faults = case.faults.iter().map(|fault| match &fault.expected {
                Some(expected) => {
                    format!("{}: expected {expected}, came {}", fault.what, fault.came)
                }
                None => format!("{} failed: {}", fault.what, fault.came),
            });
            text.push_str(&faults.collect::<Vec<_>>().join("; "));
        }
        if self.failed() > TOLD {
            text.push_str(&format!("\nand {} more", self.failed() - TOLD));
        }
        Some(text)
    }
}

/// What a component says, on one line and of bounded length.
fn shown(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = text.chars().take(LONGEST).map(visible).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
