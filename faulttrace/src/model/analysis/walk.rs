//! How threads and goroutines go through a file: page after page, in equal steps, or here and there.
//!
//! What can be seen are the pages that faulted. Readahead makes most pages of a sequential pass
//! not fault: with 8 MiB of readahead (and on the machine this was looked at on, `vda` has that)
//! the faults of a pass stood 1 to 16 MiB apart, the first major and the others waiting for reads
//! that readahead had started. So steps forward within [`WINDOW_BYTES`] count as sequential.

use super::places::PAGE_BYTES;

/// Forward steps up to this may be readahead's doing: two windows of the largest usual size.
pub const WINDOW_BYTES: u64 = 16 << 20;
/// Fewer steps tell nothing.
pub const MIN_STEPS: u64 = 8;
/// Different steps remembered.
const STEPS: usize = 8;

/// What a walk looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// Nearly only forward: to the next page, or as far as readahead may have been.
    Sequential,
    /// Mostly the same step, bytes; backwards if negative.
    Strided(i64),
    /// Forward and backward, without a common step.
    Random,
    /// None of these.
    Mixed,
    /// Fewer than [`MIN_STEPS`] steps.
    TooFew,
}

/// What the pattern was told from. A step is from one fault of a thread, or of a goroutine, on a file to
/// its next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Steps to another page.
    pub steps: u64,
    /// To the next page (of 4 KiB).
    pub next_page: u64,
    /// Further forward, within [`WINDOW_BYTES`].
    pub near: u64,
    /// Forward beyond that.
    pub far: u64,
    /// Backward.
    pub backward: u64,
    /// As long as the step before it.
    pub repeated: u64,
    /// Faults on the page that the walker faulted on before: no steps.
    pub same_page: u64,
    /// Faults of the walk that waited for a read which others or readahead had started.
    pub read_ahead: u64,
    /// Faults of the walk.
    pub faults: u64,
    /// The most common step, bytes, and how many at least are that long.
    pub common: Option<(i64, u64)>,
}

/// One thread, or one goroutine, on one file, seen from its end.
#[derive(Debug, Clone, Default)]
pub(super) struct Walk {
    /// The fault that comes next in time.
    next: Option<u64>,
    next_step: i64,
    evidence: Evidence,
    steps: [(i64, u64); STEPS],
}

impl Walk {
    /// The fault before those added so far.
    pub(super) fn before(&mut self, offset: u64, read_ahead: bool) {
        self.evidence.faults += 1;
        self.evidence.read_ahead += u64::from(read_ahead);
        let Some(next) = self.next.replace(offset) else {
            return;
        };
        if next == offset {
            self.evidence.same_page += 1;
            return;
        }
        let step = clamp(i128::from(next) - i128::from(offset));
        let evidence = &mut self.evidence;
        evidence.steps += 1;
        match u64::try_from(step) {
            Err(_) => evidence.backward += 1,
            Ok(PAGE_BYTES) => evidence.next_page += 1,
            Ok(..=WINDOW_BYTES) => evidence.near += 1,
            Ok(_) => evidence.far += 1,
        }
        evidence.repeated += u64::from(step == self.next_step);
        self.next_step = step;
        self.remember(step);
    }

    /// Misra and Gries: a step that is more than one in [`STEPS`] + 1 cannot be missed, and its
    /// count is a lower bound.
    fn remember(&mut self, step: i64) {
        let mut free = None;
        for (at, (known, count)) in self.steps.iter_mut().enumerate() {
            if *count > 0 && *known == step {
                *count += 1;
                return;
            }
            if *count == 0 {
                free = Some(at);
            }
        }
        match free {
            Some(at) => self.steps[at] = (step, 1),
            None => self.steps.iter_mut().for_each(|(_, count)| *count -= 1),
        }
    }

    /// What is known of it.
    pub(super) fn sum(&self) -> Steps {
        let mut sum = Steps {
            evidence: self.evidence,
            common: Vec::new(),
        };
        sum.common
            .extend(self.steps.iter().filter(|(_, count)| *count > 0));
        sum
    }
}

fn clamp(step: i128) -> i64 {
    i64::try_from(step).unwrap_or(if step < 0 { i64::MIN } else { i64::MAX })
}

/// What one or several walks add up to.
#[derive(Debug, Clone, Default)]
pub(super) struct Steps {
    evidence: Evidence,
    common: Vec<(i64, u64)>,
}

impl Steps {
    /// Adds another walk; `steps` are summed over all walks by the caller's [`Steps::settle`].
    pub(super) fn merge(&mut self, other: &Steps) {
        let (ours, theirs) = (&mut self.evidence, &other.evidence);
        for (sum, more) in [
            (&mut ours.steps, theirs.steps),
            (&mut ours.next_page, theirs.next_page),
            (&mut ours.near, theirs.near),
            (&mut ours.far, theirs.far),
            (&mut ours.backward, theirs.backward),
            (&mut ours.repeated, theirs.repeated),
            (&mut ours.same_page, theirs.same_page),
            (&mut ours.read_ahead, theirs.read_ahead),
            (&mut ours.faults, theirs.faults),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.common.extend_from_slice(&other.common);
    }

    /// The evidence without the most common step.
    pub(super) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The evidence, with the most common step.
    pub(super) fn settle(&mut self) -> Evidence {
        self.common.sort_unstable();
        let mut best: Option<(i64, u64)> = None;
        for same in self.common.chunk_by(|a, b| a.0 == b.0) {
            let count = same.iter().map(|(_, count)| count).sum();
            if best.is_none_or(|(_, most)| count > most) {
                best = same.first().map(|(step, _)| (*step, count));
            }
        }
        Evidence {
            common: best,
            ..self.evidence
        }
    }
}

impl Evidence {
    /// The pattern that this shows.
    pub fn pattern(&self) -> Pattern {
        let steps = self.steps;
        if steps < MIN_STEPS {
            return Pattern::TooFew;
        }
        let share = |part: u64, percent: u64| {
            u128::from(part) * 100 >= u128::from(steps) * u128::from(percent)
        };
        let forward = self.next_page.saturating_add(self.near);
        let by_page = i64::try_from(PAGE_BYTES).unwrap_or(i64::MAX);
        let (step, count) = self.common.unwrap_or_default();
        if step != by_page && share(count, 60) {
            // Readahead in equal windows looks like a stride, but then its reads are waited for.
            let window = u64::try_from(step).is_ok_and(|step| step <= WINDOW_BYTES);
            let served = self.read_ahead.saturating_mul(2) >= self.faults;
            if !(window && served && share(forward, 80)) {
                return Pattern::Strided(step);
            }
        }
        if share(forward, 80) {
            Pattern::Sequential
        } else if share(self.backward, 20) && !share(self.backward, 80) && !share(count, 25) {
            Pattern::Random
        } else {
            Pattern::Mixed
        }
    }
}
