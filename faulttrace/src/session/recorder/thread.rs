//! The recorder's thread: writes what comes until no more can come.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Message, Progress};
use crate::model::Record;
use crate::trace::{Error, Saved, Writer};

/// How long records may wait for others to be written with them.
const BATCH_TIME: Duration = Duration::from_millis(250);
/// How often the file says that all is in it, when there is nothing to write.
const IDLE_TIME: Duration = Duration::from_secs(1);
/// How many records are written at once.
const BATCH: usize = 32_768;
/// The same where the size of the file is bounded: room is made after each batch.
const BOUNDED_BATCH: usize = 1024;
/// Why a trace is not complete whose session was gone before it said that it was.
const CUT_OFF: &str = "faulttrace ended before all was in the file";

/// Writes the whole trace.
pub(super) fn record(
    mut writer: Writer,
    receiver: &Receiver<Message>,
    progress: &Progress,
    bounded: bool,
) -> Result<Saved, Error> {
    // Until tracing has begun there is nothing worth keeping.
    let Ok(Message::Begin(start)) = receiver.recv() else {
        writer.discard();
        return Ok(Saved::default());
    };
    let mut batches = Batches {
        receiver,
        progress,
        size: if bounded { BOUNDED_BATCH } else { BATCH },
        waiting: Vec::new(),
        until_ns: start.time_ns,
        deadline: Instant::now() + BATCH_TIME,
        written_at: Instant::now(),
    };
    let done = writer
        .begin(&start)
        .and_then(|()| batches.write_all(&mut writer));
    match done {
        Ok(()) => writer.finish(now_ns()),
        Err(error) => {
            writer.abandon(&error);
            Err(error)
        }
    }
}

/// Records on their way into the file.
struct Batches<'a> {
    receiver: &'a Receiver<Message>,
    progress: &'a Progress,
    size: usize,
    waiting: Vec<Record>,
    /// Unix time until which all records are here, ns.
    until_ns: u64,
    deadline: Instant,
    written_at: Instant,
}

impl Batches<'_> {
    fn write_all(&mut self, writer: &mut Writer) -> Result<(), Error> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let mut over = false;
            match self.receiver.recv_timeout(left) {
                Ok(Message::Records(records, until_ns)) => {
                    self.waiting.extend(records);
                    self.until_ns = until_ns;
                }
                Ok(Message::Nothing(until_ns)) => self.until_ns = until_ns,
                Ok(Message::Abandon(why)) => {
                    self.write(writer)?;
                    return Err(Error::Stopped(why));
                }
                Ok(Message::Begin(_)) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::End) => over = true,
                Err(RecvTimeoutError::Disconnected) => {
                    self.write(writer)?;
                    return Err(Error::Stopped(CUT_OFF.to_owned()));
                }
            }
            if over || self.waiting.len() >= self.size || Instant::now() >= self.deadline {
                self.write(writer)?;
                self.deadline = Instant::now() + BATCH_TIME;
            }
            if over {
                return Ok(());
            }
        }
    }

    fn write(&mut self, writer: &mut Writer) -> Result<(), Error> {
        if self.waiting.is_empty() && self.written_at.elapsed() < IDLE_TIME {
            return Ok(());
        }
        let whole = self.waiting.len().div_ceil(self.size).max(1);
        for (at, part) in (1..).zip(self.waiting.chunks(self.size)) {
            // Only with the last of them all is in the file.
            let until_ns = if at == whole {
                self.until_ns
            } else {
                writer.until_ns()
            };
            writer.write(part, until_ns)?;
            self.progress.set(writer.written());
        }
        if self.waiting.is_empty() {
            writer.write(&[], self.until_ns)?;
        }
        self.waiting.clear();
        self.written_at = Instant::now();
        Ok(())
    }
}

/// Unix time, ns.
pub(super) fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.ok()
        .and_then(|now| u64::try_from(now.as_nanos()).ok())
        .unwrap_or(0)
}
