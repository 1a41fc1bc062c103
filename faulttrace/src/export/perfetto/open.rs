//! Faults that were reported as stuck and have not been seen to end: each is counted and drawn
//! from its report on, and closed by the first that tells that it is over.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{Facts, Stuck};

/// Threads remembered; as many as the summary remembers.
const MAX_OPEN: usize = 10_000;

/// The faults by thread.
#[derive(Debug, Default)]
pub(super) struct Open {
    threads: HashMap<(u32, u32), Unended>,
}

/// A fault that was reported as stuck.
#[derive(Debug, Clone)]
pub(super) struct Unended {
    /// The latest report of it.
    pub(super) stuck: Arc<Stuck>,
    /// Its first known moment, Unix ns.
    pub(super) begin_ns: u64,
    /// Why it must be over, and the latest time at which it was.
    pub(super) over: Option<(Over, u64)>,
    /// Whether its thread holds a P, as its first report had it: a later one that knows more must not
    /// end what was never counted.
    pub(super) holds_p: bool,
}

/// What tells that a fault is over whose end was not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// The thread was in another one.
    NextFault,
    /// Its process ended.
    ProcessEnd,
}

impl Unended {
    fn is(&self, facts: &Facts) -> bool {
        let own = &self.stuck.facts;
        own.begin_ns == facts.begin_ns && own.began_before_attach == facts.began_before_attach
    }

    /// The next fault of its thread has begun.
    fn ended_by_next(mut self, begin_ns: u64) -> Unended {
        if self.over.is_none() {
            self.over = Some((Over::NextFault, begin_ns.max(self.begin_ns)));
        }
        self
    }
}

/// What a record says of the fault that was open in its thread.
#[derive(Debug)]
pub(super) enum Before {
    /// There was none.
    Nothing,
    /// This very fault.
    Same(Unended),
    /// Another one, which must be over.
    Other(Unended),
}

impl Open {
    /// A report; `None` if there are too many to remember it.
    pub(super) fn report(&mut self, stuck: &Arc<Stuck>, begin_ns: u64) -> Option<Before> {
        let key = (stuck.facts.pid, stuck.facts.tid);
        if self.threads.len() >= MAX_OPEN && !self.threads.contains_key(&key) {
            return None;
        }
        let known = self.threads.get(&key).filter(|open| open.is(&stuck.facts));
        let new = Unended {
            stuck: Arc::clone(stuck),
            begin_ns,
            over: None,
            holds_p: known.map_or_else(|| holds_p(&stuck.facts), |open| open.holds_p),
        };
        Some(match self.threads.insert(key, new) {
            None => Before::Nothing,
            Some(open) if open.is(&stuck.facts) => Before::Same(open),
            Some(open) => Before::Other(open.ended_by_next(begin_ns)),
        })
    }

    /// A fault that is over.
    pub(super) fn ended(&mut self, facts: &Facts, begin_ns: u64) -> Before {
        match self.threads.remove(&(facts.pid, facts.tid)) {
            None => Before::Nothing,
            Some(open) if open.is(facts) => Before::Same(open),
            Some(open) => Before::Other(open.ended_by_next(begin_ns)),
        }
    }

    /// A process has ended: returns the faults of its threads that are over by that, which stay
    /// here, since the record of their end may yet come.
    pub(super) fn process_ended(&mut self, pid: u32, at: u64) -> Vec<Unended> {
        let mut ended = Vec::new();
        for ((of, _), open) in &mut self.threads {
            if *of == pid && open.over.is_none() {
                open.over = Some((Over::ProcessEnd, at.max(open.begin_ns)));
                ended.push(open.clone());
            }
        }
        ended
    }

    /// All that are left, in the order of their beginnings.
    pub(super) fn take_all(&mut self) -> Vec<Unended> {
        let mut all: Vec<_> = self.threads.drain().collect();
        all.sort_by_key(|(key, open)| (open.begin_ns, *key));
        all.into_iter().map(|(_, open)| open).collect()
    }
}

/// Whether the thread of a Go program holds a P, as far as is known.
pub(super) fn holds_p(facts: &Facts) -> bool {
    let goroutine = facts.goroutine.as_deref();
    goroutine.is_some_and(|goroutine| goroutine.p.is_some())
}
