//! System calls whose buffers are cold pages of a mapping: the kernel itself faults on them.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;

use crate::clock::monotonic_ns;
use crate::mem::{Mapping, PAGE};
use crate::truth::{Counters, Touch, Worker};
use crate::workload::protocol::{done_then_exit, ready_then_go, ready_to_touch};
use crate::workload::tid;

const BYTES: usize = 512;

/// System calls that read into, and write from, cold pages.
#[derive(Debug, clap::Args)]
pub struct KernelModeArgs {
    /// The file; evict it before `go`.
    pub file: PathBuf,
    /// A small file in the page cache to read from, at least 4096 bytes.
    pub source: PathBuf,
    /// A file to write to.
    pub sink: PathBuf,
    /// How often each system call is made, each time with another page.
    #[arg(long, default_value_t = 5)]
    pub repeat: usize,
}

struct Files {
    source: RawFd,
    sink: RawFd,
}

type Call = fn(&Files, *mut u8) -> isize;

/// Name of each system call, as the tracer must name it, and how to make it.
const CALLS: [(&str, Call); 6] = [
    ("read", |files, buffer| {
        // SAFETY: the buffer is a page of a private writable mapping; the source stays open.
        unsafe { libc::read(files.source, buffer.cast(), BYTES) }
    }),
    ("pread64", |files, buffer| {
        // SAFETY: as for `read`.
        unsafe { libc::pread(files.source, buffer.cast(), BYTES, 0) }
    }),
    ("readv", |files, buffer| {
        let part = libc::iovec {
            iov_base: buffer.cast(),
            iov_len: BYTES,
        };
        // SAFETY: one vector over a page that is ours.
        unsafe { libc::readv(files.source, &raw const part, 1) }
    }),
    ("write", |files, buffer| {
        // SAFETY: reads BYTES of a mapped page.
        unsafe { libc::write(files.sink, buffer.cast(), BYTES) }
    }),
    ("pwrite64", |files, buffer| {
        // SAFETY: as for `write`.
        unsafe { libc::pwrite(files.sink, buffer.cast(), BYTES, 0) }
    }),
    ("writev", |files, buffer| {
        let part = libc::iovec {
            iov_base: buffer.cast(),
            iov_len: BYTES,
        };
        // SAFETY: one vector over a mapped page.
        unsafe { libc::writev(files.sink, &raw const part, 1) }
    }),
];

/// Runs the workload.
pub fn run(args: &KernelModeArgs) {
    let file = File::open(&args.file).expect("open the file");
    let mapping = Mapping::file_private(&file).expect("map the file");
    mapping.advise(libc::MADV_RANDOM).expect("MADV_RANDOM");
    let source = File::open(&args.source).expect("open the source");
    let sink = File::create(&args.sink).expect("open the sink");
    let files = Files {
        source: source.as_raw_fd(),
        sink: sink.as_raw_fd(),
    };
    assert!(
        mapping.pages() >= CALLS.len() * args.repeat,
        "the file is too small"
    );
    let mut touches = Vec::with_capacity(mapping.pages());
    ready_then_go(&ready_to_touch(vec![tid()], &mapping));
    let before = Counters::now();
    for round in 0..args.repeat {
        for (index, (name, call)) in CALLS.iter().enumerate() {
            let offset = (round * CALLS.len() + index) * PAGE;
            let begin_ns = monotonic_ns();
            let count = call(&files, mapping.at(offset));
            let end_ns = monotonic_ns();
            let error = io::Error::last_os_error();
            assert_eq!(usize::try_from(count), Ok(BYTES), "{name}: {error}");
            let syscall = (*name).to_owned();
            touches.push(Touch {
                offset: offset as u64,
                begin_ns,
                end_ns,
                syscall,
            });
        }
    }
    let worker = Worker::here(touches);
    done_then_exit(&before.done(vec![worker]));
}
