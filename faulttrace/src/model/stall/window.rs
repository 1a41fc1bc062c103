//! A stall that is being put together.

use std::collections::HashSet;

use super::Stall;
use super::around::Kept;
use super::counts::Counts;
use crate::model::Facts;

/// Threads told apart.
const MAX_THREADS: usize = 65_536;
/// When it is first told that a stall goes on, ns after its begin.
const FIRST_TOLD_NS: u64 = 100_000_000;
/// The longest pause until that is told again, ns.
const LONGEST_PAUSE_NS: u64 = 60_000_000_000;

/// The window. Reused, with its room.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) begin_ns: u64,
    pub(super) end_ns: u64,
    max_threads: u64,
    needed: u32,
    threads: HashSet<u32>,
    counts: Counts,
    /// For how long no P was left; `None` if that is not known of all of it.
    no_p_left_ns: Option<u64>,
    /// At every moment none was, and nobody else was blocked.
    is_p_stall: bool,
    pub(super) telling: Telling,
}

/// The Ps of a Go program for a time in which the same threads were blocked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Meantime {
    /// All were stuck.
    pub(super) none_left: bool,
    /// Each thread that was blocked held one.
    pub(super) only_holders: bool,
    /// They may all have been, but what a thread was at, or how many there are, is not known.
    pub(super) unknown: bool,
}

/// When to tell that something goes on.
#[derive(Debug)]
pub(super) struct Telling {
    /// When next, ns after its begin.
    next_ns: u64,
    /// It was told.
    pub(super) told: bool,
}

impl Default for Telling {
    fn default() -> Self {
        Telling {
            next_ns: FIRST_TOLD_NS,
            told: false,
        }
    }
}

impl Telling {
    /// Whether it is time, after so long.
    pub(super) fn is_due(&mut self, length_ns: u64) -> bool {
        if length_ns < self.next_ns {
            return false;
        }
        self.next_ns = length_ns.saturating_add(length_ns.min(LONGEST_PAUSE_NS));
        self.told = true;
        true
    }
}

impl Window {
    /// Begins anew.
    pub(super) fn begin(&mut self, at_ns: u64, needed: u32) {
        self.begin_ns = at_ns;
        self.end_ns = at_ns;
        self.max_threads = 0;
        self.needed = needed;
        self.threads.clear();
        self.counts.clear();
        self.no_p_left_ns = Some(0);
        self.is_p_stall = true;
        self.telling = Telling::default();
    }

    /// It goes on until then, with so many threads; what became of the Ps of a Go program meanwhile.
    pub(super) fn extend(&mut self, to_ns: u64, threads: usize, needed: u32, ps: Meantime) {
        let threads = u64::try_from(threads).unwrap_or(u64::MAX);
        let length_ns = to_ns.saturating_sub(self.end_ns);
        let more_ns = if ps.none_left { length_ns } else { 0 };
        let before_ns = self.no_p_left_ns.filter(|_| !ps.unknown);
        self.no_p_left_ns = before_ns.map(|before_ns| before_ns.saturating_add(more_ns));
        self.is_p_stall &= ps.none_left && ps.only_holders;
        self.end_ns = to_ns;
        self.max_threads = self.max_threads.max(threads);
        self.needed = self.needed.min(needed);
    }

    /// A fault in it.
    pub(super) fn add(&mut self, facts: &Facts) {
        if self.threads.len() < MAX_THREADS {
            self.threads.insert(facts.tid);
        }
        self.counts.add(facts);
    }

    pub(super) fn length_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.begin_ns)
    }

    /// Whether it is time to tell that it goes on.
    pub(super) fn is_due(&mut self) -> bool {
        let length_ns = self.length_ns();
        self.telling.is_due(length_ns)
    }

    /// As it is told. `is_go`: of a Go program.
    pub(super) fn stall(&self, pid: u32, over: bool, is_go: bool, samples: &Kept) -> Stall {
        let (files, other_faults) = self.counts.files();
        Stall {
            pid,
            begin_ns: self.begin_ns,
            duration_ns: self.length_ns(),
            over,
            threads: u64::try_from(self.threads.len()).unwrap_or(u64::MAX),
            max_threads: self.max_threads,
            needed: self.needed,
            files,
            other_faults,
            causes: self.counts.causes(),
            meanwhile: samples.over(self.begin_ns, self.end_ns),
            no_p_left_ns: self.no_p_left_ns.filter(|_| is_go),
            is_p_stall: is_go && self.is_p_stall,
        }
    }
}
