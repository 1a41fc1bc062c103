//! Stalls as they happen: when many threads of a process were in blocking faults at once.
//!
//! A fold over the stream of records that [`Summary`](super::summary::Summary) runs, so that a live
//! session and a replay tell the same stalls at the same places. Samples drive it: each says until
//! when the faults of its process are all known, and how many threads make a stall. The report finds
//! the same windows backwards ([`super::analysis`]); a test compares them.

mod around;
mod counts;
mod full;
mod sweep;
#[cfg(test)]
mod tests;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ps::PsTotals;
use super::summary::FileKey;
use super::{Cause, Record};
pub(crate) use around::Kept;
pub use around::Meanwhile;
pub use full::PStall;
pub use sweep::Source;
use sweep::Sweep;

/// Stalls shorter than this are counted, and not told one by one, ns.
pub const MIN_TOLD_NS: u64 = 10_000_000;
/// Stalls of a process that are kept, the longest.
const WORST: usize = 10;
/// Processes that are followed.
const MAX_PROCESSES: usize = 1_000;
/// Faults that wait until all others of their time are known, or are under way, over all processes.
const MAX_WAITING: usize = 65_536;
/// Stalls that wait to be taken.
const MAX_UNTAKEN: usize = 4_096;

/// A time during which at least `needed` threads of a process were in blocking faults.
#[derive(Debug, Clone, PartialEq)]
pub struct Stall {
    /// Process id (tgid).
    pub pid: u32,
    /// Unix time, ns.
    pub begin_ns: u64,
    /// Its length; so far, if it is not over, ns.
    pub duration_ns: u64,
    /// `false`: it goes on, or went on when tracing ended.
    pub over: bool,
    /// Different threads that were in such faults meanwhile.
    pub threads: u64,
    /// The most at once.
    pub max_threads: u64,
    /// At every moment at least so many.
    pub needed: u32,
    /// Files and kinds of memory that they were on, most faults first.
    pub files: Vec<StallFile>,
    /// Faults on others.
    pub other_faults: u64,
    /// Faults by cause, most first; of faults that were still going on, as far as known then.
    pub causes: Vec<(Option<Cause>, u64)>,
    /// What was counted beside it; `None` without samples.
    pub meanwhile: Option<Meanwhile>,
    /// Of that, for how long no P of a Go program was left, ns; `None` in other programs.
    pub no_p_left_ns: Option<u64>,
    /// At every moment no P was left and the threads that held them were all that were blocked, so that a
    /// [`PStall`] tells all of it.
    pub is_p_stall: bool,
}

/// A file of a stall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StallFile {
    /// Which.
    pub file: FileKey,
    /// Faults on it.
    pub faults: u64,
}

impl Stall {
    /// Unix time of its end; until when it is known, if it is not over, ns.
    pub fn end_ns(&self) -> u64 {
        self.begin_ns.saturating_add(self.duration_ns)
    }
}

/// What the stalls of one process add up to.
#[derive(Debug, Clone, Default)]
pub struct StallTotals {
    /// So many threads made a stall, as of the last sample; `None` without one.
    pub needed: Option<u32>,
    /// How many there were, short ones included.
    pub count: u64,
    /// Their length in all, ns.
    pub total_ns: u64,
    /// Faults that came too late for a part of their time to be taken into account, or whose end was
    /// not seen.
    pub late: u64,
    /// The longest, longest first.
    pub worst: Vec<Arc<Stall>>,
    /// The Ps of a Go program.
    pub ps: PsTotals,
}

impl StallTotals {
    /// Whether a stall of this length is to be kept.
    fn wants(&self, length_ns: u64) -> bool {
        let least = self.worst.get(WORST - 1);
        least.is_none_or(|least| length_ns > least.duration_ns)
    }

    fn keep(&mut self, stall: &Arc<Stall>) {
        let at = self
            .worst
            .partition_point(|one| one.duration_ns >= stall.duration_ns);
        self.worst.insert(at, Arc::clone(stall));
        self.worst.truncate(WORST);
    }
}

/// A process that is followed.
#[derive(Debug, Default)]
struct Process {
    totals: StallTotals,
    /// `None` once it has ended.
    sweep: Option<Box<Sweep>>,
}

/// The fold.
#[derive(Debug, Default)]
pub struct Stalls {
    start_ns: u64,
    processes: BTreeMap<u32, Process>,
    /// Faults of all of them that wait or are under way.
    waiting: usize,
    untaken: Vec<Record>,
    not_followed: u64,
}

impl Stalls {
    /// Takes one record into account.
    pub fn add(&mut self, record: &Record) {
        match record {
            Record::Start(start) => self.start_ns = start.time_ns,
            Record::Fault(fault) => {
                let full = self.waiting >= MAX_WAITING;
                self.of(fault.facts.pid, |sweep, totals, start_ns, _| {
                    totals.late += sweep.fault(fault, start_ns, full);
                });
            }
            Record::Stuck(stuck) => {
                let full = self.waiting >= MAX_WAITING;
                self.of(stuck.facts.pid, |sweep, totals, start_ns, _| {
                    totals.late += sweep.stuck(stuck, start_ns, full);
                });
            }
            Record::Sample(sample) => {
                self.of(sample.pid, |sweep, totals, _, out| {
                    totals.needed = Some(sample.stall_threads);
                    sweep.sample(sample, totals, out);
                });
            }
            Record::ProcessEnd(end) => self.ended(end.pid, false),
            Record::Lost(_)
            | Record::CacheFill(_)
            | Record::ReadAhead(_)
            | Record::Go(_)
            | Record::Process(_)
            | Record::Accounting(_)
            | Record::Transport(_)
            | Record::Stall(_)
            | Record::PStall(_) => {}
        }
    }

    /// There are no more records: ends what is under way.
    pub fn finish(&mut self) {
        let pids: Vec<u32> = self.processes.keys().copied().collect();
        for pid in pids {
            self.ended(pid, true);
        }
    }

    /// Takes out the stalls that are to be told now, in their order: records of both kinds.
    pub fn take(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.untaken)
    }

    /// What they add up to for a process; `None` if it was not followed.
    pub fn totals(&self, pid: u32) -> Option<&StallTotals> {
        self.processes.get(&pid).map(|process| &process.totals)
    }

    /// All processes that were followed, by pid.
    pub fn all(&self) -> impl Iterator<Item = (u32, &StallTotals)> {
        let all = self.processes.iter();
        all.map(|(pid, process)| (*pid, &process.totals))
    }

    /// Records of processes that were not followed because there were too many.
    pub fn not_followed(&self) -> u64 {
        self.not_followed
    }

    fn of(
        &mut self,
        pid: u32,
        act: impl FnOnce(&mut Sweep, &mut StallTotals, u64, &mut Vec<Record>),
    ) {
        if self.processes.len() >= MAX_PROCESSES && !self.processes.contains_key(&pid) {
            self.not_followed += 1;
            return;
        }
        let process = self.processes.entry(pid).or_default();
        let totals = &mut process.totals;
        let sweep = process.sweep.get_or_insert_with(|| {
            let mut sweep = Box::new(Sweep::new(pid));
            *sweep.ps() = std::mem::take(&mut totals.ps);
            sweep
        });
        let before = sweep.waiting();
        act(sweep, &mut process.totals, self.start_ns, &mut self.untaken);
        self.waiting = (self.waiting + sweep.waiting()).saturating_sub(before);
        // Whoever does not take them does not want them.
        if self.untaken.len() > MAX_UNTAKEN {
            self.untaken.clear();
        }
    }

    fn ended(&mut self, pid: u32, cut: bool) {
        // What had none makes room where many come and go.
        let is_tight = self.processes.len() > MAX_PROCESSES / 2;
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        if let Some(mut sweep) = process.sweep.take() {
            self.waiting = self.waiting.saturating_sub(sweep.waiting());
            sweep.finish(cut, &mut process.totals, &mut self.untaken);
            process.totals.ps = std::mem::take(sweep.ps());
        }
        let totals = &process.totals;
        let knows = totals.needed.is_some() && !is_tight;
        if totals.count == 0 && totals.late == 0 && totals.ps.is_empty() && !knows {
            self.processes.remove(&pid);
        }
    }
}
