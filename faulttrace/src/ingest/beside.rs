//! What the programs tell of a fault right before they tell the fault itself.

use std::collections::HashMap;

/// Faults can be lost when what belongs to them was not; more threads than this wait for none.
const MAX_WAITING: usize = 16_384;

/// Events on their way to their faults.
pub struct Beside<T> {
    /// By thread: when its fault began, and the event.
    waiting: HashMap<u32, (u64, T)>,
}

impl<T> Default for Beside<T> {
    fn default() -> Self {
        Beside {
            waiting: HashMap::new(),
        }
    }
}

impl<T> Beside<T> {
    /// Keeps what was told of the fault of this thread that began at `start_ns`, until it comes.
    pub fn keep(&mut self, tid: u32, start_ns: u64, event: T) {
        if self.waiting.len() >= MAX_WAITING {
            // Their faults were lost, and counted: each would have followed at once.
            self.waiting.clear();
        }
        self.waiting.insert(tid, (start_ns, event));
    }

    /// What was told of the fault of this thread that began then. What was told of an earlier one is
    /// gone: that one was lost.
    pub fn take(&mut self, tid: u32, start_ns: u64) -> Option<T> {
        if self.waiting.is_empty() {
            return None;
        }
        let (of_ns, event) = self.waiting.remove(&tid)?;
        (of_ns == start_ns).then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_to_its_own_fault_alone() {
        let mut beside = Beside::default();
        assert_eq!(beside.take(7, 80), None);
        beside.keep(7, 80, "it");
        assert_eq!(beside.take(8, 80), None);
        assert_eq!(beside.take(7, 80), Some("it"));
        assert_eq!(beside.take(7, 80), None, "once");
        beside.keep(7, 80, "it");
        assert_eq!(beside.take(7, 81), None, "its fault was lost");
        assert_eq!(beside.take(7, 80), None, "which is over");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut beside = Beside::default();
        for tid in 0..100_000 {
            beside.keep(tid, 1, ());
        }
        assert!(beside.waiting.len() <= MAX_WAITING);
    }
}
