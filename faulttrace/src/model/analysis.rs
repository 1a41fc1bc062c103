//! What a whole trace adds up to: the fold behind `faulttrace report` and `diff`.
//!
//! Pure, in bounded memory, and for traces of many millions of faults: a fault costs array updates
//! and no allocation. The reader of a saved trace feeds it every record, the last one first; the
//! views show the [`Report`]. Totals are those of [`Summary`], told from the same sums.

mod chance;
mod counted;
mod diff;
mod diff_ahead;
mod diff_beside;
mod diff_ps;
mod durations;
mod keys;
mod order;
mod parts;
mod places;
mod report;
mod sites;
mod slices;
mod stalls;
mod sweep;
#[cfg(test)]
pub(crate) mod tests;
mod walk;
mod walkers;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::advice::{Findings, Gather};
use super::ps::Held;
use super::stall_threads::half;
use super::summary::{Later, Summary, ThreadKey};
use super::{Cause, Fault, Measure, Name, Record, Sample, Site, Start, Stuck};
use counted::Counted;
use order::{Interval, Order};
use sites::{Counters, Row, Rows};
use slices::{SlicePart, Slices};
use stalls::Stalls as Swept;

pub use chance::{DEVIATIONS, LEAST_SHARE, MIN_FAULTS, MIN_WALL_NS, Verdict};
pub use diff::{Change, Diff, DiffRow, GIVEN_UP_PERCENT, PERCENTILES, compare};
pub use diff_ahead::{AheadChange, FileAhead};
pub use diff_beside::{
    Beside, DeviceChange, DeviceKey, DevicesChange, Fate, PastsChange, WaitedChange,
};
pub use diff_ps::PsChange;
pub use durations::{Durations, Percentiles};
pub use places::{HotRange, PAGE_BYTES};
pub use report::{
    Concurrency, FileAccess, FileDetail, Offsets, Part, Quality, Report, Stall, StallThread, Stalls,
};
pub use slices::{FrameName, SLICES, Series, SeriesKey, Wall};
pub use walk::{Evidence, MIN_STEPS, Pattern, WINDOW_BYTES};

/// What to tell of a trace.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rows of a table and stalls of a process that are told; at most [`MAX_TOP`].
    pub top: usize,
    /// So many threads of a process blocked at once are a stall. `None`: as the samples say; without
    /// any, half of those that have faults, rounded up, but at least two if there are two.
    pub stall_threads: Option<u32>,
    /// From when to when the trace, or the part of it that was asked for, could have faults.
    /// `None`: as far as the records tell; then there are no slices to compare by.
    pub wall: Option<Wall>,
    /// When tracing began, Unix time ns: how long a thread was stuck that had been before is told from then on.
    pub start_ns: Option<u64>,
    /// The filters that the records have passed, in words; `None` without any.
    pub description: Option<String>,
    /// Find out what would help, too.
    pub advise: bool,
    /// Size of a page on the machine that was traced, bytes.
    pub page_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            top: 10,
            stall_threads: None,
            wall: None,
            start_ns: None,
            description: None,
            advise: true,
            page_bytes: PAGE_BYTES,
        }
    }
}

/// Threads stuck in the end that are in the stalls.
const MAX_UNENDED: usize = 10_000;
/// The most that [`Options::top`] can be.
pub const MAX_TOP: usize = 1_000;

/// How much an [`Analysis`] may remember, besides the limits of its [`Summary`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Sites resolved at a time.
    sites: usize,
    /// Threads known before the faults, over all processes.
    expected: usize,
    processes: u32,
    /// Threads in the sweep.
    threads: u32,
    files: u32,
    /// Files times processes that map them.
    mapped_files: u32,
    /// Files with a map of their offsets.
    maps: usize,
    /// Files times threads whose steps are followed, and files times goroutines.
    walks: u32,
    /// Histograms of durations: of processes, threads, files and causes together.
    histograms: usize,
    /// Keys whose slices are kept.
    series: u32,
    /// Stacks whose names are remembered.
    stacks: usize,
    /// Faults held back to be put in order.
    order: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            sites: 131_072,
            expected: 100_000,
            processes: 1_000,
            threads: 65_536,
            files: 65_536,
            mapped_files: 65_536,
            maps: 1_024,
            walks: 16_384,
            histograms: 1_024,
            series: 8_192,
            stacks: 16_384,
            order: 65_536,
        }
    }
}

/// The fold. [`Analysis::expect_site`] for all sites first, then every record from the last to
/// the first, then [`Analysis::finish`].
#[derive(Debug)]
pub struct Analysis {
    options: Options,
    bounds: Bounds,
    expected: HashSet<ThreadKey>,
    /// Threads by process, of `expected`.
    expected_threads: HashMap<u32, u64>,
    summary: Summary,
    later: Later,
    start: Option<Arc<Start>>,
    rows: Rows,
    counters: Box<Counters>,
    order: Order,
    slices: Slices,
    seen: Seen,
    counted: Counted,
    /// Threads that were stuck in the end, and their names.
    unended: HashMap<ThreadKey, Name>,
    not_swept: u64,
    /// `None` if nobody wants advice.
    gather: Option<Box<Gather>>,
}

/// The moments that the records name.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    first_ns: Option<u64>,
    last_ns: Option<u64>,
}

impl Seen {
    fn span(&mut self, begin_ns: u64, end_ns: u64) {
        self.first_ns = Some(self.first_ns.map_or(begin_ns, |first| first.min(begin_ns)));
        self.last_ns = Some(self.last_ns.map_or(end_ns, |last| last.max(end_ns)));
    }
}

impl Analysis {
    /// That has seen nothing yet.
    pub fn new(options: Options) -> Self {
        Analysis::with_bounds(options, Bounds::default())
    }

    fn with_bounds(mut options: Options, bounds: Bounds) -> Self {
        options.top = options.top.min(MAX_TOP);
        Analysis {
            bounds,
            expected: HashSet::new(),
            expected_threads: HashMap::new(),
            summary: Summary::new(),
            later: Later::default(),
            start: None,
            rows: Rows::new(bounds.sites),
            counters: Box::new(Counters::new(bounds)),
            order: Order::new(bounds.order),
            slices: Slices::new(options.wall),
            seen: Seen::default(),
            counted: Counted::default(),
            unended: HashMap::new(),
            not_swept: 0,
            gather: options.advise.then(|| Box::new(Gather::new())),
            options,
        }
    }

    /// A site that has faults in what is going to be fed. How many threads of a process have some
    /// must be known before the first fault, to tell what a stall is.
    pub fn expect_site(&mut self, site: &Site) {
        let thread = ThreadKey::of(&site.facts);
        if self.expected.len() < self.bounds.expected && self.expected.insert(thread) {
            let threads = self.expected_threads.entry(thread.pid).or_default();
            *threads += 1;
        }
    }

    /// A fault that comes before all records fed so far. `site_id` always means the same site.
    pub fn fault(&mut self, site_id: u64, site: &Arc<Site>, measure: &Measure) {
        let at = match self.rows.find(site_id) {
            Some(at) => at,
            None => self.add_row(Some(site_id), site),
        };
        self.count(at, measure);
    }

    /// Counts a fault of the site in this row.
    fn count(&mut self, at: usize, measure: &Measure) {
        let Some(row) = self.rows.rows.get_mut(at) else {
            return;
        };
        let counters = &mut *self.counters;
        let slice = self.slices.of(measure.end_ns);
        row.sum.add_measure(row.major, row.given_up, measure);
        if row.part.slice != slice {
            sites::add_part(&mut counters.series, &row.series, &row.part);
            row.part = SlicePart {
                slice,
                ..SlicePart::default()
            };
        }
        row.part.add(measure);
        let duration_ns = measure.duration_ns;
        counters
            .process_durations
            .record(Some(row.process_durations), duration_ns);
        for id in row.durations {
            counters.durations.record(id, duration_ns);
        }
        row.add_offset(measure, counters);
        if let Some(gather) = &mut self.gather {
            gather.fault(row.space, &row.site, measure, self.options.page_bytes);
        }
        let pid = row.site.facts.pid;
        beside(measure, pid, row.cause, &mut self.summary);
        self.seen.span(measure.begin_ns(), measure.end_ns);
        let Some(thread) = row.thread else {
            self.not_swept += 1;
            return;
        };
        let before = row.site.facts.began_before_attach;
        let (begin_ns, end_ns) = within_wall(measure, before, self.options.wall);
        let next = self.order.push(Interval {
            end_ns,
            begin_ns,
            thread,
            file: row.file,
            cause: row.cause,
            blocked: measure.blocked_ns > 0,
            over: true,
            held: Held::of(measure.goroutine.as_deref(), (begin_ns, end_ns)),
        });
        if let Some(next) = next {
            counters.sweep.fault(next);
        }
    }

    /// A thread that is stuck, and was when tracing ended if no later record says otherwise.
    fn stuck(&mut self, stuck: &Stuck) {
        let facts = &stuck.facts;
        let thread = ThreadKey::of(facts);
        let begin_ns = facts
            .begin_ns
            .or(self.options.start_ns)
            .or(self.options.wall.map(|wall| wall.begin_ns));
        let Some(begin_ns) = begin_ns.filter(|_| !self.later.has_faulted(thread)) else {
            return;
        };
        let now_ns = begin_ns.saturating_add(stuck.elapsed_ns);
        let wall = self.options.wall.unwrap_or(Wall {
            begin_ns: 0,
            end_ns: u64::MAX,
        });
        // The last report of each is what counts.
        let full = self.unended.len() >= MAX_UNENDED;
        if full || self.unended.contains_key(&thread) || !self.summary.own(facts.pid) {
            return;
        }
        self.unended.insert(thread, facts.thread.clone());
        let make = stalls_of(&self.options, &self.expected_threads, &mut self.counted);
        let Some((thread, file)) = self.counters.unended(facts, make) else {
            return;
        };
        let next = self.order.push(Interval {
            end_ns: now_ns.min(wall.end_ns),
            begin_ns: begin_ns.max(wall.begin_ns),
            thread,
            file,
            cause: facts.cause,
            blocked: true,
            over: false,
            held: Held::of(facts.goroutine.as_deref(), (begin_ns, u64::MAX)),
        });
        if let Some(next) = next {
            self.counters.sweep.fault(next);
        }
    }

    /// What is counted beside the stalls, and how many threads make one. `is_only`: those so far are
    /// forgotten.
    fn sample(&mut self, sample: &Arc<Sample>, is_only: bool) {
        let swept = self.counters.processes.get(&sample.pid);
        let asked = self.options.stall_threads.is_some();
        let sweep = &mut self.counters.sweep;
        if is_only {
            self.counted.forget(sample.pid, swept, sweep);
        }
        self.counted.before(sample, asked, swept, sweep);
    }

    /// Any other record, which comes before all records fed so far.
    pub fn other(&mut self, record: &Record) {
        match record {
            Record::Start(start) => {
                self.start.get_or_insert_with(|| Arc::clone(start));
                self.seen.span(start.time_ns, start.time_ns);
            }
            Record::ProcessEnd(end) => self.seen.span(end.time_ns, end.time_ns),
            Record::Sample(sample) => {
                // The first one after the time that is looked at tells what made a stall at its end.
                let wall = self.options.wall;
                let is_beyond = wall.is_some_and(|wall| sample.time_ns > wall.end_ns);
                self.sample(sample, is_beyond);
                if is_beyond {
                    return;
                }
                self.seen.span(sample.time_ns, sample.time_ns);
            }
            Record::Stuck(stuck) => {
                if let Some(begin) = stuck.facts.begin_ns {
                    let now = begin.saturating_add(stuck.elapsed_ns);
                    self.seen.span(now, now);
                }
                self.stuck(stuck);
            }
            Record::Fault(fault) => self.whole_fault(fault),
            Record::CacheFill(fill) => self.seen.span(fill.end_ns, fill.end_ns),
            Record::ReadAhead(ahead) => self.seen.span(ahead.end_ns, ahead.end_ns),
            Record::Go(_)
            | Record::Lost(_)
            | Record::Process(_)
            | Record::Accounting(_)
            | Record::Transport(_)
            | Record::Stall(_)
            | Record::PStall(_) => {}
        }
        self.summary.add_earlier(record, &mut self.later);
    }

    /// A fault whose site has no id, since it does not come from a saved trace.
    fn whole_fault(&mut self, fault: &Fault) {
        let site = Arc::new(Site {
            facts: fault.facts.clone(),
            major: fault.major,
            end: fault.end,
        });
        let at = self.add_row(None, &site);
        self.count(at, &fault.measure());
    }

    /// There are no more records.
    pub fn finish(mut self) -> Report {
        self.flush();
        let mut gather = self.gather.take();
        let page_bytes = self.options.page_bytes;
        let mut report = report::make(self);
        report.advice = gather
            .as_mut()
            .map(|gather| Findings::of(&report, gather, page_bytes).advise());
        report
    }

    /// Resolves a site that is new, or whose row had to make room.
    fn add_row(&mut self, site_id: Option<u64>, site: &Arc<Site>) -> usize {
        if self.rows.full() {
            self.flush();
        }
        let own = self.summary.own(site.facts.pid);
        let make = stalls_of(&self.options, &self.expected_threads, &mut self.counted);
        let mut row = self.counters.resolve(site, own, make);
        let gather = self.gather.as_mut();
        row.space = gather.and_then(|gather| gather.space(site));
        self.later.faulted(ThreadKey::of(&site.facts));
        self.rows.add(site_id, row)
    }

    /// Credits the sums of all rows to what they are sums of.
    fn flush(&mut self) {
        for row in self.rows.clear() {
            self.credit(&row);
        }
    }

    fn credit(&mut self, row: &Row) {
        self.summary.credit(&row.site, &row.sum);
        if let Some(gather) = &mut self.gather {
            gather.credit(&row.site, &row.sum);
        }
        let series = &mut self.counters.series;
        sites::add_part(series, &row.series, &row.part);
        for id in row.series.into_iter().flatten() {
            if let Some(series) = series.get_mut(id as usize) {
                series.tally.merge(&row.sum);
            }
        }
    }
}

/// Makes the stalls of a process that the sweep gets to know.
fn stalls_of<'a>(
    options: &'a Options,
    expected: &'a HashMap<u32, u64>,
    counted: &'a mut Counted,
) -> impl FnOnce(u32) -> Swept + 'a {
    move |pid| {
        let needed = stall_threads(options.stall_threads, expected.get(&pid).copied());
        let mut stalls = Swept::new(needed, options.top, options.wall);
        for change in counted.take_early(pid) {
            stalls.change(change);
        }
        stalls
    }
}

/// How many blocked threads of a process are a stall, if no sample tells.
fn stall_threads(asked: Option<u32>, with_faults: Option<u64>) -> u64 {
    let faulting = u32::try_from(with_faults.unwrap_or(0)).unwrap_or(u32::MAX);
    let threads = asked.map_or_else(|| half(faulting, faulting == 1), |asked| asked.max(1));
    u64::from(threads)
}

/// Counts what a fault has only if it was asked for: its page's past, what devices did.
fn beside(measure: &Measure, pid: u32, cause: Option<Cause>, summary: &mut Summary) {
    if let Some(history) = &measure.history {
        summary.add_history(pid, history, measure.blocked_ns);
    }
    if measure.io.is_some() || matches!(cause, Some(Cause::FileRead | Cause::SwapIn)) {
        summary.add_io(pid, measure.io.as_deref(), cause, measure.blocked_ns);
    }
}

/// When a fault began and ended, as far as that lies in the time looked at.
fn within_wall(measure: &Measure, began_before_attach: bool, wall: Option<Wall>) -> (u64, u64) {
    let Some(wall) = wall else {
        return (measure.begin_ns(), measure.end_ns);
    };
    let begin_ns = if began_before_attach {
        wall.begin_ns
    } else {
        measure.begin_ns().max(wall.begin_ns)
    };
    (begin_ns, measure.end_ns.min(wall.end_ns))
}
