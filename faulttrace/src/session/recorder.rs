//! Saves the records of a session, on a thread of its own: the disk may be slow, full or gone, and
//! tracing goes on.
//!
//! The channel is bounded. Faults that do not fit are not saved, and counted; all other records wait
//! their turn, because without them the counts would not add up. There is a bound to that, too.

mod thread;

use std::borrow::Cow;
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
/// How many records other than faults may wait until there is room; besides, losses, which are added up, and
/// the one of the ring.
const MAX_HELD: usize = 16_384;

/// Reasons of `lost` records for what was not saved because writing was too slow, and for what came
/// after writing had failed.
const OVERRUN: &str = "trace_overrun";
const NOT_SAVED: &str = "trace_not_saved";
/// The same for reports of stuck threads, and for processes that came and went.
const STUCK_NOT_SAVED: &str = "trace_stuck_not_saved";
const PROCESSES_NOT_SAVED: &str = "trace_processes_not_saved";
/// The same for samples of counters, and for all other records.
const SAMPLES_NOT_SAVED: &str = "trace_samples_not_saved";
const RECORDS_NOT_SAVED: &str = "trace_records_not_saved";

/// What the recorder's thread is told.
enum Message {
    Begin(Arc<Start>),
    /// Records, and the Unix time until which there were no others, ns.
    Records(Vec<Record>, u64),
    /// Until this time there was nothing more.
    Nothing(u64),
    /// That was all.
    End,
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
    /// Where among them losses of each reason are.
    held_losses: HashMap<(LossClass, Cow<'static, str>), usize>,
    /// What was handed over.
    handed: Written,
    /// What was not saved and of which nobody has been told.
    untold: Written,
    untold_processes: u64,
    untold_samples: u64,
    untold_records: u64,
    /// When it was last told that nothing came.
    told_at: Instant,
    /// Writing has failed.
    failed: bool,
    /// Tracing has begun, so that there is something in the file.
    begun: bool,
    /// What the thread is to be told last.
    last: Option<Message>,
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
            held_losses: HashMap::new(),
            handed: Written::default(),
            untold: Written::default(),
            untold_processes: 0,
            untold_samples: 0,
            untold_records: 0,
            told_at: Instant::now(),
            failed: false,
            begun: false,
            last: None,
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
        if self.held.is_empty() || self.failed {
            return;
        }
        let held = std::mem::take(&mut self.held);
        match self.try_send(Message::Records(held, now_ns())) {
            // As they were: not gone through for each batch that comes.
            Some(Message::Records(held, _)) => self.held = held,
            _ => self.held_losses.clear(),
        }
    }

    fn send(&mut self, message: Message) {
        let count = match &message {
            Message::Records(records, _) => count(records),
            _ => Written::default(),
        };
        match self.try_send(message) {
            None => {
                self.handed.faults += count.faults;
                self.handed.stuck += count.stuck;
            }
            Some(Message::Records(records, _)) => self.hold(records),
            Some(_) => {}
        }
    }

    /// Gives back what there is no room for, or nobody to take.
    fn try_send(&mut self, message: Message) -> Option<Message> {
        let Some(sender) = &self.sender else {
            return Some(message);
        };
        match sender.try_send(message) {
            Ok(()) => None,
            Err(TrySendError::Full(message)) => Some(message),
            Err(TrySendError::Disconnected(message)) => {
                self.failed = true;
                Some(message)
            }
        }
    }

    /// Counts the faults and stuck threads among records that cannot be sent. The others are kept
    /// for later, if there is a later, as many as may be; losses added up.
    fn hold(&mut self, records: Vec<Record>) {
        let count = count(&records);
        self.untold.faults += count.faults;
        self.untold.stuck += count.stuck;
        if self.failed {
            return;
        }
        for record in records {
            match record {
                Record::Fault(_) | Record::Stuck(_) => {}
                Record::Sample(_) => self.untold_samples += 1,
                Record::Lost(lost) => self.hold_loss(lost),
                Record::Transport(_) => self.held.push(record),
                record if self.held.len() < MAX_HELD => self.held.push(record),
                Record::Process(_) | Record::ProcessEnd(_) => self.untold_processes += 1,
                _ => self.untold_records += 1,
            }
        }
    }

    fn hold_loss(&mut self, lost: Lost) {
        let at = *self
            .held_losses
            .entry((lost.class, lost.reason.clone()))
            .or_insert(self.held.len());
        match self.held.get_mut(at) {
            Some(Record::Lost(held)) => held.count = held.count.saturating_add(lost.count),
            _ => self.held.push(Record::Lost(lost)),
        }
    }

    /// What was not saved since the last time, to be told like any other loss.
    pub(super) fn take_losses(&mut self) -> Vec<Record> {
        let Written { faults, stuck } = std::mem::take(&mut self.untold);
        let processes = std::mem::take(&mut self.untold_processes);
        let samples = std::mem::take(&mut self.untold_samples);
        let records = std::mem::take(&mut self.untold_records);
        let reason = if self.failed { NOT_SAVED } else { OVERRUN };
        [
            (reason, faults),
            (STUCK_NOT_SAVED, stuck),
            (PROCESSES_NOT_SAVED, processes),
            (SAMPLES_NOT_SAVED, samples),
            (RECORDS_NOT_SAVED, records),
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
        self.last = Some(Message::Abandon(why));
    }

    /// Sends what found no room; whether there is more.
    fn send_rest(&mut self) -> bool {
        self.send_held();
        if !self.held.is_empty() {
            return true;
        }
        if let Some(last) = self.last.take() {
            self.last = self.try_send(last);
        }
        self.last.is_some()
    }

    /// Hands over what is left and waits until all is written. May be called again if it was
    /// interrupted.
    pub(super) async fn finish(&mut self) -> Result<Option<Saved>, Error> {
        // Before anything is waited for: who reads the trace may hold all of it up.
        if self.sender.is_some() {
            Writer::hurry();
            self.last.get_or_insert(Message::End);
        }
        while self.sender.is_some() && !self.failed && self.send_rest() {
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
mod tests;
