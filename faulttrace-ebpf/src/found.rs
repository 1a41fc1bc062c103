//! What a thread was stuck on before the programs were attached. No event tells it any more, but
//! its kernel stack holds the `struct vm_fault` that `__handle_mm_fault` keeps there, and at its top
//! the registers of user mode.
//!
//! An iterator over all tasks, run once, and only if there is such a thread.

use core::ffi::c_void;

use aya_ebpf::Global;
use aya_ebpf::bindings::seq_file;
use aya_ebpf::helpers::generated::bpf_seq_write;
use faulttrace_ebpf::{UserRegisters, flag};

use crate::config::{self, member};
use crate::registers;
use crate::{maps, vmf};

/// The context of an iterator over tasks (kernel/bpf/task_iter.c, `bpf_iter__task`).
#[repr(C)]
struct Context {
    meta: *const Meta,
    task: *const u8,
}

/// `struct bpf_iter_meta`.
#[repr(C)]
struct Meta {
    output: *mut seq_file,
}

/// A member that this kernel may not have.
#[inline(always)]
fn known(base: *const u8, offset: &Global<u64>) -> u64 {
    if offset.load() == 0 {
        0
    } else {
        member(base, offset)
    }
}

/// One task; the last call has none.
#[inline(always)]
pub fn task(ctx: *mut c_void) {
    let ctx = ctx.cast::<Context>();
    // SAFETY: the kernel passes this structure to programs of this kind.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task) };
    if task.is_null() {
        return;
    }
    let tid = config::tid_of(task);
    let Some(entry) = maps::inflight(tid) else {
        return;
    };
    if entry.flags & (flag::NO_START | flag::HAS_ADDRESS) != flag::NO_START {
        return;
    }
    let Some(registers) = registers::user_registers(task) else {
        return;
    };
    let mm: u64 = member(task, &config::OFF_TASK_MM);
    vmf::search(registers as u64, mm, entry);
    let written = UserRegisters {
        tid,
        padding: 0,
        ip: member(registers, &config::OFF_REGS_IP),
        sp: member(registers, &config::OFF_REGS_SP),
        bp: member(registers, &config::OFF_REGS_BP),
        returns_to: registers::return_register(registers),
        thread_pointer: known(task, &config::OFF_TASK_THREAD_POINTER),
        g: known(registers, &config::OFF_REGS_G),
    };
    // SAFETY: the output belongs to the iterator; what is written lives on this stack. A full
    // output is retried by the kernel, with a larger buffer.
    unsafe {
        bpf_seq_write(
            (*meta).output,
            (&raw const written).cast(),
            size_of::<UserRegisters>() as u32,
        );
    }
}
