//! The stable names of what the model enumerates: in JSON, in saved traces, in exports.

use super::{Access, Cause, End, How, LayoutSource, LossClass, MappingKind, Mode, PressureOf};

/// Gives an enumeration the names of its variants, both ways.
macro_rules! names {
    ($type:ty, $($variant:ident = $name:literal),+ $(,)?) => {
        impl $type {
            /// Stable name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What a stable name stands for; `None` if nothing has it.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

names!(Mode, User = "user", Kernel = "kernel", Gup = "gup");

names!(PressureOf, Cgroup = "cgroup", System = "system");

names!(LayoutSource, DebugInfo = "debug_info", Table = "table");

names!(Access, Read = "read", Write = "write", Exec = "exec");

names!(
    End,
    Exact = "exact",
    Approximate = "approximate",
    Died = "died"
);

names!(
    MappingKind,
    File = "file",
    Exe = "exe",
    Anon = "anon",
    Heap = "heap",
    Stack = "stack",
    Shmem = "shmem",
    Memfd = "memfd",
    Special = "special",
);

names!(
    LossClass,
    Lost = "lost",
    Filtered = "filtered",
    Approximate = "approximate",
    Unreadable = "unreadable",
);

names!(
    Cause,
    FileRead = "file_read",
    ReadWait = "read_wait",
    FileWait = "file_wait",
    SwapIn = "swap_in",
    Zswap = "zswap",
    MmapLock = "mmap_lock",
    DirectReclaim = "direct_reclaim",
    MemcgReclaim = "memcg_reclaim",
    Compaction = "compaction",
    HugePage = "huge_page",
    Writeback = "writeback",
    Fuse = "fuse",
    Nfs = "nfs",
    Userfaultfd = "userfaultfd",
    Cow = "cow",
    Migration = "migration",
    Unknown = "unknown",
);

names!(
    How,
    Kswapd = "kswapd",
    DirectReclaim = "direct_reclaim",
    MemcgReclaim = "memcg_reclaim",
    OtherReclaim = "other_reclaim",
    DropCaches = "drop_caches",
    Fadvise = "fadvise",
    Truncate = "truncate",
    Invalidate = "invalidate",
    Unknown = "unknown",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        assert_eq!(Cause::from_name("memcg_reclaim"), Some(Cause::MemcgReclaim));
        assert_eq!(Cause::MemcgReclaim.as_str(), "memcg_reclaim");
        assert_eq!(Mode::from_name("User"), None);
        assert_eq!(End::from_name(""), None);
    }
}
