//! What faults had read of files besides the pages that they asked for, and whether any of it was used
//! (`--evictions`).

use super::{Name, Start};

/// The job whose rung tells whether it was looked at what became of pages that were read ahead.
const JOB: &str = "pages_mapped";

impl Start {
    /// Whether it is told what was read ahead and how much of that was mapped (`--evictions`).
    pub fn tells_read_ahead(&self) -> bool {
        self.does(JOB)
    }
}

/// Pages that faults of user mode of the traced processes had read of one file ahead, in some time, and what
/// became in that time of these and of those read ahead before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadAhead {
    /// Unix time, ns.
    pub begin_ns: u64,
    /// Unix time, ns.
    pub end_ns: u64,
    /// The file's path; `None` if it is not known.
    pub path: Option<Name>,
    /// How many, and what became of them.
    pub pages: AheadPages,
}

/// Counts of pages that were read ahead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AheadPages {
    /// Read ahead: besides the page that the fault asked for.
    pub read: u64,
    /// Of these: mapped since by a fault of some process, on them or near them (fault-around). Only what
    /// is mapped can be used by way of a mapping.
    pub mapped: u64,
    /// Removed from the page cache before a fault mapped them.
    pub dropped: u64,
    /// Not known whether they were mapped: they came in a huge page (2 MiB), whose mapping the kernel does
    /// not tell; or a fault mapped them, and it is not remembered whether they had been read ahead.
    pub unknown: u64,
}

impl AheadPages {
    /// At most so many of them were used by way of a mapping. Of a part of a trace: those that were mapped then
    /// may have been read before.
    pub fn used_at_most(&self) -> u64 {
        self.mapped.saturating_add(self.unknown).min(self.read)
    }

    /// At least so many were not used.
    pub(super) fn in_vain(&self) -> u64 {
        self.read - self.used_at_most()
    }

    /// Counts what `other` counted.
    pub(crate) fn add(&mut self, other: &AheadPages) {
        self.read = self.read.saturating_add(other.read);
        self.mapped = self.mapped.saturating_add(other.mapped);
        self.dropped = self.dropped.saturating_add(other.dropped);
        self.unknown = self.unknown.saturating_add(other.unknown);
    }

    /// What was counted since `before`.
    pub(crate) fn since(&self, before: &AheadPages) -> AheadPages {
        AheadPages {
            read: self.read.saturating_sub(before.read),
            mapped: self.mapped.saturating_sub(before.mapped),
            dropped: self.dropped.saturating_sub(before.dropped),
            unknown: self.unknown.saturating_sub(before.unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_was_used_than_was_read() {
        let pages = |read, mapped, dropped, unknown| AheadPages {
            read,
            mapped,
            dropped,
            unknown,
        };
        assert_eq!(pages(100, 40, 60, 0).used_at_most(), 40);
        assert_eq!(pages(100, 40, 0, 30).used_at_most(), 70);
        assert_eq!(pages(10, 40, 0, 0).used_at_most(), 10);
        assert_eq!(pages(10, u64::MAX, 0, 1).used_at_most(), 10);
    }
}
