//! Memory in pieces: none of it is as large as a huge page, for the pages of one file between, whose lock is
//! contended for.

use std::fs::File;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::mem::{Mapping, PAGE};
use crate::workload::contend::{Crowd, Way, empty};

/// Take all memory in pieces, and keep the lock of their mappings taken until a line arrives.
#[derive(Debug, clap::Args)]
pub struct PiecesArgs {
    /// How many pages to take; of these, few are kept.
    #[arg(long)]
    pub pages: usize,
    /// How often one of those that are given back is mapped.
    #[arg(long)]
    pub mappings: usize,
}

/// One page of so many is kept. The fewer there are in a huge page's place, the sooner they are moved.
const PIECE: usize = 32;

/// Runs the workload.
pub fn run(args: &PiecesArgs) {
    let file =
        File::from(memfd_create(c"pieces", MFdFlags::MFD_CLOEXEC).expect("a file in memory"));
    let bytes = i64::try_from(args.pages * PAGE).expect("a length");
    fallocate(&file, FallocateFlags::empty(), 0, bytes).expect("take memory");
    for page in (0..args.pages).step_by(PIECE) {
        empty(&file, page + 1, PIECE - 1);
    }
    // Pages that nobody has mapped are moved without the lock.
    let mapping = Mapping::file(&file).expect("map it");
    for page in (0..args.pages).step_by(PIECE) {
        mapping.touch(page);
    }
    let crowd = Crowd::new(file, 1, 1, args.mappings);
    crowd
        .expect("map the file very often")
        .contend(&[Way(0, Crowd::punch), Way(1, Crowd::map)]);
}
