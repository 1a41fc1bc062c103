//! The thread that starts the others, and has programs read: each once, by a process that must be started by
//! a thread that stays.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::{Counts, Found, Question, read};
use crate::privileges;
use crate::process::elf_names::Names;
use crate::process::go::runtime::GoRuntime;

/// Programs that are remembered.
const MAX_PROGRAMS: usize = 1024;
/// How many processes are looked at at once, or hang in that. The others wait.
pub(super) const MAX_READS: usize = 64;
/// How often a program is read if that fails.
const TRIES: u32 = 2;
/// How often what hangs is looked for, at most.
const LONGEST_TICK: Duration = Duration::from_secs(1);

/// Opens what a process runs; `None` if it has ended.
pub(super) type Open = fn(u32) -> io::Result<Option<File>>;

/// What a program is.
#[derive(Clone)]
pub(super) enum Program {
    Go(Arc<GoRuntime>),
    Other,
    /// It could not be read.
    Unreadable,
}

/// What the thread is told.
pub(super) enum Event {
    /// By the tracer.
    Asked(Question),
    /// By a thread that waits until it is told what this is.
    Opened {
        number: u64,
        file: File,
        version: FileVersion,
        answer: SyncSender<Program>,
    },
    /// A thread has ended, with an answer, or without.
    Ended(u64, io::Result<()>),
    /// The session has.
    Over,
}

/// A file with what it holds now: a program that is installed over another may keep its inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileVersion {
    file: (u64, u64),
    size: u64,
    changed: [(i64, i64); 2],
}

impl FileVersion {
    fn of(found: &Metadata) -> Self {
        Self {
            file: (found.dev(), found.ino()),
            size: found.size(),
            changed: [
                (found.mtime(), found.mtime_nsec()),
                (found.ctime(), found.ctime_nsec()),
            ],
        }
    }
}

/// A thread that looks at a process.
struct Running {
    pid: u32,
    since: Instant,
    /// It was counted as left out.
    is_late: bool,
}

pub(super) struct Finder {
    names: Box<dyn Names>,
    open: Open,
    /// What takes longer hangs.
    patience: Duration,
    programs: HashMap<FileVersion, Program>,
    waiting: VecDeque<Question>,
    /// Threads that have not ended, by the number of their question.
    running: HashMap<u64, Running>,
    /// When a thread began, got on, or ended; or nobody waited for one.
    moved: Instant,
    counts: Arc<Counts>,
}

impl Finder {
    pub(super) fn new(
        names: Box<dyn Names>,
        open: Open,
        patience: Duration,
        counts: Arc<Counts>,
    ) -> Self {
        Self {
            names,
            open,
            patience,
            programs: HashMap::new(),
            waiting: VecDeque::new(),
            running: HashMap::new(),
            moved: Instant::now(),
            counts,
        }
    }

    /// Until the session is over.
    pub(super) fn run(
        &mut self,
        todo: &Receiver<Event>,
        events: &Sender<Event>,
        answers: &Sender<Found>,
    ) {
        while let Ok(first) = self.wait(todo) {
            let mut event = first;
            while let Some(next) = event {
                if !self.take(next) {
                    return;
                }
                self.start(events, answers);
                event = todo.try_recv().ok();
            }
            // A thread could not be started, perhaps.
            self.start(events, answers);
            self.lose_patience();
        }
    }

    /// The next event; `None` when it is time to look for what hangs.
    fn wait(&self, todo: &Receiver<Event>) -> Result<Option<Event>, RecvTimeoutError> {
        let all_are_late = self.running.values().all(|running| running.is_late);
        if self.waiting.is_empty() && all_are_late {
            return todo
                .recv()
                .map(Some)
                .map_err(|_| RecvTimeoutError::Disconnected);
        }
        match todo.recv_timeout(LONGEST_TICK.min(self.patience)) {
            Err(RecvTimeoutError::Timeout) => Ok(None),
            told => told.map(Some),
        }
    }

    /// `false` when the session is over.
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Asked(question) => {
                if self.waiting.is_empty() {
                    self.moved = Instant::now();
                }
                self.waiting.push_back(question);
            }
            Event::Opened {
                number,
                file,
                version,
                answer,
            } => {
                let program = self.program(version, &file);
                self.moved = Instant::now();
                if let Some(running) = self.running.get_mut(&number) {
                    // It has waited for us.
                    running.since = self.moved;
                }
                // It waits for it.
                let _ = answer.send(program);
            }
            Event::Ended(number, result) => {
                self.moved = Instant::now();
                let running = self.running.remove(&number);
                if let (Some(running), Err(error)) = (running.filter(|of| !of.is_late), result) {
                    self.counts.leave_out(running.pid, &error.to_string());
                }
            }
            Event::Over => return false,
        }
        true
    }

    /// What a file is. What cannot be read is tried again, but not for ever.
    fn program(&mut self, version: FileVersion, file: &File) -> Program {
        if let Some(known) = self.programs.get(&version) {
            return known.clone();
        }
        let mut program = Program::Unreadable;
        for _ in 0..TRIES {
            program = match self.names.go_runtime(file) {
                Ok(Some(found)) => Program::Go(Arc::new(found)),
                Ok(None) => Program::Other,
                Err(error) => {
                    log::warn!("whether a file is a Go program: {error}");
                    continue;
                }
            };
            break;
        }
        if self.programs.len() >= MAX_PROGRAMS {
            self.programs.clear();
        }
        self.programs.insert(version, program.clone());
        program
    }

    /// Starts threads for those that wait, as many as may be.
    fn start(&mut self, events: &Sender<Event>, answers: &Sender<Found>) {
        while self.running.len() < MAX_READS
            && let Some(question) = self.waiting.pop_front()
        {
            let (pid, number) = (question.pid, question.number);
            // Handed over once the thread is there: if it cannot be started, the question is kept.
            let (hand, handed) = sync_channel(1);
            let reader = Reader {
                open: self.open,
                events: events.clone(),
                answers: answers.clone(),
            };
            let spawned = thread::Builder::new()
                .name(format!("go of {pid}"))
                .spawn(move || {
                    privileges::keep(privileges::MAPS);
                    if let Ok(question) = handed.recv() {
                        reader.run(&question);
                    }
                });
            if let Err(error) = spawned {
                log::warn!("a thread that looks at process {pid}: {error}");
                self.waiting.push_front(question);
                return;
            }
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.moved = Instant::now();
            let running = Running {
                pid,
                since: self.moved,
                is_late: false,
            };
            self.running.insert(number, running);
            let _ = hand.send(question);
        }
    }

    /// Counts what hangs, once, and gives up those that wait if nothing gets on any more.
    fn lose_patience(&mut self) {
        let now = Instant::now();
        let is_long_ago = |then: Instant| now.saturating_duration_since(then) >= self.patience;
        for running in self.running.values_mut() {
            if !running.is_late && is_long_ago(running.since) {
                running.is_late = true;
                self.counts.leave_out(running.pid, "it hangs");
            }
        }
        if is_long_ago(self.moved) {
            for question in self.waiting.drain(..) {
                self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
                self.counts
                    .leave_out(question.pid, "too many others hang, or no thread starts");
            }
        }
    }
}

/// What a thread of one process needs.
struct Reader {
    open: Open,
    events: Sender<Event>,
    answers: Sender<Found>,
}

impl Reader {
    fn run(&self, question: &Question) {
        let result = match self.find(question) {
            Ok(Some(found)) => {
                // Nobody listens any more once the session has ended; so below.
                let _ = self.answers.send(found);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        let _ = self.events.send(Event::Ended(question.number, result));
    }

    fn find(&self, question: &Question) -> io::Result<Option<Found>> {
        let Some(file) = (self.open)(question.pid)? else {
            return Ok(None);
        };
        let metadata = file.metadata()?;
        let (answer, told) = sync_channel(1);
        let opened = Event::Opened {
            number: question.number,
            file,
            version: FileVersion::of(&metadata),
            answer,
        };
        if self.events.send(opened).is_err() {
            return Ok(None);
        }
        match told.recv() {
            Ok(Program::Go(program)) => Ok(Some(read::found(question, &metadata, &program))),
            Ok(Program::Unreadable) => Err(io::Error::other("its program cannot be read")),
            Ok(Program::Other) | Err(_) => Ok(None),
        }
    }
}
