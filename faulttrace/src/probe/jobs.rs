//! What has to be done in the kernel: each job, its tracepoint and its programs.

use std::fmt;

use super::KernelTypes;

/// How a job is done. Best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// A program at the return of a kernel function.
    Fexit,
    /// A typed tracepoint program.
    TpBtf,
    /// A raw tracepoint program.
    RawTracepoint,
    /// A perf software event, period 1, on each CPU.
    PerfEvent,
    /// A program run once for each of the kernel's objects.
    Iterator,
    /// No program, but other jobs tell most of it (`--light`).
    Inferred,
    /// No program: the job is done without, or not at all; `doctor` says what that costs.
    None,
}

impl fmt::Display for Rung {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Rung::Fexit => "fexit",
            Rung::TpBtf => "tp_btf",
            Rung::RawTracepoint => "raw_tracepoint",
            Rung::PerfEvent => "perf_event",
            Rung::Iterator => "iterator",
            Rung::Inferred => "inferred",
            Rung::None => "none",
        })
    }
}

/// A tracepoint that a program attaches to, and what for.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// Stable name, as in `doctor` and JSON.
    pub name: &'static str,
    /// The tracepoint.
    pub tracepoint: &'static str,
    /// The typed program.
    pub typed: &'static str,
    /// The same on a raw tracepoint.
    pub raw: &'static str,
    /// Who needs it.
    pub need: Need,
}

/// Who needs a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Everybody: without it nothing true can be said.
    Required,
    /// Nobody: it is done where the kernel lets it.
    Useful,
    /// Those alone who ask for `--evictions`.
    Evictions,
    /// Those alone who ask for `--io`.
    Io,
}

const fn job(
    name: &'static str,
    tracepoint: &'static str,
    programs: (&'static str, &'static str),
    need: Need,
) -> Job {
    Job {
        name,
        tracepoint,
        typed: programs.0,
        raw: programs.1,
        need,
    }
}

/// The tracepoint of the job whose absence leaves the page's place to the memory map.
pub(super) const FILE_FAULT: &str = "mm_filemap_fault";

/// The tracepoint of the job whose absence leaves it open who read the page of some faults that were given
/// up (kernel 6.18 has it).
pub(super) const READ_AHEAD: &str = "page_cache_async_ra";

/// The job that `--light` does without.
pub(super) const FAULT_BEGINS: &str = "user_fault_begins";
/// The same for faults in system calls.
pub const KERNEL_FAULT_BEGINS: &str = "kernel_fault_begins";

/// Whether a job is one of those two.
pub fn is_begin(job: &str) -> bool {
    [FAULT_BEGINS, KERNEL_FAULT_BEGINS].contains(&job)
}

/// How those two are done where nothing else is asked for: of the architectures that have the programs, only
/// x86 has tracepoints (arch/x86/mm/fault.c).
pub fn begins_rung(types: &KernelTypes) -> Rung {
    if types.has_tracepoint("page_fault_user") {
        Rung::TpBtf
    } else {
        Rung::PerfEvent
    }
}

/// The job whose absence leaves the ends of minor faults to whatever proves them over. Its best rung
/// is no tracepoint, but the return of [`HANDLER`].
///
/// That one alone, though `rseq_update` would add some exact ends: of faults that a signal interrupts
/// between two tries, and of some that began before. They are few, most of them end within
/// microseconds of what is said of them, and every switch to a thread with rseq would pay for it.
pub const FAULT_ENDS: &str = "fault_ends";
/// The kernel function that handles a fault.
pub const HANDLER: &str = "handle_mm_fault";

/// Every tracepoint, in the order of attaching: what makes entries comes after what ends them, so
/// that nothing is left behind by a fault that straddles the attaching.
pub const JOBS: [Job; 19] = [
    job(
        "io_completed",
        "block_rq_complete",
        ("block_rq_complete", "block_rq_complete_raw"),
        Need::Io,
    ),
    job(
        "io_without_request",
        "block_bio_complete",
        ("block_bio_complete", "block_bio_complete_raw"),
        Need::Io,
    ),
    job(
        "io_issued",
        "block_rq_issue",
        ("block_rq_issue", "block_rq_issue_raw"),
        Need::Io,
    ),
    job(
        "io_split",
        "block_split",
        ("block_split", "block_split_raw"),
        Need::Io,
    ),
    job(
        "io_queued",
        "block_bio_queue",
        ("block_bio_queue", "block_bio_queue_raw"),
        Need::Io,
    ),
    job(
        "thread_exits",
        "sched_process_exit",
        ("process_exit", "process_exit_raw"),
        Need::Required,
    ),
    job(
        "process_execs",
        "sched_process_exec",
        ("process_exec", "process_exec_raw"),
        Need::Required,
    ),
    job(
        "process_forks",
        "sched_process_fork",
        ("process_fork", "process_fork_raw"),
        Need::Required,
    ),
    job(
        "process_renames",
        "task_rename",
        ("task_rename", "task_rename_raw"),
        Need::Useful,
    ),
    job(
        "page_cached",
        "mm_filemap_add_to_page_cache",
        ("page_cached", "page_cached_raw"),
        Need::Evictions,
    ),
    job(
        "page_uncached",
        "mm_filemap_delete_from_page_cache",
        ("page_uncached", "page_uncached_raw"),
        Need::Evictions,
    ),
    job(
        "pages_mapped",
        "mm_filemap_map_pages",
        ("pages_mapped", "pages_mapped_raw"),
        Need::Evictions,
    ),
    job(
        "which_page",
        FILE_FAULT,
        ("filemap_fault", "filemap_fault_raw"),
        Need::Useful,
    ),
    job(
        "whose_read",
        READ_AHEAD,
        ("async_readahead", "async_readahead_raw"),
        Need::Useful,
    ),
    job(
        FAULT_ENDS,
        "rseq_update",
        ("rseq_update", "rseq_update_raw"),
        Need::Useful,
    ),
    job(
        "thread_woken",
        "sched_waking",
        ("sched_waking", "sched_waking_raw"),
        Need::Required,
    ),
    job(
        "thread_switches",
        "sched_switch",
        ("sched_switch", "sched_switch_raw"),
        Need::Required,
    ),
    job(
        KERNEL_FAULT_BEGINS,
        "page_fault_kernel",
        ("page_fault_kernel", "page_fault_kernel_raw"),
        Need::Useful,
    ),
    job(
        FAULT_BEGINS,
        "page_fault_user",
        ("page_fault_user", "page_fault_user_raw"),
        Need::Required,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_is_documented() {
        let docs = include_str!("../../../docs/json.md");
        for job in JOBS {
            assert!(docs.contains(&format!("`{}`", job.name)), "{}", job.name);
        }
    }
}
