//! The view on standard output, with the summary it will end in.

use std::time::Instant;

use super::output::Output;
use crate::cli::Plan;
use crate::model::summary::Summary;
use crate::model::{LossClass, Record};
use crate::view::{self, Show, View};

/// What the user sees, if anything.
pub(super) struct Screen {
    view: Option<Box<dyn View>>,
    summary: Summary,
}

impl Screen {
    pub(super) fn new(plan: &Plan, several: bool) -> Self {
        let show = Show {
            format: plan.format,
            color: plan.color,
            kernel_stacks: plan.kernel_stacks,
            several,
        };
        Self {
            view: (!plan.quiet).then(|| view::on_stdout(show)),
            summary: Summary::new(),
        }
    }

    pub(super) fn record(&mut self, record: &Record, output: &mut Output) {
        self.summary.add(record);
        if let Some(view) = &mut self.view {
            view.record(record, Instant::now(), &mut output.pending);
        }
    }

    pub(super) fn tick(&mut self, output: &mut Output) {
        if let Some(view) = &mut self.view {
            view.tick(Instant::now(), &mut output.pending);
        }
    }

    pub(super) fn finish(&mut self, output: &mut Output) {
        if let Some(view) = &mut self.view {
            view.finish(&self.summary, &mut output.pending);
        }
    }

    /// Whether anything was lost.
    pub(super) fn has_losses(&self) -> bool {
        self.summary.lost_in(LossClass::Lost) > 0
    }
}
