//! Saves the records of a session, on a thread of its own: the disk may be slow, full or gone, and
//! tracing goes on.
//!
//! The channel is bounded. Faults that do not fit are not saved, and counted; all other records wait
//! their turn, because without them the counts would not add up.

use std::sync::Arc;
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel,
};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::cli::SavePlan;
use crate::model::{LossClass, Lost, Record, Start};
use crate::process::caller;
use crate::trace::{Error, Options, Saved, Writer};

/// How many batches of records may wait; the tracer makes them of 1024 at most.
const QUEUE: usize = 128;
/// How long records may wait for others to be written with them.
const BATCH_TIME: Duration = Duration::from_millis(250);
/// How often the file says that all is in it, when there is nothing to write.
const IDLE_TIME: Duration = Duration::from_secs(1);
/// How many are written at once.
const BATCH: usize = 32_768;
/// The same where the size of the file is bounded: room is made after each batch.
const BOUNDED_BATCH: usize = 1024;

/// Reason of the `lost` record for faults that were not saved because writing was too slow.
const OVERRUN: &str = "trace_overrun";
/// The same for those that came after writing had failed.
const NOT_SAVED: &str = "trace_not_saved";

/// What the recorder's thread is told.
enum Message {
    Begin(Arc<Start>),
    Records(Vec<Record>),
}

/// What became of the trace.
struct Outcome {
    result: Result<Saved, Error>,
    /// Faults that were written, those included that dropped out since.
    written: u64,
}

/// The session's end of it.
pub(super) struct Recorder {
    sender: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<Outcome>>,
    /// Records other than faults that found no room.
    held: Vec<Record>,
    /// Faults handed over.
    handed: u64,
    /// Faults that were not saved and of which nobody has been told.
    untold: u64,
    /// Writing has failed.
    failed: bool,
    /// Tracing has begun, so that there is something in the file.
    begun: bool,
}

impl Recorder {
    /// Makes the file, before anything is traced, so that what is wrong shows at once.
    pub(super) fn start(plan: &SavePlan) -> anyhow::Result<Self> {
        let options = Options {
            force: plan.force,
            max_bytes: plan.max_bytes,
            owner: caller::caller()?,
        };
        let path = plan.path.clone();
        let (sender, receiver) = sync_channel(QUEUE);
        let (tell, told) = channel();
        let batch = if plan.max_bytes.is_some() {
            BOUNDED_BATCH
        } else {
            BATCH
        };
        let work = move || match Writer::create(&path, &options) {
            Ok(writer) => {
                let _ = tell.send(None);
                record(writer, &receiver, batch)
            }
            Err(error) => {
                let _ = tell.send(Some(error));
                Outcome::nothing()
            }
        };
        let thread = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(work)?;
        if let Some(error) = told.recv()? {
            return Err(error.into());
        }
        Ok(Self {
            sender: Some(sender),
            thread: Some(thread),
            held: Vec::new(),
            handed: 0,
            untold: 0,
            failed: false,
            begun: false,
        })
    }

    /// Tracing has begun.
    pub(super) fn begin(&mut self, start: &Arc<Start>) {
        self.begun = true;
        self.send(Message::Begin(Arc::clone(start)));
    }

    /// Takes records to save. Never waits.
    pub(super) fn save(&mut self, records: Vec<Record>) {
        let records = if self.held.is_empty() {
            records
        } else {
            let mut all = std::mem::take(&mut self.held);
            all.extend(records);
            all
        };
        self.handed += count_faults(&records);
        self.send(Message::Records(records));
    }

    fn send(&mut self, message: Message) {
        let Some(sender) = &self.sender else { return };
        match sender.try_send(message) {
            Ok(()) => {}
            Err(TrySendError::Full(message)) => self.hold(message, true),
            Err(TrySendError::Disconnected(message)) => {
                self.failed = true;
                self.hold(message, false);
            }
        }
    }

    /// Counts the faults of a message that cannot be sent; what else is in it is kept for later if
    /// there is a later.
    fn hold(&mut self, message: Message, keep: bool) {
        let Message::Records(records) = message else {
            return;
        };
        let faults = count_faults(&records);
        self.handed -= faults;
        self.untold += faults;
        if keep {
            let is_of_thread =
                |record: &Record| matches!(record, Record::Fault(_) | Record::Stuck(_));
            self.held
                .extend(records.into_iter().filter(|record| !is_of_thread(record)));
        }
    }

    /// What was not saved since the last time, to be told like any other loss.
    pub(super) fn take_loss(&mut self) -> Option<Record> {
        let count = std::mem::take(&mut self.untold);
        let reason = if self.failed { NOT_SAVED } else { OVERRUN };
        (count > 0).then(|| {
            Record::Lost(Lost {
                class: LossClass::Lost,
                reason: reason.into(),
                count,
            })
        })
    }

    /// Why writing failed, once; `None` while it has not.
    pub(super) fn take_failure(&mut self) -> Option<Error> {
        if self.sender.is_none() || !self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            return None;
        }
        self.failed = true;
        self.join().err()
    }

    fn join(&mut self) -> Result<Saved, Error> {
        let outcome = match self.thread.take().map(JoinHandle::join) {
            None => Outcome::nothing(),
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => Outcome {
                result: Err(Error::Stopped("its thread panicked".to_owned())),
                written: 0,
            },
        };
        // What was handed over and not written is not saved either.
        self.untold += self.handed.saturating_sub(outcome.written);
        self.handed = outcome.written;
        outcome.result
    }

    /// Hands over what is left and waits until all is written.
    pub(super) async fn finish(&mut self) -> Result<Option<Saved>, Error> {
        while !self.held.is_empty() && !self.failed {
            self.save(Vec::new());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.sender = None;
        while self
            .thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if self.thread.is_none() {
            // It has failed, and that was told.
            return Ok(None);
        }
        self.join().map(Some)
    }
}

impl Drop for Recorder {
    /// A file with nothing in it is not left behind.
    fn drop(&mut self) {
        self.sender = None;
        if !self.begun {
            drop(self.join());
        }
    }
}

impl Outcome {
    fn nothing() -> Self {
        Self {
            result: Ok(Saved::default()),
            written: 0,
        }
    }
}

fn count_faults(records: &[Record]) -> u64 {
    let faults = records
        .iter()
        .filter(|record| matches!(record, Record::Fault(_)));
    u64::try_from(faults.count()).unwrap_or(u64::MAX)
}

/// The thread: writes what comes until no more can come.
fn record(mut writer: Writer, receiver: &Receiver<Message>, batch: usize) -> Outcome {
    // Until tracing has begun there is nothing worth keeping.
    let Ok(Message::Begin(start)) = receiver.recv() else {
        writer.discard();
        return Outcome::nothing();
    };
    let done = writer
        .begin(&start)
        .and_then(|()| write_all(&mut writer, receiver, batch));
    let written = writer.faults_written();
    let result = match done {
        Ok(()) => writer.finish(now_ns()),
        Err(error) => {
            writer.abandon(&error);
            Err(error)
        }
    };
    Outcome { result, written }
}

fn write_all(writer: &mut Writer, receiver: &Receiver<Message>, batch: usize) -> Result<(), Error> {
    let mut waiting: Vec<Record> = Vec::new();
    let mut deadline = Instant::now() + BATCH_TIME;
    let mut written_at = Instant::now();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let message = receiver.recv_timeout(left);
        // What is reported from here on is not in this batch.
        let now_ns = now_ns();
        let over = matches!(message, Err(RecvTimeoutError::Disconnected));
        if let Ok(Message::Records(records)) = message {
            waiting.extend(records);
        }
        if over || waiting.len() >= batch || Instant::now() >= deadline {
            for part in waiting.chunks(batch) {
                writer.write(part, now_ns)?;
            }
            if waiting.is_empty() && written_at.elapsed() >= IDLE_TIME {
                writer.write([], now_ns)?;
                written_at = Instant::now();
            } else if !waiting.is_empty() {
                waiting.clear();
                written_at = Instant::now();
            }
            deadline = Instant::now() + BATCH_TIME;
        }
        if over {
            return Ok(());
        }
    }
}

/// Unix time, ns.
fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.ok()
        .and_then(|now| u64::try_from(now.as_nanos()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::summary::samples;
    use crate::trace::{Order, State, Trace};

    fn plan(directory: &tempfile::TempDir) -> SavePlan {
        SavePlan {
            path: directory.path().join("a"),
            force: false,
            max_bytes: None,
        }
    }

    fn start() -> Arc<Start> {
        match samples::start() {
            Record::Start(start) => start,
            other => panic!("{other:?}"),
        }
    }

    fn finish(recorder: &mut Recorder) -> Result<Option<Saved>, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        runtime.block_on(recorder.finish())
    }

    #[test]
    fn what_is_handed_over_is_in_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let plan = plan(&directory);
        let mut recorder = Recorder::start(&plan).expect("started");
        recorder.begin(&start());
        for _ in 0..10 {
            recorder.save(vec![samples::record(samples::fault())]);
        }
        let saved = finish(&mut recorder).expect("saved").expect("not failed");
        assert_eq!((saved.faults, saved.dropped), (10, 0));
        let trace = Trace::open(&plan.path).expect("opened");
        assert_eq!(trace.meta().state, State::Complete);
        let mut count = 0;
        let done = trace.records(Order::OldestFirst, |_| {
            count += 1;
            std::ops::ControlFlow::Continue(())
        });
        done.expect("readable");
        assert_eq!(count, 10);
    }

    #[test]
    fn nothing_is_left_of_what_never_began() {
        let directory = tempfile::tempdir().expect("a directory");
        drop(Recorder::start(&plan(&directory)).expect("started"));
        let left = std::fs::read_dir(directory.path())
            .expect("directory")
            .count();
        assert_eq!(left, 0);
    }

    #[test]
    fn what_does_not_fit_is_counted_and_the_rest_waits() {
        let (sender, receiver) = sync_channel(1);
        let mut recorder = Recorder {
            sender: Some(sender),
            thread: None,
            held: Vec::new(),
            handed: 0,
            untold: 0,
            failed: false,
            begun: true,
        };
        let both = || vec![samples::process_end(), samples::record(samples::fault())];
        recorder.save(both());
        recorder.save(both());
        recorder.save(both());
        assert_eq!((recorder.held.len(), recorder.untold), (2, 2));
        let Some(Record::Lost(lost)) = recorder.take_loss() else {
            panic!("not told")
        };
        assert_eq!((&*lost.reason, lost.count), (OVERRUN, 2));
        assert!(recorder.take_loss().is_none());
        drop(receiver.recv());
        recorder.save(Vec::new());
        let Ok(Message::Records(records)) = receiver.recv() else {
            panic!("not sent")
        };
        assert_eq!(records.len(), 2);
    }
}
