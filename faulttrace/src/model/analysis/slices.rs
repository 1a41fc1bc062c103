//! The trace in equal slices of time: what tells a change from chance when traces are compared.

use std::sync::Arc;

use crate::model::summary::Tally;
use crate::model::{Cause, Facts, MappingKind, Measure, Name, Stack};

/// Slices of a trace.
pub const SLICES: usize = 20;

/// From when to when faults could be seen: Unix times, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wall {
    /// The beginning.
    pub begin_ns: u64,
    /// The end.
    pub end_ns: u64,
}

impl Wall {
    /// How long it is, ns.
    pub fn length_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.begin_ns)
    }
}

/// What faults are compared by: the same in different runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SeriesKey {
    /// All faults.
    All,
    /// `None`: without a sleep.
    Cause(Option<Cause>),
    /// Path and kind of memory.
    File(Option<Name>, Option<MappingKind>),
    /// The user stack by names, innermost first; `None`: without one.
    Stack(Option<Arc<[FrameName]>>),
    /// Name of the thread.
    Thread(Name),
}

/// A frame as it is called in every run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrameName {
    /// With a symbol.
    Function(Name),
    /// Without: module and offset in its file.
    Module(Name, u64),
    /// Neither: addresses differ from run to run.
    Unknown,
}

impl FrameName {
    /// The frames of a stack.
    pub fn of(stack: &Stack) -> Arc<[FrameName]> {
        let frames = stack.frames.iter();
        frames
            .map(|frame| match (&frame.function, &frame.module) {
                (Some(function), _) => FrameName::Function(function.clone()),
                (None, Some(module)) => match frame.module_offset {
                    Some(offset) => FrameName::Module(module.clone(), offset),
                    None => FrameName::Unknown,
                },
                (None, None) => FrameName::Unknown,
            })
            .collect()
    }
}

impl SeriesKey {
    /// The file of a fault.
    pub(super) fn file(facts: &Facts) -> Self {
        SeriesKey::File(facts.place.path.clone(), facts.place.mapping)
    }
}

/// Faults by slice, and in all. A fault belongs to the slice in which it ends.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// In all.
    pub tally: Tally,
    /// Faults of each slice.
    pub faults: [u64; SLICES],
    /// Their blocked time, ns.
    pub blocked_ns: [u64; SLICES],
}

impl Series {
    /// Adds a part of a slice.
    pub(super) fn add(&mut self, part: &SlicePart) {
        let Some(slice) = part.slice else {
            return;
        };
        if let (Some(faults), Some(blocked_ns)) =
            (self.faults.get_mut(slice), self.blocked_ns.get_mut(slice))
        {
            *faults = faults.saturating_add(part.faults);
            *blocked_ns = blocked_ns.saturating_add(part.blocked_ns);
        }
    }
}

/// Faults of one slice. Those of one site come slice after slice, so that no site needs more than
/// the sums of the slice it is in.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SlicePart {
    pub(super) slice: Option<usize>,
    pub(super) faults: u64,
    pub(super) blocked_ns: u64,
}

impl SlicePart {
    /// Adds one fault of this slice.
    pub(super) fn add(&mut self, measure: &Measure) {
        self.faults = self.faults.saturating_add(1);
        self.blocked_ns = self.blocked_ns.saturating_add(measure.blocked_ns);
    }
}

/// Time of a trace by slice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    wall: Option<Wall>,
    pub(super) ns: [u64; SLICES],
}

impl Times {
    /// Without a wall there are no slices.
    pub(super) fn new(wall: Option<Wall>) -> Self {
        Times {
            wall,
            ns: [0; SLICES],
        }
    }

    /// Adds the time from one moment to another, each slice its part.
    pub(super) fn add(&mut self, begin_ns: u64, end_ns: u64) {
        let Some(wall) = self.wall else {
            return;
        };
        let width_ns = width_ns(wall);
        let begin_ns = begin_ns.saturating_sub(wall.begin_ns);
        let end_ns = end_ns.min(wall.end_ns).saturating_sub(wall.begin_ns);
        let mut from_ns = begin_ns;
        while from_ns < end_ns {
            let slice = from_ns / width_ns;
            let to_ns = (slice + 1).saturating_mul(width_ns).min(end_ns);
            let sum = usize::try_from(slice).ok();
            if let Some(sum) = sum.and_then(|slice| self.ns.get_mut(slice)) {
                *sum = sum.saturating_add(to_ns - from_ns);
            }
            from_ns = to_ns;
        }
    }
}

fn width_ns(wall: Wall) -> u64 {
    wall.length_ns().div_ceil(SLICES as u64).max(1)
}

/// Tells the slice of a moment.
#[derive(Debug)]
pub(super) struct Slices {
    wall: Option<Wall>,
    width_ns: u64,
    /// The slice asked for last, which is nearly always the next one too.
    last: Option<usize>,
    from_ns: u64,
    to_ns: u64,
}

impl Slices {
    /// Without a wall there are none.
    pub(super) fn new(wall: Option<Wall>) -> Self {
        Slices {
            wall,
            width_ns: wall.map_or(1, width_ns),
            last: None,
            from_ns: 0,
            to_ns: 0,
        }
    }

    /// `None` if the moment is not within the wall.
    pub(super) fn of(&mut self, at_ns: u64) -> Option<usize> {
        if self.from_ns <= at_ns && at_ns < self.to_ns {
            return self.last;
        }
        let wall = self.wall?;
        let since = at_ns.checked_sub(wall.begin_ns)?;
        if at_ns > wall.end_ns {
            return None;
        }
        // The very end belongs to the last slice.
        let slice = (since / self.width_ns).min(SLICES as u64 - 1);
        self.from_ns = slice
            .saturating_mul(self.width_ns)
            .saturating_add(wall.begin_ns);
        self.to_ns = self.from_ns.saturating_add(self.width_ns).min(wall.end_ns);
        self.last = usize::try_from(slice).ok();
        self.last
    }
}
