//! Threads in faults at once, and stalls.

use crate::model::Cause;
use crate::model::analysis::{Concurrency, Stall, StallThread, Stalls, Wall};
use crate::view::text::entry::Entries;
use crate::view::text::line::{Page, Paint};
use crate::view::text::stalls::beside;
use crate::view::text::words::{self, duration, percent, plural};

/// Stalls whose threads are told; of the others only when they were.
const MAX_DETAILED: usize = 3;
/// Threads told of a stall.
const MAX_THREADS: usize = 6;

/// How long how many threads were in faults. `unended`: some are still, and those faults are not in it.
pub(super) fn at_once(
    page: Page,
    times: &Concurrency,
    wall: Option<Wall>,
    unended: bool,
    out: &mut Vec<u8>,
) {
    if times.max_threads == 0 {
        return;
    }
    let line = |ns: Option<u64>, text: &str, out: &mut Vec<u8>| {
        let time = ns.map_or_else(|| "?".to_owned(), duration);
        let share = ns.zip(wall).map(|(ns, wall)| percent(ns, wall.length_ns()));
        let share = share.unwrap_or_else(|| "?".to_owned());
        page.say(&format!("  {time:>10} {share:>5}  {text}"), out);
    };
    // Stalls have them.
    let but = if unended {
        " (those not over are not counted here)"
    } else {
        ""
    };
    match times.threads {
        Some(1) => {
            page.wrap(
                2,
                &format!("in faults, of the time of the trace{but}:"),
                out,
            );
            line(Some(times.one_ns), "the only thread that had faults", out);
            return;
        }
        Some(threads) => {
            let text = format!("of the {threads} threads that had faults, in them at once{but}:");
            page.wrap(2, &text, out);
        }
        None => {
            let text = "of the threads that had faults, too many to be counted, in them at once";
            page.wrap(2, &format!("{text}{but}:"), out);
        }
    }
    line(Some(times.one_ns), "at least one", out);
    if let Some(half) = times
        .threads
        .map(|threads| threads.div_ceil(2))
        .filter(|half| *half > 1)
    {
        line(times.half_ns, &format!("at least half ({half})"), out);
    }
    if let Some(all) = times.threads {
        line(times.all_ns, &format!("all {all}"), out);
    }
    if times.threads != Some(times.max_threads) {
        page.say(&format!("  the most at once: {}", times.max_threads), out);
    }
}

/// When many threads were blocked at once.
pub(super) fn stalls(entries: &Entries, stalls: &Stalls, wall: Option<Wall>, out: &mut Vec<u8>) {
    let page = entries.page;
    page.say("", out);
    let rule = match stalls.needed_bounds {
        (1, 1) => "a thread was blocked".to_owned(),
        (least, most) if least == most => {
            format!("at least {least} threads were blocked at once")
        }
        (least, most) => {
            format!(
                "at least {least} to {most} threads, as many as it took then, were blocked at once"
            )
        }
    };
    let line = page.line().paint(Paint::Bold, "stalls");
    if stalls.count == 0 {
        line.add(&format!(": at no time {rule}")).end(out);
        return;
    }
    let share = wall.map(|wall| percent(stalls.total_ns, wall.length_ns()));
    let share = share.map(|share| format!(" ({share})")).unwrap_or_default();
    line.add(&format!(
        ": {rule} {}, {} in all{share}",
        plural(stalls.count, "time"),
        duration(stalls.total_ns)
    ))
    .end(out);
    for (at, one) in stalls.worst.iter().enumerate() {
        stall(entries, one, out);
        if at < MAX_DETAILED {
            threads(page, one, out);
            if let Some(meanwhile) = &one.meanwhile {
                page.wrap(6, &beside(meanwhile), out);
            }
        }
    }
    let told = u64::try_from(stalls.worst.len()).unwrap_or(u64::MAX);
    if let Some(more) = stalls.count.checked_sub(told).filter(|more| *more > 0) {
        page.say(&format!("  and {more} shorter"), out);
    }
}

fn stall(entries: &Entries, one: &Stall, out: &mut Vec<u8>) {
    let page = entries.page;
    let length = duration(one.end_ns.saturating_sub(one.begin_ns));
    let threads = match (one.threads, one.max_threads) {
        (threads, most) if threads == most => plural(threads, "thread"),
        (threads, most) => format!("{threads} threads, up to {most} at once"),
    };
    page.line()
        .add(&format!("  {}  ", entries.clock.time(one.begin_ns)))
        .paint(Paint::Bold, &format!("{length:>8}"))
        .add(&format!("  {threads}"))
        .end(out);
}

fn threads(page: Page, one: &Stall, out: &mut Vec<u8>) {
    for member in one.members.iter().take(MAX_THREADS) {
        thread(page, member, out);
    }
    let told = u64::try_from(one.members.len().min(MAX_THREADS)).unwrap_or(u64::MAX);
    if let Some(more) = one.threads.checked_sub(told).filter(|more| *more > 0) {
        page.say(&format!("      and {}", plural(more, "more thread")), out);
    }
}

fn thread(page: Page, one: &StallThread, out: &mut Vec<u8>) {
    let cause = one.cause.map_or("unknown", Cause::as_str);
    let many = match one.faults {
        1 => String::new(),
        faults => format!(" (the longest of {faults} faults)"),
    };
    let line = page
        .line()
        .add(&format!(
            "      {:>8}  {cause:<9}  ",
            duration(one.longest_ns)
        ))
        .pad(&words::with_id(one.name.as_ref(), one.thread.tid), 15)
        .add("  ");
    match &one.file {
        Some(file) => {
            let at = words::file(file.mapping, file.path.as_ref(), file.deleted);
            line.path(&at.path, &format!("{}{many}", at.suffix))
        }
        None => line.add(&format!("file not remembered{many}")),
    }
    .end(out);
}
