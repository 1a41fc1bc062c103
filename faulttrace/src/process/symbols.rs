//! Names of user addresses and build ids of the files they lie in, found on a thread of its own: reading symbols can take seconds, and
//! hang with the file system that holds them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Instant;

use super::elf_files::{ElfFile, Origin};
use super::elf_names::{ElfFrame, Names};
use super::known_stacks::bytes_of;
use super::maps::FileId;
use super::perf_map::{Jit, MAX_NAME, PerfMap};
use crate::model::{Frame, Name};
use crate::privileges;

/// How many stacks may wait for their names.
const QUEUE: usize = 1024;
/// How many addresses are remembered with their names, and how much memory these take at most.
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
    /// In a file, but too many are open already.
    TooManyFiles,
    /// In a program or library.
    Elf {
        file: Arc<ElfFile>,
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
    /// Files that could not be read, each told once.
    pub(super) unreadable: u64,
    /// Frames without a name because their file could not be opened.
    pub(super) unopened: u64,
}

/// The thread, as the others see it.
pub(super) struct Symbols {
    jobs: SyncSender<Job>,
    done: Receiver<Done>,
    waiting: u64,
}

impl Symbols {
    /// `functions`: names are wanted; without, build ids alone.
    pub(super) fn start(names: Box<dyn Names>, functions: bool) -> io::Result<Self> {
        let (jobs, todo) = sync_channel(QUEUE);
        let (sender, done) = channel();
        thread::Builder::new()
            .name("symbols".to_owned())
            .spawn(move || {
                privileges::keep_and_hand_on(privileges::MAPS, privileges::HELPER);
                Worker::new(names, functions).run(&todo, &sender);
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
    /// `None` for a file without one that can be read.
    build_ids: HashMap<FileId, Option<Name>>,
    remembered: HashMap<(FileId, u64), Arc<[Frame]>>,
    remembered_bytes: usize,
    jits: HashMap<Jit, PerfMap>,
    /// Files that cannot be read.
    unreadable: HashSet<FileId>,
    /// How many of them are new since the last answer.
    newly_unreadable: u64,
    /// Frames whose file could not be opened, since the last answer.
    unopened: u64,
}

impl Worker {
    fn new(names: Box<dyn Names>, functions: bool) -> Self {
        Self {
            names,
            functions,
            build_ids: HashMap::new(),
            remembered: HashMap::new(),
            remembered_bytes: 0,
            jits: HashMap::new(),
            unreadable: HashSet::new(),
            newly_unreadable: 0,
            unopened: 0,
        }
    }

    fn run(mut self, todo: &Receiver<Job>, sender: &Sender<Done>) {
        while let Ok(job) = todo.recv() {
            let mut frames = Vec::with_capacity(job.frames.len());
            for wanted in job.frames {
                self.name(wanted, &mut frames);
            }
            let done = Done {
                pid: job.pid,
                stack: job.stack,
                epoch: job.epoch,
                frames,
                unreadable: std::mem::take(&mut self.newly_unreadable),
                unopened: std::mem::take(&mut self.unopened),
            };
            if sender.send(done).is_err() {
                return;
            }
        }
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
            Place::TooManyFiles => {
                self.unopened += 1;
                frames.push(plain);
            }
            Place::Jit(_) if !self.functions => frames.push(plain),
            Place::Jit(jit) => frames.push(self.jit_frame(jit, plain, before)),
            Place::Elf {
                file,
                origin,
                offset,
            } => {
                let build_id = self.build_id(&file, &origin);
                if build_id.is_none() && !self.functions {
                    self.unopened += 1;
                }
                let plain = Frame {
                    build_id: build_id.flatten(),
                    ..plain
                };
                if self.functions {
                    let key = (file.id, offset.wrapping_sub(before));
                    self.name_elf(key, &file, &origin, plain, before, frames);
                } else {
                    frames.push(plain);
                }
            }
        }
    }

    fn name_elf(
        &mut self,
        key: (FileId, u64),
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

    /// Asked once for each file; `None` if it could not be opened, which may succeed through another
    /// process.
    fn build_id(&mut self, file: &ElfFile, origin: &Origin) -> Option<Option<Name>> {
        if let Some(known) = self.build_ids.get(&file.id) {
            return Some(known.clone());
        }
        let opened = file.open(origin)?;
        let found = self.names.build_id(file.id, &opened);
        let found = found.map(|bytes| Name::from(bytes.as_slice()));
        self.build_ids.insert(file.id, found.clone());
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

    fn remember(&mut self, key: (FileId, u64), file: &ElfFile, origin: &Origin) -> Arc<[Frame]> {
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

    /// Empty if there is no name; `None` if the file could not be opened, which may succeed through
    /// another process.
    fn look_up(
        &mut self,
        key: (FileId, u64),
        file: &ElfFile,
        origin: &Origin,
    ) -> Option<Vec<Frame>> {
        if self.unreadable.contains(&key.0) {
            return Some(Vec::new());
        }
        let opened = file.open(origin)?;
        let found = self.names.look_up(key.0, &opened, key.1);
        if found.is_none() {
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
mod tests {
    use super::*;
    use crate::process::elf_files::ElfFiles;
    use crate::process::elf_names::InProcess;
    use crate::process::go::runtime::GoRuntime;
    use crate::process::maps;
    use std::fs::File;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn wanted(address: u64) -> Wanted {
        let pid = std::process::id();
        let (mappings, _) = maps::parse(&std::fs::read("/proc/self/maps").expect("maps"));
        let mapping = mappings
            .iter()
            .find(|mapping| mapping.range.contains(&address))
            .expect("mapped");
        Wanted {
            plain: Frame {
                address,
                module: mapping.path.clone(),
                ..Frame::default()
            },
            before: 1,
            source: Place::Elf {
                file: ElfFiles::default()
                    .get(mapping.file.expect("a file"))
                    .expect("room"),
                origin: Origin::new(pid, mapping),
                offset: mapping.offset_of(address),
            },
        }
    }

    fn named(wanted: Wanted, functions: bool) -> Done {
        let names = Box::new(InProcess::default());
        let mut symbols = Symbols::start(names, functions).expect("started");
        assert!(symbols.ask(Job {
            pid: 1,
            stack: 2,
            epoch: 3,
            frames: vec![wanted],
        }));
        assert!(!symbols.is_idle());
        let done = symbols.next(Some(Instant::now() + Duration::from_secs(60)));
        assert!(symbols.is_idle());
        done.expect("answered in a minute")
    }

    #[test]
    fn our_own_function_has_a_name_and_a_line() {
        let here = our_own_function_has_a_name_and_a_line as *const () as u64;
        let done = named(wanted(here + 5), true);
        assert_eq!((done.pid, done.stack, done.epoch), (1, 2, 3));
        let frame = done.frames.last().expect("a frame");
        let function = frame.function.as_ref().expect("a name").as_bytes();
        assert!(
            function.ends_with(b"our_own_function_has_a_name_and_a_line"),
            "{}",
            function.escape_ascii()
        );
        assert_eq!(frame.offset, Some(5));
        assert!(
            frame
                .file
                .as_ref()
                .is_some_and(|file| file.as_bytes().ends_with(b"symbols.rs"))
        );
        assert_eq!(frame.build_id, our_build_id());
    }

    fn our_build_id() -> Option<Name> {
        let file = File::open("/proc/self/exe").expect("our own program");
        let found = crate::process::build_id::read(&file).expect("a build id");
        Some(Name::from(found.as_slice()))
    }

    #[test]
    fn without_names_a_frame_still_tells_its_file() {
        let here = without_names_a_frame_still_tells_its_file as *const () as u64;
        let wanted = wanted(here + 5);
        let plain = wanted.plain.clone();
        let done = named(wanted, false);
        let alone = Frame {
            build_id: our_build_id(),
            ..plain
        };
        assert_eq!((done.frames, done.unopened), (vec![alone], 0));
    }

    /// Counts the questions.
    struct Counting(Arc<AtomicUsize>);

    impl Names for Counting {
        fn look_up(&mut self, _: FileId, _: &File, _: u64) -> Option<Vec<ElfFrame>> {
            Some(Vec::new())
        }

        fn build_id(&mut self, _: FileId, _: &File) -> Option<Vec<u8>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            None
        }

        fn go_runtime(&mut self, _: &File) -> io::Result<Option<GoRuntime>> {
            Ok(None)
        }
    }

    #[test]
    fn a_file_is_asked_for_its_build_id_once_even_if_it_has_none() {
        let asked = Arc::new(AtomicUsize::new(0));
        let mut worker = Worker::new(Box::new(Counting(Arc::clone(&asked))), true);
        let here = a_file_is_asked_for_its_build_id_once_even_if_it_has_none as *const () as u64;
        let mut frames = Vec::new();
        for address in here..here + 8 {
            worker.name(wanted(address), &mut frames);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert!(frames.iter().all(|frame| frame.build_id.is_none()));
        assert_eq!(frames.len(), 8);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_tried_again() {
        let mut wanted = wanted(our_own_function_has_a_name_and_a_line as *const () as u64);
        if let Place::Elf { file, .. } = &mut wanted.source {
            let absent = FileId { dev: 0, ino: 1 };
            *file = ElfFiles::default().get(absent).expect("room");
        }
        let mut worker = Worker::new(Box::new(InProcess::default()), true);
        if let Place::Elf { file, origin, .. } = &wanted.source {
            let nowhere = maps::parse(b"1-2 r-xp 0 0:0 1 /nowhere\n").0;
            let gone = Origin::new(u32::MAX, &nowhere[0]);
            assert_eq!(worker.look_up((file.id, 0), file, &gone), None);
            assert_eq!(worker.look_up((file.id, 8), file, origin), None);
        }
        // Another process may have it.
        assert!(worker.unreadable.is_empty() && worker.remembered.is_empty());
    }
}
