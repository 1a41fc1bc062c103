//! Opens the database of a trace without trusting it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::Errors;
use super::steps::Steps;
use crate::trace::file::{io_error, journal_of, with_suffix};
use crate::trace::{Error, Result};

/// The end of a journal that names another journal to look at, and to delete (pager.c, `aJournalMagic`).
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
/// Memory that SQLite may use for one trace.
const MAX_HEAP: &str = "67108864";
/// How long a trace that is being written may be locked.
const BUSY: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 10_000 });

/// A database that can be read, and checked.
pub(super) struct Opened {
    pub(super) db: Connection,
    pub(super) steps: Steps,
    pub(super) file: File,
    /// Bytes in it.
    pub(super) size: u64,
}

/// Opens it. Errors have the path as it was given.
pub(super) fn open(path: &Path) -> Result<Opened> {
    let errors = Errors { path };
    // SQLite looks for the journal where a link leads to; so must we.
    let place = path.canonicalize().map_err(|error| io_error(path, error))?;
    let file = open_file(&place, &errors)?;
    refuse_odd_companions(&place)?;
    refuse_write_ahead_log(&file, &errors)?;
    let (db, steps) = match connect(&place, OpenFlags::SQLITE_OPEN_READ_ONLY) {
        Err(error) if of_journal(&error) && has_journal(&place) => {
            repair(&place, &errors)?;
            // The journal has brought back another header, perhaps.
            refuse_write_ahead_log(&file, &errors)?;
            connect(&place, OpenFlags::SQLITE_OPEN_READ_ONLY)
        }
        connected => connected,
    }
    .map_err(|error| errors.database(error))?;
    let size = file
        .metadata()
        .map_err(|error| io_error(path, error))?
        .len();
    Ok(Opened {
        db,
        steps,
        file,
        size,
    })
}

fn open_file(place: &Path, errors: &Errors<'_>) -> Result<File> {
    let io = |error| io_error(errors.path, error);
    // Opening a pipe would wait for somebody to write to it.
    if !fs::metadata(place).map_err(io)?.is_file() {
        return Err(errors.not_a_trace("it is not a regular file".to_owned()));
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(place)
        .map_err(io)?;
    if file.metadata().map_err(io)?.len() == 0 {
        return Err(errors.not_a_trace("it is empty".to_owned()));
    }
    Ok(file)
}

/// SQLite opens whatever stands beside a database under these names. A pipe would make it wait for
/// ever; a log that is written ahead is mapped into memory, and who cuts it short ends the process.
fn refuse_odd_companions(place: &Path) -> Result<()> {
    let refused = |path: PathBuf, what: &str| Error::NotATrace {
        path,
        what: what.to_owned(),
    };
    let journal = journal_of(place);
    match fs::symlink_metadata(&journal) {
        Ok(there) if !there.is_file() => {
            return Err(refused(journal, "a journal is a regular file"));
        }
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io_error(&journal, error)),
        _ => {}
    }
    let log = with_suffix(place, "-wal");
    match fs::symlink_metadata(&log) {
        Ok(_) => Err(refused(log, "no trace has a write-ahead log beside it")),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error(&log, error)),
        Err(_) => Ok(()),
    }
}

/// Bytes 18 and 19 of a database say with what it is written and read: 1 is a journal, 2 a
/// write-ahead log (SQLite's "Database File Format", 1.3.3).
fn refuse_write_ahead_log(file: &File, errors: &Errors<'_>) -> Result<()> {
    let mut header = [0; 20];
    match file.read_exact_at(&mut header, 0) {
        // SQLite says what such a file is.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
        read => read.map_err(|error| io_error(errors.path, error))?,
    }
    if header.starts_with(b"SQLite format 3\0") && !header.ends_with(&[1, 1]) {
        let what = "it is written with a write-ahead log, which no trace is".to_owned();
        return Err(errors.not_a_trace(what));
    }
    Ok(())
}

/// It was being written when the writer died: its last, unfinished transaction is taken back.
fn repair(place: &Path, errors: &Errors<'_>) -> Result<()> {
    refuse_hostile_journal(place)?;
    let repaired = connect(place, OpenFlags::SQLITE_OPEN_READ_WRITE);
    repaired
        .map(drop)
        .map_err(|error| match error.sqlite_error_code() {
            Some(
                ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::SystemIoFailure
                | ErrorCode::DiskFull,
            ) => Error::NeedsRepair {
                path: place.to_owned(),
                why: error.to_string(),
            },
            _ => errors.database(error),
        })
}

/// Whether an error can come from a journal that must be played back first. That the trace is being
/// written right now is none.
fn of_journal(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen)
    )
}

fn connect(place: &Path, access: OpenFlags) -> rusqlite::Result<(Connection, Steps)> {
    let mut db = Connection::open_with_flags(place, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // Some of what follows reads the schema.
    let steps = Steps::bound(&mut db)?;
    if access.contains(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        // Should it turn out to have a write-ahead log, then at least nothing is mapped.
        set(&db, "locking_mode", "EXCLUSIVE")?;
    }
    db.busy_timeout(BUSY)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    for (limit, value) in [
        // Longest text, blob or row.
        (Limit::SQLITE_LIMIT_LENGTH, 1 << 20),
        // Statements of the schema, too: each takes time to understand.
        (Limit::SQLITE_LIMIT_SQL_LENGTH, 1 << 16),
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
    db.prepare("SELECT 1 FROM sqlite_schema LIMIT 1")?
        .exists([])?;
    Ok((db, steps))
}

/// Some pragmas answer, some do not.
fn set(db: &Connection, pragma: &str, value: &str) -> rusqlite::Result<()> {
    db.pragma_update_and_check(None, pragma, value, |_| Ok(()))
        .or_else(|error| match error {
            rusqlite::Error::QueryReturnedNoRows => Ok(()),
            error => Err(error),
        })
}

fn has_journal(path: &Path) -> bool {
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
