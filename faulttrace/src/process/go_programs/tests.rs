use super::finder::MAX_READS;
use super::*;

use std::fs::File;
use std::io::Write as _;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use crate::process::elf_files::FileNumber;
use crate::process::elf_names::{Answer, ElfFrame, Names};
use crate::process::go::runtime::GoRuntime;

/// More processes than threads.
const MANY: u32 = 1000;
/// From here on, opening the program hangs.
const HANGS: u32 = 1_000_000;
/// From here on, it fails.
const FAILS: u32 = 2_000_000;

/// Every file is a Go program, after so many failures. Counts the questions.
struct Fake {
    failures: usize,
    asked: Arc<AtomicUsize>,
}

impl Names for Fake {
    fn look_up(&mut self, _: FileNumber, _: &File, _: u64) -> Answer<Vec<ElfFrame>> {
        Ok(None)
    }

    fn hides_caller(&mut self, _: FileNumber, _: &File, _: u64) -> Answer<bool> {
        Ok(Some(false))
    }

    fn build_id(&mut self, _: FileNumber, _: &File) -> Answer<Vec<u8>> {
        Ok(None)
    }

    fn go_runtime(&mut self, _: &File) -> io::Result<Option<GoRuntime>> {
        let before = self.asked.fetch_add(1, Ordering::Relaxed);
        if before < self.failures {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Some(GoRuntime {
            version: format!("go1.{before}"),
            module: None,
            layout: None,
        }))
    }
}

fn open(pid: u32) -> io::Result<Option<File>> {
    if pid >= FAILS {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    if pid >= HANGS {
        loop {
            thread::park();
        }
    }
    File::open("/proc/self/exe").map(Some)
}

fn start(open: Open, failures: usize, patience: Duration) -> (GoPrograms, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let names = Fake {
        failures,
        asked: Arc::clone(&asked),
    };
    let programs = GoPrograms::start_with(Box::new(names), open, patience).expect("a thread");
    (programs, asked)
}

/// Waits until there are so many answers and left out; what these are.
fn wait(programs: &mut GoPrograms, answers: usize, left_out: u64) -> Vec<Found> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let (mut found, mut left) = (Vec::new(), 0);
    while (found.len(), left) != (answers, left_out) {
        found.extend(std::iter::from_fn(|| programs.take()));
        left += programs.take_left_out();
        let got = (found.len(), left);
        assert!(
            Instant::now() < deadline,
            "{got:?} of {answers}, {left_out}"
        );
        thread::sleep(Duration::from_millis(5));
    }
    found
}

#[test]
fn many_processes_at_once_are_all_answered_and_their_program_is_read_once() {
    let (mut programs, asked) = start(open, 0, PATIENCE);
    (1..=MANY).for_each(|pid| programs.ask(pid, Vec::new()));
    let found = wait(&mut programs, MANY as usize, 0);
    assert!(found.iter().all(|of| of.layout == Err(NoLayout::Unknown)));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(programs.counts.waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn what_hangs_costs_its_process_only_and_is_counted_once() {
    let (mut programs, _) = start(open, 0, Duration::from_millis(100));
    let hanging = u32::try_from(MAX_READS - 1).expect("few");
    (HANGS..HANGS + hanging).for_each(|pid| programs.ask(pid, Vec::new()));
    (1..=MANY).for_each(|pid| programs.ask(pid, Vec::new()));
    wait(&mut programs, MANY as usize, u64::from(hanging));
    thread::sleep(Duration::from_millis(300));
    assert_eq!(programs.take_left_out(), 0);
}

#[test]
fn if_everything_hangs_those_that_wait_are_counted_too() {
    let (mut programs, _) = start(open, 0, Duration::from_millis(100));
    let hanging = u32::try_from(MAX_READS).expect("few");
    (HANGS..HANGS + hanging).for_each(|pid| programs.ask(pid, Vec::new()));
    (1..=10).for_each(|pid| programs.ask(pid, Vec::new()));
    wait(&mut programs, 0, u64::from(hanging) + 10);
    // And so are later ones.
    programs.ask(11, Vec::new());
    wait(&mut programs, 0, 1);
    assert_eq!(programs.counts.waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn too_many_at_once_are_counted() {
    let (mut programs, _) = start(open, 0, PATIENCE);
    programs.counts.waiting.store(QUEUE, Ordering::Relaxed);
    programs.ask(1, Vec::new());
    assert_eq!(programs.take_left_out(), 1);
    assert_eq!(programs.take_left_out(), 0);
}

#[test]
fn a_failure_to_read_a_program_is_no_answer_and_is_not_kept() {
    let (mut programs, asked) = start(open, 1, PATIENCE);
    programs.ask(1, Vec::new());
    programs.ask(2, Vec::new());
    wait(&mut programs, 2, 0);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[test]
fn a_program_that_cannot_be_read_is_tried_twice_and_all_its_processes_are_counted() {
    let (mut programs, asked) = start(open, usize::MAX, PATIENCE);
    (1..=10).for_each(|pid| programs.ask(pid, Vec::new()));
    wait(&mut programs, 0, 10);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[test]
fn a_program_that_cannot_be_opened_is_counted_and_one_that_ended_is_not() {
    let (mut programs, _) = start(open, 0, PATIENCE);
    programs.ask(FAILS, Vec::new());
    wait(&mut programs, 0, 1);
    let gone = read::program(u32::MAX).expect("not an error");
    assert!(gone.is_none());
    let ours = read::program(std::process::id()).expect("opens");
    assert!(ours.is_some());
}

/// A program that changes in place.
static INSTALLED: Mutex<Option<File>> = Mutex::new(None);

fn open_installed(_: u32) -> io::Result<Option<File>> {
    let file = INSTALLED.lock().expect("not poisoned");
    file.as_ref().map(File::try_clone).transpose()
}

#[test]
fn a_program_that_was_installed_over_another_is_looked_at_anew() {
    let path = std::env::temp_dir().join(format!("faulttrace-installed-{}", std::process::id()));
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .expect("a file");
    std::fs::remove_file(&path).expect("removed");
    file.write_all(b"one").expect("written");
    *INSTALLED.lock().expect("not poisoned") = Some(file.try_clone().expect("a descriptor"));
    let (mut programs, _) = start(open_installed, 0, PATIENCE);
    let mut version = |pid| {
        programs.ask(pid, Vec::new());
        wait(&mut programs, 1, 0).pop().expect("one").version
    };
    assert_eq!(version(1), Name::from("go1.0"));
    assert_eq!(version(2), Name::from("go1.0"));
    file.write_all(b"another").expect("written");
    assert_eq!(version(3), Name::from("go1.1"));
}
