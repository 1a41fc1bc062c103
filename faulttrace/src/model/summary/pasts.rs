//! What the pasts of pages add up to: how many had been in memory before, who evicted them, who filled
//! the page cache meanwhile, and how much more memory would have kept them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};

use hdrhistogram::Histogram;

use crate::model::{CacheFill, History, How, Name, Past};

/// Rows that are remembered of a table; what is beyond is counted together.
const MAX_ROWS: usize = 1_000;
/// Significant digits of distances: right to 1 %.
const DIGITS: u8 = 2;
/// Of so many per cent of the refaults it is told how much memory would have avoided them.
pub const AVOIDED: [f64; 3] = [50.0, 90.0, 99.0];

/// Faults, and how long they blocked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waited {
    /// Faults.
    pub faults: u64,
    /// Asleep, ns.
    pub blocked_ns: u64,
}

impl Waited {
    /// Counts what `other` counted.
    pub(crate) fn add(&mut self, other: Waited) {
        self.faults = self.faults.saturating_add(other.faults);
        self.blocked_ns = self.blocked_ns.saturating_add(other.blocked_ns);
    }
}

/// A process by its id and a name of it. Of two names, as of its threads, the process is the same; without an id it
/// goes by its name.
#[derive(Debug, Clone)]
pub struct Who {
    /// Process id (tgid); 0 if it has none in the tracer's pid namespace.
    pub pid: u32,
    /// `comm` of a thread of it.
    pub name: Name,
}

impl Who {
    fn key(&self) -> (u32, Option<&Name>) {
        (self.pid, (self.pid == 0).then_some(&self.name))
    }
}

impl PartialEq for Who {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Who {}

impl Hash for Who {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl Ord for Who {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Who {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How pages were removed from memory, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Remover {
    /// How.
    pub how: How,
    /// By whom.
    pub who: Who,
    /// Its cgroup then, see [`Removal::cgroup`](crate::model::Removal::cgroup).
    pub cgroup: Option<Name>,
}

/// Sums by a key, in bounded memory.
#[derive(Debug, Clone)]
pub struct Sums<K> {
    rows: HashMap<K, Waited>,
    others: Waited,
}

impl<K> Default for Sums<K> {
    fn default() -> Self {
        Sums {
            rows: HashMap::new(),
            others: Waited::default(),
        }
    }
}

impl<K: Eq + Hash + Ord + Clone> Sums<K> {
    fn add(&mut self, key: K, waited: Waited) {
        if self.rows.len() >= MAX_ROWS && !self.rows.contains_key(&key) {
            self.others.add(waited);
        } else {
            self.rows.entry(key).or_default().add(waited);
        }
    }

    fn merge(&mut self, other: &Sums<K>) {
        for (key, waited) in &other.rows {
            self.add(key.clone(), *waited);
        }
        self.others.add(other.others);
    }

    /// The first rows, and what all others add up to.
    pub fn top(&self, rows: usize) -> (Vec<(&K, Waited)>, Waited) {
        let mut first = self.ranked();
        let mut rest = self.others;
        for (_, waited) in first.drain(rows.min(first.len())..) {
            rest.add(waited);
        }
        (first, rest)
    }

    /// The rows, what cost most first.
    pub fn ranked(&self) -> Vec<(&K, Waited)> {
        let mut rows: Vec<_> = self.rows.iter().map(|(key, sum)| (key, *sum)).collect();
        rows.sort_by(|(a, one), (b, other)| {
            let cost = |sum: &Waited| (sum.blocked_ns, sum.faults);
            cost(other).cmp(&cost(one)).then_with(|| a.cmp(b))
        });
        rows
    }
}

/// The pasts of the pages that faults waited for.
#[derive(Debug, Clone, Default)]
pub struct Pasts {
    /// Pages that were not in memory since their file is watched.
    pub first_touch: Waited,
    /// Pages that had been, and were removed.
    pub refault: Waited,
    /// Pages of which nothing is known.
    pub unknown: Waited,
    /// Refaults by how their pages were removed: all of them.
    pub how: BTreeMap<How, Waited>,
    /// Refaults by how and by whom their pages were removed.
    pub removed: Sums<Remover>,
    /// Refaults by who added most to the page cache while their pages were in it.
    pub filled: Sums<Who>,
    /// Refaults of pages that reclaim took, whose distance is not known.
    pub without_distance: u64,
    /// Of the others: the distances, pages.
    distances: Option<Box<Histogram<u64>>>,
}

impl Pasts {
    /// Whether there is anything to tell.
    pub fn is_empty(&self) -> bool {
        let Waited { faults, .. } = self.all();
        faults == 0
    }

    /// All faults whose pages' pasts were looked at.
    pub fn all(&self) -> Waited {
        let mut all = self.first_touch;
        all.add(self.refault);
        all.add(self.unknown);
        all
    }

    /// Counts a fault.
    pub fn add(&mut self, history: &History, blocked_ns: u64) {
        let waited = Waited {
            faults: 1,
            blocked_ns,
        };
        let removal = match &history.past {
            Past::FirstTouch => return self.first_touch.add(waited),
            Past::Unknown => return self.unknown.add(waited),
            Past::Refault(removal) => removal,
        };
        self.refault.add(waited);
        self.how.entry(removal.how).or_default().add(waited);
        let remover = Remover {
            how: removal.how,
            who: Who {
                pid: removal.by.pid,
                name: removal.by.name.clone(),
            },
            cgroup: removal.cgroup.clone(),
        };
        self.removed.add(remover, waited);
        if let Some(filled) = &removal.filled {
            let who = Who {
                pid: filled.pid,
                name: filled.name.clone(),
            };
            self.filled.add(who, waited);
        }
        if !removal.how.is_reclaim() {
            return;
        }
        match removal.distance_pages {
            None => self.without_distance += 1,
            Some(pages) => self.record_distance(pages),
        }
    }

    fn record_distance(&mut self, pages: u64) {
        if self.distances.is_none() {
            self.distances = Histogram::new(DIGITS).ok().map(Box::new);
        }
        if let Some(distances) = &mut self.distances
            && distances.record(pages).is_err()
        {
            // It cannot grow to the value; then it counts at the top.
            distances.saturating_record(pages);
        }
    }

    /// Counts what `other` counted.
    pub fn merge(&mut self, other: &Pasts) {
        self.first_touch.add(other.first_touch);
        self.refault.add(other.refault);
        self.unknown.add(other.unknown);
        for (how, waited) in &other.how {
            self.how.entry(*how).or_default().add(*waited);
        }
        self.removed.merge(&other.removed);
        self.filled.merge(&other.filled);
        self.without_distance += other.without_distance;
        if let Some(theirs) = &other.distances {
            match &mut self.distances {
                // Of the same precision, and growing by itself: adding cannot fail.
                Some(ours) => drop(ours.add(theirs.as_ref())),
                None => self.distances = Some(theirs.clone()),
            }
        }
    }

    /// How many refaults have a distance.
    pub fn with_distance(&self) -> u64 {
        self.distances.as_ref().map_or(0, |all| all.len())
    }

    /// With so many pages more, `percent` of the refaults that have a distance would not have been:
    /// their pages would still have been there. Right to 1 %; `None` without any.
    pub fn pages_more(&self, percent: f64) -> Option<u64> {
        let distances = self.distances.as_ref().filter(|all| !all.is_empty())?;
        Some(distances.value_at_percentile(percent).min(distances.max()))
    }

    /// [`Pasts::pages_more`] for each of [`AVOIDED`].
    pub fn avoided(&self) -> Option<[u64; 3]> {
        let [p50, p90, p99] = AVOIDED.map(|percent| self.pages_more(percent));
        Some([p50?, p90?, p99?])
    }
}

/// Who filled the page cache, all together.
#[derive(Debug, Clone, Default)]
pub struct Fills {
    /// Pages added.
    pub added_pages: u64,
    /// Pages removed.
    pub removed_pages: u64,
    /// Of these: by reclaim.
    pub reclaimed_pages: u64,
    by: HashMap<Who, u64>,
}

impl Fills {
    /// Whether it was told of.
    pub fn is_empty(&self) -> bool {
        self.added_pages == 0 && self.removed_pages == 0
    }

    /// Takes one more time into account.
    pub fn add(&mut self, fill: &CacheFill) {
        self.added_pages = self.added_pages.saturating_add(fill.added_pages);
        self.removed_pages = self.removed_pages.saturating_add(fill.removed_pages);
        self.reclaimed_pages = self.reclaimed_pages.saturating_add(fill.reclaimed_pages);
        for by in &fill.by {
            let who = Who {
                pid: by.pid,
                name: by.name.clone(),
            };
            if self.by.len() < MAX_ROWS || self.by.contains_key(&who) {
                let pages = self.by.entry(who).or_default();
                *pages = pages.saturating_add(by.pages);
            }
        }
    }

    /// Who added how many pages, most first. What is missing of `added_pages` was added by others, or
    /// by these in times in which others added more.
    pub fn ranked(&self) -> Vec<(&Who, u64)> {
        let mut all: Vec<_> = self.by.iter().map(|(who, pages)| (who, *pages)).collect();
        all.sort_by(|(a, one), (b, other)| other.cmp(one).then_with(|| a.cmp(b)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Removal, Task};

    fn refault(how: How, pid: u32, distance_pages: Option<u64>) -> History {
        History {
            watched_ns: Some(1),
            past: Past::Refault(Box::new(Removal {
                removed_ns: 3,
                cached_ns: Some(2),
                how,
                by: Task {
                    pid,
                    tid: pid,
                    name: Name::from("grep"),
                    syscall: None,
                },
                cgroup: None,
                distance_pages,
                filled: None,
            })),
        }
    }

    #[test]
    fn more_memory_would_have_kept_what_was_evicted_near() {
        let mut pasts = Pasts::default();
        assert!(pasts.is_empty() && pasts.pages_more(50.0).is_none());
        for distance in 1..=100 {
            pasts.add(&refault(How::MemcgReclaim, 1, Some(distance)), 10);
        }
        pasts.add(&refault(How::MemcgReclaim, 1, None), 10);
        // What was dropped on purpose would have been dropped all the same.
        pasts.add(&refault(How::DropCaches, 2, Some(1_000_000)), 10);
        assert_eq!((pasts.with_distance(), pasts.without_distance), (100, 1));
        assert_eq!(pasts.pages_more(50.0), Some(50));
        assert_eq!(pasts.pages_more(100.0), Some(100));
        assert_eq!(pasts.refault.faults, 102);
        let ranked = pasts.removed.ranked();
        assert_eq!(ranked[0].0.how, How::MemcgReclaim);
        let mut both = pasts.clone();
        both.merge(&pasts);
        assert_eq!(both.with_distance(), 200);
        assert_eq!(both.all().blocked_ns, 2040);
    }

    #[test]
    fn threads_of_a_process_are_one_who() {
        let mut pasts = Pasts::default();
        for (pid, name) in [(7, "reader-1"), (7, "reader-2"), (0, "a"), (0, "b")] {
            let mut one = refault(How::Fadvise, pid, None);
            if let Past::Refault(removal) = &mut one.past {
                removal.by.name = Name::from(name);
            }
            pasts.add(&one, 10);
        }
        let rows: Vec<_> = pasts.removed.ranked();
        let rows: Vec<_> = rows
            .iter()
            .map(|(of, sum)| (of.who.pid, sum.faults))
            .collect();
        assert_eq!(rows, [(7, 2), (0, 1), (0, 1)]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut pasts = Pasts::default();
        for pid in 0..2_000 {
            pasts.add(&refault(How::Kswapd, pid, Some(1)), 1);
        }
        assert_eq!(pasts.removed.ranked().len(), MAX_ROWS);
        let (first, rest) = pasts.removed.top(400);
        assert_eq!((first.len(), rest.faults), (400, 1_600));
    }
}
