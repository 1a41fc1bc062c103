//! The view on standard output, with the summary it will end in.

use std::time::Instant;

use super::output::Output;
use crate::cli::Plan;
use crate::model::summary::Summary;
use crate::model::{LossClass, Lost, Record};
use crate::view::{self, Show, View};

/// What the user sees, if anything.
pub(super) struct Screen {
    view: Option<Box<dyn View>>,
    summary: Summary,
    /// Faults that were not shown, and of which nobody has been told.
    unshown: u64,
}

/// Reason of the `lost` record for faults that were saved and not shown.
const NOT_SHOWN: &str = "output_overrun";

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
            unshown: 0,
        }
    }

    /// Takes one record. `show`: standard output is being read.
    pub(super) fn record(&mut self, record: &Record, show: bool, output: &mut Output) {
        self.summary.add(record);
        let Some(view) = &mut self.view else { return };
        let is_of_fault = matches!(record, Record::Fault(_) | Record::Stuck(_));
        if !show && is_of_fault {
            self.unshown += u64::from(matches!(record, Record::Fault(_)));
            return;
        }
        view.record(record, Instant::now(), &mut output.pending);
        self.show_stalls(output);
        if show {
            self.tell_unshown(output);
        }
    }

    /// Says how many faults were not shown.
    fn tell_unshown(&mut self, output: &mut Output) {
        let count = std::mem::take(&mut self.unshown);
        let Some(view) = self.view.as_mut().filter(|_| count > 0) else {
            return;
        };
        let lost = Record::Lost(Lost {
            class: LossClass::Lost,
            reason: NOT_SHOWN.into(),
            count,
        });
        self.summary.add(&lost);
        view.record(&lost, Instant::now(), &mut output.pending);
    }

    pub(super) fn tick(&mut self, output: &mut Output) {
        if let Some(view) = &mut self.view {
            view.tick(Instant::now(), &mut output.pending);
        }
    }

    /// Shows the stalls that are known by now.
    fn show_stalls(&mut self, output: &mut Output) {
        let Some(view) = &mut self.view else { return };
        for stall in self.summary.take_stalls() {
            view.record(&stall, Instant::now(), &mut output.pending);
        }
    }

    pub(super) fn finish(&mut self, output: &mut Output) {
        self.summary.end_stalls();
        self.show_stalls(output);
        self.tell_unshown(output);
        if let Some(view) = &mut self.view {
            view.finish(&self.summary, &mut output.pending);
        }
    }

    /// Whether anything was lost.
    pub(super) fn has_losses(&self) -> bool {
        self.summary.lost_in(LossClass::Lost) > 0
    }
}
