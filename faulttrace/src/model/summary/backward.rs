//! The same fold over a stream that is read from its end: what a saved trace allows to do in one
//! pass. Every record fed here comes before all that were fed.

use std::sync::Arc;

use super::{Summary, Tally, ThreadKey};
use crate::model::{Cause, History, Io, ProcessInfo, Record, Site, Stuck};

/// Ids of threads and processes are below this on Linux (`PID_MAX_LIMIT`).
const MAX_ID: u32 = 1 << 22;

/// A set of thread or process ids, in memory that ids cannot blow up.
#[derive(Debug, Clone, Default)]
struct Ids(Vec<u64>);

impl Ids {
    fn insert(&mut self, id: u32) {
        if id >= MAX_ID {
            return;
        }
        let word = (id / 64) as usize;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= 1 << (id % 64);
        }
    }

    fn contains(&self, id: u32) -> bool {
        let bits = self.0.get((id / 64) as usize).copied().unwrap_or(0);
        bits >> (id % 64) & 1 == 1
    }
}

/// What happens later in the stream than the record that is being read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Later {
    faulted: Ids,
    ended: Ids,
}

impl Later {
    /// This thread completes a fault: what it was stuck in before is over.
    pub(crate) fn faulted(&mut self, thread: ThreadKey) {
        self.faulted.insert(thread.tid);
    }

    /// Whether it does.
    pub(crate) fn has_faulted(&self, thread: ThreadKey) -> bool {
        self.faulted.contains(thread.tid)
    }
}

impl Summary {
    /// Takes faults into account that `tally` has added up, all but their durations.
    pub(crate) fn credit(&mut self, site: &Site, tally: &Tally) {
        let (process, room) = self.process_and_room(site.facts.pid);
        process.credit(&site.facts, site.end, tally, false, room);
    }

    /// What is known of the page of a fault of a process.
    pub(crate) fn add_history(&mut self, pid: u32, history: &History, blocked_ns: u64) {
        self.process(pid).pasts.add(history, blocked_ns);
    }

    /// What block devices did for a fault of a process that blocked for so long.
    pub(crate) fn add_io(
        &mut self,
        pid: u32,
        io: Option<&Io>,
        cause: Option<Cause>,
        blocked_ns: u64,
    ) {
        self.process(pid).devices.add(io, cause, blocked_ns);
    }

    /// Whether this process has totals of its own, now that it is known; else it is counted with
    /// the other ones beyond the limit.
    pub(crate) fn own(&mut self, pid: u32) -> bool {
        self.process(pid).pid.is_some()
    }

    /// The durations of faults of a process that has totals of its own, or (`None`) of the others.
    pub(crate) fn record_durations(&mut self, pid: Option<u32>, duration_ns: u64, count: u64) {
        let process = match pid {
            Some(pid) => Some(self.process(pid)),
            None => self.others.as_deref_mut(),
        };
        if let Some(process) = process {
            process.record_durations(duration_ns, count);
        }
    }

    /// Takes a record into account that is earlier than all those before. Faults are for
    /// [`Summary::credit`].
    pub(crate) fn add_earlier(&mut self, record: &Record, later: &mut Later) {
        match record {
            Record::Start(start) => {
                self.began_ns.get_or_insert(start.time_ns);
                self.follows_io |= start.follows_io();
                self.by_name |= start.comm().is_some();
                for target in &start.targets {
                    self.name_earlier(target);
                }
            }
            // They come as sites and numbers.
            Record::Fault(_) => {}
            Record::Stuck(stuck) => self.stuck_earlier(stuck, later),
            Record::Process(process) => self.name_earlier(process),
            Record::ProcessEnd(end) => later.ended.insert(end.pid),
            Record::Transport(transport) => {
                self.transport.get_or_insert(*transport);
            }
            Record::Lost(_)
            | Record::Accounting(_)
            | Record::CacheFill(_)
            | Record::ReadAhead(_) => self.add(record),
            // Stalls are found backwards elsewhere.
            Record::Go(go) => {
                let process = self.process(go.pid);
                process.go.get_or_insert(Arc::clone(go));
                process.runs_go(go.time_ns);
            }
            Record::Sample(sample) => self.sampled(sample),
            Record::Stall(_) | Record::PStall(_) => {}
        }
    }

    fn name_earlier(&mut self, info: &ProcessInfo) {
        let known = &mut self.process(info.pid).info;
        if known.is_none() {
            *known = Some(info.clone());
        }
    }

    fn stuck_earlier(&mut self, stuck: &Arc<Stuck>, later: &Later) {
        let facts = &stuck.facts;
        // Its fault ended, or a later report of it is known.
        if later.faulted.contains(facts.tid) || self.stuck.contains_key(&facts.tid) {
            return;
        }
        self.add_stuck(stuck);
        if let Some(still) = self.stuck.get_mut(&facts.tid) {
            still.process_ended = later.ended.contains(facts.pid);
        }
    }
}
