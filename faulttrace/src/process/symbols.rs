//! Names of user addresses and build ids of the files they lie in, found on a thread of its own: reading symbols can take seconds, and
//! hang with the file system that holds them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Instant;

use super::elf_files::{ElfFile, ElfFiles, FileNumber, Origin};
use super::elf_names::{Answer, ElfFrame, Names};
use super::known_stacks::bytes_of;
use super::maps::FileId;
use super::perf_map::{Jit, MAX_NAME, PerfMap};
use crate::model::{Frame, Name};
use crate::privileges;

/// How many stacks may wait for their names.
const QUEUE: usize = 1024;
/// How many addresses, and files, are remembered with their names, and how much memory these take at most.
const MAX_REMEMBERED: usize = 100_000;
const MAX_REMEMBERED_BYTES: usize = 32 << 20;
/// How many just-in-time compilers' maps are kept, and how much memory the others may take when one
/// is used.
const MAX_JITS: usize = 16;
const MAX_JIT_BYTES: usize = 128 << 20;

/// A stack whose frames want names.
pub(super) struct Job {
    pub(super) pid: u32,
    pub(super) stack: u64,
    /// Tells the address space from earlier ones of the same process.
    pub(super) epoch: u64,
    pub(super) frames: Vec<Wanted>,
    /// Find out whether frame pointers hide who called the innermost function.
    pub(super) ask_caller: bool,
}

/// A frame that wants a name.
pub(super) struct Wanted {
    /// All that is known without symbols.
    pub(super) plain: Frame,
    /// How far the instruction to look up is before `plain.address`: a return address is behind
    /// the call, perhaps in the next line.
    pub(super) before: u64,
    pub(super) source: Place,
}

/// Where the name of a frame can be found.
pub(super) enum Place {
    /// Nowhere.
    Nowhere,
    /// In a program or library.
    Elf {
        file: FileId,
        origin: Origin,
        /// Of `plain.address`.
        offset: u64,
    },
    /// In a just-in-time compiler's map.
    Jit(Jit),
}

/// A stack with names.
pub(super) struct Done {
    pub(super) pid: u32,
    pub(super) stack: u64,
    pub(super) epoch: u64,
    pub(super) frames: Vec<Frame>,
    /// Whether frame pointers hide who called the innermost function; `None` if that is not known.
    pub(super) hides_caller: Option<bool>,
    /// Files that could not be read, each told once.
    pub(super) unreadable: u64,
    /// Frames without a name because their file could not be opened.
    pub(super) unopened: u64,
    /// Nobody could be asked about some of it: it is worth while to ask again.
    pub(super) not_now: bool,
}

/// The thread, as the others see it.
pub(super) struct Symbols {
    jobs: SyncSender<Job>,
    done: Receiver<Done>,
    waiting: u64,
}

impl Symbols {
    /// `functions`: names are wanted; without, build ids alone.
    pub(super) fn start(
        names: Box<dyn Names>,
        functions: bool,
        files: ElfFiles,
    ) -> io::Result<Self> {
        let (jobs, todo) = sync_channel(QUEUE);
        let (sender, done) = channel();
        thread::Builder::new()
            .name("symbols".to_owned())
            .spawn(move || {
                privileges::keep_and_hand_on(privileges::MAPS, privileges::HELPER);
                Worker::new(names, functions, files).run(&todo, &sender);
            })?;
        Ok(Self {
            jobs,
            done,
            waiting: 0,
        })
    }

    /// Whether all that was asked is answered.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting == 0
    }

    /// Asks; `false` if there is no room.
    pub(super) fn ask(&mut self, job: Job) -> bool {
        let accepted = self.jobs.try_send(job).is_ok();
        self.waiting += u64::from(accepted);
        accepted
    }

    /// The next answer, waiting for it until `deadline`; `None` means do not wait.
    pub(super) fn next(&mut self, deadline: Option<Instant>) -> Option<Done> {
        let done = match deadline {
            None => self.done.try_recv().ok()?,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                self.done.recv_timeout(left).ok()?
            }
        };
        self.waiting = self.waiting.saturating_sub(1);
        Some(done)
    }
}

/// What the thread owns.
struct Worker {
    names: Box<dyn Names>,
    /// Names are wanted.
    functions: bool,
    files: ElfFiles,
    /// `None` for a file without one that can be read.
    build_ids: HashMap<FileNumber, Option<Name>>,
    remembered: HashMap<(FileNumber, u64), Arc<[Frame]>>,
    remembered_bytes: usize,
    /// As in [`Done`], by the place of the instruction.
    hiding: HashMap<(FileNumber, u64), Option<bool>>,
    jits: HashMap<Jit, PerfMap>,
    /// Files that cannot be read.
    unreadable: HashSet<FileNumber>,
    /// How many of them are new since the last answer.
    newly_unreadable: u64,
    /// Frames whose file could not be opened or asked about, since the last answer.
    unopened: u64,
    /// Nobody could be asked about something, since the last answer.
    not_now: bool,
}

impl Worker {
    fn new(names: Box<dyn Names>, functions: bool, files: ElfFiles) -> Self {
        Self {
            names,
            functions,
            files,
            build_ids: HashMap::new(),
            remembered: HashMap::new(),
            remembered_bytes: 0,
            hiding: HashMap::new(),
            jits: HashMap::new(),
            unreadable: HashSet::new(),
            newly_unreadable: 0,
            unopened: 0,
            not_now: false,
        }
    }

    /// What was answered; notes that nobody could be.
    fn answered<T>(&mut self, answer: Answer<T>) -> Option<Option<T>> {
        self.not_now |= answer.is_err();
        answer.ok()
    }

    fn run(mut self, todo: &Receiver<Job>, sender: &Sender<Done>) {
        while let Ok(job) = todo.recv() {
            let mut frames = Vec::with_capacity(job.frames.len());
            let innermost = job.frames.first().filter(|_| job.ask_caller);
            let hides_caller = innermost.map_or(Some(false), |wanted| self.hides_caller(wanted));
            for wanted in job.frames {
                self.name(wanted, &mut frames);
            }
            let not_now = std::mem::take(&mut self.not_now);
            // What is asked again is not without a name for good.
            let unopened = std::mem::take(&mut self.unopened) * u64::from(!not_now);
            let done = Done {
                pid: job.pid,
                stack: job.stack,
                epoch: job.epoch,
                frames,
                hides_caller,
                unreadable: std::mem::take(&mut self.newly_unreadable),
                unopened,
                not_now,
            };
            if sender.send(done).is_err() {
                return;
            }
        }
    }

    /// Whether frame pointers hide who called the function of an innermost frame.
    fn hides_caller(&mut self, innermost: &Wanted) -> Option<bool> {
        let (file, origin, offset) = match &innermost.source {
            Place::Elf {
                file,
                origin,
                offset,
            } => (self.files.get(*file)?, origin, offset),
            // Code without a file has no tables.
            Place::Nowhere | Place::Jit(_) => return Some(false),
        };
        let key = (file.number, *offset);
        if let Some(known) = self.hiding.get(&key) {
            return *known;
        }
        // Not remembered, so tried again: through another process, or later, it may succeed.
        let opened = file.open(origin)?;
        let found = self.names.hides_caller(file.number, &opened, *offset);
        let found = self.answered(found)?;
        if self.hiding.len() >= MAX_REMEMBERED {
            self.hiding.clear();
        }
        self.hiding.insert(key, found);
        found
    }

    /// Adds a frame and those inlined into it.
    fn name(&mut self, wanted: Wanted, frames: &mut Vec<Frame>) {
        let Wanted {
            plain,
            before,
            source,
        } = wanted;
        match source {
            Place::Nowhere => frames.push(plain),
            Place::Jit(_) if !self.functions => frames.push(plain),
            Place::Jit(jit) => frames.push(self.jit_frame(jit, plain, before)),
            Place::Elf {
                file,
                origin,
                offset,
            } => {
                let Some(file) = self.files.get(file) else {
                    self.unopened += 1;
                    frames.push(plain);
                    return;
                };
                let build_id = self.build_id(&file, &origin);
                if build_id.is_none() && !self.functions {
                    self.unopened += 1;
                }
                let plain = Frame {
                    build_id: build_id.flatten(),
                    ..plain
                };
                if self.functions {
                    let key = (file.number, offset.wrapping_sub(before));
                    self.name_elf(key, &file, &origin, plain, before, frames);
                } else {
                    frames.push(plain);
                }
            }
        }
    }

    fn name_elf(
        &mut self,
        key: (FileNumber, u64),
        file: &ElfFile,
        origin: &Origin,
        plain: Frame,
        before: u64,
        frames: &mut Vec<Frame>,
    ) {
        let found = match self.remembered.get(&key) {
            Some(found) => Arc::clone(found),
            None => self.remember(key, file, origin),
        };
        if found.is_empty() {
            frames.push(plain);
            return;
        }
        frames.extend(found.iter().map(|frame| Frame {
            address: plain.address,
            offset: frame.offset.map(|offset| offset.saturating_add(before)),
            module: plain.module.clone(),
            module_offset: plain.module_offset,
            build_id: plain.build_id.clone(),
            ..frame.clone()
        }));
    }

    /// Asked once for each file; `None` if it could not be opened or asked about, which may succeed through
    /// another process, or later.
    fn build_id(&mut self, file: &ElfFile, origin: &Origin) -> Option<Option<Name>> {
        if let Some(known) = self.build_ids.get(&file.number) {
            return Some(known.clone());
        }
        let opened = file.open(origin)?;
        let found = self.names.build_id(file.number, &opened);
        let found = self.answered(found)?;
        let found = found.map(|bytes| Name::from(bytes.as_slice()));
        if self.build_ids.len() >= MAX_REMEMBERED {
            self.build_ids.clear();
        }
        self.build_ids.insert(file.number, found.clone());
        Some(found)
    }

    fn jit_frame(&mut self, jit: Jit, plain: Frame, before: u64) -> Frame {
        let bytes: usize = self.jits.values().map(PerfMap::bytes).sum();
        if (self.jits.len() >= MAX_JITS && !self.jits.contains_key(&jit)) || bytes > MAX_JIT_BYTES {
            self.jits.retain(|other, _| *other == jit);
        }
        let map = self.jits.entry(jit).or_default();
        match map.find(jit, plain.address.wrapping_sub(before)) {
            None => plain,
            Some((name, start)) => Frame {
                function: Some(name),
                offset: Some(plain.address.wrapping_sub(start)),
                ..plain
            },
        }
    }

    fn remember(
        &mut self,
        key: (FileNumber, u64),
        file: &ElfFile,
        origin: &Origin,
    ) -> Arc<[Frame]> {
        if self.remembered.len() >= MAX_REMEMBERED || self.remembered_bytes > MAX_REMEMBERED_BYTES {
            self.remembered.clear();
            self.remembered_bytes = 0;
        }
        let Some(frames) = self.look_up(key, file, origin) else {
            self.unopened += 1;
            return Arc::new([]);
        };
        self.remembered_bytes += bytes_of(&frames);
        let frames: Arc<[Frame]> = frames.into();
        self.remembered.insert(key, Arc::clone(&frames));
        frames
    }

    /// Empty if there is no name; `None` if the file could not be opened or asked about, which may succeed
    /// through another process, or later.
    fn look_up(
        &mut self,
        key: (FileNumber, u64),
        file: &ElfFile,
        origin: &Origin,
    ) -> Option<Vec<Frame>> {
        if self.unreadable.contains(&key.0) {
            return Some(Vec::new());
        }
        let opened = file.open(origin)?;
        let found = self.names.look_up(key.0, &opened, key.1);
        let found = self.answered(found)?;
        if found.is_none() {
            if self.unreadable.len() >= MAX_REMEMBERED {
                self.unreadable.clear();
            }
            self.unreadable.insert(key.0);
            self.newly_unreadable += 1;
        }
        Some(found.unwrap_or_default().iter().map(frame_of).collect())
    }
}

fn frame_of(found: &ElfFrame) -> Frame {
    Frame {
        function: Some(cut(found.function.as_bytes())),
        offset: found.offset,
        file: found.file.as_deref().map(cut),
        line: found.line,
        inlined: found.inlined,
        ..Frame::default()
    }
}

fn cut(name: &[u8]) -> Name {
    Name::from(name.get(..MAX_NAME).unwrap_or(name))
}

#[cfg(test)]
mod tests;
