//! The tables of what `--evictions` adds.

use super::{Column, ID, NONE, RECORD, REFERENCE, Table, column, since};

pub(super) const HISTORIES: Table = Table {
    name: "histories",
    since: 2,
    meaning: "What is known of the page of a fault before it was read (`--evictions`).",
    columns: HISTORY,
    constraint: NONE,
};

pub(super) const CACHE_FILLS: Table = Table {
    name: "cache_fills",
    since: 2,
    meaning: "What came into the page cache and left it in some time, of all processes \
                  (`--evictions`).",
    columns: FILL,
    constraint: NONE,
};

pub(super) const CACHE_FILL_BY: Table = Table {
    name: "cache_fill_by",
    since: 2,
    meaning: "Who added most in that time.",
    columns: FILL_BY,
    constraint: (",\n  PRIMARY KEY (fill, position)", " WITHOUT ROWID"),
};

pub(super) const READ_AHEADS: Table = Table {
    name: "read_aheads",
    since: 5,
    meaning: "What faults of user mode of the traced processes had read of a file besides the pages that \
              they asked for, in some time, and what became in that time of that and of what had been \
              read ahead before (`--evictions`).",
    columns: READ_AHEAD,
    constraint: NONE,
};

/// The past of a fault's page.
const HISTORY: &[Column] = &[
    column("fault", ID, "`faults.id`"),
    column(
        "watched_rel_ns",
        "INTEGER",
        "Since when the pages of its file are watched, ns since `meta.base_ns`; NULL: they are not",
    ),
    column(
        "past",
        "TEXT NOT NULL",
        "`first_touch`: not in memory since; `refault`: it had been, and was removed; `unknown`",
    ),
    column(
        "removed_rel_ns",
        "INTEGER",
        "Of a refault: when it was removed, ns since `meta.base_ns`",
    ),
    column(
        "cached_rel_ns",
        "INTEGER",
        "Since when it had been in memory, ns since `meta.base_ns`; NULL: since before it was watched",
    ),
    column(
        "how",
        "TEXT",
        "Why it was removed: `kswapd`, `direct_reclaim`, `memcg_reclaim`, `other_reclaim`, \
         `drop_caches`, `fadvise`, `truncate`, `invalidate`, `unknown`",
    ),
    column("remover", "INTEGER", "Who did it: `threads.id`"),
    column(
        "syscall",
        "TEXT",
        "The system call that the remover was in; NULL without one",
    ),
    column(
        "distance_pages",
        "INTEGER",
        "Pages that reclaim took from the same memory cgroup between the removal and the reading; \
         NULL if unknown",
    ),
    column(
        "filler",
        "INTEGER",
        "Who added most to the page cache while the page was in it: `threads.id` of a thread of the \
         process; NULL if unknown",
    ),
    column("filler_pages", "INTEGER", "How many pages that were"),
    column("filled_pages", "INTEGER", "How many all added"),
    since(
        3,
        column(
            "remover_cgroup",
            "TEXT",
            "The cgroup (version 2) that the remover was in, `/` for the root; NULL if not known, as \
             when the cgroup was gone",
        ),
    ),
];

/// What came and went.
const FILL: &[Column] = &[
    column("id", ID, RECORD),
    column(
        "begin_rel_ns",
        "INTEGER NOT NULL",
        "From when, ns since `meta.base_ns`",
    ),
    column(
        "end_rel_ns",
        "INTEGER NOT NULL",
        "Until when, ns since `meta.base_ns`",
    ),
    column("added_pages", "INTEGER NOT NULL", "Pages added"),
    column("removed_pages", "INTEGER NOT NULL", "Pages removed"),
    column(
        "reclaimed_pages",
        "INTEGER NOT NULL",
        "Pages removed by reclaim",
    ),
];

/// Who brought it.
const FILL_BY: &[Column] = &[
    column("fill", REFERENCE, "`cache_fills.id`"),
    column("position", "INTEGER NOT NULL", "0 added most"),
    column(
        "process",
        REFERENCE,
        "`threads.id` of a thread of the process, without its thread id",
    ),
    column("pages", "INTEGER NOT NULL", "Pages it added"),
];

/// What was read ahead.
const READ_AHEAD: &[Column] = &[
    column("id", ID, RECORD),
    column(
        "begin_rel_ns",
        "INTEGER NOT NULL",
        "From when, ns since `meta.base_ns`",
    ),
    column(
        "end_rel_ns",
        "INTEGER NOT NULL",
        "Until when, ns since `meta.base_ns`",
    ),
    column("path", "TEXT", "The file; NULL if its path is not known"),
    column("read_pages", "INTEGER NOT NULL", "Pages read ahead"),
    column(
        "mapped_pages",
        "INTEGER NOT NULL",
        "Of what was read ahead: mapped for the first time since, by a fault of some process on that \
         page or near it",
    ),
    column(
        "dropped_pages",
        "INTEGER NOT NULL",
        "Removed from the page cache before a fault mapped them",
    ),
    column(
        "unknown_pages",
        "INTEGER NOT NULL",
        "Not known whether they were mapped: read ahead in a huge page (2 MiB), whose mapping the kernel \
         does not tell; or mapped, and it is not remembered whether they had been read ahead",
    ),
];
