//! The statistics of the measurements. Pure.

use std::fmt;

/// Of each window the value below which this share of its blocks lies: low enough to leave out the
/// blocks in which somebody else had the CPU, high enough not to be the luckiest.
pub(crate) const QUIET: f64 = 0.2;

/// The value below which a share of the values lies (nearest rank); `None` without values.
pub(crate) fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (0..sorted.len()).find(|rank| *rank as f64 + 1.0 >= share * sorted.len() as f64);
    rank.map(|rank| sorted[rank])
}

/// The median, with the mean of the middle two of an even number; `None` without values.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(*upper);
    }
    Some(f64::midpoint(sorted[middle - 1], *upper))
}

/// Several measurements of the same thing: their median, lowest and highest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// `None` without values.
    pub(crate) fn of(values: &[f64]) -> Option<Spread> {
        Some(Spread {
            median: median(values)?,
            low: values.iter().copied().reduce(f64::min)?,
            high: values.iter().copied().reduce(f64::max)?,
        })
    }
}

/// Of ratios: as change, in percent.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |ratio: f64| (ratio - 1.0) * 100.0;
        write!(
            f,
            "{:+.1} % [{:+.1} … {:+.1}]",
            percent(self.median),
            percent(self.low),
            percent(self.high)
        )
    }
}

/// How a figure compares with its goal.
pub(crate) fn verdict(value: f64, at_most: f64) -> &'static str {
    if value <= at_most {
        "met"
    } else {
        "**missed**"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=10).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 0.2), Some(2.0));
        assert_eq!(percentile(&values, 0.21), Some(3.0));
        assert_eq!(percentile(&values, 0.0), Some(1.0));
        assert_eq!(percentile(&values, 1.0), Some(10.0));
        assert_eq!(percentile(&[7.0], 0.2), Some(7.0));
        assert_eq!(percentile(&[], 0.2), None);
    }

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_spread_reads_as_change() {
        let spread = Spread::of(&[1.02, 0.99, 1.1]).unwrap();
        assert_eq!(spread.to_string(), "+2.0 % [-1.0 … +10.0]");
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_goal_is_met_at_its_limit() {
        assert_eq!(verdict(1.03, 1.03), "met");
        assert_eq!(verdict(1.031, 1.03), "**missed**");
    }
}
