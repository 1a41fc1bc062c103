//! Writes a trace. On a thread of its own: SQLite waits for the disk.
//!
//! Records are taken in batches, each one transaction, so that a trace is whole at any moment. There
//! is no fsync before the end: what the process has handed to the kernel survives the process.

mod dictionary;
mod faults;
mod limit;
mod statements;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::file::TraceFile;
use super::{Error, Result, schema};
use crate::model::{Record, Start};
use crate::process::caller::Caller;
use dictionary::Dictionary;
use faults::Faults;
use limit::Limit;
use statements::Statements;

/// How a trace is to be written.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Replace a file that is there.
    pub force: bool,
    /// The oldest faults drop out when the file would become larger.
    pub max_bytes: Option<u64>,
    /// Whom the file is to belong to, if not this user.
    pub owner: Option<Caller>,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Saved {
    /// Faults in the file.
    pub faults: u64,
    /// Faults that dropped out.
    pub dropped: u64,
    /// Size of the file.
    pub bytes: u64,
}

/// A trace that is being written.
pub struct Writer {
    /// Closed before `file`, see there.
    db: Connection,
    file: TraceFile,
    dictionary: Dictionary,
    faults: Faults,
    limit: Option<Limit>,
    /// The next record's number.
    next: i64,
    /// Faults whose transaction is whole.
    committed: u64,
    /// Whoever waits for a lock that a reader has is to give up.
    hurry: &'static AtomicBool,
}

/// Only one trace is written at a time; SQLite's callback has no argument to carry it.
static HURRY: AtomicBool = AtomicBool::new(false);

impl Writer {
    /// Makes the file. From here on the calling thread may use files with the rights of
    /// `options.owner` alone.
    pub fn create(path: &Path, options: &Options) -> Result<Self> {
        let file = TraceFile::create(path, options.force, options.owner.as_ref())?;
        HURRY.store(false, Ordering::Relaxed);
        let db = open(file.path()).map_err(|error| database(file.path(), error))?;
        let writer = Self {
            db,
            file,
            dictionary: Dictionary::default(),
            faults: Faults::default(),
            limit: options.max_bytes.map(Limit::new),
            next: 1,
            committed: 0,
            hurry: &HURRY,
        };
        writer.lay_out()?;
        Ok(writer)
    }

    /// Faults that are in the file, or have been: whatever happens next.
    pub fn faults_written(&self) -> u64 {
        self.committed
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    fn lay_out(&self) -> Result<()> {
        let laid = || {
            self.db.execute_batch(&format!(
                "BEGIN; {}PRAGMA application_id = {}; PRAGMA user_version = {}; COMMIT",
                schema::create(),
                schema::APPLICATION_ID,
                schema::user_version(schema::MAJOR, schema::MINOR)
            ))
        };
        laid().map_err(|error| database(self.file.path(), error))?;
        // What SQLite has opened is the file that was made, or it would still be empty.
        if self.file.size()? == 0 {
            return Err(Error::Vanished(self.file.path().to_owned()));
        }
        Ok(())
    }

    /// Writes records, all or none. `now_ns` is Unix time: all that was reported until then has been
    /// handed over.
    pub fn write<'a>(
        &mut self,
        records: impl IntoIterator<Item = &'a Record>,
        now_ns: u64,
    ) -> Result<()> {
        self.file.check_place()?;
        let result = self.transaction(records, now_ns);
        if result.is_err() && !self.db.is_autocommit() {
            // Where even that fails, the journal rolls back what is in the file when it is opened.
            let _ = self.db.execute_batch("ROLLBACK");
        }
        result?;
        self.committed = self.faults.written;
        self.file.settle()
    }

    fn transaction<'a>(
        &mut self,
        records: impl IntoIterator<Item = &'a Record>,
        now_ns: u64,
    ) -> Result<()> {
        let Self {
            db,
            file,
            dictionary,
            faults,
            limit,
            next,
            ..
        } = self;
        let before = faults.written;
        let write = || -> rusqlite::Result<()> {
            db.execute_batch("BEGIN IMMEDIATE")?;
            let mut rows = Statements::new(db)?;
            for record in records {
                faults.record(record, *next, dictionary, &mut rows)?;
                *next += 1;
            }
            rows.meta("written_ns", now_ns.cast_signed())
        };
        write().map_err(|error| database(file.path(), error))?;
        if let Some(limit) = limit {
            limit.keep(db, file.path(), faults.written - before)?;
        }
        db.execute_batch("COMMIT")
            .map_err(|error| database(file.path(), error))
    }

    /// Ends the trace in order: everything is on the disk, and no other file is beside it.
    pub fn finish(self, now_ns: u64) -> Result<Saved> {
        self.hurry.store(true, Ordering::Relaxed);
        self.file.check_place()?;
        let sealed = || -> rusqlite::Result<()> {
            let mut rows = Statements::new(&self.db)?;
            rows.meta("written_ns", now_ns.cast_signed())?;
            rows.meta("state", "complete")?;
            drop(rows);
            // This removes the journal.
            self.db.pragma_update(None, "journal_mode", "DELETE")
        };
        sealed().map_err(|error| database(self.file.path(), error))?;
        let Self {
            db,
            file,
            faults,
            limit,
            ..
        } = self;
        db.close()
            .map_err(|(_, error)| database(file.path(), error))?;
        file.sync()?;
        let dropped = limit.map_or(0, |limit| limit.dropped_faults());
        Ok(Saved {
            faults: faults.written.saturating_sub(dropped),
            dropped,
            bytes: file.size()?,
        })
    }

    /// Removes a trace that has nothing in it.
    pub fn discard(self) {
        let Self { db, file, .. } = self;
        drop(db);
        file.remove();
    }

    /// Ends a trace that could not be written on, and says so in it if that is possible.
    pub fn abandon(self, why: &Error) {
        self.hurry.store(true, Ordering::Relaxed);
        if self.file.check_place().is_err() {
            return;
        }
        let say = || -> rusqlite::Result<()> {
            let mut rows = Statements::new(&self.db)?;
            rows.meta("state", &*why.to_string())?;
            drop(rows);
            self.db.pragma_update(None, "journal_mode", "DELETE")
        };
        if let Err(error) = say() {
            log::info!("the trace does not say why it ends: {error}");
        }
    }

    /// Writes what is traced, by what, on which machine: before any record.
    pub fn begin(&mut self, start: &Start) -> Result<()> {
        self.faults.begin(start);
        statements::begin(&mut self.db, start).map_err(|error| database(self.file.path(), error))
    }
}

fn database(path: &Path, error: rusqlite::Error) -> Error {
    Error::Database {
        path: path.to_owned(),
        error,
    }
}

/// How long somebody who reads the trace may hold up its end.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// While tracing goes on there is time: what does not fit meanwhile is counted.
fn wait_for_lock(times: i32) -> bool {
    let waited = PAUSE.saturating_mul(times.unsigned_abs());
    if HURRY.load(Ordering::Relaxed) && waited > PATIENCE {
        return false;
    }
    std::thread::sleep(PAUSE);
    true
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut db = Connection::open_with_flags(path, flags)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.busy_handler(Some(wait_for_lock))?;
    db.set_prepared_statement_cache_capacity(64);
    for (pragma, value) in [
        ("page_size", "4096"),
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
