//! The parts of a report: one for each process, and one for all.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::counted::Counted;
use super::durations::Durations;
use super::places::Places;
use super::report::{
    Concurrency, FileAccess, FileDetail, Offsets, Part, Stall, StallThread, Stalls,
};
use super::sites::Counters;
use super::stalls::{self, Member, Window};
use super::sweep::Levels;
use super::walkers::Walked;
use crate::model::Name;
use crate::model::summary::{FileKey, ProcessSummary, Summary, ThreadKey};

/// One part for each process, by pid, and one for all together unless there are not `several`.
pub(super) fn parts(
    counters: &mut Counters,
    beside: Beside<'_>,
    summary: &Summary,
    total: &ProcessSummary,
    several: bool,
) -> (Vec<Part>, Part) {
    let mut maker = Maker {
        all: Part::default(),
        parts: Vec::new(),
        by_pid: HashMap::new(),
        several,
    };
    let known = Known::new(counters, beside);
    for process in summary.processes() {
        maker.process(&known, process);
    }
    maker.all.concurrency = concurrency(counters.sweep.all(), threads_in_all(summary));
    let pids: Vec<u32> = counters.processes.keys().into_iter().copied().collect();
    maker.threads(counters);
    maker.causes(counters, &pids);
    maker.files(counters, &pids);
    for (part, process) in maker.parts.iter_mut().zip(summary.processes()) {
        keep_complete(part, process);
    }
    keep_complete(&mut maker.all, total);
    (maker.parts, maker.all)
}

/// What is known besides the counters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beside<'a> {
    /// The samples.
    pub(super) counted: &'a Counted,
    /// Names of threads that were stuck in the end.
    pub(super) unended: &'a HashMap<ThreadKey, Name>,
}

/// The counters, with the keys of their numbers.
struct Known<'a> {
    counters: &'a Counters,
    beside: Beside<'a>,
    threads: Vec<&'a ThreadKey>,
    files: Vec<&'a FileKey>,
}

impl<'a> Known<'a> {
    fn new(counters: &'a Counters, beside: Beside<'a>) -> Self {
        Known {
            counters,
            beside,
            threads: counters.threads.keys(),
            files: counters.files.keys(),
        }
    }
}

struct Maker {
    parts: Vec<Part>,
    all: Part,
    /// Where in `parts` a process is.
    by_pid: HashMap<u32, usize>,
    several: bool,
}

impl Maker {
    fn process(&mut self, known: &Known<'_>, process: &ProcessSummary) {
        let Some(pid) = process.pid else {
            return;
        };
        self.by_pid.insert(pid, self.parts.len());
        let id = known.counters.processes.get(&pid);
        let swept = id.and_then(|id| known.counters.sweep.processes.get(id as usize));
        self.parts.push(Part {
            pid: Some(pid),
            concurrency: concurrency(swept.map(|one| &one.levels), threads_of(process)),
            stalls: swept.map(|one| stalls_of(pid, &one.stalls, known, process)),
            ps: swept
                .map(|one| one.stalls.ps.totals.clone())
                .filter(|ps| !ps.is_empty()),
            no_p_left_ns: swept.map_or_else(Default::default, |one| one.stalls.no_p_left.ns),
            ..Part::default()
        });
    }

    /// What a process, and all together, know of `K`.
    fn each(&mut self, pid: Option<u32>, mut put: impl FnMut(&mut Part)) {
        let at = pid.and_then(|pid| self.by_pid.get(&pid));
        if let Some(part) = at.and_then(|at| self.parts.get_mut(*at)) {
            put(part);
        }
        if self.several {
            put(&mut self.all);
        }
    }

    fn threads(&mut self, counters: &mut Counters) {
        for (key, id) in counters.threads.iter() {
            let durations = counters.thread_durations.get(id as usize);
            let Some(durations) = counters.durations.take(durations.copied().flatten()) else {
                continue;
            };
            self.each(Some(key.pid), |part| {
                part.threads.insert(*key, durations.clone());
            });
        }
    }

    fn causes(&mut self, counters: &mut Counters, pids: &[u32]) {
        for ((process, cause), id) in counters.process_causes.iter() {
            let durations = counters.cause_durations.get(id as usize);
            let Some(durations) = counters.durations.take(durations.copied().flatten()) else {
                continue;
            };
            let pid = pids.get(*process as usize).copied();
            self.each(pid, |part| {
                merge(&mut part.causes, *cause, &durations);
            });
        }
    }

    fn files(&mut self, counters: &mut Counters, pids: &[u32]) {
        let mut sums = file_sums(counters);
        let names = counters.files.keys();
        let mut all: HashMap<&FileKey, FileSum> = HashMap::new();
        for ((process, file), id) in counters.process_files.iter() {
            let (Some(sum), Some(key)) = (sums.get_mut(id as usize), names.get(*file as usize))
            else {
                continue;
            };
            if self.several {
                all.entry(key).or_default().merge(sum);
            }
            let at = pids
                .get(*process as usize)
                .and_then(|pid| self.by_pid.get(pid));
            if let Some(part) = at.and_then(|at| self.parts.get_mut(*at)) {
                let detail = std::mem::take(sum).detail();
                part.files.insert((*key).clone(), detail);
            }
        }
        let details = all
            .into_iter()
            .map(|(key, sum)| (key.clone(), sum.detail()));
        self.all.files = details.collect();
    }
}

fn merge<K: Eq + std::hash::Hash>(into: &mut HashMap<K, Durations>, key: K, more: &Durations) {
    into.entry(key)
        .and_modify(|durations| durations.merge(more))
        .or_insert_with(|| more.clone());
}

/// Forgets durations that are not those of all faults of their key, because of a bound.
fn keep_complete(part: &mut Part, of: &ProcessSummary) {
    part.threads.retain(|key, durations| {
        let entry = of.by_thread.get(key);
        entry.is_some_and(|entry| entry.tally.faults == durations.count())
    });
    part.causes.retain(|key, durations| {
        let entry = of.by_cause.get(key);
        entry.is_some_and(|entry| entry.tally.faults == durations.count())
    });
    for (key, file) in &mut part.files {
        let faults = of.by_file.get(key).map(|entry| entry.tally.faults);
        let durations = file.durations.take();
        file.durations = durations.filter(|durations| Some(durations.count()) == faults);
    }
}

/// A file of a process, or of several, while it is put together.
#[derive(Default)]
struct FileSum {
    durations: Option<Durations>,
    places: Option<Places>,
    walked: Walked,
}

impl FileSum {
    fn merge(&mut self, other: &FileSum) {
        match (&mut self.durations, &other.durations) {
            (Some(ours), Some(theirs)) => ours.merge(theirs),
            (ours, Some(theirs)) => *ours = Some(theirs.clone()),
            (_, None) => {}
        }
        match (&mut self.places, &other.places) {
            (Some(ours), Some(theirs)) => ours.merge(theirs),
            (ours, Some(theirs)) => *ours = Some(theirs.clone()),
            (_, None) => {}
        }
        self.walked.merge(&other.walked);
    }

    fn detail(mut self) -> FileDetail {
        let evidence = self.walked.steps.settle();
        FileDetail {
            durations: self.durations,
            offsets: self.places.map(|places| Offsets {
                whole: places.whole(),
                hot: places.hot(),
                resolution: places.width(),
            }),
            access: (evidence.faults > 0).then(|| FileAccess {
                pattern: evidence.pattern(),
                evidence,
                threads: self.walked.threads,
                goroutines: self.walked.goroutines,
                not_followed: self.walked.faults.saturating_sub(evidence.faults),
            }),
        }
    }
}

/// Of each file of each process, by number. Empties what it takes them from.
fn file_sums(counters: &mut Counters) -> Vec<FileSum> {
    let mut sums: Vec<FileSum> = Vec::new();
    let mut places = std::mem::take(&mut counters.places).into_iter();
    for id in &counters.file_durations {
        sums.push(FileSum {
            durations: counters.durations.take(*id),
            places: places.next().filter(|places| places.whole().faults > 0),
            ..FileSum::default()
        });
    }
    for (sum, walked) in sums.iter_mut().zip(counters.walkers.take()) {
        sum.walked = walked;
    }
    sums
}

/// How many threads of a process had faults; `None` if there were too many to tell.
fn threads_of(process: &ProcessSummary) -> Option<u64> {
    let all_known = process.by_thread.others().faults == 0;
    all_known.then(|| u64::try_from(process.by_thread.len()).unwrap_or(u64::MAX))
}

fn threads_in_all(summary: &Summary) -> Option<u64> {
    let mut all = summary.processes().chain(summary.other_processes());
    all.try_fold(0_u64, |sum, one| Some(sum.saturating_add(threads_of(one)?)))
}

fn concurrency(levels: Option<&Levels>, threads: Option<u64>) -> Concurrency {
    let Some(levels) = levels else {
        return Concurrency {
            threads,
            ..Concurrency::default()
        };
    };
    Concurrency {
        threads,
        one_ns: levels.at_least_ns(1),
        half_ns: threads.map(|threads| levels.at_least_ns(threads.div_ceil(2))),
        all_ns: threads.map(|threads| levels.at_least_ns(threads)),
        max_threads: levels.max(),
    }
}

fn stalls_of(
    pid: u32,
    stalls: &stalls::Stalls,
    known: &Known<'_>,
    process: &ProcessSummary,
) -> Stalls {
    let over = known.beside.counted.over(pid);
    let member = |member: &Member| {
        let thread = **known.threads.get(member.thread as usize)?;
        let entry = process.by_thread.get(&thread);
        let file = member.file.and_then(|file| known.files.get(file as usize));
        Some(StallThread {
            thread,
            name: entry
                .map(|entry| &entry.detail)
                .or_else(|| known.beside.unended.get(&thread))
                .cloned(),
            file: file.map(|file| (*file).clone()),
            cause: member.cause,
            longest_ns: member.longest_ns,
            faults: member.faults,
        })
    };
    let stall = |window: &Window| {
        let mut members: Vec<_> = window.members.iter().filter_map(member).collect();
        members.sort_by_key(|one| (Reverse(one.longest_ns), one.thread));
        Stall {
            begin_ns: window.begin_ns,
            end_ns: window.end_ns,
            max_threads: window.max_threads,
            needed: window.needed,
            meanwhile: over(window.begin_ns, window.end_ns),
            threads: window.threads,
            members,
        }
    };
    let mut worst: Vec<_> = stalls.worst.iter().map(stall).collect();
    worst.sort_by_key(|one| (Reverse(one.end_ns - one.begin_ns), one.begin_ns));
    let (needed, least, most) = stalls.needed();
    Stalls {
        needed,
        needed_bounds: (least, most),
        count: stalls.count,
        total_ns: stalls.total_ns,
        worst,
    }
}
