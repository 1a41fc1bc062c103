//! What a process does to its own address space and threads.

use super::avoid;
use crate::model::Cause;
use crate::model::advice::reads::is_read;
use crate::model::advice::{
    About, Action, Advice, Evidence, Gain, How, ProcessFindings, Rule, Unit,
};

/// Waits for a handler, or for copies and moves of its memory.
pub(super) fn waits(process: &ProcessFindings) -> impl Iterator<Item = Advice> {
    [
        (
            Rule::Userfaultfd,
            Cause::Userfaultfd,
            vec![Action::QuickerHandler],
        ),
        (
            Rule::CopyOnWrite,
            Cause::Cow,
            vec![Action::MadvPopulateWrite, Action::SpawnNotFork],
        ),
        (Rule::Migration, Cause::Migration, vec![Action::BindMemory]),
        (
            Rule::HugePages,
            Cause::HugePage,
            vec![Action::PopulateHugePages],
        ),
    ]
    .into_iter()
    .filter_map(|(rule, cause, actions)| {
        let about = About::Process(process.pid);
        avoid(rule, about, &process.cause(cause), actions)
    })
}

/// Threads that are all blocked at once while files are read. That they wait for something else
/// together, threads that read do not mend.
pub(super) fn together(process: &ProcessFindings) -> Option<Advice> {
    let stalls = process.stalls?;
    let mut reads_ns = 0_u64;
    for (cause, tally) in &process.causes {
        if is_read(Some(*cause)) {
            reads_ns = reads_ns.saturating_add(tally.blocked_ns);
        }
    }
    let blocked_ns = process.all.blocked_ns;
    if reads_ns < blocked_ns.div_ceil(2) || blocked_ns == 0 {
        return None;
    }
    Some(Advice {
        rule: Rule::BlockedTogether,
        about: About::Process(process.pid),
        faults: process.all.faults,
        blocked_ns,
        gain: Gain {
            // A stall is as long as faults are, time on the run queue included; K threads asleep at
            // once are so no longer than a Kth of all that was slept.
            at_most_ns: Some(stalls.total_ns.min(blocked_ns / stalls.needed.max(1))),
            unit: Unit::Wall,
            how: How::All,
        },
        evidence: vec![
            Evidence::Together(stalls),
            Evidence::MostlyReads {
                reads_ns,
                blocked_ns,
            },
        ],
        only_if: None,
        actions: vec![Action::ReadInThreads],
        overlaps: Vec::new(),
    })
}
