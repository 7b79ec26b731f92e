//! What a scenario came to.

use std::fmt;
use std::time::Duration;

use super::timeline::Sum;

/// What a scenario came to, and what it must not be.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub(super) name: &'static str,
    pub(super) sum: Sum,
    /// From when Redis was back until every node was well again, each time.
    pub recoveries: Vec<Duration>,
    /// The stampede: fetches of each round.
    pub fetches: Vec<usize>,
}

impl Report {
    /// What is wrong, in words; the time that a recovery takes only where `timed`.
    pub fn wrong(&self, timed: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.sum.answered == 0 {
            wrong.push("no request was answered".to_owned());
        }
        if self.sum.failed > 0 {
            wrong.push(format!("{} requests failed", self.sum.failed));
        }
        if self.sum.beyond > 0 {
            wrong.push(format!(
                "{} objects were served beyond the promise",
                self.sum.beyond
            ));
        }
        let slow = |took: &&Duration| **took > Duration::from_secs(2);
        if let Some(slow) = self.recoveries.iter().find(slow).filter(|_| timed) {
            wrong.push(format!("a recovery took {slow:?}; 2 s are allowed"));
        }
        if let Some(most) = self.fetches.iter().max().filter(|most| **most > 2) {
            wrong.push(format!("{most} fetches of one object; 2 are allowed"));
        }
        wrong
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = &self.sum;
        writeln!(f, "\n{}:", self.name)?;
        let mut row = |name: &str, value: String| writeln!(f, "  {name:44} {value}");
        row("requests answered", sum.answered.to_string())?;
        row("requests failed", sum.failed.to_string())?;
        if sum.fleet + sum.node > 0 {
            row(
                "hits",
                format!("{} %", sum.hits * 100 / sum.answered.max(1)),
            )?;
            row("purges answered for the fleet", sum.fleet.to_string())?;
            row("purges answered for the node", sum.node.to_string())?;
            row("slowest purge", format!("{:.1?}", sum.slowest_purge))?;
            let stale = format!(
                "{}, at most {:.1?} after the answer",
                sum.stale, sum.stale_longest
            );
            row("purged objects served within the promise", stale)?;
            row("purged objects served beyond it", sum.beyond.to_string())?;
        }
        row("slowest request", format!("{:.1?}", sum.slowest))?;
        for took in &self.recoveries {
            row("from Redis back to all nodes well", format!("{took:.2?}"))?;
        }
        if !self.fetches.is_empty() {
            row("fetches in each round", format!("{:?}", self.fetches))?;
        }
        for example in &sum.examples {
            writeln!(f, "  e.g. {example}")?;
        }
        Ok(())
    }
}
