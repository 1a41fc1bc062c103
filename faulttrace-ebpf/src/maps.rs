//! Every map, and safe access to the per-CPU ones.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};
use faulttrace_ebpf::{FaultIo, Inflight, STACK_SLOTS, StackValue, counter};

/// The last fault that began on this CPU, or the thread with an entry in `INFLIGHT` that runs on
/// it. A thread cannot change CPU without passing sched_switch, so one slot per CPU is enough, and
/// a fault that never leaves the CPU costs one write.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slot {
    /// Exception entry.
    pub start_ns: u64,
    /// Faulting address.
    pub address: u64,
    /// Inode of the page, valid if `file_ns` is not 0.
    pub inode: u64,
    /// Page offset in the file, valid if `file_ns` is not 0.
    pub page_offset: u64,
    /// When the file's fault handler was last entered; 0 = not.
    pub file_ns: u64,
    /// Super block's device, valid if `file_ns` is not 0.
    pub device: u32,
    /// Error code of the exception.
    pub error: u32,
    /// The thread; 0 = the slot is empty.
    pub tid: u32,
    /// One of the constants of [`what`].
    pub what: u32,
    /// How many faults the thread had completed by then (`LIGHT` only).
    pub completed: u32,
    /// As in `Inflight`, valid if `file_ns` is not 0.
    pub read_bytes: u32,
    /// 1 = `flag::READ_AHEAD`, valid if `file_ns` is not 0.
    pub read_ahead: u32,
    /// Unused.
    pub padding: u32,
}

/// What a slot says of its thread.
pub mod what {
    /// A fault of user mode began; nothing is known of its end.
    pub const USER: u32 = 0;
    /// A fault of kernel mode began.
    pub const KERNEL: u32 = 1;
    /// The file fault handler was entered without an exception that was seen: gup, or with `LIGHT`
    /// any.
    pub const FILE: u32 = 2;
    /// The thread has an entry in `INFLIGHT`.
    pub const MARK: u32 = 3;
    /// A fault of user mode of which the stack alone tells: the kernel did not run the program at its beginning.
    pub const UNSEEN: u32 = 4;
}

/// Whose room for a stack: of each program that may be preempted by another that captures one, its own.
pub mod room {
    pub const SWITCH: u32 = 0;
    pub const BACK_TO_USER: u32 = 1;
    pub const MAJOR: u32 = 2;
    pub const READ: u32 = 3;
    pub const HANDLED: u32 = 4;
    pub const FILE: u32 = 5;
    pub const COUNT: u32 = 6;
}

/// Room to capture a stack in.
#[repr(C)]
pub struct Scratch {
    pub stack: StackValue,
    /// One of [`room`]: which this is.
    pub room: u32,
    /// Unused, zero.
    pub padding: u32,
    /// 1 + index of the innermost frame in the exception's entry; 0 = none. In memory, not in a
    /// register, so that the verifier need not follow each position on its own.
    pub entry: u64,
    /// Not 0: a frame is in `handle_mm_fault`.
    pub handled: u64,
    /// Not 0: a frame is in `do_exit`.
    pub death: u64,
    /// For `registers::on_own_stack`.
    pub word: u64,
}

/// Room to capture a waker's stack in.
#[repr(C)]
pub struct WakerScratch {
    pub frames: [u64; STACK_SLOTS],
    /// For `registers::on_own_stack`.
    pub word: u64,
}

/// Words of a kernel stack that `known` looks at: some paths into a file system are 2 KiB deep.
pub const STACK_WORDS: usize = 512;
/// Frames of a stack that `known` recognises.
pub const KNOWN_PLACES: usize = 64;
/// How many stacks `known` has room for, on each CPU.
const KNOWN_STACKS: u32 = 128;

/// A kernel stack, and where its return addresses lie.
#[repr(C)]
pub struct KnownStack {
    /// Its id in `STACKS`.
    pub id: u64,
    /// How deep it is, as in `known::Extent`.
    pub bytes: u64,
    /// A hash of the return addresses in the places, the outermost first.
    pub check: u64,
    /// While the places are looked for: frames not found yet.
    pub left: u64,
    /// How many other stacks of its depth were seen since.
    pub misses: u64,
    /// Frames.
    pub len: u32,
    /// Valid members of `at`; 0 = nothing is known.
    pub places: u32,
    /// Which word above the program's context has each return address, the outermost first.
    pub at: [u16; KNOWN_PLACES],
}

/// A read that a thread in a fault handed to the block layer.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Bio {
    /// Which fault of the thread: `io::name_of`.
    pub fault: u64,
    /// When.
    pub queued_ns: u64,
    /// The thread.
    pub tid: u32,
    /// Unused, zero.
    pub padding: u32,
}

/// Of the faults with reads in a request, the one of this index.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RequestKey {
    /// Address of the `struct request`.
    pub request: u64,
    /// From 0.
    pub index: u64,
}

/// The part that one fault has in a request that the driver has.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ReadRequest {
    /// Which fault of the thread: `io::name_of`.
    pub fault: u64,
    /// When the first of its reads was queued.
    pub queued_ns: u64,
    /// When the driver last got it.
    pub issued_ns: u64,
    /// Bytes of the fault's reads.
    pub bytes: u64,
    /// Those of them that are counted in `FaultIo::issued_bytes`.
    pub told_bytes: u64,
    /// The thread.
    pub tid: u32,
    /// 1: it is counted in `FaultIo::shared`.
    pub shared: u32,
}

#[map]
pub static SLOT: PerCpuArray<Slot> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(room::COUNT, 0);
/// The entry that `handled` took out of `INFLIGHT`.
#[map]
static TAKEN: PerCpuArray<Inflight> = PerCpuArray::with_max_entries(1, 0);
/// Room to make an entry of `INFLIGHT` in.
#[map]
static FRESH: PerCpuArray<Inflight> = PerCpuArray::with_max_entries(1, 0);
/// For `known`, in programs at sched_switch alone.
#[map]
static WORDS: PerCpuArray<[u64; STACK_WORDS]> = PerCpuArray::with_max_entries(1, 0);
/// Of each CPU, so that no entry is read while it is written.
#[map]
static KNOWN: PerCpuArray<KnownStack> = PerCpuArray::with_max_entries(KNOWN_STACKS, 0);
#[map]
static WAKER_SCRATCH: PerCpuArray<WakerScratch> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static INFLIGHT: HashMap<u32, Inflight> = HashMap::with_max_entries(16384, 0);
/// How many entries `INFLIGHT` has; almost always 0, which is what makes a context switch cheap.
/// Userspace maps it into its memory.
#[map]
static INFLIGHT_COUNT: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// How far below the registers of user mode a fault of user mode keeps its `struct vm_fault`, bytes;
/// 0 = not learned yet.
#[map]
static VM_FAULT_BELOW: Array<u64> = Array::with_max_entries(1, 0);
#[map]
pub static STACKS: HashMap<u64, StackValue> = HashMap::with_max_entries(16384, 0);
#[map]
pub static TGIDS: HashMap<u32, u32> = HashMap::with_max_entries(16384, 0);
#[map]
pub static TIDS: HashMap<u32, u32> = HashMap::with_max_entries(16384, 0);
/// Reads that threads in a fault handed to the block layer and that are in no request that the driver has,
/// by the address of the `struct bio`. This and the next two have one entry without `--io`.
#[map]
pub static BIOS: HashMap<u64, Bio> = HashMap::with_max_entries(1, 0);
/// Requests that drivers have with such reads in them, for each fault whose reads they are.
#[map]
pub static REQUESTS: HashMap<RequestKey, ReadRequest> = HashMap::with_max_entries(1, 0);
/// What was read for the last fault of a thread that began a read; the key is the tid.
#[map]
pub static FAULT_IO: HashMap<u32, FaultIo> = HashMap::with_max_entries(1, 0);
/// How many entries `BIOS` and `REQUESTS` have together; see `INFLIGHT_COUNT`.
#[map]
static IO_COUNT: Array<u64> = Array::with_max_entries(1, 0);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(counter::COUNT, 0);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// Adds to a counter of `faulttrace_ebpf::counter`.
#[inline(always)]
pub fn count(index: u32) {
    if let Some(value) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: a pointer into this CPU's value; programs do not migrate.
        // Atomically, for they may preempt each other.
        add(unsafe { &mut *value }, 1);
    }
}

/// This CPU's slot.
#[inline(always)]
pub fn slot() -> Option<&'static mut Slot> {
    // SAFETY: the value lives as long as the map and belongs to this CPU; a program that
    // interrupts or preempts another on it may change it, which the callers allow for.
    SLOT.get_ptr_mut(0).map(|slot| unsafe { &mut *slot })
}

/// This CPU's room for a stack, for one program (`room`).
#[inline(always)]
pub fn scratch(room: u32) -> Option<&'static mut Scratch> {
    // SAFETY: as for the slot; each program has its own, and does not run twice on a CPU.
    let scratch = SCRATCH
        .get_ptr_mut(room)
        .map(|scratch| unsafe { &mut *scratch })?;
    scratch.room = room;
    Some(scratch)
}

/// This CPU's room for an entry that was taken, for `handled` alone.
#[inline(always)]
pub fn taken() -> Option<&'static mut Inflight> {
    // SAFETY: as for `scratch`.
    TAKEN.get_ptr_mut(0).map(|entry| unsafe { &mut *entry })
}

/// This CPU's room for a new entry.
#[inline(always)]
pub fn fresh() -> Option<&'static mut Inflight> {
    // SAFETY: as for the slot; used by sched_switch alone, which nothing of its kind interrupts.
    FRESH.get_ptr_mut(0).map(|entry| unsafe { &mut *entry })
}

/// This CPU's room for the words of a kernel stack.
#[inline(always)]
pub fn stack_words() -> Option<&'static mut [u64; STACK_WORDS]> {
    // SAFETY: as for `fresh`.
    WORDS.get_ptr_mut(0).map(|words| unsafe { &mut *words })
}

/// What this CPU knows of kernel stacks of about this depth.
#[inline(always)]
pub fn known_stack(bytes: u64) -> Option<&'static mut KnownStack> {
    // SAFETY: as for `fresh`.
    KNOWN
        .get_ptr_mut((bytes / 8) as u32 % KNOWN_STACKS)
        .map(|known| unsafe { &mut *known })
}

/// This CPU's room for a waker's stack.
#[inline(always)]
pub fn waker_scratch() -> Option<&'static mut WakerScratch> {
    // SAFETY: as for the slot; wake-ups happen with interrupts off, so none is within another.
    WAKER_SCRATCH
        .get_ptr_mut(0)
        .map(|scratch| unsafe { &mut *scratch })
}

/// The entry of a thread that left the CPU in a fault.
#[inline(always)]
pub fn inflight(tid: u32) -> Option<&'static mut Inflight> {
    // SAFETY: preallocated map values stay mapped; only the thread's own events and its waker
    // write to an entry, in an order that the scheduler's locks impose.
    INFLIGHT
        .get_ptr_mut(tid)
        .map(|entry| unsafe { &mut *entry })
}

/// Whether any thread is in a fault that put it off the CPU.
#[inline(always)]
pub fn any_inflight() -> bool {
    // SAFETY: reads one aligned word.
    INFLIGHT_COUNT
        .get_ptr(0)
        .is_some_and(|count| unsafe { core::ptr::read_volatile(count) } != 0)
}

/// Where a `struct vm_fault` lies; see [`VM_FAULT_BELOW`].
#[inline(always)]
pub fn vm_fault_below() -> Option<&'static mut u64> {
    // SAFETY: the value lives as long as the map; an aligned word that is only ever set to the same
    // number.
    VM_FAULT_BELOW
        .get_ptr_mut(0)
        .map(|below| unsafe { &mut *below })
}

/// Negative `EEXIST`, by which `BPF_NOEXIST` says that there is an entry (errno(3)).
pub const EXISTS: i32 = -17;

/// Keeps `INFLIGHT_COUNT` true.
#[inline(always)]
pub fn inflight_changed(by: i64) {
    if let Some(count) = INFLIGHT_COUNT.get_ptr_mut(0) {
        // SAFETY: the value lives as long as the map, and is only ever added to.
        add(unsafe { &mut *count }, by as u64);
    }
}

/// Adds to a number in a map that other CPUs may add to at the same time; wraps, so that the negative of
/// a number takes it away.
#[inline(always)]
pub fn add(number: &mut u64, by: u64) {
    let number = &raw mut *number;
    // SAFETY: an atomic add to an aligned map value. In assembly because the compiler's BPF target
    // offers no read-modify-write operation on atomics.
    unsafe {
        core::arch::asm!("lock *(u64 *)({number} + 0) += {by}", number = in(reg) number, by = in(reg) by)
    }
}

/// Whether any read of a fault is on its way to a device or in it.
#[inline(always)]
pub fn any_io() -> bool {
    // SAFETY: reads one aligned word.
    IO_COUNT
        .get_ptr(0)
        .is_some_and(|count| unsafe { core::ptr::read_volatile(count) } != 0)
}

/// Keeps `IO_COUNT` true.
#[inline(always)]
pub fn io_changed(by: i64) {
    if let Some(count) = IO_COUNT.get_ptr_mut(0) {
        // SAFETY: as for `INFLIGHT_COUNT`.
        add(unsafe { &mut *count }, by as u64);
    }
}

/// The part of the fault of this index in a request.
#[inline(always)]
pub fn read_request(request: u64, index: u64) -> Option<&'static mut ReadRequest> {
    let key = RequestKey { request, index };
    // SAFETY: preallocated map values stay mapped; events of one request do not overlap.
    REQUESTS.get_ptr_mut(&key).map(|part| unsafe { &mut *part })
}

/// What was read for the last fault of a thread that began a read.
#[inline(always)]
pub fn fault_io(tid: u32) -> Option<&'static mut FaultIo> {
    // SAFETY: preallocated map values stay mapped; what several CPUs write at once they write with
    // `add`.
    FAULT_IO.get_ptr_mut(tid).map(|io| unsafe { &mut *io })
}

/// What was read for this very fault of a thread (`io::name_of`).
#[inline(always)]
pub fn io_of(tid: u32, fault: u64) -> Option<&'static mut FaultIo> {
    fault_io(tid).filter(|io| io.fault == fault && fault != 0)
}
