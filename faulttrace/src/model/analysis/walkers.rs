//! Who goes through which file: threads, and goroutines where they are known.
//!
//! Goroutines change threads, so that what a thread of a Go program does one fault after the other is
//! done by several of them by turns. A fault of a goroutine is therefore a step of the goroutine's. Where
//! most of them fault only once on a file, as those that each serve one request, their steps tell nothing;
//! for that, the same faults are followed by thread as well, and [`Walkers::take`] decides for one of both.

use super::keys::Numbers;
use super::walk::{Pattern, Steps, Walk};

/// What each of many walkers did alone, by number: sequential, strided, random, mixed, too few.
pub(super) type Ways = [u64; 5];

/// Walks by who does them, up to a bound: those beyond it are not followed.
#[derive(Debug)]
struct Walks<K> {
    numbers: Numbers<K>,
    walks: Vec<Walk>,
}

impl<K: Copy + Eq + std::hash::Hash> Walks<K> {
    fn new(limit: u32) -> Self {
        Walks {
            numbers: Numbers::new(limit),
            walks: Vec::new(),
        }
    }

    /// The number of a walk; `None` if there is no room for another.
    fn of(&mut self, key: K) -> Option<u32> {
        let (id, new) = self.numbers.of(key)?;
        if new {
            self.walks.push(Walk::default());
        }
        Some(id)
    }

    /// The fault before those added so far. `id` saves looking for the walk.
    fn before(&mut self, id: &mut Option<u32>, key: K, offset: u64, read_ahead: bool) {
        if id.is_none() {
            *id = self.of(key);
        }
        let walk = id.and_then(|id| self.walks.get_mut(id as usize));
        if let Some(walk) = walk {
            walk.before(offset, read_ahead);
        }
    }
}

/// Whose steps the faults of one site are.
#[derive(Debug)]
pub(super) struct Walker {
    /// `None`: beyond the bound on threads.
    thread: Option<u32>,
    /// Of its process.
    file: u32,
    /// The walk of the thread: what no goroutine is known of, and what is of goroutines.
    by_thread: [Option<u32>; 2],
    /// The goroutine of the latest fault, and its walk.
    goroutine: Option<(u64, Option<u32>)>,
}

impl Walker {
    pub(super) fn new(thread: Option<u32>, file: u32) -> Self {
        Walker {
            thread,
            file,
            by_thread: [None; 2],
            goroutine: None,
        }
    }
}

/// All of them. Files are those of a process.
#[derive(Debug)]
pub(super) struct Walkers {
    /// By thread and file, and whether the faults are those of goroutines.
    threads: Walks<(u32, u32, bool)>,
    goroutines: Walks<(u64, u32)>,
    /// Faults by file: of no known goroutine, and of goroutines.
    faults: Vec<[u64; 2]>,
}

impl Walkers {
    /// So many threads times files at most, and so many goroutines times files: they shall not crowd out
    /// each other.
    pub(super) fn new(limit: u32) -> Self {
        Walkers {
            threads: Walks::new(limit),
            goroutines: Walks::new(limit),
            faults: Vec::new(),
        }
    }

    /// The fault before those added so far. `goroutine`: its number, if it is known.
    pub(super) fn before(
        &mut self,
        walker: &mut Walker,
        goroutine: Option<u64>,
        offset: u64,
        read_ahead: bool,
    ) {
        let file = walker.file;
        let at = file as usize;
        if self.faults.len() <= at {
            self.faults.resize(at + 1, [0; 2]);
        }
        let of_goroutine = goroutine.is_some();
        if let Some(faults) = self.faults.get_mut(at) {
            faults[usize::from(of_goroutine)] += 1;
        }
        if let Some(thread) = walker.thread {
            let id = &mut walker.by_thread[usize::from(of_goroutine)];
            let key = (thread, file, of_goroutine);
            self.threads.before(id, key, offset, read_ahead);
        }
        let Some(goroutine) = goroutine else {
            return;
        };
        let latest = walker.goroutine.filter(|(latest, _)| *latest == goroutine);
        let (_, id) = walker.goroutine.insert(latest.unwrap_or((goroutine, None)));
        let key = (goroutine, file);
        self.goroutines.before(id, key, offset, read_ahead);
    }

    /// What is known of each file, by number.
    pub(super) fn take(&mut self) -> Vec<Walked> {
        /// By thread; of goroutines, by thread; of goroutines, by goroutine.
        type Sums = [Walked; 3];
        let mut sums: Vec<Sums> = Vec::new();
        sums.resize_with(self.faults.len(), Sums::default);
        for ((_, file, of_goroutine), id) in self.threads.numbers.iter() {
            let sum = sums.get_mut(*file as usize);
            let sum = sum.and_then(|sums| sums.get_mut(usize::from(*of_goroutine)));
            if let Some((sum, walk)) = sum.zip(self.threads.walks.get(id as usize)) {
                sum.add(walk, false);
            }
        }
        for ((_, file), id) in self.goroutines.numbers.iter() {
            let sum = sums.get_mut(*file as usize).map(|sums| &mut sums[2]);
            if let Some((sum, walk)) = sum.zip(self.goroutines.walks.get(id as usize)) {
                sum.add(walk, true);
            }
        }
        let faults = std::mem::take(&mut self.faults);
        let files = sums.into_iter().zip(faults);
        files
            .map(
                |([mut all, by_thread, by_goroutine], [others, of_goroutines])| {
                    // Each fault is told of once.
                    let tell = by_goroutine.tells(of_goroutines);
                    all.merge(if tell { &by_goroutine } else { &by_thread });
                    all.faults = others.saturating_add(of_goroutines);
                    all
                },
            )
            .collect()
    }
}

/// How one file was gone through.
#[derive(Debug, Clone, Default)]
pub(super) struct Walked {
    pub(super) steps: Steps,
    pub(super) threads: Ways,
    pub(super) goroutines: Ways,
    /// Faults, those of walkers that were not followed as well.
    pub(super) faults: u64,
}

impl Walked {
    fn add(&mut self, walk: &Walk, by_goroutine: bool) {
        let mut steps = walk.sum();
        let pattern = steps.settle().pattern();
        let ways = match by_goroutine {
            true => &mut self.goroutines,
            false => &mut self.threads,
        };
        ways[kind(pattern)] += 1;
        self.steps.merge(&steps);
    }

    /// Whether the steps of goroutines are those of most of their faults, which are so many: else most
    /// went to one page each, or were not followed.
    fn tells(&self, faults: u64) -> bool {
        let evidence = self.steps.evidence();
        let pages = faults.saturating_sub(evidence.same_page);
        evidence.steps.saturating_mul(2) >= pages
    }

    pub(super) fn merge(&mut self, other: &Walked) {
        self.steps.merge(&other.steps);
        self.faults = self.faults.saturating_add(other.faults);
        let ours = self.threads.iter_mut().chain(&mut self.goroutines);
        for (sum, more) in ours.zip(other.threads.iter().chain(&other.goroutines)) {
            *sum = sum.saturating_add(*more);
        }
    }
}

/// Where a pattern is counted in [`Ways`].
fn kind(pattern: Pattern) -> usize {
    match pattern {
        Pattern::Sequential => 0,
        Pattern::Strided(_) => 1,
        Pattern::Random => 2,
        Pattern::Mixed => 3,
        Pattern::TooFew => 4,
    }
}
