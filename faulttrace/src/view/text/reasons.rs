//! What the reasons of losses mean.

/// What a reason means; `None` if this version does not know it.
pub(crate) fn meaning(reason: &str) -> Option<&'static str> {
    let known = REASONS.iter().find(|(name, _)| *name == reason);
    known.map(|(_, meaning)| *meaning)
}

/// Reasons of losses, and what they mean.
const REASONS: [(&str, &str); 60] = [
    (
        "ring_full",
        "faults for which the ring buffer was full (--ring-size)",
    ),
    ("ring_full_majors", "of these: major faults"),
    (
        "ring_full_task_events",
        "thread and process events for which the ring buffer was full",
    ),
    (
        "inflight_full",
        "faults for which the map of faults in progress was full",
    ),
    (
        "begins_skipped",
        "beginnings of faults that the kernel did not tell: some may be missing",
    ),
    (
        "program_runs_skipped",
        "events that the kernel did not tell: times may be bounds",
    ),
    (
        "kernel_stack_unreadable",
        "sleeps without a readable kernel stack, perhaps in a fault",
    ),
    (
        "kernel_stack_truncated",
        "sleeps with too deep a kernel stack, perhaps in a fault",
    ),
    (
        "trace_overrun",
        "faults not saved: the trace could not be written fast enough",
    ),
    (
        "trace_not_saved",
        "faults not saved: the trace could not be written any more",
    ),
    (
        "trace_stuck_not_saved",
        "reports of stuck threads that are not in the saved trace",
    ),
    (
        "trace_processes_not_saved",
        "processes that came or went and are not in the saved trace",
    ),
    (
        "trace_samples_not_saved",
        "samples of counters that are not in the saved trace",
    ),
    (
        "trace_records_not_saved",
        "other records that are not in the saved trace",
    ),
    (
        "samples_left_out",
        "samples put off or not taken: too many processes had faults",
    ),
    (
        "samples_late",
        "samples without counters: they were not read in time",
    ),
    ("output_overrun", "faults not shown: nobody read the output"),
    (
        "output_records_overrun",
        "reports of stuck threads, processes, samples and stalls not shown: nobody read the output",
    ),
    (
        "dropped_stuck",
        "reports of stuck threads that dropped out of the trace (--max-size)",
    ),
    (
        "dropped_max_size",
        "oldest faults that dropped out of the trace (--max-size)",
    ),
    (
        "filter_full",
        "processes that could not be added to the traced ones",
    ),
    (
        "unknown_record",
        "records of a kind that this faulttrace does not know",
    ),
    (
        "not_serialized",
        "records that could not be written as JSON",
    ),
    (
        "filtered_faults",
        "faults held back by --min-duration or --major-only",
    ),
    (
        "not_selected",
        "faults of the trace that were not asked for (--thread, --since and their like)",
    ),
    (
        "not_selected_majors",
        "of these: major faults of the processes asked for",
    ),
    (
        "id_reused",
        "faults of a new process with the id of a target that has ended",
    ),
    (
        "ended_while_attaching",
        "faults that ended while faulttrace attached or detached",
    ),
    ("filtered_majors", "of these: major faults"),
    (
        "ring_full_io",
        "faults without what devices did for them, as the ring buffer was full (--ring-size)",
    ),
    (
        "io_full",
        "reads of faults that could not be followed to their device, for want of room",
    ),
    (
        "io_completions_unseen",
        "faults that waited for a read of their own whose completion was not seen",
    ),
    (
        "io_chains_cut",
        "requests of more reads than were looked at for those of faults",
    ),
    (
        "page_history_files_full",
        "files whose pages were not all watched: there were too many",
    ),
    (
        "page_history_ring_full",
        "faults without the past of their page, as the ring buffer was full (--ring-size)",
    ),
    (
        "programs_not_looked_at",
        "processes of which it is not known whether they run a Go program",
    ),
    ("program_paths_late", "programs whose path is unknown"),
    (
        "go_programs_not_followed",
        "Go programs without goroutines and Ps, though the layout of their version is known",
    ),
    (
        "go_procs_not_told",
        "changes of GOMAXPROCS told late or not at all: there were too many",
    ),
    (
        "goroutine_unreadable",
        "faults of Go programs without a goroutine: it could not be read",
    ),
    (
        "ring_full_goroutines",
        "faults without a goroutine, as the ring buffer was full (--ring-size)",
    ),
    (
        "go_labels_unreadable",
        "goroutines without labels: they could not be read",
    ),
    (
        "go_labels_replaced",
        "goroutines without labels: too many others had different ones",
    ),
    (
        "wakers_unknown",
        "sleeps in faults of which it is not known who ended them",
    ),
    (
        "wakes_unseen",
        "faults whose run queue time counts as blocked: the wake-up was not seen",
    ),
    (
        "begins_unseen",
        "faults whose beginning was not seen: their durations are lower bounds",
    ),
    (
        "stuck_before_not_looked_for",
        "processes not looked at in time for threads that were stuck before",
    ),
    (
        "stuck_before_stacks_late",
        "threads stuck before whose user stack was not read in time",
    ),
    (
        "user_stack_cut",
        "different stacks cut where a caller was no code: no frame pointers",
    ),
    (
        "user_callers_hidden",
        "faults whose innermost function's caller could not be read",
    ),
    (
        "user_callers_untold",
        "different stacks that may lack the innermost function's caller",
    ),
    (
        "switches_unseen",
        "faults with a part of their time unknown: the thread got a CPU unseen",
    ),
    (
        "mappings_late",
        "faults without a file: the memory map was not read in time",
    ),
    (
        "mappings_unreadable",
        "faults without a file: the process had ended, or hides its memory map",
    ),
    (
        "address_not_mapped",
        "faults at an address that the memory map did not have any more",
    ),
    (
        "symbols_late",
        "stacks shown without names and build ids: not read in time",
    ),
    (
        "symbol_files_gone",
        "frames without name or build id: their file could not be opened",
    ),
    (
        "symbol_files_unreadable",
        "programs or libraries whose symbols could not be read",
    ),
    (
        "stacks_full",
        "stacks not recorded because there were too many (--max-stacks)",
    ),
    (
        "user_stack_unreadable",
        "faults without a user stack: it could not be read",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use faulttrace_ebpf::counter::{self, Class};

    use super::*;

    const DOCS: &str = include_str!("../../../../docs/json.md");

    /// The names that begin the items of its lists of reasons, those in parentheses included.
    fn documented() -> BTreeSet<&'static str> {
        let lists = DOCS.split("Reasons, by class.").nth(1).expect("the lists");
        let lists = lists.split("\n## ").next().expect("their end");
        let items = lists.split("\n- ").skip(1);
        let heads = items.map(|item| item.split(": ").next().expect("a head"));
        let words = heads.flat_map(|head| head.split('`').skip(1).step_by(2));
        words.filter(|word| !word.starts_with("--")).collect()
    }

    #[test]
    fn each_documented_reason_has_a_meaning_and_each_that_has_one_is_documented() {
        let named: BTreeSet<_> = REASONS.iter().map(|(name, _)| *name).collect();
        assert_eq!(named, documented());
    }

    #[test]
    fn what_the_programs_count_has_a_meaning() {
        let counted = counter::ALL.iter();
        let mut losses = counted.filter(|(_, class)| *class != Class::Diagnostic);
        assert!(losses.all(|(name, _)| meaning(name).is_some()));
    }
}
