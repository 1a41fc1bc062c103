//! A process with children that fault: some forked, some that execute another image.

use std::path::PathBuf;
use std::process::Command;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::truth::{Counters, Touch, Worker};
use crate::workload::plain::touch_pages;
use crate::workload::protocol::{done_then_exit, ready, ready_then_go};

/// Children that touch cold pages; the parent itself touches none.
#[derive(Debug, clap::Args)]
pub struct TreeArgs {
    /// The file; evict it before `go`.
    pub file: PathBuf,
    /// Children that are forked, and as many that are executed.
    #[arg(long, default_value_t = 2)]
    pub children: usize,
    /// Pages that each child touches.
    #[arg(long, default_value_t = 10)]
    pub touches: usize,
}

/// Runs the workload. Single-threaded, so that a forked child may go on.
pub fn run(args: &TreeArgs) {
    ready_then_go(&ready(Vec::new()));
    let before = Counters::now();
    let mut workers = Vec::new();
    for index in 0..args.children {
        workers.push(forked(args, index * args.touches));
    }
    for index in args.children..args.children * 2 {
        workers.push(executed(args, index * args.touches));
    }
    done_then_exit(&before.done(workers));
}

fn forked(args: &TreeArgs, first: usize) -> Worker {
    // SAFETY: this process has one thread, so the child can do whatever the parent could.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            touch_pages(&args.file, first, args.touches);
            // SAFETY: ends the child at once, without the parent's buffers and handlers.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).expect("wait for the child");
            assert_eq!(status, WaitStatus::Exited(child, 0), "the forked child");
            expected(
                u32::try_from(child.as_raw()).expect("a pid"),
                first,
                args.touches,
            )
        }
    }
}

fn executed(args: &TreeArgs, first: usize) -> Worker {
    let mut child = Command::new("/proc/self/exe")
        .arg("plain")
        .arg(&args.file)
        .arg(format!("--touches={}", args.touches))
        .arg(format!("--first-page={first}"))
        .spawn()
        .expect("execute the child");
    let pid = child.id();
    assert!(
        child.wait().expect("wait for the child").success(),
        "the executed child"
    );
    expected(pid, first, args.touches)
}

/// Which pages the child has touched: its times are its own.
fn expected(pid: u32, first: usize, touches: usize) -> Worker {
    let offset = |page: usize| (page * crate::mem::PAGE) as u64;
    let touches = (first..first + touches)
        .map(|page| Touch {
            offset: offset(page),
            ..Touch::default()
        })
        .collect();
    Worker {
        pid,
        tid: pid,
        touches,
        ..Worker::default()
    }
}
