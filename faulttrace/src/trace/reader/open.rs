//! Opens the database of a trace without trusting it.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use super::Errors;
use crate::trace::file::{io_error, journal_of};
use crate::trace::{Error, Result};

/// The end of a journal that names another journal to look at, and to delete (pager.c, `aJournalMagic`).
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
/// Memory that SQLite may use for one trace.
const MAX_HEAP: &str = "67108864";
/// How long a trace that is being written may be locked.
const BUSY: Duration = Duration::from_secs(10);

/// The database, its file, and the size of that.
pub(super) fn open(path: &Path) -> Result<(Connection, File, u64)> {
    let metadata = fs::metadata(path).map_err(|error| io_error(path, error))?;
    let errors = Errors { path };
    if !metadata.is_file() {
        return Err(errors.not_a_trace("it is not a regular file".to_owned()));
    }
    if metadata.len() == 0 {
        return Err(errors.not_a_trace("it is empty".to_owned()));
    }
    let db = match connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY) {
        Ok(db) => db,
        // It was being written when the writer died: its last, unfinished transaction must be
        // taken back first.
        Err(error) if needs_repair(path) => {
            refuse_hostile_journal(path)?;
            connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|_| Error::NeedsRepair {
                path: path.to_owned(),
                why: error.to_string(),
            })?
        }
        Err(error) => return Err(errors.database(error)),
    };
    let file = File::open(path).map_err(|error| io_error(path, error))?;
    let metadata = file.metadata().map_err(|error| io_error(path, error))?;
    Ok((db, file, metadata.len()))
}

fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(BUSY)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    for (limit, value) in [
        // Longest text, blob or row.
        (Limit::SQLITE_LIMIT_LENGTH, 1 << 20),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 1 << 20),
        (Limit::SQLITE_LIMIT_COLUMN, 100),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        db.set_limit(limit, value)?;
    }
    for (pragma, value) in [
        ("cell_size_check", "ON"),
        // A file that shrinks while it is mapped ends the process.
        ("mmap_size", "0"),
        ("temp_store", "MEMORY"),
        ("cache_size", "-8192"),
        ("hard_heap_limit", MAX_HEAP),
    ] {
        set(&db, pragma, value)?;
    }
    // Nothing has been read so far; this says whether the file can be.
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(db)
}

/// Some pragmas answer, some do not.
fn set(db: &Connection, pragma: &str, value: &str) -> rusqlite::Result<()> {
    db.pragma_update_and_check(None, pragma, value, |_| Ok(()))
        .or_else(|error| match error {
            rusqlite::Error::QueryReturnedNoRows => Ok(()),
            error => Err(error),
        })
}

fn needs_repair(path: &Path) -> bool {
    fs::metadata(journal_of(path)).is_ok_and(|journal| journal.is_file() && journal.len() > 0)
}

/// A journal can name another one for SQLite to delete. Ours never do.
fn refuse_hostile_journal(path: &Path) -> Result<()> {
    let journal = journal_of(path);
    let tail = || -> std::io::Result<[u8; 8]> {
        let mut file = File::open(&journal)?;
        let mut tail = [0; 8];
        let size = file.metadata()?.len();
        if size >= 8 {
            file.seek(SeekFrom::Start(size - 8))?;
            file.read_exact(&mut tail)?;
        }
        Ok(tail)
    };
    match tail() {
        Err(error) => Err(io_error(&journal, error)),
        Ok(JOURNAL_MAGIC) => Err(Error::NotATrace {
            path: journal,
            what: "it names further files, which no journal of a trace does".to_owned(),
        }),
        Ok(_) => Ok(()),
    }
}
