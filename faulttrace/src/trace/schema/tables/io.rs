//! What devices did for faults.

use super::{ID, NONE, column, since};
use crate::trace::schema::Table;

/// The table of devices.
pub(super) const DEVICES: Table = Table {
    name: "devices",
    since: 2,
    meaning: "A block device that faults read from, with `--io`.",
    columns: &[
        column("id", ID, "Identity in this trace"),
        column("major", "INTEGER NOT NULL", "Major number"),
        column("minor", "INTEGER NOT NULL", "Minor number"),
        column("name", "TEXT", "As in `/sys/block`; NULL if unknown"),
    ],
    constraint: NONE,
};

/// The table of their work.
pub(super) const FAULT_IO: Table = Table {
    name: "fault_io",
    since: 2,
    meaning: "What block devices did for the reads that a fault began, with `--io`; faults that began \
              none have no row. Of one in `stuck`, what they had done by then. Queued is until the driver got the request, served from then until \
              the device had done with it.",
    columns: &[
        column("fault", ID, "`faults.id` or `stuck.id`"),
        column(
            "device",
            "INTEGER",
            "`devices.id`: the device of its first request; without any, the device that was asked; \
             NULL if unknown",
        ),
        column(
            "requests",
            "INTEGER NOT NULL",
            "Requests that drivers had got by the end of the fault",
        ),
        column(
            "shared",
            "INTEGER NOT NULL",
            "Of those: with reads of others in them",
        ),
        column(
            "elsewhere",
            "INTEGER NOT NULL",
            "Of those: to other devices than `device`",
        ),
        column(
            "completed",
            "INTEGER NOT NULL",
            "Of those: completed by the end of the fault",
        ),
        column("bytes", "INTEGER NOT NULL", "What the thread asked for"),
        column(
            "queued_ns",
            "INTEGER NOT NULL",
            "Queued, sum over the requests that were completed, ns",
        ),
        column(
            "served_ns",
            "INTEGER NOT NULL",
            "Served, sum over the requests that were completed, ns",
        ),
        column(
            "last_queued_ns",
            "INTEGER",
            "Queued, of the request that was completed last, ns; NULL if none was, or too long to \
             be kept",
        ),
        column(
            "last_served_ns",
            "INTEGER",
            "Served, of that request, ns; NULL likewise",
        ),
        since(
            7,
            column(
                "held_ns",
                "INTEGER",
                "How long the thread had slept when the read of its page was handed on, which a limit \
                 had held back, ns, and how long its parts waited for their turn; 0 if none did, NULL if \
                 that is not known",
            ),
        ),
    ],
    constraint: NONE,
};
