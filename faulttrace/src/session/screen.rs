//! The view on standard output, with the summary it will end in.

use std::borrow::Cow;
use std::collections::BTreeMap;
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
    unshown: Unshown,
}

/// What was not shown, and of which nobody has been told.
#[derive(Default)]
struct Unshown {
    faults: u64,
    /// Other records that the view would have shown, reports of stuck threads among them.
    records: u64,
    /// Losses, which are told later.
    losses: BTreeMap<(LossClass, Cow<'static, str>), u64>,
}

/// Reasons of the `lost` records for faults, and for other records, that were not shown.
const NOT_SHOWN: &str = "output_overrun";
const RECORDS_NOT_SHOWN: &str = "output_records_overrun";

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
            unshown: Unshown::default(),
        }
    }

    /// Takes one record. `show`: standard output is being read. If it is not, faults are not shown, and
    /// nothing else is either once much waits for the reader.
    pub(super) fn record(&mut self, record: &Record, show: bool, output: &mut Output) {
        self.summary.add(record);
        let Some(view) = &mut self.view else { return };
        match record {
            Record::Fault(_) if !show => {
                self.unshown.faults += 1;
                return;
            }
            Record::Stuck(_) if !show => {
                self.unshown.records += 1;
                return;
            }
            _ if !show && output.is_full() => self.unshown.add(record, view.as_mut()),
            _ => view.record(record, Instant::now(), &mut output.pending),
        }
        self.show_stalls(show, output);
        if show {
            self.tell_unshown(output);
        }
    }

    /// Says what was not shown.
    fn tell_unshown(&mut self, output: &mut Output) {
        let Some(view) = &mut self.view else { return };
        let mut show = |class, reason, count| {
            let lost = Record::Lost(Lost {
                class,
                reason,
                count,
            });
            view.record(&lost, Instant::now(), &mut output.pending);
            lost
        };
        let Unshown {
            faults,
            records,
            losses,
        } = std::mem::take(&mut self.unshown);
        // The summary has them.
        for ((class, reason), count) in losses {
            show(class, reason, count);
        }
        for (reason, count) in [(NOT_SHOWN, faults), (RECORDS_NOT_SHOWN, records)] {
            if count > 0 {
                let lost = show(LossClass::Lost, reason.into(), count);
                self.summary.add(&lost);
            }
        }
    }

    pub(super) fn tick(&mut self, output: &mut Output) {
        if let Some(view) = self.view.as_mut().filter(|_| !output.is_full()) {
            view.tick(Instant::now(), &mut output.pending);
        }
    }

    /// Shows the stalls that are known by now.
    fn show_stalls(&mut self, show: bool, output: &mut Output) {
        let Some(view) = &mut self.view else { return };
        for stall in self.summary.take_stalls() {
            if !show && output.is_full() {
                self.unshown.add(&stall, view.as_mut());
            } else {
                view.record(&stall, Instant::now(), &mut output.pending);
            }
        }
    }

    pub(super) fn finish(&mut self, output: &mut Output) {
        self.summary.end_stalls();
        self.show_stalls(true, output);
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

impl Unshown {
    fn add(&mut self, record: &Record, view: &mut dyn View) {
        let shows = view.pass_over(record);
        if let Record::Lost(lost) = record {
            let key = (lost.class, lost.reason.clone());
            let count = self.losses.entry(key).or_default();
            *count = count.saturating_add(lost.count);
        } else {
            self.records += u64::from(shows);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::summary::samples;
    use crate::view::Json;

    #[test]
    fn what_nobody_reads_is_bounded_and_what_was_left_out_is_told() {
        let mut screen = Screen {
            view: Some(Box::new(Json::new())),
            summary: Summary::new(),
            unshown: Unshown::default(),
        };
        let mut output = Output::unread();
        let mut shown = 0_u64;
        while !output.is_full() {
            screen.record(&samples::process_end(), false, &mut output);
            output.divide();
            shown += 1;
        }
        let lost = || samples::lost(LossClass::Filtered, "x", 2);
        for record in [
            Record::Stuck(Arc::new(samples::stuck())),
            samples::process_end(),
            lost(),
            samples::process_end(),
            lost(),
        ] {
            screen.record(&record, false, &mut output);
        }
        let lines = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().count() as u64;
        assert_eq!(lines(&output.take_rendered()), shown);
        screen.record(&samples::process_end(), true, &mut output);
        let told = String::from_utf8(output.take_rendered()).expect("JSON");
        let told: Vec<serde_json::Value> = told
            .lines()
            .map(|line| serde_json::from_str(line).expect("a record"))
            .collect();
        let reasons: Vec<_> = told
            .iter()
            .map(|line| (line["reason"].as_str(), line["count"].as_u64()))
            .collect();
        let expected = [
            (None, None),
            (Some("x"), Some(4)),
            (Some(RECORDS_NOT_SHOWN), Some(3)),
        ];
        assert_eq!(reasons, expected);
        assert_eq!(screen.summary.lost_in(LossClass::Filtered), 4);
        assert_eq!(screen.summary.lost_in(LossClass::Lost), 3);
    }
}
