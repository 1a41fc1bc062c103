//! What faults had read ahead of files (`--evictions`), of two traces: how much, and how much of it can have
//! been used.

use std::collections::{BTreeMap, BTreeSet};

use super::chance::Verdict;
use super::diff::Change;
use super::diff_beside::{Beside, number, rate};
use super::report::Report;
use crate::model::{AheadPages, Name, Start};

/// What was read ahead, by file.
#[derive(Debug, Clone, PartialEq)]
pub struct AheadChange {
    /// The greatest change of what was read in vain first.
    pub rows: Vec<FileAhead>,
    /// Files that are not told apart, before and after.
    pub others: (AheadPages, AheadPages),
}

/// A file.
#[derive(Debug, Clone, PartialEq)]
pub struct FileAhead {
    /// Its path; `None`: all whose path is not known.
    pub path: Option<Name>,
    /// Before; `None` if it may be among those that are not told apart.
    pub before: Option<AheadPages>,
    /// After; `None` likewise.
    pub after: Option<AheadPages>,
    /// Pages read ahead per second.
    pub read: Change,
    /// At most so much of them was used, 0 to 1; unknown where nothing was read.
    pub used: Change,
}

/// One trace, by file.
struct Side<'a> {
    report: &'a Report,
    files: BTreeMap<Option<&'a Name>, AheadPages>,
    others: AheadPages,
}

impl<'a> Side<'a> {
    /// `None` if the trace was not asked to look.
    fn of(report: &'a Report) -> Option<Self> {
        let told = report.summary.read_ahead();
        let asked = report.start.as_deref().is_some_and(Start::tells_read_ahead);
        if !asked && told.is_empty() {
            return None;
        }
        let (files, others) = told.top(usize::MAX);
        Some(Side {
            report,
            files: files
                .into_iter()
                .map(|(path, pages)| (path, *pages))
                .collect(),
            others,
        })
    }

    /// What was read ahead of a file; `None` if that may be among what is not told apart.
    fn pages(&self, path: Option<&Name>) -> Option<AheadPages> {
        let none = (self.others == AheadPages::default()).then(AheadPages::default);
        self.files.get(&path).copied().or(none)
    }
}

/// What was read ahead. `None` if neither trace was asked to look.
pub(super) fn compare(before: &Report, after: &Report) -> Option<Beside<AheadChange>> {
    Beside::of(Side::of(before), Side::of(after), |before, after| {
        let paths: BTreeSet<_> = before.files.keys().chain(after.files.keys()).collect();
        let row = |path: &Option<&Name>| FileAhead::new(*path, &before, &after);
        let mut rows: Vec<_> = paths.into_iter().map(row).collect();
        let in_vain = |row: &FileAhead| row.in_vain(before.report, after.report);
        rows.sort_by(|a, b| in_vain(b).total_cmp(&in_vain(a)));
        AheadChange {
            rows,
            others: (before.others, after.others),
        }
    })
}

impl FileAhead {
    fn new(path: Option<&Name>, before: &Side<'_>, after: &Side<'_>) -> Self {
        let (a, b) = (before.pages(path), after.pages(path));
        let change = |before, after| Change {
            before,
            after,
            verdict: Verdict::Unknown,
        };
        let read = |pages: AheadPages| pages.read;
        FileAhead {
            path: path.cloned(),
            before: a,
            after: b,
            read: change(
                rate(before.report, a.map(read)),
                rate(after.report, b.map(read)),
            ),
            used: change(a.and_then(used), b.and_then(used)),
        }
    }

    /// By how much the pages that were read in vain per second differ.
    fn in_vain(&self, before: &Report, after: &Report) -> f64 {
        let of = |report, pages: Option<AheadPages>| {
            rate(report, pages.map(|pages| pages.in_vain())).unwrap_or(0.0)
        };
        (of(after, self.after) - of(before, self.before)).abs()
    }
}

fn used(pages: AheadPages) -> Option<f64> {
    (pages.read > 0).then(|| number(pages.used_at_most()) / number(pages.read))
}
