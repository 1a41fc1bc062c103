//! Go programs.

use super::{ID, NONE, RECORD, REFERENCE, column};
use crate::trace::schema::Table;

/// The table of programs.
pub(super) const GO_PROCESSES: Table = Table {
    name: "go_processes",
    since: 4,
    meaning: "A process was found to run a Go program; again when its GOMAXPROCS was seen to have \
              changed.",
    columns: &[
        column("id", ID, RECORD),
        column("pid", "INTEGER NOT NULL", "Process id"),
        column(
            "time_rel_ns",
            "INTEGER NOT NULL",
            "When, ns since `meta.base_ns`",
        ),
        column(
            "version",
            "TEXT NOT NULL",
            "Version of Go, as its build information has it",
        ),
        column("module", "TEXT", "Path of its main module; NULL if unknown"),
        column(
            "gomaxprocs",
            "INTEGER",
            "GOMAXPROCS then; NULL if it could not be read",
        ),
        column(
            "layout",
            "TEXT",
            "How it is known where its runtime keeps things: `debug_info`, `table`; NULL if it is \
             not, so that nothing is known of its goroutines",
        ),
    ],
    constraint: NONE,
};

/// The table of goroutines.
pub(super) const GOROUTINES: Table = Table {
    name: "goroutines",
    since: 4,
    meaning: "A goroutine that had faults, or the runtime itself at work.",
    columns: &[
        column("id", ID, "Identity in this trace"),
        column("pid", "INTEGER NOT NULL", "Process id"),
        column(
            "goroutine",
            "INTEGER",
            "Its number; NULL: the thread worked for the runtime itself",
        ),
        column(
            "start",
            "TEXT",
            "The function that it was made to run, or the compiler's wrapper of it; NULL if unknown",
        ),
        column(
            "created_by",
            "TEXT",
            "The function whose `go` statement made it; NULL if unknown",
        ),
        column(
            "labels_left_out",
            "INTEGER",
            "Labels of the profiler besides those in `goroutine_labels`; NULL if it has none, or none \
             that could be read",
        ),
    ],
    constraint: NONE,
};

/// The table of labels.
pub(super) const GOROUTINE_LABELS: Table = Table {
    name: "goroutine_labels",
    since: 4,
    meaning: "A label that a program gave a goroutine for the profiler.",
    columns: &[
        column("goroutine", REFERENCE, "`goroutines.id`"),
        column(
            "position",
            "INTEGER NOT NULL",
            "From 0, in the order of the keys",
        ),
        column("key", "TEXT NOT NULL", "Its key; cut if it ends in `…`"),
        column("value", "TEXT NOT NULL", "Its value; likewise"),
    ],
    constraint: (",\n  PRIMARY KEY (goroutine, position)", " WITHOUT ROWID"),
};

/// The table of what threads were at in their faults.
pub(super) const FAULT_GOROUTINES: Table = Table {
    name: "fault_goroutines",
    since: 4,
    meaning: "What the thread of a Go program was at in a fault that is over, or in a report of one that \
              is not; those of which it could not be read have no row.",
    columns: &[
        column("record", ID, "`faults.id` or `stuck.id`"),
        column("goroutine", REFERENCE, "`goroutines.id`"),
        column(
            "p",
            "INTEGER",
            "Number of the P that the thread held; NULL: none, or one that the runtime gives to \
             others",
        ),
        column(
            "in_syscall",
            "INTEGER NOT NULL",
            "1: the runtime knew that it was in a system call or in C",
        ),
        column("gomaxprocs", "INTEGER", "GOMAXPROCS; NULL if unknown"),
        column(
            "queued_local",
            "INTEGER",
            "Goroutines that were ready to run and waited for this P; NULL if unknown",
        ),
        column(
            "queued_global",
            "INTEGER",
            "Goroutines that were ready to run and waited for any P; NULL if unknown",
        ),
        column(
            "queued_global_at_end",
            "INTEGER",
            "The same at the end of the fault; NULL if unknown or not over",
        ),
    ],
    constraint: NONE,
};
