//! The summary's tables: what cost most, by thread, file, stack and cause.

use std::collections::HashMap;
use std::hash::Hash;

use super::line::{Line, Page, Paint};
use super::stack::frame;
use super::words::{self, duration};
use crate::model::summary::{Entry, ProcessSummary, Summary, Table, Tally};
use crate::model::{Cause, Name, Stack};
use crate::view::escape::width;

/// Lines of a table.
const TOP: usize = 10;
/// Frames shown of a stack.
const FRAMES: usize = 5;
/// Where labels begin.
const LABEL: usize = 42;

/// The names of processes, if lines have to tell them apart.
pub(in crate::view) struct Labels {
    names: Option<HashMap<u32, Name>>,
}

impl Labels {
    pub(in crate::view) fn new(summary: &Summary, show_pids: bool) -> Self {
        let names = || {
            summary
                .processes()
                .filter_map(|one| Some((one.pid?, one.info.as_ref()?.name.clone())))
                .collect()
        };
        Labels {
            names: show_pids.then(names),
        }
    }

    /// Lines tell processes apart.
    pub(in crate::view) fn shown(&self) -> bool {
        self.names.is_some()
    }

    /// `server[4700] `, or nothing.
    pub(in crate::view) fn process(&self, pid: u32) -> String {
        match &self.names {
            Some(names) => format!("{} ", words::with_id(names.get(&pid), pid)),
            None => String::new(),
        }
    }
}

/// All tables of a process, or of all of them.
pub(in crate::view) fn tables(
    page: Page,
    labels: &Labels,
    total: &ProcessSummary,
    out: &mut Vec<u8>,
) {
    if total.tally.faults == 0 {
        return;
    }
    let by_cause = &total.by_cause;
    table(page, "by cause", by_cause, out, |line, cause, _, out| {
        cause_label(line, *cause).end(out);
    });
    let by_thread = &total.by_thread;
    table(
        page,
        "by thread",
        by_thread,
        out,
        |line, key, entry, out| {
            let thread = words::with_id(Some(&entry.detail), key.tid);
            line.add(&labels.process(key.pid)).add(&thread).end(out);
        },
    );
    table(page, "by file", &total.by_file, out, |line, key, _, out| {
        let at = words::file(key.mapping, key.path.as_ref(), key.deleted);
        line.path(&at.path, &at.suffix).end(out);
    });
    let by_stack = &total.by_stack;
    table(page, "by stack", by_stack, out, |line, key, entry, out| {
        let process = labels.process(key.pid);
        stack_label(page, line, LABEL, &process, entry.detail.as_deref(), out);
    });
}

/// A cause in words, without those if they do not fit on the line.
pub(in crate::view) fn cause_label(line: Line, cause: Option<Cause>) -> Line {
    let what = match cause {
        // Those without a stack are in it, too.
        Some(Cause::Unknown) => "no recorded stack tells",
        Some(cause) => words::awaited(cause),
        None => "over before it had to wait",
    };
    let name = words::cause(cause);
    let label = format!("{name}: {what}");
    if width(&label) <= line.left() {
        line.add(&label)
    } else {
        line.add(name)
    }
}

/// The innermost frames of a stack, the first on a line that is begun, the others below it at the
/// same column.
pub(in crate::view) fn stack_label(
    page: Page,
    line: Line,
    column: usize,
    process: &str,
    stack: Option<&Stack>,
    out: &mut Vec<u8>,
) {
    let mut line = Some(line);
    // Functions need the width: the process gets a line of its own.
    if !process.is_empty()
        && let Some(line) = line.take()
    {
        line.add(process).end(out);
    }
    let mut next = || {
        line.take()
            .unwrap_or_else(|| page.line().add(&" ".repeat(column)))
    };
    let Some(stack) = stack else {
        next().add("stack unknown").end(out);
        return;
    };
    for one in stack.frames.iter().take(FRAMES) {
        frame(next(), one).end(out);
    }
    if stack.frames.len() > FRAMES || stack.truncated {
        next().add("…").end(out);
    } else if stack.frames.is_empty() {
        next().add("stack without frames").end(out);
    }
}

fn table<K: Eq + Hash + Ord + Clone, D: Clone>(
    page: Page,
    title: &str,
    table: &Table<K, D>,
    out: &mut Vec<u8>,
    label: impl Fn(Line, &K, &Entry<D>, &mut Vec<u8>),
) {
    let ranked = table.ranked();
    page.say("", out);
    let columns = format!(
        "{:>12} {:>9} {:>8} {:>8}  ",
        "blocked", "max", "faults", "majors"
    );
    page.line()
        .paint(Paint::Dim, &columns)
        .paint(Paint::Bold, title)
        .end(out);
    for (key, entry) in ranked.iter().take(TOP) {
        label(numbers(page, &entry.tally), key, entry, out);
    }
    let mut more = Tally::default();
    for (_, entry) in ranked.iter().skip(TOP) {
        more.merge(&entry.tally);
    }
    let hidden = u64::try_from(ranked.len().saturating_sub(TOP)).unwrap_or(u64::MAX);
    if hidden > 0 {
        numbers(page, &more).add(&format!("{hidden} more")).end(out);
    }
    if table.others().faults > 0 {
        numbers(page, table.others())
            .add("others, beyond what could be remembered")
            .end(out);
    }
}

/// The columns of numbers before a label; they take [`LABEL`] columns.
fn numbers(page: Page, tally: &Tally) -> Line {
    let blocked = duration(tally.blocked_ns);
    let max = duration(tally.max_ns);
    page.line().add(&format!(
        "{blocked:>12} {max:>9} {:>8} {:>8}  ",
        tally.faults, tally.majors
    ))
}
