//! Threads that read a file past the page cache, as much at once as they are many: a device that has
//! more to do than it gets done.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::mem::{Mapping, PAGE};
use crate::random::Random;
use crate::truth::Counters;
use crate::workload::protocol::{ready, ready_then_go, say, wait_line};

/// Read with O_DIRECT from `go` until `stop`.
#[derive(Debug, Clone, clap::Args)]
pub struct DirectArgs {
    /// The file.
    pub file: PathBuf,
    /// Reads at once.
    #[arg(long, default_value_t = 8)]
    pub threads: usize,
    /// Length of a read, pages.
    #[arg(long, default_value_t = 64)]
    pub pages: usize,
}

/// Runs the workload.
pub fn run(args: &DirectArgs) {
    ready_then_go(&ready(Vec::new()));
    let before = Counters::now();
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..args.threads)
        .map(|index| {
            let (args, stop) = (args.clone(), Arc::clone(&stop));
            thread::spawn(move || read(&args, index, &stop))
        })
        .collect();
    wait_line("stop");
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().expect("a reader");
    }
    say("done", &before.done(Vec::new()));
    wait_line("");
}

fn read(args: &DirectArgs, index: usize, stop: &AtomicBool) {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_DIRECT);
    let file = options.open(&args.file).expect("open the file");
    let len = file.metadata().expect("stat the file").len();
    let room = usize::try_from(len).expect("fits the address space") / PAGE - args.pages;
    let buffer = Mapping::anonymous(args.pages * PAGE).expect("a buffer");
    let mut random = Random::new(index as u64);
    while !stop.load(Ordering::Relaxed) {
        let offset = libc::off_t::try_from(random.below(room) * PAGE).expect("small");
        // SAFETY: the buffer is as long as the read, and page-aligned as O_DIRECT wants it.
        let read =
            unsafe { libc::pread(file.as_raw_fd(), buffer.at(0).cast(), buffer.len(), offset) };
        assert!(read > 0, "a read past the page cache");
    }
}
