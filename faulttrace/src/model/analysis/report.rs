//! What the fold has found, put together per process and over all of them.

use std::collections::HashMap;
use std::sync::Arc;

use super::durations::Durations;
use super::parts::Beside;
use super::places::HotRange;
use super::sites::{Counters, OTHERS};
use super::slices::{SLICES, Series, SeriesKey, Wall};
use super::walk::{Evidence, Pattern};
use super::{Analysis, Options, parts};
use crate::model::advice::Advised;
use crate::model::ps::PsTotals;
use crate::model::stall::Meanwhile;
use crate::model::summary::{FileKey, ProcessSummary, Summary, ThreadKey};
use crate::model::{Cause, Name, Start};

/// What a trace adds up to.
#[derive(Debug)]
pub struct Report {
    /// As asked for.
    pub options: Options,
    /// What was traced, on what; `None` if the trace does not tell.
    pub start: Option<Arc<Start>>,
    /// From when to when; `None` if there is no record with a time.
    pub wall: Option<Wall>,
    /// The totals, and what was lost, filtered, approximate or unreadable.
    pub summary: Summary,
    /// The totals over all processes. Of the only process, if there is one.
    pub total: ProcessSummary,
    /// What else is known of all of them, or of the only one.
    pub all: Part,
    /// What else is known of each process, by pid, if there are several.
    pub parts: Vec<Part>,
    /// What the numbers leave out.
    pub quality: Quality,
    /// The durations of all faults.
    pub durations: Option<Durations>,
    /// By what traces are compared; with the time slices of each, if [`Options::wall`] is known.
    pub series: Vec<(SeriesKey, Series)>,
    /// What would help; `None` if that was not asked for.
    pub advice: Option<Advised>,
}

impl Report {
    /// The Ps of a part, which `who` is the process of, and how much time of Ps there was, ns.
    pub fn ps<'p>(
        &self,
        part: &'p Part,
        who: &ProcessSummary,
    ) -> Option<(&'p PsTotals, Option<u64>)> {
        let since_ns = self.wall.map_or(0, |wall| wall.begin_ns);
        let ps = part.ps.as_ref()?;
        Some((ps, who.ps_time_ns(ps, since_ns)))
    }
}

/// What the report knows of a process besides its totals.
#[derive(Debug, Default)]
pub struct Part {
    /// `None`: several together.
    pub pid: Option<u32>,
    /// How many threads were in faults at once, for how long.
    pub concurrency: Concurrency,
    /// `None` for several together: threads of one process stall together.
    pub stalls: Option<Stalls>,
    /// The Ps of a Go program; `None` if none was stuck.
    pub ps: Option<PsTotals>,
    /// For how long no P was left in each slice of the trace, ns.
    pub no_p_left_ns: [u64; SLICES],
    /// Durations by thread; those beyond the bound are not known.
    pub threads: HashMap<ThreadKey, Durations>,
    /// By file.
    pub files: HashMap<FileKey, FileDetail>,
    /// Durations by cause.
    pub causes: HashMap<Option<Cause>, Durations>,
}

/// How long how many of the threads that had faults were in faults at once. All times in ns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Concurrency {
    /// Threads that had faults; `None` if there were too many to be counted.
    pub threads: Option<u64>,
    /// At least one of them in a fault.
    pub one_ns: u64,
    /// At least half of them, rounded up; `None` if that number is unknown.
    pub half_ns: Option<u64>,
    /// All of them.
    pub all_ns: Option<u64>,
    /// The most at once.
    pub max_threads: u64,
}

/// When many threads of a process were blocked at once.
#[derive(Debug, Clone, Default)]
pub struct Stalls {
    /// So many threads blocked at once are a stall, at the end of the trace.
    pub needed: u64,
    /// The least and the most that there had to be at any time.
    pub needed_bounds: (u64, u64),
    /// How many there were.
    pub count: u64,
    /// Their length in all, ns.
    pub total_ns: u64,
    /// The longest, longest first.
    pub worst: Vec<Stall>,
}

/// A time during which at least [`Stalls::needed`] threads were in faults that block.
#[derive(Debug, Clone, PartialEq)]
pub struct Stall {
    /// Unix time, ns.
    pub begin_ns: u64,
    /// Unix time, ns.
    pub end_ns: u64,
    /// The most threads at once.
    pub max_threads: u64,
    /// At every moment at least so many.
    pub needed: u64,
    /// What was counted beside it; `None` without samples.
    pub meanwhile: Option<Meanwhile>,
    /// Different threads that were in such faults meanwhile.
    pub threads: u64,
    /// Some of them, the longest fault first; the rest is only counted in `threads`.
    pub members: Vec<StallThread>,
}

/// A thread in a stall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StallThread {
    /// Which.
    pub thread: ThreadKey,
    /// Its name, if it is among those remembered.
    pub name: Option<Name>,
    /// The file of its longest fault; `None` if it is not among those remembered.
    pub file: Option<FileKey>,
    /// The cause of that fault.
    pub cause: Option<Cause>,
    /// How long that fault took, ns.
    pub longest_ns: u64,
    /// Its faults that blocked in the stall.
    pub faults: u64,
}

/// What is known of a file besides its totals.
#[derive(Debug, Clone, Default)]
pub struct FileDetail {
    /// `None` beyond the bound on histograms.
    pub durations: Option<Durations>,
    /// `None` without offsets, or beyond the bound.
    pub offsets: Option<Offsets>,
    /// How it was gone through; `None` likewise.
    pub access: Option<FileAccess>,
}

/// Where in a file the faults were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offsets {
    /// All of them.
    pub whole: HotRange,
    /// The few ranges that each hold a tenth of the blocked time or more, most first; the whole if
    /// there are none such.
    pub hot: Vec<HotRange>,
    /// Ranges less than this apart may be told as one, bytes.
    pub resolution: u64,
}

/// How threads and goroutines went through a file. A fault is told of once: where it is known which goroutine
/// had it, as the goroutine's, if most of such faults were not the only one of their goroutine on the file;
/// else as the thread's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileAccess {
    /// All of them together.
    pub pattern: Pattern,
    /// What that was told from.
    pub evidence: Evidence,
    /// Threads by what each alone did: sequential, strided, random, mixed, too few.
    pub threads: [u64; 5],
    /// Goroutines likewise.
    pub goroutines: [u64; 5],
    /// Faults with a known offset whose walkers were beyond the bound.
    pub not_followed: u64,
}

/// What is not in the numbers, or not exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quality {
    /// Faults recorded so late that the times of threads at once lack a part of them.
    pub out_of_order: u64,
    /// Faults that overlap another of the same thread: counted once in these times.
    pub overlapping: u64,
    /// Faults of threads beyond the bound: not in these times.
    pub not_swept: u64,
}

impl Report {
    /// The slices of a key.
    pub fn series(&self, key: &SeriesKey) -> Option<&Series> {
        let found = self.series.iter().find(|(known, _)| known == key);
        found.map(|(_, series)| series)
    }

    /// Each process's totals and the rest, by pid, if there are several.
    pub fn processes(&self) -> impl Iterator<Item = (&ProcessSummary, &Part)> {
        self.summary
            .processes()
            .filter_map(|one| Some((one, self.parts.iter().find(|part| part.pid == one.pid)?)))
    }
}

pub(super) fn make(mut analysis: Analysis) -> Report {
    let mut summary = analysis.summary;
    let counters = &mut *analysis.counters;
    while let Some(next) = analysis.order.pop() {
        counters.sweep.fault(next);
    }
    counters.sweep.finish();
    let durations = add_durations(counters, &mut summary);
    let quality = Quality {
        out_of_order: counters.sweep.out_of_order,
        overlapping: counters.sweep.overlapping,
        not_swept: analysis.not_swept,
    };
    let several = summary.processes().len() > 1 || summary.other_processes().is_some();
    let total = summary.total();
    let (mut parts, mut all) = parts::parts(
        counters,
        Beside {
            counted: &analysis.counted,
            unended: &analysis.unended,
        },
        &summary,
        &total,
        several,
    );
    if !several {
        all = parts.pop().unwrap_or(all);
    }
    let wall = analysis.options.wall.or_else(|| {
        let (begin_ns, end_ns) = analysis.seen.first_ns.zip(analysis.seen.last_ns)?;
        Some(Wall { begin_ns, end_ns })
    });
    Report {
        advice: None,
        series: take_series(counters),
        durations,
        total,
        options: analysis.options,
        start: analysis.start,
        wall,
        summary,
        all,
        parts,
        quality,
    }
}

/// Gives the durations to the totals of their processes, and gives back those of all.
fn add_durations(counters: &Counters, summary: &mut Summary) -> Option<Durations> {
    let mut all = Durations::new()?;
    let pids = counters.processes.keys();
    let ids = pids.into_iter().zip(OTHERS + 1..);
    let ids = ids.map(|(pid, id)| (Some(*pid), id));
    for (pid, id) in std::iter::once((None, OTHERS)).chain(ids) {
        let Some(durations) = counters.process_durations.get(id) else {
            continue;
        };
        all.merge(durations);
        for (ns, count) in durations.counts() {
            summary.record_durations(pid, ns, count);
        }
    }
    Some(all)
}

fn take_series(counters: &mut Counters) -> Vec<(SeriesKey, Series)> {
    let keys = counters.series_keys.keys().into_iter().cloned();
    let mut series: Vec<_> = keys.zip(std::mem::take(&mut counters.series)).collect();
    series.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    series
}
