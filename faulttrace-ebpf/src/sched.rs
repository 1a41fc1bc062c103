//! A thread in a fault leaves the CPU, is woken, gets the CPU again.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_ktime_get_ns};
use aya_log_ebpf::warn;
use faulttrace_ebpf::goroutine::Goroutine;
use faulttrace_ebpf::{Inflight, NO_SYSCALL, Waker, counter, flag, waker};

use crate::config::{self, argument, current, current_task, member, traced};
use crate::maps::{self, INFLIGHT, Scratch, Slot, room, what};
use crate::registers;
use crate::stack::{self, KernelStack, Where};
use crate::{end, fault, go, held, vmf, waking};

/// include/linux/sched.h; a thread that waits for a page of a device sleeps in it, killable or not.
const TASK_UNINTERRUPTIBLE: u32 = 2;

/// Tracepoint sched:sched_switch(preempt, prev, next, prev_state); current is still `prev`.
#[inline(always)]
pub fn switch(ctx: *mut c_void) {
    let Some(slot) = maps::slot() else { return };
    let (tgid, tid) = current();
    if tid != 0 {
        let mine = slot.tid == tid;
        let state = leaving_state(ctx);
        if mine || (traced(tgid, tid) && (state & TASK_UNINTERRUPTIBLE != 0 || seen_only_here(ctx)))
        {
            let mut copy = *slot;
            if mine {
                slot.tid = 0;
            }
            let said = if config::LIGHT.load() != 0 {
                without_exception(&mut copy, mine, tid)
            } else {
                Said::by(&copy, mine)
            };
            leave(ctx, &copy, said, tid, state != 0);
        }
    }
    if maps::any_inflight() {
        let next = config::tid_of(argument(ctx, 2) as *const u8);
        if next != 0 {
            enter(slot, next);
        }
    }
}

/// Whether the current thread is in a fault of user mode that no other program may have seen begin.
#[inline(always)]
fn seen_only_here(ctx: *mut c_void) -> bool {
    config::LIGHT.load() != 0
        && maps::scratch(room::SWITCH)
            .is_some_and(|scratch| registers::stack_entered_by_fault(ctx, &mut scratch.word))
}

/// What the slot says of the thread that leaves the CPU.
#[derive(Clone, Copy)]
struct Said {
    /// It is about this thread.
    mine: bool,
    /// It names a fault: `slot.what` is its kind.
    fault: bool,
    /// It has that fault's beginning.
    begun: bool,
    /// That fault began after whatever the thread's entry is about.
    another: bool,
}

impl Said {
    /// Where every fault's beginning is seen, the slot says it all.
    #[inline(always)]
    fn by(slot: &Slot, mine: bool) -> Self {
        let fault = mine && slot.what != what::MARK;
        Self {
            mine,
            fault,
            begun: fault,
            another: fault,
        }
    }
}

/// With `LIGHT`: makes of a copy of the slot what `page_fault_user` would have left there, as far as
/// it can be told.
#[inline(always)]
fn without_exception(slot: &mut Slot, mine: bool, tid: u32) -> Said {
    let completed = config::completed_faults();
    let begun = mine && slot.what != what::MARK && slot.completed == completed;
    if !begun {
        slot.what = what::MARK;
    }
    if !mine {
        slot.file_ns = 0;
    }
    if registers::entered_by_fault() {
        slot.what = what::USER;
    }
    Said {
        mine,
        fault: slot.what != what::MARK,
        begun,
        another: begun || fault::is_completed(tid, completed),
    }
}

/// The state in which the thread leaves the CPU; 0 if it stays runnable.
#[inline(always)]
fn leaving_state(ctx: *mut c_void) -> u32 {
    if argument(ctx, 0) & 1 != 0 {
        return 0;
    }
    if config::SWITCH_HAS_STATE.load() != 0 {
        argument(ctx, 3) as u32
    } else {
        member(argument(ctx, 1) as *const u8, &config::OFF_TASK_STATE)
    }
}

/// The thread leaves the CPU: is it in a fault?
#[inline(always)]
fn leave(ctx: *mut c_void, slot: &Slot, said: Said, tid: u32, asleep: bool) {
    let Some(scratch) = maps::scratch(room::SWITCH) else {
        return;
    };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let entry = if maps::any_inflight() {
        maps::inflight(tid)
    } else {
        None
    };
    let another = said.another;
    let expected = match &entry {
        Some(entry) if !another => kind_of(entry.flags),
        _ if said.fault => slot.what,
        _ => what::FILE,
    };
    let stack = stack::capture_kernel(ctx, scratch, expected, asleep);
    let still = match stack.at {
        Where::InFault => expected != what::FILE,
        Where::InGup => expected == what::FILE,
        _ => false,
    };
    let unseen = entry.is_none() && asleep && only_stack_tells(scratch, stack.at, expected);
    if let Some(entry) = entry {
        if entry.flags & flag::ENDING != 0 {
            return;
        }
        if !another && (still || stack.at == Where::Unknown) {
            went_on(entry, now);
            went_out(ctx, entry, scratch, stack, now, asleep);
            if asleep {
                go::note(entry);
            }
            return;
        }
        let dying = !another
            && match stack.at {
                Where::Dying => true,
                // Preempted before it has come to its end.
                Where::Leaving => config::is_doomed(),
                _ => false,
            };
        over(tid, slot, entry, another, dying, now);
    } else if said.mine && !still && !unseen {
        maps::count(counter::STALE_SLOTS);
    }
    // A fault that was already known is dealt with; is this the first sleep of another?
    if unseen || (still && said.fault) || (stack.at == Where::InGup && asleep) {
        let what = match stack.at {
            _ if unseen => what::UNSEEN,
            Where::InGup => what::FILE,
            _ => expected,
        };
        create(
            ctx,
            &Slot { what, ..*slot },
            said.begun,
            scratch,
            stack,
            now,
            asleep,
        );
    }
}

/// The stack shows the thread to be in a fault of user mode, and the slot names none.
#[inline(always)]
fn only_stack_tells(scratch: &Scratch, at: Where, expected: u32) -> bool {
    // Outside the handler the hypervisor may have the thread wait (kvm_async_pf_task_wait_schedule), without a fault.
    config::BEGINS_MAY_BE_SKIPPED.load() != 0
        && at == Where::InFault
        && stack::seen(&scratch.handled) != 0
        && expected == what::FILE
        && registers::entered_by_fault()
}

/// The thread leaves the CPU in the fault of its entry once more. If nothing told that it got the
/// CPU in between, the time since is counted as asleep.
#[inline(always)]
fn went_on(entry: &mut Inflight, now: u64) {
    if entry.in_ns == 0 {
        maps::count(counter::SWITCHES_UNSEEN);
        // What of it was a sleep, and what came after, is not known.
        slept(entry, now.saturating_sub(entry.out_ns), 0, 0);
    }
}

/// Counts a sleep, and keeps the longest: its kernel stack, where it lies, who ended it. `out_ns` is
/// 0 if not all of that was seen.
#[inline(always)]
fn slept(entry: &mut Inflight, slept_ns: u64, out_ns: u64, runqueue_ns: u64) {
    entry.blocked_ns += slept_ns;
    if slept_ns < entry.longest_sleep_ns {
        return;
    }
    entry.longest_sleep_ns = slept_ns;
    entry.longest_out_ns = out_ns;
    entry.longest_runqueue_ns = runqueue_ns;
    entry.longest_waker = entry.waker;
    if entry.last_kernel_stack != 0 {
        entry.kernel_stack = entry.last_kernel_stack;
    }
}

/// The thread leaves the CPU, but no longer in the fault of its entry. `another`: a later fault
/// began.
#[inline(always)]
fn over(tid: u32, slot: &Slot, entry: &mut Inflight, another: bool, dying: bool, now: u64) {
    let (end_ns, more) = if dying {
        (now, flag::DIED)
    } else if another || entry.in_ns == 0 {
        (fault::last_seen(entry), flag::APPROXIMATE_END)
    } else {
        (fault::last_known(slot, entry), flag::APPROXIMATE_END)
    };
    end::finish(tid, entry, end_ns, more);
}

/// What an entry with these flags is about: one of `maps::what`.
#[inline(always)]
pub fn kind_of(flags: u32) -> u32 {
    if flags & flag::GUP != 0 {
        what::FILE
    } else if flags & flag::KERNEL_MODE != 0 {
        what::KERNEL
    } else {
        what::USER
    }
}

/// What is known of a fault when its thread leaves the CPU for the first time: flags and beginning.
/// `known`: the slot was written for it.
#[inline(always)]
fn beginning(slot: &Slot, known: bool, now: u64) -> (u32, u64) {
    let file = match known && slot.file_ns != 0 {
        true if slot.read_ahead != 0 => flag::HAS_FILE | flag::READ_MARKED | flag::READ_AHEAD,
        true if config::OFF_TASK_READ_BYTES.load() != 0 => flag::HAS_FILE | flag::READ_MARKED,
        true => flag::HAS_FILE,
        false => 0,
    };
    match slot.what {
        what::KERNEL => (
            flag::KERNEL_MODE | config::address_flags() | file,
            slot.start_ns,
        ),
        what::UNSEEN => {
            let start_ns = if file != 0 { slot.file_ns } else { now };
            (flag::APPROXIMATE_START | flag::NO_ACCESS | file, start_ns)
        }
        what::FILE if file != 0 => (flag::GUP | file, slot.file_ns),
        what::FILE => (flag::GUP | flag::APPROXIMATE_START, now),
        _ if config::LIGHT.load() == 0 => (config::address_flags() | file, slot.start_ns),
        // Its address is looked for elsewhere.
        _ if known => (file, slot.start_ns),
        _ => (flag::APPROXIMATE_START, now),
    }
}

/// Makes the entry of a thread that leaves the CPU in a fault for the first time.
#[inline(always)]
fn create(
    ctx: *mut c_void,
    slot: &Slot,
    known: bool,
    scratch: &mut Scratch,
    stack: KernelStack,
    now: u64,
    asleep: bool,
) {
    let (tgid, tid) = current();
    let (flags, start_ns) = beginning(slot, known, now);
    let Some(entry) = maps::fresh() else {
        return;
    };
    *entry = Inflight {
        start_ns,
        address: slot.address,
        out_ns: now,
        wake_ns: 0,
        in_ns: 0,
        blocked_ns: 0,
        runqueue_ns: 0,
        longest_sleep_ns: 0,
        longest_out_ns: 0,
        longest_runqueue_ns: 0,
        kernel_stack: 0,
        last_kernel_stack: 0,
        user_stack: 0,
        stack_top: 0,
        inode: slot.inode,
        page_offset: slot.page_offset,
        device: slot.device,
        tgid,
        tid,
        error: slot.error,
        flags,
        switches: 0,
        sleeps: 0,
        maj_flt: config::majors(),
        syscall: if matches!(slot.what, what::USER | what::UNSEEN) {
            NO_SYSCALL
        } else {
            registers::system_call()
        },
        asleep: 0,
        completed: config::completed_faults(),
        read_bytes: slot.read_bytes,
        waker: Waker::UNKNOWN,
        longest_waker: Waker::UNKNOWN,
        comm: bpf_get_current_comm().unwrap_or_default(),
        goroutine: Goroutine::NONE,
    };
    without_exception_or_event(entry, slot.what);
    went_out(ctx, entry, scratch, stack, now, asleep);
    match INFLIGHT.insert(tid, &*entry, u64::from(BPF_NOEXIST)) {
        Ok(()) => {
            maps::inflight_changed(1);
            if asleep {
                go::note(entry);
            }
        }
        Err(error) => {
            held::forget(entry);
            no_room(tgid, tid, error);
        }
    }
}

#[inline(always)]
fn no_room(tgid: u32, tid: u32, error: i32) {
    maps::count(counter::INFLIGHT_FULL);
    warn!(
        tid,
        "no room for thread {} of process {} in a fault: error {}", tid, tgid, error
    );
}

/// Adds to an entry what takes the place of an exception, or of an event at the end, that is not seen.
#[inline(always)]
fn without_exception_or_event(entry: &mut Inflight, what: u32) {
    if entry.flags & flag::APPROXIMATE_START != 0 {
        maps::count(counter::BEGINS_UNSEEN);
    }
    let told = config::LIGHT.load() == 0 && config::BEGINS_BY_EVENT.load() == 0;
    if !told && matches!(what, what::USER | what::UNSEEN) {
        vmf::describe_current(entry);
    }
}

/// Notes that the thread leaves the CPU in its fault.
#[inline(always)]
fn went_out(
    ctx: *mut c_void,
    entry: &mut Inflight,
    scratch: &mut Scratch,
    stack: KernelStack,
    now: u64,
    asleep: bool,
) {
    entry.switches += 1;
    entry.in_ns = 0;
    entry.wake_ns = if asleep { 0 } else { now };
    entry.out_ns = now;
    entry.asleep = asleep as u32;
    entry.waker.kind = waker::UNKNOWN;
    if !asleep {
        return;
    }
    entry.sleeps += 1;
    if entry.flags & flag::READ_MARKED != 0 {
        let asked = config::read_bytes().wrapping_sub(entry.read_bytes);
        if asked != 0 {
            entry.flags |= flag::READ_STARTED;
            held::note(entry, asked);
        }
    }
    if registers::on_own_stack(ctx, &mut scratch.word)
        && registers::user_registers(current_task()).is_some()
    {
        entry.flags |= flag::CONTEXT_ON_STACK;
    } else {
        entry.flags &= !flag::CONTEXT_ON_STACK;
    }
    entry.last_kernel_stack = stack::kernel_stack_id(scratch, stack);
    if entry.flags & flag::USER_STACK_TRIED == 0 {
        entry.flags |= flag::USER_STACK_TRIED;
        entry.user_stack = stack::user_stack_id(ctx, scratch, entry.tgid);
        entry.stack_top = stack::user_stack_top();
    }
}

/// The thread `tid` gets this CPU.
#[inline(always)]
fn enter(slot: &mut Slot, tid: u32) {
    let Some(entry) = maps::inflight(tid) else {
        return;
    };
    if entry.flags & flag::ENDING != 0 {
        return;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let out = entry.out_ns;
    let mut woken = entry.wake_ns;
    if woken == 0 {
        // It was woken while it was still on its way out, so the wake-up found no entry.
        maps::count(counter::WAKES_UNSEEN);
        entry.flags |= flag::WAKE_UNSEEN;
        woken = now;
    }
    // Clocks of two CPUs may differ by a little; the parts must add up all the same.
    if woken < out {
        woken = out;
    }
    if woken > now {
        woken = now;
    }
    let runqueue_ns = now - woken;
    if entry.asleep != 0 {
        slept(entry, woken.saturating_sub(out), out, runqueue_ns);
    }
    entry.runqueue_ns += runqueue_ns;
    entry.in_ns = now;
    slot.tid = tid;
    slot.what = what::MARK;
    slot.file_ns = 0;
}

/// Tracepoint sched:sched_waking(task): somebody makes the thread runnable.
#[inline(always)]
pub fn waking(ctx: *mut c_void) {
    if !maps::any_inflight() {
        return;
    }
    let tid = config::tid_of(argument(ctx, 0) as *const u8);
    if let Some(entry) = maps::inflight(tid)
        && entry.wake_ns == 0
        && entry.in_ns == 0
    {
        // SAFETY: a helper without arguments.
        entry.wake_ns = unsafe { bpf_ktime_get_ns() };
        waking::note_waker(ctx, entry);
    }
}
