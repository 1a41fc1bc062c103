//! `faulttrace export`: a trace as another tool's file.

use std::io::Write;
use std::ops::ControlFlow;

use super::out;
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
    let mut filter = Filter::new(&plan.select, trace.meta())?;
    let mut out = out::open(plan.output.as_deref(), plan.force, plan.to.is_binary())?;
    let mut export = export::start(plan.to);
    let progress = Progress::new("exporting", trace.faults_at_most());
    match write(&trace, &mut filter, &mut *export, &mut *out, progress) {
        Err(Failed::Export(Error::Write(error))) if out::is_broken_pipe(&error) => Ok(()),
        Err(Failed::Export(error)) => {
            if let Some(path) = &plan.output {
                // Half of a file is no file of that format.
                let _ = std::fs::remove_file(path);
            }
            Err(error.into())
        }
        Err(Failed::Trace(error)) => Err(error.into()),
        Ok(()) => Ok(()),
    }
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
    let mut one = |record: &Record, out: &mut dyn Write| {
        summary.add(record);
        export.record(record, out)
    };
    one(&Record::Start(trace.start().clone()), out)?;
    let mut stopped = None;
    let done = trace.records(Order::OldestFirst, |item| {
        progress.step();
        if !filter.takes(&item) {
            return ControlFlow::Continue(());
        }
        match one(&item.into_record(), out) {
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
        one(&loss, out)?;
    }
    export.finish(&summary, out)?;
    out.flush().map_err(Error::Write)?;
    Ok(())
}
