//! What is told of one process, or of all together.

use std::hash::Hash;

use serde::Serialize;

use super::parts::{AtOnce, FileRow, PercentilesPart, StallsPart};
use crate::model::analysis::{Durations, Part, Report};
use crate::model::summary::{Entry, ProcessSummary, Remainder, Table, Tally};
use crate::view::escape::Escaped;
use crate::view::json::go::GoPart;
use crate::view::json::history::PastsPart;
use crate::view::json::scalar::{escaped, share};
use crate::view::json::stacks::StackCache;
use crate::view::json::summary::{
    CausePart, Percentiles, StackPart, TallyPart, ThreadPart, others,
};

#[derive(Serialize)]
pub(super) struct Section<'a> {
    pid: Option<u32>,
    name: Option<Escaped<'a>>,
    exe: Option<Escaped<'a>>,
    faults: u64,
    majors: u64,
    given_up: u64,
    maj_flt_delta: Option<u64>,
    maj_flt_remainder: Option<i64>,
    duration_ns: u64,
    blocked_ns: u64,
    runqueue_ns: u64,
    on_cpu_ns: u64,
    approximate_ends: u64,
    died: u64,
    began_before_attach: u64,
    approximate_begins: u64,
    duration_percentiles_ns: Option<Percentiles>,
    at_once: AtOnce,
    stalls: Option<StallsPart<'a>>,
    go: Option<GoPart<'a>>,
    pasts: Option<PastsPart<'a>>,
    by_cause: Rows<Measured<CausePart>>,
    by_thread: Rows<Measured<ThreadPart<'a>>>,
    by_file: Rows<Measured<FileRow<'a>>>,
    by_stack: Rows<Row<StackPart>>,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        report: &'a Report,
        total: &'a ProcessSummary,
        part: &'a Part,
        remainder: Remainder,
        stacks: &mut StackCache,
    ) -> Self {
        let alone = report.parts.is_empty();
        let only = report.summary.processes().next().filter(|_| alone);
        let who = if total.pid.is_some() {
            Some(total)
        } else {
            only
        };
        let info = who.and_then(|who| who.info.as_ref());
        let tally = &total.tally;
        Section {
            pid: who.and_then(|who| who.pid),
            name: escaped(info.map(|info| &info.name)),
            exe: escaped(info.and_then(|info| info.exe.as_ref())),
            faults: tally.faults,
            majors: tally.majors,
            given_up: tally.given_up,
            maj_flt_delta: total.maj_flt_delta,
            maj_flt_remainder: remainder.value(),
            duration_ns: tally.duration_ns,
            blocked_ns: tally.blocked_ns,
            runqueue_ns: tally.runqueue_ns,
            on_cpu_ns: tally.on_cpu_ns,
            approximate_ends: total.approximate,
            died: total.died,
            began_before_attach: total.began_before_attach,
            approximate_begins: total.begin_approximate,
            duration_percentiles_ns: Percentiles::new(total),
            at_once: AtOnce::new(&part.concurrency, report.wall),
            stalls: part.stalls.as_ref().map(StallsPart::new),
            go: who
                .and_then(|who| Some((who, who.go.as_deref()?)))
                .map(|(who, go)| GoPart::new(go, report.ps(part, who))),
            pasts: PastsPart::of(&total.pasts),
            by_cause: causes(report, total, part),
            by_thread: threads(report, total, part),
            by_file: files(report, total, part),
            by_stack: by_stack(report, total, stacks),
        }
    }
}

/// A table: its first rows, and what the others add up to.
#[derive(Serialize)]
struct Rows<R> {
    rows: Vec<R>,
    more_rows: usize,
    more: Option<TallyPart>,
    others: Option<TallyPart>,
}

impl<R> Rows<R> {
    fn new<'a, K, D>(
        table: &'a Table<K, D>,
        top: usize,
        mut row: impl FnMut(&'a K, &'a Entry<D>) -> R,
    ) -> Self
    where
        K: Eq + Hash + Ord + Clone,
        D: Clone,
    {
        let mut ranked = table.ranked();
        let hidden = ranked.split_off(top.min(ranked.len()));
        let mut more = Tally::default();
        for (_, entry) in &hidden {
            more.merge(&entry.tally);
        }
        Rows {
            rows: ranked.into_iter().map(|(key, one)| row(key, one)).collect(),
            more_rows: hidden.len(),
            more: others(&more),
            others: others(table.others()),
        }
    }
}

/// What a row is about, and its totals.
#[derive(Serialize)]
struct Row<K> {
    #[serde(flatten)]
    key: K,
    #[serde(flatten)]
    tally: TallyPart,
    blocked_share: Option<f64>,
}

impl<K> Row<K> {
    fn new(key: K, tally: &Tally, total: &ProcessSummary) -> Self {
        Row {
            key,
            tally: TallyPart::new(tally),
            blocked_share: share(tally.blocked_ns, total.tally.blocked_ns),
        }
    }
}

/// A row whose durations are known.
#[derive(Serialize)]
struct Measured<K> {
    #[serde(flatten)]
    row: Row<K>,
    duration_percentiles_ns: Option<PercentilesPart>,
}

impl<K> Measured<K> {
    fn new(row: Row<K>, durations: Option<&Durations>) -> Self {
        Measured {
            row,
            duration_percentiles_ns: durations
                .and_then(Durations::percentiles)
                .map(|one| PercentilesPart::new(&one)),
        }
    }
}

fn causes(report: &Report, total: &ProcessSummary, part: &Part) -> Rows<Measured<CausePart>> {
    Rows::new(&total.by_cause, report.options.top, |cause, entry| {
        let row = Row::new(CausePart::new(*cause), &entry.tally, total);
        Measured::new(row, part.causes.get(cause))
    })
}

fn threads<'a>(
    report: &Report,
    total: &'a ProcessSummary,
    part: &Part,
) -> Rows<Measured<ThreadPart<'a>>> {
    Rows::new(&total.by_thread, report.options.top, |key, entry| {
        let row = Row::new(ThreadPart::new(key, &entry.detail), &entry.tally, total);
        Measured::new(row, part.threads.get(key))
    })
}

fn files<'a>(
    report: &Report,
    total: &'a ProcessSummary,
    part: &'a Part,
) -> Rows<Measured<FileRow<'a>>> {
    Rows::new(&total.by_file, report.options.top, |key, entry| {
        let detail = part.files.get(key);
        let row = Row::new(FileRow::new(key, detail), &entry.tally, total);
        Measured::new(row, detail.and_then(|detail| detail.durations.as_ref()))
    })
}

fn by_stack(
    report: &Report,
    total: &ProcessSummary,
    stacks: &mut StackCache,
) -> Rows<Row<StackPart>> {
    Rows::new(&total.by_stack, report.options.top, |key, entry| {
        let part = StackPart::new(key, entry.detail.as_ref(), stacks);
        Row::new(part, &entry.tally, total)
    })
}
