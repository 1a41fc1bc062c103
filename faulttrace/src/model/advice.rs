//! What would help, and how much at most: advice, each piece with the evidence for it.
//!
//! `Gather` counts, within the fold over a trace, what the totals do not have: how files were read,
//! and which pages came again. [`Findings`] are that and the report's own numbers; each rule looks at
//! them and gives advice, or none; `settle` takes out what is too small or contradicts itself. Pure:
//! no text, which is the views' (docs/advice.md is for people), and no I/O. A rule that has more to
//! go by one day (evictions, times of devices) finds it in [`Findings`].

mod findings;
mod gather;
mod goroutines;
mod holders;
mod pages;
mod reads;
mod rules;
mod settle;
#[cfg(test)]
mod tests;

use super::summary::FileKey;
use super::{AheadPages, Device, DeviceTotals};

pub use findings::{FileFindings, Findings, ProcessFindings, RemovedFindings, StallFindings};
pub(crate) use gather::{Gather, Space};
pub use goroutines::{CallSite, HeldSum, PsFindings};
pub use holders::{Holder, Holders};
pub use pages::Again;
pub use reads::{Reads, Writes};
pub use settle::{MAX_MEMBERS, MIN_FAULTS, MIN_GAIN_NS, PER_BLOCKED, PER_STOPPED, PER_WALL};

/// A read with readahead brings in so much, unless the device is set to something else, bytes.
pub const WINDOW_BYTES: u64 = 128 << 10;

/// What was found to help.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advised {
    /// What could gain most first.
    pub given: Vec<Advice>,
    /// Why there is none; `None` if there is some.
    pub none: Option<NoAdvice>,
    /// What gains less than this is not worth a line, ns.
    pub least_ns: u64,
    /// Faults on files beyond the bound, at which no rule has looked.
    pub faults_beyond: u64,
    /// Pages that came again were looked for among one page in so many: figures about them are
    /// estimates if this is more than 1.
    pub one_page_in: u64,
}

/// Why nothing is advised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAdvice {
    /// There were no faults.
    NoFaults,
    /// All faults together blocked for less than [`Advised::least_ns`].
    TooLittle,
    /// What is left after every rule has looked: nothing that is large enough has a remedy for
    /// which the trace has evidence.
    NoEvidence,
}

/// A piece of advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// Which rule gave it.
    pub rule: Rule,
    /// What it is about.
    pub about: About,
    /// The faults in question.
    pub faults: u64,
    /// How long they blocked in all, ns.
    pub blocked_ns: u64,
    /// What can be gained.
    pub gain: Gain,
    /// What of the trace shows it.
    pub evidence: Vec<Evidence>,
    /// What the trace cannot show and must be so for this to help.
    pub only_if: Option<Condition>,
    /// What can be done: alternatives, the best first.
    pub actions: Vec<Action>,
    /// Others of the list, by their places from 0, that are partly about the same time: what they
    /// gain does not add up.
    pub overlaps: Vec<usize>,
}

/// What a piece of advice is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// A file, and the first of the processes that waited for it.
    File {
        /// The file.
        file: FileKey,
        /// Ids of processes, at most [`MAX_MEMBERS`].
        pids: Vec<u32>,
        /// How many there are; at least, if there were too many to be counted.
        processes: u64,
    },
    /// A process.
    Process(u32),
    /// A block device.
    Device(Device),
    /// The whole machine.
    Machine,
}

/// What can be gained, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gain {
    /// Never more than the time in question; `None` if the trace does not tell.
    pub at_most_ns: Option<u64>,
    /// Time of what.
    pub unit: Unit,
    /// How it was computed.
    pub how: How,
}

/// Time of what a gain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Of threads, asleep in faults.
    Blocked,
    /// Of the clock.
    Wall,
}

/// How a gain was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// All the time in question: none of it is left if the remedy works as it can.
    All,
    /// All but so many reads of [`WINDOW_BYTES`], as long as the reads seen were on average.
    WindowReads {
        /// How many reads.
        reads: u64,
        /// How long each, ns.
        each_ns: u64,
    },
    /// All but as many reads of one page each, as long as such reads of this file were on average.
    PageReads {
        /// How many reads.
        reads: u64,
        /// How long each, ns.
        each_ns: u64,
    },
    /// The time in which no P of a Go program was left.
    NoPLeft,
    /// The time that requests were in the queue of a device, or that their faults blocked if that is less.
    Queued,
    /// The time that a limit held reads back, or that their faults blocked if that is less.
    HeldBack,
    /// The trace has nothing to compute it from.
    Unknown,
}

macro_rules! rules {
    ($($(#[$doc:meta])+ $variant:ident = $name:literal,)+) => {
        /// The rules.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $($(#[$doc])+ $variant,)+
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Rule] = &[$(Rule::$variant,)+];

            /// Stable name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Rule::$variant => $name,)+
                }
            }
        }
    };
}

rules! {
    /// A file is gone through in order, and read page by page.
    ReadaheadOff = "readahead_off",
    /// A file is gone through in order, and readahead is waited for.
    ReadaheadLate = "readahead_late",
    /// Many reads in a range that a few large reads would bring in.
    Prefetch = "prefetch",
    /// Reads here and there, each with readahead.
    RandomAccess = "random_access",
    /// Pages of a file that had been read before were read again.
    ReadAgain = "read_again",
    /// Pages that reclaim had taken were read again.
    Evicted = "evicted",
    /// Pages that somebody had dropped on purpose were read again.
    Dropped = "dropped",
    /// Memory that was swapped out.
    SwapIn = "swap_in",
    /// Memory that was compressed.
    CompressedSwap = "compressed_swap",
    /// A memory cgroup is at its limit.
    MemcgLimit = "memcg_limit",
    /// There was no free memory.
    DirectReclaim = "direct_reclaim",
    /// Memory was made contiguous.
    Compaction = "compaction",
    /// The address space was being changed.
    MmapLock = "mmap_lock",
    /// A write waited for room under the limits of dirty memory.
    DirtyLimit = "dirty_limit",
    /// A write waited for a page that was being written back.
    StablePage = "stable_page",
    /// A write waited for the file system's journal or for blocks of the file.
    Journal = "journal",
    /// A FUSE server answered late.
    FuseServer = "fuse_server",
    /// An NFS server answered late.
    NfsServer = "nfs_server",
    /// A userfaultfd handler answered late.
    Userfaultfd = "userfaultfd",
    /// Pages were copied on write.
    CopyOnWrite = "copy_on_write",
    /// Pages were being moved.
    Migration = "migration",
    /// Huge pages of hugetlbfs were locked by other threads.
    HugePages = "huge_pages",
    /// Threads of a process were blocked at once.
    BlockedTogether = "blocked_together",
    /// Requests waited for their turn at a device.
    BusyDevice = "busy_device",
    /// A limit held reads back before the device was asked.
    LimitedDevice = "limited_device",
    /// No P of a Go program was left.
    PsStuck = "ps_stuck",
}

/// What of the trace shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// Faults that blocked for the reason the rule is about, and how long the longest took, ns.
    Waits {
        /// How many.
        faults: u64,
        /// The longest duration, ns.
        max_ns: u64,
    },
    /// How a file was read.
    HowRead(Box<Reads>),
    /// Steps forward within readahead's reach, of all steps of threads and goroutines through the file.
    Forward {
        /// Forward.
        forward: u64,
        /// All.
        steps: u64,
    },
    /// Steps backward and far forward, of all.
    Scattered {
        /// Neither to the next page nor within readahead's reach.
        scattered: u64,
        /// All.
        steps: u64,
    },
    /// Where in the file.
    Range {
        /// The lowest offset, bytes.
        from: u64,
        /// Behind the highest, bytes.
        to: u64,
        /// Faults there.
        faults: u64,
    },
    /// What faults had read of the file ahead (`--evictions`).
    ReadAhead(AheadPages),
    /// Nearly all of the waits ended early in the trace.
    Early {
        /// Within this from its beginning, ns.
        within_ns: u64,
        /// Of so long a trace, ns.
        wall_ns: u64,
    },
    /// Pages that came again.
    CameAgain {
        /// What is known of them.
        again: Again,
        /// Their size, bytes.
        bytes: u64,
    },
    /// Pages that had been removed from memory.
    Removed(Box<RemovedFindings>),
    /// When many threads were blocked at once.
    Together(StallFindings),
    /// Who held the lock of the address space.
    Holders(Box<Holders>),
    /// What a device's requests waited for, in the mean, ns.
    Requests {
        /// Completed within their faults.
        completed: u64,
        /// Until the driver got them.
        queued_ns: u64,
        /// Until the device had done with them.
        served_ns: u64,
    },
    /// Reads that a limit held back.
    HeldBack(Box<DeviceTotals>),
    /// The Ps of a Go program.
    Ps(Box<PsFindings>),
    /// Faults of the kind held Ps of Go programs meanwhile, ns.
    HeldPs {
        /// Time of Ps.
        held_ns: u64,
    },
    /// Of all the time that its faults blocked, those that waited for reads, ns.
    MostlyReads {
        /// For reads.
        reads_ns: u64,
        /// In all.
        blocked_ns: u64,
    },
}

/// What must be so, and the trace does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Of the pages that a read brings in, fewer are used than `pages` on average; just few if that
    /// is not known.
    FewUsed {
        /// In hundredths.
        pages_percent: Option<u64>,
        /// At most so many are, in hundredths of a page for each read; `None` if that is not known
        /// (`--evictions`).
        at_most_percent: Option<u64>,
    },
    /// Nobody uses the pages but by way of mappings.
    OnlyMapped,
    /// Nobody dropped or replaced the file on purpose.
    NotOnPurpose,
}

/// What can be done. Sizes are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Let the kernel read ahead again: no MADV_RANDOM.
    MadvNormal,
    /// MADV_SEQUENTIAL.
    MadvSequential,
    /// MADV_WILLNEED of a range, before it is needed.
    MadvWillneed {
        /// The size of the range.
        bytes: u64,
    },
    /// MADV_POPULATE_READ of a range, before it is needed.
    MadvPopulateRead {
        /// The size of the range.
        bytes: u64,
    },
    /// Read a program or library before it starts.
    WarmFile {
        /// The size of the range.
        bytes: u64,
    },
    /// More readahead for the device.
    RaiseReadAhead,
    /// MADV_RANDOM.
    MadvRandom,
    /// Less readahead for the device.
    LowerReadAhead,
    /// mlock of what came again.
    MlockFile {
        /// What has to stay in memory.
        bytes: u64,
    },
    /// mlock of what was swapped in; its size is `None` if no address is known.
    MlockMemory {
        /// What has to stay in memory.
        bytes: Option<u64>,
    },
    /// More memory, for its cgroup or the machine.
    MoreMemory,
    /// So much more of it.
    MoreMemoryBy {
        /// The size.
        bytes: u64,
    },
    /// Keep others from filling the page cache.
    MoveNeighbour,
    /// Do not drop what is still needed.
    KeepPages,
    /// Swap less readily.
    LowerSwappiness,
    /// zswap or zram before the device.
    CompressSwap,
    /// More for the memory cgroup.
    RaiseMemoryLimit,
    /// Reclaim in the background earlier.
    RaiseWatermarks,
    /// Huge pages only from what is free.
    DeferHugePages,
    /// MADV_NOHUGEPAGE.
    MadvNohugepage,
    /// Change the address space less often.
    FewerMappings,
    /// Have new mappings filled by the call that makes them.
    MapPopulate,
    /// Let the allocator keep its heap.
    KeepHeap,
    /// Change protections less often.
    FewerMprotects,
    /// Call madvise less often.
    FewerMadvises,
    /// Have another process look into this one less often.
    FewerLooks {
        /// Which; `None` if it has no id in the tracer's pid namespace.
        pid: Option<u32>,
    },
    /// A kernel that takes most faults without `mmap_lock`.
    NewerKernel,
    /// Dirty memory is written back earlier, and more of it is allowed.
    DirtyLimits,
    /// Write back less often while pages are being written.
    FewerSyncs,
    /// Allocate the file's blocks before.
    Fallocate,
    /// A quicker FUSE server, or fewer requests to it.
    QuickerFuse,
    /// A quicker NFS server, or fewer requests to it.
    QuickerNfs,
    /// A quicker handler.
    QuickerHandler,
    /// MADV_POPULATE_WRITE before.
    MadvPopulateWrite,
    /// No fork of a large process.
    SpawnNotFork,
    /// No automatic NUMA balancing, memory bound to a node.
    BindMemory,
    /// Huge pages are made before they are used.
    PopulateHugePages,
    /// Read in threads that may block.
    ReadInThreads,
    /// Fewer requests of others at the same device.
    QuietDevice,
    /// Put the files onto another device.
    OtherDevice,
    /// Raise the limit that holds reads back.
    RaiseIoLimit,
    /// More Ps.
    RaiseGomaxprocs {
        /// How many there are.
        from: u32,
        /// With so many, one would have been left for 99 % of the time; `None` if that is not known.
        enough_99: Option<u32>,
        /// The same for 99.9 %.
        enough_999: Option<u32>,
        /// The most goroutines that held Ps in faults within one second; `None` if there were none.
        goroutines: Option<u64>,
    },
    /// Wait where the runtime knows that a thread waits.
    ReadOffPs,
}

/// Which way advice on reading a file ahead goes: both ways for one file is a contradiction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// More than now.
    Ahead,
    /// Less than now.
    Random,
}

impl Rule {
    /// Which way it wants the kernel to go with reading ahead, if it does.
    pub fn direction(self) -> Option<Direction> {
        match self {
            Rule::ReadaheadOff | Rule::ReadaheadLate | Rule::Prefetch => Some(Direction::Ahead),
            Rule::RandomAccess => Some(Direction::Random),
            _ => None,
        }
    }
}
