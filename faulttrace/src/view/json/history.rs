//! What `--evictions` adds: the past of a fault's page, who filled the page cache, and what these add
//! up to.

use serde::Serialize;

use super::TOP;
use super::scalar::escaped;
use crate::model::summary::{Fills, Pasts, Remover, Waited, Who};
use crate::model::{CacheFill, Filled, FilledBy, History, Task, known_id};
use crate::view::escape::Escaped;

#[derive(Serialize)]
pub(super) struct HistoryPart<'a> {
    past: &'static str,
    watched_ns: Option<u64>,
    removed_ns: Option<u64>,
    cached_ns: Option<u64>,
    how: Option<&'static str>,
    removed_by: Option<RemoverPart<'a>>,
    distance_pages: Option<u64>,
    filled: Option<FilledPart<'a>>,
}

impl<'a> HistoryPart<'a> {
    pub(super) fn new(history: &'a History) -> Self {
        let removal = history.removal();
        HistoryPart {
            past: history.past.as_str(),
            watched_ns: history.watched_ns,
            removed_ns: removal.map(|removal| removal.removed_ns),
            cached_ns: removal.and_then(|removal| removal.cached_ns),
            how: removal.map(|removal| removal.how.as_str()),
            removed_by: removal.map(|removal| RemoverPart {
                task: TaskPart::new(&removal.by),
                cgroup: escaped(removal.cgroup.as_ref()),
            }),
            distance_pages: removal.and_then(|removal| removal.distance_pages),
            filled: removal
                .and_then(|removal| removal.filled.as_ref())
                .map(FilledPart::new),
        }
    }
}

#[derive(Serialize)]
struct RemoverPart<'a> {
    #[serde(flatten)]
    task: TaskPart<'a>,
    cgroup: Option<Escaped<'a>>,
}

#[derive(Serialize)]
pub(super) struct TaskPart<'a> {
    pid: Option<u32>,
    tid: Option<u32>,
    thread: Escaped<'a>,
    syscall: Option<Escaped<'a>>,
}

impl<'a> TaskPart<'a> {
    pub(super) fn new(task: &'a Task) -> Self {
        TaskPart {
            pid: known_id(task.pid),
            tid: known_id(task.tid),
            thread: Escaped(task.name.as_bytes()),
            syscall: escaped(task.syscall.as_ref()),
        }
    }
}

#[derive(Serialize)]
struct FilledPart<'a> {
    pid: Option<u32>,
    name: Escaped<'a>,
    pages: u64,
    of_pages: u64,
}

impl<'a> FilledPart<'a> {
    fn new(filled: &'a Filled) -> Self {
        FilledPart {
            pid: known_id(filled.pid),
            name: Escaped(filled.name.as_bytes()),
            pages: filled.pages,
            of_pages: filled.of_pages,
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "cache_fill")]
pub(super) struct CacheFillLine<'a> {
    begin_ns: u64,
    end_ns: u64,
    added_pages: u64,
    removed_pages: u64,
    reclaimed_pages: u64,
    by: Vec<FilledByPart<'a>>,
}

impl<'a> CacheFillLine<'a> {
    pub(super) fn new(fill: &'a CacheFill) -> Self {
        let by = |by: &'a FilledBy| FilledByPart {
            pid: known_id(by.pid),
            name: Escaped(by.name.as_bytes()),
            pages: by.pages,
        };
        CacheFillLine {
            begin_ns: fill.begin_ns,
            end_ns: fill.end_ns,
            added_pages: fill.added_pages,
            removed_pages: fill.removed_pages,
            reclaimed_pages: fill.reclaimed_pages,
            by: fill.by.iter().map(by).collect(),
        }
    }
}

#[derive(Serialize)]
struct FilledByPart<'a> {
    pid: Option<u32>,
    name: Escaped<'a>,
    pages: u64,
}

/// What the pasts of pages add up to.
#[derive(Serialize)]
pub(in crate::view) struct PastsPart<'a> {
    first_touch: WaitedPart,
    refault: WaitedPart,
    unknown: WaitedPart,
    removed_by: Vec<RemovedPart<'a>>,
    removed_by_others: WaitedPart,
    filled_by: Vec<WhoPart<'a>>,
    filled_by_others: WaitedPart,
    pages_more: Option<PagesMore>,
    without_distance: u64,
}

impl<'a> PastsPart<'a> {
    /// `None` if nothing was looked at.
    pub(in crate::view) fn of(pasts: &'a Pasts) -> Option<Self> {
        if pasts.is_empty() {
            return None;
        }
        let (removed, removed_rest) = pasts.removed.top(TOP);
        let (filled, filled_rest) = pasts.filled.top(TOP);
        let removed_by = |(remover, waited): (&'a Remover, Waited)| RemovedPart {
            how: remover.how.as_str(),
            cgroup: escaped(remover.cgroup.as_ref()),
            who: WhoPart::new(&remover.who, waited),
        };
        Some(PastsPart {
            first_touch: pasts.first_touch.into(),
            refault: pasts.refault.into(),
            unknown: pasts.unknown.into(),
            removed_by: removed.into_iter().map(removed_by).collect(),
            removed_by_others: removed_rest.into(),
            filled_by: filled
                .into_iter()
                .map(|(who, waited)| WhoPart::new(who, waited))
                .collect(),
            filled_by_others: filled_rest.into(),
            pages_more: PagesMore::of(pasts),
            without_distance: pasts.without_distance,
        })
    }
}

#[derive(Serialize)]
struct WaitedPart {
    faults: u64,
    blocked_ns: u64,
}

impl From<Waited> for WaitedPart {
    fn from(waited: Waited) -> Self {
        WaitedPart {
            faults: waited.faults,
            blocked_ns: waited.blocked_ns,
        }
    }
}

#[derive(Serialize)]
struct RemovedPart<'a> {
    how: &'static str,
    cgroup: Option<Escaped<'a>>,
    #[serde(flatten)]
    who: WhoPart<'a>,
}

#[derive(Serialize)]
struct WhoPart<'a> {
    pid: Option<u32>,
    name: Escaped<'a>,
    #[serde(flatten)]
    waited: WaitedPart,
}

impl<'a> WhoPart<'a> {
    fn new(who: &'a Who, waited: Waited) -> Self {
        WhoPart {
            pid: known_id(who.pid),
            name: Escaped(who.name.as_bytes()),
            waited: waited.into(),
        }
    }
}

#[derive(Serialize)]
struct PagesMore {
    of_faults: u64,
    p50: u64,
    p90: u64,
    p99: u64,
}

impl PagesMore {
    fn of(pasts: &Pasts) -> Option<Self> {
        let [p50, p90, p99] = pasts.avoided()?;
        Some(PagesMore {
            of_faults: pasts.with_distance(),
            p50,
            p90,
            p99,
        })
    }
}

/// Who filled the page cache, in all.
#[derive(Serialize)]
pub(in crate::view) struct FillsPart<'a> {
    added_pages: u64,
    removed_pages: u64,
    reclaimed_pages: u64,
    by: Vec<FilledByPart<'a>>,
}

impl<'a> FillsPart<'a> {
    /// `None` if it was not asked.
    pub(in crate::view) fn of(fills: &'a Fills) -> Option<Self> {
        let by = |(who, pages): (&'a Who, u64)| FilledByPart {
            pid: known_id(who.pid),
            name: Escaped(who.name.as_bytes()),
            pages,
        };
        (!fills.is_empty()).then(|| FillsPart {
            added_pages: fills.added_pages,
            removed_pages: fills.removed_pages,
            reclaimed_pages: fills.reclaimed_pages,
            by: fills.ranked().into_iter().take(TOP).map(by).collect(),
        })
    }
}
