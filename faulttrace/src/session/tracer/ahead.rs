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
    told: HashMap<FileId, AheadPages>,
    asked_at: Option<Instant>,
    /// Unix time of that.
    asked_ns: Option<u64>,
}

impl Ahead {
    /// What was counted of a file since it was last told, if that is anything.
    fn since_last(&mut self, file: FileId, watch: &FileWatch) -> Option<AheadPages> {
        let now = AheadPages {
            read: watch.ahead,
            mapped: watch.mapped,
            dropped: watch.dropped,
            unknown: watch.unknown,
        };
        let before = self.told.insert(file, now).unwrap_or_default();
        let since = now.since(&before);
        (since != AheadPages::default()).then_some(since)
    }
}

impl Tracer {
    /// Asks what was read ahead, if it is time.
    pub(super) fn look_at_read_ahead(&mut self, progress: &mut Progress) -> Result<(), Error> {
        match progress.ahead.asked_at {
            Some(at) if at.elapsed() < ASK_EVERY => Ok(()),
            _ => self.ask_read_ahead(progress),
        }
    }

    /// Asks what was read ahead since the last time, and tells it.
    pub(super) fn ask_read_ahead(&mut self, progress: &mut Progress) -> Result<(), Error> {
        let end_ns = self.enricher.unix_ns(Clock::monotonic_ns());
        let Some(pages) = self.probe.page_cache() else {
            return Ok(());
        };
        let files = pages.read_ahead();
        let ahead = &mut progress.ahead;
        ahead.asked_at = Some(Instant::now());
        let begin_ns = ahead.asked_ns.replace(end_ns).unwrap_or(end_ns);
        for (key, watch) in files {
            let file = FileId {
                dev: key.device,
                ino: key.inode,
            };
            let Some(pages) = ahead.since_last(file, &watch) else {
                continue;
            };
            let path = self.enricher.labels().path_of(file).cloned();
            let told = ReadAhead {
                begin_ns,
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
        let first = ahead.since_last(file, &watch).expect("something");
        assert_eq!((first.read, first.mapped), (31, 3));
        assert_eq!(ahead.since_last(file, &watch), None);
        watch.dropped = 28;
        let then = ahead.since_last(file, &watch).expect("something");
        assert_eq!((then.read, then.mapped, then.dropped), (0, 0, 28));
    }
}
