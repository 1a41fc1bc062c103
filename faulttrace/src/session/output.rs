//! Standard output on a thread of its own, so that a reader who does not read cannot keep the
//! session from ending.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::mem;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender, channel};

/// How many buffers may wait for the writer.
const QUEUE: usize = 4;

/// A buffer with this much is written before more is put into it, and no more records are taken while
/// one waits.
const HIGH_WATER_BYTES: usize = 1 << 20;

/// While nobody reads, no more is rendered once so many of these wait.
const MOST_WAITING: usize = 16;

/// How many buffers are kept to be used again: more than a batch of records fills.
const KEPT: usize = 16;

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
    /// Rendered before that.
    waiting: VecDeque<Vec<u8>>,
    sender: Option<Sender<Vec<u8>>>,
    /// What was written comes back, so that rendering does not begin with memory that is new to it: to
    /// get that from the kernel, a page at a time, took as long as rendering did.
    emptied: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<Outcome>>,
    closed: bool,
    /// When the writer last took something, or had nothing to take.
    taken_at: Instant,
}

impl Output {
    pub(super) fn start() -> io::Result<Self> {
        let (sender, receiver) = channel(QUEUE);
        let (give_back, emptied) = channel(KEPT);
        let thread = std::thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || write_all(receiver, &give_back))?;
        Ok(Self {
            pending: Vec::new(),
            waiting: VecDeque::new(),
            sender: Some(sender),
            emptied,
            thread: Some(thread),
            closed: false,
            taken_at: Instant::now(),
        })
    }

    /// One that nobody reads.
    #[cfg(test)]
    pub(super) fn unread() -> Self {
        Self {
            pending: Vec::new(),
            waiting: VecDeque::new(),
            sender: None,
            emptied: channel(1).1,
            thread: None,
            closed: false,
            taken_at: Instant::now(),
        }
    }

    /// What is rendered and not handed over, taken out.
    #[cfg(test)]
    pub(super) fn take_rendered(&mut self) -> Vec<u8> {
        let waiting = self.waiting.drain(..).chain([mem::take(&mut self.pending)]);
        waiting.flatten().collect()
    }

    /// Whether more may be rendered.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_empty() && self.pending.len() < HIGH_WATER_BYTES
    }

    /// Hands over what was rendered if it is much: a batch of records can be 10 MiB, which the writer had
    /// better begin with, and which buffers of that size would take new memory for each time.
    pub(super) fn divide(&mut self) {
        if self.pending.len() >= HIGH_WATER_BYTES {
            let full = taken(&mut self.pending, &mut self.emptied);
            self.waiting.push_back(full);
            self.push();
        }
    }

    /// Whether the reader has not read for a while, though there is something to read.
    pub(super) fn is_stalled(&self) -> bool {
        !self.has_room() && self.taken_at.elapsed() > STALLED_AFTER
    }

    /// Whether so much waits that what nobody reads is better not rendered.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= MOST_WAITING
    }

    /// Whether the reader has gone away, or writing failed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Hands what was rendered to the writer as far as it has room.
    pub(super) fn push(&mut self) {
        let Some(sender) = &self.sender else { return };
        if self.pending.is_empty() && self.waiting.is_empty() {
            self.taken_at = Instant::now();
            return;
        }
        while let Ok(permit) = sender.try_reserve() {
            self.taken_at = Instant::now();
            let last = || {
                let is_some = !self.pending.is_empty();
                is_some.then(|| taken(&mut self.pending, &mut self.emptied))
            };
            match self.waiting.pop_front().or_else(last) {
                Some(next) => permit.send(next),
                None => return,
            }
        }
        self.closed |= sender.is_closed();
    }

    /// Hands over what is left, waiting for the writer.
    pub(super) async fn finish(&mut self) {
        if let Some(sender) = self.sender.take() {
            let last = mem::take(&mut self.pending);
            for buffer in self.waiting.drain(..).chain([last]) {
                // A closed channel is told by `join`.
                let _ = sender.send(buffer).await;
            }
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

/// What is in a buffer, in the place of which there is one to be used again.
fn taken(buffer: &mut Vec<u8>, emptied: &mut Receiver<Vec<u8>>) -> Vec<u8> {
    mem::replace(buffer, emptied.try_recv().unwrap_or_default())
}

fn write_all(mut receiver: Receiver<Vec<u8>>, give_back: &Sender<Vec<u8>>) -> Outcome {
    let mut out = io::stdout().lock();
    while let Some(mut buffer) = receiver.blocking_recv() {
        match out.write_all(&buffer).and_then(|()| out.flush()) {
            Ok(()) => {
                buffer.clear();
                // One that grew far beyond what is usual is let go, and so is one too many.
                if buffer.capacity() <= 2 * HIGH_WATER_BYTES {
                    let _enough = give_back.try_send(buffer);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Outcome::Closed,
            Err(error) => return Outcome::Failed(error),
        }
    }
    Outcome::Done
}
