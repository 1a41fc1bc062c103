//! Keeps a trace to its size: the oldest faults make room for new ones, and are counted.

use std::path::Path;

use rusqlite::{Connection, params};

use super::database;
use crate::trace::{Error, Result};

/// Room that is kept for what a batch adds besides faults, in percent of the size.
const RESERVE_PERCENT: u64 = 10;
/// How often a batch makes room; the next one goes on.
const MAX_ROUNDS: usize = 2;

/// The bound of one trace.
#[derive(Debug)]
pub(super) struct Limit {
    max_bytes: u64,
    dropped_faults: u64,
    dropped_majors: u64,
    dropped_stuck: u64,
}

impl Limit {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            dropped_faults: 0,
            dropped_majors: 0,
            dropped_stuck: 0,
        }
    }

    /// Faults that made room.
    pub(super) fn dropped_faults(&self) -> u64 {
        self.dropped_faults
    }

    /// Makes room inside the open transaction if there is too little, after `added` faults were
    /// written. Twice as many go as came, so that each batch pays for itself alone.
    pub(super) fn keep(&mut self, db: &Connection, path: &Path, added: u64) -> Result<()> {
        for _ in 0..MAX_ROUNDS {
            let full = self.is_full(db).map_err(|error| database(path, error))?;
            if !full {
                break;
            }
            let wanted = added.max(1024).saturating_mul(2);
            let dropped = self
                .drop_oldest(db, wanted)
                .map_err(|error| database(path, error))?;
            if dropped == 0 {
                return Err(Error::TooSmall(self.max_bytes));
            }
        }
        Ok(())
    }

    fn is_full(&self, db: &Connection) -> rusqlite::Result<bool> {
        let number = |pragma| db.pragma_query_value(None, pragma, |row| row.get::<_, u64>(0));
        let free = number("freelist_count")?;
        let used = number("page_count")?.saturating_sub(free);
        let room = self.max_bytes / 100 * (100 - RESERVE_PERCENT);
        Ok(used.saturating_mul(number("page_size")?) > room)
    }

    fn drop_oldest(&mut self, db: &Connection, wanted: u64) -> rusqlite::Result<u64> {
        let last: Option<i64> = db.query_row(
            "SELECT max(id) FROM (SELECT id FROM faults ORDER BY id LIMIT ?)",
            [wanted.cast_signed()],
            |row| row.get(0),
        )?;
        let Some(last) = last else { return Ok(0) };
        let (faults, majors): (u64, u64) = db.query_row(
            "SELECT count(*), coalesce(sum(major), 0) FROM faults JOIN sites ON sites.id = site
             WHERE faults.id <= ?",
            [last],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        db.execute("DELETE FROM faults WHERE id <= ?", [last])?;
        db.execute("DELETE FROM sleeps WHERE fault <= ?", [last])?;
        let stuck = db.execute("DELETE FROM stuck WHERE id <= ?", [last])?;
        self.dropped_faults += faults;
        self.dropped_majors += majors;
        self.dropped_stuck += u64::try_from(stuck).unwrap_or(0);
        for (key, value) in [
            ("dropped_faults", self.dropped_faults),
            ("dropped_majors", self.dropped_majors),
            ("dropped_stuck", self.dropped_stuck),
        ] {
            db.execute(
                "UPDATE meta SET value = ? WHERE key = ?",
                params![value.cast_signed(), key],
            )?;
        }
        Ok(faults)
    }
}
