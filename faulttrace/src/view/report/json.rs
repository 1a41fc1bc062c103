//! A report for programs: one JSON object. The schema is docs/report-json.md; the tests compare it
//! with what is written here.

mod parts;
mod section;
#[cfg(test)]
pub(super) mod tests;

use serde::Serialize;

use crate::model::analysis::{Quality, Report};
use crate::view::escape::Escaped;
use crate::view::json::history::FillsPart;
use crate::view::json::io::{DeviceRow, UnseenPart};
use crate::view::json::one_line;
use crate::view::json::read_ahead::ReadAheadsPart;
use crate::view::json::record::StartLine;
use crate::view::json::stacks::StackCache;
use crate::view::json::summary::{Common, StuckPart, TallyPart, others};
use crate::view::report::advice::AdvisedPart;
use section::Section;

/// Writes the report as one object on one line.
///
/// # Errors
///
/// Nothing in a report can fail to be serialized; if it does all the same, nothing is written.
pub fn write_json(report: &Report, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let mut stacks = StackCache::default();
    one_line(&ReportLine::new(report, &mut stacks), out)
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "report")]
struct ReportLine<'a> {
    #[serde(flatten)]
    head: HeadPart<'a>,
    top: usize,
    stall_threads: Option<u32>,
    total: Section<'a>,
    processes: Vec<Section<'a>>,
    processes_others: Option<TallyPart>,
    devices: Option<Vec<DeviceRow<'a>>>,
    devices_unseen: Option<UnseenPart>,
    still_stuck: Vec<StuckPart<'a>>,
    #[serde(flatten)]
    common: Common,
    quality: QualityPart,
    cache_fills: Option<FillsPart<'a>>,
    read_ahead: Option<ReadAheadsPart<'a>>,
    advice: Option<AdvisedPart<'a>>,
}

impl<'a> ReportLine<'a> {
    fn new(report: &'a Report, stacks: &mut StackCache) -> Self {
        let options = &report.options;
        let summary = &report.summary;
        let total = Section::new(
            report,
            &report.total,
            &report.all,
            summary.remainder(),
            stacks,
        );
        let processes = report
            .processes()
            .map(|(total, part)| {
                let remainder = summary.remainder_of(total);
                Section::new(report, total, part, remainder, stacks)
            })
            .collect();
        let beyond = summary.other_processes();
        ReportLine {
            head: HeadPart::new(report),
            top: options.top,
            stall_threads: options.stall_threads,
            total,
            processes,
            processes_others: beyond.and_then(|beyond| others(&beyond.tally)),
            devices: summary
                .devices(&report.total)
                .as_ref()
                .map(|devices| DeviceRow::all(devices, options.top)),
            devices_unseen: summary.devices(&report.total).map(UnseenPart::new),
            still_stuck: summary
                .still_stuck()
                .into_iter()
                .map(StuckPart::new)
                .collect(),
            common: Common::new(summary, 0),
            quality: QualityPart::new(&report.quality),
            cache_fills: FillsPart::of(summary.fills()),
            read_ahead: ReadAheadsPart::of(summary.read_ahead()),
            advice: AdvisedPart::of(report),
        }
    }
}

/// What trace it is about, and which part of it.
#[derive(Serialize)]
pub(super) struct HeadPart<'a> {
    start: Option<StartLine<'a>>,
    filters: Option<Escaped<'a>>,
    begin_ns: Option<u64>,
    end_ns: Option<u64>,
    wall_ns: Option<u64>,
}

impl<'a> HeadPart<'a> {
    pub(super) fn new(report: &'a Report) -> Self {
        let filters = report.options.description.as_ref();
        HeadPart {
            start: report.start.as_deref().map(StartLine::new),
            filters: filters.map(|text| Escaped(text.as_bytes())),
            begin_ns: report.wall.map(|wall| wall.begin_ns),
            end_ns: report.wall.map(|wall| wall.end_ns),
            wall_ns: report.wall.map(|wall| wall.length_ns()),
        }
    }
}

#[derive(Serialize)]
struct QualityPart {
    out_of_order: u64,
    overlapping: u64,
    not_swept: u64,
}

impl QualityPart {
    fn new(quality: &Quality) -> Self {
        QualityPart {
            out_of_order: quality.out_of_order,
            overlapping: quality.overlapping,
            not_swept: quality.not_swept,
        }
    }
}
