//! What a trace is of: which host and processes, from when to when.

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::summary::Summary;
use crate::model::{LossClass, Record, Start};
use crate::view::escape::escaped;
use crate::view::{reasons, words};

/// Longest host name or version shown, bytes.
const MAX_WORD: usize = 256;

/// Gathered from the records.
#[derive(Debug, Default)]
pub(super) struct About {
    start: Option<Arc<Start>>,
    first_ns: Option<u64>,
    last_ns: Option<u64>,
}

impl About {
    /// Takes the times, and who traced, out of a record.
    pub(super) fn see(&mut self, record: &Record) {
        match record {
            Record::Start(start) => {
                self.span(start.time_ns, start.time_ns);
                self.start = Some(Arc::clone(start));
            }
            Record::Fault(fault) => {
                let begin_ns = fault.end_ns.saturating_sub(fault.duration_ns);
                self.span(begin_ns, fault.end_ns);
            }
            Record::Stuck(stuck) => {
                let begin_ns = stuck.facts.begin_ns.or(self.begin_ns());
                if let Some(begin_ns) = begin_ns {
                    self.span(begin_ns, begin_ns.saturating_add(stuck.elapsed_ns));
                }
            }
            Record::ProcessEnd(end) => self.span(end.time_ns, end.time_ns),
            Record::Sample(sample) => self.span(sample.time_ns, sample.time_ns),
            Record::CacheFill(fill) => self.span(fill.end_ns, fill.end_ns),
            Record::ReadAhead(ahead) => self.span(ahead.end_ns, ahead.end_ns),
            Record::Go(_)
            | Record::Lost(_)
            | Record::Process(_)
            | Record::Accounting(_)
            | Record::Transport(_)
            | Record::Stall(_)
            | Record::PStall(_) => {}
        }
    }

    fn span(&mut self, first_ns: u64, last_ns: u64) {
        self.first_ns = Some(self.first_ns.map_or(first_ns, |ns| ns.min(first_ns)));
        self.last_ns = Some(self.last_ns.map_or(last_ns, |ns| ns.max(last_ns)));
    }

    /// Unix time at which tracing began, ns; the first time seen if that was not told.
    pub(super) fn begin_ns(&self) -> Option<u64> {
        self.start
            .as_ref()
            .map(|start| start.time_ns)
            .or(self.first_ns)
    }

    /// Unix time of the last thing seen, ns.
    pub(super) fn end_ns(&self) -> Option<u64> {
        self.last_ns
    }

    /// `faulttrace 0.1.0 on db1, Linux 6.18.0`.
    pub(super) fn origin(&self) -> String {
        match &self.start {
            Some(start) => format!(
                "faulttrace {} on {}, Linux {}",
                escaped(start.version.as_bytes(), MAX_WORD),
                escaped(start.host.as_bytes(), MAX_WORD),
                escaped(start.kernel.as_bytes(), MAX_WORD),
            ),
            None => "faulttrace, host unknown".to_owned(),
        }
    }

    /// `server[4700] and 2 other processes on db1, 2025-07-11T14:03:07.123Z, 5.00 s`.
    pub(super) fn heading(&self, summary: &Summary) -> String {
        let mut text = processes(summary);
        if let Some(start) = &self.start {
            text.push_str(" on ");
            text.push_str(&escaped(start.host.as_bytes(), MAX_WORD));
        }
        let Some(begin_ns) = self.begin_ns() else {
            return text;
        };
        match Timestamp::from_nanosecond(i128::from(begin_ns)) {
            Ok(at) => text.push_str(&format!(", {at:.3}")),
            Err(_) => text.push_str(", time unknown"),
        }
        if let Some(end_ns) = self.end_ns() {
            text.push_str(", ");
            text.push_str(&words::duration(end_ns.saturating_sub(begin_ns)));
        }
        text
    }
}

/// The process with the most time blocked, and how many there were besides.
fn processes(summary: &Summary) -> String {
    let most = summary
        .processes()
        .max_by_key(|process| (process.tally.blocked_ns, process.tally.faults));
    let Some((most, pid)) = most.and_then(|process| Some((process, process.pid?))) else {
        return "no process".to_owned();
    };
    let name = most.info.as_ref().map(|info| &info.name);
    let text = words::with_id(name, pid);
    let beyond = summary.other_processes().is_some();
    match (summary.processes().len() - 1, beyond) {
        (0, false) => text,
        (1, false) => format!("{text} and another process"),
        (others, false) => format!("{text} and {others} other processes"),
        (others, true) => format!("{text} and more than {others} other processes"),
    }
}

/// What was not recorded, or not in full, one sentence a reason.
pub(super) fn losses(summary: &Summary) -> Vec<String> {
    summary
        .lost()
        .map(|(class, reason, count)| {
            let meaning = reasons::meaning(reason).map(|text| format!(": {text}"));
            format!(
                "{}: {count} {}{}",
                class_in_words(class),
                escaped(reason.as_bytes(), MAX_WORD),
                meaning.unwrap_or_default()
            )
        })
        .collect()
}

fn class_in_words(class: LossClass) -> &'static str {
    match class {
        LossClass::Lost => "lost, so not in here",
        LossClass::Filtered => "filtered, so not in here",
        LossClass::Approximate => "approximate",
        LossClass::Unreadable => "unreadable in part",
    }
}
