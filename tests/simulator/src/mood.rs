//! What a schedule is inclined to. Each has its own, since what is rare among all things at
//! once is common where most other things are left out.

use fastrand::Rng;

/// What happens next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Call,
    Disk,
    Request,
    Purge,
    Clock,
    Trouble,
}

/// What breaks, or is mended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    Link,
    Server,
    Replicate,
    Failover,
    Save,
    OldSnapshot,
    Flush,
    Crash,
}

/// How often each happens, in parts of all.
#[derive(Clone, Debug)]
pub(crate) struct Mood {
    steps: [(Step, u32); 6],
    troubles: [(Trouble, u32); 8],
    /// Nearly all is about one object.
    pub(crate) narrow: bool,
}

impl Mood {
    pub(crate) fn any(rng: &mut Rng) -> Self {
        let mut steps = [
            (Step::Call, 610),
            (Step::Disk, 60),
            (Step::Request, 200),
            (Step::Purge, [8, 30, 90][rng.usize(..3)]),
            (Step::Clock, [60, 60, 20, 150][rng.usize(..4)]),
            (Step::Trouble, 10 * rng.u32(0..6)),
        ];
        // Redis and the origins are slow in some.
        steps[0].1 = [610, 610, 300][rng.usize(..3)];
        let mut troubles = [
            (Trouble::Link, 13),
            (Trouble::Server, 8),
            (Trouble::Replicate, 11),
            (Trouble::Failover, 6),
            (Trouble::Save, 2),
            (Trouble::OldSnapshot, 2),
            (Trouble::Flush, 2),
            (Trouble::Crash, 11),
        ];
        for (_, weight) in &mut troubles {
            *weight *= [0, 1, 1, 4][rng.usize(..4)];
        }
        Self {
            steps,
            troubles,
            narrow: rng.u32(..3) == 0,
        }
    }

    pub(crate) fn step(&self, rng: &mut Rng) -> Step {
        any(&self.steps, rng).unwrap_or(Step::Call)
    }

    /// `None`: nothing ever breaks.
    pub(crate) fn trouble(&self, rng: &mut Rng) -> Option<Trouble> {
        any(&self.troubles, rng)
    }
}

fn any<T: Copy>(of: &[(T, u32)], rng: &mut Rng) -> Option<T> {
    let all: u32 = of.iter().map(|(_, weight)| weight).sum();
    let mut at = (all > 0).then(|| rng.u32(..all))?;
    for (this, weight) in of {
        if at < *weight {
            return Some(*this);
        }
        at -= weight;
    }
    None
}
