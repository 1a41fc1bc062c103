//! Looks at the threads that are in faults: who is stuck, and what may be said of a sample.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use super::super::stuck::Verdict;
use super::samples::Now;
use super::{ASK_PERIOD_NS, BATCH, Clock, Progress, Tracer};
use crate::model::{Record, Stuck};
use faulttrace_ebpf::Inflight;

impl Tracer {
    pub(super) fn look_at_stuck(&mut self, progress: &mut Progress) {
        let mut entries = self.probe.inflight();
        if entries.is_empty() && self.stuck.is_empty() && progress.watched.is_empty() {
            return;
        }
        let now_ns = Clock::monotonic_ns();
        for entry in &mut entries {
            self.go.complete(entry);
            match self.stuck.look(entry, now_ns) {
                Verdict::Wait => {}
                Verdict::Report(report) => {
                    self.introduce(entry.tgid, &entry.comm, now_ns, progress);
                    progress
                        .batch
                        .push(Record::Stuck(self.stuck_report(entry, now_ns, report)));
                }
                Verdict::Ask => self.ask(entry.tid, progress),
            }
        }
        self.stuck.keep_only(&entries);
        if progress.watched.is_empty() {
            return;
        }
        let tids: HashSet<u32> = entries.iter().map(|entry| entry.tid).collect();
        let over: Vec<u32> = progress
            .watched
            .keys()
            .copied()
            .filter(|tid| !tids.contains(tid))
            .collect();
        for tid in over {
            if let Some(link) = progress.watched.remove(&tid)
                && let Err(error) = self.probe.unwatch(link)
            {
                log::warn!("{error}");
            }
        }
    }

    /// What is to be said of a thread that is stuck.
    pub(super) fn stuck_report(
        &mut self,
        entry: &Inflight,
        now_ns: u64,
        report: u32,
    ) -> Arc<Stuck> {
        let reads = self.probe.reads_of(entry, now_ns);
        let stuck = self
            .enricher
            .stuck(entry, now_ns, report, reads.as_ref(), &self.probe);
        Arc::new(stuck)
    }

    /// Has the kernel look whether a running thread has left its fault.
    fn ask(&mut self, tid: u32, progress: &mut Progress) {
        if progress.watched.contains_key(&tid) {
            return;
        }
        match self.probe.watch(tid, ASK_PERIOD_NS) {
            Ok(link) => {
                progress.watched.insert(tid, link);
            }
            // The thread may just have ended.
            Err(error) => log::debug!("{error}"),
        }
    }

    /// Asks for counters if it is time, and takes those that have come.
    pub(super) fn sample(&mut self, now: Instant) {
        let due = self.samples.is_due(now);
        if !due && !self.samples.awaits() {
            return;
        }
        if due {
            let entries = self.probe.inflight();
            self.samples
                .ask(&Now::new(&entries, &self.stuck, self.bounds.end_ns));
        }
        let mut entries = None;
        while let Some(answer) = self.samples.answer() {
            let entries = entries.get_or_insert_with(|| self.probe.inflight());
            self.samples
                .take(&answer, &Now::new(entries, &self.stuck, self.bounds.end_ns));
        }
    }

    /// Tells the samples before which all faults were told, now that so many were taken from the ring.
    pub(super) fn release_samples(&mut self, taken: usize, progress: &mut Progress) {
        if !self.samples.has_ready() {
            return;
        }
        // Empty, it has nothing that was in it when they were made.
        let told_ns = if taken < BATCH {
            u64::MAX
        } else {
            progress.told_ns
        };
        let enricher = &self.enricher;
        let unix_ns = |ns| enricher.unix_ns(ns);
        self.samples.release(told_ns, unix_ns, &mut progress.batch);
    }
}
