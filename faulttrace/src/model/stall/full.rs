//! Times in which every P of a Go program was stuck, as they happen.

use std::sync::Arc;

use super::around::{Kept, Meanwhile};
use super::counts::Counts;
use super::sweep::Source;
use super::window::Telling;
use super::{MIN_TOLD_NS, StallFile};
use crate::model::Cause;
use crate::model::ps::{FullStall, Held, Ps};

/// Faults told of one.
const FAULTS: usize = 8;

/// No P of a Go program was left to run a goroutine with.
#[derive(Debug, Clone)]
pub struct PStall {
    /// Process id (tgid).
    pub pid: u32,
    /// When, and how many Ps; so far, if it is not over.
    pub stall: FullStall,
    /// `false`: it goes on, or went on when tracing ended.
    pub over: bool,
    /// The faults that did it, in the order in which they began.
    pub faults: Vec<Source>,
    /// Others of them; one that a pause divides may count twice.
    pub other_faults: u64,
    /// Files and kinds of memory that all of them were on, most faults first.
    pub files: Vec<StallFile>,
    /// Faults on others.
    pub other_files_faults: u64,
    /// Faults by cause, most first; of faults that were still going on, as far as known then.
    pub causes: Vec<(Option<Cause>, u64)>,
    /// What was counted beside it; `None` without samples.
    pub meanwhile: Option<Meanwhile>,
}

/// Follows the Ps of one process.
#[derive(Debug, Default)]
pub(super) struct Full {
    pub(super) ps: Ps,
    /// Of the stall under way.
    faults: Vec<Source>,
    other_faults: u64,
    /// Of these.
    others: Counts,
    telling: Telling,
}

impl Full {
    /// These threads were blocked at every moment of this time, and of them, these began to be at its
    /// begin.
    pub(super) fn pass<'a>(
        &mut self,
        pid: u32,
        (begin_ns, end_ns): (u64, u64),
        blocked: impl Iterator<Item = &'a Source> + Clone,
        fresh: &[Source],
        samples: &Kept,
    ) -> Option<Arc<PStall>> {
        let held = blocked.clone().filter_map(Source::held);
        let (before, was_full) = (self.ps.under_way(), self.ps.is_full());
        let over = self.ps.pass((begin_ns, end_ns), held);
        let told = over.and_then(|over| self.over(pid, over, true, samples));
        let goes_on = before.is_some() && over.is_none();
        match (goes_on, self.ps.is_full()) {
            (false, true) => {
                self.telling = Telling::default();
                self.add_all(blocked);
            }
            (true, true) if was_full => fresh.iter().for_each(|source| self.add(source)),
            (true, true) => self.add_all(blocked),
            (_, false) => {}
        }
        told
    }

    /// More is known of a fault.
    pub(super) fn learn(&mut self, source: &Source) {
        let mut faults = self.faults.iter_mut();
        if let Some(known) = faults.find(|known| known.key() == source.key()) {
            *known = source.clone();
        }
    }

    /// It is time to tell of what goes on.
    pub(super) fn going_on(&mut self, pid: u32, samples: &Kept) -> Option<Arc<PStall>> {
        let stall = self.ps.under_way()?;
        let is_due = self.telling.is_due(stall.length_ns());
        is_due.then(|| self.told(pid, stall, false, samples))
    }

    /// There is no more of this process. `cut_ns`: when tracing ended with threads still in faults.
    pub(super) fn finish(
        &mut self,
        pid: u32,
        cut_ns: Option<u64>,
        samples: &Kept,
    ) -> Option<Arc<PStall>> {
        let last = self.ps.finish()?;
        self.over(pid, last, cut_ns != Some(last.end_ns), samples)
    }

    fn over(
        &mut self,
        pid: u32,
        stall: FullStall,
        over: bool,
        samples: &Kept,
    ) -> Option<Arc<PStall>> {
        let is_told = self.telling.told || stall.length_ns() >= MIN_TOLD_NS;
        let told = is_told.then(|| self.told(pid, stall, over, samples));
        self.faults.clear();
        self.other_faults = 0;
        self.others.clear();
        told
    }

    fn told(&self, pid: u32, stall: FullStall, over: bool, samples: &Kept) -> Arc<PStall> {
        // What is known of them by now, which may be more than when they began.
        let mut all = self.others.clone();
        self.faults.iter().for_each(|one| all.add(one.facts()));
        let (files, other_files_faults) = all.files();
        Arc::new(PStall {
            pid,
            stall,
            over,
            faults: self.faults.clone(),
            other_faults: self.other_faults,
            files,
            other_files_faults,
            causes: all.causes(),
            meanwhile: samples.over(stall.begin_ns, stall.end_ns),
        })
    }

    /// Adds those that are not there yet, in the order in which they began.
    fn add_all<'a>(&mut self, blocked: impl Iterator<Item = &'a Source>) {
        let mut all: Vec<&Source> = blocked.filter(|source| source.held().is_some()).collect();
        all.sort_by_key(|source| source.facts().begin_ns);
        all.into_iter().for_each(|source| self.add(source));
    }

    fn add(&mut self, source: &Source) {
        let is_known = |known: &Source| known.key() == source.key();
        if source.held().is_none() || self.faults.iter().any(is_known) {
            return;
        }
        if self.faults.len() < FAULTS {
            self.faults.push(source.clone());
        } else {
            self.other_faults = self.other_faults.saturating_add(1);
            self.others.add(source.facts());
        }
    }
}

impl Source {
    /// Which fault of which thread.
    pub(super) fn key(&self) -> (u32, Option<u64>) {
        let facts = self.facts();
        (facts.tid, facts.begin_ns)
    }

    /// Whether it holds a P.
    pub(super) fn holds_p(&self) -> bool {
        self.held().is_some()
    }

    /// Whether it may hold a P that is not known, or the last of a number that is not.
    pub(super) fn may_hold_more(&self) -> bool {
        let goroutine = self.facts().goroutine.as_deref();
        goroutine.is_none_or(|at| at.p.is_some() && at.procs.is_none_or(|procs| procs == 0))
    }

    /// The P that it holds.
    fn held(&self) -> Option<Held> {
        let facts = self.facts();
        let goroutine = facts.goroutine.as_deref();
        match self {
            Source::Fault(fault) => {
                let begin_ns = fault.end_ns.saturating_sub(fault.duration_ns);
                Held::of(goroutine, (begin_ns, fault.end_ns))
            }
            Source::Stuck(_) => Held::of(goroutine, (facts.begin_ns.unwrap_or(0), u64::MAX)),
        }
    }
}
