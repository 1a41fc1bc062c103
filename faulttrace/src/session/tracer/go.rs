//! Go programs among the traced processes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use faulttrace_ebpf::goroutine::Goroutine;
use faulttrace_ebpf::{Inflight, UserRegisters, flag};

use super::{Clock, Progress, Tracer};
use crate::model::{Fault, GoProcess, LossClass, Lost, Record};
use crate::process::go_programs::{Found, GoPrograms, NoLayout};

/// Changes of GOMAXPROCS that are told of a process in a second. Programs make one now and then; one that
/// writes to the word itself can make one for each fault.
const MAX_CHANGES: u32 = 10;
const SECOND_NS: u64 = 1_000_000_000;

/// What is known of them.
#[derive(Default)]
pub(in crate::session) struct Go {
    /// `None`: they are not looked for.
    programs: Option<GoPrograms>,
    known: HashMap<u32, Known>,
    /// Changes of GOMAXPROCS that were not told when they were seen.
    procs_not_told: u64,
    /// Threads that were stuck before the start, by process, until that is asked about.
    stuck: HashMap<u32, Vec<UserRegisters>>,
    /// What such threads are at, by thread id.
    before: HashMap<u32, Goroutine>,
}

/// One of them, as it was told last.
struct Known {
    told: GoProcess,
    /// GOMAXPROCS as it was seen last.
    seen: Option<u32>,
    /// Unix time from which on changes are counted, ns.
    since_ns: u64,
    changes: u32,
}

/// What a fault shows of GOMAXPROCS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Procs {
    AsTold,
    Changed,
    /// Again, and too often to be told.
    ChangedTooOften,
}

impl Known {
    fn new(told: GoProcess) -> Self {
        Self {
            seen: told.procs,
            told,
            since_ns: 0,
            changes: 0,
        }
    }

    /// Takes what a fault shows that ended then.
    fn take_procs(&mut self, procs: u32, end_ns: u64) -> Procs {
        let is_new = self.seen.replace(procs) != Some(procs);
        if self.told.procs == Some(procs) {
            return Procs::AsTold;
        }
        if end_ns.saturating_sub(self.since_ns) >= SECOND_NS {
            (self.since_ns, self.changes) = (end_ns, 0);
        }
        if self.changes >= MAX_CHANGES {
            return if is_new {
                Procs::ChangedTooOften
            } else {
                Procs::AsTold
            };
        }
        self.changes += 1;
        self.told.procs = Some(procs);
        self.told.time_ns = end_ns;
        Procs::Changed
    }
}

impl Go {
    /// Begins to look at these processes; `stuck` are threads, with their processes, that have been stuck
    /// since before the programs were attached.
    pub(in crate::session) fn start(pids: &HashSet<u32>, stuck: Vec<(u32, UserRegisters)>) -> Self {
        let programs = GoPrograms::start()
            .map_err(|error| {
                log::warn!("Go programs are not recognised: starting a thread: {error}");
            })
            .ok();
        let mut go = Self {
            programs,
            ..Self::default()
        };
        for (pid, registers) in stuck {
            go.stuck.entry(pid).or_default().push(registers);
        }
        pids.iter().for_each(|pid| go.ask(*pid));
        go
    }

    /// A process appeared, or replaced its program.
    pub(super) fn ask(&mut self, pid: u32) {
        let stuck = self.stuck.remove(&pid).unwrap_or_default();
        if let Some(programs) = &mut self.programs {
            programs.ask(pid, stuck);
        }
    }

    /// Adds to an entry what its thread is at, if the programs could not see that.
    pub(super) fn complete(&self, entry: &mut Inflight) {
        let unseen = entry.flags & flag::NO_START != 0 && entry.goroutine == Goroutine::NONE;
        if let Some(goroutine) = self.before.get(&entry.tid).filter(|_| unseen) {
            entry.goroutine = *goroutine;
        }
    }

    fn forget(&mut self, pid: u32) -> bool {
        if let Some(programs) = &mut self.programs {
            programs.forget(pid);
        }
        self.known.remove(&pid).is_some()
    }

    fn next(&mut self) -> Option<Found> {
        self.programs.as_mut()?.take()
    }
}

impl Tracer {
    /// Takes what has been found out: from now on, the goroutines of these are told.
    pub(super) fn take_go(&mut self, progress: &mut Progress) {
        let mut not_followed = 0;
        while let Some(found) = self.go.next() {
            let mut source = None;
            match found.layout {
                Ok((layout, from)) => match self.probe.add_go(found.pid, layout) {
                    Ok(()) => source = Some(from),
                    Err(error) => {
                        log::warn!("goroutines of process {} are not told: {error}", found.pid);
                        not_followed += 1;
                    }
                },
                Err(NoLayout::NotInMemory) => not_followed += 1,
                Err(NoLayout::Unknown | NoLayout::Ended) => {}
            }
            let go = GoProcess {
                pid: found.pid,
                time_ns: self.enricher.unix_ns(Clock::monotonic_ns()),
                version: found.version,
                module: found.module,
                procs: found.procs,
                layout: source,
            };
            self.go.before.extend(found.goroutines);
            self.go.known.insert(go.pid, Known::new(go.clone()));
            progress.batch.push(Record::Go(Arc::new(go)));
        }
        let left_out = self
            .go
            .programs
            .as_mut()
            .map_or(0, GoPrograms::take_left_out);
        let counts = [
            (LossClass::Unreadable, "programs_not_looked_at", left_out),
            (
                LossClass::Unreadable,
                "go_programs_not_followed",
                not_followed,
            ),
            (
                LossClass::Unreadable,
                "go_labels_replaced",
                self.enricher.take_labels_gone(),
            ),
            (
                LossClass::Approximate,
                "go_procs_not_told",
                std::mem::take(&mut self.go.procs_not_told),
            ),
        ];
        for (class, reason, count) in counts.into_iter().filter(|(_, _, count)| *count > 0) {
            progress.batch.push(Record::Lost(Lost {
                class,
                reason: reason.into(),
                count,
            }));
        }
    }

    /// A process has ended or replaces its program.
    pub(super) fn forget_go(&mut self, pid: u32) {
        if self.go.forget(pid)
            && let Err(error) = self.probe.remove_go(pid)
        {
            log::warn!("{error}");
        }
    }

    /// Tells GOMAXPROCS if this fault shows that it has changed.
    pub(super) fn follow_procs(&mut self, fault: &Fault, progress: &mut Progress) {
        let Some(procs) = fault.facts.goroutine.as_ref().and_then(|of| of.procs) else {
            return;
        };
        let Some(known) = self.go.known.get_mut(&fault.facts.pid) else {
            return;
        };
        // One that began earlier tells what it was.
        let is_old = fault
            .facts
            .begin_ns
            .is_none_or(|begin| begin < known.told.time_ns);
        if is_old {
            return;
        }
        match known.take_procs(procs, fault.end_ns) {
            Procs::AsTold => {}
            Procs::Changed => {
                let told = Arc::new(known.told.clone());
                progress.batch.push(Record::Go(told));
            }
            Procs::ChangedTooOften => self.go.procs_not_told += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::summary::samples;

    #[test]
    fn a_gomaxprocs_that_changes_all_the_time_is_told_ten_times_a_second() {
        let Record::Go(go) = samples::go_process() else {
            panic!("not a Go program")
        };
        let begin_ns = go.time_ns;
        let mut known = Known::new(GoProcess::clone(&go));
        // 1,000 times a second, each value seen by two faults.
        let seen: Vec<Procs> = (0..3_000_u64)
            .flat_map(|at| {
                let procs = 100 + u32::try_from(at % 2).expect("0 or 1");
                let end_ns = begin_ns + at * (SECOND_NS / 1_000);
                [(); 2].map(|()| known.take_procs(procs, end_ns))
            })
            .collect();
        let count = |wanted| seen.iter().filter(|seen| **seen == wanted).count();
        assert_eq!(count(Procs::Changed), 30);
        // Those back to what was told last need not be told.
        assert_eq!(count(Procs::ChangedTooOften), (3_000 - 30) / 2);
        // What it is in the end is told with the next fault after that.
        assert_eq!(
            known.take_procs(100, begin_ns + 3 * SECOND_NS),
            Procs::Changed
        );
        assert_eq!(known.told.procs, Some(100));
    }
}
