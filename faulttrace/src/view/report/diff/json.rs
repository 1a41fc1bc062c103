//! The comparison for programs: one JSON object. The schema is docs/report-json.md.

mod beside;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::Compared;
use crate::model::analysis::{
    Change, DEVIATIONS, Diff, DiffRow, FrameName, PsChange, Report, SLICES, SeriesKey, Verdict,
};
use crate::model::summary::Tally;
use crate::model::{Cause, MappingKind};
use crate::view::escape::Escaped;
use crate::view::json::one_line;
use crate::view::json::scalar::escaped;
use crate::view::json::summary::{Common, TallyPart, others};
use crate::view::report::json::HeadPart;
use beside::{AheadPart, DevicesPart, PastsPart};

/// Writes the comparison as one object on one line.
///
/// # Errors
///
/// Nothing in a comparison can fail to be serialized; if it does all the same, nothing is written.
pub fn write_diff_json(compared: &Compared<'_>, out: &mut Vec<u8>) -> serde_json::Result<()> {
    one_line(&DiffLine::new(compared), out)
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "diff")]
struct DiffLine<'a> {
    before: Side<'a>,
    after: Side<'a>,
    slices: usize,
    deviations: f64,
    total: Rates,
    go_ps: Option<PsPart>,
    pasts: Option<PastsPart>,
    read_ahead: Option<AheadPart<'a>>,
    devices: Option<DevicesPart<'a>>,
    by_cause: Table<CauseKey>,
    by_file: Table<FileKey<'a>>,
    by_stack: Table<StackKey<'a>>,
    by_thread: Table<ThreadKey<'a>>,
}

impl<'a> DiffLine<'a> {
    fn new(compared: &Compared<'a>) -> Self {
        let diff: &'a Diff = compared.diff;
        let top = compared.top;
        let [causes, files, stacks, threads] = &diff.others;
        DiffLine {
            before: Side::new(compared.before_name, compared.before),
            after: Side::new(compared.after_name, compared.after),
            slices: SLICES,
            deviations: DEVIATIONS,
            total: Rates::new(&diff.all),
            go_ps: diff.ps.as_ref().map(PsPart::new),
            pasts: diff.pasts.as_ref().map(PastsPart::new),
            read_ahead: diff
                .read_ahead
                .as_ref()
                .map(|found| AheadPart::new(found, top)),
            devices: diff
                .devices
                .as_ref()
                .map(|found| DevicesPart::new(found, top)),
            by_cause: Table::new(&diff.causes, top, causes, CauseKey::new),
            by_file: Table::new(&diff.files, top, files, FileKey::new),
            by_stack: Table::new(&diff.stacks, top, stacks, StackKey::new),
            by_thread: Table::new(&diff.threads, top, threads, ThreadKey::new),
        }
    }
}

#[derive(Serialize)]
struct PsPart {
    none_left_ns_per_s: ChangePart,
    stalls_per_s: ChangePart,
    longest_ns: ChangePart,
    lost_ns_per_s: ChangePart,
}

impl PsPart {
    fn new(of: &PsChange) -> Self {
        PsPart {
            none_left_ns_per_s: ChangePart::new(&of.none_left),
            stalls_per_s: ChangePart::new(&of.stalls),
            longest_ns: ChangePart::new(&of.longest),
            lost_ns_per_s: ChangePart::new(&of.lost),
        }
    }
}

#[derive(Serialize)]
struct Side<'a> {
    file: Escaped<'a>,
    #[serde(flatten)]
    head: HeadPart<'a>,
    threads: Option<u64>,
    #[serde(flatten)]
    common: Common,
}

impl<'a> Side<'a> {
    fn new(name: &'a [u8], report: &'a Report) -> Self {
        Side {
            file: Escaped(name),
            head: HeadPart::new(report),
            threads: report.all.concurrency.threads,
            common: Common::new(&report.summary, 0),
        }
    }
}

#[derive(Serialize)]
struct Table<K> {
    rows: Vec<Row<K>>,
    more_rows: usize,
    others_before: Option<TallyPart>,
    others_after: Option<TallyPart>,
}

impl<K> Table<K> {
    fn new<'a>(
        rows: &'a [DiffRow],
        top: usize,
        beyond: &(Tally, Tally),
        key: impl Fn(&'a SeriesKey) -> Option<K>,
    ) -> Self {
        let row = |row: &'a DiffRow| {
            Some(Row {
                key: key(&row.key)?,
                rates: Rates::new(row),
            })
        };
        Table {
            rows: rows.iter().take(top).filter_map(row).collect(),
            more_rows: rows.len().saturating_sub(top),
            others_before: others(&beyond.0),
            others_after: others(&beyond.1),
        }
    }
}

#[derive(Serialize)]
struct Row<K> {
    #[serde(flatten)]
    key: K,
    #[serde(flatten)]
    rates: Rates,
}

#[derive(Serialize)]
struct Rates {
    before: Option<TallyPart>,
    after: Option<TallyPart>,
    faults_per_s: ChangePart,
    majors_per_s: ChangePart,
    given_up_per_s: ChangePart,
    blocked_ns_per_s: ChangePart,
    p50_ns: ChangePart,
    p90_ns: ChangePart,
    p99_ns: ChangePart,
    max_ns: ChangePart,
}

impl Rates {
    fn new(row: &DiffRow) -> Self {
        let [p50, p90, p99] = &row.percentiles;
        Rates {
            before: row.before.as_ref().map(TallyPart::new),
            after: row.after.as_ref().map(TallyPart::new),
            faults_per_s: ChangePart::new(&row.faults),
            majors_per_s: ChangePart::new(&row.majors),
            given_up_per_s: ChangePart::new(&row.given_up),
            blocked_ns_per_s: ChangePart::new(&row.blocked),
            p50_ns: ChangePart::new(p50),
            p90_ns: ChangePart::new(p90),
            p99_ns: ChangePart::new(p99),
            max_ns: ChangePart::new(&row.max),
        }
    }
}

#[derive(Serialize)]
struct ChangePart {
    before: Option<f64>,
    after: Option<f64>,
    verdict: &'static str,
}

impl ChangePart {
    fn new(of: &Change) -> Self {
        ChangePart {
            before: of.before,
            after: of.after,
            verdict: match of.verdict {
                Verdict::Significant => "significant",
                Verdict::Chance => "chance",
                Verdict::TooLittle => "too_little",
                Verdict::Unknown => "unknown",
            },
        }
    }
}

#[derive(Serialize)]
struct CauseKey {
    cause: Option<&'static str>,
}

impl CauseKey {
    fn new(key: &SeriesKey) -> Option<Self> {
        match key {
            SeriesKey::Cause(cause) => Some(CauseKey {
                cause: cause.map(Cause::as_str),
            }),
            _ => None,
        }
    }
}

#[derive(Serialize)]
struct FileKey<'a> {
    path: Option<Escaped<'a>>,
    mapping: Option<&'static str>,
}

impl<'a> FileKey<'a> {
    fn new(key: &'a SeriesKey) -> Option<Self> {
        match key {
            SeriesKey::File(path, mapping) => Some(FileKey {
                path: escaped(path.as_ref()),
                mapping: mapping.map(MappingKind::as_str),
            }),
            _ => None,
        }
    }
}

#[derive(Serialize)]
struct ThreadKey<'a> {
    thread: Escaped<'a>,
}

impl<'a> ThreadKey<'a> {
    fn new(key: &'a SeriesKey) -> Option<Self> {
        match key {
            SeriesKey::Thread(name) => Some(ThreadKey {
                thread: Escaped(name.as_bytes()),
            }),
            _ => None,
        }
    }
}

#[derive(Serialize)]
struct StackKey<'a> {
    frames: Option<Vec<FrameKey<'a>>>,
}

impl<'a> StackKey<'a> {
    fn new(key: &'a SeriesKey) -> Option<Self> {
        match key {
            SeriesKey::Stack(names) => Some(StackKey {
                frames: names
                    .as_ref()
                    .map(|names| names.iter().map(FrameKey::new).collect()),
            }),
            _ => None,
        }
    }
}

#[derive(Serialize)]
struct FrameKey<'a> {
    function: Option<Escaped<'a>>,
    module: Option<Escaped<'a>>,
    module_offset: Option<u64>,
}

impl<'a> FrameKey<'a> {
    fn new(name: &'a FrameName) -> Self {
        let (function, module, module_offset) = match name {
            FrameName::Function(function) => (Some(function), None, None),
            FrameName::Module(module, offset) => (None, Some(module), Some(*offset)),
            FrameName::Unknown => (None, None, None),
        };
        FrameKey {
            function: escaped(function),
            module: escaped(module),
            module_offset,
        }
    }
}
