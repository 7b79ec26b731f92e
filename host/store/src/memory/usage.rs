//! What memory holds and lost, by namespace.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use weir_semantics::Timestamp;

use super::slot::Slot;
use crate::ages::{AgeCounts, Ages};
use crate::key::Key;

/// How many namespaces are told apart. Configurations name them, so there are few.
const MAX_NAMESPACES: usize = 1_024;

/// What objects without a namespace are counted under: those of routes without a policy.
const PLAIN: &str = "-";

/// What the namespaces beyond [`MAX_NAMESPACES`] are counted under, together.
const OTHERS: &str = "(others)";

/// What memory holds of one namespace, and what it lost for lack of room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceUsage {
    /// The namespace; `-` for objects without one.
    pub namespace: Arc<str>,
    /// Objects: each variant of a key counts, and each part of a representation.
    pub objects: u64,
    /// What they weigh, in bytes. The compressed forms of a body count from the next
    /// time that the object is weighed.
    pub bytes: u64,
    /// Objects driven out for lack of room since the start, new ones that were not
    /// taken in included.
    pub evictions: u64,
    /// Objects whose time in memory was over since the start.
    pub expired: u64,
    /// How old the evicted ones were: one for each key.
    pub eviction_ages: AgeCounts,
}

#[derive(Debug, Default)]
pub(super) struct Usage {
    objects: AtomicU64,
    bytes: AtomicU64,
    evictions: AtomicU64,
    expired: AtomicU64,
    eviction_ages: Ages,
}

impl Usage {
    /// Counts a slot that goes into memory.
    pub(super) fn add(&self, slot: &Slot) {
        let (objects, bytes) = (slot.objects(), slot.weight());
        let (objects_before, bytes_before) = slot.count(objects, bytes);
        self.subtract(objects_before, bytes_before);
        self.objects
            .fetch_add(u64::from(objects), Ordering::Relaxed);
        self.bytes.fetch_add(u64::from(bytes), Ordering::Relaxed);
    }

    /// Takes a slot out of the counts, as it was counted. Does nothing the second time.
    pub(super) fn remove(&self, slot: &Slot) -> u64 {
        let (objects, bytes) = slot.count(0, 0);
        self.subtract(objects, bytes);
        u64::from(objects)
    }

    pub(super) fn evicted(&self, slot: &Slot, now: Timestamp) {
        let objects = self.remove(slot);
        self.evictions.fetch_add(objects, Ordering::Relaxed);
        if let Some(age) = slot.age(now) {
            self.eviction_ages.note(age);
        }
    }

    pub(super) fn expired(&self, slot: &Slot) {
        let objects = self.remove(slot);
        self.expired.fetch_add(objects, Ordering::Relaxed);
    }

    fn subtract(&self, objects: u32, bytes: u32) {
        self.objects
            .fetch_sub(u64::from(objects), Ordering::Relaxed);
        self.bytes.fetch_sub(u64::from(bytes), Ordering::Relaxed);
    }

    fn read(&self, namespace: Arc<str>) -> NamespaceUsage {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        NamespaceUsage {
            namespace,
            objects: get(&self.objects),
            bytes: get(&self.bytes),
            evictions: get(&self.evictions),
            expired: get(&self.expired),
            eviction_ages: self.eviction_ages.counts(),
        }
    }
}

/// The counters of all namespaces. Only what goes into memory or leaves it looks here, no
/// hit does.
#[derive(Debug, Default)]
pub(super) struct Usages(RwLock<HashMap<Arc<str>, Arc<Usage>, ahash::RandomState>>);

impl Usages {
    /// The counters of this key's namespace.
    pub(super) fn of(&self, key: &Key) -> Arc<Usage> {
        let name = key.namespace().unwrap_or(PLAIN);
        if let Some(usage) = self.0.read().get(name) {
            return Arc::clone(usage);
        }
        let mut table = self.0.write();
        let name = match table.len() < MAX_NAMESPACES || table.contains_key(name) {
            true => name,
            false => OTHERS,
        };
        Arc::clone(table.entry(Arc::from(name)).or_default())
    }

    /// All counters, by name.
    pub(super) fn read(&self) -> Vec<NamespaceUsage> {
        let table = self.0.read();
        let mut all: Vec<_> = table
            .iter()
            .map(|(name, usage)| usage.read(Arc::clone(name)))
            .collect();
        all.sort_unstable_by(|a, b| a.namespace.cmp(&b.namespace));
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;
    use weir_semantics::{Coding, Freshness};

    use crate::testing::{fresh_for, parts, vary};
    use crate::{Clock, Coded, MemoryTier, Object, ObjectParts};

    use super::*;

    fn named(key: &str, bytes: usize) -> ObjectParts {
        ObjectParts {
            body: vec![0; bytes].into(),
            ..parts(key, "")
        }
    }

    /// What is really there, slot by slot.
    fn sum(tier: &MemoryTier) -> BTreeMap<String, (u64, u64)> {
        let mut sum = BTreeMap::<String, (u64, u64)>::new();
        for (key, slot) in &tier.cache {
            let of = sum
                .entry(key.namespace().unwrap_or("-").to_owned())
                .or_default();
            of.0 += u64::from(slot.objects());
            of.1 += u64::from(slot.weight());
        }
        sum
    }

    fn counted(tier: &MemoryTier) -> BTreeMap<String, (u64, u64)> {
        let all = tier.namespaces().into_iter();
        all.filter(|one| (one.objects, one.bytes) != (0, 0))
            .map(|one| (one.namespace.to_string(), (one.objects, one.bytes)))
            .collect()
    }

    fn of(tier: &MemoryTier, namespace: &str) -> NamespaceUsage {
        let mut all = tier.namespaces().into_iter();
        all.find(|one| &*one.namespace == namespace)
            .expect("the namespace was used")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn counts_are_the_sum_of_what_is_there(
            steps in prop::collection::vec((0_u8..8, 0_u8..30, 0_usize..6_000), 1..300),
        ) {
            let clock = Clock::system();
            let tier = MemoryTier::new(60_000, clock.clone());
            for (step, n, bytes) in steps {
                let key = match n % 3 {
                    0 => format!("http://a|/{n}"),
                    1 => format!("http://a|user:{n}"),
                    _ => format!("help:{n}"),
                };
                let mut parts = named(&key, bytes);
                parts.freshness = Freshness { received: clock.now(), ..fresh_for(Duration::from_secs(60)) };
                match step {
                    0 => tier.remove(&key),
                    1 => tier.maintain(),
                    2 => parts.vary = vary("a", &[("a", &bytes.to_string())]),
                    3 => parts.vary = vary("b", &[("b", "")]),
                    4 => {
                        let coded = Coded::new(&[Coding::Gzip]);
                        let object = Arc::new(Object::new(parts.clone()));
                        object.coded.set(Some(Arc::clone(&coded))).unwrap();
                        tier.insert(Arc::clone(&object));
                        coded.put(Coding::Gzip, vec![0; 500].into());
                        tier.reweigh(&object.key, &coded);
                    }
                    _ => {}
                }
                if step > 1 {
                    tier.insert(Arc::new(Object::new(parts)));
                }
            }
            tier.maintain();
            prop_assert_eq!(counted(&tier), sum(&tier));
            tier.clear();
            tier.maintain();
            prop_assert_eq!(counted(&tier), BTreeMap::new());
        }
    }

    #[test]
    fn each_way_out_is_counted_as_what_it_is() {
        let clock = Clock::manual(crate::testing::NOW);
        let tier = MemoryTier::new(40_000, clock.clone());
        let put = |key: &str, bytes, millis| {
            let freshness = Freshness {
                received: clock.now(),
                ..fresh_for(Duration::from_millis(millis))
            };
            tier.insert(Arc::new(Object::new(ObjectParts {
                freshness,
                ..named(key, bytes)
            })))
        };
        assert!(put("short:1", 100, 300));
        clock.advance(Duration::from_millis(300));
        assert_eq!(tier.sweep(), 1);
        tier.maintain();
        assert_eq!(of(&tier, "short").expired, 1);
        assert_eq!(
            (of(&tier, "short").objects, of(&tier, "short").evictions),
            (0, 0)
        );

        assert!(put("purged:1", 100, 60_000) && put("purged:1", 200, 60_000));
        assert_eq!(of(&tier, "purged").objects, 1);
        tier.remove("purged:1");
        tier.maintain();
        let purged = of(&tier, "purged");
        assert_eq!(
            (purged.objects, purged.evictions, purged.expired),
            (0, 0, 0)
        );

        for n in 0..100 {
            assert!(put(&format!("many:{n}"), 1_000, 60_000));
        }
        tier.maintain();
        let many = of(&tier, "many");
        assert!(many.objects > 0 && many.evictions > 0, "{many:?}");
        assert_eq!(many.objects + many.evictions, 100);
        assert_eq!(many.eviction_ages.count(), many.evictions);
        assert_eq!(many.bytes, tier.stats().bytes);
    }

    #[test]
    fn namespaces_beyond_the_bound_are_counted_together() {
        let tier = MemoryTier::new(1 << 24, Clock::manual(crate::testing::NOW));
        for n in 0..MAX_NAMESPACES + 5 {
            tier.insert(Arc::new(Object::new(named(&format!("n{n}:x"), 1))));
        }
        assert_eq!(tier.namespaces().len(), MAX_NAMESPACES + 1);
        assert_eq!(of(&tier, OTHERS).objects, 5);
    }
}
