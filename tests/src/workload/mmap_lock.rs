//! Faults that wait for `mmap_lock`, because another thread changes the protection of a large
//! range and holds the lock (and the range's own lock) for writing meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::mem::{Mapping, PAGE};
use crate::truth::{Counters, Touch, Worker};
use crate::workload::protocol::{done_then_exit, ready_then_go, ready_to_touch};
use crate::workload::touch::touch_one;
use crate::workload::{name_thread, sleeps, tid};

/// Touch pages of a range while another thread calls mprotect on it in a loop.
#[derive(Debug, clap::Args)]
pub struct MmapLockArgs {
    /// How many GiB of the range have page tables to be walked; they hold the zero page only, so
    /// that the memory needed is 2 MiB for each.
    #[arg(long, default_value_t = 1)]
    pub walked_gib: usize,
    /// Touches that must have waited, by their own clock, until it is enough.
    #[arg(long, default_value_t = 50)]
    pub waits: usize,
}

/// A touch that took this long has waited for the lock: without, it takes a few µs.
const WAITED_NS: u64 = 2_000_000;
const FRESH_PAGES: usize = 1 << 20;

/// Runs the workload.
pub fn run(args: &MmapLockArgs) {
    let walked = args.walked_gib << 18;
    let range = Mapping::anonymous((walked + FRESH_PAGES) * PAGE).expect("address space");
    range.populate_read(0, walked).expect("pages to walk along");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        ready_then_go(&ready_to_touch(vec![tid()], &range));
        let before = Counters::now();
        let holder = scope.spawn(|| {
            name_thread(b"lock-holder");
            (hold(&range, &stop), tid())
        });
        let touches = wait_often(&range, walked, args.waits);
        stop.store(true, Ordering::Relaxed);
        let (held, holder) = holder.join().expect("the holder");
        let worker = Worker::here(touches);
        let mut done = before.done(vec![worker]);
        done.figures
            .insert("memory_bytes".to_owned(), range.len() as u64);
        done.figures.insert("holds".to_owned(), held);
        done.figures.insert("holder".to_owned(), holder.into());
        done_then_exit(&done);
    });
}

/// Makes the range read-only and writable again, in turn; how often.
fn hold(range: &Mapping, stop: &AtomicBool) -> u64 {
    let mut held = 0;
    while !stop.load(Ordering::Relaxed) {
        range.protect(libc::PROT_READ).expect("mprotect");
        range
            .protect(libc::PROT_READ | libc::PROT_WRITE)
            .expect("mprotect");
        held += 2;
    }
    held
}

/// Reads fresh pages until enough touches have waited; those that have.
fn wait_often(range: &Mapping, walked: usize, waits: usize) -> Vec<Touch> {
    let mut waited = Vec::with_capacity(waits);
    for page in walked..range.pages() {
        let before = sleeps();
        let touch = touch_one(range, page, false);
        // A touch may also be long because its thread was preempted.
        if touch.elapsed_ns() >= WAITED_NS && sleeps() > before {
            waited.push(touch);
        }
        if waited.len() == waits {
            return waited;
        }
    }
    panic!(
        "only {} of {FRESH_PAGES} touches waited for mmap_lock",
        waited.len()
    );
}
