//! JSON Lines, the same as of the live stream.

use std::io::Write;
use std::time::Instant;

use super::{Error, Export};
use crate::model::Record;
use crate::model::summary::Summary;
use crate::view::{self, View as _};

/// The format.
#[derive(Debug)]
pub(super) struct Json {
    view: view::Json,
    /// The view wants a time and has no use for it: it holds nothing back.
    now: Instant,
    buffer: Vec<u8>,
}

impl Json {
    pub(super) fn new() -> Self {
        Json {
            view: view::Json::new(),
            now: Instant::now(),
            buffer: Vec::new(),
        }
    }

    fn flush(&mut self, out: &mut dyn Write) -> Result<(), Error> {
        out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl Export for Json {
    fn record(&mut self, record: &Record, out: &mut dyn Write) -> Result<(), Error> {
        self.view.record(record, self.now, &mut self.buffer);
        self.flush(out)
    }

    fn finish(&mut self, summary: &Summary, out: &mut dyn Write) -> Result<(), Error> {
        self.view.finish(summary, &mut self.buffer);
        self.flush(out)
    }
}
