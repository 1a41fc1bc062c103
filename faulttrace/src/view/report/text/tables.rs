//! What cost most, by cause, thread, file and stack.

use std::hash::Hash;

use super::Section;
use crate::model::analysis::{Durations, Percentiles};
use crate::model::summary::{Entry, Table, Tally};
use crate::view::text::line::{Line, Page, Paint};
use crate::view::text::tables::{cause_label, stack_label};
use crate::view::text::words::{self, duration, percent};

/// Pages of this width have all columns.
const WIDE: usize = 120;

/// Which numbers stand before a label.
#[derive(Clone, Copy)]
struct Columns {
    page: Page,
    wide: bool,
    percentiles: bool,
    /// All of the blocked time.
    blocked_ns: u64,
}

/// Percentiles, as far as they go.
#[derive(Clone, Copy)]
enum Known {
    Yes(Percentiles),
    /// Beyond a bound.
    No,
    /// The line has none.
    Blank,
}

impl From<Option<&Durations>> for Known {
    fn from(durations: Option<&Durations>) -> Self {
        durations
            .and_then(Durations::percentiles)
            .map_or(Known::No, Known::Yes)
    }
}

impl Columns {
    fn head(self, title: &str, out: &mut Vec<u8>) {
        let mut text = format!("{:>10} {:>5}", "blocked", "share");
        if self.percentiles {
            let names = if self.wide {
                &["p50", "p90", "p99"][..]
            } else {
                &["p99"]
            };
            for name in names {
                text += &format!(" {name:>8}");
            }
        }
        text += &format!(" {:>8} {:>8}", "max", "faults");
        if self.wide || !self.percentiles {
            text += &format!(" {:>8}", "majors");
        }
        self.page.say("", out);
        self.page
            .line()
            .paint(Paint::Dim, &format!("{text}  "))
            .paint(Paint::Bold, title)
            .end(out);
    }

    fn line(self, tally: &Tally, known: Known) -> (Line, usize) {
        let mut text = format!(
            "{:>10} {:>5}",
            duration(tally.blocked_ns),
            percent(tally.blocked_ns, self.blocked_ns)
        );
        if self.percentiles {
            let ns = |of: fn(&Percentiles) -> u64| match known {
                Known::Yes(percentiles) => duration(of(&percentiles)),
                Known::No => "?".to_owned(),
                Known::Blank => String::new(),
            };
            if self.wide {
                text += &format!(" {:>8} {:>8}", ns(|p| p.p50_ns), ns(|p| p.p90_ns));
            }
            text += &format!(" {:>8}", ns(|p| p.p99_ns));
        }
        text += &format!(" {:>8} {:>8}", duration(tally.max_ns), tally.faults);
        if self.wide || !self.percentiles {
            text += &format!(" {:>8}", tally.majors);
        }
        text += "  ";
        let column = crate::view::escape::width(&text);
        (self.page.line().add(&text), column)
    }
}

/// All tables of a section.
pub(super) fn tables(section: &Section<'_>, top: usize, out: &mut Vec<u8>) {
    let page = section.entries.page;
    let (total, part) = (section.total, section.part);
    let columns = Columns {
        page,
        wide: page.width.is_none_or(|width| width >= WIDE),
        percentiles: true,
        blocked_ns: total.tally.blocked_ns,
    };
    let causes = rows(columns, "by cause", &total.by_cause, top);
    causes.write(
        out,
        |cause| part.causes.get(cause),
        |line, _, cause, _, out| {
            cause_label(line, *cause).end(out);
        },
    );
    let threads = rows(columns, "by thread", &total.by_thread, top);
    threads.write(
        out,
        |key| part.threads.get(key),
        |line, _, key, entry, out| {
            let thread = words::with_id(Some(&entry.detail), key.tid);
            line.add(&section.labels.process(key.pid))
                .add(&thread)
                .end(out);
        },
    );
    let files = rows(columns, "by file", &total.by_file, top);
    let durations = |key: &_| part.files.get(key)?.durations.as_ref();
    files.write(out, durations, |line, _, key, _, out| {
        let at = words::file(key.mapping, key.path.as_ref(), key.deleted);
        line.path(&at.path, &at.suffix).end(out);
    });
    let columns = Columns {
        percentiles: false,
        ..columns
    };
    let stacks = rows(columns, "by stack", &total.by_stack, top);
    stacks.write(
        out,
        |_| None,
        |line, column, key, entry, out| {
            let process = section.labels.process(key.pid);
            stack_label(page, line, column, &process, entry.detail.as_deref(), out);
        },
    );
}

fn rows<'a, K, D>(
    columns: Columns,
    title: &'static str,
    table: &'a Table<K, D>,
    top: usize,
) -> Rows<'a, K, D> {
    Rows {
        columns,
        title,
        table,
        top,
    }
}

/// A table to be written.
struct Rows<'a, K, D> {
    columns: Columns,
    title: &'static str,
    table: &'a Table<K, D>,
    top: usize,
}

impl<K: Eq + Hash + Ord + Clone, D: Clone> Rows<'_, K, D> {
    fn write<'d>(
        &self,
        out: &mut Vec<u8>,
        durations: impl Fn(&K) -> Option<&'d Durations>,
        label: impl Fn(Line, usize, &K, &Entry<D>, &mut Vec<u8>),
    ) {
        self.columns.head(self.title, out);
        let ranked = self.table.ranked();
        for (key, entry) in ranked.iter().take(self.top) {
            let (line, column) = self.columns.line(&entry.tally, durations(key).into());
            label(line, column, key, entry, out);
        }
        let mut more = Tally::default();
        for (_, entry) in ranked.iter().skip(self.top) {
            more.merge(&entry.tally);
        }
        let hidden = ranked.len().saturating_sub(self.top);
        for (tally, text) in [
            (&more, format!("{hidden} more")),
            (
                self.table.others(),
                "others, beyond what could be remembered".to_owned(),
            ),
        ] {
            if tally.faults > 0 {
                let (line, _) = self.columns.line(tally, Known::Blank);
                line.add(&text).end(out);
            }
        }
    }
}
