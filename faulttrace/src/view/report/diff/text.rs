//! The comparison for people.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::Compared;
use super::beside;
use super::headline::{change, frame, headline, mark, rate, time};
use crate::model::LossClass;
use crate::model::analysis::{
    Change, DEVIATIONS, DiffRow, FrameName, MIN_FAULTS, MIN_WALL_NS, PsChange, Report, SLICES,
    SeriesKey,
};
use crate::model::summary::Tally;
use crate::view::TextOptions;
use crate::view::escape::escaped;
use crate::view::text::line::{Line, Page, Paint};
use crate::view::text::tables::cause_label;
use crate::view::text::words::{self, Clock, MAX_PATH, duration, percent, plural};

/// Pages of this width have all columns.
pub(super) const WIDE: usize = 120;
/// Columns that the numbers of a line take.
const NUMBERS: usize = 35;
/// Frames shown of a stack.
const FRAMES: usize = 5;
/// Longest word of what recorded a trace, bytes.
const MAX_WORD: usize = 128;

/// Writes the comparison with the times of the system's time zone.
pub fn write_diff_text(compared: &Compared<'_>, options: TextOptions, out: &mut Vec<u8>) {
    in_zone(compared, options, TimeZone::system(), out);
}

fn in_zone(compared: &Compared<'_>, options: TextOptions, zone: TimeZone, out: &mut Vec<u8>) {
    let page = Page {
        color: options.color,
        width: options.width,
    };
    let clock = Clock(zone);
    page.line().paint(Paint::Bold, "DIFF").end(out);
    let (before, after) = (compared.before, compared.after);
    side(page, &clock, "before", compared.before_name, before, out);
    side(page, &clock, "after", compared.after_name, after, out);
    page.say("", out);
    for line in headline(compared.diff) {
        page.wrap(0, &line, out);
    }
    totals(page, &compared.diff.all, out);
    if let Some(ps) = &compared.diff.ps {
        ps_lines(page, ps, out);
    }
    let diff = compared.diff;
    let tables = [
        ("by cause", &diff.causes),
        ("by file", &diff.files),
        ("by stack", &diff.stacks),
        ("by thread name", &diff.threads),
    ];
    for ((title, rows), others) in tables.into_iter().zip(&diff.others) {
        Table {
            page,
            wide: page.width.is_none_or(|width| width >= WIDE),
            compared,
        }
        .write(title, rows, others, out);
    }
    beside::write(page, diff, compared.top, out);
    page.say("", out);
    page.wrap(0, &legend(compared.diff.ps.is_some()), out);
}

/// What is meant by the marks.
fn legend(has_ps: bool) -> String {
    let (ps, all) = match has_ps {
        true => (
            ", and for a time without a P that is twice as long or more by how often it was so",
            "all",
        ),
        false => ("", "both"),
    };
    format!(
        "* more than chance: by the ranks of {SLICES} time slices of each trace (Mann-Whitney), and \
         for percentiles by order statistics{ps}, {all} at {DEVIATIONS} standard deviations: less than \
         once in 1000 times, if slices and faults were independent, which those close to each other \
         are not. ? too little to tell: fewer than {MIN_FAULTS} faults in both together, a trace of \
         less than {}, or too few faults for that percentile.",
        duration(MIN_WALL_NS)
    )
}

/// What one of the traces is.
fn side(page: Page, clock: &Clock, what: &str, name: &[u8], report: &Report, out: &mut Vec<u8>) {
    let word = |text: &str| escaped(text.as_bytes(), MAX_WORD);
    let mut parts = Vec::new();
    match report.wall {
        Some(wall) => {
            let day = clock.day(wall.begin_ns).unwrap_or_default();
            parts.push(format!("{} ({day})", clock.time(wall.begin_ns)));
            parts.push(duration(wall.length_ns()));
        }
        None => parts.push("of no time: no record has one".to_owned()),
    }
    parts.push(plural(report.total.tally.faults, "fault"));
    if let Some(threads) = report.all.concurrency.threads {
        parts.push(format!("of {}", plural(threads, "thread")));
    }
    let from = escaped(name, MAX_PATH);
    page.wrap(2, &format!("{what:>6}: {from}: {}", parts.join(", ")), out);
    if let Some(start) = &report.start {
        let by = format!(
            "traced by faulttrace {} on {}, Linux {}",
            word(&start.version),
            word(&start.host),
            word(&start.kernel)
        );
        page.wrap(10, &by, out);
    }
    if let Some(filters) = &report.options.description {
        page.wrap(
            10,
            &format!("shown: {}", escaped(filters.as_bytes(), 512)),
            out,
        );
    }
    for (class, text) in [
        (LossClass::Lost, "lost"),
        (LossClass::Filtered, "filtered out"),
    ] {
        let count = report.summary.lost_in(class);
        if count > 0 {
            let text = format!("{text}: {count}; not in the numbers below");
            page.wrap(10, &text, out);
        }
    }
}

/// How a number is shown.
pub(super) type Show = fn(Option<f64>) -> String;

/// One number, before and after.
pub(super) fn changed(page: Page, of: &Change, show: Show, text: &str, out: &mut Vec<u8>) {
    let (before, after) = (show(of.before), show(of.after));
    let line = format!("{before:>10} {after:>10} {:>9} ", change(of));
    page.line()
        .add(&line)
        .paint(Paint::Bold, mark(of.verdict))
        .add(&format!("  {text}"))
        .end(out);
}

/// The Ps of Go programs.
fn ps_lines(page: Page, ps: &PsChange, out: &mut Vec<u8>) {
    changed(page, &ps.none_left, time, "Go: no P left, per second", out);
    changed(page, &ps.stalls, rate, "stalls without a P per second", out);
    changed(page, &ps.longest, time, "the longest of them", out);
    changed(page, &ps.lost, time, "time of Ps lost per second", out);
}

/// All faults together.
fn totals(page: Page, all: &DiffRow, out: &mut Vec<u8>) {
    page.say("", out);
    let columns = format!("{:>10} {:>10} {:>9}    ", "before", "after", "change");
    page.line()
        .paint(Paint::Dim, &columns)
        .paint(Paint::Bold, "all faults")
        .end(out);
    let line = |of, show, text, out: &mut Vec<u8>| changed(page, of, show, text, out);
    line(&all.faults, rate as Show, "faults per second", out);
    majors(page, all, out);
    line(&all.blocked, time, "blocked per second", out);
    let [p50, p90, p99] = &all.percentiles;
    line(p50, time, "duration of a fault: p50", out);
    line(p90, time, "p90", out);
    line(p99, time, "p99", out);
    line(&all.max, time, "max", out);
}

/// The major ones, as far as they can be compared.
fn majors(page: Page, all: &DiffRow, out: &mut Vec<u8>) {
    const TEXT: &str = "major faults per second";
    if all.has_majors() {
        changed(page, &all.majors, rate, TEXT, out);
        return;
    }
    let (before, after) = (rate(all.majors.before), rate(all.majors.after));
    let line = format!(
        "{before:>10} {after:>10} {:>9}    {TEXT}: not to be compared",
        ""
    );
    page.say(&line, out);
    let text = "given up per second, and not counted";
    changed(page, &all.given_up, rate, text, out);
    let share = |tally: Option<Tally>| {
        tally.map_or_else(
            || "?".to_owned(),
            |tally| match tally.faults {
                0 => "no faults".to_owned(),
                faults => format!("{} of the faults", percent(tally.given_up, faults)),
            },
        )
    };
    let why = format!(
        "({} before, {} after: for a signal, as Go's, or because they failed; the kernel \
         counts them neither as major nor as minor)",
        share(all.before),
        share(all.after)
    );
    let is_narrow = page.width.is_some_and(|width| width < 2 * NUMBERS);
    page.wrap(if is_narrow { 2 } else { NUMBERS }, &why, out);
}

/// How tables look.
struct Table<'a> {
    page: Page,
    wide: bool,
    compared: &'a Compared<'a>,
}

impl Table<'_> {
    fn write(&self, title: &str, rows: &[DiffRow], others: &(Tally, Tally), out: &mut Vec<u8>) {
        if rows.is_empty() {
            return;
        }
        self.head(title, out);
        let top = self.compared.top;
        for row in rows.iter().take(top) {
            let (line, column) = self.numbers(row);
            self.label(&row.key, line, column, out);
        }
        if let Some(hidden) = rows.len().checked_sub(top).filter(|hidden| *hidden > 0) {
            self.page
                .say(&format!("and {hidden} more, that changed less"), out);
        }
        let (before, after) = (others.0.faults, others.1.faults);
        if before > 0 || after > 0 {
            let text = format!(
                "and others, beyond what could be remembered: {} before, {} after",
                plural(before, "fault"),
                plural(after, "fault")
            );
            self.page.wrap(0, &text, out);
        }
    }

    fn head(&self, title: &str, out: &mut Vec<u8>) {
        self.page.say("", out);
        let mut groups = String::new();
        let mut columns = format!("{:>10} {:>10} {:>9}  ", "before", "after", "change");
        if self.wide {
            groups = format!(
                "{:>31}  {:>19}    {:>19}",
                "blocked per second", "faults per s", "p99"
            );
            columns += &format!(
                " {:>9} {:>9}   {:>9} {:>9}  ",
                "before", "after", "before", "after"
            );
        } else {
            groups += &format!("{:>31}", "blocked per second");
        }
        self.page.line().paint(Paint::Dim, &groups).end(out);
        self.page
            .line()
            .paint(Paint::Dim, &format!("{columns}  "))
            .paint(Paint::Bold, title)
            .end(out);
    }

    /// The numbers of a row, and how many columns they take.
    fn numbers(&self, row: &DiffRow) -> (Line, usize) {
        let blocked = &row.blocked;
        let (before, after) = (time(blocked.before), time(blocked.after));
        let mut text = format!(
            "{before:>10} {after:>10} {:>9} {}",
            change(blocked),
            mark(blocked.verdict)
        );
        if self.wide {
            let p99 = &row.percentiles[2];
            // Without faults there is none; with faults it is not known.
            let shown = |ns: Option<f64>, tally: Option<Tally>| match (ns, tally) {
                (None, Some(tally)) if tally.faults == 0 => String::new(),
                (ns, _) => time(ns),
            };
            text += &format!(
                " {:>9} {:>9} {} {:>9} {:>9} {}",
                rate(row.faults.before),
                rate(row.faults.after),
                mark(row.faults.verdict),
                shown(p99.before, row.before),
                shown(p99.after, row.after),
                mark(p99.verdict)
            );
        }
        text += "  ";
        let column = crate::view::escape::width(&text);
        (self.page.line().add(&text), column)
    }

    fn label(&self, key: &SeriesKey, line: Line, column: usize, out: &mut Vec<u8>) {
        match key {
            SeriesKey::All => line.add("all faults").end(out),
            SeriesKey::Cause(cause) => cause_label(line, *cause).end(out),
            SeriesKey::File(path, mapping) => {
                let at = words::file(*mapping, path.as_ref(), false);
                line.path(&at.path, &at.suffix).end(out);
            }
            SeriesKey::Thread(name) => line.add(&words::name(name)).end(out),
            SeriesKey::Stack(names) => self.stack(names.as_ref(), line, column, out),
        }
    }

    fn stack(
        &self,
        names: Option<&Arc<[FrameName]>>,
        line: Line,
        column: usize,
        out: &mut Vec<u8>,
    ) {
        let mut line = Some(line);
        let mut next = || {
            line.take()
                .unwrap_or_else(|| self.page.line().add(&" ".repeat(column)))
        };
        let Some(names) = names else {
            next().add("stack unknown").end(out);
            return;
        };
        for name in names.iter().take(FRAMES) {
            next().add(&frame(name)).end(out);
        }
        if names.len() > FRAMES {
            next().add("…").end(out);
        } else if names.is_empty() {
            next().add("stack without frames").end(out);
        }
    }
}
