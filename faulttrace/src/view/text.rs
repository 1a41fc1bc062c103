//! Text for people: one entry a fault, folded when there are too many to read, and a summary.
//!
//! Every line begins with a word, a time or a space of ours, never with what the target chose.

mod coalesce;
pub(in crate::view) mod device_totals;
pub(in crate::view) mod devices;
pub(in crate::view) mod entry;
pub(in crate::view) mod go;
pub(in crate::view) mod history;
pub(in crate::view) mod line;
mod notices;
mod quota;
pub(crate) mod reasons;
pub(in crate::view) mod stack;
pub(in crate::view) mod stalls;
pub(in crate::view) mod summary;
pub(in crate::view) mod tables;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;

use super::View;
use crate::model::summary::Summary;
use crate::model::{End, Facts, Fault, Record, Start, Stuck};
use coalesce::Folded;
use entry::Entries;
use notices::{Losses, Processes};
use stalls::Told;
use words::Clock;

/// How to show.
#[derive(Debug, Clone, Copy, Default)]
pub struct TextOptions {
    /// With colour.
    pub color: bool,
    /// Columns of the terminal; `None`: not a terminal, no limit.
    pub width: Option<usize>,
    /// With kernel stacks.
    pub kernel_stacks: bool,
    /// Several processes are or may be traced, so entries name theirs.
    pub multi_process: bool,
}

/// How long folded faults are held back.
const WINDOW: Duration = Duration::from_secs(1);
/// Faults shown in full in one window.
const CALM: u32 = 50;
/// The same after a window in which that was not enough: more would drown what is folded.
const FLOOD: u32 = 5;
/// Stuck faults remembered, to say so at their end.
const MAX_STUCK: usize = 10_000;
/// Traced processes named in the header.
const MAX_TARGETS: usize = 5;

/// Text of ours in lines of so many columns, all but for `indent` of them.
pub(crate) fn wrapped(text: &str, indent: usize, columns: Option<usize>) -> String {
    let page = line::Page {
        color: false,
        width: columns,
    };
    let mut out = Vec::new();
    page.wrap(indent, text, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Text on a terminal, in a pipe or a file.
#[derive(Debug)]
pub struct Text {
    entries: Entries,
    folded: Folded,
    losses: Losses,
    processes: Processes,
    stalls: Told,
    go: go::Told,
    stuck: HashMap<(u32, u32), Reported>,
    /// The second under way, from the first record that belongs to it.
    window: Option<Instant>,
    /// Faults of this window, shown or folded.
    faults: u32,
    budget: u32,
}

/// A fault that has been reported as stuck.
#[derive(Debug, Clone, Copy)]
struct Reported {
    reports: u32,
    /// Unix time of the last report, ns, if the fault's begin is known.
    at_ns: Option<u64>,
}

impl Text {
    /// With the times of the system's time zone.
    pub fn new(options: TextOptions) -> Self {
        Text::with_zone(options, TimeZone::system())
    }

    fn with_zone(options: TextOptions, zone: TimeZone) -> Self {
        Text {
            entries: Entries::new(options, Clock(zone)),
            folded: Folded::default(),
            losses: Losses::default(),
            processes: Processes::default(),
            stalls: Told::default(),
            go: go::Told::default(),
            stuck: HashMap::new(),
            window: None,
            faults: 0,
            budget: CALM,
        }
    }

    fn start(&mut self, start: &Start, out: &mut Vec<u8>) {
        for target in &start.targets {
            self.entries.name(target.pid, &target.name);
        }
        summary::header(&self.entries, start, MAX_TARGETS, out);
    }

    fn fault(&mut self, fault: &Arc<Fault>, out: &mut Vec<u8>) {
        let reports = self.reports_of(&fault.facts);
        if reports > 0 || fault.end == End::Died {
            self.entries.fault(fault, reports, out);
            return;
        }
        self.faults = self.faults.saturating_add(1);
        if self.faults <= self.budget {
            self.entries.fault(fault, 0, out);
        } else {
            self.folded.add(fault);
        }
    }

    fn stuck(&mut self, stuck: &Stuck, out: &mut Vec<u8>) {
        let facts = &stuck.facts;
        let key = (facts.pid, facts.tid);
        if self.stuck.len() < MAX_STUCK || self.stuck.contains_key(&key) {
            let reported = Reported {
                reports: stuck.report,
                at_ns: facts
                    .begin_ns
                    .map(|begin| begin.saturating_add(stuck.elapsed_ns)),
            };
            self.stuck.insert(key, reported);
        }
        self.entries.stuck(stuck, out);
    }

    /// How often this fault, which is over now, has been reported as stuck.
    fn reports_of(&mut self, facts: &Facts) -> u32 {
        // Nearly always nothing is stuck.
        if self.stuck.is_empty() {
            return 0;
        }
        let Some(reported) = self.stuck.remove(&(facts.pid, facts.tid)) else {
            return 0;
        };
        match (facts.begin_ns, reported.at_ns) {
            // It began after that report: the stuck one's end was lost.
            (Some(begin), Some(at)) if begin > at => 0,
            _ => reported.reports,
        }
    }

    /// Ends the window if it is time.
    fn turn(&mut self, now: Instant, out: &mut Vec<u8>) {
        match self.window {
            Some(since) if now.saturating_duration_since(since) >= WINDOW => {
                self.flush(out);
                self.budget = if self.faults > CALM { FLOOD } else { CALM };
                self.faults = 0;
                self.window = None;
            }
            _ => {}
        }
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        let (groups, rest) = self.folded.take();
        for group in &groups {
            self.entries.group(group, out);
        }
        self.entries.rest(&rest, out);
        self.processes.flush(self.entries.page, out);
        self.stalls.flush(self.entries.page, out);
        self.go.flush(self.entries.page, out);
    }
}

impl View for Text {
    fn record(&mut self, record: &Record, now: Instant, out: &mut Vec<u8>) {
        self.turn(now, out);
        if self.window.is_none() {
            self.window = Some(now);
        }
        match record {
            Record::Start(start) => self.start(start, out),
            Record::Fault(fault) => self.fault(fault, out),
            Record::Stuck(stuck) => self.stuck(stuck, out),
            Record::Lost(lost) => {
                self.losses.add(lost);
                self.losses.say(self.entries.page, now, out);
            }
            Record::Process(info) => self.processes.seen(info, &mut self.entries, out),
            Record::ProcessEnd(end) => {
                self.stuck.retain(|(pid, _), _| *pid != end.pid);
                self.processes.ended(end, &self.entries, out);
            }
            Record::Stall(stall) => self.stalls.show(stall, &self.entries, out),
            Record::Go(go) => self.go.program(go, &self.entries, out),
            Record::PStall(stall) => self.go.stall(stall, &self.entries, out),
            // They belong to the summary, or beside what they explain.
            Record::Accounting(_)
            | Record::Transport(_)
            | Record::Sample(_)
            | Record::CacheFill(_)
            | Record::ReadAhead(_) => {}
        }
    }

    fn pass_over(&mut self, record: &Record) -> bool {
        // What is said later of a process is to have the name that it has then.
        if let Record::Process(info) = record {
            self.entries.name(info.pid, &info.name);
        }
        !matches!(
            record,
            Record::Accounting(_)
                | Record::Transport(_)
                | Record::Sample(_)
                | Record::CacheFill(_)
                | Record::ReadAhead(_)
        )
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.turn(now, out);
        self.losses.say(self.entries.page, now, out);
    }

    fn finish(&mut self, summary: &Summary, out: &mut Vec<u8>) {
        self.flush(out);
        self.losses.flush(self.entries.page, out);
        summary::show(&self.entries, summary, out);
    }
}
