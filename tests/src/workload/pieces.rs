//! Memory in pieces: every other page free, the others of one file, whose lock is contended for.

use std::fs::File;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::mem::{Mapping, PAGE};
use crate::workload::contend::Crowd;

/// Take all memory in pieces, and keep the lock of their mappings taken until a line arrives.
#[derive(Debug, clap::Args)]
pub struct PiecesArgs {
    /// How many pages to take; of these, every other one is given back.
    #[arg(long)]
    pub pages: usize,
    /// How often the first page is mapped.
    #[arg(long)]
    pub mappings: usize,
}

/// Runs the workload.
pub fn run(args: &PiecesArgs) {
    let file =
        File::from(memfd_create(c"pieces", MFdFlags::MFD_CLOEXEC).expect("a file in memory"));
    let bytes = |pages: usize| i64::try_from(pages * PAGE).expect("a place in a file");
    fallocate(&file, FallocateFlags::empty(), 0, bytes(args.pages)).expect("take memory");
    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    for page in (0..args.pages).step_by(2) {
        fallocate(&file, punch, bytes(page), bytes(1)).expect("give a page back");
    }
    // Pages that nobody has mapped are moved without the lock.
    let mapping = Mapping::file(&file).expect("map it");
    for page in (1..args.pages).step_by(2) {
        mapping.touch(page);
    }
    let crowd = Crowd::new(&file, 0, 1, args.mappings);
    crowd
        .expect("map the file very often")
        .contend(&[(0, Crowd::punch), (1, Crowd::map)]);
}
