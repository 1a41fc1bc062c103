//! Faults in which threads of a Go program held Ps: at which calls, and by how many goroutines.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use crate::model::ps::PsTotals;
use crate::model::{Frame, Goroutine, Measure, Name, Stack};

/// Calls of one process that are told apart.
const MAX_SITES: usize = 1_024;
/// Goroutines of one second that are told apart.
const MAX_AT_ONCE: usize = 4_096;
/// A program is hardly given more Ps than so many times those it has, on what a trace tells.
const MOST_TIMES: u32 = 4;
const SECOND_NS: u64 = 1_000_000_000;

/// A call that touched the memory: the innermost function that is not the runtime's, if there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallSite {
    /// The function; `None` if there is no name.
    pub function: Option<Name>,
    /// Its source file.
    pub file: Option<Name>,
    /// The line, from 1.
    pub line: Option<u32>,
}

impl CallSite {
    fn of(stack: Option<&Stack>) -> Self {
        let is_own = |frame: &&Frame| {
            let function = frame.function.as_ref().map(Name::as_bytes);
            function.is_none_or(|function| !function.starts_with(b"runtime."))
        };
        let frames = stack.map_or(&[][..], |stack| &stack.frames);
        // What the runtime does on its own account is the runtime's.
        let frame = frames.iter().find(is_own).or_else(|| frames.first());
        frame.map_or_else(CallSite::default, |frame| CallSite {
            function: frame.function.clone(),
            file: frame.file.clone(),
            line: frame.line,
        })
    }
}

/// Faults that held a P.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeldSum {
    /// How many.
    pub faults: u64,
    /// How long they took in all, ns: so much time of Ps was lost.
    pub held_ns: u64,
    /// How long they blocked in all, ns.
    pub blocked_ns: u64,
}

impl HeldSum {
    fn add(&mut self, measure: &Measure) {
        self.faults = self.faults.saturating_add(1);
        self.held_ns = self.held_ns.saturating_add(measure.duration_ns);
        self.blocked_ns = self.blocked_ns.saturating_add(measure.blocked_ns);
    }
}

/// What is counted of one process.
#[derive(Debug, Default)]
pub(super) struct OfGo {
    pub(super) all: HeldSum,
    sites: HashMap<CallSite, HeldSum>,
    /// Goroutines that were in such faults in the second that is gone through.
    now: HashSet<u64>,
    second: Option<u64>,
    /// How many seconds had so many goroutines in such faults, by their number.
    seconds: Vec<u64>,
}

impl OfGo {
    /// A fault, which ended before all so far, or nearly so.
    pub(super) fn fault(
        &mut self,
        stack: Option<&Stack>,
        goroutine: &Goroutine,
        measure: &Measure,
    ) {
        self.all.add(measure);
        let site = CallSite::of(stack);
        if let Some(sum) = self.sites.get_mut(&site) {
            sum.add(measure);
        } else if self.sites.len() < MAX_SITES {
            self.sites.entry(site).or_default().add(measure);
        }
        let second = measure.end_ns / SECOND_NS;
        if self.second != Some(second) {
            self.turn();
            self.second = Some(second);
        }
        if self.now.len() < MAX_AT_ONCE {
            // What the runtime itself does is done by one at a time.
            self.now.insert(goroutine.id.unwrap_or(0));
        }
    }

    fn turn(&mut self) {
        let count = self.now.len();
        self.now.clear();
        if count == 0 {
            return;
        }
        if self.seconds.len() <= count {
            self.seconds.resize(count + 1, 0);
        }
        if let Some(seconds) = self.seconds.get_mut(count) {
            *seconds = seconds.saturating_add(1);
        }
    }

    /// The calls that cost most time of Ps.
    fn worst(&self, top: usize) -> Vec<(CallSite, HeldSum)> {
        let mut all: Vec<_> = self.sites.iter().collect();
        all.sort_by_key(|(site, sum)| (Reverse(sum.held_ns), *site));
        let worst = all.into_iter().take(top);
        worst.map(|(site, sum)| (site.clone(), *sum)).collect()
    }
}

/// What was found of the Ps of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PsFindings {
    /// GOMAXPROCS, the most.
    pub procs: u32,
    /// What its Ps add up to.
    pub totals: PsTotals,
    /// All faults that held one.
    pub held: HeldSum,
    /// The calls that cost most.
    pub sites: Vec<(CallSite, HeldSum)>,
    /// With so many Ps, one would have been left for 99 % of the time; `None` if the trace does not tell.
    pub enough_99: Option<u32>,
    /// The same for 99.9 %.
    pub enough_999: Option<u32>,
    /// The most goroutines that held Ps in faults within one second; `None` if there were none.
    pub goroutines: Option<u64>,
}

impl PsFindings {
    /// `None` if not all Ps were stuck at any time, or the length of the trace is not known. `is_whole`: no
    /// fault is missing.
    pub(super) fn of(
        totals: &PsTotals,
        of: &mut OfGo,
        wall_ns: u64,
        is_whole: bool,
    ) -> Option<Self> {
        /// Calls that are named.
        const TOP: usize = 5;
        of.turn();
        let (_, procs) = totals.procs?;
        if totals.full_ns == 0 || wall_ns == 0 {
            return None;
        }
        let enough = |per_mille| {
            let found = enough(totals, procs, &of.seconds, wall_ns, per_mille);
            found.filter(|_| is_whole)
        };
        Some(PsFindings {
            procs,
            held: of.all,
            sites: of.worst(TOP),
            enough_99: enough(10),
            enough_999: enough(1),
            goroutines: most(&of.seconds),
            totals: totals.clone(),
        })
    }
}

/// The largest number that any second had.
fn most(seconds: &[u64]) -> Option<u64> {
    let most = seconds.iter().rposition(|count| *count > 0)?;
    u64::try_from(most).ok().filter(|most| *most > 0)
}

/// How many Ps leave one for all but so much of the time. As long as not all of them are stuck, that is
/// what was seen. Beyond that, as many as goroutines were in such faults within the same second: with more
/// Ps, they could have been at once.
fn enough(
    totals: &PsTotals,
    procs: u32,
    seconds: &[u64],
    wall_ns: u64,
    per_mille: u64,
) -> Option<u32> {
    let is_little = |ns: u64| u128::from(ns) * 1_000 <= u128::from(wall_ns) * u128::from(per_mille);
    let seen = (1..=procs).find(|ps| is_little(totals.at_least_ns(*ps as usize)));
    if seen.is_some() {
        return seen;
    }
    let longer = |ps: usize| {
        let seconds = seconds.iter().skip(ps);
        seconds.fold(0, |sum: u64, one| sum.saturating_add(*one))
    };
    let found = (1..=seconds.len()).find(|ps| is_little(longer(*ps).saturating_mul(SECOND_NS)))?;
    let found = u32::try_from(found).ok()?.max(procs.saturating_add(1));
    // Goroutines that come and go: how many there would have been at once is not told.
    (found <= procs.saturating_mul(MOST_TIMES)).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(levels_ns: &[u64]) -> PsTotals {
        PsTotals {
            levels_ns: levels_ns.to_vec(),
            procs: Some((2, 2)),
            ..PsTotals::default()
        }
    }

    #[test]
    fn what_was_seen_counts_as_long_as_a_p_was_left() {
        let second = SECOND_NS;
        // One stuck for a tenth of the time, two for half a per cent.
        let totals = totals(&[0, 10 * second, second / 2]);
        let wall_ns = 100 * second;
        assert_eq!(enough(&totals, 2, &[], wall_ns, 10), Some(2));
        assert_eq!(enough(&totals, 2, &[], wall_ns, 200), Some(1));
        // For all but a per mille two do not do, and how many would is told by the goroutines.
        assert_eq!(enough(&totals, 2, &[0, 3, 1], wall_ns, 1), Some(3));
        assert_eq!(enough(&totals, 2, &[0, 3, 0, 0, 0, 7], wall_ns, 1), Some(6));
        assert_eq!(enough(&totals, 2, &[], wall_ns, 1), None);
    }

    #[test]
    fn many_goroutines_that_come_and_go_tell_nothing() {
        let totals = totals(&[0, 0, 50 * SECOND_NS]);
        let mut seconds = vec![0; 300];
        seconds[299] = 50;
        assert_eq!(enough(&totals, 2, &seconds, 100 * SECOND_NS, 10), None);
    }

    #[test]
    fn the_call_is_the_programs_own() {
        let frame = |function: Option<&str>| Frame {
            function: function.map(Name::from),
            line: Some(7),
            ..Frame::default()
        };
        let stack = Stack {
            frames: vec![frame(Some("runtime.memmove")), frame(Some("main.copy"))],
            ..Stack::default()
        };
        let site = CallSite::of(Some(&stack));
        assert_eq!(site.function, Some(Name::from("main.copy")));
        let runtime = Stack {
            frames: vec![frame(Some("runtime.step")), frame(Some("runtime.pcvalue"))],
            ..Stack::default()
        };
        let site = CallSite::of(Some(&runtime));
        assert_eq!(site.function, Some(Name::from("runtime.step")));
        assert_eq!(CallSite::of(None), CallSite::default());
    }
}
