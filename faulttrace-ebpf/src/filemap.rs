//! A fault comes to its file's fault handler: which page it is about, and what is read for it.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use faulttrace_ebpf::{Inflight, flag};

use crate::config::{self, argument, current, member, traced};
use crate::maps::{self, Slot, what};
use crate::{ahead, end, fault, pages, vmf};

/// How long after its last switch-in a fault is believed to be still going on when the file's
/// fault handler is entered again (a retry follows within microseconds).
const RETRY_NS: u64 = 1_000_000;

/// Tracepoint filemap:mm_filemap_fault(mapping, index): the fault handler of ordinary files was
/// entered. Names the page, and is the only sign of a fault without an exception.
#[inline(always)]
pub fn file_page(ctx: *mut c_void) {
    let (tgid, tid) = current();
    let light = config::LIGHT.load() != 0;
    let page_offset = argument(ctx, 1);
    if (light || config::BEGINS_BY_EVENT.load() != 0) && tgid == config::SELF_TGID.load() {
        vmf::learn(page_offset);
    }
    let is_traced = traced(tgid, tid);
    if config::EVICTIONS.load() != 0 {
        let file = file_of(ctx);
        ahead::mapped(pages::room::FAULT, file, page_offset, page_offset);
        if is_traced {
            pages::watch(file);
        }
    }
    if !is_traced {
        return;
    }
    let Some(slot) = maps::slot() else { return };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let completed = if light { config::completed_faults() } else { 0 };
    if light && slot.tid == tid {
        forget_completed(slot, tid, completed, page_offset, now);
    }
    if slot.tid == tid && slot.what == what::MARK {
        let Some(entry) = maps::inflight(tid) else {
            return;
        };
        let same = entry.flags & flag::HAS_FILE == 0 || entry.page_offset == page_offset;
        if same || entry.flags & flag::GUP == 0 {
            if now.saturating_sub(entry.in_ns) < RETRY_NS {
                slot.file_ns = now;
                retried(ctx, entry, page_offset);
            }
            return;
        }
        fault::end_marked(slot, tid);
    }
    if slot.tid != tid {
        if let Some(entry) = unmarked(tid, page_offset) {
            end::back_unseen(entry, now);
            entry.in_ns = now;
            slot.tid = tid;
            slot.what = what::MARK;
            slot.file_ns = now;
            retried(ctx, entry, page_offset);
            return;
        }
        *slot = unseen_begin(tid, now, completed);
    }
    (slot.inode, slot.device) = file_of(ctx);
    slot.page_offset = page_offset;
    slot.file_ns = now;
    slot.read_ahead = 0;
    if config::OFF_TASK_READ_BYTES.load() != 0 {
        slot.read_bytes = config::read_bytes();
    }
}

/// The fault of an entry comes to the file's fault handler, for the first time or again. Of a fault in a system
/// call that is over without a word, a later one there would be taken for it: its page is left to its address.
#[inline(always)]
fn retried(ctx: *mut c_void, entry: &mut Inflight, page_offset: u64) {
    let lacks_file = entry.flags & flag::HAS_FILE == 0;
    let of_user = entry.flags & (flag::KERNEL_MODE | flag::GUP) == 0;
    if lacks_file && (of_user || entry.flags & flag::NO_START != 0) {
        entry.flags |= flag::HAS_FILE;
        entry.page_offset = page_offset;
        (entry.inode, entry.device) = file_of(ctx);
    }
    mark_reads(entry);
}

/// The entry of a thread that is still in its fault on this page, though nothing marks it: an idle CPU now
/// and then takes up a thread without any tracepoint telling. Another fault would have been seen to begin,
/// or, if it has no exception, this one to be counted as completed.
#[inline(always)]
fn unmarked(tid: u32, page_offset: u64) -> Option<&'static mut Inflight> {
    if !maps::any_inflight() {
        return None;
    }
    let entry = maps::inflight(tid)?;
    let same = entry.flags & flag::HAS_FILE == 0 || entry.page_offset == page_offset;
    let over = entry.flags & flag::NO_START == 0 && entry.completed != config::completed_faults();
    (entry.in_ns == 0 && same && !over).then_some(entry)
}

/// What is known of a fault whose exception was not seen.
#[inline(always)]
fn unseen_begin(tid: u32, now: u64, completed: u32) -> Slot {
    Slot {
        start_ns: now,
        address: 0,
        inode: 0,
        page_offset: 0,
        file_ns: 0,
        device: 0,
        error: 0,
        tid,
        what: what::FILE,
        completed,
        read_bytes: 0,
        read_ahead: 0,
        padding: 0,
    }
}

/// The fault of an entry comes to the file's fault handler, which may start a read.
#[inline(always)]
fn mark_reads(entry: &mut Inflight) {
    let known = config::OFF_TASK_READ_BYTES.load() != 0;
    if known && entry.flags & (flag::READ_MARKED | flag::NO_START) == 0 {
        entry.flags |= flag::READ_MARKED;
        entry.read_bytes = config::read_bytes();
    }
}

/// Tracepoint readahead:page_cache_async_ra(inode, index, ra, pages): the thread comes to a page of a file
/// that is in the page cache, and has been marked as the one at which to read on. What it hands to devices
/// from here on is for later pages.
#[inline(always)]
pub fn async_readahead(_ctx: *mut c_void) {
    let (tgid, tid) = current();
    if config::OFF_TASK_READ_BYTES.load() == 0 || !traced(tgid, tid) {
        return;
    }
    let Some(slot) = maps::slot() else { return };
    if slot.tid != tid || slot.file_ns == 0 {
        return;
    }
    if slot.what != what::MARK {
        if slot.read_bytes == config::read_bytes() {
            slot.read_ahead = 1;
        }
        return;
    }
    if let Some(entry) = maps::inflight(tid)
        && entry.flags & flag::READ_MARKED != 0
        && entry.read_bytes == config::read_bytes()
    {
        entry.flags |= flag::READ_AHEAD;
    }
}

/// With `LIGHT`, where no program sees each fault begin: what the slot tells of this thread is over
/// if a fault was completed since. One that ended in a signal is not counted as completed; but a
/// retry comes soon, and for the same page.
#[inline(always)]
fn forget_completed(slot: &mut Slot, tid: u32, completed: u32, page_offset: u64, now: u64) {
    if slot.what != what::MARK {
        let retried = slot.file_ns == 0
            || (slot.page_offset == page_offset && now.saturating_sub(slot.file_ns) < RETRY_NS);
        if slot.completed != completed || !retried {
            slot.tid = 0;
        }
    } else if fault::is_completed(tid, completed) {
        fault::end_marked(slot, tid);
    }
}

/// Inode and device of the file whose mapping is the tracepoint's first argument.
#[inline(always)]
pub fn file_of(ctx: *mut c_void) -> (u64, u32) {
    let host: u64 = member(argument(ctx, 0) as *const u8, &config::OFF_MAPPING_HOST);
    config::file_id(host)
}
