//! Go programs: what they are, what a thread was at in a fault, and their Ps.

use std::collections::HashMap;

use super::entry::Entries;
use super::line::{Page, Paint};
use super::quota::Quota;
use super::stack::MAX_TEXT;
use super::stalls;
use super::words::{self, duration, name, percent, plural};
use crate::model::ps::{FullStall, PsTotals};
use crate::model::stall::PStall;
use crate::model::summary::{ProcessSummary, Summary};
use crate::model::{Cause, Facts, GoProcess, Goroutine, Mode, Name};
use crate::view::escape::escaped;

/// Lines of a second.
const MAX_LINES: u32 = 10;
/// Programs remembered, to tell what changed.
const MAX_PROGRAMS: usize = 10_000;
/// Processes in the summary.
const MAX_PROCESSES: usize = 5;

/// The lines of the stream.
#[derive(Debug, Default)]
pub(super) struct Told {
    stalls: Quota,
    programs: Quota,
    /// What was said of each process last.
    known: HashMap<u32, GoProcess>,
}

impl Told {
    /// A program was recognised, or is at another GOMAXPROCS.
    pub(super) fn program(&mut self, go: &GoProcess, entries: &Entries, out: &mut Vec<u8>) {
        if self.known.len() >= MAX_PROGRAMS {
            self.known.clear();
        }
        let who = words::with_id(entries.name_of(go.pid), go.pid);
        let before = self.known.insert(go.pid, go.clone());
        // The same id may be another program's by now.
        let is_same = before.is_some_and(|before| {
            (before.version, before.module, before.layout)
                == (go.version.clone(), go.module.clone(), go.layout)
        });
        if !self.programs.takes(MAX_LINES) {
            return;
        }
        let at = entries.clock.time(go.time_ns);
        let text = if is_same {
            format!("{at}  {who}: {} from now on", procs(go.procs))
        } else {
            format!("{at}  {who} is a Go program: {}", program(go))
        };
        entries.page.wrap(0, &text, out);
    }

    /// No P is left.
    pub(super) fn stall(&mut self, of: &PStall, entries: &Entries, out: &mut Vec<u8>) {
        if !self.stalls.takes(MAX_LINES) {
            return;
        }
        let so_far = if of.over { "" } else { " so far" };
        let ps = of.stall.procs;
        let mut text = format!("  Go: {ps} of {ps} Ps stuck in page faults{}", causes(of));
        if entries.multi_process {
            let name = entries.name_of(of.pid);
            text += &format!(" of {}", words::with_id(name, of.pid));
        }
        text += &queued(&of.stall);
        entries
            .page
            .line()
            .paint(Paint::Alarm, "P-STALL")
            .add(&format!("  {}  ", entries.clock.time(of.stall.begin_ns)))
            .paint(
                Paint::Bold,
                &format!("{}{so_far}", duration(of.stall.length_ns())),
            )
            .add(&text)
            .end(out);
        for source in &of.faults {
            fault(entries.page, source.facts(), out);
        }
        if of.other_faults > 0 {
            let text = format!(
                "         and {}; of all most on ",
                plural(of.other_faults, "more fault")
            );
            let line = entries.page.line().add(&text);
            stalls::most(line, &of.files, of.other_files_faults).end(out);
        }
        if let Some(meanwhile) = &of.meanwhile {
            entries.page.wrap(9, &stalls::beside(meanwhile), out);
        }
    }

    /// A second is over.
    pub(super) fn flush(&mut self, page: Page, out: &mut Vec<u8>) {
        let unsaid = self.stalls.turn();
        let programs_unsaid = self.programs.turn();
        if programs_unsaid > 0 {
            let text = plural(programs_unsaid, "more line");
            page.say(&format!("{text} about Go programs not shown"), out);
        }
        if unsaid > 0 {
            let text = plural(unsaid, "more P-STALL");
            page.say(&format!("{text} not shown in this second"), out);
        }
    }
}

/// Why these faults had to wait, the most common cause first.
fn causes(of: &PStall) -> String {
    let words = of.causes.iter();
    let words: Vec<&str> = words
        .map(|(cause, _)| cause.map_or("unknown", Cause::as_str))
        .collect();
    match words.is_empty() {
        true => String::new(),
        false => format!(" ({})", words.join(", ")),
    }
}

/// One of the faults that a stall is made of.
fn fault(page: Page, facts: &Facts, out: &mut Vec<u8>) {
    let goroutine = facts.goroutine.as_deref();
    let who = goroutine.map_or_else(|| "unknown goroutine".to_owned(), which);
    let thread = words::with_id(Some(&facts.thread), facts.tid);
    let at = words::place(&facts.place);
    let line = page.line().add("         ").pad(&who, 30);
    line.add("  ")
        .pad(&thread, 15)
        .add("  ")
        .path(&at.path, &at.suffix)
        .end(out);
}

/// `go1.27.3, main module example.com/app, GOMAXPROCS 2`.
fn program(go: &GoProcess) -> String {
    let mut text = name(&go.version);
    if let Some(module) = &go.module {
        text += &format!(", main module {}", name(module));
    }
    text += &format!(", {}", procs(go.procs));
    if go.layout.is_none() {
        text += "; its goroutines cannot be read, so nothing is told of them, nor of its Ps";
    }
    text
}

fn procs(procs: Option<u32>) -> String {
    match procs {
        Some(procs) => format!("GOMAXPROCS {procs}"),
        None => "GOMAXPROCS not known".to_owned(),
    }
}

/// `goroutine 18 (main.reader)`.
fn which(of: &Goroutine) -> String {
    match (of.id, &of.start) {
        (None, _) => "the Go runtime itself".to_owned(),
        (Some(id), None) => format!("goroutine {id}"),
        (Some(id), Some(start)) => format!("goroutine {id} ({})", function(start)),
    }
}

/// A function, whose end tells most.
fn function(of: &Name) -> String {
    escaped(of.as_bytes(), MAX_TEXT)
}

/// What the thread of a fault was at, and what that means; `None` in other programs.
pub(super) fn goroutine(facts: &Facts) -> Option<String> {
    let of = facts.goroutine.as_deref()?;
    let mut text = which(of);
    if let Some(maker) = &of.created_by {
        text += &format!(", made by {}", function(maker));
    }
    match (of.p, of.procs) {
        (Some(p), Some(procs)) => text += &format!("; holds P {p}, one of {procs}"),
        (Some(p), None) => text += &format!("; holds P {p}"),
        (None, _) if of.in_syscall => {
            text += match facts.mode {
                Mode::User => "; holds no P: it is in C, as the runtime knows",
                Mode::Kernel | Mode::Gup => {
                    "; holds no P: it is in a system call, as the runtime knows"
                }
            };
        }
        (None, _) => text += "; holds no P",
    }
    if of.p.is_some()
        && let Some(waiting) = of.queued_local.filter(|waiting| *waiting > 0)
    {
        let goroutines = plural(u64::from(waiting), "goroutine");
        text += &format!(
            ", for which {goroutines} wait{}",
            if waiting == 1 { "s" } else { "" }
        );
    }
    if let Some(labels) = &of.labels {
        let pairs = labels.kept.iter();
        let pairs: Vec<String> = pairs
            .map(|(key, value)| format!("{}={}", word(key), word(value)))
            .collect();
        text += &format!("; labels {}", pairs.join(" "));
        if labels.left_out > 0 {
            text += &format!(" and {} more", labels.left_out);
        }
    }
    Some(text)
}

/// A key or value, in quotes if it could be taken for several or for none.
fn word(of: &Name) -> String {
    let text = name(of);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:@-".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text,
        false => format!("\"{}\"", text.replace('"', "\\\"")),
    }
}

fn queued(of: &FullStall) -> String {
    match of.queued {
        Some(count) => format!("; {} runnable", plural(count, "goroutine")),
        None => "; how many goroutines are runnable is not known".to_owned(),
    }
}

/// The Ps of each Go program.
pub(super) fn summary(entries: &Entries, summary: &Summary, out: &mut Vec<u8>) {
    let all: Vec<(&ProcessSummary, &GoProcess)> = summary
        .processes()
        .filter_map(|process| Some((process, process.go.as_deref()?)))
        .collect();
    let several = summary.processes().len() > 1 || entries.multi_process;
    for (process, go) in all.iter().take(MAX_PROCESSES) {
        let of = if several {
            let name = process.info.as_ref().map(|info| &info.name);
            format!(" of {}", words::with_id(name, go.pid))
        } else {
            String::new()
        };
        let totals = summary.stalls().totals(go.pid);
        let ps = totals.map(|totals| (&totals.ps, process.ps_time_ns(&totals.ps, 0)));
        section(entries, go, &of, ps.filter(|(ps, _)| !ps.is_empty()), out);
    }
    if let Some(more) = all
        .len()
        .checked_sub(MAX_PROCESSES)
        .filter(|more| *more > 0)
    {
        let text = format!("{more} more Go programs are not shown");
        entries.page.say(&text, out);
    }
}

/// One program; `of` says whose it is; with its Ps, how much time of Ps there was.
pub(in crate::view) fn section(
    entries: &Entries,
    go: &GoProcess,
    of: &str,
    ps: Option<(&PsTotals, Option<u64>)>,
    out: &mut Vec<u8>,
) {
    entries.page.say("", out);
    let line = entries.page.line().paint(Paint::Bold, "Go");
    line.add(&format!("{of}: {}", program(go))).end(out);
    match ps {
        Some((ps, all_ns)) => self::ps(entries, ps, all_ns, out),
        None if go.layout.is_none() => {}
        None => {
            let text = "  no P was seen stuck in a page fault that slept";
            entries.page.say(text, out);
        }
    }
}

/// What the Ps add up to.
fn ps(entries: &Entries, ps: &PsTotals, all_ns: Option<u64>, out: &mut Vec<u8>) {
    let page = entries.page;
    let most = ps.procs.map(|(_, most)| most as usize);
    let levels = ps.levels_ns.iter().enumerate().skip(1);
    let levels: Vec<String> = levels
        .filter(|(_, ns)| **ns > 0)
        .map(|(count, ns)| {
            let all = if most == Some(count) { " (all)" } else { "" };
            format!("{count}{all} for {}", duration(*ns))
        })
        .collect();
    let lost_ns = ps.lost_ns();
    let mut text = format!(
        "Ps stuck in page faults: {}; time of Ps lost: {}",
        levels.join(", "),
        duration(lost_ns)
    );
    if let Some(all_ns) = all_ns {
        text += &format!(", {} of all", percent(lost_ns, all_ns));
    }
    page.wrap(2, &text, out);
    if let Some(longest) = &ps.longest {
        let mut text = format!(
            "no P left: {} in {}; the longest at {} for {}{}",
            duration(ps.full_ns),
            plural(ps.full_count, "stall"),
            entries.clock.time(longest.begin_ns),
            duration(longest.length_ns()),
            queued(longest)
        );
        if ps.most_queued > longest.queued
            && let Some(most) = ps.most_queued
        {
            text += &format!("; up to {most} in another");
        }
        page.wrap(2, &text, out);
    }
    if ps.full_count == 0 && ps.procs.is_some() {
        page.say("  it was never seen that no P was left", out);
    }
    if ps.unknown_ns > 0 {
        let text = format!(
            "for {} of that, GOMAXPROCS was not known",
            duration(ps.unknown_ns)
        );
        page.wrap(2, &text, out);
    }
}
