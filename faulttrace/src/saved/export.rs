//! `faulttrace export`: a trace as another tool's file.

use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;

use super::out::{Out, is_broken_pipe};
use super::progress::Progress;
use super::select::Filter;
use crate::cli::ExportPlan;
use crate::export::{self, Error, Export};
use crate::model::Record;
use crate::model::summary::Summary;
use crate::trace::{Order, Trace};

/// Exports a trace.
pub fn export(plan: &ExportPlan) -> anyhow::Result<()> {
    let trace = super::open(&plan.file)?;
    let mut filter = Filter::new(&plan.select, &trace)?;
    if let Some(out) = &plan.output
        && same_file(out, &plan.file)
    {
        anyhow::bail!("--output names the trace itself: choose another name");
    }
    let mut out = Out::open(plan.output.as_deref(), plan.force, plan.to.is_binary())?;
    let mut export = export::start(plan.to);
    let progress = Progress::new("exporting", trace.faults_at_most());
    match write(&trace, &mut filter, &mut *export, &mut out, progress) {
        Ok(()) => out.finish(),
        Err(Failed::Export(Error::Write(error))) if is_broken_pipe(&error) => Ok(()),
        Err(Failed::Export(error @ Error::Write(_))) => Err(error).with_context(|| out.name()),
        Err(Failed::Export(error)) => Err(error.into()),
        Err(Failed::Trace(error)) => Err(error.into()),
    }
}

/// Whether both lead to one file.
fn same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    identity(one).is_some() && identity(one) == identity(other)
}

enum Failed {
    Trace(crate::trace::Error),
    Export(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed::Export(error)
    }
}

fn write(
    trace: &Trace,
    filter: &mut Filter<'_>,
    export: &mut dyn Export,
    out: &mut dyn Write,
    mut progress: Progress,
) -> Result<(), Failed> {
    let mut summary = Summary::new();
    let mut one = |record: &Record, summary: &mut Summary, out: &mut dyn Write| {
        summary.add(record);
        export.record(record, out)?;
        told(summary, export, out)
    };
    one(&Record::Start(trace.start().clone()), &mut summary, out)?;
    let mut stopped = None;
    let done = trace.records(Order::OldestFirst, |item| {
        progress.step();
        if !filter.takes(&item) {
            if let Some(thread) = item.frees() {
                summary.came_free(thread.tid);
            }
            return ControlFlow::Continue(());
        }
        match one(&item.into_record(), &mut summary, out) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                stopped = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    progress.clear();
    if let Some(error) = stopped {
        return Err(error.into());
    }
    done.map_err(Failed::Trace)?;
    for loss in filter.losses(trace.meta()) {
        one(&loss, &mut summary, out)?;
    }
    summary.end_stalls();
    told(&mut summary, export, out)?;
    export.finish(&summary, out)?;
    Ok(())
}

/// Hands over the stalls that are known by now.
fn told(summary: &mut Summary, export: &mut dyn Export, out: &mut dyn Write) -> Result<(), Error> {
    let stalls = summary.take_stalls();
    stalls
        .iter()
        .try_for_each(|stall| export.record(stall, out))
}
