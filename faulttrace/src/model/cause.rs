//! Why a fault had to wait, told from the kernel stack it slept in.

/// The cause classes of docs (design: "Causes"). `as_str` is the stable name in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// A read of the file that this fault started itself.
    FileRead,
    /// Waiting for a page whose read somebody (or earlier readahead) had started.
    ReadWait,
    /// Waiting for a file page; not known yet who started the read (only while stuck).
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
    /// Stable name, as in JSON and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::FileRead => "file_read",
            Cause::ReadWait => "read_wait",
            Cause::FileWait => "file_wait",
            Cause::SwapIn => "swap_in",
            Cause::Zswap => "zswap",
            Cause::MmapLock => "mmap_lock",
            Cause::DirectReclaim => "direct_reclaim",
            Cause::MemcgReclaim => "memcg_reclaim",
            Cause::Compaction => "compaction",
            Cause::Writeback => "writeback",
            Cause::Fuse => "fuse",
            Cause::Nfs => "nfs",
            Cause::Userfaultfd => "userfaultfd",
            Cause::Cow => "cow",
            Cause::Migration => "migration",
            Cause::Unknown => "unknown",
        }
    }
}
