//! Counters of the programs: one index each, shared by both sides.

/// What a counter means for the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Bookkeeping (`-v`), no loss.
    Diagnostic,
    /// Happened and could not be recorded.
    Lost,
    /// Not sent because the user asked so.
    Filtered,
    /// Recorded with a bound or an estimate.
    Approximate,
    /// Recorded without a part.
    Unreadable,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $index:ident = $name:literal, $class:ident;)*) => {
        #[expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "an index type that no one names")]
        enum Order { $($index),*, COUNT }
        $($(#[$doc])* pub const $index: u32 = Order::$index as u32;)*
        /// How many counters there are.
        pub const COUNT: u32 = Order::COUNT as u32;
        /// Stable name and class of each, by index.
        pub const ALL: [(&str, Class); COUNT as usize] = [$(($name, Class::$class)),*];
    };
}

counters! {
    /// Faults that passed the filters and were offered to the ring.
    FAULTS_EMITTED = "faults_emitted", Diagnostic;
    /// Of those: the ring was full.
    FAULTS_LOST = "ring_full", Lost;
    /// Of those lost: majors.
    MAJORS_LOST = "ring_full_majors", Lost;
    /// Task events offered to the ring.
    TASKS_EMITTED = "task_events_emitted", Diagnostic;
    /// Of those: the ring was full.
    TASKS_LOST = "ring_full_task_events", Lost;
    /// Faults shorter than `--min-duration`, or minor with `--major-only`.
    FAULTS_FILTERED = "filtered_faults", Filtered;
    /// Of those: majors.
    MAJORS_FILTERED = "filtered_majors", Filtered;
    /// A thread left the CPU in a fault and map `INFLIGHT` had no room.
    INFLIGHT_FULL = "inflight_full", Lost;
    /// A stack was not recorded because `--max-stacks` were.
    STACKS_FULL = "stacks_full", Unreadable;
    /// No user stack could be read.
    USER_STACK_UNREADABLE = "user_stack_unreadable", Unreadable;
    /// No kernel stack could be read, so nothing says whether a sleep was a fault.
    KERNEL_STACK_UNREADABLE = "kernel_stack_unreadable", Lost;
    /// The kernel stack was deeper than could be captured and did not show the fault's entry.
    KERNEL_STACK_TRUNCATED = "kernel_stack_truncated", Lost;
    /// A thread got a CPU though no wake-up was seen: run-queue time counts as blocked.
    WAKES_UNSEEN = "wakes_unseen", Approximate;
    /// A thread was seen to leave the CPU twice and not to get it in between: a fault's end, or its
    /// division into blocked and other time, is a bound.
    SWITCHES_UNSEEN = "switches_unseen", Approximate;
    /// A fault's beginning was not seen: it is taken to be the moment it first fell asleep, or its
    /// end if it never did.
    BEGINS_UNSEEN = "begins_unseen", Approximate;
    /// Who woke a thread in a fault could not be told: its waker's stack did not show it.
    WAKERS_UNKNOWN = "wakers_unknown", Unreadable;
    /// A followed child or matching process could not be added to the filter.
    FILTER_FULL = "filter_full", Lost;
    /// There was no room for one more file whose pages are watched (`EVICTIONS`).
    FILES_FULL = "page_history_files_full", Unreadable;
    /// The history of a page was not sent: the ring was full.
    HISTORIES_LOST = "page_history_ring_full", Unreadable;
    /// What devices did for a fault was not sent, because the ring was full (`--io`).
    IO_LOST = "ring_full_io", Unreadable;
    /// There was no room to follow a read of a fault to its device (`--io`).
    IO_FULL = "io_full", Unreadable;
    /// A request had more reads in it than were looked at, so that some of faults may be missing
    /// (`--io`).
    IO_CHAINS_CUT = "io_chains_cut", Unreadable;
    /// What a thread of a Go program was at could not be read from its memory.
    GOROUTINES_UNREADABLE = "goroutine_unreadable", Unreadable;
    /// Labels of a goroutine could not be read: not in memory, of a form that is not known, more than 8;
    /// or its process was known too late to be one of Go.
    GO_LABELS_UNREADABLE = "go_labels_unreadable", Unreadable;
    /// What a thread of a Go program was at was not sent: the ring was full.
    GOROUTINES_LOST = "ring_full_goroutines", Unreadable;
    /// Beginnings of faults, of any process, at which the kernel did not run the program: another run of it had
    /// been preempted, or interrupted, on that CPU. The kernel's own count, as the next.
    BEGINS_SKIPPED = "begins_skipped", Approximate;
    /// The same of other programs: a part of a fault may be missing, or its end be approximate.
    RUNS_SKIPPED = "program_runs_skipped", Approximate;
    /// Majors of traced threads that the perf event saw.
    MAJORS_SEEN = "majors_seen", Diagnostic;
    /// Faults that are major by the thread's own count, without an event that told.
    MAJORS_BY_COUNT = "majors_by_count", Diagnostic;
    /// Kernel stacks looked at to tell a fault from another sleep.
    STACK_CHECKS = "stack_checks", Diagnostic;
    /// Of those: recognised, not unwound.
    STACKS_RECOGNISED = "stacks_recognised", Diagnostic;
    /// Of those looked at: the fault was over.
    STALE_SLOTS = "stale_slots", Diagnostic;
    /// Faults that were only preempted, never asleep, and not major: not reported.
    PREEMPTED_ONLY = "preempted_only", Diagnostic;
}
