//! A process that never stands still: it maps and unmaps, renames threads, starts and ends them,
//! forks and executes, while its threads take major faults.

use std::fs::File;
use std::io::{self, BufRead as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

use crate::mem::{Mapping, PAGE};
use crate::random::Random;
use crate::truth::Counters;
use crate::workload::cold::Part;
use crate::workload::name_thread;
use crate::workload::protocol::{done_then_exit, ready, ready_then_go};

/// Do everything a process can do to a tracer, until a line arrives.
#[derive(Debug, clap::Args)]
pub struct ChaosArgs {
    /// The file that is touched.
    pub file: PathBuf,
    /// What happens when follows from this.
    #[arg(long)]
    pub seed: u64,
    /// Threads.
    #[arg(long, default_value_t = 4)]
    pub threads: usize,
}

/// Pages touched at a time.
const TOUCHES: usize = 16;

/// How often each thing was done.
#[derive(Default)]
struct Figures {
    touched: AtomicU64,
    renamed: AtomicU64,
    mapped: AtomicU64,
    threads: AtomicU64,
    forked: AtomicU64,
    executed: AtomicU64,
}

impl Figures {
    fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("touched", &self.touched),
            ("renamed", &self.renamed),
            ("mapped", &self.mapped),
            ("threads", &self.threads),
            ("forked", &self.forked),
            ("executed", &self.executed),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

/// Runs the workload.
pub fn run(args: &ChaosArgs) {
    let file = Arc::new(File::open(&args.file).expect("open the file"));
    ready_then_go(&ready(Vec::new()));
    let before = Counters::now();
    let (stop, figures) = (AtomicBool::new(false), Figures::default());
    thread::scope(|scope| {
        for index in 0..args.threads {
            let part = Part::new(Arc::clone(&file), index, args.threads);
            let random = Random::new(args.seed.wrapping_add(index as u64));
            let (stop, figures) = (&stop, &figures);
            scope.spawn(move || storm(&part, &args.file, random, stop, figures));
        }
        let mut line = String::new();
        io::stdin()
            .lock()
            .read_line(&mut line)
            .expect("read from the harness");
        stop.store(true, Ordering::Relaxed);
    });
    let mut done = before.done(Vec::new());
    for (name, count) in figures.named() {
        done.figures.insert(name.to_owned(), count);
    }
    done_then_exit(&done);
}

fn storm(part: &Part, path: &Path, mut random: Random, stop: &AtomicBool, figures: &Figures) {
    while !stop.load(Ordering::Relaxed) {
        match random.below(16) {
            0..6 => touch_some(part, &mut random, figures),
            6..9 => {
                rename(&mut random);
                figures.renamed.fetch_add(1, Ordering::Relaxed);
            }
            9..12 => {
                map_and_unmap(&mut random);
                figures.mapped.fetch_add(1, Ordering::Relaxed);
            }
            12..14 => thread::scope(|scope| {
                scope.spawn(|| touch_some(part, &mut random, figures));
                figures.threads.fetch_add(1, Ordering::Relaxed);
            }),
            14 => {
                fork_one(part, &mut random);
                figures.forked.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                execute_one(path, &mut random);
                figures.executed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn touch_some(part: &Part, random: &mut Random, figures: &Figures) {
    let mapping = part.map_cold();
    for _ in 0..TOUCHES {
        mapping.touch(random.below(part.pages()));
    }
    figures.touched.fetch_add(TOUCHES as u64, Ordering::Relaxed);
}

/// Any bytes but NUL, none at all included.
fn rename(random: &mut Random) {
    let length = random.below(16);
    let name: Vec<u8> = (0..length)
        .map(|_| u8::try_from(1 + random.below(255)).expect("a byte"))
        .collect();
    name_thread(&name);
}

fn map_and_unmap(random: &mut Random) {
    let pages = 1 + random.below(64);
    let memory = Mapping::anonymous(pages * PAGE).expect("memory");
    for page in 0..pages {
        memory.write(page, page as u64);
    }
    memory.protect(libc::PROT_READ).expect("mprotect");
    memory.advise(libc::MADV_DONTNEED).expect("MADV_DONTNEED");
}

/// A child that touches and ends, without anything that a child of many threads may not do.
fn fork_one(part: &Part, random: &mut Random) {
    let mapping = part.map_cold();
    let first = random.below(part.pages());
    // SAFETY: the child reads mapped memory and ends; it takes no lock and allocates nothing.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            for step in 0..TOUCHES {
                mapping.touch((first + step) % mapping.pages());
            }
            // SAFETY: ends the child at once, without the parent's buffers and handlers.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            waitpid(child, None).expect("wait for the child");
        }
    }
}

fn execute_one(path: &Path, random: &mut Random) {
    let first = format!("--first-page={}", random.below(64));
    let status = Command::new("/proc/self/exe")
        .arg("plain")
        .arg(path)
        .args(["--touches=16", &first])
        .status()
        .expect("execute a child");
    assert!(status.success(), "the executed child: {status}");
}
