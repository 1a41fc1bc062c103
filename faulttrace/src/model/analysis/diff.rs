//! Two traces compared: what happens more or less often per second of the trace, and whether that
//! is more than chance.
//!
//! Runs differ in length, process ids and addresses, so rates are compared, and keys are names: of
//! threads, of files, of the functions of a stack.

use std::collections::{BTreeMap, HashMap};

use super::chance::{self, Samples, Verdict};
use super::diff_ahead::{self, AheadChange};
use super::diff_beside::{self, Beside, DevicesChange, PastsChange};
use super::diff_ps::{self, PsChange};
use super::durations::Durations;
use super::report::Report;
use super::slices::{Series, SeriesKey};
use crate::model::summary::Tally;

/// Two traces, compared.
#[derive(Debug)]
pub struct Diff {
    /// All faults.
    pub all: DiffRow,
    /// The Ps of Go programs; `None` if there are none.
    pub ps: Option<PsChange>,
    /// What had become of pages; `None` if neither trace was asked to look (`--evictions`).
    pub pasts: Option<Beside<PastsChange>>,
    /// What was read ahead of faults; `None` likewise.
    pub read_ahead: Option<Beside<AheadChange>>,
    /// What devices did; `None` if neither trace was asked to follow reads (`--io`).
    pub devices: Option<Beside<DevicesChange>>,
    /// By cause, and so on: the greatest change of blocked time first.
    pub causes: Vec<DiffRow>,
    /// By path and kind of memory.
    pub files: Vec<DiffRow>,
    /// By the names of the user stack's functions.
    pub stacks: Vec<DiffRow>,
    /// By name of the thread.
    pub threads: Vec<DiffRow>,
    /// What has no row of its own on a side, by the tables in this order, because there were too
    /// many keys: (before, after).
    pub others: [(Tally, Tally); 4],
}

/// A key on both sides.
#[derive(Debug, Clone)]
pub struct DiffRow {
    /// What was counted.
    pub key: SeriesKey,
    /// Totals before; `None` if it may be among the others there.
    pub before: Option<Tally>,
    /// Totals after; `None` likewise.
    pub after: Option<Tally>,
    /// Faults per second.
    pub faults: Change,
    /// Major faults per second; without a verdict of its own ([`Verdict::Unknown`]).
    pub majors: Change,
    /// Faults per second that the kernel gave up before it could count them as major or minor; likewise.
    pub given_up: Change,
    /// Blocked ns per second.
    pub blocked: Change,
    /// Durations, ns: half, 90 % and 99 % of the faults were no longer. Of the longest nothing can
    /// be said but its value.
    pub percentiles: [Change; 3],
    /// The longest duration, ns; without a verdict.
    pub max: Change,
}

/// A number before and after.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// `None` if unknown.
    pub before: Option<f64>,
    /// `None` if unknown.
    pub after: Option<f64>,
    /// Whether it is more than chance.
    pub verdict: Verdict,
}

impl Change {
    /// How much it grew; `None` if a side is unknown.
    pub fn growth(&self) -> Option<f64> {
        Some(self.after? - self.before?)
    }

    /// How much it changed, either way; 0 if a side is unknown.
    pub(super) fn size(&self) -> f64 {
        self.growth().map_or(0.0, f64::abs)
    }
}

/// Where so many of the faults that may have been major were given up, majors say nothing, %.
pub const GIVEN_UP_PERCENT: u64 = 10;

impl DiffRow {
    /// Majors of both sides can be compared: of neither so many were given up before the kernel counted
    /// them that more or fewer of them would change the number.
    pub fn has_majors(&self) -> bool {
        let few = |tally: Option<Tally>| {
            tally.is_none_or(|tally| {
                let all = u128::from(tally.majors) + u128::from(tally.given_up);
                u128::from(tally.given_up) * 100 < all.max(1) * u128::from(GIVEN_UP_PERCENT)
            })
        };
        few(self.before) && few(self.after)
    }
}

/// The percentiles compared.
pub const PERCENTILES: [f64; 3] = [50.0, 90.0, 99.0];

/// One trace, by keys.
struct Side<'a> {
    report: &'a Report,
    wall_ns: Option<u64>,
    /// There are slices: the wall was known when the faults came.
    sliced: bool,
    series: HashMap<&'a SeriesKey, &'a Series>,
    durations: HashMap<SeriesKey, Durations>,
    /// By table: what its keys do not have.
    others: [Tally; 4],
}

/// Compares two traces.
pub fn compare(before: &Report, after: &Report) -> Diff {
    let ps = diff_ps::compare(before, after);
    let pasts = diff_beside::pasts(before, after);
    let read_ahead = diff_ahead::compare(before, after);
    let devices = diff_beside::devices(before, after);
    let (before, after) = (Side::new(before), Side::new(after));
    let mut keys: BTreeMap<&SeriesKey, ()> = BTreeMap::new();
    for key in before.series.keys().chain(after.series.keys()) {
        keys.insert(key, ());
    }
    let mut tables: [Vec<DiffRow>; 4] = Default::default();
    for key in keys.into_keys() {
        if let Some(table) = table_of(key) {
            tables[table].push(row(key, &before, &after));
        }
    }
    for table in &mut tables {
        table.sort_by(|a, b| {
            let by_size = b.blocked.size().total_cmp(&a.blocked.size());
            by_size.then_with(|| a.key.cmp(&b.key))
        });
    }
    let others = std::array::from_fn(|at| (before.others[at], after.others[at]));
    let [causes, files, stacks, threads] = tables;
    Diff {
        all: row(&SeriesKey::All, &before, &after),
        ps,
        pasts,
        read_ahead,
        devices,
        causes,
        files,
        stacks,
        threads,
        others,
    }
}

/// Where in [`Diff::others`] a key belongs.
fn table_of(key: &SeriesKey) -> Option<usize> {
    match key {
        SeriesKey::All => None,
        SeriesKey::Cause(_) => Some(0),
        SeriesKey::File(..) => Some(1),
        SeriesKey::Stack(_) => Some(2),
        SeriesKey::Thread(_) => Some(3),
    }
}

impl<'a> Side<'a> {
    fn new(report: &'a Report) -> Self {
        let series: HashMap<_, _> = report.series.iter().map(|(key, one)| (key, one)).collect();
        let mut others = [report.total.tally; 4];
        for (key, one) in &report.series {
            if let Some(table) = table_of(key) {
                others[table] = rest(&others[table], &one.tally);
            }
        }
        Side {
            report,
            wall_ns: report.wall.map(|wall| wall.length_ns()),
            sliced: report.options.wall.is_some(),
            durations: durations(report),
            series,
            others,
        }
    }

    /// The key's totals; `None` if it may be among the others.
    fn tally(&self, key: &SeriesKey) -> Option<Tally> {
        match (self.series.get(key), table_of(key)) {
            (Some(series), _) => Some(series.tally),
            (None, Some(table)) if self.others[table].faults > 0 => None,
            (None, _) => Some(Tally::default()),
        }
    }

    /// `count` per second.
    fn rate(&self, count: Option<u64>) -> Option<f64> {
        diff_beside::rate(self.report, count)
    }

    /// The histogram, if it holds all faults of the key.
    fn durations(&self, key: &SeriesKey, tally: Option<Tally>) -> Option<&Durations> {
        let found = match key {
            SeriesKey::All => self.report.durations.as_ref(),
            key => self.durations.get(key),
        };
        found.filter(|found| found.count() > 0 && Some(found.count()) == tally.map(|t| t.faults))
    }

    fn samples<'s>(&self, series: &'s Series) -> Option<Samples<'s>> {
        let wall_ns = self.wall_ns.filter(|_| self.sliced)?;
        Some(Samples { series, wall_ns })
    }
}

/// What is left of `all` without `part`; the longest cannot be told.
fn rest(all: &Tally, part: &Tally) -> Tally {
    Tally {
        faults: all.faults.saturating_sub(part.faults),
        majors: all.majors.saturating_sub(part.majors),
        given_up: all.given_up.saturating_sub(part.given_up),
        duration_ns: all.duration_ns.saturating_sub(part.duration_ns),
        blocked_ns: all.blocked_ns.saturating_sub(part.blocked_ns),
        runqueue_ns: all.runqueue_ns.saturating_sub(part.runqueue_ns),
        on_cpu_ns: all.on_cpu_ns.saturating_sub(part.on_cpu_ns),
        max_ns: 0,
    }
}

/// The report's histograms by the names that are compared.
fn durations(report: &Report) -> HashMap<SeriesKey, Durations> {
    let mut found: HashMap<SeriesKey, Durations> = HashMap::new();
    let mut add = |key: SeriesKey, more: &Durations| {
        found
            .entry(key)
            .and_modify(|sum| sum.merge(more))
            .or_insert_with(|| more.clone());
    };
    for (cause, durations) in &report.all.causes {
        add(SeriesKey::Cause(*cause), durations);
    }
    for (file, detail) in &report.all.files {
        if let Some(durations) = &detail.durations {
            add(SeriesKey::File(file.path.clone(), file.mapping), durations);
        }
    }
    for (thread, durations) in &report.all.threads {
        if let Some(entry) = report.total.by_thread.get(thread) {
            add(SeriesKey::Thread(entry.detail.clone()), durations);
        }
    }
    found
}

fn row(key: &SeriesKey, before: &Side<'_>, after: &Side<'_>) -> DiffRow {
    let (tally_a, tally_b) = (before.tally(key), after.tally(key));
    let none = Series::default();
    let samples_a = before.samples(before.series.get(key).copied().unwrap_or(&none));
    let samples_b = after.samples(after.series.get(key).copied().unwrap_or(&none));
    let (faults, blocked) = match (tally_a, tally_b, samples_a, samples_b) {
        (None, ..) | (_, None, ..) => (Verdict::Unknown, Verdict::Unknown),
        (_, _, Some(a), Some(b)) => chance::compared(a, b),
        _ => (Verdict::TooLittle, Verdict::TooLittle),
    };
    let rate = |of: fn(Tally) -> u64, verdict| Change {
        before: before.rate(tally_a.map(of)),
        after: after.rate(tally_b.map(of)),
        verdict,
    };
    let durations_a = before.durations(key, tally_a);
    let durations_b = after.durations(key, tally_b);
    DiffRow {
        key: key.clone(),
        before: tally_a,
        after: tally_b,
        faults: rate(|tally| tally.faults, faults),
        majors: rate(|tally| tally.majors, Verdict::Unknown),
        given_up: rate(|tally| tally.given_up, Verdict::Unknown),
        blocked: rate(|tally| tally.blocked_ns, blocked),
        percentiles: PERCENTILES.map(|at| percentile(durations_a, durations_b, at)),
        max: Change {
            before: longest(tally_a),
            after: longest(tally_b),
            verdict: Verdict::Unknown,
        },
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn longest(tally: Option<Tally>) -> Option<f64> {
    let tally = tally.filter(|tally| tally.faults > 0)?;
    Some(tally.max_ns as f64)
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn percentile(before: Option<&Durations>, after: Option<&Durations>, at: f64) -> Change {
    let value = |of: Option<&Durations>| of.map(|of| of.percentile_ns(at) as f64);
    Change {
        before: value(before),
        after: value(after),
        verdict: match (before, after) {
            (Some(before), Some(after)) => chance::percentile(before, after, at),
            _ => Verdict::Unknown,
        },
    }
}
