//! The Ps of Go programs, compared.

use super::chance::{self, Verdict};
use super::diff::Change;
use super::diff_beside::{number, rate};
use super::report::{Part, Report};
use super::slices::SLICES;
use crate::model::summary::ProcessSummary;

/// The Ps of all Go programs of each trace together. Only the first has a verdict: the others follow from it,
/// or do not hurt by themselves.
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
    /// All processes of both traces that had faults are such programs.
    pub only_go: bool,
}

/// What one trace tells.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    full_ns: u64,
    slices_ns: [u64; SLICES],
    /// Ps were stuck, and it is not known whether these were all.
    unknown_ns: u64,
    stalls: u64,
    longest_ns: u64,
    lost_ns: u64,
}

/// Whether a process is a Go program whose Ps are known.
fn is_known(process: &ProcessSummary) -> bool {
    process.go.as_ref().is_some_and(|go| go.layout.is_some())
}

fn only_go(report: &Report) -> bool {
    let summary = &report.summary;
    let mut all = summary.processes().chain(summary.other_processes());
    all.all(|process| process.tally.faults == 0 || is_known(process))
}

impl Sums {
    /// `None` if the trace has no Go program whose Ps are known.
    fn of(report: &Report) -> Option<Self> {
        if !report.summary.processes().any(is_known) {
            return None;
        }
        let parts = std::iter::once(&report.all).chain(&report.parts);
        Some(parts.fold(Sums::default(), Sums::add))
    }

    fn add(self, part: &Part) -> Self {
        let Some(ps) = &part.ps else {
            return self;
        };
        let mut slices_ns = self.slices_ns;
        for (sum, ns) in slices_ns.iter_mut().zip(part.no_p_left_ns) {
            *sum = sum.saturating_add(ns);
        }
        let longest_ns = ps.longest.map_or(0, |longest| longest.length_ns());
        Sums {
            slices_ns,
            full_ns: self.full_ns.saturating_add(ps.full_ns),
            unknown_ns: self.unknown_ns.saturating_add(ps.unknown_ns),
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
        none_left: Change {
            verdict: verdict((before, a), (after, b)),
            ..per_second(|sums| sums.full_ns)
        },
        stalls: per_second(|sums| sums.stalls),
        longest: Change {
            before: a.map(|sums| number(sums.longest_ns)),
            after: b.map(|sums| number(sums.longest_ns)),
            verdict: Verdict::Unknown,
        },
        lost: per_second(|sums| sums.lost_ns),
        only_go: only_go(before) && only_go(after),
    })
}

/// Whether the time without a P is more or less than before.
fn verdict((before, a): (&Report, Option<Sums>), (after, b): (&Report, Option<Sums>)) -> Verdict {
    let times = |report: &Report, sums: Sums| {
        Some(chance::Times {
            slices_ns: sums.slices_ns,
            sum_ns: sums.full_ns,
            unknown_ns: sums.unknown_ns,
            count: sums.stalls,
            wall_ns: report.options.wall?.length_ns(),
        })
    };
    let Some((a, b)) = a.zip(b) else {
        return Verdict::Unknown;
    };
    match (times(before, a), times(after, b)) {
        (Some(a), Some(b)) => chance::times(&a, &b),
        _ => Verdict::TooLittle,
    }
}
