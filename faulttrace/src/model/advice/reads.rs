//! How files were read and written, as the kernel stacks of the sleepers tell.

use crate::model::summary::Tally;
use crate::model::{Cause, Mode, Site};

/// Reads of a file that faults waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reads {
    /// Started by the fault, for its page (folio) only: readahead was off.
    pub single: Tally,
    /// Started by the fault, with readahead.
    pub ahead: Tally,
    /// Faults of these that were in system calls.
    pub ahead_in_calls: u64,
    /// Started by the fault; with readahead or not is not known.
    pub started: Tally,
    /// Started by another thread, or by readahead.
    pub waited: Tally,
    /// In system calls that are there to bring pages in: who calls them wants to wait there. In none
    /// of the sums.
    pub asked_for: Tally,
    /// Started by the fault and answered by a FUSE or NFS server; with readahead or not is not known.
    pub served: Tally,
}

/// Waits of write faults on a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Writes {
    /// For room under the limits of dirty memory.
    pub throttled: Tally,
    /// For a page that was being written back.
    pub stable: Tally,
    /// For the journal or blocks of the file: whatever is neither of the above.
    pub journal: Tally,
}

/// Functions that read one folio, and only that.
const ONE_FOLIO: [&str; 2] = ["filemap_read_folio", "filemap_read_page"];
/// Functions that say that the kernel has [`ONE_FOLIO`], so that their absence means something.
const FOLIOS: [&str; 3] = ["folio_wait_bit", "__folio_lock", "folio_lock"];

/// Whether the innermost kernel functions of a sleep have one that begins so.
fn has(site: &Site, names: &[&str]) -> bool {
    let stack = site.facts.kernel_stack.as_ref();
    let frames = stack.map(|stack| stack.frames.as_slice());
    let functions = frames.unwrap_or_default().iter();
    functions
        .filter_map(|frame| frame.function.as_ref())
        .any(|function| {
            let function = function.as_bytes();
            names
                .iter()
                .any(|name| function.starts_with(name.as_bytes()))
        })
}

impl Reads {
    /// Counts faults of a site, if they waited for a read.
    pub(super) fn credit(&mut self, site: &Site, sum: &Tally) {
        let place = match site.facts.cause {
            Some(_) if is_asked_for(site) && is_read(site.facts.cause) => &mut self.asked_for,
            Some(Cause::ReadWait | Cause::FileWait) => &mut self.waited,
            Some(Cause::FileRead | Cause::Fuse | Cause::Nfs) if has(site, &ONE_FOLIO) => {
                &mut self.single
            }
            Some(Cause::Fuse | Cause::Nfs) => &mut self.served,
            Some(Cause::FileRead) if has(site, &FOLIOS) => {
                if site.facts.mode != Mode::User {
                    self.ahead_in_calls = self.ahead_in_calls.saturating_add(sum.faults);
                }
                &mut self.ahead
            }
            Some(Cause::FileRead) => &mut self.started,
            _ => return,
        };
        place.merge(sum);
    }

    /// All of them but those that were asked for.
    pub fn all(&self) -> Tally {
        let mut all = self.own();
        all.merge(&self.waited);
        all
    }

    /// Those that the faults started themselves.
    pub fn own(&self) -> Tally {
        let mut own = self.single;
        for more in [&self.ahead, &self.started, &self.served] {
            own.merge(more);
        }
        own
    }
}

impl Writes {
    /// Counts faults of a site, if they waited in order to write.
    pub(super) fn credit(&mut self, site: &Site, sum: &Tally) {
        if site.facts.cause != Some(Cause::Writeback) {
            return;
        }
        let place = if has(site, &["balance_dirty_pages"]) {
            &mut self.throttled
        } else if has(
            site,
            &[
                "folio_wait_writeback",
                "folio_wait_stable",
                "wait_on_page_writeback",
                "wait_for_stable_page",
            ],
        ) {
            &mut self.stable
        } else {
            &mut self.journal
        };
        place.merge(sum);
    }
}

/// Whether a system call was there to bring the page in (MADV_POPULATE_READ, MAP_POPULATE, mlock).
fn is_asked_for(site: &Site) -> bool {
    let calls: [&[u8]; 6] = [
        b"madvise",
        b"process_madvise",
        b"mmap",
        b"mlock",
        b"mlock2",
        b"mlockall",
    ];
    let call = site.facts.syscall.as_ref();
    site.facts.mode == Mode::Gup && call.is_some_and(|call| calls.contains(&call.as_bytes()))
}

/// Whether faults of a cause wait for a page of a file to be read.
pub(super) fn is_read(cause: Option<Cause>) -> bool {
    matches!(
        cause,
        Some(Cause::FileRead | Cause::ReadWait | Cause::FileWait | Cause::Fuse | Cause::Nfs)
    )
}
