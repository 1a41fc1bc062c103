//! Memory that is short: swap, limits, reclaim, compaction.

use super::avoid;
use crate::model::Cause;
use crate::model::advice::{
    About, Action, Advice, Evidence, Findings, ProcessFindings, RemovedFindings, Rule,
};
use crate::model::summary::{Tally, Who};

/// A process whose memory was swapped out.
pub(super) fn swap<'a>(
    findings: &'a Findings,
    process: &'a ProcessFindings,
) -> impl Iterator<Item = Advice> + 'a {
    let again = process.swapped;
    let bytes = (again.pages > 0).then(|| again.pages.saturating_mul(findings.page_bytes));
    let lock = Action::MlockMemory { bytes };
    [
        (
            Rule::SwapIn,
            Cause::SwapIn,
            vec![
                Action::MoreMemory,
                lock,
                Action::LowerSwappiness,
                Action::CompressSwap,
            ],
        ),
        (
            Rule::CompressedSwap,
            Cause::Zswap,
            vec![Action::MoreMemory, lock, Action::LowerSwappiness],
        ),
    ]
    .into_iter()
    .filter_map(move |(rule, cause, actions)| {
        let about = About::Process(process.pid);
        let mut advice = avoid(rule, about, &process.cause(cause), actions)?;
        if let Some(bytes) = bytes {
            advice.evidence.push(Evidence::CameAgain { again, bytes });
        }
        Some(advice)
    })
}

/// A process that reads again what had been in memory, if it is known how it went.
pub(super) fn removed(process: &ProcessFindings) -> impl Iterator<Item = Advice> + '_ {
    let both = process.removed.as_ref();
    let evicted = both.and_then(|[found, _]| {
        read_again(process, Rule::Evicted, found, || {
            let more = found
                .more_bytes
                .map(|[_, p90, _]| Action::MoreMemoryBy { bytes: p90 });
            let mut actions = vec![more.unwrap_or(Action::MoreMemory)];
            let half = |(_, faults): &(Who, u64)| faults.saturating_mul(2) >= found.again.faults;
            actions.extend(
                found
                    .filled
                    .as_ref()
                    .filter(|one| half(one))
                    .map(|_| Action::MoveNeighbour),
            );
            actions
        })
    });
    let dropped = both.and_then(|[_, found]| {
        read_again(process, Rule::Dropped, found, || vec![Action::KeepPages])
    });
    evicted.into_iter().chain(dropped)
}

fn read_again(
    process: &ProcessFindings,
    rule: Rule,
    found: &RemovedFindings,
    actions: impl FnOnce() -> Vec<Action>,
) -> Option<Advice> {
    let waits = Tally {
        faults: found.again.faults,
        blocked_ns: found.again.blocked_ns,
        ..Tally::default()
    };
    let mut advice = avoid(rule, About::Process(process.pid), &waits, actions())?;
    advice.evidence = vec![Evidence::Removed(Box::new(found.clone()))];
    Some(advice)
}

/// A process whose memory cgroup is at its limit.
pub(super) fn limit(process: &ProcessFindings) -> Option<Advice> {
    avoid(
        Rule::MemcgLimit,
        About::Process(process.pid),
        &process.cause(Cause::MemcgReclaim),
        vec![Action::RaiseMemoryLimit],
    )
}

/// A machine whose free memory is gone, or in pieces.
pub(super) fn machine(findings: &Findings) -> impl Iterator<Item = Advice> + '_ {
    [
        (
            Rule::DirectReclaim,
            Cause::DirectReclaim,
            vec![Action::RaiseWatermarks, Action::MoreMemory],
        ),
        (
            Rule::Compaction,
            Cause::Compaction,
            vec![Action::DeferHugePages, Action::MadvNohugepage],
        ),
    ]
    .into_iter()
    .filter_map(|(rule, cause, actions)| {
        let mut all = Tally::default();
        for process in &findings.processes {
            all.merge(&process.cause(cause));
        }
        avoid(rule, About::Machine, &all, actions)
    })
}
