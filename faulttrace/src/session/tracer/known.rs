//! Processes that were introduced, and whether one that joins is another with the same id.

use std::collections::{HashMap, HashSet};

use crate::ingest::Clock;

/// When each was known to be there, by the programs' clock.
pub(in crate::session) struct Known(HashMap<u32, u64>);

impl Known {
    /// The targets, which are there now.
    pub(in crate::session) fn targets(pids: &HashSet<u32>) -> Self {
        let now_ns = Clock::monotonic_ns();
        Self(pids.iter().map(|pid| (*pid, now_ns)).collect())
    }

    /// Whether it was not known before.
    pub(super) fn insert(&mut self, pid: u32, at_ns: u64) -> bool {
        let is_new = !self.0.contains_key(&pid);
        self.0.entry(pid).or_insert(at_ns);
        is_new
    }

    /// Whether it was known.
    pub(super) fn remove(&mut self, pid: u32) -> bool {
        self.0.remove(&pid).is_some()
    }

    /// Whether one with this id was there before this time.
    pub(super) fn since_before(&self, pid: u32, at_ns: u64) -> bool {
        self.0.get(&pid).is_some_and(|since| *since < at_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_joins_after_one_of_its_id_was_there_is_another() {
        let mut known = Known::targets(&HashSet::new());
        assert!(!known.since_before(1, 50));
        assert!(known.insert(1, 20));
        assert!(!known.insert(1, 40));
        assert!(known.since_before(1, 30), "there since 20");
        assert!(!known.since_before(1, 10), "seen only after it had joined");
        assert!(known.remove(1) && !known.remove(1));
        assert!(!known.since_before(1, 50) && known.insert(1, 60));
    }

    #[test]
    fn targets_that_came_while_attaching_are_themselves() {
        let before = Clock::monotonic_ns();
        let known = Known::targets(&HashSet::from([1]));
        assert!(!known.since_before(1, before));
        assert!(known.since_before(1, u64::MAX));
    }
}
