//! Folds faults that repeat faster than a person reads. Builds no text: 20,000 faults a second
//! pass through here.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use crate::model::summary::Tally;
use crate::model::{Cause, End, Fault, MappingKind, Name};

/// Groups remembered at a time; faults beyond are counted together.
const MAX_GROUPS: usize = 1000;
/// Groups shown at a time.
const MAX_SHOWN: usize = 20;

/// What faults of one group have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    pid: u32,
    tid: u32,
    stack: Option<u64>,
    path: Option<Name>,
    mapping: Option<MappingKind>,
    deleted: bool,
    cause: Option<Cause>,
    major: bool,
}

impl Key {
    fn of(fault: &Fault) -> Key {
        let facts = &fault.facts;
        Key {
            pid: facts.pid,
            tid: facts.tid,
            stack: facts.user_stack.as_ref().map(|stack| stack.id),
            path: facts.place.path.clone(),
            mapping: facts.place.mapping,
            deleted: facts.place.deleted,
            cause: facts.cause,
            major: fault.major,
        }
    }
}

/// Faults of one thread in one place for one reason.
#[derive(Debug)]
pub(super) struct Group {
    /// The first of them.
    pub(super) sample: Arc<Fault>,
    /// What they add up to.
    pub(super) tally: Tally,
    /// Lowest and highest offset in the file, of those that are known.
    pub(super) offsets: Option<(u64, u64)>,
    /// One or more have times that are lower bounds.
    pub(super) lower_bounds: bool,
    /// One or more have an approximate end.
    pub(super) approximate: bool,
}

impl Group {
    fn new(sample: Arc<Fault>) -> Group {
        Group {
            sample,
            tally: Tally::default(),
            offsets: None,
            lower_bounds: false,
            approximate: false,
        }
    }

    fn add(&mut self, fault: &Fault) {
        self.tally.add(fault);
        self.lower_bounds |= fault.facts.is_lower_bound();
        self.approximate |= fault.end == End::Approximate;
        if let Some(offset) = fault.facts.place.offset {
            let (low, high) = self.offsets.unwrap_or((offset, offset));
            self.offsets = Some((low.min(offset), high.max(offset)));
        }
    }
}

/// What is not shown by group.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// What it adds up to.
    pub(super) tally: Tally,
    /// How many groups it is.
    pub(super) groups: usize,
    /// There were more groups than could be remembered.
    pub(super) more: bool,
    /// One or more have times that are lower bounds.
    pub(super) lower_bounds: bool,
    /// One or more have an approximate end.
    pub(super) approximate: bool,
}

/// The faults held back.
#[derive(Debug, Default)]
pub(super) struct Folded {
    groups: HashMap<Key, Group>,
    others: Rest,
}

impl Folded {
    /// Holds one fault back.
    pub(super) fn add(&mut self, fault: &Arc<Fault>) {
        let key = Key::of(fault);
        if let Some(group) = self.groups.get_mut(&key) {
            group.add(fault);
        } else if self.groups.len() < MAX_GROUPS {
            let mut group = Group::new(Arc::clone(fault));
            group.add(fault);
            self.groups.insert(key, group);
        } else {
            self.others.more = true;
            self.others.tally.add(fault);
            self.others.lower_bounds |= fault.facts.is_lower_bound();
            self.others.approximate |= fault.end == End::Approximate;
        }
    }

    /// Hands everything out: the groups that cost most, most first, and what the rest adds up to.
    pub(super) fn take(&mut self) -> (Vec<Group>, Rest) {
        let mut groups: Vec<Group> = self.groups.drain().map(|(_, group)| group).collect();
        groups.sort_by_key(|group| {
            let facts = &group.sample.facts;
            let cost = (group.tally.blocked_ns, group.tally.duration_ns);
            (Reverse(cost), facts.begin_ns, facts.tid)
        });
        let mut rest = std::mem::take(&mut self.others);
        for group in groups.drain(MAX_SHOWN.min(groups.len())..) {
            rest.groups += 1;
            rest.tally.merge(&group.tally);
            rest.lower_bounds |= group.lower_bounds;
            rest.approximate |= group.approximate;
        }
        (groups, rest)
    }
}
