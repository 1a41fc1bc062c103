//! What faults of one site are counted in: resolved once, so that a fault costs additions.

use std::collections::HashMap;
use std::sync::Arc;

use super::Bounds;
use super::durations::Pool;
use super::keys::Numbers;
use super::places::Places;
use super::slices::{FrameName, Series, SeriesKey, SlicePart};
use super::stalls::Stalls;
use super::sweep::Sweep;
use super::walkers::{Walker, Walkers};
use crate::model::advice::Space;
use crate::model::summary::{FileKey, StackKey, Tally, ThreadKey};
use crate::model::{Cause, Facts, MappingKind, Measure, Site};

/// Where one site's faults are counted. `None` where a bound left no room.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) site: Arc<Site>,
    /// Of the site, which need not be looked at for each fault.
    pub(super) major: bool,
    /// The same.
    pub(super) given_up: bool,
    /// The same.
    pub(super) cause: Option<Cause>,
    /// The faults since the row was made.
    pub(super) sum: Tally,
    /// Those of the latest slice, which [`Counters::series`] do not have yet.
    pub(super) part: SlicePart,
    /// Of the process, in [`Counters::process_durations`].
    pub(super) process_durations: u32,
    /// Of the thread, the file and the cause.
    pub(super) durations: [Option<u32>; 3],
    pub(super) thread: Option<u32>,
    pub(super) file: Option<u32>,
    /// If offsets of this site mean something.
    pub(super) places: Option<u32>,
    /// The same.
    pub(super) walker: Option<Walker>,
    pub(super) series: [Option<u32>; 5],
    /// Where its pages are followed for the sake of advice.
    pub(super) space: Option<Space>,
}

impl Row {
    /// Counts where in its file one of its faults was.
    pub(super) fn add_offset(&mut self, measure: &Measure, counters: &mut Counters) {
        let Some(offset) = measure.offset else {
            return;
        };
        let places = self
            .places
            .and_then(|id| counters.places.get_mut(id as usize));
        if let Some(places) = places {
            places.add(offset, measure.blocked_ns);
        }
        let read_ahead = self.read_ahead();
        if let Some(walker) = &mut self.walker {
            let goroutine = measure.goroutine.as_ref().and_then(|one| one.id);
            counters
                .walkers
                .before(walker, goroutine, offset, read_ahead);
        }
    }

    /// Its faults waited for a read that others or readahead had started.
    fn read_ahead(&self) -> bool {
        self.cause == Some(Cause::ReadWait)
    }
}

/// Where the durations of processes beyond the limit are.
pub(super) const OTHERS: u32 = 0;

/// Adds to all series of a row.
pub(super) fn add_part(series: &mut [Series], ids: &[Option<u32>], part: &SlicePart) {
    for id in ids.iter().flatten() {
        if let Some(series) = series.get_mut(*id as usize) {
            series.add(part);
        }
    }
}

/// A number for everything that is counted, and the counters that are not sums.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) processes: Numbers<u32>,
    pub(super) threads: Numbers<ThreadKey>,
    pub(super) files: Numbers<FileKey>,
    /// (process, file).
    pub(super) process_files: Numbers<(u32, u32)>,
    /// (process, cause).
    pub(super) process_causes: Numbers<(u32, Option<Cause>)>,
    pub(super) series_keys: Numbers<SeriesKey>,
    /// Stacks by their names are made once for each stack.
    stacks: HashMap<StackKey, Option<u32>>,

    pub(super) durations: Pool,
    /// Of the others at [`OTHERS`], then of each process.
    pub(super) process_durations: Pool,
    pub(super) thread_durations: Vec<Option<u32>>,
    pub(super) file_durations: Vec<Option<u32>>,
    pub(super) cause_durations: Vec<Option<u32>>,
    pub(super) places: Vec<Places>,
    pub(super) walkers: Walkers,
    pub(super) series: Vec<Series>,
    pub(super) sweep: Sweep,
    bounds: Bounds,
}

impl Counters {
    pub(super) fn new(bounds: Bounds) -> Self {
        Counters {
            processes: Numbers::new(bounds.processes),
            threads: Numbers::new(bounds.threads),
            files: Numbers::new(bounds.files),
            process_files: Numbers::new(bounds.mapped_files),
            process_causes: Numbers::new(bounds.processes.saturating_mul(32)),
            series_keys: Numbers::new(bounds.series),
            stacks: HashMap::new(),
            durations: Pool::new(bounds.histograms),
            process_durations: Pool::with_one(bounds.processes as usize + 1),
            thread_durations: Vec::new(),
            file_durations: Vec::new(),
            cause_durations: Vec::new(),
            places: Vec::new(),
            walkers: Walkers::new(bounds.walks),
            series: Vec::new(),
            sweep: Sweep::new(),
            bounds,
        }
    }

    /// Where the faults of a site are counted. `own`: its process is not one of the others beyond
    /// the limit. `stalls` makes those of a process.
    pub(super) fn resolve(
        &mut self,
        site: &Arc<Site>,
        own: bool,
        stalls: impl FnOnce(u32) -> Stalls,
    ) -> Row {
        let facts = &site.facts;
        let process = match own {
            true => self.process(facts.pid, stalls),
            false => None,
        };
        let thread = process.and_then(|process| self.thread(process, facts));
        let file = self.files.of(FileKey::of(&facts.place)).map(|(id, _)| id);
        let own_file = process.zip(file).and_then(|key| self.own_file(key));
        let cause = process.and_then(|process| self.cause(process, facts.cause));
        let places = own_file.filter(|file| has_offsets(facts) && self.has_places(*file));
        let walker = own_file.filter(|_| has_offsets(facts));
        let walker = walker.map(|file| Walker::new(thread, file));
        let durations = [
            thread.and_then(|id| known(&self.thread_durations, id)),
            own_file.and_then(|id| known(&self.file_durations, id)),
            cause.and_then(|id| known(&self.cause_durations, id)),
        ];
        Row {
            site: Arc::clone(site),
            major: site.major,
            given_up: facts.given_up,
            cause: facts.cause,
            sum: Tally::default(),
            part: SlicePart::default(),
            process_durations: process.map_or(OTHERS, |id| id.saturating_add(1)),
            durations,
            thread,
            file,
            places,
            walker,
            series: [
                self.series(SeriesKey::All),
                self.series(SeriesKey::Cause(facts.cause)),
                self.series(SeriesKey::file(facts)),
                self.series(SeriesKey::Thread(facts.thread.clone())),
                self.stack(facts),
            ],
            space: None,
        }
    }

    /// The numbers of the thread and the file of a fault that was not seen to end.
    pub(super) fn unended(
        &mut self,
        facts: &Facts,
        stalls: impl FnOnce(u32) -> Stalls,
    ) -> Option<(u32, Option<u32>)> {
        let process = self.process(facts.pid, stalls)?;
        let thread = self.thread(process, facts)?;
        let file = self.files.of(FileKey::of(&facts.place));
        Some((thread, file.map(|(id, _)| id)))
    }

    fn process(&mut self, pid: u32, stalls: impl FnOnce(u32) -> Stalls) -> Option<u32> {
        let (id, new) = self.processes.of(pid)?;
        if new {
            self.process_durations.add();
            self.sweep.add_process(stalls(pid));
        }
        Some(id)
    }

    fn thread(&mut self, process: u32, facts: &Facts) -> Option<u32> {
        let (id, new) = self.threads.of(ThreadKey::of(facts))?;
        if new {
            let durations = self.durations.add();
            self.thread_durations.push(durations);
            self.sweep.add_thread(process);
        }
        Some(id)
    }

    fn own_file(&mut self, key: (u32, u32)) -> Option<u32> {
        let (id, new) = self.process_files.of(key)?;
        if new {
            let durations = self.durations.add();
            self.file_durations.push(durations);
        }
        Some(id)
    }

    fn cause(&mut self, process: u32, cause: Option<Cause>) -> Option<u32> {
        let (id, new) = self.process_causes.of((process, cause))?;
        if new {
            let durations = self.durations.add();
            self.cause_durations.push(durations);
        }
        Some(id)
    }

    /// Files are numbered as they come: the first so many have a map of their offsets.
    fn has_places(&mut self, file: u32) -> bool {
        let at = file as usize;
        if at < self.bounds.maps && self.places.len() <= at {
            self.places.resize_with(at + 1, Places::new);
        }
        at < self.places.len()
    }

    fn series(&mut self, key: SeriesKey) -> Option<u32> {
        let (id, new) = self.series_keys.of(key)?;
        if new {
            self.series.push(Series::default());
        }
        Some(id)
    }

    fn stack(&mut self, facts: &Facts) -> Option<u32> {
        let key = StackKey::of(facts);
        if let Some(id) = self.stacks.get(&key) {
            return *id;
        }
        let names = facts.user_stack.as_ref().map(|stack| FrameName::of(stack));
        let id = self.series(SeriesKey::Stack(names));
        if self.stacks.len() < self.bounds.stacks {
            self.stacks.insert(key, id);
        }
        id
    }
}

fn known(ids: &[Option<u32>], id: u32) -> Option<u32> {
    ids.get(id as usize).copied().flatten()
}

/// An offset means something only in a thing that has a name of its own.
fn has_offsets(facts: &Facts) -> bool {
    let place = &facts.place;
    place.path.is_some()
        && !matches!(
            place.mapping,
            Some(MappingKind::Anon | MappingKind::Heap | MappingKind::Stack | MappingKind::Special)
        )
}

/// The rows of sites by their ids.
#[derive(Debug)]
pub(super) struct Rows {
    /// Row by id, for small ids.
    small: Vec<u32>,
    /// For the others.
    large: HashMap<u64, u32>,
    pub(super) rows: Vec<Row>,
    limit: usize,
}

/// Ids below this are looked up in an array.
const SMALL_IDS: usize = 1 << 20;
/// No row.
const NONE: u32 = u32::MAX;

impl Rows {
    pub(super) fn new(limit: usize) -> Self {
        Rows {
            small: Vec::new(),
            large: HashMap::new(),
            rows: Vec::new(),
            limit: limit.max(1),
        }
    }

    /// The number of the site's row, if it has one.
    pub(super) fn find(&self, site_id: u64) -> Option<usize> {
        let small = usize::try_from(site_id).ok().filter(|id| *id < SMALL_IDS);
        let row = match small {
            Some(id) => *self.small.get(id)?,
            None => *self.large.get(&site_id)?,
        };
        (row != NONE).then_some(row as usize)
    }

    /// There is no room: [`Rows::clear`] them first.
    pub(super) fn full(&self) -> bool {
        self.rows.len() >= self.limit
    }

    /// Adds a row, to be found by this id if there is one, and gives its number.
    pub(super) fn add(&mut self, site_id: Option<u64>, row: Row) -> usize {
        let at = self.rows.len();
        let number = u32::try_from(at).unwrap_or(NONE);
        if let Some(site_id) = site_id {
            match usize::try_from(site_id).ok().filter(|id| *id < SMALL_IDS) {
                Some(id) => {
                    if self.small.len() <= id {
                        self.small.resize(id + 1, NONE);
                    }
                    self.small[id] = number;
                }
                None => {
                    self.large.insert(site_id, number);
                }
            }
        }
        self.rows.push(row);
        at
    }

    /// Takes all rows, in the order in which they were made.
    pub(super) fn clear(&mut self) -> Vec<Row> {
        self.small.fill(NONE);
        self.large.clear();
        std::mem::take(&mut self.rows)
    }
}
