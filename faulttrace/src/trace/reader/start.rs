//! What is known of the whole trace.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::types::Value;

use super::others::name;
use super::scan::Scan;
use super::{Errors, Order};
use crate::model::{ProcessInfo, Start};
use crate::trace::Result;

/// More of a list makes no sense, and would take memory without bound.
const MAX_LIST: usize = 1 << 16;
/// Bytes of all words of the command line together; the kernel's own limit is lower.
const MAX_BYTES: usize = 16 << 20;
/// Pages of known machines: 4 KiB to 64 KiB; a power of two in any case.
const MAX_PAGE_BYTES: u64 = 1 << 20;

/// How a trace ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// In order.
    Complete,
    /// It is still being written, or the writer was killed.
    Recording,
    /// It could not be written on, because of this.
    Stopped(String),
}

/// What is known of the whole trace.
#[derive(Debug, Clone)]
pub struct Meta {
    /// The `start` record.
    pub start: Arc<Start>,
    /// Machine, as `uname -m`.
    pub arch: Option<String>,
    /// CPUs that were online.
    pub cpus: Option<u64>,
    /// Unix time until which everything reported is in the file, ns.
    pub written_ns: u64,
    /// How it ended.
    pub state: State,
    /// Oldest faults that were removed to keep to `--max-size`.
    pub dropped_faults: u64,
    /// Major ones of them.
    pub dropped_majors: u64,
    /// Reports of stuck threads that were removed with them.
    pub dropped_stuck: u64,
    /// Bytes of a page of that machine.
    pub page_bytes: u64,
    /// What times are counted from.
    pub(super) base_ns: u64,
}

/// Reads it.
pub(super) fn read(db: &Connection, errors: &Errors<'_>, size: u64) -> Result<Meta> {
    let facts = facts(db).map_err(|error| errors.database(error))?;
    let text = |key: &str| match facts.get(key) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let number = |key: &str| match facts.get(key) {
        Some(Value::Integer(number)) => Some(number.cast_unsigned()),
        _ => None,
    };
    let needed = |key: &str| {
        number(key).ok_or_else(|| errors.not_a_trace(format!("it does not say its {key}")))
    };
    let page_bytes = needed("page_bytes")?;
    if !page_bytes.is_power_of_two() || page_bytes > MAX_PAGE_BYTES {
        return Err(errors.damaged(format!("its page_bytes is {page_bytes}")));
    }
    let state = match text("state").as_deref() {
        Some("complete") => State::Complete,
        Some("recording") | None => State::Recording,
        Some(why) => State::Stopped(why.to_owned()),
    };
    let start = Start {
        version: text("version").unwrap_or_default(),
        host: text("host").unwrap_or_default(),
        kernel: text("kernel").unwrap_or_default(),
        command: command(db, *errors, size)?,
        targets: targets(db, *errors, size)?,
        rungs: rungs(db, *errors, size)?,
        time_ns: needed("start_ns")?,
    };
    Ok(Meta {
        start: Arc::new(start),
        arch: text("arch"),
        cpus: number("cpus"),
        written_ns: needed("written_ns")?,
        state,
        dropped_faults: number("dropped_faults").unwrap_or(0),
        dropped_majors: number("dropped_majors").unwrap_or(0),
        dropped_stuck: number("dropped_stuck").unwrap_or(0),
        page_bytes,
        base_ns: needed("base_ns")?,
    })
}

fn facts(db: &Connection) -> rusqlite::Result<HashMap<String, Value>> {
    let mut statement = db.prepare("SELECT key, value FROM meta NOT INDEXED LIMIT 100")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn command(db: &Connection, errors: Errors<'_>, size: u64) -> Result<Vec<String>> {
    list(db, "arguments", "argument", errors, size, |row| row.get(1))
}

fn targets(db: &Connection, errors: Errors<'_>, size: u64) -> Result<Vec<ProcessInfo>> {
    list(db, "targets", "pid, name, exe", errors, size, |row| {
        Ok(ProcessInfo {
            pid: row.get(1)?,
            name: name(row, 2)?.unwrap_or_default(),
            exe: name(row, 3)?,
        })
    })
}

fn rungs(db: &Connection, errors: Errors<'_>, size: u64) -> Result<Vec<(String, String)>> {
    list(db, "rungs", "job, rung", errors, size, |row| {
        Ok((row.get(1)?, row.get(2)?))
    })
}

fn list<T>(
    db: &Connection,
    table: &'static str,
    columns: &str,
    errors: Errors<'_>,
    size: u64,
    mut read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let sql = format!("SELECT rowid, {columns} FROM {table} NOT INDEXED ORDER BY rowid");
    let mut statement = db.prepare(&sql).map_err(|error| errors.database(error))?;
    let mut scan = Scan::new(&mut statement, table, Order::OldestFirst, size, errors)?;
    let (mut all, mut bytes) = (Vec::new(), 0_usize);
    while let Some((id, row)) = scan.next()? {
        for index in 1..row.as_ref().column_count() {
            bytes += row.get_ref(index).ok().map_or(0, |value| match value {
                rusqlite::types::ValueRef::Text(it) | rusqlite::types::ValueRef::Blob(it) => {
                    it.len()
                }
                _ => 0,
            });
        }
        if all.len() >= MAX_LIST || bytes > MAX_BYTES {
            return Err(errors.damaged(format!("its table {table} is too long")));
        }
        all.push(read(row).map_err(|error| errors.row(table, id, &error))?);
    }
    Ok(all)
}
