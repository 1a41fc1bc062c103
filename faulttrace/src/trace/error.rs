//! What can go wrong with a saved trace.

use std::io;
use std::path::PathBuf;

use crate::view::escape::Escaped;

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a trace could not be written or read. The text says what to do, where something can be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It would overwrite something.
    #[error("{} exists already: choose another name, or replace it with --force", Escaped::path(.0))]
    Exists(PathBuf),
    /// It would replace something that is no file.
    #[error("{} is not a regular file, so it cannot be replaced by a trace: choose another name", Escaped::path(.0))]
    NotReplaceable(PathBuf),
    /// It names no file in a directory.
    #[error("{} does not name a file", Escaped::path(.0))]
    NoFileName(PathBuf),
    /// Others could put something else in its place.
    #[error(
        "{} can be written by everybody and has no sticky bit (mode {mode:o}), so others could replace the trace: choose another directory, or chmod +t it",
        Escaped::path(directory)
    )]
    SharedDirectory {
        /// The directory.
        directory: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is not there any more, or something else is in its place.
    #[error("{} was removed or replaced while it was being written", Escaped::path(.0))]
    Vanished(PathBuf),
    /// Nobody writes it any more.
    #[error("the trace is not written any more: {0}")]
    Stopped(String),
    /// What is to be kept does not fit.
    #[error(
        "--max-size {0} bytes does not even hold the names and stacks of this trace: give it more"
    )]
    TooSmall(u64),
    /// A file could not be used.
    #[error("{}: {}", Escaped::path(path), Escaped(error.to_string().as_bytes()))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The database could not be used.
    #[error("{}: {}", Escaped::path(path), explain(error))]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        error: rusqlite::Error,
    },
    /// It is something else.
    #[error("{} is not a trace of faulttrace: {}", Escaped::path(path), Escaped(what.as_bytes()))]
    NotATrace {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// It is of a later version.
    #[error(
        "{} has trace format {major}.{minor}, which is newer than what this faulttrace reads ({}): read it with a newer faulttrace",
        Escaped::path(path),
        super::schema::MAJOR
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its major version.
        major: i32,
        /// Its minor version.
        minor: i32,
    },
    /// It was left by a faulttrace that was killed, and cannot be repaired.
    #[error(
        "{} was being written when faulttrace was killed; {}-journal repairs it, but that cannot be done here: {why}. Copy both files to where you may write, and open it there",
        Escaped::path(path),
        Escaped::path(path)
    )]
    NeedsRepair {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// What is in it makes no sense.
    #[error("{} is damaged: {}", Escaped::path(path), Escaped(what.as_bytes()))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and how.
        what: String,
    },
}

/// What SQLite says, in words that say more.
fn explain(error: &rusqlite::Error) -> String {
    use rusqlite::ErrorCode;
    let text = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full",
        Some(ErrorCode::ReadOnly) => "it cannot be written (any more)",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another process keeps it locked"
        }
        Some(ErrorCode::DatabaseCorrupt) => "the database is damaged",
        Some(ErrorCode::NotADatabase) => "it is not a SQLite database",
        Some(ErrorCode::OutOfMemory) => "it needs more memory than a trace should",
        _ => return Escaped(error.to_string().as_bytes()).to_string(),
    };
    format!("{text} ({})", Escaped(error.to_string().as_bytes()))
}
