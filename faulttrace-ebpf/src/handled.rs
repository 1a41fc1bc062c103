//! `handle_mm_fault` returned: the exact end of a fault, where the kernel allows fexit programs.
//!
//! This one can be preempted, as others can since Linux 7.0 (since kernel commit af449901b84c, 5.11, only
//! migration is disabled around it), though not by itself (ca06f55b9002, 5.12: a second run on the
//! same CPU is left out, and the fault then ends as it does without). So it takes the entry out of
//! the other programs' sight before it ends the fault.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use faulttrace_ebpf::{Inflight, flag};

use crate::config::{argument, current, traced};
use crate::maps::{self, INFLIGHT, Slot, room, what};
use crate::{end, fault, stack};

/// `VM_FAULT_RETRY` of include/linux/mm_types.h: the fault is not over. With `VM_FAULT_COMPLETED`
/// (kernel commit d92725256b4f, 6.0) it is, as with every other value.
///
/// `VM_FAULT_MAJOR` is of no use: it comes with the return that also says RETRY. The kernel adds to
/// `maj_flt` within the call that completes the fault (mm_account_fault, kernel commit bce617edecad,
/// 5.9), before it returns: by then PAGE_FAULTS_MAJ has ended a fault with registers, and one without
/// is major if `maj_flt` has grown.
const RETRY: u32 = 0x400;
/// Log2 of the smallest page.
pub const PAGE_SHIFT: u32 = 12;

/// fexit of handle_mm_fault(vma, address, flags, regs), kernel commit bce617edecad (5.9). A fault
/// that never left the CPU costs one comparison.
#[inline(always)]
pub fn fault_handled(ctx: *mut c_void) {
    let (tgid, tid) = current();
    if !traced(tgid, tid) {
        return;
    }
    let Some(slot) = maps::slot() else { return };
    if slot.tid == tid && slot.what != what::MARK {
        return;
    }
    if !maps::any_inflight() {
        return;
    }
    // No mark is needed: an idle CPU now and then takes up a thread without any tracepoint telling.
    let Some(entry) = maps::inflight(tid) else {
        return;
    };
    if !same_fault(ctx, entry) {
        // An earlier one, which a signal interrupted between two tries.
        let end_ns = if is_mark(slot, tid) {
            fault::last_known(slot, entry)
        } else {
            fault::last_seen(entry)
        };
        if let Some(taken) = take(slot, entry, tid) {
            end::finish(tid, taken, end_ns, flag::APPROXIMATE_END);
        }
        return;
    }
    if argument(ctx, 4) as u32 & RETRY != 0 {
        // It goes on, unless a signal interrupts it: then this is its end.
        if is_mark(slot, tid) {
            // SAFETY: a helper without arguments.
            slot.file_ns = unsafe { bpf_ktime_get_ns() };
        }
        return;
    }
    let Some(entry) = take(slot, entry, tid) else {
        return;
    };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // It has none yet if the thread was stuck before the programs were attached. One that was only
    // preempted is not reported.
    if entry.flags & flag::USER_STACK_TRIED == 0
        && entry.sleeps != 0
        && let Some(scratch) = maps::scratch(room::HANDLED)
    {
        entry.flags |= flag::USER_STACK_TRIED;
        entry.user_stack = stack::user_stack_id(ctx, scratch, entry.tgid);
        entry.stack_top = stack::user_stack_top();
    }
    end::finish(tid, entry, now, 0);
}

/// Whether it is the fault of the entry that was handled.
#[inline(always)]
fn same_fault(ctx: *mut c_void, entry: &Inflight) -> bool {
    let without_registers = argument(ctx, 3) == 0;
    if without_registers != (entry.flags & flag::GUP != 0) {
        return false;
    }
    entry.flags & flag::HAS_ADDRESS == 0 || (entry.address ^ argument(ctx, 1)) >> PAGE_SHIFT == 0
}

/// Takes the entry from the other programs, and returns a copy: from here on they do not find it.
#[inline(always)]
fn take(slot: &mut Slot, entry: &Inflight, tid: u32) -> Option<&'static mut Inflight> {
    let taken = maps::taken()?;
    let before = switches(entry);
    *taken = *entry;
    if switches(entry) != before {
        // It was preempted while it was copied. The next preemption is a time slice away.
        *taken = *entry;
    }
    if INFLIGHT.remove(tid).is_err() {
        return None;
    }
    maps::inflight_changed(-1);
    if is_mark(slot, tid) {
        slot.tid = 0;
    }
    Some(taken)
}

#[inline(always)]
fn switches(entry: &Inflight) -> u32 {
    stack::seen(&entry.switches)
}

/// Whether the slot marks this thread; read again each time, because a preemption sets it anew.
#[inline(always)]
fn is_mark(slot: &Slot, tid: u32) -> bool {
    stack::seen(&slot.tid) == tid && stack::seen(&slot.what) == what::MARK
}
