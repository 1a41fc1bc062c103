//! The `summary` records that end the stream.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

use serde::Serialize;

use super::go::GoPart;
use super::history::PastsPart;
use super::io::{DeviceRow, UnseenPart};
use super::record::{UserStackPart, deleted};
use super::scalar::escaped;
use super::stacks::StackCache;
use super::stall::StallsPart;
use super::{Failed, NOT_SERIALIZED, TOP};
use crate::model::stall::StallTotals;
use crate::model::summary::{
    ByCause, ByFile, ByStack, ByThread, FileKey, ProcessSummary, Remainder, StackKey, StillStuck,
    Summary, Table, Tally, ThreadKey,
};
use crate::model::{Cause, Devices, LossClass, MappingKind, Name, Stack};
use crate::view::escape::Escaped;

/// One record per process, then the total unless that would repeat the only process.
pub(super) fn write(
    summary: &Summary,
    stacks: &mut StackCache,
    failed: &mut Failed,
    out: &mut Vec<u8>,
) {
    let common = Common::new(summary, failed.total);
    let stuck = summary.still_stuck();
    for process in summary.processes() {
        let own = stuck
            .iter()
            .filter(|still| Some(still.stuck.facts.pid) == process.pid);
        let remainder = summary.remainder_of(process);
        let stalls = process.pid.and_then(|pid| summary.stalls().totals(pid));
        let more = (stalls, summary.devices(process));
        let line = SummaryLine::new(process, remainder, own.copied(), more, &common, stacks);
        failed.line(&line, out);
    }
    if summary.processes().len() != 1 || summary.other_processes().is_some() {
        let total = summary.total();
        let all = stuck.iter().copied();
        let more = (None, summary.devices(&total));
        let line = SummaryLine::new(&total, summary.remainder(), all, more, &common, stacks);
        failed.line(&line, out);
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "summary")]
struct SummaryLine<'a> {
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
    by_thread: Vec<Row<ThreadPart<'a>>>,
    by_thread_others: Option<TallyPart>,
    by_file: Vec<Row<FilePart<'a>>>,
    by_file_others: Option<TallyPart>,
    by_stack: Vec<Row<StackPart>>,
    by_stack_others: Option<TallyPart>,
    by_cause: Vec<Row<CausePart>>,
    by_cause_others: Option<TallyPart>,
    still_stuck: Vec<StuckPart<'a>>,
    stalls: Option<StallsPart<'a>>,
    go: Option<GoPart<'a>>,
    pasts: Option<PastsPart<'a>>,
    devices: Option<Vec<DeviceRow<'a>>>,
    devices_unseen: Option<UnseenPart>,
    #[serde(flatten)]
    common: &'a Common,
}

impl<'a> SummaryLine<'a> {
    fn new(
        of: &'a ProcessSummary,
        remainder: Remainder,
        stuck: impl Iterator<Item = &'a StillStuck>,
        (stalls, devices): (Option<&'a StallTotals>, Option<&'a Devices>),
        common: &'a Common,
        stacks: &mut StackCache,
    ) -> Self {
        let info = of.info.as_ref();
        let go = of.go.as_deref();
        SummaryLine {
            pid: of.pid,
            name: escaped(info.map(|info| &info.name)),
            exe: escaped(info.and_then(|info| info.exe.as_ref())),
            faults: of.tally.faults,
            majors: of.tally.majors,
            given_up: of.tally.given_up,
            maj_flt_delta: of.maj_flt_delta,
            maj_flt_remainder: remainder.value(),
            duration_ns: of.tally.duration_ns,
            blocked_ns: of.tally.blocked_ns,
            runqueue_ns: of.tally.runqueue_ns,
            on_cpu_ns: of.tally.on_cpu_ns,
            approximate_ends: of.approximate,
            died: of.died,
            began_before_attach: of.began_before_attach,
            approximate_begins: of.begin_approximate,
            duration_percentiles_ns: Percentiles::new(of),
            by_thread: threads(&of.by_thread),
            by_thread_others: others(of.by_thread.others()),
            by_file: files(&of.by_file),
            by_file_others: others(of.by_file.others()),
            by_stack: by_stack(&of.by_stack, stacks),
            by_stack_others: others(of.by_stack.others()),
            by_cause: causes(&of.by_cause),
            by_cause_others: others(of.by_cause.others()),
            still_stuck: stuck.map(StuckPart::new).collect(),
            stalls: stalls.map(StallsPart::new),
            go: go.map(|go| {
                let ps = stalls.map(|stalls| &stalls.ps);
                GoPart::new(go, ps.map(|ps| (ps, of.ps_time_ns(ps, 0))))
            }),
            pasts: PastsPart::of(&of.pasts),
            devices: devices.map(|devices| DeviceRow::all(devices, TOP)),
            devices_unseen: devices.map(UnseenPart::new),
            common,
        }
    }
}

/// What is only known of all processes together, the same in each record.
#[derive(Serialize)]
pub(in crate::view) struct Common {
    still_stuck_others: u64,
    lost: BTreeMap<String, u64>,
    lost_by_class: BTreeMap<&'static str, BTreeMap<String, u64>>,
    events_emitted: Option<u64>,
    events_received: Option<u64>,
    events_lost: Option<u64>,
}

impl Common {
    pub(in crate::view) fn new(summary: &Summary, not_serialized: u64) -> Self {
        let transport = summary.transport();
        let mut common = Common {
            still_stuck_others: summary.stuck_beyond_limit(),
            lost: BTreeMap::new(),
            lost_by_class: BTreeMap::new(),
            events_emitted: transport.map(|transport| transport.emitted),
            events_received: transport.map(|transport| transport.received),
            events_lost: transport.map(|transport| transport.lost),
        };
        for (class, reason, count) in summary.lost() {
            common.count(class, reason, count);
        }
        if not_serialized > 0 {
            common.count(LossClass::Lost, NOT_SERIALIZED, not_serialized);
        }
        common
    }

    fn count(&mut self, class: LossClass, reason: &str, count: u64) {
        let reason = Escaped(reason.as_bytes()).to_string();
        let of_class = self.lost_by_class.entry(class.as_str()).or_default();
        for sum in [
            of_class.entry(reason.clone()).or_default(),
            self.lost.entry(reason).or_default(),
        ] {
            *sum = sum.saturating_add(count);
        }
    }
}

#[derive(Serialize)]
pub(in crate::view) struct Percentiles {
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
}

impl Percentiles {
    pub(in crate::view) fn new(of: &ProcessSummary) -> Option<Self> {
        Some(Percentiles {
            p50: of.duration_percentile_ns(50.0)?,
            p90: of.duration_percentile_ns(90.0)?,
            p99: of.duration_percentile_ns(99.0)?,
            max: of.tally.max_ns,
        })
    }
}

#[derive(Serialize)]
pub(in crate::view) struct TallyPart {
    faults: u64,
    majors: u64,
    given_up: u64,
    duration_ns: u64,
    blocked_ns: u64,
    runqueue_ns: u64,
    on_cpu_ns: u64,
    max_ns: u64,
}

impl TallyPart {
    pub(in crate::view) fn new(tally: &Tally) -> Self {
        TallyPart {
            faults: tally.faults,
            majors: tally.majors,
            given_up: tally.given_up,
            duration_ns: tally.duration_ns,
            blocked_ns: tally.blocked_ns,
            runqueue_ns: tally.runqueue_ns,
            on_cpu_ns: tally.on_cpu_ns,
            max_ns: tally.max_ns,
        }
    }
}

pub(in crate::view) fn others(tally: &Tally) -> Option<TallyPart> {
    (tally.faults > 0).then(|| TallyPart::new(tally))
}

/// What a row is about, and its totals.
#[derive(Serialize)]
struct Row<K> {
    #[serde(flatten)]
    key: K,
    #[serde(flatten)]
    tally: TallyPart,
}

fn rows<'a, K, D, P>(table: &'a Table<K, D>, mut part: impl FnMut(&'a K, &'a D) -> P) -> Vec<Row<P>>
where
    K: Eq + Hash + Ord + Clone,
    D: Clone,
{
    let row = |(key, entry): (&'a K, &'a crate::model::summary::Entry<D>)| Row {
        key: part(key, &entry.detail),
        tally: TallyPart::new(&entry.tally),
    };
    table.ranked().into_iter().map(row).collect()
}

#[derive(Serialize)]
pub(in crate::view) struct ThreadPart<'a> {
    pid: u32,
    tid: u32,
    thread: Escaped<'a>,
}

impl<'a> ThreadPart<'a> {
    pub(in crate::view) fn new(key: &ThreadKey, name: &'a Name) -> Self {
        ThreadPart {
            pid: key.pid,
            tid: key.tid,
            thread: Escaped(name.as_bytes()),
        }
    }
}

fn threads(table: &ByThread) -> Vec<Row<ThreadPart<'_>>> {
    rows(table, ThreadPart::new)
}

#[derive(Serialize)]
pub(in crate::view) struct FilePart<'a> {
    path: Option<Escaped<'a>>,
    mapping: Option<&'static str>,
    deleted: Option<bool>,
}

impl<'a> FilePart<'a> {
    pub(in crate::view) fn new(key: &'a FileKey) -> Self {
        FilePart {
            path: escaped(key.path.as_ref()),
            mapping: key.mapping.map(MappingKind::as_str),
            deleted: deleted(key.deleted, key.path.as_ref()),
        }
    }
}

fn files(table: &ByFile) -> Vec<Row<FilePart<'_>>> {
    rows(table, |key, ()| FilePart::new(key))
}

#[derive(Serialize)]
pub(in crate::view) struct StackPart {
    pid: u32,
    #[serde(flatten)]
    stack: UserStackPart,
}

impl StackPart {
    pub(in crate::view) fn new(
        key: &StackKey,
        stack: Option<&Arc<Stack>>,
        stacks: &mut StackCache,
    ) -> Self {
        StackPart {
            pid: key.pid,
            stack: UserStackPart::new(stack, stacks),
        }
    }
}

fn by_stack(table: &ByStack, stacks: &mut StackCache) -> Vec<Row<StackPart>> {
    rows(table, |key, stack| {
        StackPart::new(key, stack.as_ref(), stacks)
    })
}

#[derive(Serialize)]
pub(in crate::view) struct CausePart {
    cause: Option<&'static str>,
}

impl CausePart {
    pub(in crate::view) fn new(cause: Option<Cause>) -> Self {
        CausePart {
            cause: cause.map(Cause::as_str),
        }
    }
}

fn causes(table: &ByCause) -> Vec<Row<CausePart>> {
    rows(table, |cause, ()| CausePart::new(*cause))
}

#[derive(Serialize)]
pub(in crate::view) struct StuckPart<'a> {
    pid: u32,
    tid: u32,
    thread: Escaped<'a>,
    elapsed_ns: u64,
    process_ended: bool,
}

impl<'a> StuckPart<'a> {
    pub(in crate::view) fn new(still: &'a StillStuck) -> Self {
        let facts = &still.stuck.facts;
        StuckPart {
            pid: facts.pid,
            tid: facts.tid,
            thread: Escaped(facts.thread.as_bytes()),
            elapsed_ns: still.stuck.elapsed_ns,
            process_ended: still.process_ended,
        }
    }
}
