//! Threads that touch the same pages at the same time, where the kernel lets one of them have the page and
//! the others wait until it has.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::mem::{HUGE_PAGE, Mapping, PAGE};
use crate::truth::{Counters, Touch, Worker};
use crate::workload::protocol::{done_then_exit, ready_then_go, ready_to_touch};
use crate::workload::tid;
use crate::workload::touch::touch_asking;

/// Touch the same pages from several threads at once; says which touches slept.
#[derive(Debug, clap::Args)]
pub struct TogetherArgs {
    /// What is touched.
    #[arg(value_enum)]
    pub memory: Memory,
    /// Pages, huge ones if they are.
    #[arg(long)]
    pub pages: usize,
    /// Threads.
    #[arg(long, default_value_t = 4)]
    pub threads: usize,
    /// Touches that must have slept until it is enough.
    #[arg(long, default_value_t = 50)]
    pub waits: usize,
    /// Each thread has a part of the pages to itself.
    #[arg(long)]
    pub apart: bool,
    /// How often all pages may be touched for that.
    #[arg(long, default_value_t = 200)]
    pub rounds: usize,
}

impl TogetherArgs {
    /// Room for all touches that a thread keeps: it is over after the round in which there are enough.
    fn room(&self) -> Vec<Touch> {
        Vec::with_capacity(self.waits + self.pages)
    }
}

/// Memory of which a page takes its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Memory {
    /// Huge pages of hugetlbfs, never touched before: whoever comes first clears them.
    HugePages,
    /// Anonymous memory that is in swap.
    Swapped,
}

impl Memory {
    /// Bytes of a page.
    fn page(self) -> usize {
        match self {
            Memory::HugePages => HUGE_PAGE,
            Memory::Swapped => PAGE,
        }
    }

    /// So much of it.
    fn map(self, pages: usize) -> Mapping {
        let len = pages * self.page();
        match self {
            Memory::HugePages => Mapping::hugetlb(len).expect("huge pages"),
            Memory::Swapped => Mapping::anonymous(len).expect("anonymous memory"),
        }
    }

    /// Makes all pages so that they take time.
    fn prepare(self, mapping: &Mapping) {
        let advice = match self {
            Memory::HugePages => libc::MADV_REMOVE,
            Memory::Swapped => {
                for page in 0..mapping.pages() {
                    // Not of one byte only, which is no work to swap in.
                    mapping.write(page, page as u64 + 1);
                }
                libc::MADV_PAGEOUT
            }
        };
        mapping.advise(advice).expect("madvise");
    }
}

/// What the threads tell each other. None of them sleeps for another: each sleep is a fault's.
#[derive(Default)]
struct Rounds {
    /// Threads that are set up: what they map is mapped.
    ready: AtomicUsize,
    /// How many have begun; [`ENOUGH`] when it is.
    begun: AtomicUsize,
    /// How many threads are through with theirs, of all rounds.
    through: AtomicUsize,
    /// Touches that slept.
    slept: AtomicUsize,
}

const ENOUGH: usize = usize::MAX;

/// Runs the workload.
pub fn run(args: &TogetherArgs) {
    let mapping = args.memory.map(args.pages);
    let rounds = Rounds::default();
    thread::scope(|scope| {
        let others: Vec<_> = (1..args.threads)
            .map(|number| {
                let (mapping, rounds) = (&mapping, &rounds);
                scope.spawn(move || follow(args, number, mapping, rounds))
            })
            .collect();
        let mut touches = args.room();
        while rounds.ready.load(Ordering::Acquire) < others.len() {
            thread::yield_now();
        }
        ready_then_go(&ready_to_touch(vec![tid()], &mapping));
        let before = Counters::now();
        for round in 1..=args.rounds {
            args.memory.prepare(&mapping);
            rounds.begun.store(round, Ordering::Release);
            touch_all(args, 0, &mapping, &rounds, &mut touches);
            while rounds.through.load(Ordering::Acquire) < round * args.threads {
                thread::yield_now();
            }
            if rounds.slept.load(Ordering::Relaxed) >= args.waits {
                break;
            }
        }
        rounds.begun.store(ENOUGH, Ordering::Release);
        let mut workers = vec![Worker::here(touches)];
        workers.extend(others.into_iter().map(|one| one.join().expect("a toucher")));
        done_then_exit(&before.done(workers));
    });
}

/// The part of a thread that does not prepare the rounds.
fn follow(args: &TogetherArgs, number: usize, mapping: &Mapping, rounds: &Rounds) -> Worker {
    let mut touches = args.room();
    rounds.ready.fetch_add(1, Ordering::AcqRel);
    let mut last = 0;
    loop {
        match rounds.begun.load(Ordering::Acquire) {
            ENOUGH => return Worker::here(touches),
            round if round > last => {
                last = round;
                touch_all(args, number, mapping, rounds, &mut touches);
            }
            _ => thread::yield_now(),
        }
    }
}

/// Touches all pages, or those of the thread of this number, and keeps the touches that slept.
fn touch_all(
    args: &TogetherArgs,
    number: usize,
    mapping: &Mapping,
    rounds: &Rounds,
    slept: &mut Vec<Touch>,
) {
    let before = slept.len();
    let each = args.memory.page() / PAGE;
    let pages = if args.apart {
        let share = mapping.pages() / args.threads;
        number * share..(number + 1) * share
    } else {
        0..mapping.pages()
    };
    for page in pages.step_by(each) {
        slept.extend(touch_asking(page, || {
            mapping.touch(page);
        }));
    }
    rounds
        .slept
        .fetch_add(slept.len() - before, Ordering::Relaxed);
    rounds.through.fetch_add(1, Ordering::AcqRel);
}
