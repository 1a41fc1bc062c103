//! Standard output on a thread of its own, so that a reader who does not read cannot keep the
//! session from ending.

use std::io::{self, Write as _};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};

/// How many buffers may wait for the writer.
const QUEUE: usize = 4;

/// When this much waits to be written, no more records are taken.
const HIGH_WATER_BYTES: usize = 1 << 20;

/// A reader who has not read for so long holds up what is saved no more.
const STALLED_AFTER: Duration = Duration::from_millis(400);

/// What became of standard output.
#[derive(Debug)]
enum Outcome {
    Done,
    /// The reader went away, which is its right.
    Closed,
    Failed(io::Error),
}

/// The writer's end that the session holds.
pub(super) struct Output {
    /// Rendered, not yet handed over.
    pub(super) pending: Vec<u8>,
    sender: Option<Sender<Vec<u8>>>,
    thread: Option<JoinHandle<Outcome>>,
    closed: bool,
    /// When the writer last took something, or had nothing to take.
    taken_at: Instant,
}

impl Output {
    pub(super) fn start() -> io::Result<Self> {
        let (sender, receiver) = channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || write_all(receiver))?;
        Ok(Self {
            pending: Vec::new(),
            sender: Some(sender),
            thread: Some(thread),
            closed: false,
            taken_at: Instant::now(),
        })
    }

    /// Whether more may be rendered.
    pub(super) fn has_room(&self) -> bool {
        self.pending.len() < HIGH_WATER_BYTES
    }

    /// Whether the reader has not read for a while, though there is something to read.
    pub(super) fn is_stalled(&self) -> bool {
        !self.has_room() && self.taken_at.elapsed() > STALLED_AFTER
    }

    /// Whether the reader has gone away, or writing failed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Hands what was rendered to the writer if it has room.
    pub(super) fn push(&mut self) {
        let Some(sender) = &self.sender else { return };
        if self.pending.is_empty() {
            self.taken_at = Instant::now();
            return;
        }
        match sender.try_send(std::mem::take(&mut self.pending)) {
            Ok(()) => self.taken_at = Instant::now(),
            Err(TrySendError::Full(buffer)) => self.pending = buffer,
            Err(TrySendError::Closed(_)) => self.closed = true,
        }
    }

    /// Hands over what is left, waiting for the writer.
    pub(super) async fn finish(&mut self) {
        if let Some(sender) = self.sender.take()
            && !self.pending.is_empty()
        {
            // A closed channel is told by `join`.
            let _ = sender.send(std::mem::take(&mut self.pending)).await;
        }
        while self
            .thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// What became of standard output. Does not wait: a writer that is still blocked is left
    /// behind.
    pub(super) fn join(&mut self) -> io::Result<()> {
        let Some(thread) = self.thread.take().filter(JoinHandle::is_finished) else {
            return Ok(());
        };
        match thread.join() {
            Ok(Outcome::Done | Outcome::Closed) => Ok(()),
            Ok(Outcome::Failed(error)) => Err(error),
            Err(_) => Err(io::Error::other("the output thread panicked")),
        }
    }
}

fn write_all(mut receiver: Receiver<Vec<u8>>) -> Outcome {
    let mut out = io::stdout().lock();
    while let Some(buffer) = receiver.blocking_recv() {
        match out.write_all(&buffer).and_then(|()| out.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Outcome::Closed,
            Err(error) => return Outcome::Failed(error),
        }
    }
    Outcome::Done
}
