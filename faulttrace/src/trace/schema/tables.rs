//! The tables.
//!
//! Faults are what there are many of, so a row of `faults` has only what is its own, in small
//! numbers; everything that repeats is stored once and named by a small id.

mod cache;
mod go;
mod io;
mod samples;
mod sites;

use super::{Column, Table};
use cache::{CACHE_FILL_BY, CACHE_FILLS, HISTORIES, READ_AHEADS};
use go::{FAULT_GOROUTINES, GO_PROCESSES, GOROUTINE_LABELS, GOROUTINES};
use samples::SAMPLES;
use sites::SITES;

const fn column(name: &'static str, kind: &'static str, meaning: &'static str) -> Column {
    Column {
        name,
        kind,
        meaning,
        since: 0,
    }
}

/// A column that this minor version added.
const fn since(minor: i32, column: Column) -> Column {
    Column {
        since: minor,
        ..column
    }
}

const NONE: (&str, &str) = ("", "");
const ID: &str = "INTEGER PRIMARY KEY";
const RECORD: &str = "Number of the record: all records together are numbered in their order";
const REFERENCE: &str = "INTEGER NOT NULL";

/// All tables.
pub const TABLES: &[Table] = &[
    Table {
        name: "meta",
        since: 0,
        meaning: "A fact about the whole trace, by name; see [meta](#keys-of-meta).",
        columns: &[
            column("key", "TEXT PRIMARY KEY", "Name of the fact"),
            column("value", "ANY", "The fact"),
        ],
        constraint: ("", " WITHOUT ROWID"),
    },
    Table {
        name: "arguments",
        since: 0,
        meaning: "A word of the command line of faulttrace.",
        columns: &[
            column("id", ID, "Position, from 1"),
            column("argument", "TEXT NOT NULL", "The word"),
        ],
        constraint: NONE,
    },
    Table {
        name: "targets",
        since: 0,
        meaning: "A process that was traced from the start. None with `--all`.",
        columns: &[
            column("id", ID, "Position, from 1"),
            column("pid", "INTEGER NOT NULL", "Process id"),
            column("name", "TEXT NOT NULL", "Name of its main thread"),
            column("exe", "TEXT", "Path of its executable; NULL if unknown"),
        ],
        constraint: NONE,
    },
    Table {
        name: "rungs",
        since: 0,
        meaning: "How one job was done on that kernel.",
        columns: &[
            column("id", ID, "Position, from 1"),
            column("job", "TEXT NOT NULL", "The job"),
            column("rung", "TEXT NOT NULL", "The way taken"),
        ],
        constraint: NONE,
    },
    Table {
        name: "faults",
        since: 0,
        meaning: "A fault that is over. `fault_details` shows it with everything it refers to.",
        columns: FAULTS,
        constraint: NONE,
    },
    Table {
        name: "sleeps",
        since: 0,
        meaning: "The longest sleep of a fault that slept more than once; of the others it is \
                  `blocked_ns` and `runqueue_ns` of the fault itself.",
        columns: &[
            column("fault", ID, "`faults.id`"),
            column("blocked_ns", "INTEGER NOT NULL", "Asleep, ns"),
            column(
                "runqueue_ns",
                "INTEGER NOT NULL",
                "Then ready to run without a CPU, ns",
            ),
        ],
        constraint: NONE,
    },
    Table {
        name: "sites",
        since: 0,
        meaning: "What faults of one thread, in one code, on one mapping, for one reason have in \
                  common.",
        columns: SITES,
        constraint: NONE,
    },
    Table {
        name: "stuck",
        since: 0,
        meaning: "A report of a fault that had lasted longer than `--stuck-after` and was not over.",
        columns: &[
            column("id", ID, RECORD),
            column("site", REFERENCE, "`sites.id`"),
            column(
                "begin_rel_ns",
                "INTEGER",
                "When it began, ns since `meta.base_ns`; NULL if before attach",
            ),
            column(
                "elapsed_ns",
                "INTEGER NOT NULL",
                "How long it had lasted, ns",
            ),
            column("report", "INTEGER NOT NULL", "Which report of it, from 1"),
            column("at", "INTEGER", "As in `faults`"),
        ],
        constraint: NONE,
    },
    Table {
        name: "processes",
        since: 0,
        meaning: "A process was first seen, or replaced its program.",
        columns: &[
            column("id", ID, RECORD),
            column("pid", "INTEGER NOT NULL", "Process id"),
            column("name", "TEXT NOT NULL", "Name of its main thread"),
            column("exe", "TEXT", "Path of its executable; NULL if unknown"),
        ],
        constraint: NONE,
    },
    Table {
        name: "process_ends",
        since: 0,
        meaning: "A process ended.",
        columns: &[
            column("id", ID, RECORD),
            column("pid", "INTEGER NOT NULL", "Process id"),
            column(
                "time_rel_ns",
                "INTEGER NOT NULL",
                "When, ns since `meta.base_ns`",
            ),
        ],
        constraint: NONE,
    },
    Table {
        name: "losses",
        since: 0,
        meaning: "Something was not recorded, or not in full.",
        columns: &[
            column("id", ID, RECORD),
            column(
                "class",
                "TEXT NOT NULL",
                "`lost`, `filtered`, `approximate`, `unreadable`",
            ),
            column(
                "reason",
                "TEXT NOT NULL",
                "What happened; docs/json.md has them",
            ),
            column(
                "count",
                "INTEGER NOT NULL",
                "How many since the last such record of this reason: add them up",
            ),
        ],
        constraint: NONE,
    },
    Table {
        name: "accounts",
        since: 0,
        meaning: "The kernel's own count of a process's major faults, at its end or the trace's.",
        columns: &[
            column("id", ID, RECORD),
            column("pid", "INTEGER NOT NULL", "Process id"),
            column(
                "maj_flt_delta",
                "INTEGER",
                "How much `maj_flt` grew; NULL if it could not be read",
            ),
        ],
        constraint: NONE,
    },
    Table {
        name: "transport",
        since: 0,
        meaning: "What went through the ring buffer: one row, when the trace was ended in order.",
        columns: &[
            column("id", ID, RECORD),
            column("emitted", "INTEGER NOT NULL", "Faults offered to it"),
            column("received", "INTEGER NOT NULL", "Faults taken out"),
            column(
                "lost",
                "INTEGER NOT NULL",
                "Faults it refused because it was full",
            ),
        ],
        constraint: NONE,
    },
    Table {
        name: "threads",
        since: 0,
        meaning: "A thread under one name; again if it was renamed.",
        columns: &[
            column("id", ID, "Identity in this trace"),
            column(
                "pid",
                "INTEGER",
                "Process id; NULL of a waker that has none in the tracer's pid namespace",
            ),
            column("tid", "INTEGER", "Thread id; NULL likewise"),
            column("name", "TEXT NOT NULL", "Its name"),
        ],
        constraint: NONE,
    },
    Table {
        name: "files",
        since: 0,
        meaning: "A file, or the kernel's label of other memory, that faults were on.",
        columns: &[
            column("id", ID, "Identity in this trace"),
            column(
                "path",
                "TEXT NOT NULL",
                "Path, or the label without brackets",
            ),
            column(
                "deleted",
                "INTEGER NOT NULL",
                "1: it was deleted after it was mapped",
            ),
        ],
        constraint: NONE,
    },
    Table {
        name: "modules",
        since: 0,
        meaning: "A program, library or kernel module that frames are in.",
        columns: &[
            column("id", ID, "Identity in this trace"),
            column(
                "path",
                "TEXT NOT NULL",
                "Path as mapped, or the kernel module",
            ),
            column(
                "build_id",
                "BLOB",
                "Its build id, for symbols that were not read then; NULL if unknown",
            ),
        ],
        constraint: NONE,
    },
    Table {
        name: "frames",
        since: 0,
        meaning: "A frame of stacks.",
        columns: FRAMES,
        constraint: NONE,
    },
    Table {
        name: "stacks",
        since: 0,
        meaning: "A stack of a process or of the kernel.",
        columns: &[
            column("id", ID, "Identity in this trace"),
            column(
                "hash",
                "INTEGER NOT NULL",
                "`user_stack_id` of docs/json.md as a signed number",
            ),
            column(
                "truncated",
                "INTEGER NOT NULL",
                "1: there were more frames than could be captured",
            ),
        ],
        constraint: NONE,
    },
    Table {
        name: "stack_frames",
        since: 0,
        meaning: "Which frames a stack has.",
        columns: &[
            column("stack", REFERENCE, "`stacks.id`"),
            column("position", "INTEGER NOT NULL", "0 is the innermost"),
            column("frame", REFERENCE, "`frames.id`"),
        ],
        constraint: (",\n  PRIMARY KEY (stack, position)", " WITHOUT ROWID"),
    },
    io::DEVICES,
    io::FAULT_IO,
    Table {
        name: "samples",
        since: 1,
        meaning: "What the kernel counted of a process and of the machine at one moment, some times a \
                  second while the process has faults. Of columns in ns the difference of two rows \
                  tells what there was between them.",
        columns: SAMPLES,
        constraint: NONE,
    },
    HISTORIES,
    CACHE_FILLS,
    CACHE_FILL_BY,
    READ_AHEADS,
    GO_PROCESSES,
    GOROUTINES,
    GOROUTINE_LABELS,
    FAULT_GOROUTINES,
];

const FAULTS: &[Column] = &[
    column("id", ID, RECORD),
    column("site", REFERENCE, "`sites.id`"),
    column(
        "end_rel_ns",
        "INTEGER NOT NULL",
        "When it ended, ns since `meta.base_ns`",
    ),
    column(
        "duration_ns",
        "INTEGER NOT NULL",
        "Entry to completion, ns; it began at `end_rel_ns - duration_ns`",
    ),
    column("blocked_ns", "INTEGER NOT NULL", "Asleep, ns"),
    column(
        "runqueue_ns",
        "INTEGER NOT NULL",
        "Ready to run, without a CPU, ns; the rest of `duration_ns` it ran",
    ),
    column(
        "switches",
        "INTEGER NOT NULL",
        "How often the thread left the CPU",
    ),
    column(
        "at",
        "INTEGER",
        "Where: the offset in the file (page and byte in it) if `sites.at` is `both` or `offset`, \
         the address if it is `address`",
    ),
    column(
        "slept_after_ns",
        "INTEGER",
        "When its longest sleep began, ns after the fault; NULL if it did not sleep or if that is \
         not known",
    ),
    column(
        "waker",
        "INTEGER",
        "Who ended that sleep: `threads.id`, 0 for an interrupt; NULL if unknown",
    ),
    since(
        2,
        column(
            "waker_syscall",
            "TEXT",
            "The system call that thread was in; NULL if in none or unknown",
        ),
    ),
];

const FRAMES: &[Column] = &[
    column("id", ID, "Identity in this trace"),
    column(
        "address",
        "INTEGER NOT NULL",
        "Instruction address, of a caller the return address; signed, `printf('%#x', address)` \
         shows it",
    ),
    column("function", "TEXT", "Demangled name; NULL without a symbol"),
    column("offset", "INTEGER", "Offset in the function, bytes"),
    column("module", "INTEGER", "`modules.id`"),
    column(
        "module_offset",
        "INTEGER",
        "Offset in the module's file, bytes",
    ),
    column("file", "TEXT", "Source file"),
    column("line", "INTEGER", "Source line, from 1"),
    column(
        "inlined",
        "INTEGER NOT NULL",
        "1: this call was inlined into the function of the next frame",
    ),
];

/// Keys of `meta` and what they say.
pub(super) const META: &[(&str, &str)] = &[
    ("version", "Version of faulttrace"),
    ("host", "Host name"),
    ("kernel", "Kernel release, as `uname -r`"),
    ("arch", "Machine, as `uname -m`"),
    ("cpus", "CPUs that were online"),
    ("page_bytes", "Size of a page, bytes"),
    ("base_ns", "Unix time that times are counted from, ns"),
    ("start_ns", "Unix time at which tracing began, ns"),
    (
        "written_ns",
        "Unix time until which everything that was reported is in the file, ns",
    ),
    (
        "state",
        "`complete`: ended in order; `recording`: it still goes on, or faulttrace was killed; \
         else why writing stopped",
    ),
    (
        "dropped_faults",
        "Oldest faults that were removed to keep to `--max-size`",
    ),
    ("dropped_majors", "Major ones of them"),
    (
        "dropped_stuck",
        "Reports in `stuck` that were removed with them",
    ),
];
