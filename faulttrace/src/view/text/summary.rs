//! The header, and what everything adds up to at the end.

use super::device_totals;
use super::entry::{Entries, major_count, split};
use super::go;
use super::history;
use super::line::{Page, Paint};
use super::notices::{process, reason_text};
use super::stalls;
use super::tables::{Labels, tables};
use super::words::{self, duration, plural};
use crate::model::summary::{ProcessSummary, StillStuck, Summary};
use crate::model::{LossClass, Start};
use crate::view::escape::escaped;

/// Lines of a list; the rest is counted.
const MAX_LINES: usize = 20;
/// Devices that are listed.
const TOP_DEVICES: usize = 10;
/// Longest version or host name shown, bytes.
const MAX_WORD: usize = 128;

/// What is traced, by what, where.
pub(in crate::view) fn header(
    entries: &Entries,
    start: &Start,
    max_targets: usize,
    out: &mut Vec<u8>,
) {
    let page = entries.page;
    let word = |text: &str| escaped(text.as_bytes(), MAX_WORD);
    let mut first = format!("faulttrace {}", word(&start.version));
    if !start.host.is_empty() {
        first += &format!(" on {}", word(&start.host));
    }
    if !start.kernel.is_empty() {
        first += &format!(", Linux {}", word(&start.kernel));
    }
    if let Some(day) = entries.clock.day(start.time_ns) {
        first += &format!(", {day}");
    }
    page.wrap(0, &first, out);
    let since = entries.clock.time(start.time_ns);
    match start.targets.as_slice() {
        [] => {
            let what = match start.comm() {
                Some(comm) => {
                    let comm = word(comm);
                    format!("tracing processes called {comm} (none yet)")
                }
                None => "tracing all processes".to_owned(),
            };
            page.say(&format!("{since}  {what}"), out);
        }
        [one] => page.say(&format!("{since}  tracing {}", process(one)), out),
        many => {
            let count = many.len();
            page.say(&format!("{since}  tracing {count} processes:"), out);
            for target in many.iter().take(max_targets) {
                page.say(&format!("  {}", process(target)), out);
            }
            if let Some(more) = count.checked_sub(max_targets).filter(|more| *more > 0) {
                page.say(&format!("  and {more} more"), out);
            }
        }
    }
    page.say("", out);
}

/// The summary.
pub(in crate::view) fn show(entries: &Entries, summary: &Summary, out: &mut Vec<u8>) {
    let page = entries.page;
    page.say("", out);
    let since = summary
        .began_ns()
        .map(|began| format!(" since {}", entries.clock.time(began)))
        .unwrap_or_default();
    let line = page.line().paint(Paint::Bold, "SUMMARY").add(&since);
    line.end(out);
    let total = summary.total();
    let several = summary.processes().len() > 1 || summary.other_processes().is_some();
    let show_pids = several || entries.multi_process;
    if total.tally.faults == 0 {
        no_faults(page, summary, out);
    }
    if several {
        totals(page, "all processes", &total, out);
    } else {
        let who = summary.processes().next().and_then(|one| {
            let name = one.info.as_ref().map(|info| &info.name);
            one.pid.map(|pid| words::with_id(name, pid))
        });
        totals(page, who.as_deref().unwrap_or("traced"), &total, out);
    }
    not_counted(page, summary, out);
    let lost = summary.lost_in(LossClass::Lost);
    page.wrap(2, &majors(&total, &summary.remainder().explain(lost)), out);
    if several {
        per_process(page, summary, out);
    }
    tables(page, &Labels::new(summary, show_pids), &total, out);
    history::pasts(page, &total.pasts, summary, out);
    history::fills(page, summary, out);
    history::read_ahead(page, summary.read_ahead(), history::TOP, out);
    if let Some(found) = summary.devices(&total) {
        device_totals::devices(page, found, TOP_DEVICES, out);
    }
    stalls::longest(entries, summary, out);
    go::summary(entries, summary, out);
    still_stuck(entries, summary, show_pids, out);
    losses(page, summary, out);
    transport(page, summary, out);
}

pub(in crate::view) fn no_faults(page: Page, summary: &Summary, out: &mut Vec<u8>) {
    if summary.matched_none() {
        let text = "No faults: no process was seen whose name (comm) matches.";
        page.wrap(0, text, out);
        return;
    }
    let not_selected = summary.not_selected();
    let none = match not_selected {
        0 => "no traced thread was seen to finish a page fault that was major or that put it to sleep."
            .to_owned(),
        all => format!("of {} in the trace, none is what was asked for.", plural(all, "fault")),
    };
    page.wrap(0, &format!("No faults: {none}"), out);
    let mut hints = Vec::new();
    if !summary.still_stuck().is_empty() {
        hints.push("Threads are still stuck in faults, see below.");
    }
    if summary.lost_in(LossClass::Lost) > 0 {
        hints.push("Some faults were lost, see below.");
    }
    if summary.lost_in(LossClass::Filtered) > not_selected {
        hints.push("Some faults were filtered out, see below.");
    }
    if summary.remainder().value().is_some_and(|rest| rest != 0) {
        hints.push("The kernel counted major faults all the same, see below.");
    }
    if hints.is_empty() && not_selected == 0 {
        hints.push(
            "If threads waited meanwhile, it was hardly in page faults: look at read() and \
             write(), locks, the network, and the CPU.",
        );
    }
    if !hints.is_empty() {
        page.wrap(0, &hints.join(" "), out);
    }
}

pub(in crate::view) fn totals(page: Page, who: &str, total: &ProcessSummary, out: &mut Vec<u8>) {
    let tally = &total.tally;
    let counts = if tally.faults == 0 {
        "0 faults".to_owned()
    } else {
        major_count(tally)
    };
    page.say(&format!("  {who}: {counts}"), out);
    if tally.faults == 0 {
        return;
    }
    let parts = split(tally.blocked_ns, tally.runqueue_ns, tally.on_cpu_ns);
    page.wrap(
        2,
        &format!("in all {}: {parts}", duration(tally.duration_ns)),
        out,
    );
    let mut percentiles: Vec<String> = [50.0, 90.0, 99.0]
        .into_iter()
        .filter_map(|percentile| {
            let ns = total.duration_percentile_ns(percentile)?;
            Some(format!("p{percentile} {}", duration(ns)))
        })
        .collect();
    percentiles.push(format!("max {}", duration(tally.max_ns)));
    page.wrap(
        2,
        &format!("duration of a fault: {}", percentiles.join(", ")),
        out,
    );
    for (count, what) in [
        (total.approximate, "with an approximate end (~)"),
        (
            total.began_before_attach,
            "began before faulttrace attached: times are lower bounds (≥)",
        ),
        (
            total.begin_approximate,
            "whose beginning was not seen: durations are lower bounds (≥)",
        ),
        (total.died, "ended by the thread's death"),
    ] {
        if count > 0 {
            page.wrap(2, &format!("{} {what}", plural(count, "fault")), out);
        }
    }
}

/// What of the summary is in no total.
pub(in crate::view) fn not_counted(page: Page, summary: &Summary, out: &mut Vec<u8>) {
    let all = summary.still_stuck();
    let count = u64::try_from(all.len()).unwrap_or(u64::MAX);
    let count = count.saturating_add(summary.stuck_beyond_limit());
    if count == 0 {
        return;
    }
    let elapsed = all.iter().map(|still| still.stuck.elapsed_ns);
    let elapsed_ns = elapsed.fold(0, u64::saturating_add);
    let text = format!(
        "not counted, since not over: {}, ≥{} (see below: still stuck)",
        plural(count, "fault"),
        duration(elapsed_ns)
    );
    page.wrap(2, &text, out);
}

pub(in crate::view) fn majors(total: &ProcessSummary, explained: &str) -> String {
    let mut text = explained.to_owned();
    if total.tally.given_up > 0 {
        text += &format!(
            " {} given up before the kernel counted them, for a signal or because they failed: neither major \
             nor minor.",
            plural(total.tally.given_up, "fault")
        );
    }
    text
}

pub(in crate::view) fn per_process(page: Page, summary: &Summary, out: &mut Vec<u8>) {
    let mut all: Vec<_> = summary.processes().collect();
    all.sort_by_key(|one| {
        let cost = (one.tally.blocked_ns, one.tally.duration_ns);
        (std::cmp::Reverse(cost), one.pid)
    });
    page.say("", out);
    page.line().paint(Paint::Bold, "by process").end(out);
    for one in all.iter().take(MAX_LINES) {
        let name = one.info.as_ref().map(|info| &info.name);
        let who = words::with_id(name, one.pid.unwrap_or_default());
        process_line(page, &who, one, summary, out);
    }
    if let Some(more) = all.len().checked_sub(MAX_LINES).filter(|more| *more > 0) {
        let faults = all[MAX_LINES..].iter().map(|one| one.tally.faults);
        let faults = plural(faults.sum(), "fault");
        page.say(&format!("  {more} more processes: {faults}"), out);
    }
    if let Some(others) = summary.other_processes() {
        process_line(page, "processes beyond the limit", others, summary, out);
    }
}

fn process_line(page: Page, who: &str, one: &ProcessSummary, summary: &Summary, out: &mut Vec<u8>) {
    let remainder = summary.remainder_of(one);
    let maj_flt = match (remainder.maj_flt_delta, remainder.value()) {
        (None, _) => "maj_flt unknown".to_owned(),
        (Some(delta), None) => format!("maj_flt +{delta}"),
        (Some(delta), Some(0)) => format!("maj_flt +{delta}, all accounted for"),
        (Some(delta), Some(rest)) => format!("maj_flt +{delta}, remainder {rest}"),
    };
    let counts = if one.tally.faults == 0 {
        "0 faults".to_owned()
    } else {
        format!(
            "{}, blocked {}, max {}",
            major_count(&one.tally),
            duration(one.tally.blocked_ns),
            duration(one.tally.max_ns)
        )
    };
    page.wrap(2, &format!("{who}: {counts}; {maj_flt}"), out);
}

pub(in crate::view) fn still_stuck(
    entries: &Entries,
    summary: &Summary,
    show_pids: bool,
    out: &mut Vec<u8>,
) {
    let all = summary.still_stuck();
    if all.is_empty() {
        return;
    }
    let page = entries.page;
    page.say("", out);
    page.line().paint(Paint::Alarm, "still stuck").end(out);
    for still in all.iter().take(MAX_LINES) {
        stuck_line(page, still, show_pids, out);
    }
    let hidden = u64::try_from(all.len().saturating_sub(MAX_LINES)).unwrap_or(u64::MAX);
    let more = hidden.saturating_add(summary.stuck_beyond_limit());
    if more > 0 {
        page.say(&format!("  {more} more"), out);
    }
}

fn stuck_line(page: Page, still: &StillStuck, show_pids: bool, out: &mut Vec<u8>) {
    let facts = &still.stuck.facts;
    // When its last report was made; it has gone on since.
    let elapsed = format!("≥{}", duration(still.stuck.elapsed_ns));
    let thread = words::with_id(Some(&facts.thread), facts.tid);
    let mut at = words::place(&facts.place);
    if show_pids {
        at.suffix += &format!(", process {}", facts.pid);
    }
    if still.process_ended {
        at.suffix += " (its process has ended)";
    }
    let cause = facts.cause.map_or("unknown", crate::model::Cause::as_str);
    page.line()
        .paint(Paint::Bold, &format!("  {elapsed:>8}"))
        .add(&format!("  {cause:<9}  "))
        .pad(&thread, 15)
        .add("  ")
        .path(&at.path, &at.suffix)
        .end(out);
}

pub(in crate::view) fn losses(page: Page, summary: &Summary, out: &mut Vec<u8>) {
    page.say("", out);
    for (class, title, paint) in [
        (LossClass::Lost, "lost", Paint::Alarm),
        (LossClass::Filtered, "filtered", Paint::Bold),
        (LossClass::Approximate, "approximate", Paint::Bold),
        (LossClass::Unreadable, "unreadable", Paint::Bold),
    ] {
        let counts: Vec<_> = summary
            .lost()
            .filter(|(of, _, count)| *of == class && *count > 0)
            .collect();
        if counts.is_empty() {
            if class == LossClass::Lost {
                page.say("lost: nothing that faulttrace knows of", out);
            }
            continue;
        }
        page.line().paint(paint, title).end(out);
        for (_, reason, count) in counts {
            page.say(&format!("  {count:>8}  {}", reason_text(reason)), out);
        }
    }
}

pub(in crate::view) fn transport(page: Page, summary: &Summary, out: &mut Vec<u8>) {
    let Some(ring) = summary.transport() else {
        page.say("ring buffer: counts unknown", out);
        return;
    };
    let mut text = format!(
        "ring buffer: {} emitted, {} received, {} lost",
        ring.emitted, ring.received, ring.lost
    );
    let expected = ring.received.saturating_add(ring.lost);
    if expected != ring.emitted {
        let missing = ring.emitted.abs_diff(expected);
        text += &format!("; this does NOT add up: {missing} unaccounted for");
    }
    page.wrap(0, &text, out);
}
