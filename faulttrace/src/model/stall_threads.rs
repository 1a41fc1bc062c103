//! How many threads of a process blocked at once are a stall, if nobody says.
//!
//! Half of the threads that had faults lately, rounded up: a pool that shrinks or grows, and threads
//! that never touch mapped files, do not change what is called a stall. One thread is enough only for
//! a process that has no other.

use std::collections::HashMap;

/// What is lately, ns.
const LATELY_NS: u64 = 10_000_000_000;
/// Threads remembered of a process.
const MAX_THREADS: usize = 8_192;

/// The threads of a process that had faults lately.
#[derive(Debug, Default)]
pub(crate) struct Faulting {
    /// When each was last in a fault.
    last_ns: HashMap<u32, u64>,
    latest_ns: Option<u64>,
}

impl Faulting {
    /// A thread was in a fault at this time.
    pub(crate) fn seen(&mut self, tid: u32, at_ns: u64) {
        self.latest_ns = self.latest_ns.max(Some(at_ns));
        if let Some(last) = self.last_ns.get_mut(&tid) {
            *last = at_ns.max(*last);
        } else if self.last_ns.len() < MAX_THREADS {
            self.last_ns.insert(tid, at_ns);
        }
    }

    /// When a thread last was.
    pub(crate) fn latest_ns(&self) -> Option<u64> {
        self.latest_ns
    }

    /// How many threads make a stall now. `threads`: how many the process has, if that is known.
    pub(crate) fn stall_threads(&mut self, now_ns: u64, threads: Option<u32>) -> u32 {
        let since = now_ns.saturating_sub(LATELY_NS);
        self.last_ns.retain(|_, last| *last >= since);
        let faulting = u32::try_from(self.last_ns.len()).unwrap_or(u32::MAX);
        half(faulting, threads == Some(1))
    }
}

/// How many of so many threads that had faults. `alone`: the process has no other thread.
pub(crate) fn half(faulting: u32, alone: bool) -> u32 {
    faulting.div_ceil(2).max(if alone { 1 } else { 2 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn half_of_the_threads_that_had_faults_lately_at_least_two() {
        let mut faulting = Faulting::default();
        assert_eq!(faulting.latest_ns(), None);
        assert_eq!(faulting.stall_threads(0, Some(40)), 2);
        for tid in 1..=7 {
            faulting.seen(tid, S);
        }
        faulting.seen(1, 5 * S);
        faulting.seen(1, 4 * S);
        assert_eq!(faulting.latest_ns(), Some(5 * S));
        assert_eq!(faulting.stall_threads(5 * S, Some(40)), 4);
        // All but one have had none for long.
        assert_eq!(faulting.stall_threads(14 * S, Some(40)), 2);
    }

    #[test]
    fn the_only_thread_of_a_process_is_enough() {
        let mut faulting = Faulting::default();
        faulting.seen(1, S);
        assert_eq!(faulting.stall_threads(S, Some(1)), 1);
        assert_eq!(faulting.stall_threads(S, Some(2)), 2);
        assert_eq!(faulting.stall_threads(S, None), 2, "there may be others");
    }

    #[test]
    fn memory_is_bounded() {
        let mut faulting = Faulting::default();
        (0..100_000).for_each(|tid| faulting.seen(tid, S));
        assert_eq!(faulting.last_ns.len(), MAX_THREADS);
    }
}
