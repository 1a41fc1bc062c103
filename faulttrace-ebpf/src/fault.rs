//! A fault begins, or completes by an event of its own.

use core::ffi::c_void;

use aya_ebpf::bindings::bpf_perf_event_data;
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_ktime_get_ns};
use aya_ebpf::programs::PerfEventContext;
use aya_log_ebpf::info;
use faulttrace_ebpf::{FaultEvent, Inflight, NO_SYSCALL, Waker, counter, flag, kind};

use crate::config::{self, argument, current, current_task, member, traced};
use crate::maps::{self, Slot, room, what};
use crate::registers;
use crate::{end, go, io, pages, stack};

/// Tracepoint exceptions:page_fault_user(address, regs, error_code).
#[inline(always)]
pub fn user_fault(ctx: *mut c_void) {
    let (tgid, tid) = current();
    if traced(tgid, tid) {
        begin(tid, what::USER, argument(ctx, 0), argument(ctx, 2) as u32);
    }
}

/// Tracepoint exceptions:page_fault_kernel(address, regs, error_code).
#[inline(always)]
pub fn kernel_fault(ctx: *mut c_void) {
    let (tgid, tid) = current();
    if !traced(tgid, tid) || argument(ctx, 0) >= config::TASK_SIZE.load() {
        return;
    }
    // Reading a user stack for a tracer, ours or another, faults like this; it is no fault of the
    // program, and the kernel does not handle it.
    let disabled: u32 = member(current_task(), &config::OFF_TASK_PAGEFAULT_DISABLED);
    // The reading itself disables faults once while it reads (mm/maccess.c,
    // copy_from_kernel_nofault).
    if disabled <= 1 {
        begin(tid, what::KERNEL, argument(ctx, 0), argument(ctx, 2) as u32);
    }
}

/// Perf software event PAGE_FAULTS, period 1: fires when the kernel begins to handle a fault on memory
/// of user mode (arch/*/mm/fault.c), before it takes a lock, and once for all its tries. What faults are
/// disabled around does not come there.
#[inline(always)]
pub fn begun(ctx: &PerfEventContext) {
    let (tgid, tid) = current();
    if !traced(tgid, tid) {
        return;
    }
    // SAFETY: the context of a perf event program.
    let address = unsafe { (*ctx.ctx).addr };
    if user_mode(ctx) {
        begin(tid, what::USER, address, 0);
    } else if address < config::TASK_SIZE.load() {
        begin(tid, what::KERNEL, address, 0);
    }
}

#[inline(always)]
fn begin(tid: u32, what: u32, address: u64, error: u32) {
    let Some(slot) = maps::slot() else { return };
    if slot.tid == tid && slot.what == what::MARK {
        end_marked(slot, tid);
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // The slot is nobody's until all of it is written: since kernel commit a46023d5616e (7.0), programs at
    // tracepoints can be preempted, and whoever runs here meanwhile may begin a fault as well.
    stack::note(&mut slot.tid, 0);
    let mut tries = 0;
    while tries < 2 {
        stack::note(&mut slot.start_ns, now);
        stack::note(&mut slot.address, address);
        stack::note(&mut slot.error, error);
        // This makes the members that describe a file invalid; writing them would cost more.
        stack::note(&mut slot.file_ns, 0);
        stack::note(&mut slot.what, what);
        if config::LIGHT.load() != 0 {
            slot.completed = config::completed_faults();
        }
        let whole = stack::seen(&slot.start_ns) == now && stack::seen(&slot.what) == what;
        if whole && stack::seen(&slot.file_ns) == 0 {
            break;
        }
        tries += 1;
    }
    stack::note(&mut slot.tid, tid);
}

/// Ends the fault of the marked thread: something proves it over, so its end is the last moment
/// at which it is known to have gone on.
#[inline(always)]
pub fn end_marked(slot: &mut Slot, tid: u32) {
    slot.tid = 0;
    if let Some(entry) = maps::inflight(tid) {
        end::finish(tid, entry, last_known(slot, entry), flag::APPROXIMATE_END);
    }
}

/// The last moment at which the fault of a running thread is known to have gone on.
#[inline(always)]
pub fn last_known(slot: &Slot, entry: &Inflight) -> u64 {
    if slot.file_ns > entry.in_ns {
        slot.file_ns
    } else {
        entry.in_ns
    }
}

/// The last moment at which the fault of an entry is known to have gone on by the entry alone. On
/// some kernels a thread now and then gets a CPU without any tracepoint telling.
#[inline(always)]
pub fn last_seen(entry: &Inflight) -> u64 {
    if entry.in_ns != 0 {
        return entry.in_ns;
    }
    if entry.wake_ns > entry.out_ns {
        entry.wake_ns
    } else {
        entry.out_ns
    }
}

/// With `LIGHT`: whether the fault of this thread's entry is over, now that the thread has completed
/// so many.
#[inline(always)]
pub fn is_completed(tid: u32, completed: u32) -> bool {
    maps::any_inflight()
        && maps::inflight(tid)
            .is_some_and(|entry| entry.flags & flag::NO_START == 0 && entry.completed != completed)
}

/// Tracepoint rseq:rseq_update: the thread is about to return to user mode after it was switched
/// out. The exact end of a fault of user mode, for threads that registered rseq (glibc since 2.35).
#[inline(always)]
pub fn back_to_user(ctx: *mut c_void) {
    let Some(slot) = maps::slot() else { return };
    let (tgid, tid) = current();
    let mine = slot.tid == tid;
    let marked = mine && slot.what == what::MARK;
    // An idle CPU now and then takes up a thread without any tracepoint telling; then no mark is set.
    if !marked && (mine || !traced(tgid, tid) || !maps::any_inflight()) {
        return;
    }
    let Some(entry) = maps::inflight(tid) else {
        return;
    };
    if entry.flags & (flag::KERNEL_MODE | flag::GUP) != 0 {
        return;
    }
    if marked {
        slot.tid = 0;
    }
    add_user_stack(ctx, entry, room::BACK_TO_USER);
    // SAFETY: a helper without arguments.
    end::finish(tid, entry, unsafe { bpf_ktime_get_ns() }, 0);
}

/// Perf software event PAGE_FAULTS_MAJ, period 1: fires when the kernel adds to `maj_flt` for a
/// fault with registers (mm_account_fault of mm/memory.c), which is at its completion.
#[inline(always)]
pub fn major(ctx: *mut c_void) {
    let (tgid, tid) = current();
    if !traced(tgid, tid) {
        return;
    }
    maps::count(counter::MAJORS_SEEN);
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(slot) = maps::slot() else { return };
    let mut copy = *slot;
    let mine = copy.tid == tid;
    if mine {
        slot.tid = 0;
    }
    let mut begun = mine && copy.what != what::MARK;
    let mut another = begun;
    let mut access = 0;
    if config::LIGHT.load() != 0 {
        // The kernel counts a fault right before its event.
        let completed = config::completed_faults().wrapping_sub(1);
        begun = begun && copy.completed == completed;
        another = is_completed(tid, completed);
        access = without_exception(ctx, &mut copy, begun);
    }
    if maps::any_inflight()
        && let Some(entry) = maps::inflight(tid)
    {
        let (end_ns, more) = if another {
            let more = flag::APPROXIMATE_END | flag::LATER_MAJOR;
            (last_seen(entry), more)
        } else {
            add_user_stack(ctx, entry, room::MAJOR);
            (now, flag::MAJOR)
        };
        end::finish(tid, entry, end_ns, more);
        if !another {
            return;
        }
    }
    never_slept(ctx, &copy, begun, access, now);
}

/// With `LIGHT`: completes what the slot tells of a major fault of user mode, of which no program saw
/// the exception, by the event's own address. Returns flags to add.
#[inline(always)]
fn without_exception(ctx: *mut c_void, slot: &mut Slot, begun: bool) -> u32 {
    if begun && slot.what == what::KERNEL {
        return 0;
    }
    if !begun {
        slot.file_ns = 0;
    }
    slot.what = what::USER;
    slot.error = 0;
    // SAFETY: the context of a perf event program.
    slot.address = unsafe { (*ctx.cast::<bpf_perf_event_data>()).addr };
    flag::NO_ACCESS | flag::HAS_ADDRESS
}

/// The flags of a major fault that never left the CPU.
#[inline(always)]
fn flags_without_sleep(slot: &Slot, begun: bool, more: u32) -> u32 {
    let mut flags = flag::MAJOR | more;
    // Where beginnings are missing, one that was not seen is no sign that the fault was there before.
    let missing = config::LIGHT.load() != 0 || config::BEGINS_MAY_BE_SKIPPED.load() != 0;
    if !begun && missing {
        flags |= flag::APPROXIMATE_START;
    } else if !begun {
        flags |= flag::NO_START;
    } else if slot.what != what::FILE {
        flags |= config::address_flags();
    }
    if begun && slot.what == what::KERNEL {
        flags |= flag::KERNEL_MODE;
    }
    if begun && slot.file_ns != 0 {
        flags |= flag::HAS_FILE;
    }
    flags
}

/// Tells what is known of a fault's page and of its reads, right before the fault.
#[inline(always)]
fn tell_beside(slot: &Slot, flags: u32, begun: bool, tid: u32, start_ns: u64) {
    let file = (slot.inode, slot.device);
    pages::tell(flags, file, slot.page_offset, tid, start_ns);
    if begun && config::IO.load() != 0 {
        // Nothing was held back, since it did not sleep.
        io::send(tid, io::name_of_slot(slot), start_ns, true);
    }
    go::tell_without_sleep(tid, start_ns);
}

/// A major fault that never left the CPU. `more` are flags to add.
#[inline(always)]
fn never_slept(ctx: *mut c_void, slot: &Slot, begun: bool, more: u32, now: u64) {
    let (tgid, tid) = current();
    let flags = flags_without_sleep(slot, begun, more);
    if flags & flag::NO_START != 0 {
        info!(
            tid,
            "thread {} completes a major fault whose beginning was not seen", tid
        );
    }
    let start_ns = if begun { slot.start_ns } else { now };
    if !end::passes(now.saturating_sub(start_ns), flags) {
        return;
    }
    if flags & flag::APPROXIMATE_START != 0 {
        maps::count(counter::BEGINS_UNSEEN);
    }
    let (mut user_stack, mut stack_top, mut kernel_stack) = (0, 0, 0);
    if let Some(scratch) = maps::scratch(room::MAJOR) {
        user_stack = stack::user_stack_id(ctx, scratch, tgid);
        stack_top = stack::user_stack_top();
        if flags & flag::KERNEL_MODE != 0 {
            kernel_stack = stack::plain_kernel_stack_id(ctx, scratch);
        }
    }
    tell_beside(slot, flags, begun, tid, start_ns);
    let event = FaultEvent {
        kind: kind::FAULT,
        flags,
        tgid,
        tid,
        start_ns,
        end_ns: now,
        address: slot.address,
        blocked_ns: 0,
        runqueue_ns: 0,
        user_stack,
        stack_top,
        kernel_stack,
        inode: slot.inode,
        page_offset: slot.page_offset,
        longest_sleep_ns: 0,
        longest_out_ns: 0,
        longest_runqueue_ns: 0,
        device: slot.device,
        error: slot.error,
        switches: 0,
        sleeps: 0,
        syscall: if flags & flag::KERNEL_MODE != 0 {
            registers::system_call()
        } else {
            NO_SYSCALL
        },
        padding: 0,
        longest_waker: Waker::UNKNOWN,
        comm: bpf_get_current_comm().unwrap_or_default(),
    };
    // SAFETY: room for an event in the ring.
    end::emit(flags, |place| unsafe { place.write(event) });
}

/// The entry of a thread that was stuck before the programs were attached has no user stack yet,
/// nor has one that was only preempted.
#[inline(always)]
fn add_user_stack(ctx: *mut c_void, entry: &mut Inflight, room: u32) {
    if entry.flags & flag::USER_STACK_TRIED != 0 {
        return;
    }
    if let Some(scratch) = maps::scratch(room) {
        entry.flags |= flag::USER_STACK_TRIED;
        entry.user_stack = stack::user_stack_id(ctx, scratch, entry.tgid);
        entry.stack_top = stack::user_stack_top();
    }
}

/// Perf software event TASK_CLOCK of one thread, opened by userspace when a thread has run for
/// long since its last switch-in and nothing told the end of its fault: user mode means it is over.
#[inline(always)]
pub fn tick(ctx: &PerfEventContext) {
    let Some(slot) = maps::slot() else { return };
    let (_, tid) = current();
    if slot.tid == tid && slot.what == what::MARK && user_mode(ctx) {
        end_marked(slot, tid);
    }
}

#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn user_mode(ctx: &PerfEventContext) -> bool {
    // SAFETY: the context of a perf event program begins with the interrupted registers.
    unsafe { (*ctx.ctx).regs.cs & 3 == 3 }
}

#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn user_mode(ctx: &PerfEventContext) -> bool {
    // SAFETY: as above; PSR_MODE_EL0t is 0 (arch/arm64/include/uapi/asm/ptrace.h).
    unsafe { (*ctx.ctx).regs.pstate & 0xf == 0 }
}
