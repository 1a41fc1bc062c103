//! The program that gets stuck: threads that look up, compact and checkpoint through `mmap`.
//!
//! Its functions do little; they are there, and not inlined, to be seen in the stacks.

use std::fs::File;
use std::hint::black_box;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::clock::monotonic_ns;
use crate::mem::{Mapping, PAGE};
use crate::workload::name_thread;

/// The file on the slow file system.
pub(super) const TABLE: &str = "table.db";
/// The file on an ordinary disk.
pub(super) const LOG: &str = "wal.log";
const READERS: usize = 4;

struct Store {
    file: File,
    pages: Mapping,
}

impl Store {
    fn open(path: &Path) -> io::Result<Store> {
        let file = File::open(path)?;
        let pages = Mapping::file(&file)?;
        pages.advise(libc::MADV_RANDOM)?;
        Ok(Store { file, pages })
    }

    /// Forgets a page, as if memory had been short: the next access faults again.
    fn evict(&self, page: usize) {
        let _best_effort = self.pages.advise_pages(page, 1, libc::MADV_DONTNEED);
        let offset = i64::try_from(page * PAGE).unwrap_or(0);
        let fd = self.file.as_raw_fd();
        // SAFETY: plain system call on an open descriptor.
        unsafe { libc::posix_fadvise(fd, offset, PAGE as i64, libc::POSIX_FADV_DONTNEED) };
    }
}

/// Runs until killed.
pub(super) fn run(place: &Path) -> io::Result<()> {
    name_thread(b"demo-db");
    let table = Arc::new(Store::open(&place.join("slow").join(TABLE))?);
    let log = Store::open(&place.join(LOG))?;
    for number in 1..=READERS {
        let table = Arc::clone(&table);
        thread::spawn(move || {
            name_thread(format!("reader-{number}").as_bytes());
            serve_queries(&table, number as u64);
        });
    }
    thread::spawn(move || {
        name_thread(b"compactor");
        compact_table(&table);
    });
    thread::spawn(move || {
        name_thread(b"checkpointer");
        checkpoint(&log);
    });
    // The main thread is idle, and is not reported: it sleeps, but in no fault.
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

#[inline(never)]
fn serve_queries(table: &Store, seed: u64) {
    let mut key = seed ^ monotonic_ns();
    loop {
        key = key
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(seed | 1);
        black_box(lookup_key(table, key >> 16));
        thread::sleep(Duration::from_millis(2));
    }
}

#[inline(never)]
fn lookup_key(table: &Store, key: u64) -> u64 {
    let page = usize::try_from(key).unwrap_or(0) % table.pages.pages();
    let record = read_record(table, page);
    table.evict(page);
    black_box(record ^ key)
}

#[inline(never)]
fn read_record(store: &Store, page: usize) -> u64 {
    black_box(store.pages.touch(page)).rotate_left(1)
}

#[inline(never)]
fn compact_table(table: &Store) {
    for segment in (0..table.pages.pages()).step_by(64).cycle() {
        black_box(merge_segment(table, segment));
    }
}

#[inline(never)]
fn merge_segment(table: &Store, first: usize) -> u64 {
    let last = (first + 64).min(table.pages.pages());
    let mut merged = 0;
    for page in first..last {
        merged ^= read_record(table, page);
        table.evict(page);
    }
    black_box(merged)
}

#[inline(never)]
fn checkpoint(log: &Store) {
    loop {
        black_box(replay_log(log));
        thread::sleep(Duration::from_millis(500));
    }
}

#[inline(never)]
fn replay_log(log: &Store) -> u64 {
    let mut state = 0;
    for page in (0..log.pages.pages()).step_by(16) {
        state ^= read_record(log, page);
        log.evict(page);
        thread::sleep(Duration::from_millis(5));
    }
    black_box(state)
}
