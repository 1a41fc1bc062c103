//! Memory that is short: swap, limits, reclaim, compaction.

use super::avoid;
use crate::model::Cause;
use crate::model::advice::{About, Action, Advice, Evidence, Findings, ProcessFindings, Rule};
use crate::model::summary::Tally;

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
