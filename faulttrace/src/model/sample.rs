//! What the kernel counts of a traced process and of the machine, read now and then: what stands
//! beside the stalls ([`super::stall`]).

/// The counters of a process and of the machine at one moment. Those in ns are totals since the
/// process or the machine started, to be subtracted from each other. `None` is what could not be
/// read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// Process id (tgid).
    pub pid: u32,
    /// Unix time at which the counters were read, ns.
    pub time_ns: u64,
    /// Unix time, ns, not after `time_ns`: what faults the process was in until then is told by the
    /// records before this one, be it as stuck.
    pub settled_ns: u64,
    /// So many threads of the process blocked at once are a stall, since the sample before this.
    pub stall_threads: u32,
    /// Threads of the process that were asleep in a fault.
    pub in_fault: u32,
    /// What the kernel counts of the process.
    pub process: ProcessCounters,
    /// What it counts of the machine.
    pub system: SystemCounters,
    /// Pressure stall information.
    pub pressure: Option<Pressure>,
}

/// Of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessCounters {
    /// Its threads.
    pub threads: Option<u32>,
    /// Threads that ran or were ready to run (state R).
    pub running: Option<u32>,
    /// Threads in uninterruptible sleep (state D), in a fault or not.
    pub disk_sleep: Option<u32>,
    /// CPU time in user mode, ended threads included, ns; in steps of a clock tick.
    pub user_ns: Option<u64>,
    /// CPU time in the kernel, likewise.
    pub system_ns: Option<u64>,
    /// Time that its main thread waited for block I/O, ns; only with delay accounting.
    pub blkio_ns: Option<u64>,
}

/// Of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SystemCounters {
    /// Time of all CPUs together that were idle while something waited for block I/O, ns.
    pub iowait_ns: Option<u64>,
    /// Threads that ran or were ready to run.
    pub run_queue: Option<u32>,
}

/// Whose pressure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PressureOf {
    /// Of the process's cgroup and those below it.
    Cgroup,
    /// Of the whole machine.
    System,
}

/// Time that tasks waited for want of memory, and for I/O (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    /// Of whom.
    pub of: PressureOf,
    /// For want of memory: reclaim, refaults, swap-in.
    pub memory: Option<Waits>,
    /// For I/O.
    pub io: Option<Waits>,
}

/// Totals of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Some task waited, ns.
    pub some_ns: u64,
    /// All that were not idle waited, ns.
    pub full_ns: u64,
}

/// The reason under which samples are counted that were put off, or not taken, because too many
/// processes had faults.
pub(crate) const NOT_SAMPLED: &str = "samples_left_out";
/// The same for samples without what is read, because that did not come in time.
pub(crate) const SAMPLED_LATE: &str = "samples_late";
