//! From what the user named to what the programs filter by.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::cli::{CommPattern, Targets};
use crate::ingest::Enricher;
use crate::probe::{self, CommTables, Filter, Probe};
use crate::process::life::Life;
use crate::process::patient_reader::PatientReader;
use crate::process::{namespaces, threads};

use super::accounting::Accounts;
use super::failure::Failure;

/// How long it may take to find out whether a process can be traced, and when it started.
const PATIENCE: Duration = Duration::from_secs(2);

/// Something whose end the session waits for.
#[derive(Debug, Clone)]
pub(super) struct Awaited {
    /// Its process.
    pub(super) pid: u32,
    /// One thread of it; `None`: all of it.
    pub(super) tid: Option<u32>,
    life: Life,
}

impl Awaited {
    /// All of a process.
    pub(super) fn process(pid: u32) -> Self {
        Self {
            pid,
            tid: None,
            life: Life::of_process(pid),
        }
    }

    fn thread(pid: u32, tid: u32) -> Self {
        Self {
            pid,
            tid: Some(tid),
            life: Life::of_thread(pid, tid),
        }
    }

    /// Whether it has ended.
    pub(super) fn is_gone(&self) -> bool {
        self.life.is_over()
    }
}

/// What is traced from the start.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// Whole processes.
    pub(super) pids: Vec<u32>,
    /// Single threads: (process, thread).
    pub(super) tids: Vec<(u32, u32)>,
    /// Processes of this name, now and later.
    pub(super) comm: Option<CommPattern>,
    /// Every process.
    pub(super) all: bool,
    /// Each of those that was named by its id, held from then on: that id may be given to another.
    named: Vec<Awaited>,
    /// Processes that had the name, and when they started.
    matched: Vec<(u32, Option<u64>)>,
    /// What the user should know of how the ids were understood.
    pub(super) notices: Vec<String>,
}

impl Chosen {
    /// Resolves and checks every id. A launched command is added later.
    pub(super) fn from_targets(
        targets: &Targets,
        reader: &mut PatientReader,
    ) -> Result<Self, Failure> {
        let mut chosen = Self::default();
        match targets {
            Targets::All => chosen.all = true,
            Targets::Command(_) => {}
            Targets::Some { pids, tids, comm } => {
                for pid in pids {
                    chosen.add_process(*pid, reader)?;
                }
                for tid in tids {
                    let pid = threads::process_of(*tid).map_err(|error| Failure::target(&error))?;
                    chosen.named.push(Awaited::thread(pid, *tid));
                    check_traceable(pid, reader)?;
                    chosen.tids.push((pid, *tid));
                }
                if let Some(pattern) = comm {
                    chosen.comm = Some(pattern.clone());
                    (chosen.matched, _) = chosen.having_the_name(reader);
                    let matched = chosen.matched.iter().map(|(pid, _)| *pid);
                    chosen.pids.extend(matched);
                }
                chosen.pids.sort_unstable();
                chosen.pids.dedup();
            }
        }
        Ok(chosen)
    }

    fn add_process(&mut self, pid: u32, reader: &mut PatientReader) -> Result<(), Failure> {
        let resolved = namespaces::resolve_pid(pid).map_err(|error| Failure::target(&error))?;
        self.named.push(Awaited::process(resolved.pid));
        check_traceable(resolved.pid, reader)?;
        self.notices.extend(resolved.notice);
        self.pids.push(resolved.pid);
        Ok(())
    }

    /// Processes of the wanted name as of now, but for those named by their ids. And those that hang as they
    /// execute another program and are left out: they are traced when they have its name, if that is wanted.
    fn having_the_name(&self, reader: &mut PatientReader) -> (Vec<(u32, Option<u64>)>, Vec<u32>) {
        let Some(pattern) = &self.comm else {
            return Default::default();
        };
        let mut pids = threads::processes_named(|name| pattern.matches(name));
        let named: HashSet<u32> = self.named.iter().map(|named| named.pid).collect();
        pids.retain(|pid| !named.contains(pid));
        let asked = pids.iter().map(|pid| (*pid, ()));
        let started = reader.ask_all(asked, PATIENCE, |pid, ()| threads::user_start_time(pid));
        let (mut having, mut late) = (Vec::new(), Vec::new());
        for (pid, started) in pids.into_iter().zip(started) {
            match started {
                Some(Ok(started)) => having.push((pid, started)),
                Some(Err(_)) => {}
                None => late.push(pid),
            }
        }
        (having, late)
    }

    /// Begins to count, before the programs are attached; what was launched has done nothing yet.
    pub(super) fn open(&self, accounts: &mut Accounts, launched: bool, reader: &mut PatientReader) {
        if launched {
            self.pids.iter().for_each(|pid| accounts.open_born(*pid));
        } else {
            accounts.open_processes(&self.pids, reader);
        }
        let is_alone = |(pid, _): &&(u32, u32)| !self.pids.contains(pid);
        for (pid, tid) in self.tids.iter().filter(is_alone) {
            accounts.open_thread(*pid, *tid, reader);
        }
    }

    /// Once the programs are attached, which from then on see who takes the wanted name and who ends: makes
    /// up for what they missed since the processes of that name were looked for. How many of them are left out.
    pub(super) fn catch_up(
        &mut self,
        probe: &mut Probe,
        enricher: &mut Enricher,
        accounts: &mut Accounts,
        reader: &mut PatientReader,
    ) -> Result<u64, probe::Error> {
        if self.comm.is_none() {
            return Ok(0);
        }
        let (now, mut late) = self.having_the_name(reader);
        late.retain(|pid| !self.matched.iter().any(|(known, _)| known == pid));
        let late = late.len() as u64;
        if late > 0 {
            log::warn!(
                "{late} processes of this name cannot be looked at, and are left out until they execute a program: reading /proc/PID/stat hangs"
            );
        }
        let before = self.matched.iter().map(|(pid, _)| *pid);
        let asked = before.clone().map(|pid| (pid, ()));
        let started = reader.ask_all(asked, PATIENCE, |pid, ()| threads::start_time(pid).ok());
        let started: HashMap<u32, _> = before.zip(started).collect();
        // Who cannot be asked in time was there a moment ago; if it ends, the programs see it.
        let is_gone = |pid, at| {
            started
                .get(&pid)
                .copied()
                .flatten()
                .is_some_and(|now| now != at)
        };
        let missed = Missed::between(&self.matched, &now, is_gone);
        log::info!("while attaching: {missed:?}");
        for pid in &missed.gone {
            accounts.forget(*pid);
        }
        probe.remove_processes(&missed.gone)?;
        let gone: HashSet<u32> = missed.gone.into_iter().collect();
        self.pids.retain(|pid| !gone.contains(pid));
        for (pid, at) in missed.came {
            accounts.open_processes(&[pid], reader);
            probe.add_processes(&[pid])?;
            // Whoever ended before that was seen by no program; from there on, the programs take it out.
            let started = reader.ask(pid, PATIENCE, |pid| threads::start_time(pid).ok());
            if started.is_none_or(|started| started == at) {
                enricher.labels().watch(pid);
                self.pids.push(pid);
            } else {
                accounts.forget(pid);
                probe.remove_processes(&[pid])?;
            }
        }
        self.pids.sort_unstable();
        Ok(late)
    }

    /// Takes a command that was launched along.
    pub(super) fn add_launched(&mut self, pid: u32) {
        self.named.push(Awaited::process(pid));
        self.pids.push(pid);
    }

    /// The filter of the programs.
    pub(super) fn filter(&self, follow: bool) -> Filter {
        Filter {
            all: self.all,
            tgids: self.pids.clone(),
            tids: self.tids.iter().map(|(_, tid)| *tid).collect(),
            follow,
            comm: self.comm.as_ref().map(|pattern| CommTables {
                masks: *pattern.masks,
                star: pattern.star,
                accept: pattern.accept,
            }),
        }
    }

    /// Every process that has something traced.
    pub(super) fn processes(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self
            .pids
            .iter()
            .copied()
            .chain(self.tids.iter().map(|(pid, _)| *pid))
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Whether new processes may join without being children of these, so that the end of these is
    /// not the end of the session.
    pub(super) fn is_open(&self) -> bool {
        self.all || self.comm.is_some()
    }

    /// The processes and threads whose end ends the session.
    pub(super) fn awaited(&self) -> Vec<Awaited> {
        if self.is_open() {
            return Vec::new();
        }
        self.named.clone()
    }

    /// Whether a thread of these is traced, as far as it existed at the start.
    pub(super) fn traces(&self, pid: u32, tid: u32) -> bool {
        self.all || self.pids.contains(&pid) || self.tids.contains(&(pid, tid))
    }
}

/// Processes of a name that came or went while the programs were being attached.
#[derive(Debug, PartialEq, Eq)]
struct Missed {
    /// They ended, and their ids may be others'.
    gone: Vec<u32>,
    /// They are traced from now on, and started then. One may have the id of one that is gone.
    came: Vec<(u32, Option<u64>)>,
}

impl Missed {
    /// `is_gone` tells whether one that started then is there no more. One that has another name now stays: it
    /// had the wanted one at the start.
    fn between(
        before: &[(u32, Option<u64>)],
        now: &[(u32, Option<u64>)],
        is_gone: impl Fn(u32, Option<u64>) -> bool,
    ) -> Self {
        let is_gone = |(pid, at): &&(u32, Option<u64>)| at.is_none() || is_gone(*pid, *at);
        // One that has ended still has a name until its parent has waited for it.
        let lives = |one: &&(u32, Option<u64>)| one.1.is_some();
        let known: HashSet<&(u32, Option<u64>)> = before.iter().collect();
        let came = now.iter().filter(lives).filter(|one| !known.contains(one));
        Self {
            gone: before.iter().filter(is_gone).map(|one| one.0).collect(),
            came: came.copied().collect(),
        }
    }
}

fn check_traceable(pid: u32, reader: &mut PatientReader) -> Result<(), Failure> {
    let checked = reader.ask(pid, PATIENCE, threads::check_traceable);
    let checked = checked.unwrap_or(Err(threads::Error::Hangs(pid)));
    checked.map_err(|error| Failure::target(&error))
}

/// A target that ended while the programs were being attached would never be seen to end, and
/// another process may have its id by now.
pub(super) fn still_there(awaited: &[Awaited], reader: &mut PatientReader) -> Result<(), Failure> {
    match awaited.iter().find(|awaited| awaited.is_gone()) {
        None => Ok(()),
        Some(gone) => {
            check_traceable(gone.pid, reader)?;
            let id = gone.tid.unwrap_or(gone.pid);
            Err(Failure::target(&threads::Error::NotFound(id)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_or_went_while_attaching_is_noticed() {
        let before = [(1, Some(10)), (2, Some(10)), (3, Some(10)), (4, None)];
        // 1 stays; 2 has another name; 3's id is another's, of the same name; 4 had ended already; 5 is new;
        // 6 has come and ended.
        let now = [(1, Some(10)), (3, Some(20)), (5, Some(30)), (6, None)];
        let is_gone = |pid, at| at != if pid == 3 { Some(20) } else { Some(10) };
        let missed = Missed::between(&before, &now, is_gone);
        assert_eq!(missed.gone, [3, 4]);
        assert_eq!(missed.came, [(3, Some(20)), (5, Some(30))]);
    }
}
