//! The registers of user mode at the top of a task's kernel stack, and what they tell: by which way the
//! kernel was entered, in which system call a task is, where its program goes on.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_probe_read_kernel;
use faulttrace_ebpf::{CODE_ADDRESS, NO_SYSCALL};

use crate::config::{
    ENTRY_BELOW_REGS, ENTRY_HI, ENTRY_LO, OFF_REGS_IP, OFF_REGS_MODE, OFF_REGS_RETURN,
    OFF_REGS_SYSCALL, OFF_TASK_MM, OFF_TASK_STACK, REGS_MODE_MASK, REGS_MODE_USER, SIZE_STACK,
    USER_REGS, current_task, member,
};

/// Number of the system call that the current thread is in, or `NO_SYSCALL`. Only for a thread of a
/// process that is traced; see [`own_system_call`].
#[inline(always)]
pub fn system_call() -> u32 {
    let Some(registers) = user_registers(current_task()) else {
        return NO_SYSCALL;
    };
    // 32 bits count (x86: arch/x86/entry/common.c, arm64: `pt_regs.syscallno`). An exception leaves -1,
    // which is NO_SYSCALL.
    member(registers, &OFF_REGS_SYSCALL)
}

/// The system call that the current task itself is in, whatever task that may be. Threads of the kernel
/// have no registers of user mode; those that a system call made to work for it in the kernel alone
/// (io_uring, vhost) have a copy of their maker's without an address to return to
/// (arch/x86/kernel/process.c, copy_thread).
#[inline(always)]
pub fn own_system_call() -> u32 {
    let ip: u64 =
        user_registers(current_task()).map_or(0, |registers| member(registers, &OFF_REGS_IP));
    if ip == 0 { NO_SYSCALL } else { system_call() }
}

/// Whether the current task has no memory of its own and borrows none.
#[inline(always)]
pub fn is_kernel_thread() -> bool {
    let mm: u64 = member(current_task(), &OFF_TASK_MM);
    mm == 0
}

/// Whether the program runs on the current task's own kernel stack, judged by its context, which the
/// kernel keeps on the stack (kernel/trace/bpf_trace.c, bpf_trace_run1 and on). `word` is memory of a
/// map.
#[inline(always)]
pub fn on_own_stack(ctx: *mut c_void, word: &mut u64) -> bool {
    let address = number_of(ctx, word);
    let stack: u64 = member(current_task(), &OFF_TASK_STACK);
    address.wrapping_sub(stack) < SIZE_STACK.load()
}

/// Where the current task's work in the kernel returns to at its end: the address under its registers
/// of user mode.
#[inline(always)]
pub fn entered_from() -> Option<u64> {
    let below = user_registers(current_task())?.wrapping_sub(8);
    // SAFETY: bpf_probe_read_kernel accepts any address and fails on a bad one.
    unsafe { bpf_probe_read_kernel(below.cast()) }.ok()
}

/// Whether the current task entered the kernel from user mode by a page fault. Only for a task that
/// is not a kernel thread.
#[inline(always)]
pub fn entered_by_fault() -> bool {
    if ENTRY_BELOW_REGS.load() == 0 {
        // Another exception, or an interrupt, will do: who asks knows of a fault that may be over.
        return system_call() == NO_SYSCALL;
    }
    let stack: u64 = member(current_task(), &OFF_TASK_STACK);
    entry_is_fault(stack + USER_REGS.load())
}

/// The same where the program is known to run on the task's own stack (see [`on_own_stack`]), which
/// the context then tells for less: stacks are aligned to their size.
#[inline(always)]
pub fn stack_entered_by_fault(ctx: *mut c_void, word: &mut u64) -> bool {
    entry_is_fault(top_of_stack(number_of(ctx, word)))
}

/// Where the registers of user mode lie on the kernel stack that has this address in it: stacks are
/// aligned to their size.
#[inline(always)]
pub fn top_of_stack(address: u64) -> u64 {
    (address & !(SIZE_STACK.load() - 1)) + USER_REGS.load()
}

/// Whether a page fault left these registers of user mode.
#[inline(always)]
fn entry_is_fault(registers: u64) -> bool {
    let below = registers.wrapping_sub(8);
    // SAFETY: bpf_probe_read_kernel accepts any address and fails on a bad one.
    let from: u64 = unsafe { bpf_probe_read_kernel(below as *const u64) }.unwrap_or_default();
    from >= ENTRY_LO.load() && from < ENTRY_HI.load()
}

/// A pointer as a number, which the verifier allows only by way of a map's memory: `word`.
#[inline(always)]
pub fn number_of(ctx: *mut c_void, word: &mut u64) -> u64 {
    // SAFETY: a valid reference to an aligned word, as large as a pointer.
    unsafe {
        core::ptr::write_volatile((&raw mut *word).cast(), ctx);
        core::ptr::read_volatile(word)
    }
}

/// The registers of 64-bit user mode, at the top of a task's kernel stack.
#[inline(always)]
pub fn user_registers(task: *const u8) -> Option<*const u8> {
    let stack: u64 = member(task, &OFF_TASK_STACK);
    let registers = (stack + USER_REGS.load()) as *const u8;
    let mode: u64 = member(registers, &OFF_REGS_MODE);
    (mode & REGS_MODE_MASK.load() == REGS_MODE_USER.load()).then_some(registers)
}

/// Where the innermost function of user mode returns to, if a register holds that; else 0.
#[inline(always)]
pub fn return_register(registers: *const u8) -> u64 {
    if OFF_REGS_RETURN.load() == 0 {
        return 0;
    }
    without_signature(member(registers, &OFF_REGS_RETURN))
}

/// A code address without the signature that it may have (arm64).
#[inline(always)]
pub fn without_signature(address: u64) -> u64 {
    if cfg!(bpf_target_arch = "aarch64") {
        address & CODE_ADDRESS
    } else {
        address
    }
}
