//! Names of this program's own functions.

use super::*;
use crate::process::elf_files::ElfFiles;
use crate::process::elf_names::{InProcess, NotNow};
use crate::process::go::runtime::GoRuntime;
use crate::process::maps;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
            file: mapping.file.expect("a file"),
            origin: Origin::new(pid, mapping),
            offset: mapping.offset_of(address),
        },
    }
}

fn named(wanted: Wanted, functions: bool) -> Done {
    let names = Box::new(InProcess::default());
    let mut symbols = Symbols::start(names, functions, ElfFiles::default()).expect("started");
    assert!(symbols.ask(Job {
        pid: 1,
        stack: 2,
        epoch: 3,
        frames: vec![wanted],
        ask_caller: true,
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
            .is_some_and(|file| file.as_bytes().ends_with(b"symbols/tests.rs"))
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

/// Counts the questions, and cannot be asked until it is told that it can.
#[derive(Clone, Default)]
struct Counting {
    asked: Arc<AtomicUsize>,
    not_now: Arc<AtomicBool>,
}

impl Counting {
    fn now<T>(&self, answer: Option<T>) -> Answer<T> {
        let not_now = self.not_now.load(Ordering::Relaxed);
        if not_now { Err(NotNow) } else { Ok(answer) }
    }
}

impl Names for Counting {
    fn look_up(&mut self, _: FileNumber, _: &File, _: u64) -> Answer<Vec<ElfFrame>> {
        self.now(Some(Vec::new()))
    }

    fn hides_caller(&mut self, _: FileNumber, _: &File, _: u64) -> Answer<bool> {
        self.now(Some(false))
    }

    fn build_id(&mut self, _: FileNumber, _: &File) -> Answer<Vec<u8>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.now(None)
    }

    fn go_runtime(&mut self, _: &File) -> io::Result<Option<GoRuntime>> {
        Ok(None)
    }
}

#[test]
fn a_file_is_asked_for_its_build_id_once_even_if_it_has_none() {
    let names = Counting::default();
    let mut worker = Worker::new(Box::new(names.clone()), true, ElfFiles::default());
    let here = a_file_is_asked_for_its_build_id_once_even_if_it_has_none as *const () as u64;
    let mut frames = Vec::new();
    for address in here..here + 8 {
        worker.name(wanted(address), &mut frames);
    }
    assert_eq!(names.asked.load(Ordering::Relaxed), 1);
    assert!(frames.iter().all(|frame| frame.build_id.is_none()));
    assert_eq!(frames.len(), 8);
}

#[test]
fn a_file_that_cannot_be_opened_is_tried_again() {
    let wanted = wanted(our_own_function_has_a_name_and_a_line as *const () as u64);
    let files = ElfFiles::default();
    let mut worker = Worker::new(Box::new(InProcess::default()), true, files.clone());
    if let Place::Elf { origin, .. } = &wanted.source {
        let file = files.get(FileId { dev: 0, ino: 1 }).expect("room");
        let nowhere = maps::parse(b"1-2 r-xp 0 0:0 1 /nowhere\n").0;
        let gone = Origin::new(u32::MAX, &nowhere[0]);
        assert_eq!(worker.look_up((file.number, 0), &file, &gone), None);
        assert_eq!(worker.look_up((file.number, 8), &file, origin), None);
    }
    // Another process may have it.
    assert!(worker.unreadable.is_empty() && worker.remembered.is_empty());
}

#[test]
fn what_nobody_could_be_asked_is_asked_again() {
    let names = Counting::default();
    names.not_now.store(true, Ordering::Relaxed);
    let mut worker = Worker::new(Box::new(names.clone()), true, ElfFiles::default());
    let here = what_nobody_could_be_asked_is_asked_again as *const () as u64;
    let mut frames = Vec::new();
    assert_eq!(worker.hides_caller(&wanted(here)), None);
    worker.name(wanted(here), &mut frames);
    assert!(worker.not_now, "told so");
    assert_eq!(worker.newly_unreadable, 0, "the file is not to blame");
    names.not_now.store(false, Ordering::Relaxed);
    assert_eq!(worker.hides_caller(&wanted(here)), Some(false));
    worker.name(wanted(here), &mut frames);
    assert_eq!(worker.remembered.len(), 1);
    assert_eq!(names.asked.load(Ordering::Relaxed), 2, "its build id");
}
