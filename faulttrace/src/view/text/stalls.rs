//! Stalls: a line when one is over or goes on, and the longest in the summary.

use super::entry::Entries;
use super::line::{Line, Page, Paint};
use super::quota::Quota;
use super::words::{self, duration, plural, three_digits};
use crate::model::stall::{Meanwhile, Stall, StallFile, StallTotals};
use crate::model::summary::Summary;

/// Stalls shown of a second.
const MAX_LINES: u32 = 10;
/// Stalls of a process in the summary.
const MAX_LONGEST: usize = 5;
/// Processes in the summary.
const MAX_PROCESSES: usize = 5;

/// The stalls of the stream.
#[derive(Debug, Default)]
pub(super) struct Told {
    lines: Quota,
}

impl Told {
    pub(super) fn show(&mut self, stall: &Stall, entries: &Entries, out: &mut Vec<u8>) {
        // P-STALL has said it, and more.
        if stall.is_p_stall || !self.lines.takes(MAX_LINES) {
            return;
        }
        let so_far = if stall.over { "" } else { " so far" };
        let length = format!("{}{so_far}", duration(stall.duration_ns));
        let mut who = threads(stall);
        if entries.multi_process {
            let name = entries.name_of(stall.pid);
            who = format!("{who} of {}", words::with_id(name, stall.pid));
        }
        let line = entries
            .page
            .line()
            .paint(Paint::Bold, "STALL")
            .add(&format!("  {}  ", entries.clock.time(stall.begin_ns)))
            .paint(Paint::Bold, &length)
            .add(&format!("  {who}  {}  ", cause(stall)));
        files(line, stall).end(out);
        if let Some(meanwhile) = &stall.meanwhile {
            entries.page.wrap(7, &beside(meanwhile), out);
        }
    }

    /// A second is over.
    pub(super) fn flush(&mut self, page: Page, out: &mut Vec<u8>) {
        let unsaid = self.lines.turn();
        if unsaid > 0 {
            page.say(
                &format!("{} not shown in this second", plural(unsaid, "more stall")),
                out,
            );
        }
    }
}

fn threads(stall: &Stall) -> String {
    let all = plural(stall.threads, "thread");
    if stall.threads == stall.max_threads {
        all
    } else {
        format!("{all}, up to {} at once", stall.max_threads)
    }
}

/// The most common one.
fn cause(stall: &Stall) -> &'static str {
    let first = stall.causes.first().and_then(|(cause, _)| *cause);
    first.map_or("unknown", crate::model::Cause::as_str)
}

/// The file with most faults, and how many others.
fn files(line: Line, stall: &Stall) -> Line {
    most(line, &stall.files, stall.other_faults)
}

/// The same, of these and faults on others.
pub(super) fn most(line: Line, files: &[StallFile], other_faults: u64) -> Line {
    let Some(first) = files.first() else {
        return line;
    };
    let file = &first.file;
    let mut at = words::file(file.mapping, file.path.as_ref(), file.deleted);
    let others = files.len().saturating_sub(1);
    if others > 0 {
        let more = if other_faults > 0 { "+" } else { "" };
        at.suffix += &format!(" and {others}{more} more");
    }
    line.path(&at.path, &at.suffix)
}

/// What was counted beside a stall.
pub(in crate::view) fn beside(of: &Meanwhile) -> String {
    let percent = |ns: Option<u64>| percent(ns, of.duration_ns);
    let mut parts = vec![format!(
        "CPU {} user, {} system",
        percent(of.user_ns),
        percent(of.system_ns)
    )];
    parts.push(format!("iowait of all CPUs {}", percent(of.iowait_ns)));
    let whose = of.pressure_of.map_or("unknown", |whose| match whose {
        crate::model::PressureOf::Cgroup => "of its cgroup",
        crate::model::PressureOf::System => "of the machine",
    });
    for (what, waits) in [("I/O", of.io), ("memory", of.memory)] {
        if let Some(waits) = waits {
            parts.push(format!(
                "{what} pressure {whose} {} some, {} full",
                percent(Some(waits.some_ns)),
                percent(Some(waits.full_ns))
            ));
        }
    }
    if of.io.is_none() && of.memory.is_none() {
        parts.push("pressure unknown".to_owned());
    }
    let queue = of.run_queue.map_or_else(|| "?".to_owned(), three_digits);
    parts.push(format!("run queue {queue}"));
    if let Some(share) = of.share {
        parts.push(format!(
            "{} % of its threads that wanted to run were in faults",
            three_digits(share * 100.0)
        ));
    }
    format!(
        "beside it, over {}: {}",
        duration(of.duration_ns),
        parts.join("; ")
    )
}

/// Of one CPU.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn percent(ns: Option<u64>, of_ns: u64) -> String {
    match ns {
        Some(ns) if of_ns > 0 => format!("{} %", three_digits(ns as f64 * 100.0 / of_ns as f64)),
        _ => "?".to_owned(),
    }
}

/// The longest of each process.
pub(super) fn longest(entries: &Entries, summary: &Summary, out: &mut Vec<u8>) {
    let mut all: Vec<(u32, &StallTotals)> = summary
        .stalls()
        .all()
        .filter(|(_, totals)| totals.count > 0)
        .collect();
    all.sort_by_key(|(pid, totals)| (std::cmp::Reverse(totals.total_ns), *pid));
    let several = summary.processes().len() > 1 || entries.multi_process;
    for (pid, totals) in all.iter().take(MAX_PROCESSES) {
        let page = entries.page;
        page.say("", out);
        let of = if several {
            format!(" of {}", words::with_id(entries.name_of(*pid), *pid))
        } else {
            String::new()
        };
        page.line()
            .paint(Paint::Bold, "stalls")
            .add(&format!(
                "{of}: {}, {} in all; the longest:",
                plural(totals.count, "time"),
                duration(totals.total_ns)
            ))
            .end(out);
        for stall in totals.worst.iter().take(MAX_LONGEST) {
            let so_far = if stall.over { "" } else { ", not over" };
            let line = page
                .line()
                .add(&format!("  {}  ", entries.clock.time(stall.begin_ns)))
                .paint(Paint::Bold, &format!("{:>8}", duration(stall.duration_ns)))
                .add(&format!("{so_far}  {}  {}  ", threads(stall), cause(stall)));
            files(line, stall).end(out);
        }
        if totals.late > 0 {
            let late = plural(totals.late, "fault");
            let text = format!("  {late} came too late to be all in them");
            page.say(&text, out);
        }
    }
    let beyond = summary.stalls().not_followed();
    if beyond > 0 {
        let text = format!(
            "stalls of processes beyond the limit are not known: {} of them",
            plural(beyond, "record")
        );
        entries.page.say(&text, out);
    }
    if let Some(more) = all
        .len()
        .checked_sub(MAX_PROCESSES)
        .filter(|more| *more > 0)
    {
        let text = format!("stalls of {more} more processes are not shown");
        entries.page.say(&text, out);
    }
}
