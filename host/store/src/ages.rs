//! How old objects were, counted in a few classes: cheap enough for every hit.

use std::time::Duration;

use weir_tally::Tally;

/// The upper ends of the classes, in seconds; one more class is for what is older.
pub const AGE_CLASSES: [u64; 10] = [
    1, 10, 60, 300, 900, 3_600, 21_600, 86_400, 604_800, 2_592_000,
];

/// Where the sum of all ages stands behind the classes, in milliseconds.
const SUM: usize = AGE_CLASSES.len() + 1;

/// Counts of ages.
#[derive(Debug, Default)]
pub struct Ages(Tally<{ SUM + 1 }>);

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgeCounts {
    /// How many there are in each class of [`AGE_CLASSES`], and beyond the last one.
    pub classes: [u64; AGE_CLASSES.len() + 1],
    /// The sum of all ages, in milliseconds.
    pub sum_ms: u64,
}

impl Ages {
    /// Counts one.
    pub fn note(&self, age: Duration) {
        let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let class = AGE_CLASSES.partition_point(|end| end * 1_000 < millis);
        self.0.add([(class, 1), (SUM, millis)]);
    }

    /// What has been counted.
    pub fn counts(&self) -> AgeCounts {
        let [classes @ .., sum_ms] = self.0.sums();
        AgeCounts { classes, sum_ms }
    }
}

impl AgeCounts {
    /// Takes others in.
    pub fn add(&mut self, others: &Self) {
        for (own, other) in self.classes.iter_mut().zip(others.classes) {
            *own += other;
        }
        self.sum_ms = self.sum_ms.saturating_add(others.sum_ms);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// Their mean; absent when there are none.
    pub fn mean(&self) -> Option<Duration> {
        let mean = self.sum_ms.checked_div(self.count())?;
        Some(Duration::from_millis(mean))
    }

    /// The upper end of the class that the median lies in, which is how exactly it is
    /// known; absent when there are none, or it is older than every class.
    pub fn median_at_most(&self) -> Option<Duration> {
        let half = self.count().div_ceil(2);
        let mut below = 0;
        let class = self.classes.iter().position(|count| {
            below += count;
            half > 0 && below >= half
        })?;
        AGE_CLASSES.get(class).copied().map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_fall_into_the_class_whose_end_they_do_not_pass() {
        let ages = Ages::default();
        assert_eq!(ages.counts().median_at_most(), None);
        assert_eq!(ages.counts().mean(), None);
        for millis in [0, 1_000, 1_001, 59_000, 60_000] {
            ages.note(Duration::from_millis(millis));
        }
        let counts = ages.counts();
        assert_eq!(counts.classes[..4], [2, 1, 2, 0]);
        assert_eq!(counts.count(), 5);
        assert_eq!(counts.median_at_most(), Some(Duration::from_secs(10)));
        assert_eq!(counts.mean(), Some(Duration::from_millis(24_200)));
        for _ in 0..6 {
            ages.note(Duration::from_secs(40 * 24 * 3_600));
        }
        assert_eq!(ages.counts().median_at_most(), None, "older than a month");
    }
}
