//! Who held `mmap_lock` while faults waited for it.
//!
//! Whoever wakes such a fault is the thread that let the lock go (docs/how-it-works.md, "Who held
//! `mmap_lock`"). It is known for the longest sleep of a fault, so time here is that of those sleeps.
//! [`Gather`](super::Gather) counts, [`Findings`](super::Findings) have what was counted.

use std::collections::HashMap;

use crate::model::summary::Waited;
use crate::model::{Measure, Name, Task, Waker};

/// Holders that are remembered of one process.
const MAX_HOLDERS: usize = 256;

/// Threads of one name in one process that held the lock in one call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holder {
    /// Process id (tgid); 0 if it has none in the tracer's pid namespace.
    pub pid: u32,
    /// Whether that is not the process that waited.
    pub is_other: bool,
    /// The threads' `comm`.
    pub name: Name,
    /// The system call, without prefix; `None` if they were in none, or in one that could not be told.
    pub syscall: Option<Name>,
}

impl Holder {
    fn of(task: &Task, pid: u32) -> Self {
        Holder {
            pid: task.pid,
            is_other: task.pid != pid,
            name: task.name.clone(),
            syscall: task.syscall.clone(),
        }
    }
}

/// What is counted of one process.
#[derive(Debug, Default)]
pub(super) struct OfHolders {
    rows: HashMap<Holder, Waited>,
    beyond: Waited,
    unknown: Waited,
}

impl OfHolders {
    /// A fault of process `pid` that waited for the lock.
    pub(super) fn fault(&mut self, pid: u32, measure: &Measure) {
        let sleep = measure.longest_sleep.as_ref();
        let waited = Waited {
            faults: 1,
            // Without a sleep whose end was seen, all of it is time of somebody who is not known.
            blocked_ns: sleep.map_or(measure.blocked_ns, |sleep| sleep.blocked_ns),
        };
        // An interrupt holds no lock: it woke for some other reason.
        let Some(Waker::Task(task)) = sleep.and_then(|sleep| sleep.waker.as_ref()) else {
            self.unknown.add(waited);
            return;
        };
        let holder = Holder::of(task, pid);
        if let Some(row) = self.rows.get_mut(&holder) {
            row.add(waited);
        } else if self.rows.len() < MAX_HOLDERS {
            self.rows.insert(holder, waited);
        } else {
            self.beyond.add(waited);
        }
    }

    pub(super) fn found(&self) -> Holders {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by(|(a, one), (b, other)| {
            let cost = |sum: &Waited| (sum.blocked_ns, sum.faults);
            cost(other).cmp(&cost(one)).then_with(|| a.cmp(b))
        });
        Holders {
            rows: rows
                .into_iter()
                .map(|(holder, waited)| (holder.clone(), *waited))
                .collect(),
            beyond: self.beyond,
            unknown: self.unknown,
        }
    }
}

/// Who held the lock that faults of a process waited for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    /// Whom was waited for longest first.
    pub rows: Vec<(Holder, Waited)>,
    /// Holders beyond what could be remembered.
    pub beyond: Waited,
    /// Waits of which it is not known who held the lock.
    pub unknown: Waited,
}

impl Holders {
    /// The first rows, and what the other holders add up to.
    pub fn top(&self, rows: usize) -> (&[(Holder, Waited)], Waited) {
        let (first, rest) = self.rows.split_at(rows.min(self.rows.len()));
        let mut others = self.beyond;
        for (_, waited) in rest {
            others.add(*waited);
        }
        (first, others)
    }

    /// All waits.
    pub fn all(&self) -> Waited {
        let (_, mut all) = self.top(0);
        all.add(self.unknown);
        all
    }
}
