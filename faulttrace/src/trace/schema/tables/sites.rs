//! What faults of one place have in common.

use super::{ID, REFERENCE, column, since};
use crate::trace::schema::Column;

/// Columns of the table of sites.
pub(super) const SITES: &[Column] = &[
    column("id", ID, "Identity in this trace"),
    column("thread", REFERENCE, "`threads.id`"),
    column("mode", "TEXT NOT NULL", "`user`, `kernel`, `gup`"),
    column("syscall", "TEXT", "The system call, for `kernel` and `gup`"),
    column("access", "TEXT", "`read`, `write`, `exec`; NULL if unknown"),
    column(
        "major",
        "INTEGER",
        "1: the kernel counted it in `maj_flt`; NULL: of reports in `stuck`, where nobody knows yet",
    ),
    column(
        "cause",
        "TEXT",
        "Why it had to wait; NULL if it did not sleep",
    ),
    column("mapping", "TEXT", "Kind of memory; NULL if unknown"),
    column(
        "file",
        "INTEGER",
        "`files.id`; NULL if unknown or without a name",
    ),
    column(
        "at",
        "TEXT",
        "What is known of the place: `both` address and offset, `offset`, `address`, or NULL",
    ),
    column(
        "base",
        "INTEGER",
        "With `both`: the address of a fault is `base` + its `at`",
    ),
    column(
        "ended",
        "TEXT",
        "How the end is known: `exact`, `approximate`, `died`; NULL with `major`",
    ),
    column(
        "began_before_attach",
        "INTEGER NOT NULL",
        "1: it began before faulttrace attached, so all its times are lower bounds",
    ),
    since(
        1,
        column(
            "begin_approximate",
            "INTEGER NOT NULL",
            "1: its beginning was not seen, and is the first moment at which it was: `duration_ns` is \
             a lower bound",
        ),
    ),
    column(
        "user_stack",
        "INTEGER",
        "`stacks.id`; NULL if it could not be read",
    ),
    column(
        "kernel_stack",
        "INTEGER",
        "`stacks.id`: where it slept longest; NULL without a sleep",
    ),
    since(
        4,
        column(
            "given_up",
            "INTEGER NOT NULL",
            "1: given up before it was complete, for a signal or because it failed, so the kernel counts it \
             neither as major nor as minor",
        ),
    ),
];
