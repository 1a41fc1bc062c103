//! The programs' configuration: one value for each global of `faulttrace-ebpf`'s config.rs.

use std::ops::Range;
use std::time::Duration;

use aya::EbpfLoader;
use faulttrace_ebpf::{filter, removal};

use super::cache;
use super::interrupts::{
    INTERRUPT_RANGES, OUTERMOST_RANGES, Ranges, fred, interrupts, outermost, softirqs_apart,
};
use super::jobs::READ_AHEAD;
use super::machine::{LEAVE_RANGES, MACHINE};
use super::offsets::{FolioTypes, THREAD_SIZE};
use super::{Error, Filter, KernelFunctions, KernelTypes, Rung, Settings, begins_rung, block};

/// Functions that remove pages from the page cache, and what that means. The first of them that is on
/// the stack counts: reclaim under a limit before what wanted memory, `drop_caches` before what it
/// calls. As many as `REMOVERS` has room for.
const REMOVERS: [(&str, u32); 14] = [
    ("try_to_free_mem_cgroup_pages", removal::MEMCG_RECLAIM),
    ("kswapd", removal::KSWAPD),
    ("balance_pgdat", removal::KSWAPD),
    ("try_to_free_pages", removal::DIRECT_RECLAIM),
    // By whatever else: MADV_PAGEOUT, DAMON. Named `shrink_page_list` before 5.19.
    ("shrink_folio_list", removal::OTHER_RECLAIM),
    ("shrink_page_list", removal::OTHER_RECLAIM),
    ("drop_pagecache_sb", removal::DROP_CACHES),
    ("generic_fadvise", removal::FADVISE),
    ("vfs_fadvise", removal::FADVISE),
    ("ksys_fadvise64_64", removal::FADVISE),
    ("truncate_inode_pages_range", removal::TRUNCATE),
    ("truncate_inode_pages_final", removal::TRUNCATE),
    ("invalidate_inode_pages2_range", removal::INVALIDATE),
    ("invalidate_mapping_pages", removal::INVALIDATE),
];

/// User addresses have the top bit clear on every 64-bit architecture Linux runs on.
const USER_ADDRESSES_BELOW: u64 = 1 << 63;

/// Bytes that kernels built with FRED keep free above the registers of user mode (since 6.9:
/// arch/x86/include/asm/thread_info.h, `TOP_OF_KERNEL_STACK_PADDING`).
const FRED_PADDING: u64 = 16;
/// A function that kernels built with FRED have.
const FRED_ENTRY: &str = "asm_fred_entrypoint_user";

/// The values, kept together because the loader borrows them until it loads.
pub(super) struct Globals {
    words: Vec<(&'static str, u64)>,
    numbers: Vec<(&'static str, u32)>,
    leave: [[u64; 2]; LEAVE_RANGES],
    interrupts: Ranges<INTERRUPT_RANGES>,
    outermost: Ranges<OUTERMOST_RANGES>,
    removers: [[u64; 3]; REMOVERS.len()],
    comm_masks: [u32; 256],
}

/// One of `faulttrace_ebpf::filter` for these settings.
pub(super) fn mode(settings: &Filter) -> u32 {
    if settings.all {
        filter::ALL
    } else if settings.tgids.len() == 1
        && settings.tids.is_empty()
        && !settings.follow
        && settings.comm.is_none()
    {
        filter::ONE
    } else {
        filter::SET
    }
}

/// Whether the perf event of all faults tells their beginnings, for want of tracepoints or because that is
/// asked for.
pub(super) fn begins_by_event(settings: &Settings, types: &KernelTypes) -> bool {
    !settings.light && (settings.forced.begins_by_event || begins_rung(types) == Rung::PerfEvent)
}

/// Whether programs at tracepoints can be preempted: since kernel commit a46023d5616e (7.0), where the kernel preempts
/// itself, which all do then.
fn programs_are_preempted() -> bool {
    let Ok(kernel) = nix::sys::utsname::uname() else {
        return true;
    };
    let release = kernel.release().to_string_lossy();
    let major = release.split('.').next().map(str::parse::<u32>);
    !matches!(major, Some(Ok(major)) if major < 7)
}

/// Offsets and sizes in the kernel's structures, bytes.
fn offsets(types: &KernelTypes) -> impl IntoIterator<Item = (&'static str, u64)> {
    [
        ("OFF_TASK_PID", types.task_pid),
        ("OFF_TASK_TGID", types.task_tgid),
        ("OFF_TASK_MM", types.task_mm),
        ("OFF_TASK_COMM", types.task_comm),
        ("OFF_TASK_MAJ_FLT", types.task_maj_flt),
        ("OFF_TASK_MIN_FLT", types.task_min_flt),
        ("OFF_TASK_START_TIME", types.task_start_time),
        ("OFF_TASK_PAGEFAULT_DISABLED", types.task_pagefault_disabled),
        ("OFF_TASK_SIGNAL", types.task_signal),
        ("OFF_TASK_STATE", types.task_state),
        ("OFF_TASK_READ_BYTES", types.task_read_bytes),
        ("OFF_TASK_THREAD_PID", types.task_thread_pid),
        ("OFF_TASK_GROUP_LEADER", types.task_group_leader),
        ("OFF_PID_LEVEL", types.pid_level),
        ("OFF_PID_NUMBERS", types.pid_numbers),
        ("SIZE_UPID", types.upid_size),
        ("OFF_UPID_NR", types.upid_nr),
        ("OFF_UPID_NS", types.upid_ns),
        ("OFF_NAMESPACE_INUM", types.namespace_inum),
        ("OFF_TASK_STACK", types.task_stack),
        ("SIZE_STACK", THREAD_SIZE),
        ("OFF_REGS_MODE", types.regs.mode),
        ("REGS_MODE_MASK", types.regs.mode_mask),
        ("REGS_MODE_USER", types.regs.mode_user),
        ("OFF_REGS_SYSCALL", types.regs.syscall),
        ("OFF_REGS_IP", types.regs.ip),
        ("OFF_REGS_SP", types.regs.sp),
        ("OFF_REGS_BP", types.regs.bp),
        ("OFF_REGS_RETURN", types.regs.returns),
        ("OFF_REGS_G", types.regs.g),
        ("OFF_TASK_THREAD_POINTER", types.task_thread_pointer),
        ("OFF_VMF_VMA", types.vmf_vma),
        ("OFF_VMF_PGOFF", types.vmf_pgoff),
        ("OFF_VMF_ADDRESS", types.vmf_address),
        ("OFF_VMF_REAL_ADDRESS", types.vmf_real_address),
        ("OFF_VMF_FLAGS", types.vmf_flags),
        ("OFF_VMA_START", types.vma_start),
        ("OFF_VMA_END", types.vma_end),
        ("OFF_VMA_MM", types.vma_mm),
        ("OFF_VMA_FILE", types.vma_file),
        ("OFF_FILE_INODE", types.file_inode),
        ("OFF_SIGNAL_LIVE", types.signal_live),
        ("OFF_SIGNAL_FLAGS", types.signal_flags),
        ("OFF_MAPPING_HOST", types.mapping_host),
        ("OFF_INODE_INO", types.inode_ino),
        ("OFF_INODE_SB", types.inode_sb),
        ("OFF_SB_DEV", types.sb_dev),
    ]
}

/// The same of what is needed to follow pages.
fn folio_offsets(types: &FolioTypes) -> [(&'static str, u64); 7] {
    [
        ("OFF_FOLIO_MAPPING", types.mapping),
        ("OFF_FOLIO_INDEX", types.index),
        ("OFF_FOLIO_FLAGS", types.flags),
        ("OFF_FOLIO_PAGES", types.pages),
        ("OFF_FOLIO_MEMCG", types.memcg),
        ("FOLIO_LARGE", types.large),
        ("OFF_TASK_RECLAIM", types.task_reclaim),
    ]
}

/// Settings and facts that are numbers or yes and no.
fn numbers(settings: &Settings, types: &KernelTypes) -> [(&'static str, u32); 18] {
    let filter = &settings.filter;
    let comm = filter.comm.as_ref();
    [
        ("PID_NAMESPACE", settings.pid_namespace),
        ("FILTER", mode(filter)),
        ("TARGET_TGID", filter.tgids.first().copied().unwrap_or(0)),
        ("SELF_TGID", std::process::id()),
        ("HAS_TIDS", u32::from(!filter.tids.is_empty())),
        ("FOLLOW", u32::from(filter.follow)),
        ("MATCH_COMM", u32::from(comm.is_some())),
        ("COMM_STAR", comm.map_or(0, |tables| tables.star)),
        ("COMM_ACCEPT", comm.map_or(0, |tables| tables.accept)),
        ("LIGHT", u32::from(settings.light)),
        (
            "BEGINS_BY_EVENT",
            u32::from(begins_by_event(settings, types)),
        ),
        (
            "BEGINS_MAY_BE_SKIPPED",
            u32::from(begins_by_event(settings, types) || programs_are_preempted()),
        ),
        ("STACKS_BY_KERNEL", u32::from(settings.forced.unwind)),
        ("ENTRY_BELOW_REGS", u32::from(MACHINE.entry_below_registers)),
        (
            "READ_AHEAD_TOLD",
            u32::from(types.has_tracepoint(READ_AHEAD)),
        ),
        ("EVICTIONS", u32::from(settings.evictions)),
        ("SOFTIRQS_APART", u32::from(softirqs_apart())),
        ("SWITCH_HAS_STATE", u32::from(types.switch_has_state)),
    ]
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Globals {
    pub(super) fn new(
        settings: &Settings,
        types: &KernelTypes,
        functions: &dyn KernelFunctions,
    ) -> Result<Self, Error> {
        let required = |name: &'static str| functions.range_of(name).ok_or(Error::Symbol(name));
        let entry = required(MACHINE.entry)?;
        let handle = required("handle_mm_fault")?;
        let death = required("do_exit")?;
        let words = |range: Range<u64>| [range.start, range.end];
        let folio = types.folio.as_ref().filter(|_| settings.evictions);
        let built_with_fred = functions.range_of(FRED_ENTRY).is_some();
        let above_registers = if built_with_fred { FRED_PADDING } else { 0 };
        let leave = MACHINE
            .leaving
            .map(|name| functions.range_of(name).map_or([0, 0], words));
        let comm = settings.filter.comm.as_ref();
        let block = types.block.ok().filter(|_| settings.io);
        Ok(Self {
            words: [
                ("MIN_DURATION_NS", nanoseconds(settings.min_duration)),
                ("MIN_MINOR_NS", nanoseconds(settings.min_minor_duration)),
                ("TASK_SIZE", USER_ADDRESSES_BELOW),
                ("PAGES_KEPT", u64::from(cache::PAGES_KEPT)),
                ("WAKE_BYTES", u64::from(settings.ring_bytes / 4)),
                ("ENTRY_LO", entry.start),
                ("ENTRY_HI", entry.end),
                ("ENTRY_OUTER", MACHINE.entry_outer),
                ("HANDLE_LO", handle.start),
                ("HANDLE_HI", handle.end),
                ("DEATH_LO", death.start),
                ("DEATH_HI", death.end),
                ("USER_REGS", types.user_regs.saturating_sub(above_registers)),
            ]
            .into_iter()
            .chain(offsets(types))
            .chain(folio.into_iter().flat_map(folio_offsets))
            .chain(block.iter().flat_map(block::words))
            .collect(),
            numbers: numbers(settings, types)
                .into_iter()
                .chain(block.iter().flat_map(block::numbers))
                .collect(),
            leave,
            interrupts: interrupts(functions, fred()),
            outermost: outermost(functions),
            removers: REMOVERS.map(|(name, how)| {
                let range = functions.range_of(name);
                range.map_or([0; 3], |range| [range.start, range.end, u64::from(how)])
            }),
            comm_masks: comm.map_or([0; 256], |tables| tables.masks),
        })
    }

    /// Hands every value to the loader.
    pub(super) fn set<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        for (name, value) in &self.words {
            loader.override_global(name, value, true);
        }
        for (name, value) in &self.numbers {
            loader.override_global(name, value, true);
        }
        loader.override_global("LEAVE", self.leave.as_flattened(), true);
        loader.override_global("INTERRUPTS", self.interrupts.as_flattened(), true);
        loader.override_global("OUTERMOST", self.outermost.as_flattened(), true);
        loader.override_global("REMOVERS", self.removers.as_flattened(), true);
        loader.override_global("COMM_MASKS", self.comm_masks.as_slice(), true);
    }
}
