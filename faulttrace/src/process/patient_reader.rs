//! Reads of processes that may hang, for a thread that must not: another does them, and is left behind if it
//! hangs. One after the other, so that what does not hang costs no new thread.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::CapabilitySet;

use crate::privileges;

/// How many threads may hang. Beyond that nothing is read.
const MOST: usize = 64;
/// How long an answer is waited for soon after one that did not come: many can hang in turn, and
/// the wait for them is to take at most this part of the time.
const SHORT: Duration = Duration::from_millis(20);
const SHARE: u32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// The reader.
pub struct PatientReader {
    /// Of its threads.
    name: &'static str,
    /// What they keep of the rights of who asks.
    keeps: CapabilitySet,
    worker: Option<Worker>,
    /// Processes of which a read hangs, each with the thread that hangs.
    hanging: Vec<(u32, JoinHandle<()>)>,
    /// Until then nothing is waited for long.
    short_until: Option<Instant>,
}

/// The thread that reads. It ends when it has done what it was given and there can be no more.
struct Worker {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

impl Default for PatientReader {
    /// That may read what takes the right to read memory.
    fn default() -> Self {
        Self::with("reader", privileges::MEMORY)
    }
}

impl PatientReader {
    /// That reads what everybody may read.
    pub fn without_privileges() -> Self {
        Self::with("public reader", CapabilitySet::empty())
    }

    fn with(name: &'static str, keeps: CapabilitySet) -> Self {
        PatientReader {
            name,
            keeps,
            worker: None,
            hanging: Vec::new(),
            short_until: None,
        }
    }

    /// What `read` finds out about a process; `None` if it does not in time.
    pub fn ask<T: Send + 'static>(
        &mut self,
        pid: u32,
        patience: Duration,
        read: impl Fn(u32) -> T + Send + Sync + 'static,
    ) -> Option<T> {
        let answers = self.ask_all([(pid, ())], patience, move |pid, ()| read(pid));
        answers.into_iter().next().flatten()
    }

    /// The same for several questions, each about a process, in their order; `patience` is for each.
    pub fn ask_all<Q: Send + Sync + 'static, T: Send + 'static>(
        &mut self,
        asked: impl IntoIterator<Item = (u32, Q)>,
        patience: Duration,
        read: impl Fn(u32, &Q) -> T + Send + Sync + 'static,
    ) -> Vec<Option<T>> {
        let asked: Arc<[(u32, Q)]> = asked.into_iter().collect();
        let read = Arc::new(read);
        let mut answers = Vec::with_capacity(asked.len());
        while answers.len() < asked.len() {
            let Some(worker) = self.worker() else {
                break;
            };
            let hang = self.hanging.iter().map(|(pid, _)| *pid).collect();
            let told = worker.give(Arc::clone(&asked), answers.len(), Arc::clone(&read), hang);
            let mut late = None;
            while answers.len() < asked.len() && late.is_none() {
                let since = Instant::now();
                match told.recv_timeout(self.patience(patience, since)) {
                    Ok(answer) => answers.push(answer),
                    Err(_) => late = Some(since),
                }
            }
            match late.zip(asked.get(answers.len())) {
                None => self.worker = Some(worker),
                Some((since, (pid, _))) => {
                    self.leave(*pid, worker, since);
                    answers.push(None);
                }
            }
        }
        answers.resize_with(asked.len(), || None);
        answers
    }

    /// Who reads next, unless too many hang.
    fn worker(&mut self) -> Option<Worker> {
        self.hanging.retain(|(_, thread)| !thread.is_finished());
        if self.hanging.len() >= MOST {
            return None;
        }
        if let Some(worker) = self.worker.take() {
            return Some(worker);
        }
        let name = self.name;
        Worker::start(name, self.keeps)
            .inspect_err(|error| log::warn!("starting a thread ({name}): {error}"))
            .ok()
    }

    fn patience(&self, patience: Duration, now: Instant) -> Duration {
        let is_short = self.short_until.is_some_and(|until| now < until);
        if is_short {
            patience.min(SHORT)
        } else {
            patience
        }
    }

    /// Leaves one behind that hangs; what it tells when it does not any more is not wanted.
    fn leave(&mut self, pid: u32, worker: Worker, since: Instant) {
        log::info!("process {pid} could not be read in time");
        if self.short_until.is_none_or(|until| until <= since) {
            self.short_until = Some(since + since.elapsed() * SHARE);
        }
        self.hanging.push((pid, worker.thread));
    }
}

impl Worker {
    fn start(name: &str, keeps: CapabilitySet) -> std::io::Result<Self> {
        let (jobs, given) = channel::<Job>();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                privileges::keep(keeps);
                while let Ok(job) = given.recv() {
                    job();
                }
            })?;
        Ok(Self { jobs, thread })
    }

    /// Has it answer these, from one of them on; with nothing where it would hang like others.
    fn give<Q: Send + Sync + 'static, T: Send + 'static>(
        &self,
        asked: Arc<[(u32, Q)]>,
        from: usize,
        read: Arc<impl Fn(u32, &Q) -> T + Send + Sync + 'static>,
        hang: HashSet<u32>,
    ) -> Receiver<Option<T>> {
        let (tell, told) = channel();
        let job = move || {
            for (pid, question) in asked.iter().skip(from) {
                let answer = (!hang.contains(pid)).then(|| read(*pid, question));
                // Nobody waits any more if this was late.
                if tell.send(answer).is_err() {
                    return;
                }
            }
        };
        // A thread that has ended tells nothing, as will be seen.
        let _ = self.jobs.send(Box::new(job));
        told
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const BRIEF: Duration = Duration::from_millis(100);

    /// Asks about these; of those below 100 the read hangs until what comes with the answers is dropped.
    fn ask(reader: &mut PatientReader, pids: &[u32]) -> (Sender<()>, Vec<Option<u32>>) {
        let (hold, held) = channel::<()>();
        let held = Mutex::new(held);
        let asked = pids.iter().map(|pid| (*pid, ()));
        let answers = reader.ask_all(asked, BRIEF, move |pid, ()| {
            if pid < 100 {
                let _ = held.lock().map(|held| held.recv());
            }
            pid
        });
        (hold, answers)
    }

    #[test]
    fn what_hangs_is_left_out_and_asked_for_again_when_it_does_not() {
        let mut reader = PatientReader::default();
        let (hold, answers) = ask(&mut reader, &[100, 1, 1, 101]);
        assert_eq!(answers, [Some(100), None, None, Some(101)]);
        assert_eq!(reader.hanging.len(), 1, "asked once");
        assert_eq!(reader.ask(1, LONG, |pid| pid), None, "not waited for");
        assert_eq!(reader.ask(102, LONG, |pid| pid), Some(102));
        drop(hold);
        let deadline = Instant::now() + LONG;
        while reader.ask(1, LONG, |pid| pid).is_none() {
            assert!(Instant::now() < deadline, "it hangs for ever");
            thread::yield_now();
        }
        assert!(reader.hanging.is_empty());
    }

    #[test]
    fn many_that_hang_take_little_time_each_and_no_more_threads_than_may() {
        let mut reader = PatientReader::default();
        let pids: Vec<u32> = (0..70).collect();
        let began = Instant::now();
        let (hold, answers) = ask(&mut reader, &pids);
        assert!(answers.iter().all(Option::is_none));
        assert!(began.elapsed() < BRIEF * 70, "not each for so long");
        assert_eq!(reader.hanging.len(), MOST);
        assert_eq!(reader.ask(100, LONG, |pid| pid), None);
        drop(hold);
    }

    #[test]
    fn a_read_that_panics_is_no_answer_and_others_are_read() {
        let mut reader = PatientReader::default();
        assert_eq!(
            reader.ask(1, LONG, |_| -> u32 { panic!("on purpose") }),
            None
        );
        assert_eq!(reader.ask(2, LONG, |pid| pid), Some(2));
    }
}
