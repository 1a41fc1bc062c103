//! Has the kernel read a trace's file before it is needed: it sees by itself that a file is read
//! forwards, but not that it is read backwards, and then every page is a read of its own.

use std::fs::File;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::Order;

/// How much is asked for at once.
const CHUNK: u64 = 8 << 20;
/// How far it is ahead.
const DISTANCE: u64 = 3 * CHUNK;
/// How many rows pass between two looks.
const STRIDE: u32 = 4096;

/// The part of the file that has been asked for.
pub(super) struct Ahead<'f> {
    file: &'f File,
    size: u64,
    /// Numbers of the first and last row.
    rows: (i64, i64),
    /// All above has been asked for.
    from: u64,
    left: u32,
}

impl<'f> Ahead<'f> {
    /// Of a scan over rows that lie in the file by their numbers.
    pub(super) fn new(file: &'f File, size: u64, rows: Option<(i64, i64)>, order: Order) -> Self {
        let backwards = order == Order::NewestFirst;
        Self {
            file,
            size,
            rows: rows.unwrap_or((0, 0)),
            from: if backwards { size } else { 0 },
            left: 0,
        }
    }

    /// The scan is at this row.
    pub(super) fn at(&mut self, row: i64) {
        if self.left > 0 || self.from == 0 {
            self.left = self.left.saturating_sub(1);
            return;
        }
        self.left = STRIDE;
        let (first, last) = self.rows;
        let (done, all) = (row.abs_diff(first), last.abs_diff(first).max(1));
        let position = u128::from(self.size) * u128::from(done) / u128::from(all);
        let position = u64::try_from(position).unwrap_or(self.size);
        while self.from > 0 && self.from.saturating_add(DISTANCE) > position {
            let from = self.from.saturating_sub(CHUNK);
            let bounds = (i64::try_from(from), i64::try_from(self.from - from));
            if let (Ok(from), Ok(length)) = bounds {
                // Where the hint is not heeded, it takes longer.
                let advice = PosixFadviseAdvice::POSIX_FADV_WILLNEED;
                let _ = posix_fadvise(self.file, from, length, advice);
            }
            self.from = from;
        }
    }
}
