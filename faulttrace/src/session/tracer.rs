//! The tracer's thread: drains the ring, watches stuck threads, counts losses, notices the end of
//! what is traced.

mod ahead;
pub(super) mod awaited;
pub(super) mod bounds;
mod cache;
pub(super) mod ends;
mod finish;
pub(super) mod go;
pub(super) mod known;
mod look;
pub(super) mod samples;

use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use aya::programs::perf_event::PerfEventLinkId;
use aya_log::EbpfLogger;
use faulttrace_ebpf::counter::{self, Class};
use faulttrace_ebpf::{COMM_LEN, TaskEvent, flag, goroutine, kind};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc::Sender;

use self::awaited::AwaitedEnds;
use self::bounds::Bounds;
use self::go::Go;
use self::known::Known;
use self::samples::Samples;
use super::accounting::Accounts;
use super::stuck::StuckThreads;
use super::targets::Awaited;
use crate::ingest::{Clock, Decoded, Enricher, Malformed, Stacks, decode, name_of};
use crate::model::{LossClass, Lost, ProcessEnd, ProcessInfo, Record};
use crate::privileges;
use crate::probe::{self, Counters, KernelFunctions, Probe, RawStack, RunningKernel};
use crate::process::kernel::{self, KernelSymbols};
use crate::process::patient_reader::PatientReader;
use crate::process::threads;

/// How long the ring may rest before it is looked at.
const REST_MS: u16 = 10;
/// How often the threads in a fault are looked at.
const STUCK_EVERY: Duration = Duration::from_millis(25);
/// Looking is to take at most this part of the time.
const LOOK_SHARE: u32 = 10;
/// How often losses are told, and the targets' life is checked.
const HOUSEKEEPING_EVERY: Duration = Duration::from_millis(250);
/// How long at least between two searches for stacks that are not needed any more.
const SWEEP_PAUSE: Duration = Duration::from_secs(10);
/// The same after several that found none.
const LONGEST_SWEEP_PAUSE: Duration = Duration::from_secs(600);
/// How long it may take to find out which program a process executes: the ring is not drained meanwhile.
const PATH_PATIENCE: Duration = Duration::from_millis(250);
/// Records handed over at once.
const BATCH: usize = 1024;
/// How often a thread is looked at whose fault may be over.
const ASK_PERIOD_NS: u64 = 1_000_000;

/// What can go wrong while tracing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Probe(#[from] probe::Error),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("poll the ring: {0}")]
    Poll(#[from] nix::Error),
}

impl Stacks for Probe {
    fn stack(&self, id: u64) -> Option<RawStack> {
        Probe::stack(self, id)
    }

    fn go_labels(&self, id: u64) -> Option<goroutine::Labels> {
        Probe::go_labels(self, id)
    }
}

impl KernelFunctions for KernelSymbols {
    fn range_of(&self, name: &str) -> Option<Range<u64>> {
        KernelSymbols::range_of(self, name)
    }

    fn ranges_of(&self, wanted: &dyn Fn(&str) -> bool) -> Vec<Range<u64>> {
        KernelSymbols::ranges_of(self, wanted)
    }
}

/// What a start needs to know of the kernel. Read at the same time, since each takes a while.
pub(super) fn read_kernel() -> (
    Result<KernelSymbols, kernel::Error>,
    Result<RunningKernel, probe::Error>,
) {
    std::thread::scope(|scope| {
        let types = scope.spawn(RunningKernel::read);
        let symbols = KernelSymbols::load();
        let types = types.join();
        (symbols, types.unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// Everything the thread owns.
pub(super) struct Tracer {
    pub(super) probe: Probe,
    pub(super) ring: RingBuf<MapData>,
    pub(super) bounds: Bounds,
    pub(super) enricher: Enricher,
    pub(super) stuck: StuckThreads,
    pub(super) samples: Samples,
    pub(super) go: Go,
    pub(super) accounts: Accounts,
    pub(super) reader: PatientReader,
    pub(super) logger: Option<EbpfLogger<&'static dyn log::Log>>,
    /// Whose end ends the session; empty for `--all` and `--comm`.
    pub(super) awaited: AwaitedEnds,
    /// See [`ends::rounds_of`].
    pub(super) rounds: usize,
    /// The session goes on until it is told to stop.
    pub(super) endless: bool,
    /// Children are traced too, so their end is awaited as well.
    pub(super) follow: bool,
    /// Processes already introduced.
    pub(super) known: Known,
    /// Processes that are not traced though they have the wanted name, and of which nobody has been told.
    pub(super) not_added: u64,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) out: Sender<Vec<Record>>,
}

/// What changes as the thread runs.
#[derive(Default)]
struct Progress {
    batch: Vec<Record>,
    events: Vec<Decoded>,
    told: Counters,
    received: u64,
    /// The latest end of a fault that was told, by the programs' clock.
    told_ns: u64,
    unknown_kinds: u64,
    outside: u64,
    reused: u64,
    /// When stacks may be searched for those that are not needed any more, and how long a search that
    /// finds none puts off the next.
    sweep: Option<(Instant, Duration)>,
    watched: HashMap<u32, PerfEventLinkId>,
    ahead: ahead::Ahead,
    cache: cache::Cache,
    /// Awaited processes whose last thread was seen to end, with the programs' time of that. Others of
    /// their threads, counted off before it, may tell of their end later.
    over: HashMap<u32, u64>,
    /// The session's receiver is gone: nothing more is wanted.
    closed: bool,
}

impl Tracer {
    /// Starts the thread.
    pub(super) fn spawn(self) -> std::io::Result<JoinHandle<Result<(), Error>>> {
        std::thread::Builder::new()
            .name("tracer".to_owned())
            .spawn(move || {
                privileges::keep(privileges::TRACER);
                self.run()
            })
    }

    /// Runs until told to stop or until everything traced has ended.
    fn run(mut self) -> Result<(), Error> {
        let mut progress = Progress::default();
        let (mut stuck_at, mut housekeeping_at) = (Instant::now(), Instant::now());
        while !self.stop.load(Ordering::Relaxed) && !progress.closed {
            let taken = self.drain(&mut progress)?;
            self.release_samples(taken, &mut progress);
            if taken == 0 {
                self.rest()?;
            }
            let now = Instant::now();
            if now >= stuck_at {
                self.look_at_stuck(&mut progress);
                // With thousands of threads stuck, looking at them takes a while itself.
                stuck_at = now + STUCK_EVERY.max(now.elapsed() * LOOK_SHARE);
            }
            if now >= housekeeping_at {
                self.housekeeping(&mut progress)?;
                housekeeping_at = now + HOUSEKEEPING_EVERY;
            }
            self.sample(now);
            self.look_at_cache(&mut progress)?;
            self.look_at_read_ahead(&mut progress)?;
            self.take_go(&mut progress);
            self.settle(&mut progress)?;
            self.hand_over(&mut progress);
            if !self.endless && self.awaited.is_empty() {
                break;
            }
        }
        self.finish(progress)
    }

    /// Takes what is in the ring; returns how many records that were.
    fn drain(&mut self, progress: &mut Progress) -> Result<usize, Error> {
        let mut events = std::mem::take(&mut progress.events);
        events.clear();
        while events.len() < BATCH
            && let Some(item) = self.ring.next()
        {
            events.push(decode(&item)?);
        }
        for event in &events {
            self.event(event, progress)?;
        }
        let taken = events.len();
        progress.events = events;
        Ok(taken)
    }

    fn event(&mut self, event: &Decoded, progress: &mut Progress) -> Result<(), Error> {
        match event {
            Decoded::Fault(event) => {
                progress.received += 1;
                if self.bounds.leave_out(event) {
                    progress.outside += 1;
                    return Ok(());
                }
                let pid = event.tgid;
                if progress
                    .over
                    .get(&pid)
                    .is_some_and(|at| event.start_ns > *at)
                {
                    // Of a new process with the id of one that was traced.
                    progress.reused += 1;
                    return Ok(());
                }
                self.introduce(pid, &event.comm, event.end_ns, progress);
                let mut fault = self.enricher.fault(event, &self.probe);
                self.add_history(&mut fault, event.start_ns, progress)?;
                self.follow_procs(&fault, progress);
                self.samples.fault(pid, fault.facts.tid, event.end_ns);
                progress.told_ns = progress.told_ns.max(event.end_ns);
                progress.batch.push(Record::Fault(Arc::new(fault)));
            }
            Decoded::Task(event) => self.task(event, progress),
            Decoded::History(event) => progress.cache.keep(event),
            Decoded::Io(event) => self.enricher.io(event),
            Decoded::Goroutine(event) => self.enricher.goroutine(event),
            Decoded::Unknown(_) => progress.unknown_kinds += 1,
        }
        Ok(())
    }

    fn task(&mut self, event: &TaskEvent, progress: &mut Progress) {
        let pid = event.tgid;
        match event.kind {
            // Of a new process with the id of one that was traced.
            kind::EXEC if progress.over.contains_key(&pid) => {}
            kind::EXEC => {
                self.enricher.process_exec(pid);
                self.forget_go(pid);
                self.known.remove(pid);
                self.introduce(pid, &event.comm, event.time_ns, progress);
            }
            kind::ADDED => {
                self.forget_former(event, progress);
                if self.follow {
                    self.accounts
                        .open_joined(pid, event.flags & flag::BORN != 0);
                    if !self.endless {
                        self.awaited.push(Awaited::process(pid));
                    }
                }
                self.introduce(pid, &event.comm, event.time_ns, progress);
            }
            _ => {
                let last = event.flags & flag::GROUP_DEAD != 0;
                self.accounts.exited(pid, event.tid, event.maj_flt, last);
                self.awaited.thread_ended(pid, event.tid);
                if last {
                    self.process_ended(pid, event.time_ns, progress);
                    if self.awaited.has(pid) {
                        progress.over.entry(pid).or_insert(event.time_ns);
                    }
                }
            }
        }
        log::debug!(
            "task event {} of {} ({})",
            event.kind,
            pid,
            String::from_utf8_lossy(name_of(&event.comm).as_bytes()).escape_debug()
        );
    }

    /// `at_ns`: by the programs' clock.
    fn process_ended(&mut self, pid: u32, at_ns: u64, progress: &mut Progress) {
        let enricher = &self.enricher;
        let unix_ns = |ns| enricher.unix_ns(ns);
        self.samples.ended(pid, at_ns, unix_ns, &mut progress.batch);
        let time_ns = enricher.unix_ns(at_ns);
        self.forget_go(pid);
        for id in self.enricher.forget(pid) {
            self.probe.forget_stack(id);
        }
        if self.known.remove(pid) {
            progress
                .batch
                .push(Record::ProcessEnd(ProcessEnd { pid, time_ns }));
        }
    }

    /// Tells who a process is when its id appears for the first time; it was there at this time, by the
    /// programs' clock.
    fn introduce(&mut self, pid: u32, comm: &[u8; COMM_LEN], at_ns: u64, progress: &mut Progress) {
        if !self.known.insert(pid, at_ns) {
            return;
        }
        self.go.ask(pid);
        let exe = self.reader.ask(pid, PATH_PATIENCE, threads::executable);
        if exe.is_none() {
            self.enricher.labels().count("program_paths_late", 1);
        }
        let info = ProcessInfo {
            pid,
            // It may have ended since; then the name that the kernel told must do.
            name: threads::name(pid).unwrap_or_else(|_| name_of(comm)),
            exe: exe.flatten(),
        };
        progress.batch.push(Record::Process(Arc::new(info)));
    }

    fn housekeeping(&mut self, progress: &mut Progress) -> Result<(), Error> {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
        self.tell_losses(progress)?;
        let ended = self.accounts.take_ended(Instant::now());
        progress
            .batch
            .extend(ended.into_iter().map(Record::Accounting));
        // An exit event can be lost with a full ring; the absence of the process cannot.
        let gone = self.awaited.gone();
        if gone.is_empty() {
            return Ok(());
        }
        // Its exit may be in the ring yet.
        self.drain_all(progress)?;
        for (pid, tid) in gone {
            // Gone all the same, not another one with the same id that was added meanwhile.
            let missed = self.awaited.forget_gone_one(pid, tid);
            let seen = progress.over.remove(&pid).is_some();
            if missed && tid.is_none() && !seen {
                self.process_ended(pid, Clock::monotonic_ns(), progress);
            }
        }
        Ok(())
    }

    /// Tells what the counters say has been lost since the last time.
    fn tell_losses(&mut self, progress: &mut Progress) -> Result<(), Error> {
        let now = self.probe.counters()?;
        for (index, (name, class)) in (0..counter::COUNT).zip(counter::ALL) {
            let count = now.get(index) - progress.told.get(index).min(now.get(index));
            if let Some(class) = loss_class(class)
                && count > 0
            {
                progress.batch.push(Record::Lost(Lost {
                    class,
                    reason: name.into(),
                    count,
                }));
            }
        }
        if now.get(counter::TASKS_LOST) > 0 {
            self.accounts.tasks_lost();
        }
        let full = now.get(counter::STACKS_FULL) > progress.told.get(counter::STACKS_FULL);
        let (due, pause) = progress.sweep.unwrap_or((Instant::now(), SWEEP_PAUSE));
        if full && Instant::now() >= due {
            // Some were recorded for faults that were then held back or lost.
            let swept = self.probe.sweep_stacks(threads::exists);
            log::info!("forgot {swept} stacks of processes that have ended");
            let pause = next_pause(pause, swept);
            progress.sweep = Some((Instant::now() + pause, pause));
        }
        progress.told = now;
        progress.batch.extend(self.samples.take_losses());
        progress.batch.extend(progress.cache.take_losses());
        let unknown = std::mem::take(&mut progress.unknown_kinds);
        let outside = std::mem::take(&mut progress.outside);
        let reused = std::mem::take(&mut progress.reused);
        let unseen = self.enricher.take_unseen_completions();
        for (class, reason, count) in [
            (LossClass::Filtered, "id_reused", reused),
            (LossClass::Lost, "unknown_record", unknown),
            (
                LossClass::Lost,
                "filter_full",
                std::mem::take(&mut self.not_added),
            ),
            (LossClass::Unreadable, "io_completions_unseen", unseen),
            (LossClass::Filtered, "ended_while_attaching", outside),
        ] {
            if count > 0 {
                progress.batch.push(Record::Lost(Lost {
                    class,
                    reason: reason.into(),
                    count,
                }));
            }
        }
        progress.batch.extend(
            self.enricher
                .labels()
                .take_counts()
                .into_iter()
                .map(Record::Lost),
        );
        Ok(())
    }

    fn hand_over(&mut self, progress: &mut Progress) {
        if progress.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut progress.batch);
        progress.closed |= self.out.blocking_send(batch).is_err();
    }

    fn rest(&self) -> Result<(), Error> {
        let mut fds = [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(REST_MS)) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// How long not to search for stacks that are not needed, after so many were found.
fn next_pause(last: Duration, swept: usize) -> Duration {
    if swept > 0 {
        SWEEP_PAUSE
    } else {
        (last * 2).min(LONGEST_SWEEP_PAUSE)
    }
}

fn loss_class(class: Class) -> Option<LossClass> {
    match class {
        Class::Diagnostic => None,
        Class::Lost => Some(LossClass::Lost),
        Class::Filtered => Some(LossClass::Filtered),
        Class::Approximate => Some(LossClass::Approximate),
        Class::Unreadable => Some(LossClass::Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_that_find_nothing_become_rare() {
        let twice = next_pause(SWEEP_PAUSE, 0);
        assert_eq!(twice, SWEEP_PAUSE * 2);
        assert_eq!(next_pause(LONGEST_SWEEP_PAUSE, 0), LONGEST_SWEEP_PAUSE);
        assert_eq!(next_pause(twice, 1), SWEEP_PAUSE);
    }
}
