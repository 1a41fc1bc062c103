//! `--evictions`: what faults had read of files ahead, and what became of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use faulttrace_ebpf::FileWatch;

use super::{Error, Progress, Tracer};
use crate::ingest::Clock;
use crate::model::{AheadPages, ReadAhead, Record};
use crate::process::FileId;

/// How often it is asked: with many files that takes milliseconds.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// What was told of it so far.
#[derive(Default)]
pub(super) struct Ahead {
    /// By file, with the Unix time of that.
    told: HashMap<FileId, (u64, AheadPages)>,
    asked_at: Option<Instant>,
}

impl Ahead {
    /// What was counted of a file since it was last told, if that is anything, and when that was.
    fn since_last(
        &mut self,
        file: FileId,
        now_ns: u64,
        watch: &FileWatch,
    ) -> Option<(Option<u64>, AheadPages)> {
        let now = AheadPages {
            read: watch.ahead,
            mapped: watch.mapped,
            dropped: watch.dropped,
            unknown: watch.unknown,
        };
        let before = self.told.get(&file).copied();
        let since = now.since(&before.map(|(_, pages)| pages).unwrap_or_default());
        if since == AheadPages::default() {
            return None;
        }
        self.told.insert(file, (now_ns, now));
        Some((before.map(|(told_ns, _)| told_ns), since))
    }
}

impl Tracer {
    /// Asks what was read ahead, if it is time.
    pub(super) fn look_at_read_ahead(&mut self, progress: &mut Progress) -> Result<(), Error> {
        let asked_at = progress.ahead.asked_at;
        if self.probe.page_cache().is_none() || asked_at.is_some_and(|at| at.elapsed() < ASK_EVERY)
        {
            return Ok(());
        }
        self.ask_read_ahead(false, progress)
    }

    /// Asks what was read ahead since the last time, and tells it. Files whose path is not known yet are told of
    /// later, so that all of a file is told under one name; or the `last` time.
    pub(super) fn ask_read_ahead(
        &mut self,
        last: bool,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        let end_ns = self.enricher.unix_ns(Clock::monotonic_ns());
        let start_ns = self.enricher.unix_ns(self.bounds.begin_ns);
        let Some(pages) = self.probe.page_cache() else {
            return Ok(());
        };
        let files = pages.read_ahead()?;
        let ahead = &mut progress.ahead;
        ahead.asked_at = Some(Instant::now());
        for (key, watch) in files {
            let file = FileId {
                dev: key.device,
                ino: key.inode,
            };
            let path = self.enricher.labels().path_of(file).cloned();
            if path.is_none() && !last {
                continue;
            }
            let Some((since_ns, pages)) = ahead.since_last(file, end_ns, &watch) else {
                continue;
            };
            let told = ReadAhead {
                begin_ns: since_ns.unwrap_or(start_ns),
                end_ns,
                path,
                pages,
            };
            progress.batch.push(Record::ReadAhead(Arc::new(told)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_was_not_told_before() {
        let mut ahead = Ahead::default();
        let file = FileId { dev: 1, ino: 2 };
        let mut watch = FileWatch {
            ahead: 31,
            mapped: 3,
            ..FileWatch::default()
        };
        let (since_ns, first) = ahead.since_last(file, 10, &watch).expect("something");
        assert_eq!((since_ns, first.read, first.mapped), (None, 31, 3));
        assert_eq!(ahead.since_last(file, 20, &watch), None);
        watch.dropped = 28;
        let (since_ns, then) = ahead.since_last(file, 30, &watch).expect("something");
        assert_eq!((since_ns, then.read, then.dropped), (Some(10), 0, 28));
    }
}
