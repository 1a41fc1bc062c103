//! Go programs among the traced processes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use faulttrace_ebpf::goroutine::Goroutine;
use faulttrace_ebpf::{Inflight, UserRegisters, flag};

use super::{Clock, Progress, Tracer};
use crate::model::{Fault, GoProcess, LossClass, Lost, Record};
use crate::process::go_programs::{Found, GoPrograms, NoLayout};

/// What is known of them.
#[derive(Default)]
pub(in crate::session) struct Go {
    /// `None`: they are not looked for.
    programs: Option<GoPrograms>,
    known: HashMap<u32, GoProcess>,
    /// Threads that were stuck before the start, by process, until that is asked about.
    stuck: HashMap<u32, Vec<UserRegisters>>,
    /// What such threads are at, by thread id.
    before: HashMap<u32, Goroutine>,
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
            self.go.known.insert(go.pid, go.clone());
            progress.batch.push(Record::Go(Arc::new(go)));
        }
        let left_out = self
            .go
            .programs
            .as_mut()
            .map_or(0, GoPrograms::take_left_out);
        let counts = [
            ("programs_not_looked_at", left_out),
            ("go_programs_not_followed", not_followed),
            ("go_labels_replaced", self.enricher.take_labels_gone()),
        ];
        for (reason, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            progress.batch.push(Record::Lost(Lost {
                class: LossClass::Unreadable,
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
            .is_none_or(|begin| begin < known.time_ns);
        if known.procs == Some(procs) || is_old {
            return;
        }
        known.procs = Some(procs);
        known.time_ns = fault.end_ns;
        progress.batch.push(Record::Go(Arc::new(known.clone())));
    }
}
