//! `--evictions`: which files are watched, who fills the page cache, and what is told of the pages of
//! faults.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use faulttrace_ebpf::HistoryEvent;

use super::{Error, Progress, Tracer};
use crate::ingest::{Beside, Clock, name_of};
use crate::model::{CacheFill, Fault, Filled, FilledBy, History, LossClass, Lost, Past, Record};
use crate::probe::{CacheTotals, FillOf};
use crate::process::FileId;

/// How often it is asked who filled the page cache.
const FILLS_EVERY: Duration = Duration::from_millis(500);
/// How long at least between two such questions.
const FILLS_PAUSE: Duration = Duration::from_millis(50);
/// How many of these answers are remembered: ten minutes. Of a page that was cached for longer, who
/// filled the page cache is told of the last ten.
const MAX_FILLS: usize = 1200;
/// Files whose pages are watched because they are mapped; map `FILES` has room for as many.
const MAX_FILES: usize = 16_384;

/// Reason under which files are counted whose pages are not watched until a thread faults on them.
const NOT_WATCHED: &str = "page_history_files_full";

/// What is remembered for it.
#[derive(Default)]
pub(super) struct Cache {
    histories: Beside<HistoryEvent>,
    watched: HashSet<FileId>,
    not_watched: u64,
    /// As the programs counted when they were last asked.
    totals: CacheTotals,
    pages: HashMap<u32, u64>,
    /// Unix time of that.
    asked_ns: Option<u64>,
    asked_at: Option<Instant>,
    fills: Fills,
}

impl Tracer {
    /// Adds to a fault what is known of its page's past.
    pub(super) fn add_history(
        &mut self,
        fault: &mut Fault,
        start_ns: u64,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        let event = progress.cache.histories.take(fault.facts.tid, start_ns);
        let Some(event) = event.filter(|_| History::matters_to(fault)) else {
            return Ok(());
        };
        let mut history = self.enricher.history(&event);
        if let Past::Refault(removal) = &mut history.past {
            if progress.cache.is_behind(removal.removed_ns) {
                self.ask_fills(progress)?;
            }
            let since_ns = removal.cached_ns.or(history.watched_ns).unwrap_or(0);
            removal.filled = progress.cache.fills.most(since_ns, removal.removed_ns);
        }
        fault.history = Some(Box::new(history));
        Ok(())
    }

    /// Watches the files that were seen to be mapped, and asks who filled the page cache, if it is time.
    pub(super) fn look_at_cache(&mut self, progress: &mut Progress) -> Result<(), Error> {
        let asked_at = progress.cache.asked_at;
        if self.probe.page_cache().is_none()
            || asked_at.is_some_and(|at| at.elapsed() < FILLS_EVERY)
        {
            return Ok(());
        }
        self.watch_mapped(&mut progress.cache);
        self.ask_fills(progress)
    }

    fn watch_mapped(&mut self, cache: &mut Cache) {
        let mapped = self.enricher.labels().take_mapped();
        let Some(pages) = self.probe.page_cache() else {
            return;
        };
        let now_ns = Clock::monotonic_ns();
        for file in mapped {
            if cache.watched.len() >= MAX_FILES {
                cache.not_watched += u64::from(!cache.watched.contains(&file));
            } else if cache.watched.insert(file) && !pages.watch(file.ino, file.dev, now_ns) {
                cache.not_watched += 1;
            }
        }
    }

    /// Asks who filled the page cache since the last time, and tells it.
    pub(super) fn ask_fills(&mut self, progress: &mut Progress) -> Result<(), Error> {
        let end_ns = self.enricher.unix_ns(Clock::monotonic_ns());
        let Some(pages) = self.probe.page_cache() else {
            return Ok(());
        };
        let totals = pages.totals()?;
        let cache = &mut progress.cache;
        cache.asked_at = Some(Instant::now());
        let before = cache.asked_ns.replace(end_ns);
        if totals == cache.totals && before.is_some() {
            return Ok(());
        }
        let by = cache.since_last(&pages.fills());
        let told = std::mem::replace(&mut cache.totals, totals);
        // Before the first time there is no time that it could be of.
        let Some(begin_ns) = before else {
            return Ok(());
        };
        let fill = Arc::new(CacheFill {
            begin_ns,
            end_ns,
            added_pages: totals.added.saturating_sub(told.added),
            removed_pages: totals.removed.saturating_sub(told.removed),
            reclaimed_pages: totals.reclaimed.saturating_sub(told.reclaimed),
            by,
        });
        cache.fills.push(Arc::clone(&fill));
        progress.batch.push(Record::CacheFill(fill));
        Ok(())
    }
}

impl Cache {
    /// Keeps what was told of the page of a thread's next fault.
    pub(super) fn keep(&mut self, event: &HistoryEvent) {
        self.histories.keep(event.tid, event.start_ns, *event);
    }

    /// Whether it was not asked who filled the page cache since then, and is worth asking again.
    fn is_behind(&self, until_ns: u64) -> bool {
        self.asked_ns.is_some_and(|asked| asked < until_ns)
            && self.asked_at.is_none_or(|at| at.elapsed() >= FILLS_PAUSE)
    }

    /// What processes have added since the last time, most first.
    fn since_last(&mut self, now: &[FillOf]) -> Vec<FilledBy> {
        let mut by: Vec<FilledBy> = now
            .iter()
            .map(|fill| {
                let before = self.pages.get(&fill.tgid).copied().unwrap_or(0);
                // An entry that had to make room for others begins again.
                let pages = fill.pages.checked_sub(before).unwrap_or(fill.pages);
                FilledBy {
                    pid: fill.tgid,
                    name: name_of(&fill.comm),
                    pages,
                }
            })
            .filter(|fill| fill.pages > 0)
            .collect();
        self.pages = now.iter().map(|fill| (fill.tgid, fill.pages)).collect();
        by.sort_by(|a, b| b.pages.cmp(&a.pages).then(a.pid.cmp(&b.pid)));
        by.truncate(CacheFill::MOST);
        by
    }

    /// What could not be watched since the last time, to be told like any other loss.
    pub(super) fn take_losses(&mut self) -> Option<Record> {
        let count = std::mem::take(&mut self.not_watched);
        (count > 0).then(|| {
            Record::Lost(Lost {
                class: LossClass::Unreadable,
                reason: NOT_WATCHED.into(),
                count,
            })
        })
    }
}

/// Who filled the page cache, lately.
#[derive(Default)]
struct Fills {
    all: VecDeque<Arc<CacheFill>>,
    /// Answers by the first and last of those that they are about.
    known: HashMap<(u64, u64), Option<Filled>>,
}

impl Fills {
    fn push(&mut self, fill: Arc<CacheFill>) {
        if self.all.len() >= MAX_FILLS {
            self.all.pop_front();
        }
        self.all.push_back(fill);
        self.known.clear();
    }

    /// Who added most to the page cache between two moments, as far as it was asked then.
    fn most(&mut self, since_ns: u64, until_ns: u64) -> Option<Filled> {
        let first = self.all.partition_point(|fill| fill.end_ns <= since_ns);
        let end = self.all.partition_point(|fill| fill.begin_ns < until_ns);
        let during = self.all.range(first..end.max(first));
        let bounds = (
            during.clone().next()?.begin_ns,
            during.clone().next_back()?.end_ns,
        );
        let most = self.known.entry(bounds);
        most.or_insert_with(|| most_filled(during)).clone()
    }
}

fn most_filled<'f>(fills: impl Iterator<Item = &'f Arc<CacheFill>>) -> Option<Filled> {
    let mut of_pages = 0;
    let mut pages: HashMap<u32, (u64, &FilledBy)> = HashMap::new();
    for fill in fills {
        of_pages += fill.added_pages;
        for by in &fill.by {
            pages.entry(by.pid).or_insert((0, by)).0 += by.pages;
        }
    }
    let most = |(pages, by): &(u64, &FilledBy)| (*pages, std::cmp::Reverse(by.pid));
    let (pages, by) = pages.into_values().max_by_key(most)?;
    Some(Filled {
        pid: by.pid,
        name: by.name.clone(),
        pages,
        of_pages,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;

    fn fill_of(tgid: u32, pages: u64) -> FillOf {
        FillOf {
            tgid,
            pages,
            comm: *b"grep\0\0\0\0\0\0\0\0\0\0\0\0",
        }
    }

    fn fill(begin_ns: u64, by: Vec<FilledBy>) -> Arc<CacheFill> {
        Arc::new(CacheFill {
            begin_ns,
            end_ns: begin_ns + 10,
            added_pages: by.iter().map(|one| one.pages).sum(),
            removed_pages: 0,
            reclaimed_pages: 0,
            by,
        })
    }

    fn by(pid: u32, pages: u64) -> FilledBy {
        FilledBy {
            pid,
            name: Name::from("grep"),
            pages,
        }
    }

    #[test]
    fn what_was_added_is_what_was_not_there_before() {
        let mut cache = Cache::default();
        assert_eq!(
            cache.since_last(&[fill_of(1, 5), fill_of(2, 9)]),
            [by(2, 9), by(1, 5)]
        );
        assert_eq!(
            cache.since_last(&[fill_of(1, 8), fill_of(2, 9)]),
            [by(1, 3)]
        );
        assert_eq!(
            cache.since_last(&[fill_of(1, 2)]),
            [by(1, 2)],
            "begun again"
        );
        let many: Vec<_> = (1..100).map(|pid| fill_of(pid, 100)).collect();
        assert_eq!(cache.since_last(&many).len(), CacheFill::MOST);
    }

    #[test]
    fn who_filled_most_is_of_the_time_that_was_asked_for() {
        let mut fills = Fills::default();
        assert_eq!(fills.most(0, 100), None);
        fills.push(fill(0, vec![by(1, 100)]));
        fills.push(fill(10, vec![by(2, 30), by(1, 20)]));
        fills.push(fill(20, vec![by(2, 30)]));
        fills.push(fill(30, vec![by(3, 1000)]));
        let mut most = |since, until| {
            let filled = fills.most(since, until)?;
            Some((filled.pid, filled.pages, filled.of_pages))
        };
        assert_eq!(most(10, 30), Some((2, 60, 80)));
        assert_eq!(most(0, 30), Some((1, 120, 180)));
        assert_eq!(most(25, 26), Some((2, 30, 30)));
        assert_eq!(most(41, 50), None);
        assert_eq!(most(50, 41), None);
    }
}
