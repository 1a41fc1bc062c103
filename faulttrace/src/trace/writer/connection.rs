//! The writer's connection to its database, and how long it waits for those who read it.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

/// How long somebody who reads the trace may hold up its end.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// Bytes of a page of the database.
pub(super) const PAGE_BYTES: u64 = 4096;

/// Since when the writer is to end. Only one trace is written at a time; SQLite's callback has no
/// argument to carry it.
static ENDING: Mutex<Option<Instant>> = Mutex::new(None);

/// A trace begins: there is time.
pub(super) fn take_time() {
    *ENDING.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// The trace ends, if it was not ending already: whoever waits for a reader is to give up before
/// long.
pub(super) fn hurry() {
    ENDING
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert_with(Instant::now);
}

/// While tracing goes on there is time: what does not fit meanwhile is counted.
fn wait_for_lock(_times: i32) -> bool {
    let ending = *ENDING.lock().unwrap_or_else(PoisonError::into_inner);
    if ending.is_some_and(|since| since.elapsed() > PATIENCE) {
        return false;
    }
    std::thread::sleep(PAUSE);
    true
}

/// Opens the file that was made for it.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut db = Connection::open_with_flags(path, flags)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.busy_handler(Some(wait_for_lock))?;
    db.set_prepared_statement_cache_capacity(64);
    db.pragma_update(None, "page_size", PAGE_BYTES.cast_signed())?;
    for (pragma, value) in [
        ("auto_vacuum", "NONE"),
        // The journal that is there is used again, see `TraceFile::create`.
        ("journal_mode", "TRUNCATE"),
        ("synchronous", "OFF"),
        ("temp_store", "MEMORY"),
        ("cache_size", "-16384"),
        // Nothing reaches the file before its transaction is whole.
        ("cache_spill", "OFF"),
    ] {
        db.pragma_update(None, pragma, value)?;
    }
    Ok(db)
}
