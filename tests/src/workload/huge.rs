//! Huge pages that are had: new ones, and copies.

use std::fs::File;
use std::os::fd::AsRawFd as _;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, pause};

use crate::mem::{HUGE_PAGE, Mapping, PAGE};
use crate::truth::{Counters, Done, Touch, Worker};
use crate::workload::protocol::{done_then_exit, ready_then_go, ready_to_touch};
use crate::workload::touch::touch_asking;
use crate::workload::{bind_to_cpu, tid};

/// Touch huge pages, each for the first time; says which touches slept.
#[derive(Debug, clap::Args)]
pub struct HugeArgs {
    /// Touches that must have slept until it is enough.
    #[arg(long)]
    pub waits: usize,
    /// How many it may touch for that.
    #[arg(long)]
    pub pages: usize,
}

/// Runs the workload.
pub fn new_pages(args: &HugeArgs) {
    let memory = Mapping::huge((args.pages + 1) * HUGE_PAGE).expect("anonymous memory");
    let first = memory.first_huge_page();
    let mut next = (0..args.pages).map(|page| first + page * HUGE_PAGE / PAGE);
    ready_then_go(&ready_to_touch(vec![tid()], &memory));
    done_then_exit(&touch_until(args.waits, || {
        let page = next.next()?;
        Some(touch_asking(page, || memory.write(page, 1)))
    }));
}

/// Copy a huge page of hugetlbfs that a child has too, when no other is left; says which touches slept.
#[derive(Debug, clap::Args)]
pub struct HugeCopyArgs {
    /// Touches that must have slept until it is enough.
    #[arg(long)]
    pub waits: usize,
    /// How often it may be copied for that.
    #[arg(long)]
    pub copies: usize,
}

/// Runs the workload, which must have the only huge page that is reserved. The kernel owes it a copy, since it has
/// reserved it: with none left, it takes the page from the child instead, which it looks for with the lock of the
/// file's mappings (mm/hugetlb.c, unmap_ref_private). Descriptor `file` has another page, for others to map.
///
/// Single-threaded, so that a forked child may go on.
pub fn copies(args: &HugeCopyArgs) {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_HUGETLB;
    let file = File::from(memfd_create(c"huge", flags).expect("a file of huge pages"));
    file.set_len(HUGE_PAGE as u64).expect("room for a page");
    let memory = Mapping::file_private(&file).expect("one reserved huge page");
    file.set_len(2 * HUGE_PAGE as u64)
        .expect("room for another");
    memory.write(0, 1);
    bind_to_cpu(1);
    let mut ready = ready_to_touch(vec![tid()], &memory);
    let descriptor = u64::try_from(file.as_raw_fd()).expect("a descriptor");
    ready.places.insert("file".to_owned(), descriptor);
    ready_then_go(&ready);
    let mut left = args.copies;
    done_then_exit(&touch_until(args.waits, || {
        left = left.checked_sub(1)?;
        let child = child_that_waits();
        let touch = touch_asking(0, || memory.write(0, 1));
        kill(child, Signal::SIGKILL).expect("kill the child");
        waitpid(child, None).expect("wait for the child");
        Some(touch)
    }));
}

/// A child that has all that this process has, until it is killed.
fn child_that_waits() -> Pid {
    let parent = getpid();
    // SAFETY: this process has one thread, so the child can do whatever the parent could.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let _ = set_pdeathsig(Signal::SIGKILL);
            // Otherwise it is gone already.
            while getppid() == parent {
                pause();
            }
            // SAFETY: ends the child at once, without the parent's buffers and handlers.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Touches until so many touches have slept, or there is nothing more to touch.
fn touch_until(waits: usize, mut touch: impl FnMut() -> Option<Option<Touch>>) -> Done {
    let mut slept = Vec::with_capacity(waits);
    let before = Counters::now();
    while slept.len() < waits
        && let Some(touched) = touch()
    {
        slept.extend(touched);
    }
    before.done(vec![Worker::here(slept)])
}
