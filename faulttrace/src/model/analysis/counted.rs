//! The samples of each process, read from the last to the first: what they say beside its stalls, and
//! how many threads made one when.

use std::collections::HashMap;
use std::sync::Arc;

use super::sweep::Sweep;
use crate::model::Sample;
use crate::model::stall::{Kept, Meanwhile};

/// Processes with samples that are remembered.
const MAX_PROCESSES: usize = 4_096;
/// Samples kept of all processes.
const MAX_SAMPLES: usize = 1 << 18;
/// Changes kept of a process before the sweep knows it.
const MAX_EARLY: usize = 1 << 16;

/// Of one process.
#[derive(Debug, Default)]
struct Process {
    /// Latest first.
    samples: Vec<Arc<Sample>>,
    /// Each time before which another number of threads is needed, latest first.
    early: Vec<(u64, u64)>,
    last: Option<u64>,
}

/// Of all.
#[derive(Debug, Default)]
pub(super) struct Counted {
    processes: HashMap<u32, Process>,
    kept: usize,
}

impl Counted {
    /// A sample before all those so far. `swept`: the number of its process in the sweep, once it has
    /// one. `asked`: how many threads make a stall was asked for, and does not change.
    pub(super) fn before(
        &mut self,
        sample: &Arc<Sample>,
        asked: bool,
        swept: Option<u32>,
        sweep: &mut Sweep,
    ) {
        let full = self.processes.len() >= MAX_PROCESSES;
        if full && !self.processes.contains_key(&sample.pid) {
            return;
        }
        if self.kept >= MAX_SAMPLES {
            self.thin();
        }
        let process = self.processes.entry(sample.pid).or_default();
        self.kept += 1;
        process.samples.push(Arc::clone(sample));
        let needed = u64::from(sample.stall_threads.max(1));
        if asked || process.last == Some(needed) {
            return;
        }
        process.last = Some(needed);
        let change = (sample.time_ns, needed);
        match swept.and_then(|id| sweep.processes.get_mut(id as usize)) {
            Some(process) => process.stalls.change(change),
            None if process.early.len() < MAX_EARLY => process.early.push(change),
            None => {}
        }
    }

    /// Forgets the samples of a process: those so far are of no time that is looked at.
    pub(super) fn forget(&mut self, pid: u32, swept: Option<u32>, sweep: &mut Sweep) {
        if let Some(process) = self.processes.remove(&pid) {
            self.kept = self.kept.saturating_sub(process.samples.len());
        }
        if let Some(process) = swept.and_then(|id| sweep.processes.get_mut(id as usize)) {
            process.stalls.forget_changes();
        }
    }

    /// Every other sample goes.
    fn thin(&mut self) {
        self.kept = 0;
        for process in self.processes.values_mut() {
            let mut at = 0_u64;
            process.samples.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.kept += process.samples.len();
        }
    }

    /// The changes of a process that the sweep is about to know.
    pub(super) fn take_early(&mut self, pid: u32) -> Vec<(u64, u64)> {
        let process = self.processes.get_mut(&pid);
        process.map_or_else(Vec::new, |process| std::mem::take(&mut process.early))
    }

    /// What they say of a process over some times.
    pub(super) fn over(&self, pid: u32) -> impl Fn(u64, u64) -> Option<Meanwhile> + use<> {
        let process = self.processes.get(&pid);
        let kept = Kept::of_reversed(process.map_or(&[], |process| &process.samples));
        move |begin_ns, end_ns| kept.over(begin_ns, end_ns)
    }
}
