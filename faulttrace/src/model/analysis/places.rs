//! Where in a file the faults are: a map of its offsets that coarsens as it grows.

/// Buckets of a map.
const BUCKETS: usize = 256;
/// Ranges told of a file.
const MAX_RANGES: usize = 5;
/// A range holds at least one in so many of the blocked ns, or it is not told.
const MIN_PART: u64 = 10;
/// What a fault brings in at least: ranges end behind their last page.
pub const PAGE_BYTES: u64 = 4096;

/// A part of a file, with the faults on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HotRange {
    /// Offset of the first page that faulted in it.
    pub from: u64,
    /// Offset behind the last one (of 4 KiB).
    pub to: u64,
    /// Faults in it.
    pub faults: u64,
    /// The time they were blocked, ns.
    pub blocked_ns: u64,
}

/// A bucket: what faulted in one stretch of the file.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    faults: u64,
    blocked_ns: u64,
    low: u64,
    high: u64,
}

impl Bucket {
    fn merge(&mut self, other: &Bucket) {
        if self.faults == 0 {
            *self = *other;
            return;
        }
        self.faults = self.faults.saturating_add(other.faults);
        self.blocked_ns = self.blocked_ns.saturating_add(other.blocked_ns);
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
    }

    fn range(&self) -> HotRange {
        HotRange {
            from: self.low,
            to: self.high.saturating_add(PAGE_BYTES),
            faults: self.faults,
            blocked_ns: self.blocked_ns,
        }
    }
}

/// The offsets of one file. Stretches of equal width, a power of two, are buckets; the one of an
/// offset is its stretch modulo [`BUCKETS`], which is unique while all of them span fewer.
#[derive(Debug, Clone)]
pub(super) struct Places {
    shift: u32,
    /// Of all offsets.
    all: Bucket,
    buckets: Box<[Bucket; BUCKETS]>,
}

impl Places {
    pub(super) fn new() -> Self {
        Places {
            shift: PAGE_BYTES.trailing_zeros(),
            all: Bucket::default(),
            buckets: Box::new([Bucket::default(); BUCKETS]),
        }
    }

    pub(super) fn add(&mut self, offset: u64, blocked_ns: u64) {
        self.put(&Bucket {
            faults: 1,
            blocked_ns,
            low: offset,
            high: offset,
        });
    }

    pub(super) fn merge(&mut self, other: &Places) {
        // Buckets may be wider than ours for a moment: the range of all of `other` makes ours as wide.
        for bucket in other.buckets.iter().filter(|bucket| bucket.faults > 0) {
            self.put(bucket);
        }
    }

    /// The few ranges that each hold much of the blocked time, most first. If there are none such,
    /// all of the range, as one. Empty if nothing blocked there.
    pub(super) fn hot(&self) -> Vec<HotRange> {
        if self.all.blocked_ns == 0 {
            return Vec::new();
        }
        let least_ns = self.all.blocked_ns.div_ceil(MIN_PART);
        let mut ranges = self.joined(self.hottest());
        ranges.retain(|range| range.blocked_ns >= least_ns);
        ranges.sort_by_key(|range| (std::cmp::Reverse(range.blocked_ns), range.from));
        ranges.truncate(MAX_RANGES);
        if ranges.is_empty() {
            ranges.push(self.all.range());
        }
        ranges
    }

    /// The fewest stretches that hold 80 % of the blocked time.
    fn hottest(&self) -> Vec<u64> {
        let mut used: Vec<&Bucket> = self.buckets.iter().filter(|one| one.faults > 0).collect();
        used.sort_by_key(|one| (std::cmp::Reverse(one.blocked_ns), one.low));
        let wanted = u128::from(self.all.blocked_ns) * 4 / 5;
        let mut held = 0_u128;
        let mut hottest = Vec::new();
        for bucket in used {
            if held >= wanted || bucket.blocked_ns == 0 {
                break;
            }
            held += u128::from(bucket.blocked_ns);
            hottest.push(bucket.low >> self.shift);
        }
        hottest.sort_unstable();
        hottest
    }

    /// Neighbours as one range.
    fn joined(&self, stretches: Vec<u64>) -> Vec<HotRange> {
        let mut joined: Vec<(u64, Bucket)> = Vec::new();
        for stretch in stretches {
            let bucket = self.buckets[slot(stretch)];
            match joined.last_mut() {
                Some((last, sum)) if *last + 1 == stretch => {
                    *last = stretch;
                    sum.merge(&bucket);
                }
                _ => joined.push((stretch, bucket)),
            }
        }
        joined.iter().map(|(_, bucket)| bucket.range()).collect()
    }

    /// All of it.
    pub(super) fn whole(&self) -> HotRange {
        self.all.range()
    }

    /// The width of a stretch, bytes: how exact ranges are told apart.
    pub(super) fn width(&self) -> u64 {
        1 << self.shift
    }

    fn put(&mut self, new: &Bucket) {
        self.all.merge(new);
        while (self.all.high >> self.shift) - (self.all.low >> self.shift) >= BUCKETS as u64 {
            self.coarsen();
        }
        self.buckets[slot(new.low >> self.shift)].merge(new);
    }

    /// Doubles the width.
    fn coarsen(&mut self) {
        self.shift += 1;
        let old = std::mem::replace(&mut *self.buckets, [Bucket::default(); BUCKETS]);
        for bucket in old.iter().filter(|bucket| bucket.faults > 0) {
            self.buckets[slot(bucket.low >> self.shift)].merge(bucket);
        }
    }
}

/// Where a stretch is kept.
fn slot(stretch: u64) -> usize {
    usize::try_from(stretch % BUCKETS as u64).unwrap_or(0)
}
