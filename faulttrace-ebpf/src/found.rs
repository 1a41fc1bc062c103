//! What a thread was stuck on before the programs were attached. No event tells it any more, but
//! its kernel stack holds the `struct vm_fault` that `__handle_mm_fault` keeps there, and at its top
//! the registers of user mode.
//!
//! An iterator over all tasks, run once, and only if there is such a thread.

use core::ffi::c_void;

use aya_ebpf::bindings::seq_file;
use aya_ebpf::helpers::generated::bpf_seq_write;
use faulttrace_ebpf::{Inflight, UserRegisters, flag};

use crate::config::{self, member};
use crate::maps;

/// How far below the registers a `struct vm_fault` is looked for, in words: the frames of a fault,
/// or of a system call and a fault in it.
const WORDS: u64 = 896;
/// Smallest page.
const PAGE: u64 = 4096;

/// `FAULT_FLAG_WRITE`, `FAULT_FLAG_INSTRUCTION` of include/linux/mm_types.h.
const FLAG_WRITE: u32 = 1;
const FLAG_INSTRUCTION: u32 = 1 << 8;
/// The same in an exception's error code (arch/x86/include/asm/trap_pf.h).
const ERROR_WRITE: u32 = 1 << 1;
const ERROR_INSTRUCTION: u32 = 1 << 4;

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
    let Some(registers) = config::user_registers(task) else {
        return;
    };
    let mm: u64 = member(task, &config::OFF_TASK_MM);
    search(registers as u64, mm, entry);
    let written = UserRegisters {
        tid,
        padding: 0,
        ip: member(registers, &config::OFF_REGS_IP),
        sp: member(registers, &config::OFF_REGS_SP),
        bp: member(registers, &config::OFF_REGS_BP),
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

/// From the outermost frame inwards, so that of faults within faults the one that counts is found.
#[inline(always)]
fn search(registers: u64, mm: u64, entry: &mut Inflight) {
    for word in 1..WORDS {
        let candidate = (registers - word * 8).wrapping_sub(config::OFF_VMF_VMA.load());
        if take(candidate as *const u8, mm, entry) {
            return;
        }
    }
}

/// Whether a `struct vm_fault` lies here: its first member must be a mapping of this very process,
/// and its address must lie in it.
#[inline(always)]
fn take(vmf: *const u8, mm: u64, entry: &mut Inflight) -> bool {
    let vma: u64 = member(vmf, &config::OFF_VMF_VMA);
    // Kernel pointers have the top bit set, and structures are aligned.
    if vma >> 63 == 0 || vma & 7 != 0 {
        return false;
    }
    let vma = vma as *const u8;
    let of: u64 = member(vma, &config::OFF_VMA_MM);
    if of != mm || mm == 0 {
        return false;
    }
    let address: u64 = member(vmf, &config::OFF_VMF_ADDRESS);
    let start: u64 = member(vma, &config::OFF_VMA_START);
    let end: u64 = member(vma, &config::OFF_VMA_END);
    if address < start || address >= end || !address.is_multiple_of(PAGE) {
        return false;
    }
    let exact: u64 = member(vmf, &config::OFF_VMF_REAL_ADDRESS);
    if exact & !(PAGE - 1) != address {
        return false;
    }
    let flags: u32 = member(vmf, &config::OFF_VMF_FLAGS);
    let file: u64 = member(vma, &config::OFF_VMA_FILE);
    entry.address = exact;
    entry.error = error_of(flags);
    entry.flags |= flag::HAS_ADDRESS;
    if file != 0 {
        let inode: u64 = member(file as *const u8, &config::OFF_FILE_INODE);
        (entry.inode, entry.device) = config::file_id(inode);
        entry.page_offset = member(vmf, &config::OFF_VMF_PGOFF);
        entry.flags |= flag::HAS_FILE;
    }
    true
}

#[inline(always)]
fn error_of(flags: u32) -> u32 {
    if flags & FLAG_INSTRUCTION != 0 {
        ERROR_INSTRUCTION
    } else if flags & FLAG_WRITE != 0 {
        ERROR_WRITE
    } else {
        0
    }
}
