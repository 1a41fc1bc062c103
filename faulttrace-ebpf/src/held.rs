//! Reads of faults that a limit holds back (blk-throttle: `io.max` of a cgroup): the block layer keeps them, and
//! a thread of the kernel hands them on later, with nothing in them that says whose they are but the pages that
//! they fill. So a fault that sleeps before all it asked for was handed on waits by its page. Only with `--io`.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{HashMap, PerCpuArray};
use faulttrace_ebpf::{FileKey, Inflight, counter, flag};

use crate::cache::file_of;
use crate::config::{self, member};
use crate::handled::PAGE_SHIFT;
use crate::pages::PageKey;
use crate::{io, maps, registers};

/// Pages of a read that are looked at.
const MAX_PAGES: u64 = 64;
/// `PageTail` of include/linux/page-flags.h: the rest of `compound_head` is then where its folio is.
const TAIL: u64 = 1;

/// A fault whose page nobody has handed on the read of.
#[repr(C)]
#[derive(Clone, Copy)]
struct Held {
    /// Which fault of the thread: `io::name_of`.
    fault: u64,
    /// When it fell asleep.
    since_ns: u64,
    /// The thread.
    tid: u32,
    /// Unused, zero.
    padding: u32,
}

/// Room to look for the pages of a read, and what was found.
#[repr(C)]
struct Search {
    key: PageKey,
    found: Held,
}

#[map]
static HELD: HashMap<PageKey, Held> = HashMap::with_max_entries(1, 0);
/// Reads are handed on by threads, not in interrupts, and one program alone uses this: the kernel does not run it
/// on a CPU where it was preempted.
#[map]
static SEARCH: PerCpuArray<Search> = PerCpuArray::with_max_entries(1, 0);

/// The page of a fault.
#[inline(always)]
fn page_of(entry: &Inflight) -> PageKey {
    PageKey {
        file: FileKey::new(entry.inode, entry.device),
        index: entry.page_offset,
    }
}

/// The thread falls asleep in its fault, `asked` is what it has handed to the block layer in it, bytes.
#[inline(always)]
pub fn note(entry: &mut Inflight, asked: u32) {
    // What it reads ahead is not what it waits for.
    let over = flag::HELD_FOUND | flag::READ_AHEAD;
    if config::HELD_BACK_TOLD.load() == 0 || entry.flags & (over | flag::HAS_FILE) != flag::HAS_FILE
    {
        return;
    }
    if entry.flags & flag::HELD_BACK != 0 {
        again(entry);
        return;
    }
    let fault = io::name_of(entry);
    let Some(io) = io::of_fault(entry.tid, fault) else {
        maps::count(counter::IO_FULL);
        return;
    };
    if io.asked_bytes >= u64::from(asked) {
        return;
    }
    io.held_bytes = u64::from(asked) - io.asked_bytes;
    let held = Held {
        fault,
        since_ns: entry.out_ns,
        tid: entry.tid,
        padding: 0,
    };
    entry.flags |= flag::HELD_BACK;
    match HELD.insert(&page_of(entry), &held, u64::from(BPF_NOEXIST)) {
        Ok(()) => maps::io_changed(1),
        Err(maps::EXISTS) => {}
        Err(_) => maps::count(counter::IO_FULL),
    }
}

/// It slept before, and its page's read was not handed on: that was for something else, which the file system
/// had to read first.
#[inline(always)]
fn again(entry: &Inflight) {
    if let Some(held) = HELD.get_ptr_mut(&page_of(entry)) {
        // SAFETY: a value of a preallocated map, which the thread in the fault alone changes.
        unsafe {
            if (*held).tid == entry.tid {
                (*held).since_ns = entry.out_ns;
            }
        }
    }
}

/// The fault is over.
#[inline(always)]
pub fn forget(entry: &Inflight) {
    if config::HELD_BACK_TOLD.load() == 0 || entry.flags & flag::HELD_BACK == 0 {
        return;
    }
    let page = page_of(entry);
    // Another thread's may be there.
    // SAFETY: as in `again`.
    let is_its = HELD
        .get_ptr(&page)
        .is_some_and(|held| unsafe { (*held).tid == entry.tid });
    if is_its && HELD.remove(&page).is_ok() {
        maps::io_changed(-1);
    }
}

/// The current thread hands a read on. If it is a thread of the kernel, and the read one that was held back:
/// the thread in a fault whose it is, and which of its faults.
#[inline(always)]
pub fn handed_on(bio: u64) -> Option<(u32, u64)> {
    if config::HELD_BACK_TOLD.load() == 0 || !registers::is_kernel_thread() || find(bio) == 0 {
        return None;
    }
    maps::io_changed(-1);
    let found = search()?.found;
    // It may be over by now.
    let entry = maps::inflight(found.tid)?;
    if entry.flags & flag::HELD_BACK == 0 || io::name_of(entry) != found.fault {
        return None;
    }
    let Some(io) = io::of_fault(found.tid, found.fault) else {
        maps::count(counter::IO_FULL);
        return None;
    };
    entry.flags ^= flag::HELD_BACK | flag::HELD_FOUND;
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    io.held_ns += now.saturating_sub(found.since_ns);
    io.held_bytes = 0;
    Some((found.tid, found.fault))
}

/// The current thread splits a read. Who asks for it does so at once; threads of the kernel do when it is the turn of
/// the rest, since a limit counts each part. (Or when a volume is no longer suspended, which is told as the same.)
#[inline(always)]
pub fn between_parts() -> bool {
    config::HELD_BACK_TOLD.load() != 0 && registers::is_kernel_thread()
}

#[inline(always)]
fn search() -> Option<&'static mut Search> {
    // SAFETY: the value lives as long as the map and belongs to this CPU, see `SEARCH`.
    SEARCH.get_ptr_mut(0).map(|search| unsafe { &mut *search })
}

/// Looks for a fault that waits for a page of this read, and takes it out. 0 = there is none.
///
/// A function of its own; see `stack::scan_stack`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find(bio: u64) -> u32 {
    let Some(search) = search() else { return 0 };
    let bio = bio as *const u8;
    let vectors: u64 = member(bio, &config::OFF_BIO_VECTORS);
    let vector: u32 = member(bio, &config::OFF_BIO_VECTOR);
    let vector = vectors + u64::from(vector) * config::SIZE_VECTOR.load();
    let page: u64 = member(vector as *const u8, &config::OFF_VECTOR_PAGE);
    let head: u64 = member(page as *const u8, &config::OFF_PAGE_HEAD);
    let folio = match head & TAIL {
        0 => page,
        _ if config::HEAD_IS_POINTER.load() != 0 => head - TAIL,
        _ => return 0,
    };
    let first: u64 = member(folio as *const u8, &config::OFF_FOLIO_INDEX);
    let later = page
        .wrapping_sub(folio)
        .checked_div(config::SIZE_PAGE.load());
    let offset: u32 = member(vector as *const u8, &config::OFF_VECTOR_OFFSET);
    // Up to kernel commit 26064d3e2b4d (6.15), the page was the folio's first, however far it was to the data.
    let first = first + later.unwrap_or_default() + u64::from(offset >> PAGE_SHIFT);
    let bytes: u32 = member(bio, &config::OFF_BIO_SIZE);
    search.key.file = file_of(folio as *const u8);
    let mut index = 0;
    while index < MAX_PAGES {
        if index << PAGE_SHIFT >= u64::from(bytes) {
            break;
        }
        search.key.index = first + index;
        if let Some(held) = HELD.get_ptr(&search.key) {
            // SAFETY: a value of a preallocated map; nobody changes it.
            search.found = unsafe { *held };
            return u32::from(HELD.remove(&search.key).is_ok());
        }
        index += 1;
    }
    0
}
