//! What userspace sets before it loads the programs: whom to trace, member offsets of this
//! kernel's structures (from its BTF), address ranges of its functions (from kallsyms).
//!
//! They live in `.rodata`, so the verifier knows their values and drops the branches not taken.

use core::ffi::c_void;

use aya_ebpf::Global;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_probe_read_kernel};
use faulttrace_ebpf::{filter, flag};

use crate::maps;

macro_rules! globals {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $value:expr;)*) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub static $name: Global<$type> = Global::new($value);
    )*};
}

globals! {
    /// One of `faulttrace_ebpf::filter`.
    FILTER: u32 = filter::ONE;
    /// The process of `filter::ONE`.
    TARGET_TGID: u32 = 0;
    /// The tracer, never traced with `filter::ALL`.
    SELF_TGID: u32 = 0;
    /// Whether map `TIDS` holds anything (`filter::SET`).
    HAS_TIDS: u32 = 0;
    /// Whether children of traced processes are added (`filter::SET`).
    FOLLOW: u32 = 0;
    /// Whether processes are added by name (`filter::SET`).
    MATCH_COMM: u32 = 0;
    /// Bit i: a `*` stands after i atoms of the name pattern.
    COMM_STAR: u32 = 0;
    /// Bit n: the pattern has n atoms.
    COMM_ACCEPT: u32 = 0;
    /// Shorter major faults are counted, not sent.
    MIN_DURATION_NS: u64 = 0;
    /// Shorter minor faults likewise.
    MIN_MINOR_NS: u64 = 0;
    /// User addresses are below.
    TASK_SIZE: u64 = 0;
    /// Bytes in the ring above which its reader is woken at once.
    WAKE_BYTES: u64 = 0;

    /// No program looks at each fault: what `page_fault_user` would tell is inferred.
    LIGHT: u32 = 0;
    /// The perf event of every fault tells its beginning, but not what kind of access it was.
    BEGINS_BY_EVENT: u32 = 0;

    /// All stacks are unwound by the kernel: none is recognised, nor followed by its frame pointers.
    STACKS_BY_KERNEL: u32 = 0;
    /// What happens to the pages of files is remembered.
    EVICTIONS: u32 = 0;
    /// How many entries map `PAGES` holds before it may forget some.
    PAGES_KEPT: u64 = 0;
    /// The program `filemap::async_readahead` is there.
    READ_AHEAD_TOLD: u32 = 0;
    /// Reads that faults begin are followed to their devices.
    IO: u32 = 0;

    /// Inode number of the pid namespace whose ids are used; 0 = the host's.
    PID_NAMESPACE: u32 = 0;

    /// `struct task_struct`.
    OFF_TASK_PID: u64 = 0;
    OFF_TASK_TGID: u64 = 0;
    OFF_TASK_MM: u64 = 0;
    OFF_TASK_COMM: u64 = 0;
    OFF_TASK_MAJ_FLT: u64 = 0;
    OFF_TASK_MIN_FLT: u64 = 0;
    OFF_TASK_START_TIME: u64 = 0;
    OFF_TASK_PAGEFAULT_DISABLED: u64 = 0;
    OFF_TASK_SIGNAL: u64 = 0;
    /// `__state`, or `state` before kernel commit 2f064a59a11f (5.14).
    OFF_TASK_STATE: u64 = 0;
    /// `ioac.read_bytes`; 0 = not known.
    OFF_TASK_READ_BYTES: u64 = 0;
    OFF_TASK_THREAD_PID: u64 = 0;
    OFF_TASK_GROUP_LEADER: u64 = 0;
    /// `struct pid`, `struct upid`, `struct pid_namespace`.
    OFF_PID_LEVEL: u64 = 0;
    OFF_PID_NUMBERS: u64 = 0;
    SIZE_UPID: u64 = 0;
    OFF_UPID_NR: u64 = 0;
    OFF_UPID_NS: u64 = 0;
    OFF_NAMESPACE_INUM: u64 = 0;
    OFF_TASK_STACK: u64 = 0;
    /// Size of a kernel stack.
    SIZE_STACK: u64 = 0;
    /// Softirqs never run on the stack of a task that is in a system call or an exception.
    SOFTIRQS_APART: u32 = 0;
    /// Where the registers of user mode lie on a kernel stack, from its lowest address, and the
    /// members of `struct pt_regs`.
    USER_REGS: u64 = 0;
    OFF_REGS_MODE: u64 = 0;
    OFF_REGS_SYSCALL: u64 = 0;
    OFF_REGS_IP: u64 = 0;
    OFF_REGS_SP: u64 = 0;
    OFF_REGS_BP: u64 = 0;
    /// What the register of the mode holds, of these bits, of 64-bit user mode: programs of other modes
    /// number their calls otherwise.
    REGS_MODE_MASK: u64 = 0;
    REGS_MODE_USER: u64 = 0;
    /// The register in which a call leaves where to return to; 0 = it leaves that on the stack.
    OFF_REGS_RETURN: u64 = 0;
    /// The register in which Go keeps its `g`; 0 = not known.
    OFF_REGS_G: u64 = 0;
    /// `thread.fsbase`, the thread pointer of user mode; 0 = not known.
    OFF_TASK_THREAD_POINTER: u64 = 0;
    /// `struct vm_fault`.
    OFF_VMF_VMA: u64 = 0;
    OFF_VMF_PGOFF: u64 = 0;
    OFF_VMF_ADDRESS: u64 = 0;
    OFF_VMF_REAL_ADDRESS: u64 = 0;
    OFF_VMF_FLAGS: u64 = 0;
    /// `struct vm_area_struct`, `struct file`.
    OFF_VMA_START: u64 = 0;
    OFF_VMA_END: u64 = 0;
    OFF_VMA_MM: u64 = 0;
    OFF_VMA_FILE: u64 = 0;
    OFF_FILE_INODE: u64 = 0;
    /// `struct signal_struct`, `live.counter` and `flags`.
    OFF_SIGNAL_LIVE: u64 = 0;
    OFF_SIGNAL_FLAGS: u64 = 0;
    /// `struct address_space`, `struct inode`, `struct super_block`.
    OFF_MAPPING_HOST: u64 = 0;
    OFF_INODE_INO: u64 = 0;
    OFF_INODE_SB: u64 = 0;
    OFF_SB_DEV: u64 = 0;
    /// `struct folio` (only with `EVICTIONS`, or `HELD_BACK_TOLD`); the bit of its flags that says it has several pages.
    OFF_FOLIO_MAPPING: u64 = 0;
    OFF_FOLIO_INDEX: u64 = 0;
    OFF_FOLIO_FLAGS: u64 = 0;
    OFF_FOLIO_PAGES: u64 = 0;
    OFF_FOLIO_MEMCG: u64 = 0;
    FOLIO_LARGE: u64 = 0;
    /// `task_struct.reclaim_state`.
    OFF_TASK_RECLAIM: u64 = 0;

    /// Reads that a limit holds back are found again by their pages: what follows is known.
    HELD_BACK_TOLD: u32 = 0;
    /// The kernel may skip the program at a fault's beginning.
    BEGINS_MAY_BE_SKIPPED: u32 = 0;
    /// `bio.bi_io_vec` and `bio.bi_iter.bi_idx`; `struct bio_vec`, its size, `bv_page` and `bv_offset`; `struct page`, its
    /// size and `compound_head`.
    OFF_BIO_VECTORS: u64 = 0;
    OFF_BIO_VECTOR: u64 = 0;
    SIZE_VECTOR: u64 = 0;
    OFF_VECTOR_PAGE: u64 = 0;
    OFF_VECTOR_OFFSET: u64 = 0;
    SIZE_PAGE: u64 = 0;
    OFF_PAGE_HEAD: u64 = 0;
    /// `compound_head` is what its name says.
    HEAD_IS_POINTER: u32 = 1;
    /// `struct bio` (`bi_iter.bi_size`), `struct block_device`.
    OFF_BIO_NEXT: u64 = 0;
    OFF_BIO_PRIVATE: u64 = 0;
    OFF_BIO_OPF: u64 = 0;
    OFF_BIO_FLAGS: u64 = 0;
    OFF_BIO_SIZE: u64 = 0;
    OFF_BIO_BDEV: u64 = 0;
    OFF_BDEV_DEV: u64 = 0;
    /// `bio.bi_bdev`: kernel commit 309dca309fc3 (5.12).
    BIO_HAS_BDEV: u32 = 1;
    /// `struct request`, and where the disk is: `request_queue.disk` (kernel commit d152c682f03c, 5.15)
    /// or `request.rq_disk` before.
    OFF_REQUEST_FLAGS: u64 = 0;
    OFF_REQUEST_BIO: u64 = 0;
    OFF_REQUEST_DATA_LEN: u64 = 0;
    OFF_REQUEST_QUEUE: u64 = 0;
    OFF_HOLDER_DISK: u64 = 0;
    DISK_OF_QUEUE: u32 = 1;
    /// `struct gendisk`.
    OFF_DISK_MAJOR: u64 = 0;
    OFF_DISK_FIRST_MINOR: u64 = 0;
    /// Tracepoints of the block layer pass the queue first: before 5.11.
    BLOCK_PASSES_QUEUE: u32 = 0;
    /// The same of the tracepoints of bios.
    BIO_PASSES_QUEUE: u32 = 0;

    /// sched_switch passes prev_state as an argument: kernel commit fa2c3254d7cf (5.18).
    SWITCH_HAS_STATE: u32 = 1;
    /// Entry of the page-fault exception, [start, end), and how many frames of a fault of user mode
    /// there are outside of it at most.
    ENTRY_LO: u64 = 0;
    ENTRY_HI: u64 = 0;
    ENTRY_OUTER: u64 = 0;
    /// The address under the registers of user mode lies in the entry by which the kernel was entered.
    ENTRY_BELOW_REGS: u32 = 1;
    /// `handle_mm_fault`.
    HANDLE_LO: u64 = 0;
    HANDLE_HI: u64 = 0;
    /// `do_exit`, and what leads to it.
    DEATH_LO: u64 = 0;
    DEATH_HI: u64 = 0;
}

/// How many functions can run between a fault's completion and the return from its exception.
pub const LEAVE_RANGES: usize = 6;

/// Those functions, [start, end) each; unused entries are 0, 0.
#[unsafe(no_mangle)]
pub static LEAVE: [[u64; 2]; LEAVE_RANGES] = [[0; 2]; LEAVE_RANGES];

/// How many ranges of [`INTERRUPTS`] there can be.
pub const INTERRUPT_RANGES: usize = 16;

/// Entries of interrupts, and what runs softirqs, [start, end) each, ascending; unused ranges are
/// 0, 0 and come last. All are unused if this kernel's could not be found.
#[unsafe(no_mangle)]
pub static INTERRUPTS: [[u64; 2]; INTERRUPT_RANGES] = [[0; 2]; INTERRUPT_RANGES];

/// How many ranges of [`OUTERMOST`] there can be.
pub const OUTERMOST_RANGES: usize = 8;

/// Where the work of a task begins, which is the outermost frame of a stack that was captured
/// whole.
#[unsafe(no_mangle)]
pub static OUTERMOST: [[u64; 2]; OUTERMOST_RANGES] = [[0; 2]; OUTERMOST_RANGES];

/// How many ranges of [`REMOVERS`] there can be.
pub const REMOVER_RANGES: usize = 14;

/// Functions that remove pages from the page cache: [start, end) and what that means, one of
/// `faulttrace_ebpf::removal`. The first that is on the stack counts; unused ranges are 0, 0.
#[unsafe(no_mangle)]
pub static REMOVERS: [[u64; 3]; REMOVER_RANGES] = [[0; 3]; REMOVER_RANGES];

/// Bit i of entry b: byte b may stand for atom i of the name pattern.
#[unsafe(no_mangle)]
pub static COMM_MASKS: [u32; 256] = [0; 256];

/// One word of [`LEAVE`], as userspace set it.
#[inline(always)]
pub fn leave(range: usize, word: usize) -> u64 {
    // SAFETY: both indices are constants within bounds at every call; volatile because userspace
    // replaces the zeros the compiler sees.
    unsafe { core::ptr::read_volatile(&raw const LEAVE[range][word]) }
}

/// A range of [`INTERRUPTS`], as userspace set it.
#[inline(always)]
pub fn interrupt(range: usize) -> (u64, u64) {
    // SAFETY: as for `leave`.
    unsafe {
        (
            core::ptr::read_volatile(&raw const INTERRUPTS[range][0]),
            core::ptr::read_volatile(&raw const INTERRUPTS[range][1]),
        )
    }
}

/// A range of [`OUTERMOST`], as userspace set it.
#[inline(always)]
pub fn outermost(range: usize) -> (u64, u64) {
    // SAFETY: as for `leave`.
    unsafe {
        (
            core::ptr::read_volatile(&raw const OUTERMOST[range][0]),
            core::ptr::read_volatile(&raw const OUTERMOST[range][1]),
        )
    }
}

/// One word of [`REMOVERS`], as userspace set it.
#[inline(always)]
pub fn remover(range: usize, word: usize) -> u64 {
    // SAFETY: as for `leave`.
    unsafe { core::ptr::read_volatile(&raw const REMOVERS[range][word]) }
}

/// One word of [`COMM_MASKS`], as userspace set it.
#[inline(always)]
pub fn comm_mask(byte: u8) -> u32 {
    // SAFETY: a byte cannot exceed the array; volatile for the reason above.
    unsafe { core::ptr::read_volatile(&raw const COMM_MASKS[byte as usize]) }
}

/// Process and thread of the current task, as the tracer numbers them; 0, 0 for a task that has no
/// number there.
#[inline(always)]
pub fn current() -> (u32, u32) {
    if PID_NAMESPACE.load() != 0 {
        let task = current_task();
        return (tgid_of(task), tid_of(task));
    }
    let id = bpf_get_current_pid_tgid();
    ((id >> 32) as u32, id as u32)
}

/// Thread id of a task, as the tracer numbers it.
#[inline(always)]
pub fn tid_of(task: *const u8) -> u32 {
    if PID_NAMESPACE.load() == 0 {
        member(task, &OFF_TASK_PID)
    } else {
        inner_id(task)
    }
}

/// Process id of a task, as the tracer numbers it.
#[inline(always)]
pub fn tgid_of(task: *const u8) -> u32 {
    if PID_NAMESPACE.load() == 0 {
        return member(task, &OFF_TASK_TGID);
    }
    let leader: u64 = member(task, &OFF_TASK_GROUP_LEADER);
    inner_id(leader as *const u8)
}

/// The id of a task in its innermost pid namespace, if that is the tracer's; else 0.
#[inline(always)]
fn inner_id(task: *const u8) -> u32 {
    let pid: u64 = member(task, &OFF_TASK_THREAD_PID);
    let level: u32 = member(pid as *const u8, &OFF_PID_LEVEL);
    let number = pid + OFF_PID_NUMBERS.load() + u64::from(level) * SIZE_UPID.load();
    let namespace: u64 = member(number as *const u8, &OFF_UPID_NS);
    let inode: u32 = member(namespace as *const u8, &OFF_NAMESPACE_INUM);
    if inode == PID_NAMESPACE.load() {
        member(number as *const u8, &OFF_UPID_NR)
    } else {
        0
    }
}

/// A tracepoint's argument; both kinds of tracepoint programs see an array of words.
#[inline(always)]
pub fn argument(ctx: *mut c_void, index: usize) -> u64 {
    // SAFETY: the verifier checks every access to the context against the tracepoint's arguments.
    unsafe { core::ptr::read_volatile(ctx.cast::<u64>().add(index)) }
}

/// A pointer that is an argument, as a number: the verifier lets no function of its own be given one.
#[inline(always)]
pub fn argument_as_number(ctx: *mut c_void, index: usize) -> Option<u64> {
    // SAFETY: bpf_probe_read_kernel accepts any address and fails on a bad one.
    unsafe { bpf_probe_read_kernel(ctx.cast::<u64>().wrapping_add(index)) }.ok()
}

/// The flags of a fault whose address the program at its beginning was given.
#[inline(always)]
pub fn address_flags() -> u32 {
    if BEGINS_BY_EVENT.load() != 0 {
        flag::HAS_ADDRESS | flag::NO_ACCESS
    } else {
        flag::HAS_ADDRESS
    }
}

/// The current `task_struct`.
#[inline(always)]
pub fn current_task() -> *const u8 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_current_task() as *const u8 }
}

/// The member of `T` at `offset` of a kernel structure; zero bytes where it cannot be read.
#[inline(always)]
pub fn member<T: Copy + Default>(base: *const u8, offset: &Global<u64>) -> T {
    // SAFETY: bpf_probe_read_kernel accepts any address and fails on a bad one.
    unsafe { bpf_probe_read_kernel(base.wrapping_add(offset.load() as usize).cast()) }
        .unwrap_or_default()
}

/// Inode number and device of an inode: which file it is.
#[inline(always)]
pub fn file_id(inode: u64) -> (u64, u32) {
    let super_block: u64 = member(inode as *const u8, &OFF_INODE_SB);
    (
        member(inode as *const u8, &OFF_INODE_INO),
        member(super_block as *const u8, &OFF_SB_DEV),
    )
}

/// Whether the current thread's process has been killed or is ending: none of its threads comes back
/// to user mode.
#[inline(always)]
pub fn is_doomed() -> bool {
    /// `SIGNAL_GROUP_EXIT` of include/linux/sched/signal.h; a deadly signal sets it when it is sent
    /// (kernel/signal.c, complete_signal).
    const GROUP_EXIT: u32 = 0x4;
    let signal: u64 = member(current_task(), &OFF_TASK_SIGNAL);
    let flags: u32 = member(signal as *const u8, &OFF_SIGNAL_FLAGS);
    flags & GROUP_EXIT != 0
}

/// How many faults the current thread has completed: the kernel counts one when it is over, not when
/// it is retried (mm/memory.c, mm_account_fault).
#[inline(always)]
pub fn completed_faults() -> u32 {
    let task = current_task();
    let minor: u64 = member(task, &OFF_TASK_MIN_FLT);
    let major: u64 = member(task, &OFF_TASK_MAJ_FLT);
    (minor + major) as u32
}

/// Major faults that the kernel has counted of the current thread, low 32 bits.
#[inline(always)]
pub fn majors() -> u32 {
    let count: u64 = member(current_task(), &OFF_TASK_MAJ_FLT);
    count as u32
}

/// How much the current thread has handed to devices to be read (block/blk-core.c, submit_bio): low 32
/// bits. Of network file systems and FUSE, nothing.
#[inline(always)]
pub fn read_bytes() -> u32 {
    let bytes: u64 = member(current_task(), &OFF_TASK_READ_BYTES);
    bytes as u32
}

/// Whether faults of this thread count. One load and one compare for `filter::ONE`.
#[inline(always)]
pub fn traced(tgid: u32, tid: u32) -> bool {
    match FILTER.load() {
        filter::ONE => tgid == TARGET_TGID.load(),
        filter::ALL => tgid != SELF_TGID.load() && tgid != 0,
        _ => {
            maps::TGIDS.get_ptr(tgid).is_some()
                || (HAS_TIDS.load() != 0 && maps::TIDS.get_ptr(tid).is_some())
        }
    }
}
