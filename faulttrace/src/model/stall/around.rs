//! What the samples say over the time of a stall.

use std::sync::Arc;

use crate::model::{PressureOf, Sample, Waits};

/// Samples kept of a process before they are thinned out.
const KEEP: usize = 4_096;

/// What was counted over the time of a stall: from the last sample before it to the first one after
/// it, so usually over somewhat more. `None` is what a sample of the two lacks.
#[derive(Debug, Clone, PartialEq)]
pub struct Meanwhile {
    /// Unix time of the first sample, ns.
    pub begin_ns: u64,
    /// From there to the last one, ns.
    pub duration_ns: u64,
    /// Samples taken during the stall itself.
    pub samples: u64,
    /// CPU time of the process in user mode, ns.
    pub user_ns: Option<u64>,
    /// CPU time of the process in the kernel, ns.
    pub system_ns: Option<u64>,
    /// Time that its main thread waited for block I/O, ns.
    pub blkio_ns: Option<u64>,
    /// Time of all CPUs together that were idle while something waited for block I/O, ns.
    pub iowait_ns: Option<u64>,
    /// Whose pressure it is; `None` if the two samples do not agree.
    pub pressure_of: Option<PressureOf>,
    /// Time that tasks there waited for want of memory.
    pub memory: Option<Waits>,
    /// Time that tasks there waited for I/O.
    pub io: Option<Waits>,
    /// Threads of the machine that ran or were ready to, on average over the samples.
    pub run_queue: Option<f64>,
    /// Threads of the process, by the last sample before the end that knows.
    pub threads: Option<u32>,
    /// Of its threads that wanted to run, the part that was in faults: on average over the samples
    /// taken during the stall.
    pub share: Option<f64>,
}

/// The samples of a process that were read, in the order of time.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    samples: Vec<Arc<Sample>>,
}

impl Kept {
    /// Takes a sample that is later than all others; others are left out.
    pub(crate) fn push(&mut self, sample: &Arc<Sample>) {
        if !self.takes(sample) {
            return;
        }
        if self.samples.len() >= KEEP {
            self.thin();
        }
        self.samples.push(Arc::clone(sample));
    }

    /// Takes samples that are in the reverse order of time.
    pub(crate) fn of_reversed(samples: &[Arc<Sample>]) -> Self {
        let mut kept = Kept::default();
        for sample in samples.iter().rev() {
            if kept.takes(sample) {
                kept.samples.push(Arc::clone(sample));
            }
        }
        kept
    }

    /// Whether something was read, later than all others.
    fn takes(&self, sample: &Sample) -> bool {
        let last = self.samples.last();
        is_read(sample) && last.is_none_or(|last| last.time_ns < sample.time_ns)
    }

    /// Of the older half, every other one goes.
    fn thin(&mut self) {
        let half = self.samples.len() / 2;
        let mut at = 0;
        self.samples.retain(|_| {
            at += 1;
            at > half || at % 2 == 1
        });
    }

    /// What they say from one moment to another; `None` if there are no two of them.
    pub(crate) fn over(&self, begin_ns: u64, end_ns: u64) -> Option<Meanwhile> {
        let before = self
            .samples
            .partition_point(|sample| sample.time_ns <= begin_ns)
            .saturating_sub(1);
        let after = self
            .samples
            .partition_point(|sample| sample.time_ns < end_ns)
            .min(self.samples.len().saturating_sub(1));
        let span = self.samples.get(before..=after)?;
        let ([first, .., last], true) = (span, after > before) else {
            return None;
        };
        let during = |sample: &&Arc<Sample>| (begin_ns..=end_ns).contains(&sample.time_ns);
        let shares = span.iter().filter(during).filter_map(|one| share(one));
        let of = |sample: &Sample| sample.pressure.map(|pressure| pressure.of);
        let pressure_of = of(first).filter(|whose| of(last) == Some(*whose));
        let pressure = first.pressure.zip(last.pressure);
        let pressure = pressure.filter(|_| pressure_of.is_some());
        let (a, b) = (&first.process, &last.process);
        Some(Meanwhile {
            begin_ns: first.time_ns,
            duration_ns: last.time_ns.saturating_sub(first.time_ns),
            samples: u64::try_from(span.iter().filter(during).count()).unwrap_or(u64::MAX),
            user_ns: grown(a.user_ns, b.user_ns),
            system_ns: grown(a.system_ns, b.system_ns),
            blkio_ns: grown(a.blkio_ns, b.blkio_ns),
            iowait_ns: grown(first.system.iowait_ns, last.system.iowait_ns),
            pressure_of,
            memory: pressure.and_then(|(a, b)| waited(a.memory, b.memory)),
            io: pressure.and_then(|(a, b)| waited(a.io, b.io)),
            run_queue: mean(
                span.iter()
                    .filter_map(|one| one.system.run_queue.map(f64::from)),
            ),
            threads: threads(span, end_ns),
            share: mean(shares),
        })
    }
}

/// By the last sample that was taken before the end, or else by the first that knows.
fn threads(span: &[Arc<Sample>], end_ns: u64) -> Option<u32> {
    let known = |one: &Arc<Sample>| one.process.threads;
    let until = span.iter().rev().filter(|one| one.time_ns <= end_ns);
    until
        .filter_map(known)
        .next()
        .or_else(|| span.iter().find_map(known))
}

fn is_read(sample: &Sample) -> bool {
    sample.process.user_ns.is_some() || sample.system.iowait_ns.is_some()
}

/// A count that shrank is none: iowait may (man 5 proc_stat).
fn grown(before: Option<u64>, after: Option<u64>) -> Option<u64> {
    after?.checked_sub(before?)
}

fn waited(before: Option<Waits>, after: Option<Waits>) -> Option<Waits> {
    let (before, after) = before.zip(after)?;
    Some(Waits {
        some_ns: after.some_ns.checked_sub(before.some_ns)?,
        full_ns: after.full_ns.checked_sub(before.full_ns)?,
    })
}

fn share(sample: &Sample) -> Option<f64> {
    let wanting = u64::from(sample.process.running?) + u64::from(sample.in_fault);
    #[expect(clippy::cast_precision_loss, reason = "counts of threads")]
    let wanting = (wanting > 0).then_some(wanting as f64)?;
    Some(f64::from(sample.in_fault) / wanting)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), one| (sum + one, count + 1.0));
    (count > 0.0).then(|| sum / count)
}
