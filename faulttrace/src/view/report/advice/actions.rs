//! What is to be done, word for word: the call or setting, and what it costs.

use crate::model::advice::Action;
use crate::view::text::words::about;

/// What is to be done, in the words of this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words {
    /// Stable name.
    pub(super) name: &'static str,
    /// The call or setting.
    pub(super) what: String,
    /// What it costs, or may.
    pub(super) cost: &'static str,
}

fn words(name: &'static str, what: impl Into<String>, cost: &'static str) -> Words {
    Words {
        name,
        what: what.into(),
        cost,
    }
}

/// All of them.
pub(super) fn action(action: Action) -> Words {
    use Action as A;
    match action {
        A::MadvNormal
        | A::MadvSequential
        | A::MadvWillneed { .. }
        | A::MadvPopulateRead { .. }
        | A::WarmFile { .. }
        | A::RaiseReadAhead
        | A::MadvRandom
        | A::LowerReadAhead => reading(action),
        A::MlockFile { .. }
        | A::MlockMemory { .. }
        | A::MoreMemory
        | A::MoreMemoryBy { .. }
        | A::KeepPages
        | A::MoveNeighbour
        | A::LowerSwappiness
        | A::CompressSwap => keeping(action),
        A::RaiseMemoryLimit | A::RaiseWatermarks | A::DeferHugePages | A::MadvNohugepage => {
            allocating(action)
        }
        A::DirtyLimits | A::FewerSyncs | A::Fallocate => writing(action),
        A::QuickerFuse
        | A::QuickerNfs
        | A::QuickerHandler
        | A::QuietDevice
        | A::OtherDevice
        | A::RaiseIoLimit => answering(action),
        A::RaiseGomaxprocs { .. } | A::ReadOffPs => goroutines(action),
        A::FewerMappings
        | A::MapPopulate
        | A::KeepHeap
        | A::FewerMprotects
        | A::FewerMadvises
        | A::FewerLooks { .. }
        | A::NewerKernel => changing(action),
        _ => process(action),
    }
}

fn reading(action: Action) -> Words {
    match action {
        Action::MadvNormal => words(
            "madv_normal",
            "madvise(MADV_NORMAL): take MADV_RANDOM off the mapping (and if nobody set it, look at \
             the device's read_ahead_kb)",
            "pages beside those that are used take room in the page cache",
        ),
        Action::MadvSequential => words(
            "madv_sequential",
            "madvise(MADV_SEQUENTIAL) on the mapping",
            "pages behind the reader are the first to be evicted",
        ),
        Action::MadvWillneed { bytes } => words(
            "madv_willneed",
            format!(
                "madvise(MADV_WILLNEED) on the range ({}) before it is needed, in pieces of \
                 read_ahead_kb: of a longer one the kernel reads no more than the larger of that and \
                 max_sectors_kb",
                about(bytes)
            ),
            "returns at once; what is never used is read in vain",
        ),
        Action::MadvPopulateRead { bytes } => words(
            "madv_populate_read",
            format!(
                "madvise(MADV_POPULATE_READ) (Linux 5.14) on the range ({}), or MAP_POPULATE, at the \
                 start or in a thread that may wait",
                about(bytes)
            ),
            "the call waits until all is read; needs that much memory",
        ),
        Action::WarmFile { bytes } => words(
            "warm_file",
            format!(
                "read the file before the program starts (vmtouch -t, or cat to /dev/null), {} of it",
                about(bytes)
            ),
            "the start waits for the read; needs that much memory",
        ),
        Action::RaiseReadAhead => words(
            "read_ahead_kb_up",
            "a larger /sys/block/DEVICE/queue/read_ahead_kb",
            "for all files of the device; random readers read more in vain",
        ),
        Action::MadvRandom => words(
            "madv_random",
            "madvise(MADV_RANDOM) on the mapping: a fault reads its page only",
            "a fault for every page, also where pages side by side are used",
        ),
        _ => words(
            "read_ahead_kb_down",
            "a smaller /sys/block/DEVICE/queue/read_ahead_kb",
            "for all files of the device; sequential readers wait more often",
        ),
    }
}

fn keeping(action: Action) -> Words {
    match action {
        Action::MlockFile { bytes } => words(
            "mlock",
            format!(
                "mlock() the pages that came again ({}); RLIMIT_MEMLOCK must allow it",
                about(bytes)
            ),
            "so much less memory for everything else",
        ),
        Action::MlockMemory { bytes } => words(
            "mlock_memory",
            match bytes {
                Some(bytes) => format!(
                    "mlock() what must not wait, or mlockall(MCL_CURRENT | MCL_FUTURE); swapped in \
                     were {}; RLIMIT_MEMLOCK must allow it",
                    about(bytes)
                ),
                None => "mlock() what must not wait, or mlockall(MCL_CURRENT | MCL_FUTURE); \
                         RLIMIT_MEMLOCK must allow it"
                    .to_owned(),
            },
            "so much less memory for everything else",
        ),
        Action::MoreMemory => words(
            "more_memory",
            "more memory: a higher memory.high or memory.max of the cgroup if memory.current is near \
             them, else a larger machine; how much more, this trace does not tell",
            "memory",
        ),
        Action::MoreMemoryBy { bytes } => words(
            "more_memory",
            format!(
                "{} more memory for its cgroup (memory.high, memory.max), or if it has no limit for the \
                 machine: avoids 90 % of these reads",
                about(bytes)
            ),
            "memory",
        ),
        Action::KeepPages => words(
            "keep_pages",
            "do not drop what is still read: no posix_fadvise(POSIX_FADV_DONTNEED) behind it, no \
             drop_caches, no new file in the place of the old one",
            "so much less room for other pages",
        ),
        Action::MoveNeighbour => words(
            "move_neighbour",
            "keep whoever else reads much from filling the page cache: posix_fadvise(\
             POSIX_FADV_DONTNEED) behind its reads, or a memory cgroup of its own with memory.high",
            "the neighbour reads from the disk what it would have had in memory",
        ),
        _ => swapping(action),
    }
}

fn swapping(action: Action) -> Words {
    match action {
        Action::LowerSwappiness => words(
            "swappiness",
            "a lower vm.swappiness, or memory.swap.max=0 for the cgroup",
            "files are evicted instead; without swap, the OOM killer comes earlier",
        ),
        _ => words(
            "compressed_swap",
            "zswap (/sys/module/zswap/parameters/enabled) or zram before the device",
            "CPU for compressing, and some memory",
        ),
    }
}

fn allocating(action: Action) -> Words {
    match action {
        Action::RaiseMemoryLimit => words(
            "memory_limit",
            "a higher memory.high or memory.max of the cgroup (version 1: memory.limit_in_bytes)",
            "memory that others had",
        ),
        Action::RaiseWatermarks => words(
            "watermarks",
            "a higher vm.watermark_scale_factor, or vm.min_free_kbytes: kswapd begins earlier",
            "so much memory stays free, and out of the page cache",
        ),
        Action::DeferHugePages => words(
            "thp_defrag",
            "echo defer+madvise > /sys/kernel/mm/transparent_hugepage/defrag",
            "fewer huge pages at first; khugepaged makes them later",
        ),
        _ => words(
            "madv_nohugepage",
            "madvise(MADV_NOHUGEPAGE) on memory that must not wait",
            "more faults, and more misses of the TLB there",
        ),
    }
}

fn changing(action: Action) -> Words {
    match action {
        Action::FewerMappings => words(
            "fewer_mappings",
            "fewer mmap, munmap, mprotect and madvise while others fault: keep mappings, change small \
             ranges, let the allocator keep memory (glibc: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD)",
            "memory is given back later",
        ),
        Action::MapPopulate => words(
            "map_populate",
            "MAP_POPULATE for new mappings, or MADV_POPULATE_WRITE (Linux 5.14) on them: memory that is \
             there already has no faults that could wait for the lock",
            "the call waits until all is there; memory that is never used is taken, too",
        ),
        Action::KeepHeap => words(
            "keep_heap",
            "have the allocator call brk less often: a larger M_TRIM_THRESHOLD and M_TOP_PAD (glibc, \
             mallopt(3))",
            "memory is taken earlier, and given back later",
        ),
        Action::FewerMprotects => words(
            "fewer_mprotects",
            "fewer and larger mprotect calls: change a range at once, before other threads use it, or map \
             it with the protection that it ends up with",
            "memory is writable, or executable, for longer",
        ),
        Action::FewerMadvises => words(
            "fewer_madvises",
            "fewer and larger madvise calls; if an allocator makes them, let it keep memory for longer \
             (jemalloc: dirty_decay_ms, muzzy_decay_ms)",
            "memory is given back later",
        ),
        Action::FewerLooks { pid } => words("fewer_looks", looks(pid), "it knows less, or later"),
        _ => words(
            "newer_kernel",
            "Linux 6.6 or later: most faults take the lock of one mapping (CONFIG_PER_VMA_LOCK)",
            "a new kernel",
        ),
    }
}

fn looks(pid: Option<u32>) -> String {
    let who = pid.map_or_else(
        || "the process outside this pid namespace".to_owned(),
        |pid| format!("process {pid}"),
    );
    format!(
        "have {who} look into this one less often: no reads of /proc/PID/smaps, maps and numa_maps where \
         status, statm or smaps_rollup will do, no process_vm_readv or ptrace while this must not wait"
    )
}

fn process(action: Action) -> Words {
    match action {
        Action::MadvPopulateWrite => words(
            "madv_populate_write",
            "madvise(MADV_POPULATE_WRITE) (Linux 5.14) before the memory is used",
            "all of it is copied at once and takes memory",
        ),
        Action::SpawnNotFork => words(
            "spawn_not_fork",
            "posix_spawn() or vfork() instead of fork() in a process with much memory; MADV_DONTFORK",
            "the child cannot use the parent's memory",
        ),
        Action::BindMemory => words(
            "bind_memory",
            "bind the process and its memory to one node (numactl), or kernel.numa_balancing=0",
            "the other nodes' memory and CPUs are not used, or memory stays far away",
        ),
        Action::PopulateHugePages => words(
            "populate_huge_pages",
            "map with MAP_POPULATE, or madvise(MADV_POPULATE_WRITE) (Linux 5.14), before several threads use \
             the memory",
            "all of it is cleared at the start and takes huge pages",
        ),
        _ => words(
            "read_in_threads",
            "read what may be missing with pread() in threads that may wait (or io_uring), not by \
             touching mapped memory; or more threads",
            "a copy of each page, system calls, memory for buffers",
        ),
    }
}

fn writing(action: Action) -> Words {
    match action {
        Action::DirtyLimits => words(
            "dirty_limits",
            "a lower vm.dirty_background_bytes, so that writeback begins earlier, and a higher \
             vm.dirty_bytes; or write less",
            "more is lost when the machine crashes; longer waits where it comes to them",
        ),
        Action::FewerSyncs => words(
            "fewer_syncs",
            "no msync, fsync or sync_file_range of pages that are still being written; two copies in \
             turn; or storage that needs no stable pages (without checksums)",
            "more is lost when the machine crashes",
        ),
        _ => words(
            "fallocate",
            "fallocate() the file, write all of it once, and put it on another file system than what \
             calls fsync often",
            "the space is taken at once",
        ),
    }
}

fn goroutines(action: Action) -> Words {
    match action {
        Action::RaiseGomaxprocs {
            from,
            enough_99,
            enough_999,
            goroutines,
        } => words(
            "gomaxprocs",
            more_ps(from, enough_99, enough_999, goroutines),
            "while none is stuck, more threads run Go code than there may be CPUs, and compete for them; \
             memory for the caches of each P; stuck ones are stuck all the same, and each garbage \
             collection still waits for them",
        ),
        _ => words(
            "read_off_ps",
            "at these calls, read with pread (os.File.ReadAt) into a buffer instead of touching mapped \
             memory, or touch it in C (cgo): then the runtime knows that the thread waits, and gives its P \
             to another",
            "a copy and a system call, or a call of C, each time; a thread for every goroutine that waits",
        ),
    }
}

fn more_ps(
    from: u32,
    enough_99: Option<u32>,
    enough_999: Option<u32>,
    goroutines: Option<u64>,
) -> String {
    let mut text = format!("a GOMAXPROCS of more than {from}");
    match (enough_99, enough_999) {
        (Some(most), Some(all)) if most == all => {
            text += &format!(": with {most}, a P would have been left for 99.9 % of the time");
        }
        (Some(most), Some(all)) => {
            text += &format!(
                ": with {most}, a P would have been left for 99 % of the time, with {all} for 99.9 %"
            );
        }
        (Some(most), None) => {
            text += &format!(
                ": with {most}, a P would have been left for 99 % of the time; how many would do for \
                 99.9 % the trace does not tell"
            );
        }
        (None, _) => {
            text += "; how many would do the trace does not tell";
            if let Some(goroutines) = goroutines {
                text += &format!(
                    ": up to {goroutines} goroutines held Ps in faults within one second, but they come \
                     and go"
                );
            }
        }
    }
    // Those goroutines need not have been in faults at the same moment.
    if enough_999
        .or(enough_99)
        .is_some_and(|ps| ps > from.saturating_add(1))
    {
        text += "; fewer may do";
    }
    text + " (environment variable GOMAXPROCS, or runtime.GOMAXPROCS)"
}

fn answering(action: Action) -> Words {
    match action {
        Action::QuickerFuse => words(
            "fuse_server",
            "a quicker FUSE server: more threads, a cache of its own, larger max_read and \
             max_readahead, so that there are fewer requests",
            "the server's CPU and memory",
        ),
        Action::QuickerNfs => words(
            "nfs_server",
            "a quicker NFS server or network; nconnect= and a larger rsize= at mount; a local copy",
            "the server's CPU, connections, or space for the copy",
        ),
        Action::QuietDevice => words(
            "quiet_device",
            "fewer requests of others at this device: io.max or io.latency of their cgroup (version \
             2), ionice, another time for backups and compaction; iotop and biotop show whose they are",
            "the others take longer",
        ),
        Action::OtherDevice => words(
            "other_device",
            "put the files onto a device of their own, or one that takes more requests at a time; \
             where a limit is what makes them wait (a cloud volume's), raise it",
            "a device, or its price",
        ),
        Action::RaiseIoLimit => words(
            "raise_io_limit",
            "a higher limit for reads of this device, or none: io.max of the process's cgroup \
             (/proc/PID/cgroup) or of one above it, systemd's IOReadBandwidthMax= and IOReadIOPSMax=; in \
             version 1 blkio.throttle.read_bps_device and read_iops_device",
            "the device has less for others",
        ),
        _ => words(
            "uffd_handler",
            "a quicker userfaultfd handler: more threads, UFFDIO_COPY of several pages at a time, \
             pages that will be needed before they are",
            "CPU, and memory for pages that are not used after all",
        ),
    }
}

/// One of each, for the docs and the tests.
#[cfg(test)]
pub(super) const ALL: &[Action] = &[
    Action::MadvNormal,
    Action::MadvSequential,
    Action::MadvWillneed { bytes: 1 },
    Action::MadvPopulateRead { bytes: 1 },
    Action::WarmFile { bytes: 1 },
    Action::RaiseReadAhead,
    Action::MadvRandom,
    Action::LowerReadAhead,
    Action::MlockFile { bytes: 1 },
    Action::MlockMemory { bytes: None },
    Action::MoreMemory,
    Action::KeepPages,
    Action::MoveNeighbour,
    Action::LowerSwappiness,
    Action::CompressSwap,
    Action::RaiseMemoryLimit,
    Action::RaiseWatermarks,
    Action::DeferHugePages,
    Action::MadvNohugepage,
    Action::FewerMappings,
    Action::MapPopulate,
    Action::KeepHeap,
    Action::FewerMprotects,
    Action::FewerMadvises,
    Action::FewerLooks { pid: None },
    Action::NewerKernel,
    Action::DirtyLimits,
    Action::FewerSyncs,
    Action::Fallocate,
    Action::QuickerFuse,
    Action::QuickerNfs,
    Action::QuickerHandler,
    Action::MadvPopulateWrite,
    Action::SpawnNotFork,
    Action::BindMemory,
    Action::PopulateHugePages,
    Action::ReadInThreads,
    Action::QuietDevice,
    Action::OtherDevice,
    Action::RaiseIoLimit,
    Action::RaiseGomaxprocs {
        from: 1,
        enough_99: None,
        enough_999: None,
        goroutines: None,
    },
    Action::ReadOffPs,
];

#[test]
fn a_number_of_ps_that_is_a_bound_is_told_as_one() {
    let text = |enough_99, enough_999| more_ps(2, enough_99, enough_999, None);
    assert!(text(Some(2), Some(5)).contains("with 5 for 99.9 %; fewer may do ("));
    assert!(text(Some(2), Some(3)).contains("with 3 for 99.9 % ("));
    assert!(text(Some(4), None).contains("does not tell; fewer may do ("));
    assert!(!text(None, None).contains("fewer"));
}
