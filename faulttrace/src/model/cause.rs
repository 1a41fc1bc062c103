//! Why a fault had to wait, told from the kernel stack it slept in.
//!
//! Does not read stacks or symbols: ingest hands in the function names. The names that mean
//! something are one table, in `cause/rules.rs`.

mod rules;
#[cfg(test)]
mod tests;

use super::{MappingKind, Mode};
use rules::{ENTRIES, HANDLER, RULES, Verdict};

/// The cause classes of docs (design: "Causes"). Its stable names are in `model/names.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// A read of the file that this fault started itself.
    FileRead,
    /// Waiting for a page whose read somebody (or earlier readahead) had started.
    ReadWait,
    /// Waiting for a file page; not known who started the read: while it is stuck, and of those that a signal
    /// ended on kernels that do not tell.
    FileWait,
    /// Swap-in from a device.
    SwapIn,
    /// Swap-in from zswap or zram.
    Zswap,
    /// Waiting for `mmap_lock`.
    MmapLock,
    /// Direct reclaim: no free memory.
    DirectReclaim,
    /// Reclaim because the memory cgroup is at its limit.
    MemcgReclaim,
    /// Compaction for a huge page or high-order allocation.
    Compaction,
    /// A lock on a huge page of hugetlbfs, which another thread clears, copies or takes away.
    HugePage,
    /// A write fault that waited for writeback or for the journal.
    Writeback,
    /// A FUSE server's answer.
    Fuse,
    /// NFS.
    Nfs,
    /// A userfaultfd handler.
    Userfaultfd,
    /// Copy-on-write.
    Cow,
    /// Page migration or NUMA balancing.
    Migration,
    /// The stack names none of these.
    Unknown,
}

impl Cause {
    /// The cause of a sleep, from the kernel functions of the stack it slept in.
    ///
    /// `kernel_functions` innermost first; compiler suffixes are ignored. `started` says whether
    /// the fault started a read itself; `None` where that is not known, as while the fault is not over, since
    /// the kernel accounts it at the end: then a wait for a file page stays [`Cause::FileWait`]. `mapping` tells a page lock on a file from one on other memory.
    ///
    /// Of all functions the table names, the one of the lowest rank decides, and within a rank
    /// the innermost.
    pub fn classify(
        kernel_functions: &[&[u8]],
        started: Option<bool>,
        mode: Mode,
        mapping: Option<MappingKind>,
    ) -> Cause {
        let (own, in_handler) = own_frames(kernel_functions, mode);
        let mut best: Option<(u8, Verdict)> = None;
        for function in own {
            let function = rules::bare(function);
            let rule = RULES
                .iter()
                .find(|rule| !(rule.outside_handler && in_handler) && rule.names(function));
            if let Some(rule) = rule
                && best.is_none_or(|(rank, _)| rule.rank < rank)
            {
                best = Some((rule.rank, rule.verdict));
            }
        }
        match best.map(|(_, verdict)| verdict) {
            Some(Verdict::Is(cause)) => cause,
            Some(Verdict::FilePage) => file_cause(started),
            Some(Verdict::SomePage) => match mapping {
                None | Some(MappingKind::File | MappingKind::Exe) => file_cause(started),
                Some(_) => Cause::Unknown,
            },
            None => Cause::Unknown,
        }
    }
}

/// `mm_account_fault` counts a fault as major if it started the read itself, on whichever try.
fn file_cause(started: Option<bool>) -> Cause {
    match started {
        Some(true) => Cause::FileRead,
        Some(false) => Cause::ReadWait,
        None => Cause::FileWait,
    }
}

/// The frames of the fault itself, and whether `handle_mm_fault` is among them. What lies outside
/// is what the thread was doing when it faulted, and says nothing about the wait.
fn own_frames<'a, 'b>(functions: &'a [&'b [u8]], mode: Mode) -> (&'a [&'b [u8]], bool) {
    let handler = functions
        .iter()
        .position(|function| rules::bare(function) == HANDLER.as_bytes());
    let entry = functions.iter().position(|function| {
        let function = rules::bare(function);
        ENTRIES.iter().any(|name| name.as_bytes() == function)
    });
    // get_user_pages has no exception: an entry frame there belongs to something further out.
    let end = match mode {
        Mode::Gup => handler.or(entry),
        Mode::User | Mode::Kernel => entry.or(handler),
    };
    let own = end.map_or(functions, |end| &functions[..=end]);
    (own, handler.is_some_and(|at| at < own.len()))
}
