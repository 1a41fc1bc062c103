//! Go programs: what they are, and what their threads were at in faults.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Name;

/// A process that runs a Go program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoProcess {
    /// Process id (tgid).
    pub pid: u32,
    /// Unix time at which that was known, ns.
    pub time_ns: u64,
    /// Version of Go, as its build information has it (`go1.27.3`).
    pub version: Name,
    /// Path of the main module.
    pub module: Option<Name>,
    /// GOMAXPROCS at that time; `None` if it could not be read.
    pub procs: Option<u32>,
    /// How the runtime's memory is read; `None`: it is not, because the layout of this version is not
    /// known, or it was not found in the process.
    pub layout: Option<LayoutSource>,
}

/// How it is known where the runtime keeps things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LayoutSource {
    /// By the program's debug information.
    DebugInfo,
    /// By faulttrace's own table of versions.
    Table,
}

/// What a thread of a Go program was at in a fault: as it first slept in it, or at its end if it did
/// not, or if that was not seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Goroutine {
    /// Its number; `None`: the thread worked for the runtime itself.
    pub id: Option<u64>,
    /// The function that it was made to run, or the compiler's wrapper of it until a stack has shown that.
    pub start: Option<Name>,
    /// The function whose `go` statement made it.
    pub created_by: Option<Name>,
    /// Number of the P that the thread held, so that no other thread could run goroutines with it;
    /// `None`: it held none, or one that the runtime gives to others.
    pub p: Option<u32>,
    /// The runtime knew that the thread was in a system call or in C.
    pub in_syscall: bool,
    /// GOMAXPROCS. It cannot change while any P is held in a fault: that takes all of them to stop.
    pub procs: Option<u32>,
    /// Goroutines that were ready to run, and waited for this P.
    pub queued_local: Option<u32>,
    /// Goroutines that were ready to run, and waited for any P.
    pub queued_global: Option<u32>,
    /// The same at the fault's end.
    pub queued_global_at_end: Option<u32>,
    /// Labels that the program gave it for the profiler; `None`: none, or none that could be read.
    pub labels: Option<Arc<GoLabels>>,
}

/// Labels of a goroutine (runtime/pprof, `Do` and `SetGoroutineLabels`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct GoLabels {
    /// Keys and values, in the order of the keys. Long ones are cut, and end in `…` then.
    pub kept: Vec<(Name, Name)>,
    /// How many there are besides.
    pub left_out: u32,
}
