//! The kernel's own count of majors, from attach to detach: the referee.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use roaring::RoaringBitmap;

use crate::model::Accounting;
use crate::process::patient_reader::PatientReader;
use crate::process::threads::{self, Stat};

/// For how long after the end of a process the ends of threads that were still on their way to it are
/// waited for.
const STRAGGLERS: Duration = Duration::from_secs(10);
/// How long a count may take to be read. One that is late is unknown.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long each is waited for while others wait behind it.
const BRIEF: Duration = Duration::from_millis(20);

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Whom {
    Process(u32),
    Thread { pid: u32, tid: u32 },
}

impl Whom {
    fn pid(self) -> u32 {
        match self {
            Whom::Process(pid) | Whom::Thread { pid, .. } => pid,
        }
    }

    fn stat(self) -> Option<Stat> {
        let stat = match self {
            Whom::Process(pid) => threads::process_stat(pid),
            Whom::Thread { pid, tid } => threads::thread_stat(pid, tid),
        };
        stat.ok()
    }
}

/// How far one count has come.
#[derive(Debug)]
struct Account {
    /// The kernel's total when tracing began: for a process with its dead threads.
    total_at_start: Option<u64>,
    /// The same without dead threads, to be taken off the sum of `exited`.
    live_at_start: Option<u64>,
    /// Sum over threads that ended since.
    exited: u64,
    /// When its last thread, or the thread, was seen to end.
    ended: Option<Instant>,
    /// When this began, clock ticks after boot: an exit can be lost, and the id be another's who started
    /// later.
    began: Option<u64>,
    /// What the kernel says at the end of tracing.
    at_end: Option<Stat>,
    /// It joined those traced, so that its id may have been another's before.
    joined: bool,
}

/// The counts of everything traced from the start, and of children.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    accounts: HashMap<Whom, Account>,
    /// Of processes that ended and whose ids are in use again.
    closed: Vec<(u32, Account)>,
    /// Of which single threads are counted.
    processes_of_threads: HashSet<u32>,
    /// Whose counts were taken out.
    taken: RoaringBitmap,
    /// Somebody's beginning or end was not seen: sums over ended threads are incomplete, and processes of
    /// which nothing is known may have had the ids of those that joined.
    tasks_lost: bool,
}

impl Accounts {
    /// Begins with processes, before the programs are attached.
    pub(super) fn open_processes(&mut self, pids: &[u32], reader: &mut PatientReader) {
        for pid in pids {
            self.open(Whom::Process(*pid), None, None);
        }
        if self.read_starts(pids, reader) {
            // What others counted while one was waited for is not to be told as missing.
            self.read_starts(pids, reader);
        }
    }

    /// Whether one did not come in time.
    fn read_starts(&mut self, pids: &[u32], reader: &mut PatientReader) -> bool {
        let asked = pids.iter().map(|pid| (*pid, ()));
        let counts = reader.ask_all(asked, PATIENCE, |pid, ()| {
            let live = threads::list(pid).ok().map(|tids| {
                // A thread that ends meanwhile counts nowhere.
                tids.into_iter()
                    .filter_map(|tid| threads::maj_flt(pid, tid).ok())
                    .sum()
            });
            (threads::process_maj_flt(pid).ok(), live)
        });
        let is_late = counts.iter().any(Option::is_none);
        for (pid, counts) in pids.iter().zip(counts) {
            if let Some(account) = self.accounts.get_mut(&Whom::Process(*pid)) {
                (account.total_at_start, account.live_at_start) = counts.unwrap_or_default();
            }
        }
        is_late
    }

    /// Forgets a process that ended before the programs could see that: how many majors it had is unknown.
    pub(super) fn forget(&mut self, pid: u32) {
        self.accounts.remove(&Whom::Process(pid));
    }

    /// Begins with one thread.
    pub(super) fn open_thread(&mut self, pid: u32, tid: u32, reader: &mut PatientReader) {
        let count = reader.ask(pid, PATIENCE, move |pid| threads::maj_flt(pid, tid).ok());
        let count = count.flatten();
        self.processes_of_threads.insert(pid);
        self.open(Whom::Thread { pid, tid }, count, count);
    }

    /// Begins with a process that was made to be traced, and has done nothing yet.
    pub(super) fn open_born(&mut self, pid: u32) {
        self.open(Whom::Process(pid), Some(0), Some(0));
    }

    /// Begins with a process that joins those traced: as a child of one of them, or because it took
    /// a name that is wanted. What it counted before the latter is not known.
    pub(super) fn open_joined(&mut self, pid: u32, born: bool) {
        let (whom, start) = (Whom::Process(pid), born.then_some(0));
        self.open(whom, start, start);
        if let Some(account) = self.accounts.get_mut(&whom) {
            account.joined = true;
        }
    }

    /// Whether single threads of a process are, or were, counted.
    pub(super) fn has_threads_of(&self, pid: u32) -> bool {
        self.processes_of_threads.contains(&pid)
    }

    fn open(&mut self, whom: Whom, total_at_start: Option<u64>, live_at_start: Option<u64>) {
        let account = Account {
            total_at_start,
            live_at_start,
            exited: 0,
            ended: None,
            began: threads::now_ticks(),
            at_end: None,
            joined: false,
        };
        let before = self.accounts.insert(whom, account);
        // An id that was given to a new process: the old one's count stays.
        let ended = before.filter(|account| account.ended.is_some());
        self.closed.extend(ended.map(|ended| (whom.pid(), ended)));
    }

    /// A thread ended with this count over its whole life.
    pub(super) fn exited(&mut self, pid: u32, tid: u32, maj_flt: u64, last: bool) {
        if let Some(account) = self.accounts.get_mut(&Whom::Process(pid)) {
            account.exited = account.exited.saturating_add(maj_flt);
            if last {
                account.ended = Some(Instant::now());
            }
        } else if let Some(account) = self.accounts.get_mut(&Whom::Thread { pid, tid }) {
            account.exited = account.exited.saturating_add(maj_flt);
            account.ended = Some(Instant::now());
        }
    }

    /// Some beginning or end could not be recorded.
    pub(super) fn tasks_lost(&mut self) {
        self.tasks_lost = true;
    }

    /// Takes out what ended a while ago, so that a target with many children does not fill the memory.
    pub(super) fn take_ended(&mut self, now: Instant) -> Vec<Accounting> {
        let over = |account: &Account| {
            account
                .ended
                .is_some_and(|at| now.saturating_duration_since(at) > STRAGGLERS)
        };
        let ended: Vec<Whom> = self
            .accounts
            .iter()
            .filter(|(_, account)| over(account))
            .map(|(whom, _)| *whom)
            .collect();
        let mut taken = std::mem::take(&mut self.closed);
        for whom in ended {
            let account = self.accounts.remove(&whom);
            taken.extend(account.map(|account| (whom.pid(), account)));
        }
        self.taken.extend(taken.iter().map(|(pid, _)| *pid));
        let counted = taken.iter().map(|(pid, account)| Accounting {
            pid: *pid,
            maj_flt_delta: self.delta(account),
        });
        counted.collect()
    }

    /// Reads the kernel's counts: to be called right after major faults are no longer seen. Those that go on
    /// faulting are not to wait for one that hangs.
    pub(super) fn read_ends(&mut self, reader: &mut PatientReader) {
        let deadline = Instant::now() + PATIENCE;
        let open = self.accounts.iter();
        let open = open.filter(|(_, account)| account.ended.is_none());
        let open = open.map(|(whom, _)| *whom).collect();
        let mut late = self.read_ends_of(open, BRIEF, reader);
        while !late.is_empty() && Instant::now() < deadline {
            thread::sleep(BRIEF);
            let left = deadline.saturating_duration_since(Instant::now());
            late = self.read_ends_of(late, left, reader);
        }
    }

    /// Whose counts did not come in time.
    fn read_ends_of(
        &mut self,
        whom: Vec<Whom>,
        patience: Duration,
        reader: &mut PatientReader,
    ) -> Vec<Whom> {
        let asked = whom.iter().map(|whom| (whom.pid(), *whom));
        let counts = reader.ask_all(asked, patience, |_, whom| whom.stat());
        let mut late = Vec::new();
        for (whom, count) in whom.into_iter().zip(counts) {
            match (self.accounts.get_mut(&whom), count) {
                (Some(account), Some(count)) => account.at_end = count,
                _ => late.push(whom),
            }
        }
        late
    }

    /// Ends all, once every exit that was seen is accounted for: a process may have ended just before
    /// its count was read.
    pub(super) fn close(self) -> Vec<Accounting> {
        let mut deltas: HashMap<u32, Option<u64>> = HashMap::new();
        let open = self.accounts.iter().map(|(whom, open)| (whom.pid(), open));
        let closed = self.closed.iter().map(|(pid, closed)| (*pid, closed));
        for (pid, account) in open.chain(closed) {
            let sum = deltas.entry(pid).or_insert(Some(0));
            *sum = sum
                .zip(self.delta(account))
                .map(|(sum, delta)| sum.saturating_add(delta));
        }
        if self.tasks_lost {
            // Others may have had their ids since, and nobody told.
            deltas.extend(self.taken.iter().map(|pid| (pid, None)));
        }
        deltas
            .into_iter()
            .map(|(pid, maj_flt_delta)| Accounting { pid, maj_flt_delta })
            .collect()
    }

    fn delta(&self, account: &Account) -> Option<u64> {
        if self.tasks_lost && (account.ended.is_some() || account.joined) {
            return None;
        }
        if account.ended.is_some() {
            return account.exited.checked_sub(account.live_at_start?);
        }
        let now = account.at_end.as_ref()?;
        if account.began.is_none_or(|began| now.start_time > began) {
            return None;
        }
        now.maj_flt.checked_sub(account.total_at_start?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_threads_count_from_the_start_of_tracing() {
        let mut accounts = Accounts::default();
        accounts.open(Whom::Process(1), Some(100), Some(40));
        accounts.exited(1, 1, 55, false);
        accounts.exited(1, 2, 5, true);
        accounts.exited(9, 9, 77, true);
        assert_eq!(
            accounts.close(),
            [Accounting {
                pid: 1,
                maj_flt_delta: Some(20)
            }]
        );
    }

    #[test]
    fn what_was_told_is_taken_back_when_ends_were_lost() {
        let mut accounts = Accounts::default();
        accounts.open(Whom::Process(1), Some(0), Some(0));
        accounts.exited(1, 1, 7, true);
        let told = |maj_flt_delta| {
            vec![Accounting {
                pid: 1,
                maj_flt_delta,
            }]
        };
        let later = Instant::now() + STRAGGLERS * 2;
        assert_eq!(accounts.take_ended(later), told(Some(7)));
        accounts.tasks_lost();
        assert_eq!(accounts.close(), told(None));
    }

    #[test]
    fn single_threads_are_known_by_their_process() {
        let mut accounts = Accounts::default();
        accounts.open(Whom::Process(1), None, None);
        accounts.open_thread(2, 3, &mut PatientReader::default());
        accounts.exited(2, 3, 0, true);
        let later = Instant::now() + STRAGGLERS * 2;
        assert_eq!(accounts.take_ended(later).len(), 1);
        let has = [1, 2, 3].map(|pid| accounts.has_threads_of(pid));
        assert_eq!(has, [false, true, false]);
    }

    #[test]
    fn what_ended_long_ago_is_told_once() {
        let mut accounts = Accounts::default();
        accounts.open(Whom::Process(1), Some(0), Some(0));
        accounts.exited(1, 1, 7, true);
        assert!(
            accounts.take_ended(Instant::now()).is_empty(),
            "too early to tell"
        );
        let later = Instant::now() + STRAGGLERS * 2;
        let told = Accounting {
            pid: 1,
            maj_flt_delta: Some(7),
        };
        assert_eq!(accounts.take_ended(later), [told]);
        assert!(accounts.take_ended(later).is_empty());
        assert!(accounts.close().is_empty());
    }

    #[test]
    fn of_one_that_joined_the_count_is_unknown_once_others_were_missed() {
        let own = std::process::id();
        let count = |lost: bool| {
            let mut accounts = Accounts::default();
            accounts.open_joined(own, true);
            if lost {
                accounts.tasks_lost();
            }
            accounts.read_ends(&mut PatientReader::default());
            accounts.close()[0].maj_flt_delta
        };
        assert!(count(false).is_some(), "ours since our birth");
        assert_eq!(count(true), None, "its id may have been another's");
    }

    #[test]
    fn one_that_started_later_is_another_with_the_same_id() {
        let own = std::process::id();
        let started = threads::start_time(own).expect("we live");
        let delta_of = |began| {
            let mut accounts = Accounts::default();
            let mut reader = PatientReader::default();
            accounts.open_processes(&[own], &mut reader);
            accounts.read_ends(&mut reader);
            if let Some(account) = accounts.accounts.get_mut(&Whom::Process(own)) {
                account.began = began;
            }
            accounts.close()[0].maj_flt_delta
        };
        assert!(delta_of(Some(started)).is_some());
        assert_eq!(delta_of(Some(started - 1)), None);
        assert_eq!(delta_of(None), None);
    }

    #[test]
    fn what_was_lost_also_counts_for_those_whose_ids_are_in_use_again() {
        let delta_of = |lost: bool| {
            let mut accounts = Accounts::default();
            accounts.open_joined(1, true);
            accounts.exited(1, 1, 7, true);
            accounts.open_joined(1, true);
            accounts.exited(1, 1, 2, true);
            if lost {
                accounts.tasks_lost();
            }
            accounts.close()[0].maj_flt_delta
        };
        assert_eq!((delta_of(false), delta_of(true)), (Some(9), None));
    }

    #[test]
    fn what_cannot_be_known_is_not_zero() {
        let mut accounts = Accounts::default();
        accounts.open(Whom::Process(1), Some(1), Some(1));
        accounts.exited(1, 1, 5, true);
        accounts.tasks_lost();
        accounts.open(
            Whom::Thread {
                pid: u32::MAX,
                tid: u32::MAX,
            },
            Some(3),
            Some(3),
        );
        assert!(
            accounts
                .close()
                .iter()
                .all(|account| account.maj_flt_delta.is_none())
        );
    }
}
