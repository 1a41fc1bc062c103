//! Pages that are being moved: those of a huge page while the kernel splits it. Whoever touches one
//! then waits until that is done.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::mem::{Mapping, PAGE};
use crate::truth::{Counters, Touch, Worker};
use crate::workload::protocol::{done_then_exit, ready_then_go, ready_to_touch};
use crate::workload::touch::touch_asking;
use crate::workload::{bind_to_cpu, name_thread, tid};

/// Touch a huge page while another thread has the kernel split it; says which touches slept.
#[derive(Debug, clap::Args)]
pub struct SplitArgs {
    /// Touches that must have slept until it is enough.
    #[arg(long, default_value_t = 50)]
    pub waits: usize,
    /// How often it may be split for that.
    #[arg(long, default_value_t = 5000)]
    pub splits: usize,
}

/// Small pages in a huge one (x86_64).
const HUGE: usize = 512;
/// To the splitter: it is enough.
const ENOUGH: usize = usize::MAX;

/// Runs the workload.
pub fn run(args: &SplitArgs) {
    let memory = Mapping::huge(2 * HUGE * PAGE).expect("anonymous memory");
    let first = memory.first_huge_page();
    // Which split is wanted, from 1; and how many were made. Neither thread sleeps for the other: each
    // sleep is a fault's.
    let (wanted, split) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut slept = Vec::with_capacity(args.waits + HUGE);
    thread::scope(|scope| {
        scope.spawn(|| {
            name_thread(b"splitter");
            bind_to_cpu(1);
            split_as_wanted(&memory, first, &wanted, &split);
        });
        bind_to_cpu(0);
        ready_then_go(&ready_to_touch(vec![tid()], &memory));
        let before = Counters::now();
        let mut splits = 0;
        while slept.len() < args.waits && splits < args.splits {
            fresh_huge_page(&memory, first);
            splits += 1;
            wanted.store(splits, Ordering::Release);
            touch_until(&memory, first, &mut slept, || {
                split.load(Ordering::Acquire) == splits
            });
        }
        wanted.store(ENOUGH, Ordering::Release);
        let mut done = before.done(vec![Worker::here(slept)]);
        done.figures.insert("splits".to_owned(), splits as u64);
        done_then_exit(&done);
    });
}

/// Makes the pages one huge page, of which nothing but the splitter will make small ones, and nothing a huge one
/// again: khugepaged would, with `mmap_lock` held for writing.
fn fresh_huge_page(memory: &Mapping, first: usize) {
    let advise = |advice| memory.advise_pages(first, HUGE, advice).expect("madvise");
    advise(libc::MADV_DONTNEED);
    advise(libc::MADV_HUGEPAGE);
    memory.write(first, 1);
    advise(libc::MADV_NOHUGEPAGE);
}

fn split_as_wanted(memory: &Mapping, first: usize, wanted: &AtomicUsize, split: &AtomicUsize) {
    loop {
        match wanted.load(Ordering::Acquire) {
            ENOUGH => return,
            number if number > split.load(Ordering::Relaxed) => {
                // Advice about a part of a huge page has it split (mm/madvise.c,
                // madvise_cold_or_pageout_pte_range).
                memory
                    .advise_pages(first + HUGE / 2, 1, libc::MADV_COLD)
                    .expect("MADV_COLD");
                split.store(number, Ordering::Release);
            }
            _ => std::hint::spin_loop(),
        }
    }
}

/// Touches the small pages one after the other, again and again.
fn touch_until(memory: &Mapping, first: usize, slept: &mut Vec<Touch>, over: impl Fn() -> bool) {
    for page in (first..first + HUGE).cycle() {
        slept.extend(touch_asking(page, || {
            memory.touch(page);
        }));
        if over() {
            return;
        }
    }
}
