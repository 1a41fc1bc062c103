//! Finds out which processes run a Go program, and where its runtime keeps things.
//!
//! On threads of their own: one for each process (`read`), since opening its program, and reading its memory
//! map and memory, can hang; and one for all (`finder`), which starts these and has programs read.

mod finder;
mod read;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use faulttrace_ebpf::UserRegisters;
use faulttrace_ebpf::goroutine::{GoLayout, Goroutine};

use self::finder::{Event, Finder, Open};
use super::elf_names::Names;
use super::names_helper::Helper;
use crate::model::{LayoutSource, Name};
use crate::privileges;

/// Processes that may wait to be looked at.
const QUEUE: usize = 16384;
/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process that runs a Go program.
#[derive(Debug)]
pub struct Found {
    /// Process id.
    pub pid: u32,
    /// Of Go, as the build information has it.
    pub version: Name,
    /// Path of the main module.
    pub module: Option<Name>,
    /// GOMAXPROCS; `None` if it could not be read.
    pub procs: Option<u32>,
    /// Where things are in this process, and how that is known.
    pub layout: Result<(GoLayout, LayoutSource), NoLayout>,
    /// What its threads are at that were asked about, by thread id.
    pub goroutines: Vec<(u32, Goroutine)>,
    question: u64,
}

/// Why it is not known where things are in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoLayout {
    /// The layout of this version, or on this architecture, is not known.
    Unknown,
    /// It has ended meanwhile.
    Ended,
    /// Its memory map could not be read, or does not have the program's code.
    NotInMemory,
}

/// Which process is asked about.
struct Question {
    pid: u32,
    number: u64,
    /// Threads of it that have been stuck since before the programs were attached.
    stuck: Vec<UserRegisters>,
}

/// What both sides count.
#[derive(Debug, Default)]
struct Counts {
    /// Questions that wait for a thread.
    waiting: AtomicUsize,
    /// Questions without an answer: too many others waited, or what was asked about could not be read in time.
    left_out: AtomicU64,
}

impl Counts {
    fn leave_out(&self, pid: u32, why: &str) {
        log::warn!("whether process {pid} runs a Go program is not known: {why}");
        self.left_out.fetch_add(1, Ordering::Relaxed);
    }
}

/// Asks, and takes answers.
pub struct GoPrograms {
    events: Sender<Event>,
    answers: Receiver<Found>,
    /// The last question about each process: answers to earlier ones are about a program that was
    /// replaced, or a process that has ended.
    asked: HashMap<u32, u64>,
    next: u64,
    counts: Arc<Counts>,
}

impl GoPrograms {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        Self::start_with(Box::new(Helper::default()), read::program, PATIENCE)
    }

    fn start_with(names: Box<dyn Names>, open: Open, patience: Duration) -> io::Result<Self> {
        let (events, todo) = channel();
        let (sender, answers) = channel();
        let counts = Arc::new(Counts::default());
        let mut finder = Finder::new(names, open, patience, Arc::clone(&counts));
        let to_finder = events.clone();
        thread::Builder::new()
            .name("go programs".to_owned())
            .spawn(move || {
                privileges::keep_and_hand_on(privileges::MAPS, privileges::HELPER);
                finder.run(&todo, &to_finder, &sender);
            })?;
        Ok(Self {
            events,
            answers,
            asked: HashMap::new(),
            next: 0,
            counts,
        })
    }

    /// Has a process looked at, which is new or has replaced its program; `stuck` are threads of it that
    /// have been stuck since before the programs were attached. Never waits.
    pub fn ask(&mut self, pid: u32, stuck: Vec<UserRegisters>) {
        self.next += 1;
        let number = self.next;
        self.asked.insert(pid, number);
        if self.counts.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.leave_out(pid, "too many others wait");
            return;
        }
        let question = Question { pid, number, stuck };
        if self.events.send(Event::Asked(question)).is_err() {
            self.counts.leave_out(pid, "the thread has ended");
        }
    }

    /// A process has ended, or is replacing its program.
    pub fn forget(&mut self, pid: u32) {
        self.asked.remove(&pid);
    }

    /// The next answer, if there is one.
    pub fn take(&mut self) -> Option<Found> {
        loop {
            let found = self.answers.try_recv().ok()?;
            if self.asked.get(&found.pid) == Some(&found.question) {
                return Some(found);
            }
        }
    }

    /// Of how many processes it was not found out since the last time, at all or in time.
    pub fn take_left_out(&mut self) -> u64 {
        self.counts.left_out.swap(0, Ordering::Relaxed)
    }
}

impl Drop for GoPrograms {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.events.send(Event::Over);
    }
}

#[cfg(test)]
mod tests;
