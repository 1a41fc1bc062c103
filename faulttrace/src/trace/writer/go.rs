//! Go programs and their goroutines, to rows.

use super::dictionary::Dictionary;
use super::statements::Statements;
use crate::model::{GoProcess, Goroutine, LayoutSource, Name};
use crate::trace::rows::relative;

/// Writes what the thread of a fault was at, under the number of the record.
pub(super) fn goroutine(
    goroutine: &Goroutine,
    (record, pid): (i64, u32),
    dictionary: &mut Dictionary,
    rows: &mut Statements<'_>,
) -> rusqlite::Result<()> {
    let id = dictionary.goroutine(pid, goroutine, rows)?;
    rows.fault_goroutine.row([
        record.into(),
        id.into(),
        goroutine.p.into(),
        goroutine.in_syscall.into(),
        goroutine.procs.into(),
        goroutine.queued_local.into(),
        goroutine.queued_global.into(),
        goroutine.queued_global_at_end.into(),
    ])
}

/// Writes that a process runs a Go program, under this number.
pub(super) fn process(
    go: &GoProcess,
    id: i64,
    base_ns: u64,
    rows: &mut Statements<'_>,
) -> rusqlite::Result<()> {
    rows.go_process.row([
        id.into(),
        go.pid.into(),
        relative(go.time_ns, base_ns).into(),
        go.version.as_bytes().into(),
        go.module.as_ref().map(Name::as_bytes).into(),
        go.procs.into(),
        go.layout.map(LayoutSource::as_str).into(),
    ])
}
