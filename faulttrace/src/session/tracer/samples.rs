//! Samples of counters: which processes are asked for, when, and from when on a sample may be told.
//!
//! A sample promises that the faults until `settled_ns` were told before it. So what was read waits
//! until the faults that had ended by then are out of the ring, and faults that are under way hold it
//! back, unless they have been reported as stuck.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use faulttrace_ebpf::Inflight;

use super::super::sampler::{Answer, Request, Sampler};
use super::super::stuck::StuckThreads;
use crate::ingest::Clock;
use crate::model::{
    Faulting, LossClass, Lost, NOT_SAMPLED, ProcessCounters, Record, SAMPLED_LATE, Sample,
    SystemCounters,
};

/// How often a process with faults is sampled.
const ACTIVE_EVERY_NS: u64 = 250_000_000;
/// The same for a target without.
const IDLE_EVERY_NS: u64 = 1_000_000_000;
/// For how long a process counts as having faults after its last.
const ACTIVE_FOR_NS: u64 = 10_000_000_000;
/// Processes sampled at a time.
const MAX_PROCESSES: usize = 64;
/// Processes remembered.
const MAX_WATCHED: usize = 4_096;
/// A thread may run in a fault for a while before it sleeps, and is not known to be in one until then.
const MARGIN_NS: u64 = 10_000_000;
/// An entry of a running thread older than this holds nothing back: whether its fault is over is not
/// known, and may never be.
const DOUBTFUL_NS: u64 = 2_000_000_000;
/// How long the last answers are waited for.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// A process that is sampled.
#[derive(Default)]
struct Watched {
    /// Traced by its id, so that it is sampled without faults too.
    target: bool,
    faulting: Faulting,
    /// Of the last sample.
    threads: Option<u32>,
    sampled_ns: Option<u64>,
    /// It had faults, or a thread in one, since.
    active: bool,
}

/// The tracer's part of it.
pub(in crate::session) struct Samples {
    /// `None` if there can be no such thread: samples are then without what is read.
    sampler: Option<Sampler>,
    /// `--stall-threads`.
    asked: Option<u32>,
    watched: HashMap<u32, Watched>,
    /// Processes of the round under way that have not been answered.
    round: u64,
    unanswered: Vec<u32>,
    next_at: Instant,
    /// What waits until the ring was seen to be empty, and since when.
    ready: Vec<(u64, Sample)>,
    /// Some process was not remembered.
    overflow: bool,
    left_out: u64,
    late: u64,
}

/// What is known of the moment.
pub(super) struct Now<'a> {
    pub(super) ns: u64,
    pub(super) entries: &'a [Inflight],
    pub(super) stuck: &'a StuckThreads,
    /// From then on nothing tells what begins and ends: the programs are detached. The largest number
    /// before that is known.
    pub(super) end_ns: u64,
}

impl Samples {
    /// Starts the thread that reads.
    pub(in crate::session) fn start(
        asked: Option<u32>,
        targets: impl Iterator<Item = u32>,
    ) -> Self {
        let sampler = Sampler::start()
            .inspect_err(|error| log::warn!("no counters beside the faults: {error}"))
            .ok();
        Self::new(sampler, asked, targets)
    }

    fn new(
        sampler: Option<Sampler>,
        asked: Option<u32>,
        targets: impl Iterator<Item = u32>,
    ) -> Self {
        let target = || Watched {
            target: true,
            ..Watched::default()
        };
        Self {
            sampler,
            asked,
            watched: targets
                .take(MAX_WATCHED)
                .map(|pid| (pid, target()))
                .collect(),
            round: 0,
            unanswered: Vec::new(),
            next_at: Instant::now(),
            ready: Vec::new(),
            overflow: false,
            left_out: 0,
            late: 0,
        }
    }

    /// A thread was in a fault at this time.
    pub(super) fn fault(&mut self, pid: u32, tid: u32, at_ns: u64) {
        let full = self.watched.len() >= MAX_WATCHED;
        if full && !self.watched.contains_key(&pid) {
            self.overflow = true;
            return;
        }
        let watched = self.watched.entry(pid).or_default();
        watched.faulting.seen(tid, at_ns);
        watched.active = true;
    }

    /// Whether a round is due, so that [`Samples::ask`] is worth its while.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.next_at
    }

    /// Asks for the counters of those whose turn it is.
    pub(super) fn ask(&mut self, now: &Now<'_>) {
        self.next_at = Instant::now() + Duration::from_nanos(ACTIVE_EVERY_NS);
        for entry in now.entries {
            self.fault(entry.tgid, entry.tid, now.ns);
        }
        // Who was asked and has not answered is slow: the process is told of without.
        let unanswered = std::mem::take(&mut self.unanswered);
        self.unread(unanswered, now);
        self.left_out += u64::from(std::mem::take(&mut self.overflow));
        let pids = self.whose_turn(now.ns);
        if pids.is_empty() {
            return;
        }
        self.round += 1;
        let request = Request {
            round: self.round,
            pids: pids.clone(),
        };
        if self
            .sampler
            .as_ref()
            .is_some_and(|sampler| sampler.ask(request))
        {
            self.unanswered = pids;
        } else {
            self.unread(pids, now);
        }
    }

    /// Processes to sample now; those first that have waited longest, if there are too many.
    fn whose_turn(&mut self, now_ns: u64) -> Vec<u32> {
        let is_active = |one: &Watched| {
            let latest = one.faulting.latest_ns();
            one.active || latest.is_some_and(|ns| now_ns.saturating_sub(ns) < ACTIVE_FOR_NS)
        };
        self.watched.retain(|_, one| one.target || is_active(one));
        let is_due = |one: &Watched| {
            // Rounds do not come to the ns.
            let pause = if is_active(one) {
                ACTIVE_EVERY_NS / 2
            } else {
                IDLE_EVERY_NS - ACTIVE_EVERY_NS / 2
            };
            one.sampled_ns
                .is_none_or(|ns| now_ns.saturating_sub(ns) >= pause)
        };
        let mut due: Vec<_> = self
            .watched
            .iter()
            .filter(|(_, one)| is_due(one))
            .map(|(pid, one)| (one.sampled_ns, *pid))
            .collect();
        if due.len() > MAX_PROCESSES {
            due.sort_unstable();
            self.left_out += u64::try_from(due.len() - MAX_PROCESSES).unwrap_or(u64::MAX);
            due.truncate(MAX_PROCESSES);
        }
        due.into_iter().map(|(_, pid)| pid).collect()
    }

    /// Whether there are answers to wait for.
    pub(super) fn awaits(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// An answer that has come.
    pub(super) fn answer(&mut self) -> Option<Answer> {
        self.sampler.as_ref()?.answer()
    }

    /// Takes an answer.
    pub(super) fn take(&mut self, answer: &Answer, now: &Now<'_>) {
        if answer.round != self.round {
            // It was told of without.
            return;
        }
        let before = self.unanswered.len();
        self.unanswered.retain(|pid| *pid != answer.pid);
        if self.unanswered.len() < before {
            self.prepare(answer.pid, answer.read_ns, Some(answer), now);
        }
    }

    /// Prepares samples of which nothing was read in time.
    fn unread(&mut self, pids: Vec<u32>, now: &Now<'_>) {
        for pid in pids {
            self.late += 1;
            self.prepare(pid, now.ns, None, now);
        }
    }

    fn prepare(&mut self, pid: u32, read_ns: u64, read: Option<&Answer>, now: &Now<'_>) {
        let Some(watched) = self.watched.get_mut(&pid) else {
            return;
        };
        let settled_ns = settled(pid, read_ns.min(now.end_ns), now);
        let asleep = now
            .entries
            .iter()
            .filter(|entry| entry.tgid == pid && entry.in_ns == 0 && entry.asleep != 0);
        let process = read.map_or(ProcessCounters::default(), |read| read.process);
        watched.threads = process.threads.or(watched.threads);
        watched.sampled_ns = Some(now.ns);
        watched.active = false;
        let default = watched.faulting.stall_threads(now.ns, watched.threads);
        let sample = Sample {
            pid,
            time_ns: read_ns,
            settled_ns,
            stall_threads: self.asked.unwrap_or(default),
            in_fault: u32::try_from(asleep.count()).unwrap_or(u32::MAX),
            process,
            system: read.map_or(SystemCounters::default(), |read| read.system),
            pressure: read.and_then(|read| read.pressure),
        };
        self.ready.push((now.ns, sample));
    }

    /// Whether there is something to release.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Gives out what was prepared before `told_ns`, until which all that ended was told. Times
    /// become Unix time by `unix_ns`.
    pub(super) fn release(
        &mut self,
        told_ns: u64,
        unix_ns: impl Fn(u64) -> u64,
        batch: &mut Vec<Record>,
    ) {
        let told = self.ready.extract_if(.., |(at, _)| *at <= told_ns);
        batch.extend(told.map(|(_, sample)| record(&sample, &unix_ns)));
    }

    /// A process has ended, and all its faults were told: one sample more, of which nothing could be
    /// read, tells that. Gives out all that there is of it.
    pub(super) fn ended(
        &mut self,
        pid: u32,
        end_ns: u64,
        unix_ns: impl Fn(u64) -> u64,
        batch: &mut Vec<Record>,
    ) {
        self.unanswered.retain(|asked| *asked != pid);
        let Some(mut watched) = self.watched.remove(&pid) else {
            return;
        };
        let default = watched.faulting.stall_threads(end_ns, watched.threads);
        let last = Sample {
            pid,
            time_ns: end_ns,
            settled_ns: end_ns,
            stall_threads: self.asked.unwrap_or(default),
            ..Sample::default()
        };
        let had_faults = watched.faulting.latest_ns().is_some();
        let before = self.ready.extract_if(.., |(_, sample)| sample.pid == pid);
        let all = before.map(|(_, sample)| sample);
        let all = all.chain(had_faults.then_some(last));
        batch.extend(all.map(|sample| record(&sample, &unix_ns)));
    }

    /// Asks for all there is once more, before the programs are detached.
    pub(super) fn ask_last(&mut self, now: &Now<'_>) {
        for watched in self.watched.values_mut() {
            watched.sampled_ns = None;
        }
        self.ask(now);
    }

    /// Waits for the answers a little.
    pub(super) fn take_last(&mut self, now: &Now<'_>) {
        let deadline = Instant::now() + LAST_WAIT;
        while self.awaits() {
            let left = deadline.saturating_duration_since(Instant::now());
            let sampler = self.sampler.as_ref();
            let Some(answer) = sampler.and_then(|sampler| sampler.answer_within(left)) else {
                break;
            };
            self.take(&answer, now);
        }
        let unanswered = std::mem::take(&mut self.unanswered);
        self.unread(unanswered, now);
    }

    /// What was not read since the last time, to be told like any other loss.
    pub(super) fn take_losses(&mut self) -> Vec<Record> {
        let counts = [
            (NOT_SAMPLED, std::mem::take(&mut self.left_out)),
            (SAMPLED_LATE, std::mem::take(&mut self.late)),
        ];
        let lost = counts.into_iter().filter(|(_, count)| *count > 0);
        lost.map(|(reason, count)| {
            Record::Lost(Lost {
                class: LossClass::Unreadable,
                reason: reason.into(),
                count,
            })
        })
        .collect()
    }
}

fn record(sample: &Sample, unix_ns: impl Fn(u64) -> u64) -> Record {
    Record::Sample(Arc::new(Sample {
        time_ns: unix_ns(sample.time_ns),
        settled_ns: unix_ns(sample.settled_ns),
        ..*sample
    }))
}

/// Until when every fault of the process that there was has ended, or was reported as stuck; before
/// `known_ns`.
fn settled(pid: u32, known_ns: u64, now: &Now<'_>) -> u64 {
    let holds_back = |entry: &&Inflight| {
        let doubtful = entry.in_ns != 0 && now.ns.saturating_sub(entry.in_ns) > DOUBTFUL_NS;
        entry.tgid == pid && !doubtful && !now.stuck.has_told(entry)
    };
    let begins = now.entries.iter().filter(holds_back);
    let first = begins.map(|entry| entry.start_ns).min();
    let certain = known_ns.saturating_sub(MARGIN_NS);
    first.map_or(certain, |first| first.min(certain))
}

impl<'a> Now<'a> {
    /// Now, with these threads in faults.
    pub(super) fn new(entries: &'a [Inflight], stuck: &'a StuckThreads, end_ns: u64) -> Self {
        Now {
            ns: Clock::monotonic_ns(),
            entries,
            stuck,
            end_ns,
        }
    }
}
