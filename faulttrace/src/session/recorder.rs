//! Saves the records of a session, on a thread of its own: the disk may be slow, full or gone, and
//! tracing goes on.
//!
//! The channel is bounded. Faults that do not fit are not saved, and counted; all other records wait
//! their turn, because without them the counts would not add up.

mod thread;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cli::SavePlan;
use crate::model::{LossClass, Lost, Record, Start};
use crate::privileges;
use crate::process::caller;
use crate::trace::{Error, Options, Saved, Writer, Written};
use thread::now_ns;

/// How many batches of records may wait; the tracer makes them of 1024 at most.
const QUEUE: usize = 128;
/// How often it is told that nothing came.
const NOTHING_EVERY: Duration = Duration::from_millis(500);
/// How many records other than faults may wait until there is room.
const MAX_HELD: usize = 16_384;

/// Reasons of `lost` records for what was not saved because writing was too slow, and for what came
/// after writing had failed.
const OVERRUN: &str = "trace_overrun";
const NOT_SAVED: &str = "trace_not_saved";
/// The same for reports of stuck threads, and for processes that came and went.
const STUCK_NOT_SAVED: &str = "trace_stuck_not_saved";
const PROCESSES_NOT_SAVED: &str = "trace_processes_not_saved";
/// The same for samples of counters.
const SAMPLES_NOT_SAVED: &str = "trace_samples_not_saved";

/// What the recorder's thread is told.
enum Message {
    Begin(Arc<Start>),
    /// Records, and the Unix time until which there were no others, ns.
    Records(Vec<Record>, u64),
    /// Until this time there was nothing more.
    Nothing(u64),
    /// The session failed, for this reason: the trace is not complete.
    Abandon(String),
}

/// What is in the file, as its thread tells.
#[derive(Debug, Default)]
struct Progress {
    faults: AtomicU64,
    stuck: AtomicU64,
}

impl Progress {
    fn get(&self) -> Written {
        Written {
            faults: self.faults.load(Ordering::Acquire),
            stuck: self.stuck.load(Ordering::Acquire),
        }
    }

    fn set(&self, written: Written) {
        self.faults.store(written.faults, Ordering::Release);
        self.stuck.store(written.stuck, Ordering::Release);
    }
}

/// The session's end of it.
pub(super) struct Recorder {
    sender: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<Result<Saved, Error>>>,
    progress: Arc<Progress>,
    /// Records other than faults that found no room.
    held: Vec<Record>,
    /// What was handed over.
    handed: Written,
    /// What was not saved and of which nobody has been told.
    untold: Written,
    untold_processes: u64,
    untold_samples: u64,
    /// When it was last told that nothing came.
    told_at: Instant,
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
        let progress = Arc::new(Progress::default());
        let shared = Arc::clone(&progress);
        let bounded = plan.max_bytes.is_some();
        let work = move || match Writer::create(&path, &options) {
            Ok(writer) => {
                privileges::keep_to_write(&writer.places().each_ref().map(PathBuf::as_path));
                let _ = tell.send(None);
                thread::record(writer, &receiver, &shared, bounded)
            }
            Err(error) => {
                let _ = tell.send(Some(error));
                Ok(Saved::default())
            }
        };
        let thread = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(work)?;
        if let Some(error) = told.recv()? {
            return Err(error.into());
        }
        Ok(Self::new(Some(sender), Some(thread), progress))
    }

    fn new(
        sender: Option<SyncSender<Message>>,
        thread: Option<JoinHandle<Result<Saved, Error>>>,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            sender,
            thread,
            progress,
            held: Vec::new(),
            handed: Written::default(),
            untold: Written::default(),
            untold_processes: 0,
            untold_samples: 0,
            told_at: Instant::now(),
            failed: false,
            begun: false,
        }
    }

    /// Tracing has begun.
    pub(super) fn begin(&mut self, start: &Arc<Start>) {
        self.begun = true;
        // The channel is empty yet.
        self.send(Message::Begin(Arc::clone(start)));
    }

    /// Takes records to save: all that there were until now. Never waits.
    pub(super) fn save(&mut self, records: Vec<Record>) {
        self.send_held();
        if self.held.is_empty() {
            self.send(Message::Records(records, now_ns()));
        } else {
            self.hold(records);
        }
    }

    /// Nothing has come until now. Told now and then: these messages are not to take the room of
    /// others.
    pub(super) fn nothing(&mut self) {
        self.send_held();
        if self.held.is_empty() && self.told_at.elapsed() >= NOTHING_EVERY {
            self.told_at = Instant::now();
            self.send(Message::Nothing(now_ns()));
        }
    }

    fn send_held(&mut self) {
        if !self.held.is_empty() && !self.failed {
            let held = std::mem::take(&mut self.held);
            self.send(Message::Records(held, now_ns()));
        }
    }

    fn send(&mut self, message: Message) {
        let Some(sender) = &self.sender else { return };
        let count = match &message {
            Message::Records(records, _) => count(records),
            _ => Written::default(),
        };
        let message = match sender.try_send(message) {
            Ok(()) => {
                self.handed.faults += count.faults;
                self.handed.stuck += count.stuck;
                return;
            }
            Err(TrySendError::Full(message)) => message,
            Err(TrySendError::Disconnected(message)) => {
                self.failed = true;
                message
            }
        };
        if let Message::Records(records, _) = message {
            self.hold(records);
        }
    }

    /// Counts the faults and stuck threads among records that cannot be sent. The others are kept
    /// for later, if there is a later; losses added up.
    fn hold(&mut self, records: Vec<Record>) {
        let count = count(&records);
        self.untold.faults += count.faults;
        self.untold.stuck += count.stuck;
        if self.failed {
            return;
        }
        let mut losses: HashMap<(LossClass, String), u64> = HashMap::new();
        let held = std::mem::take(&mut self.held);
        for record in held.into_iter().chain(records) {
            match record {
                Record::Fault(_) | Record::Stuck(_) => {}
                Record::Sample(_) => self.untold_samples += 1,
                Record::Lost(lost) => {
                    let count = losses
                        .entry((lost.class, lost.reason.into_owned()))
                        .or_default();
                    *count = count.saturating_add(lost.count);
                }
                Record::Process(_) | Record::ProcessEnd(_) if self.held.len() >= MAX_HELD => {
                    self.untold_processes += 1;
                }
                record => self.held.push(record),
            }
        }
        let lost = losses.into_iter().map(|((class, reason), count)| {
            Record::Lost(Lost {
                class,
                reason: reason.into(),
                count,
            })
        });
        self.held.extend(lost);
    }

    /// What was not saved since the last time, to be told like any other loss.
    pub(super) fn take_losses(&mut self) -> Vec<Record> {
        let Written { faults, stuck } = std::mem::take(&mut self.untold);
        let processes = std::mem::take(&mut self.untold_processes);
        let samples = std::mem::take(&mut self.untold_samples);
        let reason = if self.failed { NOT_SAVED } else { OVERRUN };
        [
            (reason, faults),
            (STUCK_NOT_SAVED, stuck),
            (PROCESSES_NOT_SAVED, processes),
            (SAMPLES_NOT_SAVED, samples),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| {
            Record::Lost(Lost {
                class: LossClass::Lost,
                reason: reason.into(),
                count,
            })
        })
        .collect()
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
        let result = match self.thread.take().map(JoinHandle::join) {
            None => Ok(Saved::default()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Error::Stopped("its thread panicked".to_owned())),
        };
        self.failed |= result.is_err();
        self.count_unwritten();
        result
    }

    /// What was handed over and is not in the file is not saved either.
    fn count_unwritten(&mut self) {
        let written = self.progress.get();
        self.untold.faults += self.handed.faults.saturating_sub(written.faults);
        self.untold.stuck += self.handed.stuck.saturating_sub(written.stuck);
        self.handed = written;
    }

    /// The trace will not be complete, because of this.
    pub(super) fn abandon(&mut self, why: String) {
        self.send(Message::Abandon(why));
    }

    /// Hands over what is left and waits until all is written. May be called again if it was
    /// interrupted.
    pub(super) async fn finish(&mut self) -> Result<Option<Saved>, Error> {
        // Before anything is waited for: who reads the trace may hold all of it up.
        if self.sender.is_some() {
            Writer::hurry();
        }
        while self.sender.is_some() && !self.held.is_empty() && !self.failed {
            self.send_held();
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

    /// Nobody waits for the rest: it counts as not saved.
    pub(super) fn give_up(&mut self) {
        self.failed = true;
        self.count_unwritten();
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

fn count(records: &[Record]) -> Written {
    let mut count = Written::default();
    for record in records {
        count.faults += u64::from(matches!(record, Record::Fault(_)));
        count.stuck += u64::from(matches!(record, Record::Stuck(_)));
    }
    count
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
        let mut recorder = Recorder::new(Some(sender), None, Arc::default());
        let both = || vec![samples::process_end(), samples::record(samples::fault())];
        recorder.save(both());
        recorder.save(both());
        recorder.save(both());
        recorder.save(vec![
            samples::lost(LossClass::Lost, "x", 2),
            samples::lost(LossClass::Lost, "x", 3),
        ]);
        assert_eq!((recorder.held.len(), recorder.untold.faults), (3, 2));
        let losses = recorder.take_losses();
        let [Record::Lost(lost)] = losses.as_slice() else {
            panic!("not told: {losses:?}")
        };
        assert_eq!((&*lost.reason, lost.count), (OVERRUN, 2));
        assert!(recorder.take_losses().is_empty());
        drop(receiver.recv());
        recorder.nothing();
        let Ok(Message::Records(records, _)) = receiver.recv() else {
            panic!("not sent")
        };
        assert_eq!(records.len(), 3);
        let sum = |record: &Record| match record {
            Record::Lost(lost) => lost.count,
            _ => 0,
        };
        assert_eq!(records.iter().map(sum).sum::<u64>(), 5);
    }
}
