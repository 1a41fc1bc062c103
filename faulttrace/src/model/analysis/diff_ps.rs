//! The Ps of Go programs, compared.

use super::chance::Verdict;
use super::diff::Change;
use super::diff_beside::{number, rate};
use super::report::{Part, Report};
use crate::model::ps::PsTotals;

/// The Ps of all Go programs of each trace together. Without verdicts: that no P is left is not a matter of
/// many independent faults.
#[derive(Debug, Clone, PartialEq)]
pub struct PsChange {
    /// Time without a P, ns per second.
    pub none_left: Change,
    /// How often per second.
    pub stalls: Change,
    /// The longest such time, ns.
    pub longest: Change,
    /// Time of Ps that was lost, ns per second.
    pub lost: Change,
}

/// What one trace tells.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    full_ns: u64,
    stalls: u64,
    longest_ns: u64,
    lost_ns: u64,
}

impl Sums {
    /// `None` if the trace has no Go program whose Ps are known.
    fn of(report: &Report) -> Option<Self> {
        let is_known = |process: &crate::model::summary::ProcessSummary| {
            process.go.as_ref().is_some_and(|go| go.layout.is_some())
        };
        if !report.summary.processes().any(is_known) {
            return None;
        }
        let parts = std::iter::once(&report.all).chain(&report.parts);
        let known = parts.filter_map(|part: &Part| part.ps.as_ref());
        Some(known.fold(Sums::default(), Sums::add))
    }

    fn add(self, ps: &PsTotals) -> Self {
        let longest_ns = ps.longest.map_or(0, |longest| longest.length_ns());
        Sums {
            full_ns: self.full_ns.saturating_add(ps.full_ns),
            stalls: self.stalls.saturating_add(ps.full_count),
            longest_ns: self.longest_ns.max(longest_ns),
            lost_ns: self.lost_ns.saturating_add(ps.lost_ns()),
        }
    }
}

/// `None` if neither trace has a Go program.
pub(super) fn compare(before: &Report, after: &Report) -> Option<PsChange> {
    let (a, b) = (Sums::of(before), Sums::of(after));
    if a.is_none() && b.is_none() {
        return None;
    }
    let per_second = |of: fn(&Sums) -> u64| Change {
        before: rate(before, a.as_ref().map(of)),
        after: rate(after, b.as_ref().map(of)),
        verdict: Verdict::Unknown,
    };
    Some(PsChange {
        none_left: per_second(|sums| sums.full_ns),
        stalls: per_second(|sums| sums.stalls),
        longest: Change {
            before: a.map(|sums| number(sums.longest_ns)),
            after: b.map(|sums| number(sums.longest_ns)),
            verdict: Verdict::Unknown,
        },
        lost: per_second(|sums| sums.lost_ns),
    })
}
