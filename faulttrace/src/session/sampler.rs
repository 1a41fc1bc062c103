//! Reads counters of processes and of the machine on a thread of its own: a read of /proc may wait,
//! and the ring does not.
//!
//! It reads when it is asked, so at most as often as the tracer asks; the tracer takes what has come
//! and waits for nothing.

use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use crate::ingest::Clock;
use crate::model::{Pressure, ProcessCounters, SystemCounters};
use crate::privileges;
use crate::process::counters::CounterReader;

/// Which processes to read, each with an id of the caller's for this round.
pub(super) struct Request {
    pub(super) round: u64,
    pub(super) pids: Vec<u32>,
}

/// What was read of one process.
pub(super) struct Answer {
    pub(super) round: u64,
    pub(super) pid: u32,
    /// When reading it began, `CLOCK_MONOTONIC` ns.
    pub(super) read_ns: u64,
    pub(super) process: ProcessCounters,
    pub(super) system: SystemCounters,
    pub(super) pressure: Option<Pressure>,
}

/// The tracer's end. The thread ends with it.
pub(super) struct Sampler {
    requests: SyncSender<Request>,
    answers: Receiver<Answer>,
}

impl Sampler {
    /// Starts the thread.
    pub(super) fn start() -> std::io::Result<Self> {
        let (requests, wanted) = sync_channel(1);
        let (tell, answers) = channel();
        std::thread::Builder::new()
            .name("sampler".to_owned())
            .spawn(move || {
                privileges::keep(privileges::SESSION);
                read_all(&wanted, &tell);
            })?;
        Ok(Self { requests, answers })
    }

    /// Asks. `false` if it is still at earlier ones.
    pub(super) fn ask(&self, request: Request) -> bool {
        !matches!(
            self.requests.try_send(request),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_))
        )
    }

    /// What has come.
    pub(super) fn answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    /// What comes within this time.
    pub(super) fn answer_within(&self, time: Duration) -> Option<Answer> {
        self.answers.recv_timeout(time).ok()
    }
}

fn read_all(wanted: &Receiver<Request>, tell: &Sender<Answer>) {
    let mut reader = CounterReader::new();
    while let Ok(request) = wanted.recv() {
        let system = reader.system();
        for pid in &request.pids {
            let read_ns = Clock::monotonic_ns();
            let (process, pressure) = reader.process(*pid);
            let answer = Answer {
                round: request.round,
                pid: *pid,
                read_ns,
                process,
                system,
                pressure,
            };
            if tell.send(answer).is_err() {
                return;
            }
        }
        reader.keep_only(|pid| request.pids.contains(&pid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_what_it_was_asked() {
        let sampler = Sampler::start().expect("a thread");
        let own = std::process::id();
        let before = Clock::monotonic_ns();
        assert!(sampler.ask(Request {
            round: 7,
            pids: vec![own, u32::MAX],
        }));
        let wait = Duration::from_secs(30);
        let next = || sampler.answer_within(wait).expect("an answer");
        let (first, second) = (next(), next());
        assert_eq!((first.round, first.pid), (7, own));
        assert!(first.read_ns >= before && first.process.threads >= Some(1));
        assert_eq!((second.round, second.pid), (7, u32::MAX));
        assert_eq!(second.process, ProcessCounters::default());
        assert!(sampler.answer().is_none());
    }
}
