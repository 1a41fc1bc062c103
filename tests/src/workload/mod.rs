//! The programs that fault, each a subcommand of `faulttrace-workload`.
//!
//! They set up, say `ready`, wait for `go`, do one thing, say `done` with what they themselves
//! know about it, and wait to be told to exit: the tracer is attached before and the records are
//! compared after.

pub mod anon;
pub mod blocked;
pub mod blocks;
pub mod chaos;
pub mod churn;
pub mod cold;
pub mod contend;
pub mod direct;
pub mod grow;
pub mod gup;
pub mod huge;
pub mod kernel_mode;
pub mod mmap_lock;
pub mod paced;
pub mod pieces;
pub mod plain;
pub mod protocol;
pub mod quiet;
pub mod replaced;
pub mod revisit;
pub mod split;
pub mod stall;
pub mod swap;
pub mod together;
pub mod touch;
pub mod tree;
pub mod uffd;
pub mod written;

use std::ffi::CString;
use std::os::raw::c_ulong;

use nix::sys::resource::{UsageWho, getrusage};

/// How often the calling thread went to sleep (`ru_nvcsw`).
pub fn sleeps() -> i64 {
    getrusage(UsageWho::RUSAGE_THREAD)
        .expect("getrusage of oneself")
        .voluntary_context_switches()
}

/// The id of the calling thread.
pub fn tid() -> u32 {
    u32::try_from(nix::unistd::gettid().as_raw()).expect("ids are positive")
}

/// Names the calling thread with any bytes but NUL; the kernel keeps the first 15.
pub fn name_thread(name: &[u8]) {
    let name = CString::new(name).expect("a thread name without NUL");
    // SAFETY: PR_SET_NAME reads a NUL-terminated string, which outlives the call.
    let done = unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr() as c_ulong, 0, 0, 0) };
    assert_eq!(done, 0, "prctl(PR_SET_NAME)");
}

/// Binds the calling thread to one CPU.
pub fn bind_to_cpu(cpu: usize) {
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu).expect("a CPU number");
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).expect("bind to a CPU");
}
