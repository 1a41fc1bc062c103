//! What a workload knows about itself: the ground truth that the tracer's records are held to.
//!
//! Written by the workload process, read by the test: one serde type for both.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};
use serde::{Deserialize, Serialize};

use crate::clock::monotonic_ns;
use crate::workload::tid;

/// What a workload says when it is set up and waits for `go`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Ready {
    pub pid: u32,
    /// The threads that will do the work, if they exist already.
    pub tids: Vec<u32>,
    /// Places in the program, by name: for example the address of a mapping.
    pub places: BTreeMap<String, u64>,
}

/// What a workload says when its work is done.
///
/// Programs of the tests' own that know less leave fields out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Done {
    pub pid: u32,
    pub uid: u32,
    /// From `go` to the end of the work, ns.
    pub wall_ns: u64,
    /// Growth of `ru_majflt` (RUSAGE_SELF) during the work.
    pub rusage_majors: u64,
    /// Growth of `maj_flt` in /proc/self/stat during the work.
    pub stat_majors: u64,
    /// Growth of `ru_nvcsw`: how often the process's threads went to sleep.
    pub sleeps: u64,
    /// Growth of the CPU time of the process, user and system (getrusage), ns.
    pub cpu_ns: u64,
    /// The threads that did the work.
    pub threads: Vec<Worker>,
    /// Other figures of the workload, by name.
    pub figures: BTreeMap<String, u64>,
}

/// One thread's part of the work.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Worker {
    pub pid: u32,
    pub tid: u32,
    pub name: String,
    /// Time in its touches by its own clock, ns.
    pub touch_ns: u64,
    /// Time from its first touch to its last in which it did not run: its own clock's time less its
    /// CPU time, ns; 0 where that was not measured.
    pub lost_ns: u64,
    /// Of that, runnable but waiting for a CPU, as the kernel counts it (/proc/thread-self/schedstat);
    /// 0 where that was not measured.
    pub queued_ns: u64,
    pub touches: Vec<Touch>,
}

impl Worker {
    /// The calling thread, with what it did.
    pub fn here(touches: Vec<Touch>) -> Worker {
        Worker {
            pid: std::process::id(),
            tid: tid(),
            touch_ns: touches.iter().map(Touch::elapsed_ns).sum(),
            touches,
            ..Worker::default()
        }
    }
}

/// One touch of one page.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Touch {
    /// Bytes from the beginning of the file.
    pub offset: u64,
    /// `CLOCK_MONOTONIC`, ns.
    pub begin_ns: u64,
    pub end_ns: u64,
    /// The system call that touched it, empty for the program itself.
    pub syscall: String,
}

impl Touch {
    /// How long it took, ns.
    pub fn elapsed_ns(&self) -> u64 {
        self.end_ns - self.begin_ns
    }
}

/// The kernel's counters at one moment; the difference of two is the truth.
#[derive(Debug, Clone, Copy)]
pub struct Counters {
    monotonic_ns: u64,
    rusage_majors: u64,
    stat_majors: u64,
    sleeps: u64,
    cpu_ns: u64,
}

impl Counters {
    /// Of this process, now.
    pub fn now() -> Counters {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage of oneself");
        Counters {
            monotonic_ns: monotonic_ns(),
            rusage_majors: u64::try_from(usage.major_page_faults()).expect("a count"),
            stat_majors: maj_flt(std::process::id()).expect("/proc/self/stat is readable"),
            sleeps: u64::try_from(usage.voluntary_context_switches()).expect("a count"),
            cpu_ns: ns(usage.user_time()) + ns(usage.system_time()),
        }
    }

    /// What happened since, to be filled with what the threads did.
    pub fn done(&self, threads: Vec<Worker>) -> Done {
        let now = Counters::now();
        Done {
            pid: std::process::id(),
            uid: nix::unistd::getuid().as_raw(),
            wall_ns: now.monotonic_ns - self.monotonic_ns,
            rusage_majors: now.rusage_majors - self.rusage_majors,
            stat_majors: now.stat_majors - self.stat_majors,
            sleeps: now.sleeps - self.sleeps,
            cpu_ns: now.cpu_ns - self.cpu_ns,
            threads,
            figures: BTreeMap::new(),
        }
    }
}

fn ns(time: TimeVal) -> u64 {
    u64::try_from(time.num_nanoseconds()).expect("a time")
}

/// `maj_flt` of a process, all its threads and dead ones included (/proc/PID/stat, field 12).
pub fn maj_flt(pid: u32) -> io::Result<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    let stat = String::from_utf8_lossy(&stat);
    let field = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(9))
        .and_then(|field| field.parse().ok());
    field.ok_or_else(|| io::Error::other(format!("cannot read maj_flt in: {stat}")))
}
