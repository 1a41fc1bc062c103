//! The end of what is traced, and what has its id afterwards.

use faulttrace_ebpf::goroutine::GoroutineEvent;
use faulttrace_ebpf::{FaultEvent, HistoryEvent, IoEvent, TaskEvent, flag};

use super::{BATCH, Error, Progress, Tracer};
use crate::ingest::{Clock, Decoded};

/// How many batches can be in a ring of this size.
pub(in crate::session) fn rounds_of(ring_bytes: u32) -> usize {
    /// Before each record (kernel/bpf/ringbuf.c).
    const HEADER: usize = 8;
    let sizes = [
        size_of::<FaultEvent>(),
        size_of::<TaskEvent>(),
        size_of::<HistoryEvent>(),
        size_of::<IoEvent>(),
        size_of::<GoroutineEvent>(),
    ];
    let smallest = sizes.into_iter().min().unwrap_or(0) + HEADER;
    usize::try_from(ring_bytes).unwrap_or(usize::MAX) / smallest / BATCH + 1
}

impl Tracer {
    /// Lets go of processes whose last thread was seen to end, once all their threads have told of it:
    /// before the process can be waited for, and so before its id can be another's.
    pub(super) fn settle(&mut self, progress: &mut Progress) -> Result<(), Error> {
        if progress.over.is_empty() {
            return Ok(());
        }
        let over = progress.over.keys().copied();
        let gone: Vec<u32> = over.filter(|pid| self.awaited.is_gone(*pid)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.drain_all(progress)?;
        for pid in gone {
            self.awaited.forget_gone(pid);
            progress.over.remove(&pid);
        }
        Ok(())
    }

    /// Takes all that is in the ring now, which what came later is behind; others may fill it without end.
    pub(super) fn drain_all(&mut self, progress: &mut Progress) -> Result<(), Error> {
        let now = Clock::monotonic_ns();
        for _ in 0..self.rounds {
            let taken = self.drain(progress)?;
            self.hand_over(progress);
            let mut times = progress.events.iter().filter_map(Decoded::time_ns);
            if taken == 0 || times.any(|time| time > now) {
                break;
            }
        }
        Ok(())
    }

    /// A process joins those traced whose id one of them may have had before, of which the end may not have
    /// been seen.
    pub(super) fn forget_former(&mut self, event: &TaskEvent, progress: &mut Progress) {
        let pid = event.tgid;
        let seen = progress.over.remove(&pid).is_some();
        // One that is not born but joins may be known itself, if a thread of it was traced before.
        let may_be_known = || event.flags & flag::BORN == 0 && self.accounts.has_threads_of(pid);
        let missed = self.known.since_before(pid, event.time_ns) && !may_be_known();
        if seen || missed {
            self.awaited.forget_gone(pid);
        }
        if missed {
            self.process_ended(pid, event.time_ns, progress);
        }
    }
}
