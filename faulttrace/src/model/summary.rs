//! Folds many faults into totals per process, thread, file, stack and cause.
//!
//! Pure: it neither reads the clock nor prints. The session feeds it every record that the views
//! get; the views show it at the end ([`crate::view`]). Its memory is bounded whatever the target
//! does: when a table is full, further keys are counted together in its `others`.

mod backward;
mod pasts;
mod process;
mod read_aheads;
mod remainder;
mod room;
#[cfg(test)]
pub(crate) mod samples;
mod table;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::stall::Stalls;
use super::{Devices, Fault, LossClass, Lost, Name, ProcessInfo, Record, Sample, Stuck, Transport};
pub(crate) use backward::Later;
pub use pasts::{AVOIDED, Fills, Pasts, Remover, Sums, Waited, Who};
pub use process::{ProcessSummary, StillStuck};
pub use read_aheads::ReadAheads;
pub use remainder::Remainder;
use room::Room;
pub use table::{
    ByCause, ByFile, ByStack, ByThread, Entry, FileKey, StackKey, Table, Tally, ThreadKey,
};

/// How much a [`Summary`] may remember.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Keys of one table of one process.
    pub keys_per_table: usize,
    /// Keys of all tables of all processes together.
    pub keys_in_all: usize,
    /// Bytes of all stacks together, equal ones counted once.
    pub stack_bytes: usize,
    /// Processes with tables of their own; the rest are counted together.
    pub processes: usize,
    /// Threads remembered as stuck, over all processes.
    pub stuck: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            keys_per_table: 10_000,
            keys_in_all: 100_000,
            stack_bytes: 64 << 20,
            processes: 1_000,
            stuck: 10_000,
        }
    }
}

/// Reasons of loss come from a fixed set of ours; the bound is for traces that others wrote.
const MAX_REASONS: usize = 256;

/// The reason under which the probe counts majors that a filter held back, class `Filtered`.
pub const FILTERED_MAJORS: &str = "filtered_majors";

/// The reason for faults of a saved trace that were not asked for, class `Filtered`.
pub const NOT_SELECTED: &str = "not_selected";

/// The same for majors among them, of processes whose `maj_flt` was.
pub const NOT_SELECTED_MAJORS: &str = "not_selected_majors";

/// Reasons that count what other reasons count, too.
const PARTS: [&str; 3] = ["ring_full_majors", FILTERED_MAJORS, NOT_SELECTED_MAJORS];

/// The fold. Feed it with [`Summary::add`] and read it at any time.
#[derive(Debug, Default)]
pub struct Summary {
    room: Room,
    processes: BTreeMap<u32, ProcessSummary>,
    /// Processes beyond `limits.processes`, counted together.
    others: Option<Box<ProcessSummary>>,
    lost: BTreeMap<(LossClass, Cow<'static, str>), u64>,
    stuck: HashMap<u32, StillStuck>,
    stuck_beyond_limit: u64,
    began_ns: Option<u64>,
    transport: Option<Transport>,
    stalls: Stalls,
    fills: Fills,
    read_ahead: ReadAheads,
    /// Reads that faults begin are followed to their devices.
    follows_io: bool,
    /// Processes are traced by their name.
    by_name: bool,
}

impl Summary {
    /// An empty summary with the default limits.
    pub fn new() -> Self {
        Summary::default()
    }

    /// An empty summary with the given limits.
    pub fn with_limits(limits: Limits) -> Self {
        Summary {
            room: Room::new(limits),
            ..Summary::default()
        }
    }

    /// Takes one record into account.
    pub fn add(&mut self, record: &Record) {
        self.stalls.add(record);
        match record {
            Record::Start(start) => {
                self.began_ns = Some(start.time_ns);
                self.follows_io |= start.follows_io();
                self.by_name |= start.comm().is_some();
                for target in &start.targets {
                    self.name(target);
                }
            }
            Record::Fault(fault) => self.add_fault(fault),
            Record::Stuck(stuck) => self.add_stuck(stuck),
            Record::Lost(lost) => self.add_lost(lost),
            Record::Process(process) => self.name(process),
            Record::ProcessEnd(end) => {
                for stuck in self.stuck.values_mut() {
                    stuck.process_ended |= stuck.stuck.facts.pid == end.pid;
                }
            }
            Record::Accounting(accounting) => {
                self.process(accounting.pid)
                    .account(accounting.maj_flt_delta);
            }
            Record::Transport(transport) => self.transport = Some(*transport),
            Record::CacheFill(fill) => self.fills.add(fill),
            Record::ReadAhead(ahead) => self.read_ahead.add(ahead),
            Record::Go(go) => {
                let process = self.process(go.pid);
                process.go = Some(Arc::clone(go));
                process.runs_go(go.time_ns);
            }
            Record::Sample(sample) => self.sampled(sample),
            // They are of the stalls.
            Record::Stall(_) | Record::PStall(_) => {}
        }
    }

    fn sampled(&mut self, sample: &Sample) {
        if let Some(process) = self.processes.get_mut(&sample.pid) {
            process.sampled(sample.time_ns);
        }
    }

    /// Takes out the stalls that the records so far allow to tell, to be shown after the last of them.
    pub fn take_stalls(&mut self) -> Vec<Record> {
        self.stalls.take()
    }

    /// There are no more records: ends the stalls under way. What [`Summary::take_stalls`] gives then
    /// is the last.
    pub fn end_stalls(&mut self) {
        self.stalls.finish();
    }

    /// Takes a report of a stuck thread into account that is not to be shown or counted, but was made.
    pub fn add_unshown(&mut self, record: &Record) {
        self.stalls.add(record);
    }

    /// A fault of this thread is over that is not to be counted: it is not stuck in it any more.
    pub fn came_free(&mut self, tid: u32) {
        self.stuck.remove(&tid);
    }

    /// What block devices did for the faults of a process, or of all; `None` if that was not asked: no
    /// `--io`.
    pub fn devices<'p>(&self, of: &'p ProcessSummary) -> Option<&'p Devices> {
        let asked = self.follows_io || !of.devices.is_empty();
        asked.then_some(&of.devices)
    }

    /// Who filled the page cache.
    pub fn fills(&self) -> &Fills {
        &self.fills
    }

    /// What faults had read of files ahead.
    pub fn read_ahead(&self) -> &ReadAheads {
        &self.read_ahead
    }

    /// The stalls of each process.
    pub fn stalls(&self) -> &Stalls {
        &self.stalls
    }

    /// The name of a process, if it was told.
    pub fn name_of(&self, pid: u32) -> Option<&Name> {
        let info = self.processes.get(&pid)?.info.as_ref()?;
        Some(&info.name)
    }

    /// Processes were to be traced by their name, and none that matches was seen.
    pub fn matched_none(&self) -> bool {
        self.by_name && self.processes.is_empty() && self.others.is_none()
    }

    /// Per process, by pid.
    pub fn processes(&self) -> impl ExactSizeIterator<Item = &ProcessSummary> {
        self.processes.values()
    }

    /// The processes beyond the limit, counted together; `None` if there were none.
    pub fn other_processes(&self) -> Option<&ProcessSummary> {
        self.others.as_deref()
    }

    /// Everything together; its `pid` is `None`. Merged when called: not for a hot path.
    pub fn total(&self) -> ProcessSummary {
        let mut total = ProcessSummary::new(None);
        let mut room = Room::new(self.room.limits);
        for process in self.processes.values().chain(self.others.as_deref()) {
            total.merge(process, &mut room);
        }
        total
    }

    /// What was not recorded, or not in full: (class, reason) and how often.
    pub fn lost(&self) -> impl Iterator<Item = (LossClass, &str, u64)> {
        self.lost
            .iter()
            .map(|((class, reason), count)| (*class, reason.as_ref(), *count))
    }

    /// Sum of the counts of one class.
    pub fn lost_in(&self, class: LossClass) -> u64 {
        self.lost()
            .filter(|(of, reason, _)| *of == class && !PARTS.contains(reason))
            .fold(0, |sum, (_, _, count)| sum.saturating_add(count))
    }

    /// Threads reported as stuck whose fault was not seen to end, longest first.
    pub fn still_stuck(&self) -> Vec<&StillStuck> {
        let mut all: Vec<_> = self.stuck.values().collect();
        all.sort_by_key(|still| {
            (
                std::cmp::Reverse(still.stuck.elapsed_ns),
                still.stuck.facts.tid,
            )
        });
        all
    }

    /// Stuck threads that could not be remembered because there were too many.
    pub fn stuck_beyond_limit(&self) -> u64 {
        self.stuck_beyond_limit
    }

    /// Unix time of the start, ns, if a `Start` record was seen.
    pub fn began_ns(&self) -> Option<u64> {
        self.began_ns
    }

    /// What went through the ring; `None` while that is not known.
    pub fn transport(&self) -> Option<Transport> {
        self.transport
    }

    /// Faults that were not asked for of a saved trace.
    pub fn not_selected(&self) -> u64 {
        self.filtered(NOT_SELECTED)
    }

    /// What of the kernel's `maj_flt` is not in the majors reported, over all processes.
    pub fn remainder(&self) -> Remainder {
        let sum = self.processes.values().chain(self.others.as_deref());
        let sum = sum.map(ProcessSummary::remainder);
        let sum = sum.reduce(|sum, one| sum.plus(&one)).unwrap_or_default();
        Remainder {
            filtered_majors: Some(self.filtered(FILTERED_MAJORS)),
            not_selected_majors: self.filtered(NOT_SELECTED_MAJORS),
            ..sum
        }
    }

    /// The same for one process. Filters count over all processes together, so with several
    /// processes and a filter at work a single process's remainder is unknown.
    pub fn remainder_of(&self, process: &ProcessSummary) -> Remainder {
        let filtered = self.filtered(FILTERED_MAJORS);
        let not_selected_majors = self.filtered(NOT_SELECTED_MAJORS);
        let alone = self.processes.len() + usize::from(self.others.is_some()) <= 1;
        let known = alone || (filtered == 0 && not_selected_majors == 0);
        Remainder {
            filtered_majors: known.then_some(filtered),
            not_selected_majors,
            ..process.remainder()
        }
    }

    /// What a filter held back for this reason.
    fn filtered(&self, reason: &str) -> u64 {
        self.lost()
            .find(|(class, known, _)| *class == LossClass::Filtered && *known == reason)
            .map_or(0, |(_, _, count)| count)
    }

    fn process(&mut self, pid: u32) -> &mut ProcessSummary {
        self.process_and_room(pid).0
    }

    fn process_and_room(&mut self, pid: u32) -> (&mut ProcessSummary, &mut Room) {
        let full = self.processes.len() >= self.room.limits.processes;
        let process = if full && !self.processes.contains_key(&pid) {
            self.others
                .get_or_insert_with(|| Box::new(ProcessSummary::new(None)))
        } else {
            self.processes
                .entry(pid)
                .or_insert_with(|| ProcessSummary::new(Some(pid)))
        };
        (process, &mut self.room)
    }

    fn name(&mut self, info: &ProcessInfo) {
        self.process(info.pid).info = Some(info.clone());
    }

    fn add_fault(&mut self, fault: &Fault) {
        if !self.stuck.is_empty() {
            self.stuck.remove(&fault.facts.tid);
        }
        let (process, room) = self.process_and_room(fault.facts.pid);
        process.add(fault, room);
    }

    fn add_stuck(&mut self, stuck: &Arc<Stuck>) {
        let tid = stuck.facts.tid;
        if self.stuck.len() >= self.room.limits.stuck && !self.stuck.contains_key(&tid) {
            // Later reports of the same fault are not another thread.
            if stuck.report <= 1 {
                self.stuck_beyond_limit += 1;
            }
            return;
        }
        self.stuck.insert(
            tid,
            StillStuck {
                stuck: Arc::clone(stuck),
                process_ended: false,
            },
        );
    }

    fn add_lost(&mut self, lost: &Lost) {
        let mut key = (lost.class, lost.reason.clone());
        if self.lost.len() >= MAX_REASONS && !self.lost.contains_key(&key) {
            key.1 = Cow::Borrowed("other");
        }
        let count = self.lost.entry(key).or_default();
        *count = count.saturating_add(lost.count);
    }
}
