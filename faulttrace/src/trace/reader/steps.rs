//! How much SQLite may do for one file.
//!
//! The pages of a hostile file need not be a tree: a few of them, each pointing many times to the
//! next, have more rows than anybody can wait for. What scans we ask for bound themselves (`scan`);
//! this bounds what SQLite does on its own, above all reading the schema.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, ErrorCode};

/// Instructions of SQLite's virtual machine between two looks.
const EVERY: i32 = 1000;
/// For the schema and the checks of it: a trace of ours takes a twentieth.
const SCHEMA: u64 = 200_000;
/// For each pass over a file. A row takes about 15, what it refers to a few thousand at most.
const PASS: u64 = 50_000_000;
/// And for every byte of it; a fault takes about 30 bytes.
const PER_BYTE: u64 = 512;

/// What is left of it.
pub(super) struct Steps(Arc<AtomicU64>);

impl Steps {
    /// Bounds what a connection does from now on, at first for its schema.
    pub(super) fn bound(db: &mut Connection) -> rusqlite::Result<Self> {
        let left = Arc::new(AtomicU64::new(SCHEMA));
        let ours = Self(Arc::clone(&left));
        let spend = move || {
            let spent = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(u64::from(EVERY.unsigned_abs()))
            });
            // True interrupts.
            spent.is_err()
        };
        db.progress_handler(EVERY, Some(spend))?;
        Ok(ours)
    }

    /// Allows one more pass over a file of this size.
    pub(super) fn renew(&self, file_bytes: u64) {
        let steps = PER_BYTE.saturating_mul(file_bytes).saturating_add(PASS);
        self.0.store(steps, Ordering::Relaxed);
    }
}

/// Whether it was this that ended a statement: nothing else interrupts one.
pub(super) fn are_used_up(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}
