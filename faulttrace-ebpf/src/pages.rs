//! What has happened to single pages of the files that traced threads fault on: when each was added
//! to the page cache and removed from it, and by whom. Only with `EVICTIONS`.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use faulttrace_ebpf::{
    COMM_LEN, FileKey, FileWatch, HistoryEvent, NO_DISTANCE, NO_SYSCALL, PageRemoval, PageState,
    counter, kind, read_ahead, removal,
};

use crate::config;
use crate::end;
use crate::maps::{self, EVENTS};

/// One page of a file.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PageKey {
    pub file: FileKey,
    /// Offset in the file, pages.
    pub index: u64,
}

/// Who notes something of pages: each of these programs has its own room on each CPU, since they may be preempted
/// by each other. Nothing of it happens in interrupts.
pub mod room {
    pub const ADDED: u32 = 0;
    pub const REMOVED: u32 = 1;
    pub const AROUND: u32 = 2;
    pub const FAULT: u32 = 3;
    pub const COUNT: u32 = 4;
}

/// Room for what is being noted of pages.
#[repr(C)]
pub struct Noting {
    pub key: PageKey,
    /// For a page of which nothing is known yet.
    pub fresh: PageState,
    /// What `PageState::age` and `lru` are now.
    pub age: u64,
    pub lru: u64,
    pub now_ns: u64,
    /// The page that the fault asked for which has these read; [`NOT_ASKED`] without one.
    pub asked: u64,
    /// Pages of the folio that is added.
    pub folio_pages: u32,
    /// Whose this is, one of [`room`].
    pub room: u32,
    /// How many of them were read ahead and are so no more: mapped now, or removed.
    pub were_ahead: u64,
    /// Of how many it is not remembered whether they were read ahead.
    pub unknown: u64,
    pub removal: PageRemoval,
}

/// In place of the page that a fault asked for.
pub const NOT_ASKED: u64 = u64::MAX;

/// Files whose pages are watched, and since when.
#[map]
static FILES: HashMap<FileKey, FileWatch> = HashMap::with_max_entries(16384, 0);
#[map]
static PAGES: LruHashMap<PageKey, PageState> = LruHashMap::with_max_entries(262_144, 0);
/// How many entries `PAGES` was given: with more than it keeps, it has forgotten some.
#[map]
static PAGES_ENTERED: Array<u64> = Array::with_max_entries(1, 0);
#[map]
static NOTING: PerCpuArray<Noting> = PerCpuArray::with_max_entries(room::COUNT, 0);

/// Nothing is known of a page.
const UNSEEN: PageState = PageState {
    added_ns: 0,
    removed_ns: 0,
    cached_ns: 0,
    age: 0,
    lru: 0,
    distance: NO_DISTANCE,
    ahead: read_ahead::NO,
    folio_pages: 0,
    removal: PageRemoval {
        how: removal::UNKNOWN,
        syscall: NO_SYSCALL,
        tgid: 0,
        tid: 0,
        cgroup: 0,
        comm: [0; COMM_LEN],
    },
};

/// This CPU's room, for one program.
#[inline(always)]
pub fn noting(room: u32) -> Option<&'static mut Noting> {
    // SAFETY: the value lives as long as the map and belongs to this CPU and program, which does not run twice there.
    let noting = NOTING
        .get_ptr_mut(room)
        .map(|noting| unsafe { &mut *noting })?;
    noting.room = room;
    Some(noting)
}

/// What is known of a file whose pages are watched.
#[inline(always)]
pub fn watched(file: &FileKey) -> Option<&'static mut FileWatch> {
    // SAFETY: entries are never removed; their members are only added to, with `maps::add`.
    FILES.get_ptr_mut(file).map(|watch| unsafe { &mut *watch })
}

/// A traced thread faults on this file: watches its pages from now on.
#[inline(always)]
pub fn watch((inode, device): (u64, u32)) {
    let file = FileKey::new(inode, device);
    if FILES.get_ptr(&file).is_some() {
        return;
    }
    let watch = FileWatch {
        // SAFETY: a helper without arguments.
        since_ns: unsafe { bpf_ktime_get_ns() },
        ahead: 0,
        mapped: 0,
        dropped: 0,
        unknown: 0,
    };
    match FILES.insert(&file, &watch, u64::from(BPF_NOEXIST)) {
        Ok(()) | Err(maps::EXISTS) => {}
        Err(_) => maps::count(counter::FILES_FULL),
    }
}

/// The folio that the page of [`Noting::key`] was last added with: its first page, and behind its last.
/// `None` if that is not known.
#[inline(always)]
pub fn folio_of(noting: &Noting) -> Option<(u64, u64)> {
    // SAFETY: as in `added_one`.
    let page = PAGES.get_ptr(&noting.key).map(|page| unsafe { &*page })?;
    let pages = u64::from(page.folio_pages);
    if pages == 0 {
        return None;
    }
    let first = noting.key.index & !(pages - 1);
    Some((first, first + pages))
}

/// The page of [`Noting::key`] and those that follow were added to the page cache.
#[inline(always)]
pub fn note_added(noting: &Noting, pages: u64) {
    each(noting, pages, |index| {
        added_one(index, noting.room);
    });
}

/// They were removed from it.
#[inline(always)]
pub fn note_removed(noting: &Noting, pages: u64) {
    each(noting, pages, |index| {
        removed_one(index, noting.room);
    });
}

/// A fault may have mapped the page of [`Noting::key`] and those that follow.
#[inline(always)]
pub fn note_mapped(noting: &Noting, pages: u64) {
    each(noting, pages, |index| {
        mapped_one(index, noting.room);
    });
}

/// Pages that are noted at once: folios have no more (a huge page), nor does one fault map more, unless the
/// kernel is told to.
pub const MOST: u64 = 512;

#[inline(always)]
fn each(noting: &Noting, pages: u64, note: impl Fn(u64)) {
    let first = noting.key.index;
    let mut page = 0;
    while page < MOST {
        if page >= pages {
            break;
        }
        note(first + page);
        page += 1;
    }
}

/// A function of its own with global linkage, so that the verifier follows it once and not for each
/// of the pages of a folio (kernel commit 51c39bb1d5d1, 5.6).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn added_one(index: u64, room: u32) -> u32 {
    let Some(noting) = noting(room) else { return 0 };
    noting.key.index = index;
    let ahead = if noting.asked == NOT_ASKED || noting.asked == index {
        read_ahead::NO
    } else {
        read_ahead::UNMAPPED
    };
    if let Some(page) = PAGES.get_ptr_mut(&noting.key) {
        // SAFETY: values of an LRU map stay mapped while a program runs; one that is taken for another
        // page in this moment gets wrong numbers at worst.
        let page = unsafe { &mut *page };
        page.added_ns = noting.now_ns;
        page.ahead = ahead;
        page.folio_pages = noting.folio_pages;
        page.distance = if page.lru == noting.lru && noting.age >= page.age {
            noting.age - page.age
        } else {
            NO_DISTANCE
        };
        return 1;
    }
    noting.fresh = UNSEEN;
    noting.fresh.added_ns = noting.now_ns;
    noting.fresh.ahead = ahead;
    noting.fresh.folio_pages = noting.folio_pages;
    enter(noting)
}

/// See [`added_one`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn removed_one(index: u64, room: u32) -> u32 {
    let Some(noting) = noting(room) else { return 0 };
    noting.key.index = index;
    let Some(page) = PAGES.get_ptr_mut(&noting.key) else {
        noting.fresh = UNSEEN;
        noting.fresh.removed_ns = noting.now_ns;
        noting.fresh.age = noting.age;
        noting.fresh.lru = noting.lru;
        noting.fresh.removal = noting.removal;
        return enter(noting);
    };
    // SAFETY: as above.
    let page = unsafe { &mut *page };
    if page.ahead == read_ahead::UNMAPPED {
        noting.were_ahead += 1;
    }
    page.ahead = read_ahead::NO;
    page.cached_ns = page.added_ns;
    page.added_ns = 0;
    page.removed_ns = noting.now_ns;
    page.age = noting.age;
    page.lru = noting.lru;
    page.distance = NO_DISTANCE;
    page.removal = noting.removal;
    1
}

/// See [`added_one`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn mapped_one(index: u64, room: u32) -> u32 {
    let Some(noting) = noting(room) else { return 0 };
    noting.key.index = index;
    let Some(page) = PAGES.get_ptr_mut(&noting.key) else {
        noting.unknown += u64::from(has_forgotten());
        return 0;
    };
    // SAFETY: as above.
    if is_first_to_map(unsafe { &mut *page }) {
        noting.were_ahead += 1;
    }
    1
}

/// Whether what was read ahead becomes mapped by this: faults on two CPUs may map the same pages at once.
#[inline(always)]
fn is_first_to_map(page: &mut PageState) -> bool {
    if page.ahead != read_ahead::UNMAPPED {
        return false;
    }
    // Both words at once: there is an exchange of 64 bits on every CPU.
    let word = |ahead: u32| u64::from(page.folio_pages) << 32 | u64::from(ahead);
    let (before, after) = (word(read_ahead::UNMAPPED), word(read_ahead::MAPPED));
    let mut found = before;
    let at = &raw mut page.ahead;
    // SAFETY: an atomic exchange of an aligned word of a map value, of which `folio_pages` is the second half
    // (little endian, as is all that this is built for). In assembly because the compiler's BPF target has
    // none. The kernel has it since 5.12 (5ffa25502b5a); programs that note pages need 6.12.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({at} + 0, r0, {after})",
            at = in(reg) at,
            after = in(reg) after,
            inlateout("r0") found,
        );
    }
    found == before
}

#[inline(always)]
fn enter(noting: &mut Noting) -> u32 {
    if let Some(entered) = PAGES_ENTERED.get_ptr_mut(0) {
        // SAFETY: the value lives as long as the map, and is only ever added to.
        maps::add(unsafe { &mut *entered }, 1);
    }
    let entered = PAGES.insert(&noting.key, &noting.fresh, 0).is_ok();
    if !entered && noting.fresh.ahead == read_ahead::UNMAPPED {
        noting.unknown += 1;
    }
    u32::from(entered)
}

/// Tells what is known of the page of a fault, right before the fault itself is told.
///
/// A function of its own for the room that it takes on the stack of the programs.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send_history(inode: u64, device: u32, index: u64, tid: u32, start_ns: u64) -> u32 {
    let key = PageKey {
        file: FileKey::new(inode, device),
        index,
    };
    let wake = end::wake_flags();
    let Some(mut record) = EVENTS.reserve::<HistoryEvent>(0) else {
        maps::count(counter::HISTORIES_LOST);
        return 0;
    };
    let event = record.as_mut_ptr();
    // SAFETY: room for an event in the ring; every member is written.
    unsafe {
        (*event).kind = kind::HISTORY;
        (*event).tid = tid;
        (*event).start_ns = start_ns;
        (*event).forgotten = u32::from(has_forgotten());
        (*event).watched_ns = match FILES.get_ptr(&key.file) {
            Some(watch) => (*watch).since_ns,
            None => 0,
        };
        match PAGES.get_ptr(&key) {
            Some(page) => {
                (*event).seen = 1;
                // An assignment would allow for overlapping, in a function that has a stack of its own.
                core::ptr::copy_nonoverlapping(page, &raw mut (*event).page, 1);
            }
            None => {
                (*event).seen = 0;
                (*event).page = UNSEEN;
            }
        }
    }
    record.submit(wake);
    1
}

/// Whether `PAGES` has been given more than it keeps.
#[inline(always)]
fn has_forgotten() -> bool {
    // SAFETY: reads one aligned word.
    PAGES_ENTERED
        .get_ptr(0)
        .is_some_and(|entered| unsafe { *entered } > config::PAGES_KEPT.load())
}

/// Tells the history of a fault's page, if it is known which that is.
#[inline(always)]
pub fn tell(flags: u32, file: (u64, u32), index: u64, tid: u32, start_ns: u64) {
    if config::EVICTIONS.load() != 0 && flags & faulttrace_ebpf::flag::HAS_FILE != 0 {
        send_history(file.0, file.1, index, tid, start_ns);
    }
}
