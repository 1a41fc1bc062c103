//! Histograms of durations, a bounded number of them.

use hdrhistogram::Histogram;

/// Significant digits: percentiles are right to 1 %.
const DIGITS: u8 = 2;

/// How long faults took.
#[derive(Debug, Clone)]
pub struct Durations {
    histogram: Histogram<u32>,
    max_ns: u64,
}

/// What most durations are below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percentiles {
    /// Half of them are at most this, ns, right to 1 %.
    pub p50_ns: u64,
    /// 90 % of them.
    pub p90_ns: u64,
    /// 99 % of them.
    pub p99_ns: u64,
    /// The longest, ns, exact.
    pub max_ns: u64,
}

impl Durations {
    /// Without faults. `None` cannot happen: the precision is a valid one.
    pub(super) fn new() -> Option<Self> {
        Some(Durations {
            histogram: Histogram::new(DIGITS).ok()?,
            max_ns: 0,
        })
    }

    pub(super) fn record(&mut self, ns: u64) {
        self.max_ns = self.max_ns.max(ns);
        // Fails only if the table cannot grow to the value; then it counts at the top.
        if self.histogram.record(ns).is_err() {
            self.histogram.saturating_record(ns);
        }
    }

    pub(super) fn merge(&mut self, other: &Durations) {
        self.max_ns = self.max_ns.max(other.max_ns);
        // Both grow by themselves and have the same precision: adding cannot fail. If it did, the
        // count would tell.
        self.histogram.add(&other.histogram).ok();
    }

    /// Faults counted.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// (duration, ns, right to 1 %; faults) for every duration that occurred, ascending.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        self.histogram.iter_recorded().map(|step| {
            let ns = step.value_iterated_to().min(self.max_ns);
            (ns, step.count_since_last_iteration())
        })
    }

    /// The duration that `rank` faults (from 1) do not exceed; `None` if there are not as many.
    pub fn at_rank_ns(&self, rank: u64) -> Option<u64> {
        let mut seen = 0_u64;
        self.counts()
            .find(|(_, count)| {
                seen = seen.saturating_add(*count);
                rank > 0 && seen >= rank
            })
            .map(|(ns, _)| ns)
    }

    /// The duration that `percentile` per cent (0 to 100) of the faults do not exceed, ns.
    pub fn percentile_ns(&self, percentile: f64) -> u64 {
        // The histogram answers with the upper end of a bucket, which no fault may have reached.
        self.histogram
            .value_at_percentile(percentile)
            .min(self.max_ns)
    }

    /// `None` without faults.
    pub fn percentiles(&self) -> Option<Percentiles> {
        (self.count() > 0).then(|| Percentiles {
            p50_ns: self.percentile_ns(50.0),
            p90_ns: self.percentile_ns(90.0),
            p99_ns: self.percentile_ns(99.0),
            max_ns: self.max_ns,
        })
    }
}

/// The histograms of all keys.
#[derive(Debug)]
pub(super) struct Pool {
    all: Vec<Durations>,
    limit: usize,
}

impl Pool {
    pub(super) fn new(limit: usize) -> Self {
        Pool {
            all: Vec::new(),
            limit,
        }
    }

    /// With one that is there from the start.
    pub(super) fn with_one(limit: usize) -> Self {
        let mut pool = Pool::new(limit);
        pool.add();
        pool
    }

    /// One more; `None` if there is no room for it.
    pub(super) fn add(&mut self) -> Option<u32> {
        if self.all.len() >= self.limit {
            return None;
        }
        let id = u32::try_from(self.all.len()).ok()?;
        self.all.push(Durations::new()?);
        Some(id)
    }

    /// Records one fault.
    pub(super) fn record(&mut self, id: Option<u32>, ns: u64) {
        if let Some(one) = id.and_then(|id| self.all.get_mut(id as usize)) {
            one.record(ns);
        }
    }

    /// The histogram with this number.
    pub(super) fn get(&self, id: u32) -> Option<&Durations> {
        self.all.get(id as usize)
    }

    /// The histogram with this number, to be kept.
    pub(super) fn take(&mut self, id: Option<u32>) -> Option<Durations> {
        let one = self.all.get_mut(id? as usize)?;
        Some(std::mem::replace(one, Durations::new()?))
    }
}
