//! Captures stacks, stores each once under its hash, and tells from a kernel stack whether the
//! thread is in a fault.

use core::ffi::c_void;

use aya_ebpf::bindings::{BPF_F_USER_STACK, BPF_NOEXIST};
use aya_ebpf::helpers::{bpf_get_stack, bpf_probe_read_user};
use aya_log_ebpf::{debug, warn};
use faulttrace_ebpf::{MAX_FRAMES, STACK_SLOTS, counter};

use crate::config::{self, INTERRUPT_RANGES, LEAVE_RANGES};
use crate::known::{self, Extent};
use crate::maps::{self, STACKS, Scratch, what};
use crate::{frames, registers};

/// Where a kernel stack shows its thread to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// In a page fault of the kind asked for.
    InFault,
    /// In `handle_mm_fault` without an exception: `get_user_pages`.
    InGup,
    /// On the way back from a page fault of the kind asked for: signals, rescheduling.
    Leaving,
    /// Ending.
    Dying,
    /// Anywhere else: a fault that began before is over.
    Elsewhere,
    /// No stack to tell from.
    Unknown,
}

/// A kernel stack that was captured.
#[derive(Clone, Copy)]
pub struct KernelStack {
    pub at: Where,
    /// Frames; 0 = none.
    pub len: u32,
    /// Its id, if it is in `STACKS` already; 0 = it is in the scratch buffer.
    pub id: u64,
}

/// Captures the kernel stack and tells where it shows the thread to be. `kind` is what the slot says
/// the thread was doing (`maps::what`, or the mode of its entry).
#[inline(always)]
pub fn capture_kernel(
    ctx: *mut c_void,
    scratch: &mut Scratch,
    kind: u32,
    asleep: bool,
) -> KernelStack {
    maps::count(counter::STACK_CHECKS);
    let extent = if kind == what::USER && asleep {
        known::extent(ctx, &mut scratch.word)
    } else {
        Extent::NONE
    };
    if let Some((id, len)) = known::recognise(extent) {
        let at = Where::InFault;
        return KernelStack { at, len, id };
    }
    let stack = unwind_kernel(ctx, scratch, kind);
    if stack.at == Where::InFault {
        known::learn(extent, stack.len, hash_stack(stack.len, 0, scratch.room));
    }
    stack
}

/// Captures the kernel stack into the scratch buffer and places it.
#[inline(always)]
pub fn unwind_kernel(ctx: *mut c_void, scratch: &mut Scratch, kind: u32) -> KernelStack {
    let len = capture(ctx, scratch, 0);
    let at = if len == 0 {
        maps::count(counter::KERNEL_STACK_UNREADABLE);
        Where::Unknown
    } else {
        scan_stack(len, scratch.room);
        place(scratch, len, kind)
    };
    KernelStack { at, len, id: 0 }
}

/// Captures the user stack, stores it and returns its id; 0 if there is none.
#[inline(always)]
pub fn user_stack_id(ctx: *mut c_void, scratch: &mut Scratch, tgid: u32) -> u64 {
    let mut len = 0;
    if config::STACKS_BY_KERNEL.load() == 0 {
        len = frames::follow_frames(scratch.room);
    }
    if len == 0 {
        len = capture_user(ctx, scratch);
    }
    if len == 0 {
        return 0;
    }
    store(
        scratch,
        len,
        tgid,
        hash_stack(len, address_space(), scratch.room),
    )
}

/// Lets the kernel capture the user stack: of programs that are not of 64 bits, too.
#[inline(always)]
fn capture_user(ctx: *mut c_void, scratch: &mut Scratch) -> u32 {
    let len = capture(ctx, scratch, u64::from(BPF_F_USER_STACK));
    if len == 0 {
        maps::count(counter::USER_STACK_UNREADABLE);
    }
    len
}

/// What tells equal addresses of different address spaces apart: they mean the same code only within one.
#[inline(always)]
fn address_space() -> u64 {
    config::member(config::current_task(), &config::OFF_TASK_MM)
}

/// The word at the current thread's stack pointer in user mode, or what the register has in which a call
/// leaves where to return to; 0 if it cannot be read.
///
/// A function of its own, for the room that it takes on the stack of the programs.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn user_stack_top() -> u64 {
    let Some(registers) = registers::user_registers(config::current_task()) else {
        return 0;
    };
    if config::OFF_REGS_RETURN.load() != 0 {
        return registers::return_register(registers);
    }
    let sp: u64 = config::member(registers, &config::OFF_REGS_SP);
    // SAFETY: the helper accepts any address and fails on a bad one, or one that is not in memory.
    unsafe { bpf_probe_read_user(sp as *const u64) }.unwrap_or(0)
}

/// Stores the kernel stack, if that is to be done, and returns its id.
#[inline(always)]
pub fn kernel_stack_id(scratch: &mut Scratch, stack: KernelStack) -> u64 {
    if stack.len == 0 || stack.id != 0 {
        stack.id
    } else {
        store(
            scratch,
            stack.len,
            0,
            hash_stack(stack.len, 0, scratch.room),
        )
    }
}

/// Captures a kernel stack that needs no placing and returns its id.
#[inline(always)]
pub fn plain_kernel_stack_id(ctx: *mut c_void, scratch: &mut Scratch) -> u64 {
    let len = capture(ctx, scratch, 0);
    if len == 0 {
        0
    } else {
        store(scratch, len, 0, hash_stack(len, 0, scratch.room))
    }
}

#[inline(always)]
fn capture(ctx: *mut c_void, scratch: &mut Scratch, flags: u64) -> u32 {
    capture_into(ctx, &mut scratch.stack.frames, flags)
}

/// Captures a stack into a map value. Returns the number of frames; 0 = none.
#[inline(always)]
pub fn capture_into(ctx: *mut c_void, frames: &mut [u64; STACK_SLOTS], flags: u64) -> u32 {
    let size = (MAX_FRAMES * 8) as u32;
    // SAFETY: `frames` is a map value with room for `size` bytes.
    let bytes = unsafe { bpf_get_stack(ctx, frames.as_mut_ptr().cast(), size, flags) };
    if bytes <= 0 {
        0
    } else {
        ((bytes as u64 / 8) & (STACK_SLOTS as u64 - 1)) as u32
    }
}

/// Notes which of the interesting functions the stack in the scratch buffer passes.
///
/// A function of its own with global linkage: the verifier checks it once by itself, and not again on
/// every path that leads to it (kernel commit 51c39bb1d5d1, 5.6). Inlined, this loop alone takes half
/// a second to verify.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scan_stack(len: u32, room: u32) -> u32 {
    let Some(scratch) = maps::scratch(room) else {
        return 0;
    };
    let entry = (config::ENTRY_LO.load(), config::ENTRY_HI.load());
    let handle = (config::HANDLE_LO.load(), config::HANDLE_HI.load());
    let death = (config::DEATH_LO.load(), config::DEATH_HI.load());
    scratch.entry = 0;
    scratch.handled = 0;
    scratch.death = 0;
    let mut index = 0;
    while index < MAX_FRAMES {
        if index >= len as usize {
            break;
        }
        let address = scratch.stack.frames[index];
        if within(address, entry) && seen(&scratch.entry) == 0 {
            note(&mut scratch.entry, index as u64 + 1);
        }
        if within(address, handle) {
            note(&mut scratch.handled, 1);
        }
        if within(address, death) {
            note(&mut scratch.death, 1);
        }
        index += 1;
    }
    1
}

/// Reads what is in memory at this moment. Of a result of a loop over a stack, that keeps it there, where the verifier
/// does not follow each of its values on a path of its own.
#[inline(always)]
pub fn seen<T: Copy>(field: &T) -> T {
    // SAFETY: a valid reference.
    unsafe { core::ptr::read_volatile(field) }
}

/// Writes to memory at this moment, in the order of such writes; see [`seen`].
#[inline(always)]
pub fn note<T: Copy>(field: &mut T, value: T) {
    // SAFETY: a valid reference.
    unsafe { core::ptr::write_volatile(field, value) }
}

#[inline(always)]
pub fn within(address: u64, range: (u64, u64)) -> bool {
    address >= range.0 && address < range.1
}

#[inline(always)]
fn place(scratch: &Scratch, len: u32, kind: u32) -> Where {
    let (entry, handled, death) = (
        seen(&scratch.entry),
        seen(&scratch.handled),
        seen(&scratch.death),
    );
    if death != 0 {
        return Where::Dying;
    }
    if entry == 0 {
        if handled != 0 {
            return Where::InGup;
        }
        if len as usize >= MAX_FRAMES && kind == what::USER {
            // The entry is the outermost frame and the stack was cut before it.
            maps::count(counter::KERNEL_STACK_TRUNCATED);
            warn!(len, "a kernel stack has more than {} frames", len);
            return Where::Unknown;
        }
        return Where::Elsewhere;
    }
    // A fault of user mode is entered from nowhere: outside its entry there is next to nothing.
    if kind == what::USER && entry + config::ENTRY_OUTER.load() < u64::from(len) {
        return Where::Elsewhere;
    }
    if left(&scratch.stack.frames, entry) {
        return Where::Leaving;
    }
    Where::InFault
}

/// Whether what was entered at frame `entry`, counted from 1, is over: what runs is on the way back
/// from it (signals, rescheduling).
#[inline(always)]
pub fn left(frames: &[u64; STACK_SLOTS], entry: u64) -> bool {
    let mut inwards = 2;
    while inwards <= 4 && inwards <= entry {
        let address = frames[(entry - inwards) as usize & (STACK_SLOTS - 1)];
        if is_leaving(address) != 0 {
            return true;
        }
        // It leaves an interrupt that came in between, and that preempts the thread.
        if in_interrupt(address) != 0 {
            return false;
        }
        inwards += 1;
    }
    false
}

/// Whether an address is in one of the functions that run after a fault. See [`scan_stack`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn is_leaving(address: u64) -> u32 {
    let mut range = 0;
    while range < LEAVE_RANGES {
        if within(address, (config::leave(range, 0), config::leave(range, 1))) {
            return 1;
        }
        range += 1;
    }
    0
}

/// Whether an address is in the entry code of an interrupt, or in a softirq: in one of the ranges, which ascend. See
/// [`scan_stack`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn in_interrupt(address: u64) -> u32 {
    let mut range = 0;
    while range < INTERRUPT_RANGES {
        let (start, end) = config::interrupt(range);
        if end == 0 || address < start {
            return 0;
        }
        if address < end {
            return 1;
        }
        range += 1;
    }
    0
}

/// Stores a stack under its hash, once. Returns that as its id, or 0 if there is no room.
#[inline(always)]
fn store(scratch: &mut Scratch, len: u32, tgid: u32, id: u64) -> u64 {
    if STACKS.get_ptr(id).is_some() {
        return id;
    }
    scratch.stack.len = len;
    scratch.stack.tgid = tgid;
    // Another CPU may have been first with the same stack.
    match STACKS.insert(id, &scratch.stack, u64::from(BPF_NOEXIST)) {
        Ok(()) | Err(maps::EXISTS) => id,
        Err(_) => {
            maps::count(counter::STACKS_FULL);
            debug!(tgid, "no room for another stack of process {}", tgid);
            0
        }
    }
}

/// A hash of the stack in this room of `maps::scratch`, never 0. See [`scan_stack`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hash_stack(len: u32, seed: u64, room: u32) -> u64 {
    let Some(scratch) = maps::scratch(room) else {
        return 1;
    };
    let mut hash = SEED ^ seed;
    let mut index = 0;
    while index < MAX_FRAMES {
        if index >= len as usize {
            break;
        }
        hash = mixed(hash, scratch.stack.frames[index]);
        index += 1;
    }
    if hash == 0 { 1 } else { hash }
}

/// What a hash of addresses begins with.
pub const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash with one more address in it.
#[inline(always)]
pub fn mixed(hash: u64, address: u64) -> u64 {
    let hash = (hash ^ address).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ hash >> 32
}
