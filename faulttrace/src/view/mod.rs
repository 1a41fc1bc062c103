//! What the user sees: folds over the stream of records that render into a buffer.
//!
//! A view neither writes to a file or terminal nor reads a clock: the session hands it records
//! and the time, and writes out what it put into the buffer. It knows records and nothing of
//! where they came from.

pub mod escape;
mod json;
pub mod report;
mod stdout;
mod text;

use std::time::Instant;

use crate::model::Record;
use crate::model::summary::Summary;

pub use json::Json;
pub use stdout::{Show, on_stdout, terminal_width, wants_color};
pub use text::{Text, TextOptions};
pub(crate) use text::{reasons, words, wrapped};

/// A fold over the stream that renders into a buffer.
pub trait View {
    /// Takes one record. What it shows of it may be held back until [`View::tick`].
    fn record(&mut self, record: &Record, now: Instant, out: &mut Vec<u8>);

    /// Takes note of a record that is not to be shown. Whether it is of those that this view shows.
    fn pass_over(&mut self, record: &Record) -> bool;

    /// Time has passed: shows what was held back for long enough. Called about every 50 ms.
    fn tick(&mut self, now: Instant, out: &mut Vec<u8>);

    /// The stream has ended: shows everything held back, then the summary.
    fn finish(&mut self, summary: &Summary, out: &mut Vec<u8>);
}
