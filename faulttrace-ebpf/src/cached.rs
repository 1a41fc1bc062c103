//! What is known of the page cache (`--evictions`).

use crate::COMM_LEN;

/// Values of [`PageRemoval::how`]: why a page left the page cache.
pub mod removal {
    /// Not told by the kernel stack.
    pub const UNKNOWN: u32 = 0;
    /// kswapd made room.
    pub const KSWAPD: u32 = 1;
    /// A task that wanted memory made room itself.
    pub const DIRECT_RECLAIM: u32 = 2;
    /// Room was made under the limit of a memory cgroup, or because `memory.reclaim` asked for it.
    pub const MEMCG_RECLAIM: u32 = 3;
    /// Reclaim of another kind (`MADV_PAGEOUT`, of one node).
    pub const OTHER_RECLAIM: u32 = 4;
    /// `/proc/sys/vm/drop_caches`.
    pub const DROP_CACHES: u32 = 5;
    /// `posix_fadvise`, `POSIX_FADV_DONTNEED`.
    pub const FADVISE: u32 = 6;
    /// The file was truncated, or removed.
    pub const TRUNCATE: u32 = 7;
    /// The page was made invalid: direct I/O, a network file system.
    pub const INVALIDATE: u32 = 8;
}

/// How a page last left the page cache, and by whom.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PageRemoval {
    /// One of [`removal`].
    pub how: u32,
    /// Number of the system call that did it, or [`crate::NO_SYSCALL`].
    pub syscall: u32,
    /// Process id; 0 = it has none in the tracer's pid namespace.
    pub tgid: u32,
    /// Thread id; likewise.
    pub tid: u32,
    /// The thread's cgroup (version 2); 0 = not known.
    pub cgroup: u64,
    /// The thread's name.
    pub comm: [u8; COMM_LEN],
}

/// A page of a watched file, value of map `PAGES`. Times are `CLOCK_MONOTONIC`, ns.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PageState {
    /// When it was last added to the page cache; 0 = before its file was watched.
    pub added_ns: u64,
    /// When it was last removed; 0 = not since its file is watched.
    pub removed_ns: u64,
    /// When it had been added before that removal; 0 as for `added_ns`.
    pub cached_ns: u64,
    /// What [`PageState::distance`] counts, as it was at the removal.
    pub age: u64,
    /// Whose count that is.
    pub lru: u64,
    /// Pages that reclaim took from the same memory cgroup between the removal and the adding that
    /// followed; [`NO_DISTANCE`] if that is not known.
    pub distance: u64,
    /// Whether it was read ahead of a fault: one of `read_ahead`.
    pub ahead: u32,
    /// Pages of the folio that it was last added with; a folio lies at a multiple of its size.
    pub folio_pages: u32,
    /// The removal.
    pub removal: PageRemoval,
}

/// Values of [`PageState::ahead`].
pub mod read_ahead {
    /// It is not in the page cache, or not because of a traced thread's fault on another page.
    pub const NO: u32 = 0;
    /// A traced thread's fault on another page had it read; no fault has mapped it since.
    pub const UNMAPPED: u32 = 1;
    /// The same, and a fault of some process has mapped it.
    pub const MAPPED: u32 = 2;
}

/// In place of a distance.
pub const NO_DISTANCE: u64 = u64::MAX;

/// What is known of the page that a fault was about: its fault is the next of this thread.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HistoryEvent {
    /// [`crate::kind::HISTORY`].
    pub kind: u32,
    /// 1 = `page` is valid: something was seen to happen to the page.
    pub seen: u32,
    /// Thread id.
    pub tid: u32,
    /// 1 = pages have been forgotten, so that one of which nothing was seen may have been there.
    pub forgotten: u32,
    /// [`crate::FaultEvent::start_ns`] of the fault.
    pub start_ns: u64,
    /// Since when the file is watched; 0 = it is not.
    pub watched_ns: u64,
    /// The page.
    pub page: PageState,
}

/// Who added pages to the page cache, value of map `FILLS` on each CPU; the key is the process id.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Fill {
    /// Pages.
    pub pages: u64,
    /// Name of the thread that was first to.
    pub comm: [u8; COMM_LEN],
}

/// What is known of a watched file, value of map `FILES`. Pages that the faults of traced threads had read
/// besides the one that they asked for are read ahead.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct FileWatch {
    /// Since when its pages are watched, `CLOCK_MONOTONIC`, ns.
    pub since_ns: u64,
    /// Pages read ahead.
    pub ahead: u64,
    /// Of these: mapped by a fault of some process.
    pub mapped: u64,
    /// Removed from the page cache before a fault mapped them.
    pub dropped: u64,
    /// Not known whether they were mapped: read ahead in a huge page, which a fault maps without a word; or
    /// mapped, and it is not remembered whether they had been read ahead.
    pub unknown: u64,
}

/// Which file: key of map `FILES`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileKey {
    /// Inode number.
    pub inode: u64,
    /// `s_dev` of its super block (20 bits of minor).
    pub device: u32,
    /// Unused, zero.
    pub padding: u32,
}

impl FileKey {
    /// The file with these.
    #[inline(always)]
    pub const fn new(inode: u64, device: u32) -> Self {
        FileKey {
            inode,
            device,
            padding: 0,
        }
    }
}

/// Indices of map `CACHE_TOTALS`, pages each.
pub mod cache_total {
    /// Added to the page cache.
    pub const ADDED: u32 = 0;
    /// Removed from it, for whatever reason.
    pub const REMOVED: u32 = 1;
    /// Of these: by reclaim.
    pub const RECLAIMED: u32 = 2;
    /// How many there are.
    pub const COUNT: u32 = 3;
}
