//! From what the user named to what the programs filter by.

use crate::cli::{CommPattern, Targets};
use crate::probe::{CommTables, Filter};
use crate::process::life::Life;
use crate::process::{namespaces, threads};

use super::failure::Failure;

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
    /// What the user should know of how the ids were understood.
    pub(super) notices: Vec<String>,
}

impl Chosen {
    /// Resolves and checks every id. A launched command is added later.
    pub(super) fn from_targets(targets: &Targets) -> Result<Self, Failure> {
        let mut chosen = Self::default();
        match targets {
            Targets::All => chosen.all = true,
            Targets::Command(_) => {}
            Targets::Some { pids, tids, comm } => {
                for pid in pids {
                    chosen.add_process(*pid)?;
                }
                for tid in tids {
                    let pid = threads::process_of(*tid).map_err(|error| Failure::target(&error))?;
                    chosen.named.push(Awaited::thread(pid, *tid));
                    threads::check_traceable(pid).map_err(|error| Failure::target(&error))?;
                    chosen.tids.push((pid, *tid));
                }
                if let Some(pattern) = comm {
                    chosen
                        .pids
                        .extend(threads::processes_named(|name| pattern.matches(name)));
                    chosen.comm = Some(pattern.clone());
                }
                chosen.pids.sort_unstable();
                chosen.pids.dedup();
            }
        }
        Ok(chosen)
    }

    fn add_process(&mut self, pid: u32) -> Result<(), Failure> {
        let resolved = namespaces::resolve_pid(pid).map_err(|error| Failure::target(&error))?;
        self.named.push(Awaited::process(resolved.pid));
        threads::check_traceable(resolved.pid).map_err(|error| Failure::target(&error))?;
        self.notices.extend(resolved.notice);
        self.pids.push(resolved.pid);
        Ok(())
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

/// A target that ended while the programs were being attached would never be seen to end, and
/// another process may have its id by now.
pub(super) fn still_there(awaited: &[Awaited]) -> Result<(), Failure> {
    match awaited.iter().find(|awaited| awaited.is_gone()) {
        None => Ok(()),
        Some(gone) => {
            threads::check_traceable(gone.pid).map_err(|error| Failure::target(&error))?;
            let id = gone.tid.unwrap_or(gone.pid);
            Err(Failure::target(&threads::Error::NotFound(id)))
        }
    }
}
