//! The pasts of pages in words: of one fault, and of all together (`--evictions`).

use super::line::{Page, Paint};
use super::words::{self, duration, plural};
use crate::model::analysis::PAGE_BYTES;
use crate::model::summary::{AVOIDED, Pasts, ReadAheads, Remover, Summary, Sums, Waited, Who};
use crate::model::{AheadPages, Fault, History, How, MappingKind, Name, Past, Removal};

/// Lines of a table.
pub(super) const TOP: usize = 10;

/// Who filled the page cache is asked so often: of a shorter time it is not known.
const ASKED_EVERY_NS: u64 = 500_000_000;

/// The name of a process, if it is known.
pub(in crate::view) type NameOf<'a> = &'a dyn Fn(u32) -> Option<&'a Name>;

/// What a fault's page was before; `None` if nothing is known.
pub(super) fn past(fault: &Fault, name_of: NameOf<'_>) -> Option<String> {
    let history = fault.history.as_deref()?;
    match &history.past {
        Past::Unknown => None,
        Past::FirstTouch => {
            Some("the page was not in memory before, as far as was seen".to_owned())
        }
        Past::Refault(removal) => Some(refault(fault, history, removal, name_of)),
    }
}

fn refault(fault: &Fault, history: &History, removal: &Removal, name_of: NameOf<'_>) -> String {
    let begin_ns = fault.end_ns.saturating_sub(fault.duration_ns);
    let ago = duration(begin_ns.saturating_sub(removal.removed_ns));
    let since = removal.cached_ns.or(history.watched_ns);
    let stay_ns = since.map(|since| removal.removed_ns.saturating_sub(since));
    let stayed = match (stay_ns, removal.cached_ns) {
        (Some(stay_ns), Some(_)) => format!(", after {} in memory", duration(stay_ns)),
        (Some(stay_ns), None) => format!(", after {} or more in memory", duration(stay_ns)),
        (None, _) => String::new(),
    };
    let task = &removal.by;
    let who = match task.pid == task.tid && task.pid != 0 {
        // That is its process, too.
        true => words::with_id(Some(&task.name), task.pid),
        false => words::thread_of(task, fault.facts.pid),
    };
    let by = by_whom(&who, removal.cgroup.as_ref());
    let call = removal
        .by
        .syscall
        .as_ref()
        .map_or_else(String::new, |call| format!(" in {}()", words::name(call)));
    let (what, why) = removed(removal.how);
    let mut text = format!("refault: {what} {ago} ago{stayed}, {why}{by}{call}");
    if let Some(filled) = &removal.filled {
        let who = process(&filled.name, filled.pid, name_of);
        let when = match stay_ns {
            Some(stay_ns) if stay_ns < ASKED_EVERY_NS => "within a second around it",
            _ => "meanwhile",
        };
        text += &format!(
            "; {when} {who} brought {} of {} into memory",
            bytes(filled.pages),
            bytes(filled.of_pages)
        );
    }
    text
}

/// What was done to a page, and why or where.
fn removed(how: How) -> (&'static str, &'static str) {
    match how {
        How::Kswapd | How::OtherReclaim => ("evicted", ""),
        How::DirectReclaim => ("evicted", "for want of memory, "),
        How::MemcgReclaim => ("evicted", "under a memory cgroup's limit, "),
        How::DropCaches => ("dropped", "by drop_caches, "),
        How::Fadvise => ("dropped", "by fadvise, "),
        How::Truncate => ("cut off", "with the file, "),
        How::Invalidate => ("made invalid", ""),
        How::Unknown => ("removed", ""),
    }
}

/// What was done to pages, and by whom.
pub(in crate::view) fn remover(remover: &Remover, name_of: NameOf<'_>) -> String {
    let (what, why) = removed(remover.how);
    let who = named(&remover.who, name_of);
    format!("{what} {why}{}", by_whom(&who, remover.cgroup.as_ref()))
}

/// By whom, and in which cgroup, unless that is the root.
fn by_whom(by: &str, cgroup: Option<&Name>) -> String {
    match cgroup {
        Some(cgroup) if cgroup.as_bytes() != b"/" => {
            format!("by {by} (cgroup {})", words::name(cgroup))
        }
        _ => format!("by {by}"),
    }
}

/// Pages as bytes.
pub(in crate::view) fn bytes(pages: u64) -> String {
    words::about(pages.saturating_mul(PAGE_BYTES))
}

/// Why pages that were waited for were not in memory.
pub(in crate::view) fn pasts(page: Page, pasts: &Pasts, summary: &Summary, out: &mut Vec<u8>) {
    if pasts.is_empty() {
        return;
    }
    page.say("", out);
    let head = "why pages were not in memory";
    page.line().paint(Paint::Bold, head).end(out);
    for (waited, what) in [
        (
            pasts.first_touch,
            "not in memory before, as far as was seen",
        ),
        (pasts.refault, "had been in memory, and were removed"),
        (
            pasts.unknown,
            "not known: in memory before their file was watched, or forgotten",
        ),
    ] {
        row(page, waited, what, out);
    }
    let name_of = |pid| summary.name_of(pid);
    table(page, "removed", &pasts.removed, out, |of| {
        remover(of, &name_of)
    });
    let title = "by who brought most into memory while they were there";
    table(page, title, &pasts.filled, out, |who| named(who, &name_of));
    more_memory(page, pasts, out);
}

/// A process, with a name of one of its threads if there is no other.
pub(in crate::view) fn named(who: &Who, name_of: NameOf<'_>) -> String {
    process(&who.name, who.pid, name_of)
}

fn process(thread: &Name, pid: u32, name_of: NameOf<'_>) -> String {
    match name_of(pid) {
        Some(name) => words::with_id(Some(name), pid),
        None if pid == 0 => words::name(thread),
        None => format!("{} of process {pid}", words::name(thread)),
    }
}

fn row(page: Page, waited: Waited, what: &str, out: &mut Vec<u8>) {
    if waited.faults == 0 {
        return;
    }
    let numbers = format!("{:>9}  {:>9}  ", waited.faults, duration(waited.blocked_ns));
    page.hang(&numbers, what, out);
}

fn table<K: Eq + std::hash::Hash + Ord + Clone>(
    page: Page,
    title: &str,
    sums: &Sums<K>,
    out: &mut Vec<u8>,
    label: impl Fn(&K) -> String,
) {
    let (first, rest) = sums.top(TOP);
    if first.is_empty() {
        return;
    }
    page.say(&format!("  {title}:"), out);
    for (key, waited) in first {
        row(page, waited, &label(key), out);
    }
    row(page, rest, "others", out);
}

/// How much more memory would have avoided refaults.
fn more_memory(page: Page, pasts: &Pasts, out: &mut Vec<u8>) {
    let Some(avoided) = pasts.avoided() else {
        return;
    };
    let counted = pasts.with_distance();
    let parts: Vec<String> = AVOIDED
        .iter()
        .zip(avoided)
        .map(|(percent, pages)| format!("{percent} % with {}", bytes(pages)))
        .collect();
    let text = format!(
        "more memory (for the same cgroup) would have avoided: {}, of {} that reclaim caused",
        parts.join(", "),
        plural(counted, "refault"),
    );
    page.wrap(2, &text, out);
    if pasts.without_distance > 0 {
        let text = format!(
            "{} more without a known distance are not in that",
            pasts.without_distance
        );
        page.wrap(2, &text, out);
    }
}

/// Who filled the page cache.
pub(in crate::view) fn fills(page: Page, summary: &Summary, out: &mut Vec<u8>) {
    let fills = summary.fills();
    let name_of = |pid| summary.name_of(pid);
    if fills.is_empty() {
        return;
    }
    page.say("", out);
    let head = "page cache of the whole machine, all files";
    page.line().paint(Paint::Bold, head).end(out);
    let text = format!(
        "{} came, {} went, {} of it by reclaim; brought by:",
        bytes(fills.added_pages),
        bytes(fills.removed_pages),
        bytes(fills.reclaimed_pages)
    );
    page.wrap(2, &text, out);
    for (who, pages) in fills.ranked().into_iter().take(TOP) {
        let line = page.line().add(&format!("{:>10}  ", bytes(pages)));
        line.add(&named(who, &name_of)).end(out);
    }
}

/// What faults had read of files besides what they asked for, and how much of that can have been used.
pub(in crate::view) fn read_ahead(page: Page, all: &ReadAheads, rows: usize, out: &mut Vec<u8>) {
    if all.is_empty() {
        return;
    }
    page.say("", out);
    let head = "read ahead of faults of all traced processes, besides the pages they asked for";
    page.line().paint(Paint::Bold, head).end(out);
    let (files, others) = all.top(rows);
    for (path, pages) in files {
        let at = words::file(path.and(Some(MappingKind::File)), path, false);
        let line = page.line().add(&mapped(pages));
        line.path(&at.path, &at.suffix).end(out);
    }
    if others != AheadPages::default() {
        let line = page.line().add(&mapped(&others));
        line.add("other files").end(out);
    }
}

/// How much was read, and how much of it was mapped at most.
fn mapped(pages: &AheadPages) -> String {
    let most = words::at_most(pages.used_at_most(), pages.read);
    let mut text = format!("{:>10}  at most {most:>5} mapped", bytes(pages.read));
    for (count, what) in [
        (pages.unknown, "not known"),
        (pages.dropped, "left memory unmapped"),
    ] {
        if count > 0 {
            text += &format!(", {} {what}", bytes(count));
        }
    }
    text + "  "
}
