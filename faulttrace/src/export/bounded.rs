//! Totals by key in bounded memory, for the formats that add up. What the keys are made of (names,
//! stacks) is kept once and counted too, since its size is the target's to choose.

use std::collections::HashMap;
use std::hash::Hash;

use indexmap::{Equivalent, IndexSet};

use crate::model::Fault;

/// How much an export that adds up may remember.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Different keys.
    pub(super) groups: usize,
    /// Bytes of the keys, and of the names and stacks in them; an estimate.
    pub(super) bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            groups: 100_000,
            bytes: 256 << 20,
        }
    }
}

/// What the faults of one key add up to, saturating.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) faults: u64,
    pub(super) blocked_ns: u64,
}

impl Sums {
    fn add(&mut self, fault: &Fault) {
        self.faults = self.faults.saturating_add(1);
        self.blocked_ns = self.blocked_ns.saturating_add(fault.blocked_ns);
    }
}

/// The bytes that are left. Once something did not fit, nothing does any more: what is in the
/// table is then what came first, not what is small.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
    full: bool,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Budget {
            left: bytes,
            full: false,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    fn take(&mut self, bytes: usize) -> bool {
        match self.left.checked_sub(bytes) {
            Some(left) if !self.full => {
                self.left = left;
                true
            }
            _ => {
                self.full = true;
                false
            }
        }
    }
}

/// About what an entry of a hash table takes besides its content, bytes.
const OVERHEAD: usize = 64;

/// Values, each kept once and numbered in the order in which they came.
#[derive(Debug)]
pub(super) struct Dictionary<T> {
    values: IndexSet<T>,
}

impl<T> Default for Dictionary<T> {
    fn default() -> Self {
        Dictionary {
            values: IndexSet::new(),
        }
    }
}

impl<T: Eq + Hash> Dictionary<T> {
    /// The number of a value that is there.
    pub(super) fn find<Q: Hash + Equivalent<T> + ?Sized>(&self, value: &Q) -> Option<u32> {
        self.values
            .get_index_of(value)
            .and_then(|index| u32::try_from(index).ok())
    }

    /// The number of a value of about `bytes`; `None` if there is no room for it.
    pub(super) fn id<Q>(&mut self, value: &Q, bytes: usize, budget: &mut Budget) -> Option<u32>
    where
        Q: Hash + Equivalent<T> + ToOwned + ?Sized,
        T: From<Q::Owned>,
    {
        if let Some(id) = self.find(value) {
            return Some(id);
        }
        let id = u32::try_from(self.values.len()).ok()?;
        budget.take(bytes.saturating_add(OVERHEAD)).then(|| {
            self.values.insert(T::from(value.to_owned()));
            id
        })
    }

    /// The value of a number.
    pub(super) fn get(&self, id: u32) -> Option<&T> {
        self.values.get_index(usize::try_from(id).ok()?)
    }

    /// All of them, by number.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.values.iter()
    }
}

/// Totals by key.
#[derive(Debug)]
pub(super) struct Groups<K> {
    sums: HashMap<K, Sums>,
    beyond: Sums,
    limit: usize,
}

impl<K: Eq + Hash> Groups<K> {
    pub(super) fn new(limits: Limits) -> Self {
        Groups {
            sums: HashMap::new(),
            beyond: Sums::default(),
            limit: limits.groups,
        }
    }

    /// Counts a fault; a key that could not be made (`None`) or kept is beyond the limit.
    pub(super) fn add(&mut self, key: Option<K>, bytes: usize, fault: &Fault, budget: &mut Budget) {
        let has_room = self.sums.len() < self.limit;
        let kept = key.filter(|key| {
            self.sums.contains_key(key) || (has_room && budget.take(bytes.saturating_add(OVERHEAD)))
        });
        let sums = match kept {
            Some(key) => self.sums.entry(key).or_default(),
            None => &mut self.beyond,
        };
        sums.add(fault);
    }

    /// Whether the key has a group.
    pub(super) fn contains(&self, key: &K) -> bool {
        self.sums.contains_key(key)
    }

    /// The groups, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, Sums)> {
        self.sums.iter().map(|(key, sums)| (key, *sums))
    }

    /// What was beyond the limit; `None` if nothing was.
    pub(super) fn beyond(&self) -> Option<Sums> {
        (self.beyond.faults > 0).then_some(self.beyond)
    }

    /// How the entry of what was beyond the limit is called.
    pub(super) fn beyond_name(&self) -> String {
        format!("[beyond the limit of {} different stacks]", self.sums.len())
    }
}
