//! Pages are added to the page cache and removed from it, anywhere on the machine. Only with
//! `EVICTIONS`.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_ktime_get_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{LruHashMap, LruPerCpuHashMap, PerCpuArray};
use faulttrace_ebpf::{
    FileKey, Fill, MAX_FRAMES, NO_SYSCALL, PageRemoval, STACK_SLOTS, cache_total, removal,
};

use crate::ahead;
use crate::config::{self, REMOVER_RANGES, argument, current, current_task, member};
use crate::maps;
use crate::pages::{self, Noting, room};
use crate::registers;
use crate::stack::{capture_into, note, seen, within};

/// Pages that processes have added.
#[map]
static FILLS: LruPerCpuHashMap<u32, Fill> = LruPerCpuHashMap::with_max_entries(4096, 0);
/// See `faulttrace_ebpf::cache_total`.
#[map]
static CACHE_TOTALS: PerCpuArray<u64> = PerCpuArray::with_max_entries(cache_total::COUNT, 0);
/// How many pages reclaim took from each memory cgroup; the key is where its structure lies. The
/// kernel's own `nonresident_age` (mm/workingset.c), without activations.
#[map]
static AGES: LruHashMap<u64, u64> = LruHashMap::with_max_entries(4096, 0);
/// Room to capture the stack of who removes a page, and to judge it.
#[repr(C)]
struct RemoverScratch {
    frames: [u64; STACK_SLOTS],
    first: u64,
}

#[map]
static REMOVER_SCRATCH: PerCpuArray<RemoverScratch> = PerCpuArray::with_max_entries(1, 0);

/// `MEMCG_DATA_*` of include/linux/memcontrol.h, in the low bits of `memcg_data`.
const MEMCG_FLAGS: u64 = 7;

/// Tracepoint filemap:mm_filemap_add_to_page_cache(folio).
#[inline(always)]
pub fn added(ctx: *mut c_void) {
    let folio = argument(ctx, 0) as *const u8;
    let pages = pages_of(folio);
    count(cache_total::ADDED, pages);
    fill(pages);
    let file = file_of(folio);
    let Some(watch) = pages::watched(&file) else {
        return;
    };
    if let Some(noting) = prepare(folio, file, false) {
        let (first, asked) = (noting.key.index, ahead::asked_for(&file));
        let is_huge = pages >= ahead::HUGE_PAGES;
        noting.asked = if is_huge { pages::NOT_ASKED } else { asked };
        noting.folio_pages = pages as u32;
        pages::note_added(noting, pages);
        if asked != pages::NOT_ASKED {
            let asked_here = asked >= first && asked - first < pages;
            let read = pages - u64::from(asked_here);
            maps::add(&mut watch.ahead, read);
            let unknown = if is_huge { read } else { noting.unknown };
            if unknown != 0 {
                maps::add(&mut watch.unknown, unknown);
            }
        }
    }
}

/// Tracepoint filemap:mm_filemap_delete_from_page_cache(folio).
#[inline(always)]
pub fn removed(ctx: *mut c_void) {
    let folio = argument(ctx, 0) as *const u8;
    let pages = pages_of(folio);
    count(cache_total::REMOVED, pages);
    let reclaim: u64 = member(current_task(), &config::OFF_TASK_RECLAIM);
    if reclaim != 0 {
        count(cache_total::RECLAIMED, pages);
        grow(lru_of(folio), pages);
    }
    let file = file_of(folio);
    let Some(watch) = pages::watched(&file) else {
        return;
    };
    if let Some(noting) = prepare(folio, file, true) {
        note_remover(ctx, noting, reclaim != 0);
        pages::note_removed(noting, pages);
        if noting.were_ahead != 0 {
            maps::add(&mut watch.dropped, noting.were_ahead);
        }
    }
}

/// Prepares what is to be noted of the pages of a folio.
#[inline(always)]
fn prepare(folio: *const u8, file: FileKey, removed: bool) -> Option<&'static mut Noting> {
    let room = if removed { room::REMOVED } else { room::ADDED };
    let noting = pages::noting(room)?;
    noting.key.file = file;
    noting.key.index = member(folio, &config::OFF_FOLIO_INDEX);
    noting.lru = lru_of(folio);
    // SAFETY: a pointer into the map; an entry that is taken for another is a wrong number at worst.
    noting.age = AGES.get_ptr(noting.lru).map_or(0, |age| unsafe { *age });
    // SAFETY: a helper without arguments.
    noting.now_ns = unsafe { bpf_ktime_get_ns() };
    noting.were_ahead = 0;
    noting.unknown = 0;
    if removed {
        let (tgid, tid) = current();
        noting.removal = PageRemoval {
            how: removal::UNKNOWN,
            syscall: NO_SYSCALL,
            tgid,
            tid,
            // SAFETY: a helper without arguments.
            cgroup: unsafe { bpf_get_current_cgroup_id() },
            comm: bpf_get_current_comm().unwrap_or_default(),
        };
    }
    Some(noting)
}

/// Adds how the page is removed, and in which system call.
#[inline(always)]
fn note_remover(ctx: *mut c_void, noting: &mut Noting, reclaim: bool) {
    let Some(scratch) = REMOVER_SCRATCH.get_ptr_mut(0) else {
        return;
    };
    noting.removal.syscall = registers::own_system_call();
    // SAFETY: the value lives as long as the map and belongs to this CPU.
    let len = capture_into(ctx, unsafe { &mut (*scratch).frames }, 0);
    let how = how_removed(len);
    noting.removal.how = if how == removal::UNKNOWN && reclaim {
        removal::OTHER_RECLAIM
    } else {
        how
    };
}

/// What the first range of `REMOVERS` means that the captured stack passes: one of `removal`. A
/// function of its own with global linkage; see `stack::scan_stack`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn how_removed(len: u32) -> u32 {
    let Some(scratch) = REMOVER_SCRATCH.get_ptr_mut(0) else {
        return removal::UNKNOWN;
    };
    // SAFETY: as above.
    let scratch = unsafe { &mut *scratch };
    note(&mut scratch.first, REMOVER_RANGES as u64);
    let mut index = 0;
    while index < MAX_FRAMES {
        if index >= len as usize {
            break;
        }
        let at = u64::from(remover_of(scratch.frames[index]));
        if at < seen(&scratch.first) {
            note(&mut scratch.first, at);
        }
        index += 1;
    }
    let first = seen(&scratch.first) as usize;
    if first < REMOVER_RANGES {
        config::remover(first, 2) as u32
    } else {
        removal::UNKNOWN
    }
}

/// The first range of `REMOVERS` that an address is in; see [`how_removed`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn remover_of(address: u64) -> u32 {
    let mut range = 0;
    while range < REMOVER_RANGES {
        if within(
            address,
            (config::remover(range, 0), config::remover(range, 1)),
        ) {
            return range as u32;
        }
        range += 1;
    }
    REMOVER_RANGES as u32
}

/// How many pages a folio has.
#[inline(always)]
fn pages_of(folio: *const u8) -> u64 {
    let flags: u64 = member(folio, &config::OFF_FOLIO_FLAGS);
    if flags & config::FOLIO_LARGE.load() == 0 {
        return 1;
    }
    let pages: u32 = member(folio, &config::OFF_FOLIO_PAGES);
    if pages == 0 { 1 } else { u64::from(pages) }
}

/// Which file a folio is of.
#[inline(always)]
pub fn file_of(folio: *const u8) -> FileKey {
    let mapping: u64 = member(folio, &config::OFF_FOLIO_MAPPING);
    let host: u64 = member(mapping as *const u8, &config::OFF_MAPPING_HOST);
    let (inode, device) = config::file_id(host);
    FileKey::new(inode, device)
}

/// Whose memory a folio is; 0 without memory cgroups.
#[inline(always)]
fn lru_of(folio: *const u8) -> u64 {
    if config::OFF_FOLIO_MEMCG.load() == 0 {
        return 0;
    }
    member::<u64>(folio, &config::OFF_FOLIO_MEMCG) & !MEMCG_FLAGS
}

/// Reclaim took so many pages more.
#[inline(always)]
fn grow(lru: u64, pages: u64) {
    if let Some(age) = AGES.get_ptr_mut(lru) {
        // SAFETY: values of an LRU map stay mapped while a program runs.
        maps::add(unsafe { &mut *age }, pages);
    } else {
        let _ = AGES.insert(lru, pages, 0);
    }
}

/// The current process has added pages.
#[inline(always)]
fn fill(pages: u64) {
    let (tgid, _) = current();
    if let Some(fill) = FILLS.get_ptr_mut(tgid) {
        // SAFETY: this CPU's value, which lives while the program runs.
        unsafe { (*fill).pages += pages };
        return;
    }
    let first = Fill {
        pages,
        comm: bpf_get_current_comm().unwrap_or_default(),
    };
    let _ = FILLS.insert(tgid, first, 0);
}

#[inline(always)]
fn count(index: u32, pages: u64) {
    if let Some(total) = CACHE_TOTALS.get_ptr_mut(index) {
        // SAFETY: a pointer into this CPU's value; programs do not migrate.
        unsafe { *total += pages };
    }
}
