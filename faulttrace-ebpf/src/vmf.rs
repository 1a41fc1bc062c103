//! The `struct vm_fault` that the kernel keeps on a thread's stack while it handles a fault:
//! address, kind of access, mapping. `__handle_mm_fault` makes it (mm/memory.c).

use aya_ebpf::Global;
use aya_ebpf::helpers::bpf_probe_read_kernel_buf;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use faulttrace_ebpf::{Inflight, STACK_SLOTS, flag};

use crate::config::{self, current_task, member};
use crate::maps::{self, room};
use crate::registers;
use crate::stack::{note, seen};

/// How far below the registers of user mode it is looked for, in words: the frames of a fault, or of
/// a system call and a fault in it.
const WORDS: u64 = 896;
/// Bytes of a page.
const PAGE: u64 = 4096;

/// `FAULT_FLAG_WRITE`, `FAULT_FLAG_INSTRUCTION` of include/linux/mm_types.h.
const FLAG_WRITE: u32 = 1;
const FLAG_INSTRUCTION: u32 = 1 << 8;
/// The same in an exception's error code (arch/x86/include/asm/trap_pf.h).
const ERROR_WRITE: u32 = 1 << 1;
const ERROR_INSTRUCTION: u32 = 1 << 4;

/// Where [`search`] found it, in words below the registers.
#[map]
static VM_FAULT_FOUND: Array<u64> = Array::with_max_entries(1, 0);

/// Looks for the fault of a task that sleeps in one, whose registers of user mode lie at
/// `registers`, and enters it. From the outermost frame inwards, so that of faults within faults the
/// one that counts is found.
#[inline(always)]
pub fn search(registers: u64, mm: u64, entry: &mut Inflight) {
    let Some(found) = VM_FAULT_FOUND.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the value lives as long as the map, and the iterator runs once.
    let found = unsafe { &mut *found };
    // In memory of a map, so that the verifier follows what comes after the loop once, and not for each
    // word: up to Linux 6.1 that is more than it takes on.
    note(found, 0);
    for word in 1..WORDS {
        if mapping_of(at(registers - word * 8), mm).is_some() {
            note(found, word);
            break;
        }
    }
    let word = seen(found);
    if word == 0 {
        return;
    }
    let vmf = at(registers - word * 8);
    if let Some(vma) = mapping_of(vmf, mm) {
        enter(vmf, vma, entry);
    }
}

/// Notes where faults of user mode keep theirs, from one that the current thread is in, on the page
/// at this offset of a file. The frames between are the same each time; on arm64, for all faults on pages
/// that are not mapped (arch/arm64/mm/fault.c, do_translation_fault).
#[inline(always)]
pub fn learn(page_offset: u64) {
    let (Some(below), Some(scratch)) = (maps::vm_fault_below(), maps::scratch(room::FILE)) else {
        return;
    };
    if *below != 0 || !registers::entered_by_fault() {
        return;
    }
    let Some(registers) = registers::user_registers(current_task()) else {
        return;
    };
    let words = &mut scratch.stack.frames;
    let lowest = (registers as u64).wrapping_sub((STACK_SLOTS * 8) as u64);
    // SAFETY: `words` is a map value of this size; the helper accepts any source and fails on a bad
    // one.
    let failed = unsafe {
        bpf_probe_read_kernel_buf(
            lowest as *const u8,
            core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), STACK_SLOTS * 8),
        )
    };
    if failed.is_err() {
        return;
    }
    let mut index = 0;
    while index < STACK_SLOTS {
        if is_vm_fault(words, index, page_offset) {
            // In memory, so that the verifier need not follow each position on its own.
            // SAFETY: a valid reference.
            unsafe {
                core::ptr::write_volatile(&mut *below, ((STACK_SLOTS - index) * 8) as u64);
            }
        }
        index += 1;
    }
}

/// Whether these words of a stack are, from `index` on, a `struct vm_fault` on the page at this
/// offset of a file.
#[inline(always)]
fn is_vm_fault(words: &[u64; STACK_SLOTS], index: usize, page_offset: u64) -> bool {
    let member = |offset: &Global<u64>| {
        let away = offset.load().wrapping_sub(config::OFF_VMF_VMA.load()) / 8;
        words[(index + away as usize) & (STACK_SLOTS - 1)]
    };
    let address = member(&config::OFF_VMF_ADDRESS);
    words[index] >> 63 != 0
        && words[index] & 7 == 0
        && address != 0
        && address >> 63 == 0
        && address.is_multiple_of(PAGE)
        && member(&config::OFF_VMF_REAL_ADDRESS) & !(PAGE - 1) == address
        && member(&config::OFF_VMF_PGOFF) == page_offset
}

/// Enters the fault of user mode that the current thread is in, if it keeps a `struct vm_fault`
/// where others do: those that wait for `mmap_lock` have none yet.
#[inline(always)]
pub fn describe_current(entry: &mut Inflight) {
    let below = maps::vm_fault_below().map_or(0, |below| *below);
    let Some(registers) = registers::user_registers(current_task()) else {
        return;
    };
    let mm: u64 = member(current_task(), &config::OFF_TASK_MM);
    let vmf = at(registers as u64 - below);
    if below != 0
        && let Some(vma) = mapping_of(vmf, mm)
        && is_its(vmf, entry)
    {
        enter(vmf, vma, entry);
    }
}

/// Whether it is about the fault of the entry, as far as that tells: who waits for `mmap_lock` has none
/// yet, and that of an earlier fault may still lie there.
#[inline(always)]
fn is_its(vmf: *const u8, entry: &Inflight) -> bool {
    let address: u64 = member(vmf, &config::OFF_VMF_ADDRESS);
    entry.flags & flag::HAS_ADDRESS == 0 || entry.address & !(PAGE - 1) == address
}

/// The `struct vm_fault` whose pointer to a mapping lies at `address`.
#[inline(always)]
fn at(address: u64) -> *const u8 {
    address.wrapping_sub(config::OFF_VMF_VMA.load()) as *const u8
}

/// The mapping of a `struct vm_fault`, if one lies here: its first member must be a mapping of this
/// very process, and its address must lie in it.
#[inline(always)]
fn mapping_of(vmf: *const u8, mm: u64) -> Option<*const u8> {
    let vma = vm_fault_mapping(vmf as u64, mm);
    (vma != 0).then_some(vma as *const u8)
}

/// The address of that mapping, or 0. A function of its own with global linkage: the verifier follows it once
/// (kernel commit 51c39bb1d5d1, 5.6), and not for each word of a stack.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn vm_fault_mapping(vmf: u64, mm: u64) -> u64 {
    let vmf = vmf as *const u8;
    let vma: u64 = member(vmf, &config::OFF_VMF_VMA);
    // Kernel pointers have the top bit set, and structures are aligned.
    if vma >> 63 == 0 || vma & 7 != 0 {
        return 0;
    }
    let vma = vma as *const u8;
    let of: u64 = member(vma, &config::OFF_VMA_MM);
    if of != mm || mm == 0 {
        return 0;
    }
    let address: u64 = member(vmf, &config::OFF_VMF_ADDRESS);
    let start: u64 = member(vma, &config::OFF_VMA_START);
    let end: u64 = member(vma, &config::OFF_VMA_END);
    let exact: u64 = member(vmf, &config::OFF_VMF_REAL_ADDRESS);
    let fits = address >= start
        && address < end
        && address.is_multiple_of(PAGE)
        && exact & !(PAGE - 1) == address;
    if fits { vma as u64 } else { 0 }
}

#[inline(always)]
fn enter(vmf: *const u8, vma: *const u8, entry: &mut Inflight) {
    let flags: u32 = member(vmf, &config::OFF_VMF_FLAGS);
    let file: u64 = member(vma, &config::OFF_VMA_FILE);
    // Of an event, exact to the byte on every kernel.
    if config::BEGINS_BY_EVENT.load() == 0 || entry.flags & flag::HAS_ADDRESS == 0 {
        entry.address = member(vmf, &config::OFF_VMF_REAL_ADDRESS);
    }
    entry.error = error_of(flags);
    entry.flags |= flag::HAS_ADDRESS;
    entry.flags &= !flag::NO_ACCESS;
    if file != 0 && entry.flags & flag::HAS_FILE == 0 {
        let inode: u64 = member(file as *const u8, &config::OFF_FILE_INODE);
        (entry.inode, entry.device) = config::file_id(inode);
        entry.page_offset = member(vmf, &config::OFF_VMF_PGOFF);
        entry.flags |= flag::HAS_FILE;
    }
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
