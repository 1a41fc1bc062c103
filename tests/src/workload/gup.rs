//! Pages faulted in by the kernel without an exception: `maj_flt` counts them, and no exception
//! handler ever sees them.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::mem::{Mapping, PAGE};
use crate::truth::Counters;
use crate::workload::protocol::{done_then_exit, ready, ready_then_go};

/// MADV_POPULATE_READ of a cold mapping, and O_DIRECT reads into a cold mapping.
#[derive(Debug, clap::Args)]
pub struct GupArgs {
    /// The file; evict it before `go`. Its first half is populated, its second half read into.
    pub file: PathBuf,
    /// Another file of at least half that size, for the O_DIRECT reads.
    pub source: PathBuf,
}

/// Runs the workload.
pub fn run(args: &GupArgs) {
    let file = File::open(&args.file).expect("open the file");
    let mapping = Mapping::file_private(&file).expect("map the file");
    mapping.advise(libc::MADV_RANDOM).expect("MADV_RANDOM");
    let source = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(&args.source)
        .expect("open the source with O_DIRECT");
    let half = mapping.pages() / 2;
    ready_then_go(&ready(Vec::new()));
    let before = Counters::now();
    mapping
        .advise_pages(0, half, libc::MADV_POPULATE_READ)
        .expect("MADV_POPULATE_READ");
    let populated = before.done(Vec::new()).rusage_majors;
    for page in half..half * 2 {
        let offset = i64::try_from((page - half) * PAGE).expect("a file offset");
        let buffer = mapping.at(page * PAGE).cast();
        // SAFETY: the buffer is one page of a private, writable mapping that nothing refers to.
        let read = unsafe { libc::pread(source.as_raw_fd(), buffer, PAGE, offset) };
        assert_eq!(usize::try_from(read), Ok(PAGE), "O_DIRECT read of a page");
    }
    let mut done = before.done(Vec::new());
    done.figures.insert("populate_majors".to_owned(), populated);
    done.figures
        .insert("direct_majors".to_owned(), done.rusage_majors - populated);
    done_then_exit(&done);
}
