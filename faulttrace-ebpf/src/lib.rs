//! The wire format: everything that crosses between the programs in the kernel and userspace.
//!
//! Plain integers, `repr(C)`, explicit padding, sizes asserted at compile time; no Rust enum,
//! `bool` or `Option` crosses. This is the only place where both sides meet. It does not decode
//! (that is `faulttrace::ingest`) and defines no map (that is `maps.rs` of the programs).
#![no_std]

mod cached;
pub mod counter;
pub mod goroutine;
mod reads;

pub use cached::{
    FileKey, FileWatch, Fill, HistoryEvent, NO_DISTANCE, PageRemoval, PageState, cache_total,
    read_ahead, removal,
};
pub use reads::{FaultIo, HELD_UNTOLD, IoEvent, LAST_SHIFT, LAST_TOO_LONG, tells_held};

/// Most frames of a stack; the default of the sysctl `kernel.perf_event_max_stack`, which bounds
/// `bpf_get_stack` (kernel/bpf/stackmap.c).
pub const MAX_FRAMES: usize = 127;
/// Room for [`MAX_FRAMES`], rounded up so that `index & (STACK_SLOTS - 1)` proves a bound.
pub const STACK_SLOTS: usize = 128;
/// `TASK_COMM_LEN` of include/linux/sched.h.
pub const COMM_LEN: usize = 16;

/// What of a return address of arm64 is the address: above may be its signature (pointer authentication),
/// with 48 bits of virtual addresses or more.
pub const CODE_ADDRESS: u64 = (1 << 48) - 1;

/// In place of a system call's number: not in one, or not known.
pub const NO_SYSCALL: u32 = u32::MAX;

/// Values of `Filter` in the programs' configuration: whose faults count.
pub mod filter {
    /// Every process but the tracer.
    pub const ALL: u32 = 0;
    /// The one process `TARGET_TGID`.
    pub const ONE: u32 = 1;
    /// The processes in map `TGIDS` and the threads in map `TIDS`.
    pub const SET: u32 = 2;
}

/// First word of every record in the ring.
pub mod kind {
    /// [`super::FaultEvent`].
    pub const FAULT: u32 = 1;
    /// [`super::TaskEvent`]: a thread ends.
    pub const EXIT: u32 = 2;
    /// [`super::TaskEvent`]: a process replaced its image.
    pub const EXEC: u32 = 3;
    /// [`super::TaskEvent`]: a process was added to those traced (a child, or a name that matches).
    pub const ADDED: u32 = 4;
    /// [`super::HistoryEvent`], right before the fault that it belongs to.
    pub const HISTORY: u32 = 5;
    /// [`super::goroutine::GoroutineEvent`].
    pub const GOROUTINE: u32 = 6;
    /// [`super::IoEvent`].
    pub const IO: u32 = 16;
}

/// Bits of `flags` in [`Inflight`], [`FaultEvent`] and [`TaskEvent`].
pub mod flag {
    /// The kernel accounted it in `maj_flt`.
    pub const MAJOR: u32 = 1;
    /// An exception in kernel mode on a user address.
    pub const KERNEL_MODE: u32 = 1 << 1;
    /// No exception: `get_user_pages` under a system call.
    pub const GUP: u32 = 1 << 2;
    /// Its beginning was not seen: it began before the programs were attached.
    pub const NO_START: u32 = 1 << 3;
    /// The end is the last moment at which it was proven to go on.
    pub const APPROXIMATE_END: u32 = 1 << 4;
    /// The thread died in it.
    pub const DIED: u32 = 1 << 5;
    /// `address` and `error` are valid.
    pub const HAS_ADDRESS: u32 = 1 << 6;
    /// `device`, `inode` and `page_offset` are valid.
    pub const HAS_FILE: u32 = 1 << 7;
    /// A wake-up was not seen, so run-queue time counts as blocked.
    pub const WAKE_UNSEEN: u32 = 1 << 8;
    /// The beginning is the first moment at which it was seen: when it first fell asleep, or when it
    /// completed (`LIGHT`, gup without the file tracepoint, or where the kernel skipped the program at its beginning).
    pub const APPROXIMATE_START: u32 = 1 << 9;
    /// The last thread of its process (`TaskEvent` of kind EXIT).
    pub const GROUP_DEAD: u32 = 1 << 10;
    /// The user stack has been captured, whether or not it could be read.
    pub const USER_STACK_TRIED: u32 = 1 << 11;
    /// When it last went to sleep, kernel stacks were found to be as expected: of the expected size,
    /// and with the program's context on the thread's own. So where a context lies tells whose stack
    /// it is ([`super::Inflight`]).
    pub const CONTEXT_ON_STACK: u32 = 1 << 13;
    /// `error` is not valid: whether it read, wrote or executed is not known.
    pub const NO_ACCESS: u32 = 1 << 14;
    /// `read_bytes` is valid.
    pub const READ_MARKED: u32 = 1 << 15;
    /// The thread has handed reads to devices in it (`READ_MARKED`).
    pub const READ_STARTED: u32 = 1 << 16;
    /// It ended before it was complete, so that the kernel counts it neither as major nor as minor: because of
    /// a signal, or because it failed, or the thread died.
    pub const GIVEN_UP: u32 = 1 << 17;
    /// The reads of `READ_STARTED` were for later pages: its own page was there, brought in by a read of
    /// somebody else, which may not have been over.
    pub const READ_AHEAD: u32 = 1 << 18;
    /// Whether `READ_AHEAD` would be set is not known.
    pub const READ_AHEAD_UNTOLD: u32 = 1 << 19;
    /// A read of it has not been handed on, and is looked for.
    pub const HELD_BACK: u32 = 1 << 20;
    /// It was found.
    pub const HELD_FOUND: u32 = 1 << 21;
    /// What is known of it is being sent: whoever meets the entry leaves it alone. Since kernel commit
    /// a46023d5616e (7.0) programs at tracepoints can be preempted.
    pub const ENDING: u32 = 1 << 22;
    /// It is major by the thread's own count, and no event told. Where no events are told of majors yet, or any more,
    /// such faults are not among those that are counted.
    pub const MAJOR_BY_COUNT: u32 = 1 << 23;
    /// A later major of the thread has been counted when this one ends.
    pub const LATER_MAJOR: u32 = 1 << 24;
    /// It was just forked (`TaskEvent` of kind ADDED), so that all its faults are seen.
    pub const BORN: u32 = 1 << 12;
}

/// Values of [`Waker::kind`].
pub mod waker {
    /// The wake-up was not seen, or its stack does not tell.
    pub const UNKNOWN: u32 = 0;
    /// An interrupt, or what interrupts left to be done later (softirq).
    pub const INTERRUPT: u32 = 1;
    /// The task whose ids and name follow.
    pub const TASK: u32 = 2;
}

/// Who made a sleeping thread runnable.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Waker {
    /// One of [`waker`].
    pub kind: u32,
    /// Process id; 0 = it has none in the tracer's pid namespace.
    pub tgid: u32,
    /// Thread id; 0 = it has none in the tracer's pid namespace.
    pub tid: u32,
    /// Number of the system call that the task was in, or [`NO_SYSCALL`].
    pub syscall: u32,
    /// The task's name.
    pub comm: [u8; COMM_LEN],
}

impl Waker {
    /// Nobody who is known.
    pub const UNKNOWN: Waker = Waker {
        kind: waker::UNKNOWN,
        tgid: 0,
        tid: 0,
        syscall: NO_SYSCALL,
        comm: [0; COMM_LEN],
    };
}

/// A stack as captured, value of map `STACKS`; the key is its 64-bit id.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StackValue {
    /// Valid frames.
    pub len: u32,
    /// Process (tgid) that first had it; 0 for a kernel stack.
    pub tgid: u32,
    /// Instruction addresses, innermost first.
    pub frames: [u64; STACK_SLOTS],
}

/// A thread that left the CPU in a fault, value of map `INFLIGHT`; the key is the tid.
///
/// Times are `CLOCK_MONOTONIC`, ns.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Inflight {
    /// Exception entry, or the best substitute (`flag::NO_START`, `flag::APPROXIMATE_START`).
    pub start_ns: u64,
    /// Faulting address (`flag::HAS_ADDRESS`).
    pub address: u64,
    /// When it last left the CPU.
    pub out_ns: u64,
    /// When it was woken since; 0 = not yet. Equal to `out_ns` if it never slept (preempted).
    pub wake_ns: u64,
    /// When it last got a CPU; 0 while it is off the CPU.
    pub in_ns: u64,
    /// Asleep so far, without the present sleep.
    pub blocked_ns: u64,
    /// Runnable but not running so far, without the present wait.
    pub runqueue_ns: u64,
    /// The longest sleep so far.
    pub longest_sleep_ns: u64,
    /// When the thread left the CPU for it; 0 = not known, or there was none.
    pub longest_out_ns: u64,
    /// How long it was runnable after it, until it got a CPU.
    pub longest_runqueue_ns: u64,
    /// Id of the kernel stack of the longest sleep; 0 = none.
    pub kernel_stack: u64,
    /// Id of the kernel stack of the present or last sleep.
    pub last_kernel_stack: u64,
    /// Id of the user stack; 0 = none.
    pub user_stack: u64,
    /// The word at the thread's stack pointer when the user stack was captured; 0 = not read. A function that
    /// has no frame of its own returns there, and frame pointers do not tell.
    pub stack_top: u64,
    /// Inode number of the faulting page's file (`flag::HAS_FILE`).
    pub inode: u64,
    /// Its offset in the file, pages.
    pub page_offset: u64,
    /// `s_dev` of the file's super block (20 bits of minor).
    pub device: u32,
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// Error code of the exception, as the architecture defines it.
    pub error: u32,
    /// [`flag`]s.
    pub flags: u32,
    /// How often it left the CPU.
    pub switches: u32,
    /// How often it left the CPU asleep.
    pub sleeps: u32,
    /// Low 32 bits of the thread's `maj_flt` when the entry was made.
    pub maj_flt: u32,
    /// Number of the system call the thread was in, or [`NO_SYSCALL`].
    pub syscall: u32,
    /// How it last left the CPU: 1 = asleep, 0 = preempted.
    pub asleep: u32,
    /// How many faults the thread had completed when the entry was made.
    pub completed: u32,
    /// How much the thread had handed to devices to be read, when the file's fault handler was entered: low
    /// 32 bits of `ioac.read_bytes` (`flag::READ_MARKED`).
    pub read_bytes: u32,
    /// Who ended the present or last sleep.
    pub waker: Waker,
    /// Who ended the longest sleep.
    pub longest_waker: Waker,
    /// The thread's name.
    pub comm: [u8; COMM_LEN],
    /// What it was at, if the process is one of Go.
    pub goroutine: goroutine::Goroutine,
}

/// A fault that is over.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FaultEvent {
    /// [`kind::FAULT`].
    pub kind: u32,
    /// [`flag`]s.
    pub flags: u32,
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// See [`Inflight::start_ns`].
    pub start_ns: u64,
    /// Completion.
    pub end_ns: u64,
    /// See [`Inflight::address`].
    pub address: u64,
    /// Asleep, ns.
    pub blocked_ns: u64,
    /// Runnable but not running, ns.
    pub runqueue_ns: u64,
    /// See [`Inflight::user_stack`].
    pub user_stack: u64,
    /// See [`Inflight::stack_top`].
    pub stack_top: u64,
    /// See [`Inflight::kernel_stack`].
    pub kernel_stack: u64,
    /// See [`Inflight::inode`].
    pub inode: u64,
    /// See [`Inflight::page_offset`].
    pub page_offset: u64,
    /// See [`Inflight::longest_sleep_ns`]; valid if `longest_out_ns` is not 0.
    pub longest_sleep_ns: u64,
    /// See [`Inflight::longest_out_ns`].
    pub longest_out_ns: u64,
    /// See [`Inflight::longest_runqueue_ns`].
    pub longest_runqueue_ns: u64,
    /// See [`Inflight::device`].
    pub device: u32,
    /// See [`Inflight::error`].
    pub error: u32,
    /// How often the thread left the CPU.
    pub switches: u32,
    /// How often it left the CPU asleep.
    pub sleeps: u32,
    /// See [`Inflight::syscall`].
    pub syscall: u32,
    /// Unused, zero.
    pub padding: u32,
    /// See [`Inflight::longest_waker`].
    pub longest_waker: Waker,
    /// The thread's name.
    pub comm: [u8; COMM_LEN],
}

/// Where a thread that was stuck before the programs were attached will go on in user mode; what
/// the iterator program writes for each.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct UserRegisters {
    /// Thread id.
    pub tid: u32,
    /// Unused, zero.
    pub padding: u32,
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub bp: u64,
    /// Where the innermost function returns to, if a register holds that; 0 = the stack does.
    pub returns_to: u64,
    /// Thread pointer; 0 = not known.
    pub thread_pointer: u64,
    /// The register in which Go keeps its `g`; 0 = not known.
    pub g: u64,
}

/// Something happened to a traced thread or process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TaskEvent {
    /// One of [`kind`] other than `FAULT`.
    pub kind: u32,
    /// [`flag`]s.
    pub flags: u32,
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// When, `CLOCK_MONOTONIC` ns.
    pub time_ns: u64,
    /// The thread's `maj_flt` over its whole life (`kind::EXIT`).
    pub maj_flt: u64,
    /// The thread's name.
    pub comm: [u8; COMM_LEN],
}

const _: () = {
    assert!(size_of::<StackValue>() == 8 + STACK_SLOTS * 8);
    assert!(size_of::<Waker>() == 4 * 4 + COMM_LEN);
    let beside = 2 * size_of::<Waker>() + COMM_LEN + size_of::<goroutine::Goroutine>();
    assert!(size_of::<Inflight>() == 16 * 8 + 12 * 4 + beside);
    assert!(size_of::<FaultEvent>() == 4 * 4 + 13 * 8 + 6 * 4 + size_of::<Waker>() + COMM_LEN);
    assert!(size_of::<TaskEvent>() == 4 * 4 + 2 * 8 + COMM_LEN);
    assert!(size_of::<UserRegisters>() == 2 * 4 + 6 * 8);
    assert!(size_of::<PageRemoval>() == 4 * 4 + 8 + COMM_LEN);
    assert!(size_of::<PageState>() == 7 * 8 + size_of::<PageRemoval>());
    assert!(size_of::<HistoryEvent>() == 4 * 4 + 2 * 8 + size_of::<PageState>());
    assert!(size_of::<Fill>() == 8 + COMM_LEN);
    assert!(size_of::<FileKey>() == 16);
    assert!(size_of::<FaultEvent>() != size_of::<TaskEvent>());
    assert!(MAX_FRAMES < STACK_SLOTS && STACK_SLOTS.is_power_of_two());
};
