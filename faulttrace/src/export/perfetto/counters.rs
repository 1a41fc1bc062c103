//! How many threads of each process are in a fault, how many Ps of its Go program they hold meanwhile,
//! and how much of its files they have touched.
//!
//! Perfetto wants the values of a counter in the order of their times: it adds up increments, too,
//! in the order of the file. Faults come in the order of their ends. So the changes wait in a
//! window, ordered by time, until there are too many of them. One that comes after a later one has
//! left the window is moved to that one's time, and counted: the counter is wrong until then, and
//! right from then on. A report that a fault is stuck tells its beginning long before its end, so
//! only a long fault that was not reported can come too late.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::Write;

use super::proto::{COUNTER, TrackEvent};
use super::stream::Stream;
use super::touched::{PAGE, Touched};
use super::tracks::{Tracks, in_fault_track, ps_stuck_track, touched_track};
use crate::export::Error;
use crate::model::Facts;

/// Changes in the window: 24 MiB.
const WINDOW: usize = 1 << 20;
/// Processes with counters.
const MAX_PROCESSES: usize = 10_000;

/// The counters of all processes.
#[derive(Debug)]
pub(super) struct Counters {
    window: BinaryHeap<Reverse<Change>>,
    limit: usize,
    begin_ns: u64,
    processes: HashMap<u32, Values>,
    touched: Touched,
    /// When the pages could not be counted any more.
    touched_until: Option<u64>,
    late: u64,
    uncounted: u64,
}

/// Something that changes a counter. Ordered by time, then by process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    at: u64,
    pid: u32,
    threads: i32,
    ps: i32,
    pages: u32,
}

/// All changes of one process at one moment.
#[derive(Debug, Clone, Copy)]
struct Sum {
    at: u64,
    pid: u32,
    threads: i64,
    ps: i64,
    pages: u64,
    changes: u64,
}

/// The counters of one process, as last written.
#[derive(Debug, Clone, Copy, Default)]
struct Values {
    threads: i64,
    /// `None` as long as none was seen to be stuck: then there is no such counter.
    ps: Option<i64>,
    bytes: u64,
    at: u64,
}

impl Counters {
    pub(super) fn new() -> Self {
        Counters::with_window(WINDOW)
    }

    pub(super) fn with_window(limit: usize) -> Self {
        Counters {
            window: BinaryHeap::new(),
            limit,
            begin_ns: 0,
            processes: HashMap::new(),
            touched: Touched::default(),
            touched_until: None,
            late: 0,
            uncounted: 0,
        }
    }

    /// Changes that came too late to be counted at their time.
    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// Changes of processes that have no counters because there were too many.
    pub(super) fn uncounted(&self) -> u64 {
        self.uncounted
    }

    /// Since when pages are not counted any more; `None` if they are.
    pub(super) fn touched_until(&self) -> Option<u64> {
        self.touched_until
    }

    /// The trace begins, and no thread is in a fault as far as is known.
    pub(super) fn begin(&mut self, at: u64) {
        self.begin_ns = at;
    }

    /// A thread of the process went into a fault, with a P of its Go program or without one.
    pub(super) fn enter(&mut self, pid: u32, at: u64, holds_p: bool) {
        self.change(at, pid, 1, i32::from(holds_p), 0);
    }

    /// A thread of the process came out of a fault.
    pub(super) fn leave(&mut self, pid: u32, at: u64, holds_p: bool) {
        self.change(at, pid, -1, -i32::from(holds_p), 0);
    }

    /// The page of a fault is there.
    pub(super) fn touch(&mut self, facts: &Facts, at: u64) {
        if self.touched.is_new(facts) {
            self.change(at, facts.pid, 0, 0, 1);
        } else if self.touched.stopped() && self.touched_until.is_none() {
            self.touched_until = Some(at);
        }
    }

    fn change(&mut self, at: u64, pid: u32, threads: i32, ps: i32, pages: u32) {
        self.window.push(Reverse(Change {
            at,
            pid,
            threads,
            ps,
            pages,
        }));
    }

    /// Writes what is too much for the window; at the end, everything.
    pub(super) fn settle(
        &mut self,
        at_end: bool,
        stream: &mut Stream,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        let keep = if at_end { 0 } else { self.limit };
        while self.window.len() > keep
            && let Some(sum) = self.take()
        {
            let Some(values) = self.values(sum.pid, sum.at, stream, out)? else {
                self.uncounted += sum.changes;
                continue;
            };
            let is_late = sum.at < values.at;
            let has_ps = values.ps.is_some();
            values.at = sum.at.max(values.at);
            values.threads += sum.threads;
            if has_ps || sum.ps != 0 {
                values.ps = Some(values.ps.unwrap_or(0) + sum.ps);
            }
            values.bytes = values.bytes.saturating_add(sum.pages.saturating_mul(PAGE));
            let now = *values;
            self.late += if is_late { sum.changes } else { 0 };
            if sum.threads != 0 {
                stream.event(now.at, value(in_fault_track(sum.pid), now.threads), out)?;
            }
            if sum.pages != 0 {
                let bytes = i64::try_from(now.bytes).unwrap_or(i64::MAX);
                stream.event(now.at, value(touched_track(sum.pid), bytes), out)?;
            }
            if let Some(ps) = now.ps.filter(|_| sum.ps != 0) {
                let track = ps_stuck_track(sum.pid);
                if !has_ps {
                    Tracks::ps_stuck(sum.pid, stream, out)?;
                    stream.event(now.at.min(self.begin_ns), value(track, 0), out)?;
                }
                stream.event(now.at, value(track, ps), out)?;
            }
        }
        Ok(())
    }

    /// Takes the earliest moment of a process out of the window, with all that changed then: a fault
    /// that begins when another ends makes no peak.
    fn take(&mut self) -> Option<Sum> {
        let Reverse(first) = self.window.pop()?;
        let mut sum = Sum {
            at: first.at,
            pid: first.pid,
            threads: i64::from(first.threads),
            ps: i64::from(first.ps),
            pages: u64::from(first.pages),
            changes: 1,
        };
        while let Some(Reverse(same)) = self.window.peek().copied()
            && (same.at, same.pid) == (first.at, first.pid)
        {
            self.window.pop();
            sum.threads += i64::from(same.threads);
            sum.ps += i64::from(same.ps);
            sum.pages += u64::from(same.pages);
            sum.changes += 1;
        }
        Some(sum)
    }

    /// The values of a process, which begin at 0; `None` if there are too many processes.
    fn values(
        &mut self,
        pid: u32,
        at: u64,
        stream: &mut Stream,
        out: &mut dyn Write,
    ) -> Result<Option<&mut Values>, Error> {
        if !self.processes.contains_key(&pid) {
            if self.processes.len() >= MAX_PROCESSES {
                return Ok(None);
            }
            Tracks::counters(pid, stream, out)?;
            let begin_ns = at.min(self.begin_ns);
            stream.event(begin_ns, value(in_fault_track(pid), 0), out)?;
            stream.event(begin_ns, value(touched_track(pid), 0), out)?;
            self.processes.insert(pid, Values::default());
        }
        Ok(self.processes.get_mut(&pid))
    }
}

fn value(track: u64, value: i64) -> TrackEvent {
    TrackEvent {
        r#type: Some(COUNTER),
        track_uuid: Some(track),
        counter_value: Some(value),
        ..TrackEvent::default()
    }
}
