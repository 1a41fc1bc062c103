//! `faulttrace report` and `advise`: what a trace adds up to, and what would help.

use std::path::Path;

use super::fold::fold;
use super::out;
use super::progress::Progress;
use super::select::Filter;
use crate::cli::{Format, ReportPlan, Select};
use crate::model::Record;
use crate::model::analysis::{Analysis, Options, Report, Wall};
use crate::trace::Meta;
use crate::view::{self, TextOptions, report as views};

/// Analyses a trace and prints what was found.
pub fn report(plan: &ReportPlan) -> anyhow::Result<()> {
    let report = analyse(&plan.file, &plan.select, &options(plan))?;
    let mut text = Vec::new();
    match plan.tables.format {
        Format::Json => views::write_json(&report, &mut text)?,
        Format::Text => views::write_text(&report, text_options(plan.tables.color), &mut text),
    }
    out::print(&text)
}

/// Analyses a trace and prints what would help.
pub fn advise(plan: &ReportPlan) -> anyhow::Result<()> {
    let report = analyse(&plan.file, &plan.select, &options(plan))?;
    let mut text = Vec::new();
    match plan.tables.format {
        Format::Json => views::write_advice_json(&report, &mut text)?,
        Format::Text => {
            views::write_advice_text(&report, text_options(plan.tables.color), &mut text);
        }
    }
    out::print(&text)
}

fn options(plan: &ReportPlan) -> Options {
    Options {
        top: plan.tables.top,
        stall_threads: plan.stall_threads,
        ..Options::default()
    }
}

/// How text looks on standard output.
pub(super) fn text_options(color: crate::cli::Color) -> TextOptions {
    TextOptions {
        color: view::wants_color(color),
        width: view::terminal_width(),
        ..TextOptions::default()
    }
}

/// Folds what is wanted of a trace.
pub(super) fn analyse(path: &Path, select: &Select, options: &Options) -> anyhow::Result<Report> {
    let trace = super::open(path)?;
    let mut filter = Filter::new(select, &trace)?;
    let mut analysis = Analysis::new(Options {
        wall: wall(trace.meta(), filter.span()),
        start_ns: Some(trace.meta().start.time_ns),
        description: filter.description(),
        page_bytes: trace.meta().page_bytes,
        ..options.clone()
    });
    trace.sites(|_, site| {
        if filter.takes_site(site) {
            analysis.expect_site(site);
        }
    })?;
    let (meta, mut progress) = (
        trace.meta().clone(),
        Progress::new("reading", trace.faults_at_most()),
    );
    let folded = fold(trace, &mut filter, &mut progress, &mut analysis);
    progress.clear();
    folded?;
    for loss in filter.losses(&meta) {
        analysis.other(&loss);
    }
    analysis.other(&Record::Start(meta.start));
    Ok(analysis.finish())
}

/// From when to when there could be faults.
fn wall(meta: &Meta, (since_ns, until_ns): (Option<u64>, Option<u64>)) -> Option<Wall> {
    let begin_ns = meta.start.time_ns.max(since_ns.unwrap_or(0));
    let end_ns = meta.written_ns.min(until_ns.unwrap_or(u64::MAX));
    (begin_ns < end_ns).then_some(Wall { begin_ns, end_ns })
}
