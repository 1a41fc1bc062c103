//! How many threads of a process were blocked at each moment, forward in time, as far as that is
//! settled.
//!
//! A fault is told when it is over, so its begin lies in the past; both wait in a heap until a sample
//! says that everything before is known. What began and is reported as stuck is open until its end.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use super::around::Kept;
use super::full::Full;
use super::window::{Meantime, Window};
use super::{MIN_TOLD_NS, StallTotals};
use crate::model::ps::PsTotals;
use crate::model::{Facts, Fault, Record, Sample, Stuck};

/// Threads in reported faults that are remembered.
const MAX_STUCK: usize = 10_000;
/// Changes of the number needed that wait.
const MAX_CHANGES: usize = 65_536;
/// How long after a report of a stuck thread is due it is given up, ns.
const GIVEN_UP_NS: u64 = 5_000_000_000;
/// The longest pause between two of these reports, ns.
const REPORT_PAUSE_NS: u64 = 60_000_000_000;

/// What a blocked thread is in.
#[derive(Debug, Clone)]
pub enum Source {
    /// A fault that is over.
    Fault(Arc<Fault>),
    /// One that was not over when it was told.
    Stuck(Arc<Stuck>),
}

impl Source {
    /// What is known of it.
    pub fn facts(&self) -> &Facts {
        match self {
            Source::Fault(fault) => &fault.facts,
            Source::Stuck(stuck) => &stuck.facts,
        }
    }
}

/// A thread begins (with what) or ends to be blocked.
#[derive(Debug)]
struct Edge {
    at_ns: u64,
    tid: u32,
    begins: Option<Source>,
}

impl Edge {
    /// Ends come before begins of the same moment.
    fn key(&self) -> (u64, bool, u32) {
        (self.at_ns, self.begins.is_some(), self.tid)
    }
}

impl PartialEq for Edge {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Edge {}

impl PartialOrd for Edge {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Edge {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// A blocked thread.
#[derive(Debug)]
struct Blocked {
    /// Faults of it under way: ends are approximate, so two may overlap.
    depth: u32,
    source: Source,
}

/// A fault that was reported as stuck and is not over.
#[derive(Debug, Clone, Copy)]
struct Open {
    begin_ns: u64,
    /// Known to go on until then, Unix time ns.
    until_ns: u64,
    elapsed_ns: u64,
}

/// One process.
#[derive(Debug)]
pub(super) struct Sweep {
    pid: u32,
    cursor_ns: u64,
    edges: BinaryHeap<Reverse<Edge>>,
    /// Those of them that begin.
    beginning: usize,
    /// By thread, so that the same stream is told the same.
    blocked: BTreeMap<u32, Blocked>,
    /// What began at the cursor.
    fresh: Vec<Source>,
    stuck: BTreeMap<u32, Open>,
    /// What is known by now of faults that were reported as stuck and whose begin is still to come.
    learnt: BTreeMap<(u32, Option<u64>), Source>,
    /// So many threads make a stall until these times, and after the last.
    changes: VecDeque<(u64, u32)>,
    needed: Option<u32>,
    window: Window,
    is_open: bool,
    /// When tracing ended with threads still in faults, until when that is known.
    cut_ns: Option<u64>,
    samples: Kept,
    /// The Ps, of a Go program.
    full: Full,
    /// It is one.
    is_go: bool,
}

impl Sweep {
    pub(super) fn new(pid: u32) -> Self {
        Sweep {
            pid,
            cursor_ns: 0,
            edges: BinaryHeap::new(),
            beginning: 0,
            blocked: BTreeMap::new(),
            fresh: Vec::new(),
            stuck: BTreeMap::new(),
            learnt: BTreeMap::new(),
            changes: VecDeque::new(),
            needed: None,
            window: Window::default(),
            is_open: false,
            cut_ns: None,
            samples: Kept::default(),
            full: Full::default(),
            is_go: false,
        }
    }

    /// Faults that wait, or are under way.
    pub(super) fn waiting(&self) -> usize {
        self.beginning + self.blocked.len()
    }

    /// A fault that is over. `full`: there is no room for it. Returns how many faults could not be
    /// taken into account in full.
    pub(super) fn fault(&mut self, fault: &Arc<Fault>, start_ns: u64, full: bool) -> u64 {
        let facts = &fault.facts;
        let begin_ns = if facts.began_before_attach {
            start_ns
        } else {
            fault.end_ns.saturating_sub(fault.duration_ns).max(start_ns)
        };
        let mut late = 0;
        if let Some(open) = self.stuck.remove(&facts.tid) {
            if begin_ns <= open.begin_ns {
                self.learn(Source::Fault(Arc::clone(fault)));
                return self.ends(facts.tid, fault.end_ns);
            }
            // Its end was not seen.
            late = 1;
            self.ends(facts.tid, open.until_ns);
        }
        if fault.blocked_ns == 0 || begin_ns >= fault.end_ns {
            return late;
        }
        if full || fault.end_ns <= self.cursor_ns {
            return late + 1;
        }
        late += self.begins(begin_ns, Source::Fault(Arc::clone(fault)));
        late + self.ends(facts.tid, fault.end_ns)
    }

    /// A fault that goes on. `full` and the result are as for [`Sweep::fault`].
    pub(super) fn stuck(&mut self, stuck: &Arc<Stuck>, start_ns: u64, full: bool) -> u64 {
        let tid = stuck.facts.tid;
        let begin_ns = stuck.facts.begin_ns.unwrap_or(start_ns).max(start_ns);
        let open = Open {
            begin_ns,
            until_ns: begin_ns.saturating_add(stuck.elapsed_ns),
            elapsed_ns: stuck.elapsed_ns,
        };
        let mut late = 0;
        match self.stuck.get(&tid).copied() {
            None => {}
            Some(known) if known.begin_ns == begin_ns => {
                self.stuck.insert(tid, open);
                self.learn(Source::Stuck(Arc::clone(stuck)));
                return 0;
            }
            Some(known) => {
                // Its end was not seen.
                late = 1;
                self.stuck.remove(&tid);
                self.ends(tid, known.until_ns);
            }
        }
        if full || self.stuck.len() >= MAX_STUCK {
            return late + 1;
        }
        self.stuck.insert(tid, open);
        late + self.begins(begin_ns, Source::Stuck(Arc::clone(stuck)))
    }

    /// More is known of a fault that was reported as stuck: what its thread was at, perhaps, or its cause.
    fn learn(&mut self, source: Source) {
        self.is_go |= source.facts().goroutine.is_some();
        self.full.learn(&source);
        let key = source.key();
        match self.blocked.get_mut(&key.0) {
            Some(blocked) if blocked.source.key() == key => blocked.source = source,
            _ if self.learnt.len() < MAX_STUCK || self.learnt.contains_key(&key) => {
                self.learnt.insert(key, source);
            }
            _ => {}
        }
    }

    fn begins(&mut self, at_ns: u64, source: Source) -> u64 {
        self.is_go |= source.facts().goroutine.is_some();
        self.edge(at_ns, source.facts().tid, Some(source))
    }

    fn ends(&mut self, tid: u32, at_ns: u64) -> u64 {
        self.edge(at_ns, tid, None)
    }

    /// 1 if that is before the cursor, where nothing can be changed any more.
    fn edge(&mut self, at_ns: u64, tid: u32, begins: Option<Source>) -> u64 {
        self.beginning += usize::from(begins.is_some());
        self.edges.push(Reverse(Edge {
            at_ns: at_ns.max(self.cursor_ns),
            tid,
            begins,
        }));
        u64::from(at_ns < self.cursor_ns)
    }

    /// Everything until `sample.settled_ns` is known.
    pub(super) fn sample(
        &mut self,
        sample: &Arc<Sample>,
        totals: &mut StallTotals,
        out: &mut Vec<Record>,
    ) {
        self.samples.push(sample);
        if self.changes.len() < MAX_CHANGES {
            let change = (sample.time_ns, sample.stall_threads.max(1));
            self.changes.push_back(change);
        }
        self.give_up(sample.time_ns, totals);
        self.advance(sample.settled_ns.min(sample.time_ns), totals, out);
        if self.is_open && self.window.is_due() {
            let stall = self
                .window
                .stall(self.pid, false, self.is_go, &self.samples);
            out.push(Record::Stall(Arc::new(stall)));
        }
        let goes_on = self.full.going_on(self.pid, &self.samples);
        out.extend(goes_on.map(Record::PStall));
    }

    /// Threads of which no report came that was due are not stuck any more.
    fn give_up(&mut self, now_ns: u64, totals: &mut StallTotals) {
        let is_over = |open: &Open| {
            let due_ns = open
                .until_ns
                .saturating_add(open.elapsed_ns.min(REPORT_PAUSE_NS));
            now_ns > due_ns.saturating_add(GIVEN_UP_NS)
        };
        let over: Vec<(u32, u64)> = self
            .stuck
            .iter()
            .filter(|(_, open)| is_over(open))
            .map(|(tid, open)| (*tid, open.until_ns))
            .collect();
        for (tid, until_ns) in over {
            self.stuck.remove(&tid);
            self.ends(tid, until_ns);
            totals.late += 1;
        }
    }

    /// Goes forward to this moment, which is settled.
    fn advance(&mut self, to_ns: u64, totals: &mut StallTotals, out: &mut Vec<Record>) {
        while self.cursor_ns < to_ns {
            let edge = self.edges.peek().map_or(to_ns, |Reverse(edge)| edge.at_ns);
            let change = self.changes.front().map_or(to_ns, |(until, _)| *until);
            // A change that lies behind is none any more.
            let change = if change <= self.cursor_ns {
                to_ns
            } else {
                change
            };
            let next_ns = edge.min(change).clamp(self.cursor_ns, to_ns);
            self.pass(next_ns, totals, out);
            self.cursor_ns = next_ns;
            self.take_edges();
            while self
                .changes
                .front()
                .is_some_and(|(until, _)| *until <= next_ns)
            {
                self.needed = self.changes.pop_front().map(|(_, needed)| needed);
            }
        }
    }

    /// Takes all edges of the cursor's moment.
    fn take_edges(&mut self) {
        while self
            .edges
            .peek()
            .is_some_and(|Reverse(edge)| edge.at_ns <= self.cursor_ns)
            && let Some(Reverse(edge)) = self.edges.pop()
        {
            match edge.begins {
                Some(source) => {
                    self.beginning -= 1;
                    let learnt = self.learnt.remove(&source.key());
                    let source = learnt.unwrap_or(source);
                    self.fresh.push(source.clone());
                    let blocked = self
                        .blocked
                        .entry(edge.tid)
                        .or_insert(Blocked { depth: 0, source });
                    blocked.depth += 1;
                }
                None => {
                    if let Some(blocked) = self.blocked.get_mut(&edge.tid) {
                        blocked.depth -= 1;
                        if blocked.depth == 0 {
                            self.blocked.remove(&edge.tid);
                        }
                    }
                }
            }
        }
    }

    /// So many threads as now are blocked from the cursor on until then.
    fn pass(&mut self, to_ns: u64, totals: &mut StallTotals, out: &mut Vec<Record>) {
        if to_ns <= self.cursor_ns {
            return;
        }
        let ps = self.pass_ps(to_ns, out);
        let needed = self.changes.front().map(|(_, needed)| *needed);
        let needed = needed.or(self.needed);
        let count = self.blocked.len();
        let is_stall = needed.is_some_and(|needed| count >= needed as usize);
        match (needed, is_stall) {
            (Some(needed), true) if self.is_open => {
                self.window.extend(to_ns, count, needed, ps);
                for source in &self.fresh {
                    self.window.add(source.facts());
                }
            }
            (Some(needed), true) => {
                self.is_open = true;
                self.window.begin(self.cursor_ns, needed);
                self.window.extend(to_ns, count, needed, ps);
                for blocked in self.blocked.values() {
                    self.window.add(blocked.source.facts());
                }
            }
            _ if self.is_open => self.close(totals, out),
            _ => {}
        }
        self.fresh.clear();
    }

    /// The same for the Ps of a Go program.
    fn pass_ps(&mut self, to_ns: u64, out: &mut Vec<Record>) -> Meantime {
        if !self.is_go {
            return Meantime {
                unknown: true,
                ..Meantime::default()
            };
        }
        let blocked = self.blocked.values().map(|blocked| &blocked.source);
        let span = (self.cursor_ns, to_ns);
        let over = self
            .full
            .pass(self.pid, span, blocked.clone(), &self.fresh, &self.samples);
        out.extend(over.map(Record::PStall));
        let none_left = self.full.ps.is_full();
        Meantime {
            none_left,
            only_holders: blocked.clone().all(Source::holds_p),
            unknown: !none_left && blocked.clone().any(Source::may_hold_more),
        }
    }

    fn close(&mut self, totals: &mut StallTotals, out: &mut Vec<Record>) {
        self.is_open = false;
        let length_ns = self.window.length_ns();
        totals.count += 1;
        totals.total_ns = totals.total_ns.saturating_add(length_ns);
        let is_told = self.window.telling.told || length_ns >= MIN_TOLD_NS;
        if !is_told && !totals.wants(length_ns) {
            return;
        }
        let over = self.cut_ns != Some(self.window.end_ns);
        let stall = self.window.stall(self.pid, over, self.is_go, &self.samples);
        let stall = Arc::new(stall);
        if totals.wants(length_ns) {
            totals.keep(&stall);
        }
        if is_told {
            out.push(Record::Stall(stall));
        }
    }

    /// There is no more of this process. `cut`: only because tracing ended.
    pub(super) fn finish(&mut self, cut: bool, totals: &mut StallTotals, out: &mut Vec<Record>) {
        let open = std::mem::take(&mut self.stuck);
        let until_ns = open.values().map(|open| open.until_ns).max();
        // A sample may know of later than the last report does, which may not have been written.
        self.cut_ns = until_ns
            .filter(|_| cut)
            .map(|until| until.max(self.cursor_ns));
        for (tid, open) in open {
            self.ends(tid, open.until_ns);
        }
        let last = self.edges.iter().map(|Reverse(edge)| edge.at_ns).max();
        if let Some(last) = last {
            self.advance(last, totals, out);
        }
        if self.is_open {
            self.close(totals, out);
        }
        let last = self.full.finish(self.pid, self.cut_ns, &self.samples);
        out.extend(last.map(Record::PStall));
    }

    /// What its Ps add up to, to be added to.
    pub(super) fn ps(&mut self) -> &mut PsTotals {
        &mut self.full.ps.totals
    }
}
