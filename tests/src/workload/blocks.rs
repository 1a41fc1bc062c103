//! Storms for measurements: the same small block of work again and again, each block's begin and time
//! logged, until the input ends. What a tracer costs is seen by comparing blocks with and without it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::clock::monotonic_ns;
use crate::mem::{Mapping, PAGE};
use crate::workload::protocol::{done_then_exit, ready, say};
use crate::workload::{bind_to_cpu, name_thread};

mod ping_pong;

/// Pages of a minor-fault block: one table of pages, so that no block allocates another.
const MINOR_PAGES: usize = 512;
/// Pages of a block of stalls.
const STALL_PAGES: usize = 16;
/// Pages of a block of reads.
const READ_PAGES: usize = 256;
/// Pages of a block of faults on a file that is in memory: one table of pages, too.
const CACHED_PAGES: usize = 512;
/// How long a process pauses that now and then reads ahead in vain.
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes of a block in the log.
pub const LOGGED_BYTES: usize = 24;
/// More blocks than this are no measurement any more: 96 MB for each thread.
const MAX_BLOCKS: usize = 4_000_000;
/// In `ready`: what happens in each block, times.
pub const EVENTS: &str = "events_per_block";

/// What a block consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Minor faults on anonymous memory.
    Minor,
    /// Two threads that wake each other through pipes: context switches.
    Pipe,
    /// The same through a futex.
    Futex,
    /// Major faults, each of which sleeps: a file without readahead.
    Stall,
    /// Reads of a file, not by its mapping, each of which comes from the disk.
    Read,
    /// Faults on the first pages of a file that is in memory.
    Cached,
    /// No storm: now and then a fault in the second half of a file reads ahead what is not used.
    Ahead,
}

/// Repeat a block of work until the input ends; log when each began and how long it took.
#[derive(Debug, clap::Args)]
pub struct BlocksArgs {
    /// The work.
    pub kind: Kind,
    /// Where to write the log: for each block the number of its thread, its begin (CLOCK_MONOTONIC)
    /// and its time, ns, as 64-bit integers of this machine.
    pub log: PathBuf,
    /// Bind a thread to this CPU; repeat for more threads. Without, one thread that is bound to none.
    #[arg(long)]
    pub cpu: Vec<usize>,
    /// The file; of stalls and reads each thread has a part of it.
    #[arg(long, required_if_eq_any([("kind", "stall"), ("kind", "read"), ("kind", "cached"), ("kind", "ahead")]))]
    pub file: Option<PathBuf>,
}

/// Runs the storm: it begins at once.
pub fn run(args: &BlocksArgs) {
    let cpus: Vec<Option<usize>> = match args.cpu.as_slice() {
        [] => vec![None],
        cpus => cpus.iter().copied().map(Some).collect(),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..cpus.len())
        .map(|index| {
            let (stop, kind, cpu) = (Arc::clone(&stop), args.kind, cpus[index]);
            let part = args.file.clone().map(|file| (file, index, cpus.len()));
            thread::spawn(move || {
                name_thread(format!("storm-{index}").as_bytes());
                if let Some(cpu) = cpu {
                    bind_to_cpu(cpu);
                }
                storm(kind, cpu, part, &stop)
            })
        })
        .collect();
    let mut hello = ready(Vec::new());
    hello.places.insert(EVENTS.to_owned(), args.kind.events());
    say("ready", &hello);
    let before = crate::truth::Counters::now();
    io::stdin()
        .read_to_end(&mut Vec::new())
        .expect("read from the harness");
    stop.store(true, Ordering::Relaxed);
    let mut log = Vec::new();
    for (thread, handle) in (0_u64..).zip(threads) {
        for (begin_ns, took_ns) in handle.join().expect("a storm") {
            log.extend(
                [thread, begin_ns, took_ns]
                    .map(u64::to_ne_bytes)
                    .as_flattened(),
            );
        }
    }
    fs::write(&args.log, log).expect("write the log");
    done_then_exit(&before.done(Vec::new()));
}

impl Kind {
    /// Events in each block: faults, or context switches.
    fn events(self) -> u64 {
        match self {
            Kind::Minor => MINOR_PAGES as u64,
            Kind::Stall => STALL_PAGES as u64,
            Kind::Read => READ_PAGES as u64,
            Kind::Cached => CACHED_PAGES as u64,
            Kind::Ahead => 1,
            Kind::Pipe | Kind::Futex => 2 * ping_pong::ROUNDS,
        }
    }
}

/// Begin and time of each block, ns.
type Log = Vec<(u64, u64)>;

fn storm(
    kind: Kind,
    cpu: Option<usize>,
    part: Option<(PathBuf, usize, usize)>,
    stop: &AtomicBool,
) -> Log {
    let mut log = Log::new();
    match kind {
        Kind::Minor => minor(stop, &mut log),
        Kind::Pipe => ping_pong::pipe(cpu, stop, &mut log),
        Kind::Futex => ping_pong::futex(cpu, stop, &mut log),
        Kind::Stall | Kind::Read | Kind::Cached | Kind::Ahead => {
            let (file, index, of) = part.expect("clap requires a file");
            let file = File::open(file).expect("open the file");
            match kind {
                Kind::Stall => stall(&file, index, of, stop, &mut log),
                Kind::Read => read(&file, index, of, stop, &mut log),
                Kind::Cached => cached(&file, stop, &mut log),
                _ => ahead(&file, stop, &mut log),
            }
        }
    }
    log
}

/// Times one block.
fn block(log: &mut Log, work: impl FnOnce()) {
    assert!(log.len() < MAX_BLOCKS, "the log of blocks is full");
    let begin_ns = monotonic_ns();
    work();
    log.push((begin_ns, monotonic_ns() - begin_ns));
}

fn minor(stop: &AtomicBool, log: &mut Log) {
    let mapping = Mapping::anonymous(MINOR_PAGES * PAGE).expect("anonymous memory");
    while !stop.load(Ordering::Relaxed) {
        block(log, || {
            for page in 0..MINOR_PAGES {
                mapping.write(page, 1);
            }
        });
        mapping.advise(libc::MADV_DONTNEED).expect("MADV_DONTNEED");
    }
}

/// Touches a part of the file page by page, evicts it, and begins again.
fn stall(file: &File, index: usize, of: usize, stop: &AtomicBool, log: &mut Log) {
    let mapping = Mapping::file(file).expect("map the file");
    mapping.advise(libc::MADV_RANDOM).expect("MADV_RANDOM");
    let pages = mapping.pages() / of / STALL_PAGES * STALL_PAGES;
    let first = index * pages;
    while !stop.load(Ordering::Relaxed) {
        evict(file, &mapping, first, pages);
        for begin in (first..first + pages).step_by(STALL_PAGES) {
            block(log, || {
                for page in begin..begin + STALL_PAGES {
                    std::hint::black_box(mapping.touch(page));
                }
            });
            if stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// Reads a part of the file piece by piece, and drops each from memory.
fn read(file: &File, index: usize, of: usize, stop: &AtomicBool, log: &mut Log) {
    let len = file.metadata().expect("stat the file").len();
    let len = usize::try_from(len).expect("fits the address space");
    let pages = len / PAGE / of / READ_PAGES * READ_PAGES;
    let mut buffer = vec![0; READ_PAGES * PAGE];
    let mut pieces = (index * pages..(index + 1) * pages)
        .step_by(READ_PAGES)
        .cycle();
    while let (Some(first), false) = (pieces.next(), stop.load(Ordering::Relaxed)) {
        block(log, || {
            let offset = u64::try_from(first * PAGE).expect("an offset");
            file.read_exact_at(&mut buffer, offset).expect("read");
            drop_cached(file, first, READ_PAGES);
        });
    }
}

/// Touches pages that are in memory, lets go of them, and begins again.
fn cached(file: &File, stop: &AtomicBool, log: &mut Log) {
    let mapping = Mapping::file_part(file, 0, CACHED_PAGES).expect("map the file");
    while !stop.load(Ordering::Relaxed) {
        block(log, || {
            for page in 0..CACHED_PAGES {
                std::hint::black_box(mapping.touch(page));
            }
        });
        mapping.advise(libc::MADV_DONTNEED).expect("MADV_DONTNEED");
    }
}

/// Touches a page in the second half of the file, for which others are read, none of which are touched.
fn ahead(file: &File, stop: &AtomicBool, log: &mut Log) {
    let mapping = Mapping::file(file).expect("map the file");
    let half = mapping.pages() / 2;
    let mut pages = (half..2 * half).step_by(READ_PAGES).cycle();
    while let (Some(page), false) = (pages.next(), stop.load(Ordering::Relaxed)) {
        evict(file, &mapping, page, READ_PAGES.min(2 * half - page));
        block(log, || {
            std::hint::black_box(mapping.touch(page));
        });
        thread::sleep(PAUSE);
    }
}

fn evict(file: &File, mapping: &Mapping, first: usize, pages: usize) {
    mapping
        .advise_pages(first, pages, libc::MADV_DONTNEED)
        .expect("MADV_DONTNEED");
    drop_cached(file, first, pages);
}

fn drop_cached(file: &File, first: usize, pages: usize) {
    let bytes = |pages: usize| libc::off_t::try_from(pages * PAGE).expect("a file offset");
    // SAFETY: plain system call on an open descriptor.
    let done = unsafe {
        libc::posix_fadvise(
            file.as_raw_fd(),
            bytes(first),
            bytes(pages),
            libc::POSIX_FADV_DONTNEED,
        )
    };
    assert_eq!(done, 0, "posix_fadvise");
}
