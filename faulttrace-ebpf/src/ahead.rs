//! What faults of traced threads had read ahead, and whether faults of any process have mapped it since.
//! Only with `EVICTIONS`.

use core::ffi::c_void;

use faulttrace_ebpf::{FileKey, flag};

use crate::config::{argument, current, traced};
use crate::maps::{self, what};
use crate::pages::{self, NOT_ASKED, room};
use crate::{filemap, registers};

/// Pages of 4 KiB in a huge one. A fault maps that as a whole, for which there is no tracepoint
/// (mm/filemap.c, filemap_map_pmd).
pub const HUGE_PAGES: u64 = 512;

/// The page that the current thread asks for, if what it adds to the page cache is for a fault of user mode
/// on this file; else [`NOT_ASKED`]. A system call may add what a fault before it seems to have asked for, so
/// the entry to the kernel has to tell.
#[inline(always)]
pub fn asked_for(file: &FileKey) -> u64 {
    let (tgid, tid) = current();
    if !traced(tgid, tid) {
        return NOT_ASKED;
    }
    let Some(slot) = maps::slot() else {
        return NOT_ASKED;
    };
    if !registers::entered_by_fault() {
        return NOT_ASKED;
    }
    let told = if slot.tid == tid && slot.what != what::MARK && slot.file_ns != 0 {
        (slot.inode, slot.device, slot.page_offset)
    } else {
        // It has slept before.
        match maps::inflight(tid) {
            Some(entry) if entry.flags & flag::HAS_FILE != 0 => {
                (entry.inode, entry.device, entry.page_offset)
            }
            _ => return NOT_ASKED,
        }
    };
    if (told.0, told.1) == (file.inode, file.device) {
        told.2
    } else {
        NOT_ASKED
    }
}

/// Tracepoint filemap:mm_filemap_map_pages(mapping, first, last): a fault has mapped all of these pages that
/// are in the page cache, or is about to (fault-around).
#[inline(always)]
pub fn around(ctx: *mut c_void) {
    let (first, last) = (argument(ctx, 1), argument(ctx, 2));
    if last >= first {
        mapped(room::AROUND, filemap::file_of(ctx), first, last);
    }
}

/// A fault maps these pages, if they are in the page cache; since 6.18 with the rest of their folios (kernel
/// commits 357b92761d94, 19773df031bc).
#[inline(always)]
pub fn mapped(room: u32, (inode, device): (u64, u32), mut first: u64, last: u64) {
    let file = FileKey::new(inode, device);
    let Some(watch) = pages::watched(&file) else {
        return;
    };
    if watch.ahead <= watch.mapped + watch.dropped {
        return;
    }
    let Some(noting) = pages::noting(room) else {
        return;
    };
    noting.key.file = file;
    noting.key.index = last;
    let mut end = last + 1;
    if let Some((_, behind)) = pages::folio_of(noting) {
        end = behind;
    }
    noting.key.index = first;
    if let Some((start, _)) = pages::folio_of(noting) {
        first = start;
    }
    noting.key.index = first;
    noting.were_ahead = 0;
    noting.unknown = (end - first).saturating_sub(pages::MOST);
    pages::note_mapped(noting, end - first);
    if noting.were_ahead != 0 {
        maps::add(&mut watch.mapped, noting.were_ahead);
    }
    if noting.unknown != 0 {
        maps::add(&mut watch.unknown, noting.unknown);
    }
}
