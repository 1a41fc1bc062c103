//! JSON Lines, for programs: one object a line, one line a record, at once and never coalesced.
//! The schema is docs/json.md; the tests compare it with what is written here.

pub(in crate::view) mod go;
pub(in crate::view) mod history;
pub(in crate::view) mod io;
pub(in crate::view) mod read_ahead;
pub(in crate::view) mod record;
mod sample;
pub(in crate::view) mod scalar;
pub(in crate::view) mod stacks;
pub(in crate::view) mod stall;
pub(in crate::view) mod summary;
#[cfg(test)]
pub(in crate::view) mod tests;

use std::time::Instant;

use serde::Serialize;

use super::View;
use crate::model::summary::Summary;
use crate::model::{LossClass, Record};
use go::{GoLine, PStallLine};
use history::CacheFillLine;
use read_ahead::ReadAheadLine;
use record::{FaultLine, LostLine, ProcessEndLine, ProcessLine, StartLine, StuckLine};
use sample::SampleLine;
use stacks::StackCache;
use stall::StallLine;

/// Rows of a table of what `--evictions` and `--io` add.
const TOP: usize = 20;

/// Reason of the `lost` record for records that could not be turned into JSON.
const NOT_SERIALIZED: &str = "not_serialized";

/// Writes every record as one JSON object on a line of its own.
#[derive(Debug, Default)]
pub struct Json {
    stacks: StackCache,
    failed: Failed,
}

/// Records that could not be serialized. Nothing in them can fail to be, and the buffer cannot
/// refuse: but if it happens after all, it must show.
#[derive(Debug, Default)]
struct Failed {
    /// Since the last `lost` record about it.
    unreported: u64,
    /// Ever.
    total: u64,
}

impl Json {
    /// A view that has seen nothing yet.
    pub fn new() -> Self {
        Json::default()
    }
}

impl View for Json {
    fn record(&mut self, record: &Record, _now: Instant, out: &mut Vec<u8>) {
        let Json { stacks, failed } = self;
        match record {
            Record::Start(start) => failed.line(&StartLine::new(start), out),
            Record::Fault(fault) => failed.line(&FaultLine::new(fault, stacks), out),
            Record::Stuck(stuck) => failed.line(&StuckLine::new(stuck, stacks), out),
            Record::Lost(lost) => failed.line(&LostLine::new(lost), out),
            Record::Process(process) => failed.line(&ProcessLine::new(process), out),
            Record::ProcessEnd(end) => failed.line(&ProcessEndLine::new(end), out),
            Record::Sample(sample) => failed.line(&SampleLine::new(sample), out),
            Record::CacheFill(fill) => failed.line(&CacheFillLine::new(fill), out),
            Record::ReadAhead(ahead) => failed.line(&ReadAheadLine::new(ahead), out),
            Record::Stall(stall) => failed.line(&StallLine::new(stall), out),
            Record::Go(go) => failed.line(&GoLine::new(go), out),
            Record::PStall(stall) => failed.line(&PStallLine::new(stall), out),
            // Both are told by the summary, next to what they are to be compared with.
            Record::Accounting(_) | Record::Transport(_) => {}
        }
        failed.report(out);
    }

    fn pass_over(&mut self, record: &Record) -> bool {
        !matches!(record, Record::Accounting(_) | Record::Transport(_))
    }

    fn tick(&mut self, _now: Instant, _out: &mut Vec<u8>) {}

    fn finish(&mut self, summary: &Summary, out: &mut Vec<u8>) {
        let Json { stacks, failed } = self;
        failed.report(out);
        summary::write(summary, stacks, failed, out);
        failed.report(out);
    }
}

/// Appends an object as a line, or nothing at all.
pub(in crate::view) fn one_line<T: Serialize>(
    value: &T,
    out: &mut Vec<u8>,
) -> serde_json::Result<()> {
    let before = out.len();
    let written = serde_json::to_writer(&mut *out, value);
    match written {
        Ok(()) => out.push(b'\n'),
        Err(_) => out.truncate(before),
    }
    written
}

impl Failed {
    /// Appends `value` as a line, or nothing at all.
    fn line<T: Serialize>(&mut self, value: &T, out: &mut Vec<u8>) {
        if one_line(value, out).is_err() {
            self.unreported += 1;
            self.total += 1;
        }
    }

    /// Says how many lines are missing, if any.
    fn report(&mut self, out: &mut Vec<u8>) {
        if self.unreported == 0 {
            return;
        }
        let count = std::mem::take(&mut self.unreported);
        self.line(
            &LostLine::of(LossClass::Lost, NOT_SERIALIZED.as_bytes(), count),
            out,
        );
    }
}
