//! Writes a trace. On a thread of its own: SQLite waits for the disk.
//!
//! Records are taken in batches, each one transaction, so that a trace is whole at any moment. There
//! is no fsync before the end: what the process has handed to the kernel survives the process.

mod connection;
mod dictionary;
mod faults;
mod go;
mod histories;
mod limit;
mod statements;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};

use super::file::{TraceFile, journal_of};
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
    /// Unix time until which everything is in the file, ns.
    until_ns: u64,
}

/// How many records there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Faults.
    pub faults: u64,
    /// Reports of stuck threads.
    pub stuck: u64,
}

impl Writer {
    /// Makes the file. From here on the calling thread may use files with the rights of
    /// `options.owner` alone.
    pub fn create(path: &Path, options: &Options) -> Result<Self> {
        let file = TraceFile::create(path, options.force, options.owner.as_ref())?;
        connection::take_time();
        let laid_out = connection::open(file.path())
            .map_err(|error| database(file.path(), error))
            .and_then(|db| {
                lay_out(&db, &file, options.max_bytes)?;
                Ok(db)
            });
        let db = match laid_out {
            Ok(db) => db,
            Err(error) => {
                file.remove();
                return Err(error);
            }
        };
        Ok(Self {
            db,
            file,
            dictionary: Dictionary::default(),
            faults: Faults::default(),
            limit: options.max_bytes.map(Limit::new),
            next: 1,
            until_ns: 0,
        })
    }

    /// What the calling thread must be able to write until the end: file, journal, and the directory
    /// that they lie in.
    pub fn places(&self) -> [PathBuf; 3] {
        let path = self.file.path();
        let directory = path.parent().unwrap_or(path);
        [path.to_owned(), journal_of(path), directory.to_owned()]
    }

    /// The writer, on whichever thread, is to end: those who read the trace are not waited for any
    /// more than for some seconds.
    pub fn hurry() {
        connection::hurry();
    }

    /// Unix time until which everything that was reported is in the file, ns.
    pub fn until_ns(&self) -> u64 {
        self.until_ns
    }

    /// What is in the file, or has been: whatever happens next.
    pub fn written(&self) -> Written {
        self.faults.written
    }

    /// Writes records, all or none. `until_ns` is Unix time: all that was reported until then is among
    /// them, or has been written before.
    pub fn write(&mut self, records: &[Record], until_ns: u64) -> Result<()> {
        self.file.check_place()?;
        let before = (self.faults.written, self.next, self.limit);
        let mut result = self.transaction(records, until_ns);
        if let Err(error) = &result {
            let full = is_full(error);
            self.take_back(before);
            if full && self.is_at_bound(records.len())? {
                // More has to make room than a batch usually needs.
                self.make_room(records.len())?;
                result = self.transaction(records, until_ns);
                if result.is_err() {
                    self.take_back(before);
                }
            }
        }
        result?;
        self.until_ns = until_ns;
        self.file.settle(records.len())
    }

    fn transaction(&mut self, records: &[Record], until_ns: u64) -> Result<()> {
        let Self {
            db,
            file,
            dictionary,
            faults,
            limit,
            next,
            ..
        } = self;
        let mut write = || -> rusqlite::Result<()> {
            db.execute_batch("BEGIN IMMEDIATE")?;
            let mut rows = Statements::new(db)?;
            for record in records {
                faults.record(record, *next, dictionary, &mut rows)?;
                *next += 1;
            }
            rows.meta("written_ns", until_ns.cast_signed())
        };
        write().map_err(|error| database(file.path(), error))?;
        if let Some(limit) = limit {
            limit
                .keep(db, records.len(), dictionary)
                .map_err(|error| database(file.path(), error))?;
        }
        db.execute_batch("COMMIT")
            .map_err(|error| database(file.path(), error))
    }

    /// Takes back what a transaction that failed had begun, its ids included.
    fn take_back(&mut self, (written, next, limit): (Written, i64, Option<Limit>)) {
        if !self.db.is_autocommit() {
            // Where even that fails, the journal rolls back what is in the file when it is opened.
            let _ = self.db.execute_batch("ROLLBACK");
        }
        self.dictionary.forget();
        (self.faults.written, self.next, self.limit) = (written, next, limit);
    }

    /// Whether it is the bound that keeps the database from growing, and not the disk.
    fn is_at_bound(&self, records: usize) -> Result<bool> {
        match &self.limit {
            None => Ok(false),
            Some(limit) => limit
                .is_tight(&self.db, records)
                .map_err(|error| database(self.file.path(), error)),
        }
    }

    fn make_room(&mut self, records: usize) -> Result<()> {
        let before = (self.faults.written, self.next, self.limit);
        let Self {
            db,
            file,
            dictionary,
            limit,
            ..
        } = self;
        let Some(limit) = limit else { return Ok(()) };
        let mut make = || -> rusqlite::Result<bool> {
            db.execute_batch("BEGIN IMMEDIATE")?;
            let made = limit.make_room(db, records, dictionary)?;
            db.execute_batch("COMMIT")?;
            Ok(made)
        };
        match make() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::TooSmall(limit.max_bytes())),
            Err(error) => {
                let error = database(file.path(), error);
                self.take_back(before);
                Err(error)
            }
        }
    }

    /// Ends the trace in order: everything is on the disk, and no other file is beside it.
    pub fn finish(self, now_ns: u64) -> Result<Saved> {
        Self::hurry();
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
            faults: faults.written.faults.saturating_sub(dropped),
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
        Self::hurry();
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
        self.until_ns = start.time_ns;
        statements::begin(&mut self.db, start)
            .map_err(|error| database(self.file.path(), error))?;
        self.file.keep();
        Ok(())
    }
}

/// Makes the tables.
fn lay_out(db: &Connection, file: &TraceFile, max_bytes: Option<u64>) -> Result<()> {
    let laid = || -> rusqlite::Result<()> {
        db.execute_batch(&format!(
            "BEGIN; {}PRAGMA application_id = {}; PRAGMA user_version = {}; COMMIT",
            schema::create(),
            schema::APPLICATION_ID,
            schema::user_version(schema::MAJOR, schema::MINOR)
        ))?;
        if let Some(max_bytes) = max_bytes {
            let pages = max_bytes / connection::PAGE_BYTES;
            db.pragma_update_and_check(None, "max_page_count", pages.cast_signed(), |_| Ok(()))?;
        }
        Ok(())
    };
    laid().map_err(|error| database(file.path(), error))?;
    // What SQLite has opened is the file that was made, or it would still be empty.
    if file.size()? == 0 {
        return Err(Error::Vanished(file.path().to_owned()));
    }
    Ok(())
}

/// The database may not grow any more, or cannot.
fn is_full(error: &Error) -> bool {
    matches!(error, Error::Database { error, .. } if error.sqlite_error_code() == Some(ErrorCode::DiskFull))
}

fn database(path: &Path, error: rusqlite::Error) -> Error {
    Error::Database {
        path: path.to_owned(),
        error,
    }
}
