//! What is more than chance: the tests behind "significant".
//!
//! They take the time slices of a trace for samples of what the program does. Neighbouring slices
//! are not independent (a stall goes on, a cache warms up), and many keys are compared at once, so
//! a change is called significant only far beyond what independent samples would need.

use std::cmp::Ordering;

use super::durations::Durations;
use super::slices::{SLICES, Series};

/// A difference counts if chance alone gives one as large in fewer than one of 1000 comparisons:
/// so many standard deviations, both ways.
pub const DEVIATIONS: f64 = 3.29;
/// With fewer faults on both sides together nothing is said.
pub const MIN_FAULTS: u64 = 20;
/// Traces shorter than this have slices that say nothing, ns.
pub const MIN_WALL_NS: u64 = 1_000_000_000;

/// Whether a change is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// More than chance.
    Significant,
    /// It may be chance.
    Chance,
    /// Too short a trace, or too few faults.
    TooLittle,
    /// A side of it is not known.
    Unknown,
}

/// Samples of one side: each slice's sum, made comparable by the length of a slice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Samples<'a> {
    pub(super) series: &'a Series,
    pub(super) wall_ns: u64,
}

impl Samples<'_> {
    fn faults(&self) -> Vec<f64> {
        rates(&self.series.faults, self.wall_ns)
    }

    fn blocked(&self) -> Vec<f64> {
        rates(&self.series.blocked_ns, self.wall_ns)
    }
}

#[expect(clippy::cast_precision_loss, reason = "compared, not shown")]
fn rates(sums: &[u64; SLICES], wall_ns: u64) -> Vec<f64> {
    let of_slice = |sum: &u64| *sum as f64 / wall_ns as f64;
    sums.iter().map(of_slice).collect()
}

/// Whether (the faults, their blocked time) of each slice differ between two traces.
pub(super) fn compared(before: Samples<'_>, after: Samples<'_>) -> (Verdict, Verdict) {
    let faults = before.series.tally.faults;
    let faults = faults.saturating_add(after.series.tally.faults);
    if faults < MIN_FAULTS || before.wall_ns < MIN_WALL_NS || after.wall_ns < MIN_WALL_NS {
        return (Verdict::TooLittle, Verdict::TooLittle);
    }
    let verdict = |before: &[f64], after: &[f64]| {
        if deviations(before, after).abs() >= DEVIATIONS {
            Verdict::Significant
        } else {
            Verdict::Chance
        }
    };
    (
        verdict(&before.faults(), &after.faults()),
        verdict(&before.blocked(), &after.blocked()),
    )
}

/// Mann and Whitney: how far, in standard deviations of chance, `after` ranks above `before`. By
/// ranks, so that one slice with an enormous fault does not decide.
#[expect(clippy::cast_precision_loss, reason = "counts of slices")]
fn deviations(before: &[f64], after: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = before.iter().map(|value| (*value, false)).collect();
    all.extend(after.iter().map(|value| (*value, true)));
    all.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal));
    let (n1, n2) = (before.len() as f64, after.len() as f64);
    let n = n1 + n2;
    let mut rank_sum = 0.0;
    let mut ties = 0.0;
    let mut below = 0.0;
    for same in all.chunk_by(|a, b| a.0 == b.0) {
        let count = same.len() as f64;
        let of_after = same.iter().filter(|(_, is_after)| *is_after).count() as f64;
        rank_sum += of_after * (below + (count + 1.0) / 2.0);
        ties += count.powi(3) - count;
        below += count;
    }
    let above = rank_sum - n2 * (n2 + 1.0) / 2.0;
    let variance = n1 * n2 / 12.0 * (n + 1.0 - ties / (n * (n - 1.0)));
    if variance <= 0.0 {
        // All are equal.
        return 0.0;
    }
    (above - n1 * n2 / 2.0) / variance.sqrt()
}

/// How often something was so that takes time, and for how long in each slice of a trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) slices_ns: [u64; SLICES],
    /// In all, ns.
    pub(super) sum_ns: u64,
    /// What may belong to it, ns.
    pub(super) unknown_ns: u64,
    pub(super) count: u64,
    pub(super) wall_ns: u64,
}

/// A smaller part of a trace without a P is next to nothing: it may be one burst.
pub const LEAST_SHARE: f64 = 1e-3;

/// Whether such times differ: by their slices; or, where one is twice the other or more, and not next to
/// nothing, by how often they were, so that a short part of a long trace is enough to tell.
#[expect(clippy::cast_precision_loss, reason = "compared, not shown")]
pub(super) fn times(before: &Times, after: &Times) -> Verdict {
    if before.wall_ns < MIN_WALL_NS || after.wall_ns < MIN_WALL_NS {
        return Verdict::TooLittle;
    }
    let share = |of: &Times, ns: u64| ns as f64 / of.wall_ns as f64;
    let (a, b) = (share(before, before.sum_ns), share(after, after.sum_ns));
    let way = (b - a).signum();
    let (less, more) = if way < 0.0 {
        (after, before)
    } else {
        (before, after)
    };
    if share(less, less.sum_ns.saturating_add(less.unknown_ns)) >= share(more, more.sum_ns) {
        // What is not known may be all of the difference.
        return Verdict::Chance;
    }
    let of_slices = |of: &Times| rates(&of.slices_ns, of.wall_ns);
    let by_slices = deviations(&of_slices(before), &of_slices(after)) * way;
    let by_count = counts(before, after) * way;
    let is_much = a.max(b) >= 2.0 * a.min(b) && a.max(b) >= LEAST_SHARE;
    if by_slices >= DEVIATIONS || (is_much && by_count >= DEVIATIONS) {
        Verdict::Significant
    } else {
        Verdict::Chance
    }
}

/// How far, in standard deviations of chance, more per second are in `after`, if each comes by itself
/// (Poisson).
#[expect(clippy::cast_precision_loss, reason = "compared, not shown")]
fn counts(before: &Times, after: &Times) -> f64 {
    let rate = |of: &Times| of.count as f64 / of.wall_ns as f64;
    let variance = |of: &Times| rate(of) / of.wall_ns as f64;
    let deviation = (variance(before) + variance(after)).sqrt();
    if deviation <= 0.0 {
        return 0.0;
    }
    (rate(after) - rate(before)) / deviation
}

/// Between which durations a percentile of the program itself lies, as far as chance goes; an end
/// is `None` if there are too few faults to tell.
fn bounds(durations: &Durations, percentile: f64) -> (Option<u64>, Option<u64>) {
    let part = percentile / 100.0;
    let count = durations.count();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let n = count as f64;
    // How many of n faults are below the true percentile is binomial.
    let spread = DEVIATIONS * (n * part * (1.0 - part)).sqrt();
    (
        rank(n * part - spread).and_then(|rank| durations.at_rank_ns(rank)),
        rank(n * part + spread + 1.0).and_then(|rank| durations.at_rank_ns(rank)),
    )
}

/// A rank from 1 on.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and saturating"
)]
fn rank(rank: f64) -> Option<u64> {
    (rank >= 1.0).then_some(rank as u64)
}

/// Whether a percentile differs: the ranges in which both may lie do not meet.
pub(super) fn percentile(before: &Durations, after: &Durations, percentile: f64) -> Verdict {
    let (a, b) = (bounds(before, percentile), bounds(after, percentile));
    if below(a.1, b.0) || below(b.1, a.0) {
        Verdict::Significant
    } else if [a.0, a.1, b.0, b.1].contains(&None) {
        Verdict::TooLittle
    } else {
        Verdict::Chance
    }
}

/// What ends here is below what begins there; not known of ends that are not known.
fn below(high: Option<u64>, low: Option<u64>) -> bool {
    high.zip(low).is_some_and(|(high, low)| high < low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::analysis::tests::Random;

    #[test]
    fn the_ranks_are_those_of_the_textbook() {
        // U = 19 of 5 × 4: all of one sample but one pair above the other.
        let found = deviations(&[19.0, 22.0, 16.0, 29.0, 24.0], &[20.0, 11.0, 17.0, 12.0]);
        // U for `after` is 3; mean 10, variance 5 × 4 × 10 / 12.
        assert!((found - (3.0 - 10.0) / (200.0_f64 / 12.0).sqrt()).abs() < 1e-12);
        let ties = deviations(&[1.0, 2.0, 2.0], &[2.0, 3.0]);
        // Ranks 1, 3, 3, 3, 5: U = 8 − 3; variance 6 / 12 × (6 − 24 / 20).
        assert!((ties - 2.0 / (0.5_f64 * 4.8).sqrt()).abs() < 1e-12);
        assert_eq!(deviations(&[1.0; 20], &[1.0; 20]), 0.0);
    }

    fn noise(random: &mut Random, scale: f64) -> Vec<f64> {
        #[expect(clippy::cast_precision_loss, reason = "made up")]
        let one = |random: &mut Random| (random.below(1_000_000) as f64 / 1e6).powi(4) * scale;
        (0..SLICES).map(|_| one(random)).collect()
    }

    #[test]
    fn chance_is_called_significant_less_than_once_in_500_times() {
        let mut random = Random(1);
        let mut called = 0;
        for _ in 0..20_000 {
            let (before, after) = (noise(&mut random, 1.0), noise(&mut random, 1.0));
            called += i32::from(deviations(&before, &after).abs() >= DEVIATIONS);
        }
        assert!((1..40).contains(&called), "{called} of 20000");
    }

    #[test]
    fn one_enormous_slice_is_no_change_but_ten_times_as_much_is() {
        let mut random = Random(2);
        let before = noise(&mut random, 1.0);
        let mut after = noise(&mut random, 1.0);
        after[3] = 1e9;
        assert!(deviations(&before, &after) < DEVIATIONS);
        let after: Vec<_> = before.iter().map(|value| value * 10.0 + 0.5).collect();
        assert!(deviations(&before, &after) >= DEVIATIONS);
        assert!(deviations(&after, &before) <= -DEVIATIONS);
    }

    fn durations(random: &mut Random, count: u64, scale: u64) -> Durations {
        let mut durations = Durations::new().unwrap();
        for _ in 0..count {
            durations.record(random.below(1_000) * scale);
        }
        durations
    }

    #[test]
    fn percentiles_differ_only_beyond_their_bounds() {
        let mut random = Random(3);
        let mut verdicts = |count: u64, scale: u64| {
            let before = durations(&mut random, count, 1_000);
            let after = durations(&mut random, count, scale);
            [50.0, 90.0, 99.0].map(|of| percentile(&before, &after, of))
        };
        assert_eq!(verdicts(2_000, 1_000), [Verdict::Chance; 3]);
        assert_eq!(verdicts(2_000, 2_000), [Verdict::Significant; 3]);
        assert_eq!(
            verdicts(200, 2_000),
            [
                Verdict::Significant,
                Verdict::Significant,
                Verdict::TooLittle
            ]
        );
        assert_eq!(verdicts(5, 2_000), [Verdict::TooLittle; 3]);

        // Of few faults after, none is as short as the longest before.
        let before = durations(&mut random, 5_000, 1_000);
        let mut after = Durations::new().unwrap();
        (0..20).for_each(|_| after.record(5_000_000));
        assert_eq!(bounds(&after, 90.0).1, None);
        assert_eq!(percentile(&before, &after, 90.0), Verdict::Significant);
        assert_eq!(percentile(&after, &before, 90.0), Verdict::Significant);
    }

    #[test]
    fn the_bounds_hold_the_true_percentile() {
        let mut random = Random(4);
        let mut outside = 0;
        for _ in 0..1_000 {
            let durations = durations(&mut random, 500, 1_000);
            let (low, high) = bounds(&durations, 50.0);
            // Half of the numbers below 1000; a bucket is 1 % wide.
            let within = low.unwrap() <= 505_000 && high.unwrap() >= 495_000;
            outside += i32::from(!within);
        }
        assert!(outside <= 5, "{outside} of 1000");
    }
}
