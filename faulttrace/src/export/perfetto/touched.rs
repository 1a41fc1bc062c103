//! Which pages of which files the faults of a process were on: how many different ones.

use std::collections::HashMap;

use roaring::RoaringTreemap;

use crate::model::{Facts, Name};
use crate::view::words;

/// Bytes of a page. The records have offsets of pages and not their size; where pages are larger,
/// what is counted is a lower bound.
pub(super) const PAGE: u64 = 4096;

/// Files remembered.
const MAX_FILES: usize = 10_000;
/// Bytes that the sets of pages may take, about.
const MAX_BYTES: u64 = 64 << 20;
/// New pages between two looks at how large the sets are.
const LOOK_EVERY: u64 = 1 << 16;

/// How much may be remembered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) files: usize,
    pub(super) bytes: u64,
    pub(super) look_every: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            files: MAX_FILES,
            bytes: MAX_BYTES,
            look_every: LOOK_EVERY,
        }
    }
}

/// The pages of each file of each process. When they become too many, counting stops.
#[derive(Debug, Default)]
pub(super) struct Touched {
    limits: Limits,
    files: HashMap<(u32, Name, bool), RoaringTreemap>,
    new_pages: u64,
    stopped: bool,
}

impl Touched {
    #[cfg(test)]
    pub(super) fn with_limits(limits: Limits) -> Self {
        Touched {
            limits,
            ..Touched::default()
        }
    }

    /// Whether a fault was on a page of a file that none was on before.
    pub(super) fn is_new(&mut self, facts: &Facts) -> bool {
        let place = &facts.place;
        let (Some(path), Some(offset)) = (&place.path, place.offset) else {
            return false;
        };
        if self.stopped || !words::has_offset(place) {
            return false;
        }
        let key = (facts.pid, path.clone(), place.deleted);
        let is_new = self.files.entry(key).or_default().insert(offset / PAGE);
        self.new_pages += u64::from(is_new);
        let look = is_new && self.new_pages.is_multiple_of(self.limits.look_every);
        if self.files.len() > self.limits.files || (look && self.bytes() > self.limits.bytes) {
            self.stopped = true;
            self.files = HashMap::new();
            return false;
        }
        is_new
    }

    /// Counting has stopped because there was too much to remember.
    pub(super) fn stopped(&self) -> bool {
        self.stopped
    }

    fn bytes(&self) -> u64 {
        let sets = self.files.values();
        sets.map(|pages| u64::try_from(pages.serialized_size()).unwrap_or(u64::MAX))
            .fold(0, u64::saturating_add)
    }
}
