//! The lock of a file's mappings (`i_mmap_rwsem`), which a process that has very many of them keeps taken.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::fcntl::{FallocateFlags, fallocate};

use crate::mem::{Mapping, PAGE};
use crate::truth::Counters;
use crate::workload::protocol::{done_then_exit, ready, ready_then_go, wait_line};
use crate::workload::{bind_to_cpu, name_thread};

/// Keep the lock of a file's mappings taken until a line arrives.
#[derive(Debug, clap::Args)]
pub struct ContendArgs {
    /// The file, in memory; a part of it is emptied again and again.
    pub file: PathBuf,
    /// Where that part begins, pages.
    #[arg(long)]
    pub first_page: usize,
    /// How long it is.
    #[arg(long)]
    pub pages: usize,
    /// How often it is mapped.
    #[arg(long)]
    pub mappings: usize,
}

/// Runs the workload.
pub fn run(args: &ContendArgs) {
    let file = OpenOptions::new().read(true).write(true).open(&args.file);
    let file = file.expect("open the file");
    let crowd = Crowd::new(file, args.first_page, args.pages, args.mappings);
    crowd
        .expect("map the file very often")
        .contend(&[Way(0, Crowd::punch)]);
}

/// Stops on drop.
struct Stopped<'a>(&'a AtomicBool);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A CPU, and what is done there.
pub struct Way(pub usize, pub fn(&Crowd));

/// Very many mappings of a part of a file.
pub struct Crowd {
    file: File,
    first: usize,
    pages: usize,
    _mappings: Vec<Mapping>,
}

impl Crowd {
    /// Maps these pages so often.
    pub fn new(file: File, first: usize, pages: usize, mappings: usize) -> io::Result<Self> {
        let mappings = (0..mappings).map(|_| Mapping::file_part(&file, first, pages));
        let _mappings = mappings.collect::<io::Result<_>>()?;
        Ok(Self {
            file,
            first,
            pages,
            _mappings,
        })
    }

    /// Is ready, and from `go` to `stop` does these, each in a thread on this CPU, again and again.
    pub fn contend(&self, ways: &[Way]) {
        ready_then_go(&ready(Vec::new()));
        let before = Counters::now();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for Way(cpu, way) in ways {
                scope.spawn(|| {
                    name_thread(b"contender");
                    bind_to_cpu(*cpu);
                    while !stop.load(Ordering::Relaxed) {
                        way(self);
                    }
                });
            }
            // Also if the harness is gone, so that the threads end.
            let _stopped = Stopped(&stop);
            wait_line("stop");
        });
        done_then_exit(&before.done(Vec::new()));
    }

    /// Empties the part: the kernel goes through all its mappings, with the lock held for reading, or for writing with
    /// huge pages (mm/memory.c, unmap_mapping_pages; fs/hugetlbfs/inode.c, hugetlbfs_punch_hole).
    pub fn punch(&self) {
        empty(&self.file, self.first, self.pages);
    }

    /// Maps it once more: that wants the lock for writing, and while it waits, nobody else is let in for reading.
    pub fn map(&self) {
        Mapping::file_part(&self.file, self.first, self.pages).expect("map it once more");
    }
}

/// Makes a hole of these pages.
pub fn empty(file: &File, first: usize, pages: usize) {
    let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let at = |pages: usize| i64::try_from(pages * PAGE).expect("a place in a file");
    fallocate(file, how, at(first), at(pages)).expect("punch a hole");
}
