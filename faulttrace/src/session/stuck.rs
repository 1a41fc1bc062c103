//! Which threads have been stuck for how long, and when to say so again.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use faulttrace_ebpf::Inflight;

/// The longest pause between two reports of one fault.
const LONGEST_PAUSE_NS: u64 = 60_000_000_000;

/// How long a thread may run after its last switch-in before the kernel is asked whether its fault
/// is over.
const UNDECIDED_NS: u64 = 50_000_000;

/// What was reported of one fault.
#[derive(Clone, Copy)]
struct Reported {
    start_ns: u64,
    count: u32,
    next_ns: u64,
}

/// What to do about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing now.
    Wait,
    /// Report it, for the n-th time.
    Report(u32),
    /// It has run for long without a sign; ask the kernel.
    Ask,
}

/// Remembers what was reported.
pub(super) struct StuckThreads {
    after_ns: u64,
    reported: HashMap<u32, Reported>,
}

impl StuckThreads {
    pub(super) fn new(after: Duration) -> Self {
        Self {
            after_ns: u64::try_from(after.as_nanos()).unwrap_or(u64::MAX),
            reported: HashMap::new(),
        }
    }

    /// Looks at one entry.
    pub(super) fn look(&mut self, entry: &Inflight, now_ns: u64) -> Verdict {
        if entry.in_ns != 0 {
            let undecided = now_ns.saturating_sub(entry.in_ns) > UNDECIDED_NS;
            return if undecided {
                Verdict::Ask
            } else {
                Verdict::Wait
            };
        }
        self.report(entry, now_ns, false)
            .map_or(Verdict::Wait, Verdict::Report)
    }

    /// Looks at one entry for the last time: whoever is stuck is reported once more, however long the
    /// last report lies back, so that all that is known of it goes until now. `None` if it is not.
    pub(super) fn look_last(&mut self, entry: &Inflight, now_ns: u64) -> Option<u32> {
        if entry.in_ns != 0 {
            return None;
        }
        self.report(entry, now_ns, true)
    }

    /// Which report of this fault is due, if any is.
    fn report(&mut self, entry: &Inflight, now_ns: u64, is_last: bool) -> Option<u32> {
        let elapsed_ns = now_ns.saturating_sub(entry.start_ns);
        if elapsed_ns < self.after_ns {
            return None;
        }
        let fresh = Reported {
            start_ns: entry.start_ns,
            count: 0,
            next_ns: 0,
        };
        let known = self.reported.entry(entry.tid).or_insert(fresh);
        if known.start_ns != entry.start_ns {
            *known = fresh;
        }
        if now_ns < known.next_ns && !is_last {
            return None;
        }
        known.count += 1;
        // Each pause is as long as the fault so far, so the reports thin out.
        known.next_ns = now_ns + elapsed_ns.clamp(1, LONGEST_PAUSE_NS);
        Some(known.count)
    }

    /// Whether this fault has been reported.
    pub(super) fn has_told(&self, entry: &Inflight) -> bool {
        let told = self.reported.get(&entry.tid);
        told.is_some_and(|told| told.start_ns == entry.start_ns && told.count > 0)
    }

    /// Whether there was any report that may need forgetting.
    pub(super) fn is_empty(&self) -> bool {
        self.reported.is_empty()
    }

    /// Forgets the threads that have no entry any more.
    pub(super) fn keep_only(&mut self, entries: &[Inflight]) {
        let tids: HashSet<u32> = entries.iter().map(|entry| entry.tid).collect();
        self.reported.retain(|tid, _| tids.contains(tid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn entry(start_ns: u64, in_ns: u64) -> Inflight {
        // SAFETY: integers only; zero is a value of each.
        let mut entry: Inflight = unsafe { std::mem::zeroed() };
        (entry.tid, entry.start_ns, entry.in_ns) = (7, start_ns, in_ns);
        entry
    }

    #[test]
    fn reports_come_at_growing_intervals_and_start_again_with_the_next_fault() {
        let mut stuck = StuckThreads::new(Duration::from_millis(100));
        let times: Vec<u64> = (0..2000)
            .filter(|ms| matches!(stuck.look(&entry(0, 0), ms * MS), Verdict::Report(_)))
            .collect();
        assert_eq!(times, [100, 200, 400, 800, 1600]);
        assert_eq!(stuck.look(&entry(2000 * MS, 0), 2050 * MS), Verdict::Wait);
        assert_eq!(
            stuck.look(&entry(2000 * MS, 0), 2100 * MS),
            Verdict::Report(1)
        );
        stuck.keep_only(&[]);
        assert!(stuck.is_empty());
    }

    #[test]
    fn at_the_end_all_that_are_stuck_are_reported_once_more() {
        let mut stuck = StuckThreads::new(Duration::from_millis(100));
        assert_eq!(stuck.look(&entry(MS, 0), 200 * MS), Verdict::Report(1));
        assert_eq!(stuck.look(&entry(MS, 0), 210 * MS), Verdict::Wait);
        assert_eq!(stuck.look_last(&entry(MS, 0), 211 * MS), Some(2));
        assert_eq!(stuck.look_last(&entry(MS, 205 * MS), 211 * MS), None);
        assert_eq!(stuck.look_last(&entry(150 * MS, 0), 211 * MS), None);
    }

    #[test]
    fn a_thread_that_runs_is_not_called_stuck() {
        let mut stuck = StuckThreads::new(Duration::from_millis(100));
        assert_eq!(stuck.look(&entry(MS, 990 * MS), 1000 * MS), Verdict::Wait);
        assert_eq!(stuck.look(&entry(MS, 900 * MS), 1000 * MS), Verdict::Ask);
    }
}
