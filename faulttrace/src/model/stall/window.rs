//! A stall that is being put together.

use std::collections::{HashMap, HashSet};

use super::around::Kept;
use super::{Stall, StallFile};
use crate::model::summary::FileKey;
use crate::model::{Cause, Facts};

/// Files told of a stall; faults on the rest are counted.
const FILES: usize = 8;
/// Files remembered meanwhile.
const MAX_FILES: usize = 256;
/// Threads told apart.
const MAX_THREADS: usize = 65_536;
/// When it is first told that a stall goes on, ns after its begin.
const FIRST_TOLD_NS: u64 = 100_000_000;
/// The longest pause until that is told again, ns.
const LONGEST_PAUSE_NS: u64 = 60_000_000_000;

/// The window. Reused, with its room.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) begin_ns: u64,
    pub(super) end_ns: u64,
    max_threads: u64,
    needed: u32,
    threads: HashSet<u32>,
    files: HashMap<FileKey, u64>,
    other_faults: u64,
    causes: Vec<(Option<Cause>, u64)>,
    pub(super) telling: Telling,
}

/// When to tell that something goes on.
#[derive(Debug)]
pub(super) struct Telling {
    /// When next, ns after its begin.
    next_ns: u64,
    /// It was told.
    pub(super) told: bool,
}

impl Default for Telling {
    fn default() -> Self {
        Telling {
            next_ns: FIRST_TOLD_NS,
            told: false,
        }
    }
}

impl Telling {
    /// Whether it is time, after so long.
    pub(super) fn is_due(&mut self, length_ns: u64) -> bool {
        if length_ns < self.next_ns {
            return false;
        }
        self.next_ns = length_ns.saturating_add(length_ns.min(LONGEST_PAUSE_NS));
        self.told = true;
        true
    }
}

impl Window {
    /// Begins anew.
    pub(super) fn begin(&mut self, at_ns: u64, needed: u32) {
        self.begin_ns = at_ns;
        self.end_ns = at_ns;
        self.max_threads = 0;
        self.needed = needed;
        self.threads.clear();
        self.files.clear();
        self.other_faults = 0;
        self.causes.clear();
        self.telling = Telling::default();
    }

    /// It goes on until then, with so many threads.
    pub(super) fn extend(&mut self, to_ns: u64, threads: usize, needed: u32) {
        let threads = u64::try_from(threads).unwrap_or(u64::MAX);
        self.end_ns = to_ns;
        self.max_threads = self.max_threads.max(threads);
        self.needed = self.needed.min(needed);
    }

    /// A fault in it.
    pub(super) fn add(&mut self, facts: &Facts) {
        if self.threads.len() < MAX_THREADS {
            self.threads.insert(facts.tid);
        }
        let file = FileKey::of(&facts.place);
        if let Some(faults) = self.files.get_mut(&file) {
            *faults += 1;
        } else if self.files.len() < MAX_FILES {
            self.files.insert(file, 1);
        } else {
            self.other_faults += 1;
        }
        match self.causes.iter_mut().find(|(of, _)| *of == facts.cause) {
            Some((_, faults)) => *faults += 1,
            None => self.causes.push((facts.cause, 1)),
        }
    }

    pub(super) fn length_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.begin_ns)
    }

    /// Whether it is time to tell that it goes on.
    pub(super) fn is_due(&mut self) -> bool {
        let length_ns = self.length_ns();
        self.telling.is_due(length_ns)
    }

    /// As it is told.
    pub(super) fn stall(&self, pid: u32, over: bool, samples: &Kept) -> Stall {
        let mut files: Vec<StallFile> = self
            .files
            .iter()
            .map(|(file, faults)| StallFile {
                file: file.clone(),
                faults: *faults,
            })
            .collect();
        // In one order, whatever that of the map is.
        files.sort_unstable_by(|a, b| b.faults.cmp(&a.faults).then_with(|| a.file.cmp(&b.file)));
        let rest = files.split_off(files.len().min(FILES));
        let mut causes = self.causes.clone();
        causes.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Stall {
            pid,
            begin_ns: self.begin_ns,
            duration_ns: self.length_ns(),
            over,
            threads: u64::try_from(self.threads.len()).unwrap_or(u64::MAX),
            max_threads: self.max_threads,
            needed: self.needed,
            files,
            other_faults: rest.iter().fold(self.other_faults, |sum, file| {
                sum.saturating_add(file.faults)
            }),
            causes,
            meanwhile: samples.over(self.begin_ns, self.end_ns),
        }
    }
}
