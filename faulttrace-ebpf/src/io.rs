//! Reads that threads in a fault hand to block devices (`--io`), and what of them is told at the
//! fault's end. What devices do with them is in `device.rs`.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use faulttrace_ebpf::{FaultIo, Inflight, IoEvent, counter};

use crate::config::{self, current, member, traced};
use crate::device::{NOTHING, OP_MASK, OP_READ};
use crate::maps::{self, BIOS, Bio, EVENTS, FAULT_IO, Slot, room, what};
use crate::registers;
use crate::sched::kind_of;
use crate::stack::{self, Where};
use crate::{end, held};

/// `BIO_CLONED` of include/linux/blk_types.h: a part, or a copy for another device, of a read that was
/// queued before.
const CLONED: u16 = 1 << 1;

/// Tracepoint block:block_bio_queue([queue,] bio): the current thread wants something of a device.
#[inline(always)]
pub fn queued(ctx: *mut c_void) {
    let Some((bio, tid, fault)) = read_of_fault(ctx).or_else(|| held_read(ctx)) else {
        return;
    };
    let Some(io) = of_fault(tid, fault) else {
        maps::count(counter::IO_FULL);
        return;
    };
    let flags: u16 = member(bio as *const u8, &config::OFF_BIO_FLAGS);
    if flags & CLONED == 0 {
        let size: u32 = member(bio as *const u8, &config::OFF_BIO_SIZE);
        io.asked_bytes += u64::from(size);
    }
    if io.asked_device == 0 && config::BIO_HAS_BDEV.load() != 0 {
        let bdev: u64 = member(bio as *const u8, &config::OFF_BIO_BDEV);
        io.asked_device = member(bdev as *const u8, &config::OFF_BDEV_DEV);
    }
    let read = Bio {
        fault,
        // SAFETY: a helper without arguments.
        queued_ns: unsafe { bpf_ktime_get_ns() },
        tid,
        padding: 0,
    };
    remember(bio, &read);
}

/// Tracepoint block:block_split([queue,] bio, sector): what was queued is more than the device takes at
/// once. `bio` is its first part, the rest goes on under the name by which it was queued.
#[inline(always)]
pub fn split(ctx: *mut c_void) {
    if !maps::any_io() {
        return;
    }
    let Some(bio) = read(ctx) else { return };
    // `bio_chain` has just tied them together.
    let whole: u64 = member(bio as *const u8, &config::OFF_BIO_PRIVATE);
    // SAFETY: a value of a preallocated map; nobody takes out a read that is being split.
    let Some(whole) = BIOS.get_ptr_mut(whole).map(|whole| unsafe { &mut *whole }) else {
        return;
    };
    let Some(io) = maps::io_of(whole.tid, whole.fault) else {
        return;
    };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    if held::between_parts() {
        io.held_ns += now.saturating_sub(whole.queued_ns);
        whole.queued_ns = now;
    }
    remember(bio, whole);
}

/// The tracepoint's read, the thread, and which of its faults it is in.
#[inline(always)]
fn read_of_fault(ctx: *mut c_void) -> Option<(u64, u32, u64)> {
    let (tgid, tid) = current();
    if !traced(tgid, tid) {
        return None;
    }
    let bio = read(ctx)?;
    Some((bio, tid, present_fault(ctx, tid)?))
}

/// The same of a read that a limit held back until now.
#[inline(always)]
fn held_read(ctx: *mut c_void) -> Option<(u64, u32, u64)> {
    if !maps::any_io() {
        return None;
    }
    let bio = read(ctx)?;
    let (tid, fault) = held::handed_on(bio)?;
    Some((bio, tid, fault))
}

/// The tracepoint's bio, if that is a read.
#[inline(always)]
fn read(ctx: *mut c_void) -> Option<u64> {
    let index = usize::from(config::BIO_PASSES_QUEUE.load() != 0);
    let bio = config::argument_as_number(ctx, index)?;
    let operation: u32 = member(bio as *const u8, &config::OFF_BIO_OPF);
    if operation & OP_MASK != OP_READ {
        return None;
    }
    Some(bio)
}

/// What tells the fault that the current thread is in from its others; `None` if it is in none.
#[inline(always)]
fn present_fault(ctx: *mut c_void, tid: u32) -> Option<u64> {
    let slot = maps::slot()?;
    let scratch = maps::scratch(room::READ)?;
    // An interrupt works for others, whomever it has interrupted.
    if !registers::on_own_stack(ctx, &mut scratch.word) {
        return None;
    }
    let light = config::LIGHT.load() != 0;
    let by_exception = registers::entered_by_fault();
    let (expected, mut fault) = if slot.tid == tid && slot.what != what::MARK {
        (slot.what, name_of_slot(slot))
    } else if maps::any_inflight()
        && let Some(entry) = maps::inflight(tid)
    {
        (kind_of(entry.flags), name_of(entry))
    } else if light && by_exception {
        (what::USER, 0)
    } else {
        return None;
    };
    if light {
        fault = u64::from(config::completed_faults());
    }
    // Nothing may have told that the fault is over: then this is a system call's own read.
    if by_exception {
        let skipped = expected == what::FILE && config::BEGINS_MAY_BE_SKIPPED.load() != 0;
        return (expected == what::USER || light || skipped).then_some(fault);
    }
    if expected == what::USER {
        return None;
    }
    let stack = stack::unwind_kernel(ctx, scratch, expected);
    let still = match stack.at {
        Where::InFault => expected == what::KERNEL,
        Where::InGup => expected == what::FILE,
        _ => false,
    };
    still.then_some(fault)
}

/// What tells a fault from others of its thread: when it began, or with `LIGHT`, where that is not always
/// known, how many came before it.
#[inline(always)]
pub fn name_of_slot(slot: &Slot) -> u64 {
    if config::LIGHT.load() != 0 {
        u64::from(slot.completed)
    } else if slot.what == what::FILE {
        slot.file_ns
    } else {
        slot.start_ns
    }
}

/// The same of a fault that left the CPU.
#[inline(always)]
pub fn name_of(entry: &Inflight) -> u64 {
    if config::LIGHT.load() != 0 {
        u64::from(entry.completed)
    } else {
        entry.start_ns
    }
}

/// The numbers of a fault of the current thread, begun if there are none. `None`: no room.
#[inline(always)]
pub fn of_fault(tid: u32, fault: u64) -> Option<&'static mut FaultIo> {
    if maps::fault_io(tid).is_none() {
        let _ = FAULT_IO.insert(tid, &NOTHING, u64::from(BPF_NOEXIST));
    }
    let io = maps::fault_io(tid)?;
    if io.fault != fault {
        *io = FaultIo { fault, ..NOTHING };
    }
    Some(io)
}

/// Enters a read, so that it is found in its request.
#[inline(always)]
fn remember(bio: u64, read: &Bio) {
    match BIOS.insert(bio, read, u64::from(BPF_NOEXIST)) {
        Ok(()) => maps::io_changed(1),
        // Of one that the block layer gave up before it was in a request.
        Err(maps::EXISTS) => {
            let _ = BIOS.insert(bio, read, 0);
        }
        Err(_) => maps::count(counter::IO_FULL),
    }
}

/// Sends what was read for a fault, right before the fault itself; `start_ns` is how userspace knows
/// which.
#[inline(always)]
pub fn send(tid: u32, fault: u64, start_ns: u64, held_told: bool) {
    let Some(io) = maps::io_of(tid, fault) else {
        return;
    };
    // What is completed from here on is not its.
    io.fault = 0;
    // Of what was never handed on, as far as is known, no device has done anything.
    if io.asked_bytes == 0 {
        return;
    }
    let wake = end::wake_flags();
    let Some(mut record) = EVENTS.reserve::<IoEvent>(0) else {
        maps::count(counter::IO_LOST);
        return;
    };
    record.write(io.event(tid, start_ns, held_told));
    record.submit(wake);
}
