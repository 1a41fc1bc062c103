//! A saved trace as a file of another tool's format: folds over the stream of records.
//!
//! An export neither opens files nor knows where a record came from: whoever reads the trace hands
//! it the records, a [`Summary`] of them, and what to write to (buffered, since it writes in small
//! pieces). Its memory is bounded however long the trace is and whatever the target called its
//! functions. A format that adds up (pprof, folded, flamegraph) has an entry for what was beyond a
//! limit, so that its totals are right all the same; the others write as they read.

mod about;
mod bounded;
mod csv;
mod flamegraph;
mod folded;
mod json;
mod names;
mod perfetto;
mod pprof;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use crate::model::Record;
use crate::model::summary::Summary;

/// Why a trace could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file, or whatever is written to, refused.
    #[error("the export cannot be written")]
    Write(#[from] io::Error),
    /// A flame graph of nothing cannot be drawn.
    #[error(
        "no fault in this trace was blocked, so a flame graph of blocked time would be empty; \
         export to csv or json to see the faults"
    )]
    NothingBlocked,
    /// The same, of what was asked for.
    #[error(
        "no fault that was asked for was blocked, so a flame graph of blocked time would be empty: \
         {0} others are in this trace"
    )]
    NothingSelected(u64),
}

/// Turns the stream of records into a file of another tool's format.
pub trait Export {
    /// Takes one record; may write.
    fn record(&mut self, record: &Record, out: &mut dyn Write) -> Result<(), Error>;

    /// The stream has ended: writes what was held back. `summary` is of the same records.
    fn finish(&mut self, summary: &Summary, out: &mut dyn Write) -> Result<(), Error>;
}

/// The formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `profile.proto`, gzip-compressed: `go tool pprof` and what reads its files.
    Pprof,
    /// One line a stack and its time blocked: flamegraph.pl, inferno, speedscope.
    Folded,
    /// A flame graph of time blocked, as SVG.
    Flamegraph,
    /// A Perfetto trace: the timeline, for ui.perfetto.dev.
    Perfetto,
    /// The JSON Lines of `--format json` (docs/json.md).
    Json,
    /// One row a fault: spreadsheets and data frames.
    Csv,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] = [
        Kind::Pprof,
        Kind::Folded,
        Kind::Flamegraph,
        Kind::Perfetto,
        Kind::Json,
        Kind::Csv,
    ];

    /// Stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Pprof => "pprof",
            Kind::Folded => "folded",
            Kind::Flamegraph => "flamegraph",
            Kind::Perfetto => "perfetto",
            Kind::Json => "json",
            Kind::Csv => "csv",
        }
    }

    /// What a stable name stands for; `None` if nothing has it.
    pub fn from_name(name: &str) -> Option<Self> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Not for a terminal.
    pub fn is_binary(self) -> bool {
        matches!(self, Kind::Pprof | Kind::Perfetto)
    }
}

/// An export that has seen nothing yet.
pub fn start(kind: Kind) -> Box<dyn Export> {
    match kind {
        Kind::Pprof => Box::new(pprof::Pprof::new()),
        Kind::Folded => Box::new(folded::Folded::new()),
        Kind::Flamegraph => Box::new(flamegraph::Flamegraph::new()),
        Kind::Perfetto => Box::new(perfetto::Perfetto::new()),
        Kind::Json => Box::new(json::Json::new()),
        Kind::Csv => Box::new(csv::Csv::new()),
    }
}
