//! The columns of `samples`.

use super::{Column, ID, RECORD, column};

/// What was counted at one moment.
pub(super) const SAMPLES: &[Column] = &[
    column("id", ID, RECORD),
    column("pid", "INTEGER NOT NULL", "Process id"),
    column(
        "time_rel_ns",
        "INTEGER NOT NULL",
        "When, ns since `meta.base_ns`",
    ),
    column(
        "settled_rel_ns",
        "INTEGER NOT NULL",
        "Until when the faults of the process are all among the records before, ns since `meta.base_ns`",
    ),
    column(
        "stall_threads",
        "INTEGER NOT NULL",
        "So many threads blocked at once are a stall, since the sample before",
    ),
    column(
        "in_fault",
        "INTEGER NOT NULL",
        "Threads of the process that were asleep in a fault",
    ),
    column(
        "threads",
        "INTEGER",
        "Threads of the process; NULL if unknown, as in all of these",
    ),
    column(
        "running",
        "INTEGER",
        "Those of them that ran or were ready to",
    ),
    column("disk_sleep", "INTEGER", "Those of them in state D"),
    column(
        "user_ns",
        "INTEGER",
        "CPU time in user mode since it started, ns",
    ),
    column(
        "system_ns",
        "INTEGER",
        "CPU time in the kernel since it started, ns",
    ),
    column(
        "blkio_ns",
        "INTEGER",
        "Time its main thread waited for block I/O, ns; NULL without delay accounting",
    ),
    column(
        "iowait_ns",
        "INTEGER",
        "Time the machine's CPUs were idle while something waited for block I/O, since boot, ns",
    ),
    column(
        "run_queue",
        "INTEGER",
        "Threads of the machine that ran or were ready to",
    ),
    column(
        "pressure",
        "TEXT",
        "Whose pressure follows: `cgroup` of the process, `system`, or NULL",
    ),
    column(
        "memory_some_ns",
        "INTEGER",
        "Time that some task waited for memory, ns",
    ),
    column(
        "memory_full_ns",
        "INTEGER",
        "Time that all that were not idle did, ns",
    ),
    column("io_some_ns", "INTEGER", "The same for I/O, ns"),
    column("io_full_ns", "INTEGER", "The same for I/O, ns"),
];
