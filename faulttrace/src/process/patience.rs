//! Does what may hang on threads of its own, with patience: what hangs holds up nothing else, and is left out.

use std::collections::{HashSet, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::CapabilitySet;

use crate::privileges;

/// How many threads there are at first, and, with many that hang, at most.
const FEW: usize = 4;
const MOST: usize = 64;
/// How often it is asked whether to go on.
const TICK: Duration = Duration::from_millis(50);

/// What there is to do about one process, in steps: if one hangs, so would others about the same process.
pub(super) trait Work: Send + 'static {
    type Answer: Send + 'static;

    fn pid(&self) -> u32;

    /// Prepares the next step, on the caller's thread and with its privileges; must not hang.
    fn prepare(&mut self) {}

    /// Does it; whether there are more.
    fn step(&mut self, tell: &dyn Fn(Self::Answer)) -> bool;
}

/// How it is done.
pub(super) struct Terms<'a> {
    /// Of the threads.
    pub(super) name: &'static str,
    /// What they keep.
    pub(super) privileges: CapabilitySet,
    /// What is under way hangs if nothing is told for so long.
    pub(super) patience: Duration,
    /// How long all of it may take.
    pub(super) limit: Duration,
    /// Whether nobody wants it any more.
    pub(super) is_over: &'a dyn Fn() -> bool,
}

/// What came of it.
pub(super) struct Outcome<Answer> {
    pub(super) answers: Vec<Answer>,
    /// Processes about which not everything was done.
    pub(super) left_out: HashSet<u32>,
}

/// What a thread tells.
enum Told<W: Work> {
    Answer(W::Answer),
    /// A step is done; what has more of them.
    Done(u32, Option<W>),
}

/// Does all of it, or what can be done in time.
pub(super) fn with_patience<W: Work>(all: Vec<W>, terms: &Terms<'_>) -> Outcome<W::Answer> {
    let mut waiting = VecDeque::from(all);
    let (mut threads, told) = Threads::new(terms);
    let mut answers = Vec::new();
    let mut under_way = HashSet::new();
    let began = Instant::now();
    let (mut heard, mut allowed) = (began, FEW);
    while !(terms.is_over)() && began.elapsed() < terms.limit {
        while under_way.len() < allowed.min(MOST)
            && threads.has_for(under_way.len() + 1)
            && let Some(mut work) = waiting.pop_front()
        {
            work.prepare();
            under_way.insert(work.pid());
            threads.give(work);
        }
        if under_way.is_empty() {
            break;
        }
        match told.recv_timeout(TICK) {
            Ok(Told::Answer(answer)) => answers.push(answer),
            Ok(Told::Done(pid, more)) => {
                under_way.remove(&pid);
                waiting.extend(more);
            }
            Err(_) if heard.elapsed() < terms.patience => continue,
            Err(_) if waiting.is_empty() || allowed >= MOST => break,
            Err(_) => allowed *= 2,
        }
        heard = Instant::now();
    }
    let mut left_out = under_way;
    left_out.extend(waiting.iter().map(Work::pid));
    Outcome { answers, left_out }
}

/// The threads. Those that wait end with it, those that hang when they do not any more.
struct Threads<'a, W: Work> {
    terms: &'a Terms<'a>,
    to_do: Sender<W>,
    taken_from: Arc<Mutex<Receiver<W>>>,
    tell: Sender<Told<W>>,
    started: usize,
    /// No more could be started.
    full: bool,
}

impl<'a, W: Work> Threads<'a, W> {
    fn new(terms: &'a Terms<'a>) -> (Self, Receiver<Told<W>>) {
        let (to_do, taken_from) = channel();
        let (tell, told) = channel();
        let threads = Self {
            terms,
            to_do,
            taken_from: Arc::new(Mutex::new(taken_from)),
            tell,
            started: 0,
            full: false,
        };
        (threads, told)
    }

    /// Whether there are so many, if need be one more than before.
    fn has_for(&mut self, wanted: usize) -> bool {
        if self.started >= wanted || self.full {
            return self.started >= wanted;
        }
        let (from, tell) = (Arc::clone(&self.taken_from), self.tell.clone());
        let keep = self.terms.privileges;
        let spawned = thread::Builder::new()
            .name(self.terms.name.to_owned())
            .spawn(move || {
                privileges::keep(keep);
                work_off(&from, &tell);
            });
        match spawned {
            Ok(_) => self.started += 1,
            Err(error) => {
                self.full = true;
                log::warn!("starting a thread ({}): {error}", self.terms.name);
            }
        }
        self.started >= wanted
    }

    fn give(&self, work: W) {
        // The other end is held here.
        let _ = self.to_do.send(work);
    }
}

fn work_off<W: Work>(from: &Mutex<Receiver<W>>, tell: &Sender<Told<W>>) {
    let next = || {
        let from = from.lock().unwrap_or_else(PoisonError::into_inner);
        from.recv()
    };
    while let Ok(mut work) = next() {
        let more = work.step(&|answer| {
            // Nobody waits any more if this was late.
            let _ = tell.send(Told::Answer(answer));
        });
        let done = Told::Done(work.pid(), more.then_some(work));
        if tell.send(done).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with its number so often, or hangs for as long as the test lasts.
    struct Counted {
        pid: u32,
        steps: u32,
        prepared: bool,
        hangs: Option<Receiver<()>>,
    }

    impl Work for Counted {
        type Answer = u32;

        fn pid(&self) -> u32 {
            self.pid
        }

        fn prepare(&mut self) {
            self.prepared = true;
        }

        fn step(&mut self, tell: &dyn Fn(u32)) -> bool {
            assert!(std::mem::take(&mut self.prepared));
            if let Some(hangs) = &self.hangs {
                let _ = hangs.recv();
            }
            tell(self.pid);
            self.steps -= 1;
            self.steps > 0
        }
    }

    fn answering(pid: u32) -> Counted {
        Counted {
            pid,
            steps: 2,
            prepared: false,
            hangs: None,
        }
    }

    /// So many that hang until what comes with them is dropped.
    fn hanging(count: usize) -> (Vec<Sender<()>>, Vec<Counted>) {
        let (holds, hang): (Vec<_>, Vec<_>) = (0..count).map(|_| channel()).unzip();
        let hanging = (0..).zip(hang).map(|(pid, hangs)| Counted {
            hangs: Some(hangs),
            ..answering(pid)
        });
        (holds, hanging.collect())
    }

    fn terms(is_over: &dyn Fn() -> bool) -> Terms<'_> {
        Terms {
            name: "test",
            privileges: CapabilitySet::empty(),
            patience: Duration::from_millis(200),
            limit: Duration::from_secs(60),
            is_over,
        }
    }

    #[test]
    fn what_hangs_holds_up_nothing_else() {
        // More than there are threads at first.
        let (holds, hanging) = hanging(10);
        let all = hanging.into_iter().chain((10..200).map(answering));
        let outcome = with_patience(all.collect(), &terms(&|| false));
        assert_eq!(outcome.left_out, (0..10).collect());
        let mut answers = outcome.answers;
        answers.sort_unstable();
        assert_eq!(
            answers,
            (10..200).flat_map(|pid| [pid, pid]).collect::<Vec<_>>()
        );
        drop(holds);
    }

    #[test]
    fn what_too_many_that_hang_leave_no_thread_for_is_left_out() {
        let (holds, mut all) = hanging(MOST);
        let last = u32::MAX;
        all.push(answering(last));
        let outcome = with_patience(all, &terms(&|| false));
        assert!(outcome.answers.is_empty());
        assert_eq!(outcome.left_out.len(), MOST + 1);
        assert!(outcome.left_out.contains(&last));
        drop(holds);
    }

    #[test]
    fn what_is_not_wanted_any_more_is_left_out() {
        let outcome = with_patience(vec![answering(1)], &terms(&|| true));
        assert!(outcome.answers.is_empty());
        assert_eq!(outcome.left_out, HashSet::from([1]));
    }
}
