//! Stalls: when many threads of a process were in blocking faults at once.

use std::collections::VecDeque;

use super::order::Interval;
use super::slices::{Times, Wall};
use crate::model::Cause;
use crate::model::ps::{Held, Ps};

/// Threads told of one stall; the rest is counted.
const MAX_MEMBERS: usize = 16;
/// Changes of the number needed that wait for the sweep.
const MAX_CHANGES: usize = 65_536;

/// A thread in a stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) thread: u32,
    /// The longest of its faults in the stall.
    pub(super) longest_ns: u64,
    pub(super) file: Option<u32>,
    pub(super) cause: Option<Cause>,
    /// Its faults in the stall.
    pub(super) faults: u64,
}

/// A time during which enough threads were blocked at every moment.
#[derive(Debug, Clone)]
pub(super) struct Window {
    pub(super) begin_ns: u64,
    pub(super) end_ns: u64,
    /// The most threads blocked at once.
    pub(super) max_threads: u64,
    /// So many at least at every moment.
    pub(super) needed: u64,
    /// Different threads that were blocked in it.
    pub(super) threads: u64,
    pub(super) members: Vec<Member>,
}

impl Window {
    fn length_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.begin_ns)
    }
}

/// A fault that blocks at the moment of the sweep.
#[derive(Debug, Clone, Copy)]
struct Blocked {
    member: Member,
    /// Begin of the thread's next such fault, going forward in time.
    next_begin_ns: u64,
    held: Option<Held>,
}

/// The stalls of one process, from the last to the first.
#[derive(Debug)]
pub(super) struct Stalls {
    /// So many threads make a stall before the cursor.
    needed: u64,
    /// Before these times, latest first, other numbers do.
    changes: VecDeque<(u64, u64)>,
    /// The number at the end; the least and the most of all.
    last: Option<u64>,
    bounds: (u64, u64),
    keep: usize,
    cursor_ns: u64,
    blocked: Vec<Blocked>,
    /// Of `blocked`, those at the end that began to block, going backward, at the cursor. The sweep
    /// closes all that there is to close at a moment before it opens anything.
    fresh: usize,
    window: Option<Window>,
    /// Room for the members of the next window.
    spare: Vec<Member>,
    /// The longest, in no order.
    pub(super) worst: Vec<Window>,
    /// The length of the shortest of `worst`, once that is full.
    least_ns: u64,
    pub(super) count: u64,
    pub(super) total_ns: u64,
    /// The Ps of a Go program.
    pub(super) ps: Ps,
    /// When none was left.
    pub(super) no_p_left: Times,
    /// It is one.
    is_go: bool,
}

impl Stalls {
    /// Of at least `needed` threads; the `keep` longest are told. `wall`: of the trace.
    pub(super) fn new(needed: u64, keep: usize, wall: Option<Wall>) -> Self {
        Stalls {
            needed: needed.max(1),
            changes: VecDeque::new(),
            last: None,
            bounds: (needed.max(1), needed.max(1)),
            keep,
            cursor_ns: u64::MAX,
            blocked: Vec::new(),
            fresh: 0,
            window: None,
            spare: Vec::new(),
            worst: Vec::new(),
            least_ns: 0,
            count: 0,
            total_ns: 0,
            ps: Ps::default(),
            no_p_left: Times::new(wall),
            is_go: false,
        }
    }

    /// Before this time, which is before those of all calls so far, another number of threads makes a
    /// stall.
    pub(super) fn change(&mut self, (at_ns, needed): (u64, u64)) {
        if self.changes.len() >= MAX_CHANGES {
            return;
        }
        self.changes.push_back((at_ns, needed));
        self.bounds = match self.last {
            Some(_) => (self.bounds.0.min(needed), self.bounds.1.max(needed)),
            None => (needed, needed),
        };
        self.last.get_or_insert(needed);
    }

    /// What was told of other numbers so far is of no time that is looked at.
    pub(super) fn forget_changes(&mut self) {
        self.changes.clear();
        self.last = None;
    }

    /// A thread that was not blocked is, before this fault's end. `next_begin_ns`: when its next
    /// one began, 0 if it had none. Gives the place for [`Stalls::close`].
    pub(super) fn open(&mut self, one: &Interval, next_begin_ns: u64) -> usize {
        self.advance(one.end_ns);
        self.blocked.push(Blocked {
            member: Member {
                thread: one.thread,
                longest_ns: one.end_ns.saturating_sub(one.begin_ns),
                file: one.file,
                cause: one.cause,
                faults: 1,
            },
            next_begin_ns,
            held: one.held,
        });
        self.is_go |= one.held.is_some();
        self.fresh += 1;
        self.blocked.len() - 1
    }

    /// The thread at this place is not blocked before this moment. Another thread may get the
    /// place.
    pub(super) fn close(&mut self, place: usize, at_ns: u64) -> Option<u32> {
        self.advance(at_ns);
        if place < self.blocked.len() {
            self.blocked.swap_remove(place);
        }
        self.blocked.get(place).map(|moved| moved.member.thread)
    }

    pub(super) fn finish(&mut self) {
        self.end_window();
        self.ps.finish();
    }

    /// How many threads made a stall at the end; at the least and at the most.
    pub(super) fn needed(&self) -> (u64, u64, u64) {
        (
            self.last.unwrap_or(self.needed),
            self.bounds.0,
            self.bounds.1,
        )
    }

    /// No thread begins or ends to be blocked from the cursor back to `to_ns`.
    fn advance(&mut self, to_ns: u64) {
        if to_ns >= self.cursor_ns {
            return;
        }
        while let Some((at_ns, needed)) = self.changes.front().copied()
            && at_ns > to_ns
        {
            self.pass(at_ns);
            self.needed = needed;
            self.changes.pop_front();
        }
        self.pass(to_ns);
    }

    /// Nothing changed from the cursor back to `to_ns`.
    fn pass(&mut self, to_ns: u64) {
        if to_ns >= self.cursor_ns {
            return;
        }
        if self.is_go {
            let held = self.blocked.iter().filter_map(|one| one.held);
            self.ps.pass((to_ns, self.cursor_ns), held);
            if self.ps.is_full() {
                self.no_p_left.add(to_ns, self.cursor_ns);
            }
        }
        let now = u64::try_from(self.blocked.len()).unwrap_or(u64::MAX);
        if now < self.needed {
            if self.window.is_some() {
                self.end_window();
            }
        } else if let Some(window) = &mut self.window {
            window.begin_ns = to_ns;
            window.max_threads = window.max_threads.max(now);
            window.needed = window.needed.min(self.needed);
            let fresh = self.blocked.len().saturating_sub(self.fresh);
            for one in self.blocked.iter().skip(fresh) {
                window.add(one);
            }
        } else {
            let mut members = std::mem::take(&mut self.spare);
            members.clear();
            let first = self.blocked.iter().take(MAX_MEMBERS);
            members.extend(first.map(|one| one.member));
            self.window = Some(Window {
                begin_ns: to_ns,
                end_ns: self.cursor_ns,
                max_threads: now,
                needed: self.needed,
                threads: now,
                members,
            });
        }
        self.fresh = 0;
        self.cursor_ns = to_ns;
    }

    fn end_window(&mut self) {
        let Some(window) = self.window.take() else {
            return;
        };
        self.count = self.count.saturating_add(1);
        self.total_ns = self.total_ns.saturating_add(window.length_ns());
        let full = self.worst.len() >= self.keep;
        if full && window.length_ns() <= self.least_ns {
            self.spare = window.members;
            return;
        }
        if full {
            let mut worst = self.worst.iter_mut();
            match worst.find(|one| one.length_ns() == self.least_ns) {
                Some(least) => *least = window,
                // None is to be kept.
                None => return,
            }
        } else {
            self.worst.push(window);
        }
        if self.worst.len() >= self.keep {
            let lengths = self.worst.iter().map(Window::length_ns);
            self.least_ns = lengths.min().unwrap_or(u64::MAX);
        }
    }
}

impl Window {
    /// A thread that began to block, going backward, in the window.
    fn add(&mut self, one: &Blocked) {
        let new = one.member;
        let known = self
            .members
            .iter_mut()
            .find(|known| known.thread == new.thread);
        if let Some(known) = known {
            let faults = known.faults.saturating_add(1);
            if known.longest_ns < new.longest_ns {
                *known = new;
            }
            known.faults = faults;
            return;
        }
        // It was in the window before if its next fault began in it.
        if one.next_begin_ns < self.end_ns && one.next_begin_ns > self.begin_ns {
            return;
        }
        self.threads = self.threads.saturating_add(1);
        if self.members.len() < MAX_MEMBERS {
            self.members.push(new);
        }
    }
}
