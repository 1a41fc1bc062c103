//! How many threads were in faults at each moment, exactly: a sweep from the last moment to the
//! first.
//!
//! Faults come with the latest end first. So when the sweep gets to a moment, all faults that were
//! under way then are known, and of each only its begin has to be kept.

use std::collections::BinaryHeap;

use super::order::Interval;
use super::stalls::Stalls;

/// What a begin ends, going backward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    /// Being in a fault.
    Fault,
    /// Being in a fault that blocks.
    Blocked,
    /// Both.
    Both,
}

/// The begin of what is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Begin {
    /// First, so that the latest is the greatest.
    at_ns: u64,
    thread: u32,
    lane: Lane,
}

/// A time during which a thread was in one fault after another without a gap; mostly in one.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    begin_ns: u64,
    open: bool,
}

#[derive(Debug)]
struct Thread {
    process: u32,
    fault: Span,
    blocked: Span,
    /// Where the stalls keep it while it is blocked.
    place: usize,
}

/// For how long how many threads were in faults.
#[derive(Debug, Clone, Default)]
pub(super) struct Levels {
    cursor_ns: u64,
    count: usize,
    /// By number of threads.
    ns: Vec<u64>,
}

impl Levels {
    fn advance(&mut self, to_ns: u64) {
        let passed = self.cursor_ns.saturating_sub(to_ns);
        if let Some(sum) = self.ns.get_mut(self.count) {
            *sum = sum.saturating_add(passed);
        }
        self.cursor_ns = to_ns;
    }

    fn add(&mut self, at_ns: u64) {
        self.advance(at_ns);
        self.count += 1;
        if self.ns.len() <= self.count {
            self.ns.resize(self.count + 1, 0);
        }
    }

    fn remove(&mut self, at_ns: u64) {
        self.advance(at_ns);
        self.count = self.count.saturating_sub(1);
    }

    /// How long at least so many threads (not 0) were in faults, ns.
    pub(super) fn at_least_ns(&self, threads: u64) -> u64 {
        let from = usize::try_from(threads).unwrap_or(usize::MAX).max(1);
        let times = self.ns.iter().skip(from);
        times.fold(0, |sum, ns| sum.saturating_add(*ns))
    }

    /// The most threads that were in faults at once.
    pub(super) fn max(&self) -> u64 {
        let most = self.ns.iter().rposition(|ns| *ns > 0).unwrap_or(0);
        u64::try_from(most).unwrap_or(u64::MAX)
    }
}

/// A process in the sweep.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) levels: Levels,
    pub(super) stalls: Stalls,
}

/// The sweep.
#[derive(Debug)]
pub(super) struct Sweep {
    now_ns: u64,
    begins: BinaryHeap<Begin>,
    threads: Vec<Thread>,
    pub(super) processes: Vec<Process>,
    /// Over all processes; while there is one, its own are those.
    several: Option<Levels>,
    /// Faults that came after the sweep had passed their end.
    pub(super) out_of_order: u64,
    /// Faults that began before the one before them in the same thread was over.
    pub(super) overlapping: u64,
}

impl Sweep {
    pub(super) fn new() -> Self {
        Sweep {
            now_ns: u64::MAX,
            begins: BinaryHeap::new(),
            threads: Vec::new(),
            processes: Vec::new(),
            several: None,
            out_of_order: 0,
            overlapping: 0,
        }
    }

    /// Over all processes.
    pub(super) fn all(&self) -> Option<&Levels> {
        let only = self.processes.first().map(|process| &process.levels);
        self.several.as_ref().or(only)
    }

    /// The next process; they are numbered in the order of these calls.
    pub(super) fn add_process(&mut self, stalls: Stalls) {
        if let [only] = self.processes.as_slice() {
            self.several = Some(only.levels.clone());
        }
        self.processes.push(Process {
            levels: Levels::default(),
            stalls,
        });
    }

    /// The next thread; they are numbered in the order of these calls.
    pub(super) fn add_thread(&mut self, process: u32) {
        self.threads.push(Thread {
            process,
            fault: Span::default(),
            blocked: Span::default(),
            place: 0,
        });
    }

    /// The fault with the latest end of those to come.
    pub(super) fn fault(&mut self, mut one: Interval) {
        if one.end_ns > self.now_ns {
            self.out_of_order += 1;
            // What the sweep has not passed yet counts.
            one.end_ns = self.now_ns;
        }
        if one.begin_ns >= one.end_ns {
            return;
        }
        self.back_to(one.end_ns);
        self.open(&one);
    }

    /// There are no more.
    pub(super) fn finish(&mut self) {
        self.back_to(0);
        for process in &mut self.processes {
            process.stalls.finish();
        }
    }

    /// Goes back in time. What begins at this very moment is over before it.
    fn back_to(&mut self, at_ns: u64) {
        while let Some(begin) = self.begins.peek().copied()
            && begin.at_ns >= at_ns
        {
            self.begins.pop();
            self.now_ns = begin.at_ns;
            self.close(begin);
        }
        self.now_ns = at_ns;
    }

    fn open(&mut self, one: &Interval) {
        let Some(thread) = self.threads.get_mut(one.thread as usize) else {
            return;
        };
        let Some(process) = self.processes.get_mut(thread.process as usize) else {
            return;
        };
        let mut opened = (false, false);
        if !one.over {
            // Only a stall.
        } else if thread.fault.open {
            self.overlapping += 1;
            thread.fault.begin_ns = thread.fault.begin_ns.min(one.begin_ns);
        } else {
            opened.0 = true;
            process.levels.add(one.end_ns);
            if let Some(all) = &mut self.several {
                all.add(one.end_ns);
            }
            thread.fault = Span {
                begin_ns: one.begin_ns,
                open: true,
            };
        }
        if one.blocked && thread.blocked.open {
            thread.blocked.begin_ns = thread.blocked.begin_ns.min(one.begin_ns);
        } else if one.blocked {
            opened.1 = true;
            thread.place = process.stalls.open(one, thread.blocked.begin_ns);
            thread.blocked = Span {
                begin_ns: one.begin_ns,
                open: true,
            };
        }
        let lane = match opened {
            (true, true) => Lane::Both,
            (true, false) => Lane::Fault,
            (false, true) => Lane::Blocked,
            (false, false) => return,
        };
        self.begins.push(Begin {
            at_ns: one.begin_ns,
            thread: one.thread,
            lane,
        });
    }

    fn close(&mut self, begin: Begin) {
        let Some(thread) = self.threads.get_mut(begin.thread as usize) else {
            return;
        };
        let Some(process) = self.processes.get_mut(thread.process as usize) else {
            return;
        };
        let at_ns = begin.at_ns;
        if begin.lane != Lane::Blocked {
            // Another fault that overlaps may have moved the begin.
            if thread.fault.begin_ns < at_ns {
                self.begins.push(Begin {
                    at_ns: thread.fault.begin_ns,
                    lane: Lane::Fault,
                    ..begin
                });
            } else {
                thread.fault.open = false;
                process.levels.remove(at_ns);
                if let Some(all) = &mut self.several {
                    all.remove(at_ns);
                }
            }
        }
        if begin.lane != Lane::Fault {
            if thread.blocked.begin_ns < at_ns {
                self.begins.push(Begin {
                    at_ns: thread.blocked.begin_ns,
                    lane: Lane::Blocked,
                    ..begin
                });
            } else {
                thread.blocked.open = false;
                let place = thread.place;
                let moved = process.stalls.close(place, at_ns);
                if let Some(moved) = moved.and_then(|moved| self.threads.get_mut(moved as usize)) {
                    moved.place = place;
                }
            }
        }
    }
}
