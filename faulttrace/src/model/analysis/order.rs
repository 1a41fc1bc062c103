//! Puts faults in the order of their ends, latest first, as far as a bounded buffer can.
//!
//! They come in the reverse order of their records, which is nearly that: a fault whose end is
//! approximate was recorded later than it ended, by seconds perhaps.

use std::collections::{BinaryHeap, VecDeque};

use crate::model::Cause;
use crate::model::ps::Held;

/// When one fault was under way, and what a stall tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Interval {
    /// First, so that the latest end is the greatest.
    pub(super) end_ns: u64,
    pub(super) begin_ns: u64,
    pub(super) thread: u32,
    pub(super) file: Option<u32>,
    pub(super) cause: Option<Cause>,
    /// The thread slept in it.
    pub(super) blocked: bool,
    /// Its end is known; else it is of a thread that was stuck when tracing ended, and counts for
    /// stalls alone.
    pub(super) over: bool,
    /// The P of a Go program that the thread held.
    pub(super) held: Option<Held>,
}

/// How many are taken out of the line for one that does not fit behind them.
const MAX_TAKEN: usize = 8;

/// The buffer. What comes in order only passes through a queue; a heap holds the rest.
#[derive(Debug)]
pub(super) struct Order {
    /// Latest end first.
    line: VecDeque<Interval>,
    strays: BinaryHeap<Interval>,
    capacity: usize,
}

impl Order {
    pub(super) fn new(capacity: usize) -> Self {
        Order {
            line: VecDeque::new(),
            strays: BinaryHeap::new(),
            capacity,
        }
    }

    /// Takes one in; if it is full, gives the latest out.
    pub(super) fn push(&mut self, one: Interval) -> Option<Interval> {
        let mut taken = 0;
        while taken < MAX_TAKEN
            && let Some(last) = self.line.back().copied()
            && last.end_ns < one.end_ns
        {
            // Too early for its end: it waits until the others are there.
            self.strays.push(last);
            self.line.pop_back();
            taken += 1;
        }
        if self
            .line
            .back()
            .is_none_or(|last| last.end_ns >= one.end_ns)
        {
            self.line.push_back(one);
        } else {
            self.strays.push(one);
        }
        if self.line.len() + self.strays.len() > self.capacity {
            self.pop()
        } else {
            None
        }
    }

    /// The latest.
    pub(super) fn pop(&mut self) -> Option<Interval> {
        match (self.line.front(), self.strays.peek()) {
            (Some(next), Some(stray)) if stray.end_ns > next.end_ns => self.strays.pop(),
            (None, Some(_)) => self.strays.pop(),
            _ => self.line.pop_front(),
        }
    }
}
