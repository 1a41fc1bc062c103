//! Who wakes a thread that sleeps in a fault: the current task, or an interrupt that only found it
//! running.
//!
//! Asked for threads in a fault alone, so that all other wake-ups stay cheap.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use faulttrace_ebpf::{Inflight, MAX_FRAMES, STACK_SLOTS, counter, flag, waker};

use crate::config::{self, OUTERMOST_RANGES, current};
use crate::maps;
use crate::registers;
use crate::stack::{self, in_interrupt, within};

/// Notes who is waking the thread of this entry right now.
#[inline(always)]
pub fn note_waker(ctx: *mut c_void, entry: &mut Inflight) {
    let kind = kind(ctx, entry.flags & flag::CONTEXT_ON_STACK != 0);
    let to = &mut entry.waker;
    if kind == waker::TASK {
        (to.tgid, to.tid) = current();
        to.comm = bpf_get_current_comm().unwrap_or_default();
        to.syscall = registers::own_system_call();
    } else if kind == waker::UNKNOWN {
        maps::count(counter::WAKERS_UNKNOWN);
    }
    to.kind = kind;
}

/// `context_tells`: on which stack the context lies can be believed.
#[inline(always)]
fn kind(ctx: *mut c_void, context_tells: bool) -> u32 {
    // Only interrupts make the idle task wake anybody. This is its id in every namespace.
    if bpf_get_current_pid_tgid() as u32 == 0 {
        return waker::INTERRUPT;
    }
    let Some(scratch) = maps::waker_scratch() else {
        return waker::UNKNOWN;
    };
    // To walk along the stack takes microseconds, so first what can be told without.
    if context_tells {
        // Interrupts of the kernel, and softirqs, have a stack of their own.
        if !registers::on_own_stack(ctx, &mut scratch.word) {
            return waker::INTERRUPT;
        }
        if config::SOFTIRQS_APART.load() != 0 {
            if let Some(address) = registers::entered_from()
                && begins_work(address)
            {
                return waker::TASK;
            }
            if registers::is_kernel_thread() {
                return kind_of_kernel_thread();
            }
        }
    }
    if config::interrupt(0).1 == 0 {
        return waker::UNKNOWN;
    }
    let len = stack::capture_into(ctx, &mut scratch.frames, 0);
    judge(&scratch.frames, len)
}

/// Of a kernel thread that is on its own stack: its own work, but what interrupts left to ksoftirqd,
/// which does that on its own stack (kernel/softirq.c, run_ksoftirqd).
#[inline(always)]
fn kind_of_kernel_thread() -> u32 {
    let name = bpf_get_current_comm().unwrap_or_default();
    if name.first_chunk() == Some(b"ksoftirq") {
        waker::INTERRUPT
    } else {
        waker::TASK
    }
}

/// Tells from a stack whose work it is. A task's only if all of it was captured: the entry of an
/// interrupt may be in what is missing.
#[inline(always)]
fn judge(frames: &[u64; STACK_SLOTS], len: u32) -> u32 {
    let entry = innermost_interrupt(frames, len);
    // What follows an interrupt on the way back to user mode is the task's own work.
    if entry != 0 && !stack::left(frames, entry) {
        return waker::INTERRUPT;
    }
    if entry != 0 || is_whole(frames, len) {
        waker::TASK
    } else {
        waker::UNKNOWN
    }
}

/// 1 + index of the innermost frame in an interrupt's entry or a softirq; 0 = none.
#[inline(always)]
fn innermost_interrupt(frames: &[u64; STACK_SLOTS], len: u32) -> u64 {
    let mut index = 0;
    while index < MAX_FRAMES {
        if index >= len as usize {
            break;
        }
        if in_interrupt(frames[index]) != 0 {
            return index as u64 + 1;
        }
        index += 1;
    }
    0
}

/// Whether the outermost frame is one where the work of a task begins.
#[inline(always)]
fn is_whole(frames: &[u64; STACK_SLOTS], len: u32) -> bool {
    let outermost = (len as usize).wrapping_sub(1) & (STACK_SLOTS - 1);
    len != 0 && begins_work(frames[outermost])
}

/// Whether an address is in a system call's or an exception's entry, or where a new thread begins.
#[inline(always)]
fn begins_work(address: u64) -> bool {
    let mut range = 0;
    while range < OUTERMOST_RANGES {
        if within(address, config::outermost(range)) {
            return true;
        }
        range += 1;
    }
    false
}
