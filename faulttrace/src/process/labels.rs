//! Answers what lies at an address and what a stack's frames are called, for all processes, without
//! ever waiting long: what is late is answered with what is known, and counted.

mod user_stacks;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::elf_files::ElfFiles;
use super::kernel::KernelSymbols;
use super::known_stacks::KnownStacks;
use super::map_reader::{self, Held, MapReader};
use super::maps::FileId;
use super::names_helper::Helper;
use super::space::{Answer, FileHint, Snapshot, Space, place_of_hint};
use super::symbols::{Done, Symbols};
use crate::model::{Frame, LossClass, Lost, Name, Place, Stack};

/// How long a memory map is waited for.
const MAP_WAIT: Duration = Duration::from_millis(100);
/// How many paths are remembered by file, and how long they may be together.
const MAX_PATHS: usize = 100_000;
const MAX_PATH_BYTES: usize = 16 << 20;
/// How many address spaces are kept, and how large they may be together: of a hostile process alone,
/// some 100 MiB.
const MAX_SPACES: usize = 4096;
const MAX_SPACE_BYTES: usize = 256 << 20;

pub use user_stacks::Captured;
use user_stacks::NAME_AGAIN;

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct LabelOptions {
    /// Names of functions; without, frames have module, offset and build id.
    pub symbols: bool,
}

impl Default for LabelOptions {
    fn default() -> Self {
        Self { symbols: true }
    }
}

/// The lookups.
pub struct Labels {
    kernel: KernelSymbols,
    symbols: Option<Symbols>,
    reader: MapReader,
    spaces: HashMap<u32, Space>,
    /// Replaced at exec, so that late answers for the old program are told apart.
    epoch: u64,
    epochs: HashMap<u32, u64>,
    stacks: KnownStacks,
    /// Paths by file, over all processes: a process may end before its map was read.
    paths: HashMap<FileId, Name>,
    path_bytes: usize,
    /// Files that were seen to be mapped since the last time, if anybody asks.
    mapped: Option<Vec<FileId>>,
    counts: HashMap<&'static str, u64>,
}

impl Labels {
    /// Starts with nothing known of any process.
    pub fn start(options: LabelOptions, kernel: KernelSymbols) -> Self {
        let files = ElfFiles::default();
        let names = Box::new(Helper::default());
        let symbols = Symbols::start(names, options.symbols, files.clone())
            .map_err(|error| log::warn!("no symbols: starting a thread: {error}"))
            .ok();
        Self::new(
            kernel,
            symbols,
            MapReader::new(files, Box::new(map_reader::read)),
        )
    }

    /// Without names of user code, and with memory maps of the caller's.
    #[doc(hidden)]
    pub fn of_maps(kernel: KernelSymbols, read: fn(u32) -> io::Result<Snapshot>) -> Self {
        let read = Box::new(move |pid, _: &mut Held| read(pid));
        Self::new(kernel, None, MapReader::new(ElfFiles::default(), read))
    }

    fn new(kernel: KernelSymbols, symbols: Option<Symbols>, reader: MapReader) -> Self {
        Self {
            kernel,
            symbols,
            reader,
            spaces: HashMap::new(),
            epoch: 0,
            epochs: HashMap::new(),
            stacks: KnownStacks::default(),
            paths: HashMap::new(),
            path_bytes: 0,
            mapped: None,
            counts: HashMap::new(),
        }
    }

    /// Begins to read what will be needed of a process.
    pub fn watch(&mut self, pid: u32) {
        self.space(pid);
        self.reader.request(pid);
    }

    /// What lies at an address of a process. `hint` is the page that the kernel looked for.
    pub fn place(&mut self, pid: u32, address: Option<u64>, hint: Option<FileHint>) -> Place {
        self.absorb();
        if let Answer::Sure(place) = self.space(pid).place(address, hint) {
            self.keep_fresh(pid);
            return place;
        }
        let read = self.read_now(pid);
        let mut answer = self.space(pid).place(address, hint);
        if answer == Answer::Stale
            && let (true, Some(address), Some(hint)) = (read, address, hint)
            && let Some(path) = self.space(pid).learn_alias(address, hint)
        {
            self.remember_path(hint.id(), &path);
            answer = self.space(pid).place(Some(address), Some(hint));
        }
        let found = matches!(answer, Answer::Sure(_));
        if read {
            self.space(pid).read_helped(found);
        }
        match answer {
            Answer::Sure(place) => place,
            Answer::Stale => self.place_unread(pid, hint),
        }
    }

    /// What can be said although the memory map has no answer.
    fn place_unread(&mut self, pid: u32, hint: Option<FileHint>) -> Place {
        let path = hint.and_then(|hint| self.paths.get(&hint.id()).cloned());
        if path.is_none() {
            let reason = if self.reader.is_waiting_for(pid) {
                "mappings_late"
            } else if self.space(pid).gone {
                "mappings_unreadable"
            } else if self.space(pid).snapshot().is_none() {
                // Too many, or too large ones, are being read.
                "mappings_late"
            } else {
                "address_not_mapped"
            };
            self.count(reason, 1);
        }
        hint.map_or_else(Place::default, |hint| place_of_hint(hint, path))
    }

    /// A kernel stack with names.
    pub fn kernel_stack(&self, id: u64, frames: &[u64], truncated: bool) -> Arc<Stack> {
        let frame = |(index, address): (usize, &u64)| {
            // A return address may be behind the end of a function that ends in a call.
            let before = u64::from(index > 0);
            let found = self.kernel.resolve(address.wrapping_sub(before));
            Frame {
                address: *address,
                function: found.map(|found| Name::from(found.name)),
                offset: found.map(|found| address.wrapping_sub(found.address)),
                module: found.and_then(|found| found.module).map(Name::from),
                ..Frame::default()
            }
        };
        Arc::new(Stack {
            id,
            frames: frames.iter().enumerate().map(frame).collect(),
            truncated,
        })
    }

    /// Where kernel functions begin.
    pub fn kernel_addresses<'n>(&self, names: &HashSet<&'n str>) -> HashMap<&'n str, u64> {
        self.kernel.addresses_of(names)
    }

    /// A process has replaced its program.
    pub fn process_exec(&mut self, pid: u32) {
        self.forget(pid);
        self.epoch += 1;
        self.epochs.insert(pid, self.epoch);
        self.watch(pid);
    }

    /// A process has ended.
    pub fn forget(&mut self, pid: u32) {
        self.reader.disregard(pid);
        self.spaces.remove(&pid);
        self.epochs.remove(&pid);
        self.stacks.forget(pid);
    }

    /// Files that were seen to be mapped since the last time, some more than once. The first call has
    /// them noted.
    pub fn take_mapped(&mut self) -> Vec<FileId> {
        self.absorb();
        self.mapped.replace(Vec::new()).unwrap_or_default()
    }

    /// The path of a file that was seen to be mapped.
    pub fn path_of(&self, file: FileId) -> Option<&Name> {
        self.paths.get(&file)
    }

    /// What could not be told since the last time.
    pub fn take_counts(&mut self) -> Vec<Lost> {
        let lost = |(reason, count): (&'static str, u64)| Lost {
            class: LossClass::Unreadable,
            reason: reason.into(),
            count,
        };
        self.counts.drain().map(lost).collect()
    }

    /// Something could not be told.
    pub fn count(&mut self, reason: &'static str, count: u64) {
        *self.counts.entry(reason).or_default() += count;
    }

    fn space(&mut self, pid: u32) -> &mut Space {
        if self.spaces.len() >= MAX_SPACES && !self.spaces.contains_key(&pid) {
            self.spaces.clear();
        }
        self.spaces.entry(pid).or_default()
    }

    /// Has the map read again in the background if it is old.
    fn keep_fresh(&mut self, pid: u32) {
        let space = self.space(pid);
        if !space.gone && space.is_old(Instant::now()) {
            self.reader.request(pid);
        }
    }

    /// Reads the map and waits for it, unless that did not help just before, or is late already.
    fn read_now(&mut self, pid: u32) -> bool {
        let now = Instant::now();
        let space = self.space(pid);
        if space.gone || !space.may_read_now(now) {
            return false;
        }
        if space.waited_in_vain && self.reader.is_waiting_for(pid) {
            return false;
        }
        self.reader.request(pid);
        if !self.reader.is_waiting_for(pid) {
            // Too many reads hang already.
            return false;
        }
        let deadline = now + MAP_WAIT;
        while let Some(answer) = self.reader.next(Some(deadline)) {
            let it_is = answer.pid == pid;
            self.take_map(answer);
            if it_is {
                return true;
            }
        }
        // Waiting again at the next fault would hold up everything.
        self.space(pid).waited_in_vain = true;
        false
    }

    /// Takes whatever has arrived.
    fn absorb(&mut self) {
        while let Some(answer) = self.reader.next(None) {
            self.take_map(answer);
        }
        while let Some(done) = self.next_done(None) {
            self.take_names(done);
        }
    }

    fn take_map(&mut self, answer: map_reader::Answer) {
        let pid = answer.pid;
        match answer.result {
            Ok(snapshot) => {
                let bytes =
                    |spaces: &HashMap<u32, Space>| spaces.values().map(Space::bytes).sum::<usize>();
                if bytes(&self.spaces) > MAX_SPACE_BYTES {
                    // Those that are needed are read again.
                    self.spaces.clear();
                }
                let space = self.space(pid);
                space.update(snapshot);
                let files: Vec<(FileId, Name)> = space
                    .files()
                    .map(|(file, path)| (file, path.clone()))
                    .collect();
                if let Some(mapped) = &mut self.mapped {
                    mapped.extend(files.iter().map(|(file, _)| *file));
                }
                for (file, path) in &files {
                    self.remember_path(*file, path);
                }
            }
            Err(error) => {
                log::info!("memory map of {pid}: {error}");
                self.space(pid).fail(&error);
            }
        }
    }

    fn remember_path(&mut self, file: FileId, path: &Name) {
        let length = path.as_bytes().len();
        let room = self.paths.len() < MAX_PATHS && self.path_bytes + length <= MAX_PATH_BYTES;
        match self.paths.entry(file) {
            Entry::Vacant(new) if room => {
                new.insert(path.clone());
                self.path_bytes += length;
            }
            Entry::Occupied(mut known) if length <= known.get().as_bytes().len() || room => {
                self.path_bytes += length;
                self.path_bytes -= known.insert(path.clone()).as_bytes().len();
            }
            _ => {}
        }
    }

    fn next_done(&mut self, deadline: Option<Instant>) -> Option<Done> {
        self.symbols.as_mut()?.next(deadline)
    }

    fn take_names(&mut self, done: Done) {
        if done.unreadable > 0 {
            self.count("symbol_files_unreadable", done.unreadable);
        }
        if done.unopened > 0 {
            self.count("symbol_files_gone", done.unopened);
        }
        if self.epochs.get(&done.pid).copied().unwrap_or(0) != done.epoch {
            return;
        }
        let Done {
            pid,
            stack,
            frames,
            hides_caller,
            not_now,
            ..
        } = done;
        if hides_caller.is_none() && !not_now {
            self.count("user_callers_untold", 1);
        }
        let hides_caller = hides_caller.unwrap_or(false);
        self.stacks.name(pid, stack, frames, hides_caller);
        if not_now {
            let at = Instant::now() + NAME_AGAIN;
            self.stacks.ask_again(pid, stack, at);
        }
    }
}
