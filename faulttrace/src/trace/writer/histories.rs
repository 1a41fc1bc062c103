//! The pasts of pages, who filled the page cache, and what was read ahead, to rows.

use super::dictionary::Dictionary;
use super::statements::Statements;
use crate::model::{CacheFill, History, Name, ReadAhead};
use crate::trace::rows::relative;

/// Writes the past of the page of the fault of this number.
pub(super) fn history(
    history: &History,
    fault: i64,
    base_ns: u64,
    dictionary: &mut Dictionary,
    rows: &mut Statements<'_>,
) -> rusqlite::Result<()> {
    let at = |ns: u64| relative(ns, base_ns);
    let removal = history.removal();
    let remover = match removal.map(|removal| &removal.by) {
        None => None,
        Some(by) => Some(dictionary.thread(by.pid, by.tid, &by.name, rows)?),
    };
    let filled = removal.and_then(|removal| removal.filled.as_ref());
    let filler = match filled {
        None => None,
        Some(filled) => Some(dictionary.thread(filled.pid, 0, &filled.name, rows)?),
    };
    let syscall = removal.and_then(|removal| removal.by.syscall.as_ref());
    rows.history.row([
        fault.into(),
        history.watched_ns.map(at).into(),
        history.past.as_str().into(),
        removal.map(|removal| at(removal.removed_ns)).into(),
        removal.and_then(|removal| removal.cached_ns).map(at).into(),
        removal.map(|removal| removal.how.as_str()).into(),
        remover.into(),
        syscall.map(Name::as_bytes).into(),
        removal.and_then(|removal| removal.distance_pages).into(),
        filler.into(),
        filled.map(|filled| filled.pages).into(),
        filled.map(|filled| filled.of_pages).into(),
        removal
            .and_then(|removal| removal.cgroup.as_ref())
            .map(Name::as_bytes)
            .into(),
    ])
}

/// Writes who filled the page cache, under this number.
pub(super) fn cache_fill(
    fill: &CacheFill,
    id: i64,
    base_ns: u64,
    dictionary: &mut Dictionary,
    rows: &mut Statements<'_>,
) -> rusqlite::Result<()> {
    rows.cache_fill.row([
        id.into(),
        relative(fill.begin_ns, base_ns).into(),
        relative(fill.end_ns, base_ns).into(),
        fill.added_pages.into(),
        fill.removed_pages.into(),
        fill.reclaimed_pages.into(),
    ])?;
    for (position, by) in (0_i64..).zip(&fill.by) {
        let process = dictionary.thread(by.pid, 0, &by.name, rows)?;
        rows.cache_fill_by
            .row([id.into(), position.into(), process.into(), by.pages.into()])?;
    }
    Ok(())
}

/// Writes what was read of a file ahead, under this number.
pub(super) fn read_ahead(
    ahead: &ReadAhead,
    id: i64,
    base_ns: u64,
    rows: &mut Statements<'_>,
) -> rusqlite::Result<()> {
    rows.read_ahead.row([
        id.into(),
        relative(ahead.begin_ns, base_ns).into(),
        relative(ahead.end_ns, base_ns).into(),
        ahead.path.as_ref().map(Name::as_bytes).into(),
        ahead.pages.read.into(),
        ahead.pages.mapped.into(),
        ahead.pages.dropped.into(),
        ahead.pages.unknown.into(),
    ])
}
