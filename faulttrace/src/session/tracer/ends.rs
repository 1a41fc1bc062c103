//! The end of what is traced, and what has its id afterwards.

use std::collections::HashSet;

use super::{Awaited, Error, MAX_ROUNDS, Progress, Tracer};

impl Tracer {
    /// Lets go of processes whose last thread was seen to end, once all their threads have told of it:
    /// before the process can be waited for, and so before its id can be another's.
    pub(super) fn settle(&mut self, progress: &mut Progress) -> Result<(), Error> {
        if progress.over.is_empty() {
            return Ok(());
        }
        let of_over = |awaited: &&Awaited| progress.over.contains_key(&awaited.pid);
        let gone: HashSet<u32> = self
            .awaited
            .iter()
            .filter(of_over)
            .filter(|awaited| awaited.is_gone())
            .map(|awaited| awaited.pid)
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.drain_all(progress)?;
        self.awaited
            .retain(|awaited| !gone.contains(&awaited.pid) || !awaited.is_gone());
        progress.over.retain(|pid, _| !gone.contains(pid));
        Ok(())
    }

    /// Takes all that is in the ring now; others may fill it without end.
    pub(super) fn drain_all(&mut self, progress: &mut Progress) -> Result<(), Error> {
        for _ in 0..MAX_ROUNDS {
            if self.drain(progress)? == 0 {
                break;
            }
            self.hand_over(progress);
        }
        Ok(())
    }

    /// A process joins those traced whose id one of them may have had before.
    pub(super) fn forget_former(&mut self, pid: u32, progress: &mut Progress) {
        if progress.over.remove(&pid).is_some() {
            self.awaited
                .retain(|awaited| awaited.pid != pid || !awaited.is_gone());
        }
    }
}
