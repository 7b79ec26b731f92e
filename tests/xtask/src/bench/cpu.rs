//! CPU time of a process and all its descendants.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::run;

/// User and system time so far of a process, its threads and its living descendants.
pub(crate) fn of_tree(root: u32) -> Result<Duration> {
    let mut table = HashMap::new();
    for entry in std::fs::read_dir("/proc").context("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process that has ended meanwhile is none of ours: servers do not end.
        if let Some(facts) = facts(id) {
            table.insert(id, facts);
        }
    }
    let belongs = |mut id: u32| loop {
        match table.get(&id) {
            _ if id == root => return true,
            Some(&(parent, _)) => id = parent,
            None => return false,
        }
    };
    let ticks: u64 = table
        .iter()
        .filter(|(id, _)| belongs(**id))
        .map(|(_, (_, ticks))| ticks)
        .sum();
    Ok(Duration::from_secs_f64(ticks as f64 / ticks_a_second()))
}

/// Parent and CPU ticks. Fields 4, 14 and 15 of /proc/PID/stat, counted behind the
/// command, which may contain spaces and parentheses.
fn facts(id: u32) -> Option<(u32, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let parent = u32::try_from(number(4)?).ok()?;
    Some((parent, number(14)? + number(15)?))
}

fn ticks_a_second() -> f64 {
    static TICKS: OnceLock<f64> = OnceLock::new();
    *TICKS.get_or_init(|| {
        let answer = run::answer("getconf", &["CLK_TCK"]);
        answer.and_then(|text| text.parse().ok()).unwrap_or(100.0)
    })
}
