//! Go programs: the records `go` and `p_stall`, what a fault says of its goroutine, what the Ps add up
//! to.

use std::collections::BTreeMap;

use serde::Serialize;

use super::scalar::escaped;
use super::stall::{self, FileRow, MeanwhilePart};
use crate::model::ps::{FullStall, PsTotals};
use crate::model::stall::{PStall, Source};
use crate::model::{Cause, GoLabels, GoProcess, Goroutine, LayoutSource};
use crate::view::escape::Escaped;

#[derive(Serialize)]
#[serde(tag = "type", rename = "go")]
pub(super) struct GoLine<'a> {
    pid: u32,
    time_ns: u64,
    #[serde(flatten)]
    program: ProgramPart<'a>,
}

impl<'a> GoLine<'a> {
    pub(super) fn new(go: &'a GoProcess) -> Self {
        GoLine {
            pid: go.pid,
            time_ns: go.time_ns,
            program: ProgramPart::new(go),
        }
    }
}

#[derive(Serialize)]
struct ProgramPart<'a> {
    version: Escaped<'a>,
    module: Option<Escaped<'a>>,
    gomaxprocs: Option<u32>,
    layout: Option<&'static str>,
}

impl<'a> ProgramPart<'a> {
    fn new(go: &'a GoProcess) -> Self {
        ProgramPart {
            version: Escaped(go.version.as_bytes()),
            module: escaped(go.module.as_ref()),
            gomaxprocs: go.procs,
            layout: go.layout.map(LayoutSource::as_str),
        }
    }
}

/// Of a fault.
#[derive(Serialize)]
pub(super) struct GoroutinePart<'a> {
    id: Option<u64>,
    start: Option<Escaped<'a>>,
    created_by: Option<Escaped<'a>>,
    p: Option<u32>,
    in_syscall: bool,
    gomaxprocs: Option<u32>,
    queued_local: Option<u32>,
    queued_global: Option<u32>,
    queued_global_at_end: Option<u32>,
    labels: Option<Vec<LabelPart<'a>>>,
    labels_left_out: Option<u32>,
}

#[derive(Serialize)]
struct LabelPart<'a> {
    key: Escaped<'a>,
    value: Escaped<'a>,
}

impl<'a> GoroutinePart<'a> {
    pub(super) fn new(of: &'a Goroutine) -> Self {
        GoroutinePart {
            id: of.id,
            start: escaped(of.start.as_ref()),
            created_by: escaped(of.created_by.as_ref()),
            p: of.p,
            in_syscall: of.in_syscall,
            gomaxprocs: of.procs,
            queued_local: of.queued_local,
            queued_global: of.queued_global,
            queued_global_at_end: of.queued_global_at_end,
            labels: of.labels.as_deref().map(labels),
            labels_left_out: of.labels.as_ref().map(|labels| labels.left_out),
        }
    }
}

fn labels(of: &GoLabels) -> Vec<LabelPart<'_>> {
    let pairs = of.kept.iter();
    pairs
        .map(|(key, value)| LabelPart {
            key: Escaped(key.as_bytes()),
            value: Escaped(value.as_bytes()),
        })
        .collect()
}

/// A time in which all Ps were stuck.
#[derive(Serialize)]
pub(in crate::view) struct FullPart {
    time_ns: u64,
    duration_ns: u64,
    stuck_ns: u64,
    gomaxprocs: u32,
    queued: Option<u64>,
}

impl FullPart {
    pub(in crate::view) fn new(of: &FullStall) -> Self {
        FullPart {
            time_ns: of.begin_ns,
            duration_ns: of.length_ns(),
            stuck_ns: of.stuck_ns,
            gomaxprocs: of.procs,
            queued: of.queued,
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "p_stall")]
pub(super) struct PStallLine<'a> {
    pid: u32,
    #[serde(flatten)]
    stall: FullPart,
    over: bool,
    faults: Vec<FaultRow<'a>>,
    other_faults: u64,
    files: Vec<FileRow<'a>>,
    other_files_faults: u64,
    causes: BTreeMap<&'static str, u64>,
    meanwhile: Option<MeanwhilePart>,
}

impl<'a> PStallLine<'a> {
    pub(super) fn new(of: &'a PStall) -> Self {
        PStallLine {
            pid: of.pid,
            stall: FullPart::new(&of.stall),
            over: of.over,
            faults: of.faults.iter().map(FaultRow::new).collect(),
            other_faults: of.other_faults,
            files: of.files.iter().map(FileRow::new).collect(),
            other_files_faults: of.other_files_faults,
            causes: stall::causes(&of.causes),
            meanwhile: of.meanwhile.as_ref().map(MeanwhilePart::new),
        }
    }
}

#[derive(Serialize)]
struct FaultRow<'a> {
    time_ns: Option<u64>,
    tid: u32,
    thread: Escaped<'a>,
    goroutine: Option<u64>,
    start: Option<Escaped<'a>>,
    p: Option<u32>,
    cause: Option<&'static str>,
    path: Option<Escaped<'a>>,
    offset: Option<u64>,
}

impl<'a> FaultRow<'a> {
    fn new(source: &'a Source) -> Self {
        let facts = source.facts();
        let goroutine = facts.goroutine.as_deref();
        FaultRow {
            time_ns: facts.begin_ns,
            tid: facts.tid,
            thread: Escaped(facts.thread.as_bytes()),
            goroutine: goroutine.and_then(|of| of.id),
            start: escaped(goroutine.and_then(|of| of.start.as_ref())),
            p: goroutine.and_then(|of| of.p),
            cause: facts.cause.map(Cause::as_str),
            path: escaped(facts.place.path.as_ref()),
            offset: facts.place.offset,
        }
    }
}

/// Of a Go program, in its summary.
#[derive(Serialize)]
pub(in crate::view) struct GoPart<'a> {
    #[serde(flatten)]
    program: ProgramPart<'a>,
    ps: Option<PsPart>,
}

impl<'a> GoPart<'a> {
    pub(in crate::view) fn new(go: &'a GoProcess, ps: Option<(&PsTotals, Option<u64>)>) -> Self {
        GoPart {
            program: ProgramPart::new(go),
            ps: ps
                .filter(|(ps, _)| !ps.is_empty())
                .map(|(ps, all_ns)| PsPart::new(ps, all_ns)),
        }
    }
}

/// What the Ps add up to.
#[derive(Serialize)]
pub(in crate::view) struct PsPart {
    gomaxprocs_least: Option<u32>,
    gomaxprocs_most: Option<u32>,
    stuck_ns: Vec<u64>,
    lost_ns: u64,
    all_ns: Option<u64>,
    all_stuck_ns: u64,
    all_stuck_count: u64,
    longest: Option<FullPart>,
    most_queued: Option<u64>,
    unknown_gomaxprocs_ns: u64,
}

impl PsPart {
    fn new(of: &PsTotals, all_ns: Option<u64>) -> Self {
        PsPart {
            gomaxprocs_least: of.procs.map(|(least, _)| least),
            gomaxprocs_most: of.procs.map(|(_, most)| most),
            // No P stuck: for how long depends on when one begins to count.
            stuck_ns: of.levels_ns.iter().skip(1).copied().collect(),
            lost_ns: of.lost_ns(),
            all_ns,
            all_stuck_ns: of.full_ns,
            all_stuck_count: of.full_count,
            longest: of.longest.as_ref().map(FullPart::new),
            most_queued: of.most_queued,
            unknown_gomaxprocs_ns: of.unknown_ns,
        }
    }
}
