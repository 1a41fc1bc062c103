//! The table that turns the kernel functions of a sleep into a cause.
//!
//! It holds names and their order only; [`super::Cause::classify`] applies it. Names are of kernels
//! 5.10 to 6.18: pages became folios on the way (`wait_on_page_writeback`,
//! `folio_wait_writeback`), so both spellings stand in each row.

use super::Cause;

/// What a row says when one of its functions is on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This cause, whatever else is known.
    Is(Cause),
    /// A file page; `major` tells who started the read.
    FilePage,
    /// A wait for some locked page: a file page only if the address is in a file.
    SomePage,
}

/// One row: functions that share a meaning.
pub(super) struct Rule {
    /// Lower ranks win; within one rank the innermost function wins.
    pub rank: u8,
    pub verdict: Verdict,
    /// Holds only where the fault has not yet (or no longer) entered `handle_mm_fault`.
    pub outside_handler: bool,
    /// Exact names, `prefix*` or `*suffix`.
    pub functions: &'static [&'static str],
}

const fn is(rank: u8, cause: Cause, functions: &'static [&'static str]) -> Rule {
    Rule {
        rank,
        verdict: Verdict::Is(cause),
        outside_handler: false,
        functions,
    }
}

/// Sleeps that name what they wait for: nothing further out can be more specific.
const NAMED_WAIT: u8 = 0;
/// Reclaim in its three kinds, one rank each because they share their inner functions
/// (`shrink_node`). Before the rest: an allocation inside a file read that has to reclaim waits
/// for memory, and what reclaim itself waits for (writeback, `zswap_store`) is its consequence.
const MEMCG: u8 = 1;
const COMPACTION: u8 = 2;
const RECLAIM: u8 = 3;
/// Huge pages of hugetlbfs, whose own functions reach into the page cache as well.
const HUGETLB: u8 = 4;
/// Paths of the fault handler.
const PATH: u8 = 5;
/// Functions that say no more than "some page".
const VAGUE: u8 = 6;

/// Frames from which on the stack is no longer the fault's own: what interrupted code was doing
/// (a FUSE server copying a reply to its own cold page has `fuse_dev_read` outside of these).
pub(super) const ENTRIES: &[&str] = &[
    "asm_exc_page_fault",
    "exc_page_fault",
    "do_user_addr_fault",
    "do_page_fault",
    "do_translation_fault",
    "do_mem_abort",
    "do_dat_exception",
    "handle_page_fault",
];

/// The outermost function of a fault that nothing but `get_user_pages` and its kin asked for.
pub(super) const HANDLER: &str = "handle_mm_fault";

/// The table.
pub(super) const RULES: &[Rule] = &[
    is(NAMED_WAIT, Cause::Userfaultfd, &["handle_userfault"]),
    is(
        NAMED_WAIT,
        Cause::Fuse,
        &["request_wait_answer", "fuse_wait_*"],
    ),
    is(
        NAMED_WAIT,
        Cause::Nfs,
        &[
            "rpc_wait*",
            "__rpc_wait*",
            "__rpc_execute",
            "nfs_wait*",
            "nfs_iocounter_wait",
        ],
    ),
    is(
        NAMED_WAIT,
        Cause::Migration,
        &[
            "migration_entry_wait*",
            "__migration_entry_wait*",
            "softleaf_entry_wait*",
            "pmd_migration_entry_wait",
        ],
    ),
    // The fault takes mmap_lock (or falls back to it from the VMA's own lock, 6.4 and later) before
    // handle_mm_fault, and again when it retries. An rwsem met inside is somebody else's: i_mmap,
    // invalidate_lock, an inode.
    Rule {
        rank: NAMED_WAIT,
        verdict: Verdict::Is(Cause::MmapLock),
        outside_handler: true,
        functions: &[
            "rwsem_down_read_slowpath",
            "rwsem_down_write_slowpath",
            "down_read*",
            "__down_read*",
            "down_write*",
            "__down_write*",
            "lock_mm_and_find_vma",
            "get_mmap_lock_carefully",
            "mmap_read_lock*",
            "mmap_write_lock*",
            "__mmap_lock*",
            "lock_vma_under_rcu",
            "vma_start_read*",
            "vma_start_write*",
            "__vma_start_*",
        ],
    },
    is(
        MEMCG,
        Cause::MemcgReclaim,
        &[
            // try_charge until 5.15, try_charge_memcg since.
            "try_charge",
            "try_charge_memcg",
            "try_to_free_mem_cgroup_pages",
            "mem_cgroup_oom*",
            "mem_cgroup_out_of_memory",
            // memory.high is paid for on the way back to user mode, still inside the exception.
            "mem_cgroup_handle_over_high",
            "__mem_cgroup_handle_over_high",
            "reclaim_high",
        ],
    ),
    is(
        COMPACTION,
        Cause::Compaction,
        &[
            "try_to_compact_pages",
            "compact_zone",
            "compact_zone_order",
            "__alloc_pages_direct_compact",
        ],
    ),
    is(
        RECLAIM,
        Cause::DirectReclaim,
        &[
            "__alloc_pages_direct_reclaim",
            "__perform_reclaim",
            "try_to_free_pages",
            "do_try_to_free_pages",
            "throttle_direct_reclaim",
            "reclaim_throttle",
            "wait_iff_congested",
            "shrink_*",
            "node_reclaim",
            "__node_reclaim",
            "__alloc_pages_may_oom",
            "out_of_memory",
        ],
    ),
    is(PATH, Cause::Fuse, &["fuse_*", "__fuse_*"]),
    is(PATH, Cause::Nfs, &["nfs_*", "__nfs_*", "nfs3_*", "nfs4_*"]),
    is(
        PATH,
        Cause::Zswap,
        &[
            "zswap_load",
            "zswap_decompress",
            "zswap_frontswap_load",
            "zswap_writeback_entry",
            "zram_*",
            "__zram_*",
        ],
    ),
    is(
        PATH,
        Cause::SwapIn,
        &[
            "do_swap_page",
            "swap_read*",
            "__swap_read*",
            "swapin*",
            "shmem_swapin*",
            "swap_cluster_readahead",
            "swap_vma_readahead",
            "read_swap_cache*",
            "__read_swap_cache*",
        ],
    ),
    is(
        PATH,
        Cause::Writeback,
        &[
            "balance_dirty_pages*",
            "folio_wait_writeback*",
            "folio_wait_stable",
            "wait_on_page_writeback*",
            "wait_for_stable_page",
            "do_page_mkwrite",
            "*_page_mkwrite",
            "jbd2_*",
            "xfs_*mkwrite",
            "xlog_*",
        ],
    ),
    is(
        PATH,
        Cause::Migration,
        &["do_numa_page", "do_huge_pmd_numa_page", "migrate_*"],
    ),
    // Inside of these, an allocation or a copy has its own name. What is left are locks: the table of
    // mutexes that lets one thread at a time fault on a page, the page's, the VMA's (mm/hugetlb.c,
    // hugetlb_fault).
    is(
        HUGETLB,
        Cause::HugePage,
        &["hugetlb_fault", "hugetlb_no_page"],
    ),
    is(HUGETLB, Cause::Cow, &["hugetlb_wp", "hugetlb_cow"]),
    // filemap_fault further in wins: then it is the page to copy from that had to be read.
    is(
        PATH,
        Cause::Cow,
        &[
            "wp_page_copy",
            "do_wp_page",
            "do_cow_fault",
            "do_huge_pmd_wp_page",
        ],
    ),
    // Reads the page and waits for that, whether or not the kernel counts the fault as major: it does
    // not if the page was in the cache without ever having been read (mm/filemap.c, filemap_fault).
    is(
        PATH,
        Cause::FileRead,
        &["filemap_read_folio", "filemap_read_page"],
    ),
    Rule {
        rank: PATH,
        verdict: Verdict::FilePage,
        outside_handler: false,
        functions: &[
            "filemap_*",
            "__filemap_*",
            "*_filemap_fault",
            "page_cache_ra_*",
            "page_cache_sync_ra",
            "page_cache_async_ra",
            "page_cache_sync_readahead",
            "page_cache_async_readahead",
            "ondemand_readahead",
            "force_page_cache_ra",
            "do_page_cache_ra",
            "do_sync_mmap_readahead",
            "do_async_mmap_readahead",
            "read_pages",
        ],
    },
    Rule {
        rank: VAGUE,
        verdict: Verdict::SomePage,
        outside_handler: false,
        functions: &[
            "do_read_fault",
            "do_shared_fault",
            "folio_wait_bit*",
            "folio_wait_locked*",
            "__folio_lock*",
            "wait_on_page_bit*",
            "wait_on_page_locked*",
            "__lock_page*",
        ],
    },
];

impl Rule {
    /// Whether this row names `function` (already without compiler suffixes).
    pub(super) fn names(&self, function: &[u8]) -> bool {
        self.functions.iter().any(|name| matches(name, function))
    }
}

/// One `*` at the most, anywhere: `prefix*`, `*suffix`, `pre*suf`.
fn matches(pattern: &str, function: &[u8]) -> bool {
    match pattern.split_once('*') {
        None => pattern.as_bytes() == function,
        Some((prefix, suffix)) => {
            function.len() >= prefix.len() + suffix.len()
                && function.starts_with(prefix.as_bytes())
                && function.ends_with(suffix.as_bytes())
        }
    }
}

/// The function's own name, without what compilers add (`.isra.0`, `.cold`, `.llvm.123`) and
/// without an offset. No kernel function has a dot in its name.
pub(super) fn bare(function: &[u8]) -> &[u8] {
    let end = function
        .iter()
        .position(|byte| matches!(byte, b'.' | b'+'))
        .unwrap_or(function.len());
    &function[..end]
}
