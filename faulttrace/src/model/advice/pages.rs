//! Which pages came again: faulted in, and faulted in once more later in the trace.
//!
//! In bounded memory: with more pages than that, only one page in two is followed, then one in four,
//! and so on, chosen by a hash of the page, so that what they add up to stays an estimate of the whole.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::{BuildHasher, Hasher};

use crate::model::Measure;

/// Pages that had been faulted in before, in the same trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Again {
    /// Different pages that faulted.
    pub pages: u64,
    /// Those of them that came again.
    pub again_pages: u64,
    /// Faults on pages that had been faulted in before. Faults at the same time on one page count
    /// as one.
    pub faults: u64,
    /// Those of them for which the kernel started a read: the page was not in memory.
    pub started: u64,
    /// How long they blocked, ns.
    pub blocked_ns: u64,
}

/// A page, seen from its latest fault to its first.
#[derive(Debug, Clone, Copy, Default)]
struct Page {
    /// When the earliest group of faults on it so far began, Unix time ns.
    begin_ns: u64,
    /// How long that group blocked, ns.
    blocked_ns: u64,
    /// The kernel started a read for it.
    started: bool,
    /// Of the groups after that one.
    again: u64,
    again_started: u64,
    again_ns: u64,
}

/// The pages of all files and of all memory that was swapped.
#[derive(Debug)]
pub(super) struct Pages {
    pages: HashMap<(u32, u64), Page, Seed>,
    limit: usize,
    /// One page in `1 << shift` is followed.
    shift: u32,
}

impl Pages {
    pub(super) fn new(limit: usize) -> Self {
        Pages {
            pages: HashMap::with_hasher(Seed(RandomState::new().hash_one(0))),
            limit: limit.max(1),
            shift: 0,
        }
    }

    /// A fault on a page of a space, which ended before all faults so far (or nearly so).
    pub(super) fn fault(&mut self, space: u32, page: u64, started: bool, measure: &Measure) {
        if !self.follows(space, page) {
            return;
        }
        let full = self.pages.len() >= self.limit;
        match self.pages.entry((space, page)) {
            Entry::Occupied(mut entry) => entry.get_mut().before(started, measure),
            Entry::Vacant(entry) if !full => {
                entry.insert(Page::new(started, measure));
            }
            Entry::Vacant(_) => {
                self.thin();
                self.fault(space, page, started, measure);
            }
        }
    }

    /// One page in so many is followed.
    pub(super) fn one_in(&self) -> u64 {
        1 << self.shift
    }

    /// What is known of each space, estimated if not all pages are followed.
    pub(super) fn spaces(&self) -> HashMap<u32, Again> {
        let mut spaces: HashMap<u32, Again> = HashMap::new();
        for ((space, _), page) in &self.pages {
            let sum = spaces.entry(*space).or_default();
            for (sum, more) in [
                (&mut sum.pages, 1),
                (&mut sum.again_pages, u64::from(page.again > 0)),
                (&mut sum.faults, page.again),
                (&mut sum.started, page.again_started),
                (&mut sum.blocked_ns, page.again_ns),
            ] {
                *sum = sum.saturating_add(more.saturating_mul(self.one_in()));
            }
        }
        spaces
    }

    fn follows(&self, space: u32, page: u64) -> bool {
        let mask = self.one_in() - 1;
        mix(page ^ u64::from(space).rotate_left(40)) & mask == 0
    }

    /// Follows half as many. A hash has 64 bits, so at the latest then there is room.
    fn thin(&mut self) {
        if self.shift < 63 {
            self.shift += 1;
        }
        let seed = self.pages.hasher().clone();
        let none = HashMap::with_hasher(seed);
        let mut pages = std::mem::replace(&mut self.pages, none);
        pages.retain(|(space, page), _| self.follows(*space, *page));
        self.pages = pages;
        if self.shift == 63 {
            self.pages.clear();
        }
    }
}

impl Page {
    fn new(started: bool, measure: &Measure) -> Self {
        Page {
            begin_ns: measure.begin_ns(),
            blocked_ns: measure.blocked_ns,
            started,
            ..Page::default()
        }
    }

    /// A fault before those so far.
    fn before(&mut self, started: bool, measure: &Measure) {
        if measure.end_ns > self.begin_ns {
            // Under way at the same time: they waited for the same read.
            self.begin_ns = self.begin_ns.min(measure.begin_ns());
            self.blocked_ns = self.blocked_ns.saturating_add(measure.blocked_ns);
            self.started |= started;
            return;
        }
        *self = Page {
            again: self.again.saturating_add(1),
            again_started: self.again_started.saturating_add(u64::from(self.started)),
            again_ns: self.again_ns.saturating_add(self.blocked_ns),
            ..Page::new(started, measure)
        };
    }
}

/// A hash that costs half of the standard one's, since it is made for every fault. Not knowing the
/// seed, nobody can choose pages that collide.
#[derive(Debug, Clone)]
struct Seed(u64);

struct Mixer(u64);

impl BuildHasher for Seed {
    type Hasher = Mixer;

    fn build_hasher(&self) -> Mixer {
        Mixer(self.0)
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The finalizer of splitmix64: every bit of the page counts for every bit of the hash.
fn mix(page: u64) -> u64 {
    let mut hash = page.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
