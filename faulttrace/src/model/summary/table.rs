//! Totals by a key, in bounded memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::hash::Hash;
use std::sync::Arc;

use super::room::Room;
use crate::model::{Facts, Fault, MappingKind, Measure, Name, Place, Stack};

/// How many faults, and the time they took. All times in ns, saturating.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Faults.
    pub faults: u64,
    /// Those of them that the kernel accounted as major.
    pub majors: u64,
    /// Those of them that it gave up before it could account them as anything, for a signal or because they
    /// failed.
    pub given_up: u64,
    /// Sum of `duration_ns`.
    pub duration_ns: u64,
    /// Sum of `blocked_ns`.
    pub blocked_ns: u64,
    /// Sum of `runqueue_ns`.
    pub runqueue_ns: u64,
    /// Sum of `on_cpu_ns`.
    pub on_cpu_ns: u64,
    /// The longest `duration_ns`.
    pub max_ns: u64,
}

impl Tally {
    /// Counts one fault.
    pub fn add(&mut self, fault: &Fault) {
        self.merge(&Tally {
            faults: 1,
            majors: u64::from(fault.major),
            given_up: u64::from(fault.facts.given_up),
            duration_ns: fault.duration_ns,
            blocked_ns: fault.blocked_ns,
            runqueue_ns: fault.runqueue_ns,
            on_cpu_ns: fault.on_cpu_ns,
            max_ns: fault.duration_ns,
        });
    }

    /// Counts one fault, told by its own half, and by what its site says of it.
    pub fn add_measure(&mut self, major: bool, given_up: bool, measure: &Measure) {
        self.merge(&Tally {
            faults: 1,
            majors: u64::from(major),
            given_up: u64::from(given_up),
            duration_ns: measure.duration_ns,
            blocked_ns: measure.blocked_ns,
            runqueue_ns: measure.runqueue_ns,
            on_cpu_ns: measure.on_cpu_ns(),
            max_ns: measure.duration_ns,
        });
    }

    /// Counts what `other` counted.
    pub fn merge(&mut self, other: &Tally) {
        self.faults = self.faults.saturating_add(other.faults);
        self.majors = self.majors.saturating_add(other.majors);
        self.given_up = self.given_up.saturating_add(other.given_up);
        self.duration_ns = self.duration_ns.saturating_add(other.duration_ns);
        self.blocked_ns = self.blocked_ns.saturating_add(other.blocked_ns);
        self.runqueue_ns = self.runqueue_ns.saturating_add(other.runqueue_ns);
        self.on_cpu_ns = self.on_cpu_ns.saturating_add(other.on_cpu_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }
}

/// A thread of a process. The pid is part of it so that totals over processes stay apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadKey {
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
}

impl ThreadKey {
    /// The thread that faulted.
    pub fn of(facts: &Facts) -> Self {
        ThreadKey {
            pid: facts.pid,
            tid: facts.tid,
        }
    }
}

/// What was mapped where the faults happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileKey {
    /// Path or label; `None` if unknown or without a name.
    pub path: Option<Name>,
    /// Kind of memory; `None` if unknown.
    pub mapping: Option<MappingKind>,
    /// The file was deleted after it was mapped.
    pub deleted: bool,
}

impl FileKey {
    /// The file, without the page.
    pub fn of(place: &Place) -> Self {
        FileKey {
            path: place.path.clone(),
            mapping: place.mapping,
            deleted: place.deleted,
        }
    }
}

/// A user stack of a process; `id` is `None` for faults without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackKey {
    /// Process id: the same addresses mean other code elsewhere.
    pub pid: u32,
    /// [`Stack::id`].
    pub id: Option<u64>,
}

impl StackKey {
    /// The code that faulted.
    pub fn of(facts: &Facts) -> Self {
        StackKey {
            pid: facts.pid,
            id: facts.user_stack.as_ref().map(|stack| stack.id),
        }
    }
}

/// The totals of one key, with what describes it for the reader.
#[derive(Debug, Clone)]
pub struct Entry<D> {
    /// The totals.
    pub tally: Tally,
    /// The thread's latest name, the stack first seen, or nothing.
    pub detail: D,
}

/// Totals by key. Keys beyond the limits are counted together in `others`.
#[derive(Debug, Clone)]
pub struct Table<K, D> {
    entries: HashMap<K, Entry<D>>,
    others: Tally,
}

impl<K, D> Default for Table<K, D> {
    fn default() -> Self {
        Table {
            entries: HashMap::new(),
            others: Tally::default(),
        }
    }
}

impl<K: Eq + Hash + Ord + Clone, D: Clone> Table<K, D> {
    /// The entry's totals and detail, made if there is room; else the common rest's totals.
    /// `detail` says `None` if there is no room for what it makes.
    pub(super) fn at(
        &mut self,
        key: K,
        detail: impl FnOnce(&mut Room) -> Option<D>,
        room: &mut Room,
    ) -> (&mut Tally, Option<&mut D>) {
        let has_room = room.has_key(self.entries.len());
        let entry = match self.entries.entry(key) {
            MapEntry::Occupied(known) => known.into_mut(),
            MapEntry::Vacant(_) if !has_room => return (&mut self.others, None),
            MapEntry::Vacant(vacant) => {
                let Some(detail) = detail(room) else {
                    return (&mut self.others, None);
                };
                room.take_key();
                vacant.insert(Entry {
                    tally: Tally::default(),
                    detail,
                })
            }
        };
        (&mut entry.tally, Some(&mut entry.detail))
    }

    /// Adds all of `other`.
    pub(super) fn merge(&mut self, other: &Self, room: &mut Room) {
        // Largest first, so that what falls to `others` is what matters least.
        for (key, entry) in other.ranked() {
            self.at(key.clone(), |_| Some(entry.detail.clone()), room)
                .0
                .merge(&entry.tally);
        }
        self.others.merge(&other.others);
    }

    /// The entries, most blocked time first; equal ones by duration, then by key.
    pub fn ranked(&self) -> Vec<(&K, &Entry<D>)> {
        let mut all: Vec<_> = self.entries.iter().collect();
        all.sort_by(|(a_key, a), (b_key, b)| {
            (b.tally.blocked_ns, b.tally.duration_ns)
                .cmp(&(a.tally.blocked_ns, a.tally.duration_ns))
                .then_with(|| a_key.cmp(b_key))
        });
        all
    }

    /// The entry of a key that has one of its own.
    pub fn get(&self, key: &K) -> Option<&Entry<D>> {
        self.entries.get(key)
    }

    /// Number of keys with an entry of their own.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Nothing was counted, not even in `others`.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.others.faults == 0
    }

    /// What the keys beyond the limits add up to.
    pub fn others(&self) -> &Tally {
        &self.others
    }
}

/// By thread, with its latest name.
pub type ByThread = Table<ThreadKey, Name>;
/// By file or kind of memory.
pub type ByFile = Table<FileKey, ()>;
/// By user stack, with the stack as first seen.
pub type ByStack = Table<StackKey, Option<Arc<Stack>>>;
/// By cause; `None` is for faults without a sleep.
pub type ByCause = Table<Option<crate::model::Cause>, ()>;
