//! What is known of a page before a fault had it read: whether it had been in memory, who evicted it,
//! who filled the page cache meanwhile (`--evictions`).

use super::{Cause, Fault, Name, Start};

/// The job whose rung tells whether pages were watched.
const JOB: &str = "page_uncached";

impl Start {
    /// Whether what becomes of the pages of files is watched (`--evictions`).
    pub fn watches_pages(&self) -> bool {
        self.does(JOB)
    }
}

/// The past of the page that a fault waited for. Times are Unix time, ns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Since when the pages of its file are watched; `None` if they are not.
    pub watched_ns: Option<u64>,
    /// What was seen of it since.
    pub past: Past,
}

/// What was seen of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Past {
    /// It was not in the page cache between `watched_ns` and its being read for this fault.
    FirstTouch,
    /// It had been there, and was removed.
    Refault(Box<Removal>),
    /// Nothing that would tell: the file is watched since this fault, the page was there before and
    /// still, or what was seen of it had to be forgotten.
    Unknown,
}

impl Past {
    /// Stable name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Past::FirstTouch => "first_touch",
            Past::Refault(_) => "refault",
            Past::Unknown => "unknown",
        }
    }
}

/// How a page left the page cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// When.
    pub removed_ns: u64,
    /// Since when it had been there; `None`: since before its file was watched.
    pub cached_ns: Option<u64>,
    /// Why.
    pub how: How,
    /// Who did it.
    pub by: Task,
    /// Its cgroup (version 2) then, `/` for the root; `None` if not known, as when the cgroup is gone.
    pub cgroup: Option<Name>,
    /// Pages that reclaim took from the same memory cgroup between the removal and the reading: with so
    /// many more, this page would still have been there. `None` if not known.
    pub distance_pages: Option<u64>,
    /// Who added most to the page cache while this page was in it, and until it was removed.
    pub filled: Option<Filled>,
}

/// A thread, and the system call it was in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Task {
    /// Process id (tgid); 0 if it has none in the tracer's pid namespace.
    pub pid: u32,
    /// Thread id; 0 likewise.
    pub tid: u32,
    /// The thread's `comm`.
    pub name: Name,
    /// The system call.
    pub syscall: Option<Name>,
}

/// The process that added most pages to the page cache in some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// Process id (tgid).
    pub pid: u32,
    /// `comm` of the thread of it that was first to.
    pub name: Name,
    /// Pages that it added.
    pub pages: u64,
    /// Pages that all added.
    pub of_pages: u64,
}

/// Why a page left the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum How {
    /// kswapd made room.
    Kswapd,
    /// A task that wanted memory made room itself.
    DirectReclaim,
    /// Room was made under the limit of a memory cgroup, or because `memory.reclaim` asked for it.
    MemcgReclaim,
    /// Reclaim of another kind.
    OtherReclaim,
    /// `/proc/sys/vm/drop_caches`.
    DropCaches,
    /// `posix_fadvise`.
    Fadvise,
    /// The file was truncated, or removed.
    Truncate,
    /// It was made invalid: direct I/O, a network file system.
    Invalidate,
    /// The kernel stack told none of these.
    Unknown,
}

impl How {
    /// Somebody wanted memory.
    pub fn is_reclaim(self) -> bool {
        matches!(
            self,
            How::Kswapd | How::DirectReclaim | How::MemcgReclaim | How::OtherReclaim
        )
    }
}

impl History {
    /// Whether a fault waited for its page to be read, so that the page's past says why.
    pub fn matters_to(fault: &Fault) -> bool {
        let read = |cause| {
            matches!(
                cause,
                Cause::FileRead | Cause::ReadWait | Cause::FileWait | Cause::Fuse | Cause::Nfs
            )
        };
        fault.facts.cause.map_or(fault.major, read)
    }

    /// The removal, if there was one.
    pub fn removal(&self) -> Option<&Removal> {
        match &self.past {
            Past::Refault(removal) => Some(removal),
            _ => None,
        }
    }
}

/// What came into the page cache and left it in some time, and who brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFill {
    /// Unix time, ns.
    pub begin_ns: u64,
    /// Unix time, ns.
    pub end_ns: u64,
    /// Pages added.
    pub added_pages: u64,
    /// Pages removed, for whatever reason.
    pub removed_pages: u64,
    /// Of these: by reclaim.
    pub reclaimed_pages: u64,
    /// Who added most, at most [`CacheFill::MOST`] processes, most first.
    pub by: Vec<FilledBy>,
}

/// Pages that one process added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilledBy {
    /// Process id (tgid).
    pub pid: u32,
    /// `comm` of the thread of it that was first to.
    pub name: Name,
    /// Pages.
    pub pages: u64,
}

impl CacheFill {
    /// Processes that are told by name.
    pub const MOST: usize = 16;
}
