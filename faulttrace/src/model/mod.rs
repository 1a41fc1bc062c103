//! Pure types and folds: what a fault is, and what many of them add up to.
//!
//! No I/O and no BPF types here. The live source (and later a saved trace) yields [`Record`]s;
//! every view is a fold over that stream and cannot tell where it came from.

pub mod advice;
pub mod analysis;
pub mod cause;
mod goroutine;
mod history;
mod io;
mod names;
pub mod ps;
mod read_ahead;
mod sample;
mod site;
pub mod stall;
mod stall_threads;
pub mod summary;

use std::borrow::Cow;
use std::sync::Arc;

pub use cause::Cause;
pub use goroutine::{GoLabels, GoProcess, Goroutine, LayoutSource};
pub use history::{CacheFill, Filled, FilledBy, History, How, Past, Removal, Task};
pub use io::{Device, DeviceTotals, Devices, Io, Served, Verdict as DeviceVerdict};
pub use read_ahead::{AheadPages, ReadAhead};
pub(crate) use sample::{NOT_SAMPLED, SAMPLED_LATE};
pub use sample::{Pressure, PressureOf, ProcessCounters, Sample, SystemCounters, Waits};
pub use site::{Measure, Site};
pub use stall::{PStall, Stall};
pub(crate) use stall_threads::Faulting;

/// An id that may be none, which is 0.
pub(crate) fn known_id(id: u32) -> Option<u32> {
    (id != 0).then_some(id)
}

/// One item of the stream that every view consumes, in the order it happened.
#[derive(Debug, Clone)]
pub enum Record {
    /// Tracing has begun; everything before this record is set-up.
    Start(Arc<Start>),
    /// A fault that is over (completed, or its thread died in it).
    Fault(Arc<Fault>),
    /// A fault that has lasted longer than `--stuck-after` and is not over.
    Stuck(Arc<Stuck>),
    /// Something could not be recorded. Counts are increments since the last such record.
    Lost(Lost),
    /// A traced process was first seen, or replaced its image by exec.
    Process(Arc<ProcessInfo>),
    /// A traced process has ended.
    ProcessEnd(ProcessEnd),
    /// What the kernel itself counted for a process: once per process, at its end or the trace's.
    Accounting(Accounting),
    /// What went through the ring: once, after everything else.
    Transport(Transport),
    /// What the kernel counts of a traced process and of the machine.
    Sample(Arc<Sample>),
    /// Who filled the page cache (`--evictions`).
    CacheFill(Arc<CacheFill>),
    /// What faults had read of a file ahead, with `--evictions`.
    ReadAhead(Arc<ReadAhead>),
    /// A traced process runs a Go program; again when its GOMAXPROCS is seen to have changed.
    Go(Arc<GoProcess>),
    /// Many threads of a process were, or are, in blocking faults at once. Told by the fold over the
    /// other records, and not saved: whoever reads those tells it again.
    Stall(Arc<Stall>),
    /// No P of a Go program was, or is, left to run a goroutine with. As for stalls.
    PStall(Arc<PStall>),
}

/// What is traced, by what, on which machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Start {
    /// Version of faulttrace.
    pub version: String,
    /// Host name.
    pub host: String,
    /// Kernel release (`uname -r`).
    pub kernel: String,
    /// The command line of faulttrace, one string per argument.
    pub command: Vec<String>,
    /// The processes traced from the start. Empty for `--all`, and while no name matches [`Start::comm`].
    pub targets: Vec<ProcessInfo>,
    /// Which rung of the ladder each job took: (job, rung).
    pub rungs: Vec<(String, String)>,
    /// Unix time of the start, ns.
    pub time_ns: u64,
}

impl Start {
    /// The pattern of the names of processes that are traced (`--comm`), as the command line has it.
    pub fn comm(&self) -> Option<&str> {
        // What comes after `--` is another's.
        let mut own = self.command.iter().skip(1).take_while(|one| *one != "--");
        own.find_map(|one| match one.strip_prefix("--comm")? {
            "" => Some(None),
            rest => rest.strip_prefix('=').map(Some),
        })?
        .or_else(|| own.next().map(String::as_str))
    }

    /// Whether a job is done, in whichever way.
    fn does(&self, job: &str) -> bool {
        let done = |(name, rung): &(String, String)| name == job && rung != "none";
        self.rungs.iter().any(done)
    }
}

/// A process as its name and executable show it. Both are the target's own words: escape them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Process id (tgid), as the user of this faulttrace sees it.
    pub pid: u32,
    /// `comm` of the thread group leader.
    pub name: Name,
    /// Path of the executable, when it could be read.
    pub exe: Option<Name>,
}

/// The end of a traced process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessEnd {
    /// Process id (tgid).
    pub pid: u32,
    /// Unix time, ns.
    pub time_ns: u64,
}

/// Bytes that the target chose: a thread name, a path, a symbol. Not necessarily UTF-8, and may
/// hold control characters. `Arc` because the same few names are repeated by many faults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// Longer ones are cut: four times what a path may have that is handed to a system call. One that is
    /// mapped can be longer, as paths in deep directories are.
    pub const MAX_BYTES: usize = 16 << 10;

    /// The raw bytes. Whoever shows them escapes them (`view::escape`).
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there are others that share its bytes.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Whether both share their bytes.
    #[cfg(test)]
    pub(crate) fn is_same(&self, other: &Name) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl From<&[u8]> for Name {
    fn from(bytes: &[u8]) -> Self {
        Name(Arc::from(bytes.get(..Self::MAX_BYTES).unwrap_or(bytes)))
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

/// Where the thread was when it faulted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// In user mode: an instruction of the program touched the page.
    User,
    /// In the kernel, by an exception on a user address: `read()` into, `write()` from a mapping.
    Kernel,
    /// In the kernel, without an exception: `get_user_pages` (MADV_POPULATE, mlock, O_DIRECT, …).
    Gup,
}

/// What the faulting access wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Load.
    Read,
    /// Store.
    Write,
    /// Instruction fetch.
    Exec,
}

/// How the end of a fault is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// An event at its completion.
    Exact,
    /// Proven over by a later event of the thread; its end is taken as the last time it got a CPU,
    /// so `duration_ns` may lack the few µs it still ran in the kernel.
    Approximate,
    /// The thread died in it.
    Died,
}

/// What kind of memory the address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MappingKind {
    /// A mapped file, not executable in this mapping.
    File,
    /// Executable code or read-only data of a program or library (a file mapping that belongs to
    /// an ELF image: the executable itself or a library).
    Exe,
    /// Private anonymous memory.
    Anon,
    /// `brk` heap.
    Heap,
    /// The main thread's stack.
    Stack,
    /// Shared anonymous or System V memory, `/dev/shm`.
    Shmem,
    /// `memfd_create`.
    Memfd,
    /// vdso, vvar and other mappings the kernel made.
    Special,
}

/// What was at the faulting address. Every part may be unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Kind of memory; `None` if the memory map could not be read in time or has no such address.
    pub mapping: Option<MappingKind>,
    /// Path of the file, or the kernel's label without brackets for special mappings.
    pub path: Option<Name>,
    /// The file was deleted after it was mapped.
    pub deleted: bool,
    /// Byte offset in the file of the faulting page, page-aligned.
    pub offset: Option<u64>,
}

/// What is known of a fault from its beginning on, whether or not it is over.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Unix time of the exception's entry, ns; `None` if it began before faulttrace attached.
    pub begin_ns: Option<u64>,
    /// Process id (tgid).
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// The thread's `comm`.
    pub thread: Name,
    /// Where the thread was.
    pub mode: Mode,
    /// The system call it was in, for `Kernel` and `Gup`, without prefix (`pread64`).
    pub syscall: Option<Name>,
    /// What it wanted; `None` if not known (gup, began before attach).
    pub access: Option<Access>,
    /// The faulting address; `None` if not known (gup, began before attach).
    pub address: Option<u64>,
    /// What is mapped there.
    pub place: Place,
    /// Why it had to wait. Without a sleep there was no wait: `None`. Unknown also if it can have slept before
    /// faulttrace attached, see [`Fault::only_end_seen`].
    pub cause: Option<Cause>,
    /// It began before faulttrace attached, so all times are lower bounds.
    pub began_before_attach: bool,
    /// Its beginning was not seen, and is the first moment at which it was: when the thread first
    /// fell asleep, or at its end. Its duration is a lower bound.
    pub begin_approximate: bool,
    /// The kernel gave it up before it was complete, because of a signal (the instruction faults anew after
    /// that) or because it failed (SIGBUS): it counts neither as major nor as minor. Known when it is over.
    pub given_up: bool,
    /// The user stack, innermost frame first.
    pub user_stack: Option<Arc<Stack>>,
    /// The kernel stack of its longest sleep, innermost frame first.
    pub kernel_stack: Option<Arc<Stack>>,
    /// What the thread of a Go program was at; `None` in other programs, and if it could not be read.
    /// Boxed because few have it.
    pub goroutine: Option<Box<Goroutine>>,
}

impl Facts {
    /// Its times are lower bounds: how it began was not seen.
    pub fn is_lower_bound(&self) -> bool {
        self.began_before_attach || self.begin_approximate
    }
}

/// A fault that is over.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Who, where, why.
    pub facts: Facts,
    /// The kernel accounted it in `maj_flt`.
    pub major: bool,
    /// Unix time of its end, ns.
    pub end_ns: u64,
    /// Entry to completion, ns; always `blocked_ns + runqueue_ns + on_cpu_ns`.
    pub duration_ns: u64,
    /// Asleep, ns.
    pub blocked_ns: u64,
    /// Runnable but not running, ns.
    pub runqueue_ns: u64,
    /// The rest, ns.
    pub on_cpu_ns: u64,
    /// How often the thread left the CPU during it, asleep or preempted.
    pub switches: u32,
    /// How its end is known.
    pub end: End,
    /// Its longest sleep; `None` if it did not sleep, or if where the sleep lies in it is not known.
    pub longest_sleep: Option<Sleep>,
    /// The past of its page; `None` if that was not asked for, if it did not wait for a file to be read,
    /// or if which page it was is not known.
    pub history: Option<Box<History>>,
    /// What block devices did for the reads it began; `None` if it began none, or if that was not asked
    /// for (`--io`). Boxed because few have it.
    pub io: Option<Box<Io>>,
}

impl Fault {
    /// It began before faulttrace attached, and its thread did not leave the CPU any more: if it
    /// slept, that was before. Its times are bounds that tell nothing.
    pub fn only_end_seen(&self) -> bool {
        self.facts.began_before_attach && self.switches == 0
    }
}

/// One sleep inside a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sleep {
    /// From the beginning of the fault until the thread left the CPU, ns.
    pub after_ns: u64,
    /// Asleep, until it was woken, ns; if that was not seen, until it got a CPU.
    pub blocked_ns: u64,
    /// From then until it got a CPU, ns.
    pub runqueue_ns: u64,
    /// Who woke it; `None` if that was not seen or could not be told.
    pub waker: Option<Waker>,
}

/// Who made a sleeping thread runnable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Waker {
    /// An interrupt or what it left to be done later (softirq), whichever task was running: a device
    /// that has finished, a timer.
    Interrupt,
    /// A task, in its own work or in a system call.
    Task(Task),
}

/// A fault that is not over.
#[derive(Debug, Clone)]
pub struct Stuck {
    /// Who, where, why.
    pub facts: Facts,
    /// Since its beginning, or since attach if it began before, ns.
    pub elapsed_ns: u64,
    /// How many times this fault has been reported as stuck, this one included.
    pub report: u32,
    /// What devices have done until now for the reads that it began; `None` if it began none, or without
    /// `--io`.
    pub io: Option<Box<Io>>,
}

/// The kernel's own count for a process while it was traced: the referee of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounting {
    /// Process id (tgid).
    pub pid: u32,
    /// How much `maj_flt` grew, summed over its threads, dead ones included; `None` if it could
    /// not be read. What exceeds the majors reported was faulted in without an exception
    /// (`get_user_pages`) or filtered.
    pub maj_flt_delta: Option<u64>,
}

/// Faults between the programs and userspace: `received + lost = emitted`, or something is wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transport {
    /// Offered to the ring by the programs, after their filters.
    pub emitted: u64,
    /// Taken out of it.
    pub received: u64,
    /// Refused by it because it was full.
    pub lost: u64,
}

/// Why a count is not in the stream of faults in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LossClass {
    /// It happened and was not recorded.
    Lost,
    /// The user asked not to see it (`--min-duration`, `--major-only`).
    Filtered,
    /// Recorded, with a value that is a bound or an estimate.
    Approximate,
    /// Recorded, without a part that could not be read (a stack, a path, a symbol).
    Unreadable,
}

/// Something that could not be recorded, or not in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// What happened to it.
    pub class: LossClass,
    /// Stable machine-readable reason, `snake_case`.
    pub reason: Cow<'static, str>,
    /// How many, since the last report of this reason.
    pub count: u64,
}

/// A captured stack, symbolized as far as it was possible.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stack {
    /// Identity: equal stacks of one address space have equal ids.
    pub id: u64,
    /// Innermost first. Inlined calls are frames of their own, before the function they are in.
    pub frames: Vec<Frame>,
    /// There were more frames than could be captured.
    pub truncated: bool,
}

/// One frame of a stack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The address: for callers the return address as captured.
    pub address: u64,
    /// Demangled function name; `None` if there is no symbol.
    pub function: Option<Name>,
    /// Offset in the function, bytes.
    pub offset: Option<u64>,
    /// File name of the ELF module (or kernel module), as mapped.
    pub module: Option<Name>,
    /// Offset of the address in the module's file, bytes.
    pub module_offset: Option<u64>,
    /// The module's build id (ELF note `NT_GNU_BUILD_ID`), raw bytes.
    pub build_id: Option<Name>,
    /// Source file.
    pub file: Option<Name>,
    /// Source line, from 1.
    pub line: Option<u32>,
    /// A call that the compiler inlined into the next frame.
    pub inlined: bool,
}

impl Frame {
    /// How much memory frames take at most, bytes: names may be shared.
    pub(crate) fn bytes_of(frames: &[Frame]) -> usize {
        let name = |name: &Option<Name>| name.as_ref().map_or(0, |name| name.as_bytes().len());
        let bytes = |frame: &Frame| size_of::<Frame>() + name(&frame.function) + name(&frame.file);
        frames.iter().map(bytes).sum()
    }
}
