//! A report for people, in the look of the live summary.

mod files;
mod tables;
#[cfg(test)]
mod tests;
mod times;

use jiff::tz::TimeZone;

use crate::model::LossClass;
use crate::model::analysis::{Part, Report};
use crate::model::summary::ProcessSummary;
use crate::view::TextOptions;
use crate::view::escape::escaped;
use crate::view::report::advice;
use crate::view::text::device_totals;
use crate::view::text::entry::Entries;
use crate::view::text::go;
use crate::view::text::history;
use crate::view::text::line::{Page, Paint};
use crate::view::text::summary::{self, header};
use crate::view::text::tables::Labels;
use crate::view::text::words::{self, Clock, duration, plural};

/// Processes that were traced from the start and are named.
const MAX_TARGETS: usize = 5;
/// Longest command line shown, bytes.
const MAX_COMMAND: usize = 512;
/// Processes with a section of their own; the others have a line each, up to a bound.
const MAX_SECTIONS: usize = 5;

/// Writes the report with the times of the system's time zone.
pub fn write_text(report: &Report, options: TextOptions, out: &mut Vec<u8>) {
    in_zone(report, options, TimeZone::system(), out);
}

fn in_zone(report: &Report, options: TextOptions, zone: TimeZone, out: &mut Vec<u8>) {
    let entries = Entries::new(options, Clock(zone));
    let page = entries.page;
    begin(&entries, report, out);
    let several = !report.parts.is_empty();
    let labels = Labels::new(&report.summary, several || entries.multi_process);
    if report.total.tally.faults == 0 {
        summary::no_faults(page, &report.summary, out);
    }
    let only = report.summary.processes().next().filter(|_| !several);
    let who = only.map_or_else(|| "all processes".to_owned(), named);
    let lost = report.summary.lost_in(LossClass::Lost);
    let majors = report.summary.remainder().explain(lost);
    let whole = Section {
        entries: &entries,
        report,
        labels: &labels,
        total: &report.total,
        part: &report.all,
    };
    whole.totals(&who, &majors, out);
    summary::not_counted(page, &report.summary, out);
    if several {
        summary::per_process(page, &report.summary, out);
    }
    whole.details(out);
    if several {
        sections(&entries, report, &labels, lost, out);
    }
    history::fills(page, &report.summary, out);
    history::read_ahead(page, report.summary.read_ahead(), report.options.top, out);
    if let Some(found) = report.summary.devices(&report.total) {
        device_totals::devices(page, found, report.options.top, out);
    }
    summary::still_stuck(&entries, &report.summary, labels.shown(), out);
    summary::losses(page, &report.summary, out);
    quality(page, report, out);
    summary::transport(page, &report.summary, out);
    advice::section(page, report, out);
}

/// What was traced, and what of it is told.
pub(super) fn begin(entries: &Entries, report: &Report, out: &mut Vec<u8>) {
    let page = entries.page;
    if let Some(start) = &report.start {
        header(entries, start, MAX_TARGETS, out);
        if !start.command.is_empty() {
            let command = start.command.join(" ");
            let text = format!("traced with: {}", escaped(command.as_bytes(), MAX_COMMAND));
            page.wrap(0, &text, out);
        }
    } else {
        page.say("what was traced is unknown: the trace has no start", out);
    }
    let when = match report.wall {
        Some(wall) => format!(
            " from {} to {}, {}",
            entries.clock.time(wall.begin_ns),
            entries.clock.time(wall.end_ns),
            duration(wall.length_ns())
        ),
        None => ", of no time: no record has one".to_owned(),
    };
    let line = page.line().paint(Paint::Bold, "REPORT");
    line.add(&when).end(out);
    if let Some(filters) = &report.options.description {
        let filters = escaped(filters.as_bytes(), MAX_COMMAND);
        page.wrap(0, &format!("shown: {filters}"), out);
    }
}

/// The processes that cost most, each as if it were the only one.
fn sections(entries: &Entries, report: &Report, labels: &Labels, lost: u64, out: &mut Vec<u8>) {
    let mut all: Vec<_> = report.processes().collect();
    all.retain(|(total, _)| total.tally.faults > 0);
    all.sort_by_key(|(total, _)| {
        let cost = (total.tally.blocked_ns, total.tally.duration_ns);
        (std::cmp::Reverse(cost), total.pid)
    });
    let shown = report.options.top.min(MAX_SECTIONS);
    for (total, part) in all.iter().take(shown) {
        let page = entries.page;
        page.say("", out);
        page.line().paint(Paint::Bold, "PROCESS").end(out);
        let one = Section {
            entries,
            report,
            labels,
            total,
            part,
        };
        let remainder = report.summary.remainder_of(total);
        one.totals(&named(total), &remainder.explain(lost), out);
        one.details(out);
    }
    if let Some(more) = all.len().checked_sub(shown).filter(|more| *more > 0) {
        let text = match more {
            1 => "1 more process with faults is in the totals above only".to_owned(),
            more => format!("{more} more processes with faults are in the totals above only"),
        };
        entries.page.say("", out);
        entries.page.say(&text, out);
    }
}

fn named(process: &ProcessSummary) -> String {
    let name = process.info.as_ref().map(|info| &info.name);
    process
        .pid
        .map_or_else(|| "traced".to_owned(), |pid| words::with_id(name, pid))
}

/// Of one process, or of all.
struct Section<'a> {
    entries: &'a Entries,
    report: &'a Report,
    labels: &'a Labels,
    total: &'a ProcessSummary,
    part: &'a Part,
}

impl Section<'_> {
    fn totals(&self, who: &str, majors: &str, out: &mut Vec<u8>) {
        let page = self.entries.page;
        summary::totals(page, who, self.total, out);
        page.wrap(2, &summary::majors(self.total, majors), out);
        let still = self.report.summary.still_stuck();
        let of_it = |pid| self.total.pid.is_none_or(|own| own == pid);
        let unended = still.iter().any(|one| of_it(one.stuck.facts.pid));
        times::at_once(page, &self.part.concurrency, self.report.wall, unended, out);
    }

    fn details(&self, out: &mut Vec<u8>) {
        if self.total.tally.faults == 0 {
            self.go(out);
            return;
        }
        let top = self.report.options.top;
        if let Some(stalls) = &self.part.stalls {
            times::stalls(self.entries, stalls, self.report.wall, out);
        }
        self.go(out);
        tables::tables(self, top, out);
        let page = self.entries.page;
        history::pasts(page, &self.total.pasts, &self.report.summary, out);
        files::files(self.entries.page, self.total, self.part, top, out);
    }

    /// The Go program, if it is one.
    fn go(&self, out: &mut Vec<u8>) {
        let alone = self.report.parts.is_empty();
        let only = self.report.summary.processes().next().filter(|_| alone);
        let who = only.unwrap_or(self.total);
        if let Some(process) = &who.go {
            go::section(
                self.entries,
                process,
                "",
                self.report.ps(self.part, who),
                out,
            );
        }
    }
}

/// What the times of threads at once leave out.
fn quality(page: Page, report: &Report, out: &mut Vec<u8>) {
    let quality = &report.quality;
    for (count, what) in [
        (
            quality.out_of_order,
            "recorded too late to be put in order: times of threads at once lack a part of them",
        ),
        (
            quality.overlapping,
            "overlapping another of the same thread (ends are approximate): times of threads at \
             once have both as one",
        ),
        (
            quality.not_swept,
            "of threads beyond what could be remembered: not in the times of threads at once",
        ),
    ] {
        if count > 0 {
            page.wrap(0, &format!("{} {what}", plural(count, "fault")), out);
        }
    }
}
