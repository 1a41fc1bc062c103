//! What crosses between the programs and userspace about Go programs.

/// Bits of [`Goroutine::flags`].
pub mod flag {
    /// Its memory has been looked at, whether or not it could be read.
    pub const TRIED: u32 = 1;
    /// Thread and goroutine know each other: what was read is what it was taken for.
    pub const FOUND: u32 = 1 << 1;
    /// `id`, `start_pc` and `go_pc` are valid. Without it the thread worked for the runtime itself.
    pub const HAS_ID: u32 = 1 << 2;
    /// The thread held a P that nobody could take from it; `p` is valid.
    pub const HOLDS_P: u32 = 1 << 3;
    /// The runtime knew that the thread was in a system call or in C, and gives its P to others.
    pub const IN_SYSCALL: u32 = 1 << 4;
    /// `procs` is valid.
    pub const HAS_PROCS: u32 = 1 << 5;
    /// `local` is valid.
    pub const HAS_LOCAL: u32 = 1 << 6;
    /// `global` is valid.
    pub const HAS_GLOBAL: u32 = 1 << 7;
    /// It has labels of the profiler; `labels` says which, if they could be read.
    pub const HAS_LABELS: u32 = 1 << 8;
}

/// Values of [`GoLayout::labels_form`]: what `g.labels` points to.
pub mod labels_form {
    /// Not known.
    pub const UNKNOWN: u32 = 0;
    /// A slice of pairs of strings (runtime/pprof/label.go, since Go 1.24).
    pub const LIST: u32 = 1;
    /// A map of strings to strings, with up to 8 of them in one bucket (runtime/map.go, until Go 1.23).
    pub const MAP: u32 = 2;
}

/// Status of a goroutine in a system call, or in C (runtime/runtime2.go, `_Gsyscall`). Until Go 1.25
/// its thread has no P then (`m.p` is 0, runtime/proc.go, reentersyscall); since 1.26 it keeps it until
/// another takes it.
pub const SYSCALL: u32 = 3;
/// Added to a status while the stack is looked at (`_Gscan`).
pub const SCAN: u32 = 0x1000;
/// The queue of a P holds no more (runtime/runtime2.go, `p.runq`).
pub const MAX_LOCAL: u32 = 256;

/// Labels of one goroutine that are kept.
pub const MAX_LABELS: usize = 4;
/// Room for a key; its first 31 bytes are kept.
pub const KEY_LEN: usize = 32;
/// Room for a value; its first 63 bytes are kept.
pub const VALUE_LEN: usize = 64;

/// One label of the profiler.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Bytes of the key, kept or not.
    pub key_len: u32,
    /// Bytes of the value, kept or not.
    pub value_len: u32,
    /// The key; zeros behind it.
    pub key: [u8; KEY_LEN],
    /// The value; zeros behind it.
    pub value: [u8; VALUE_LEN],
}

/// The labels of a goroutine, value of map `LABELS`; the key is a hash of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labels {
    /// How many there are.
    pub count: u32,
    /// Unused, zero.
    pub padding: u32,
    /// The first of them.
    pub labels: [Label; MAX_LABELS],
}

/// Where the Go runtime of a process keeps what is read, value of map `GO`; the key is the process id.
///
/// Addresses are those of the process; 0 = not known. The rest are offsets of members of the runtime's
/// structures, bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoLayout {
    /// Code of Go.
    pub text_begin: u64,
    /// Its end.
    pub text_end: u64,
    /// `runtime.gomaxprocs`.
    pub gomaxprocs: u64,
    /// How many goroutines the queue has that all Ps share (`runtime.sched`).
    pub runqsize: u64,
    /// Where a thread's `g` is, from its thread pointer on.
    pub tls_g: i64,
    /// 1 = `tls_g` is valid.
    pub has_tls: u32,
    /// `g.m`.
    pub g_m: u32,
    /// `g.atomicstatus`.
    pub g_status: u32,
    /// `g.goid`.
    pub g_id: u32,
    /// `g.startpc`.
    pub g_start_pc: u32,
    /// `g.gopc`.
    pub g_go_pc: u32,
    /// `m.g0`.
    pub m_g0: u32,
    /// `m.curg`.
    pub m_curg: u32,
    /// `m.p`.
    pub m_p: u32,
    /// `p.id`.
    pub p_id: u32,
    /// `p.runqhead`.
    pub p_runq_head: u32,
    /// `p.runqtail`.
    pub p_runq_tail: u32,
    /// `p.runnext`.
    pub p_run_next: u32,
    /// `g.labels`.
    pub g_labels: u32,
    /// One of [`labels_form`].
    pub labels_form: u32,
    /// Unused, zero.
    pub padding: u32,
}

/// What a thread of a Go program was at when it first slept in a fault.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Goroutine {
    /// [`flag`]s.
    pub flags: u32,
    /// Number of the P.
    pub p: u32,
    /// Number of the goroutine.
    pub id: u64,
    /// Where the function begins that the goroutine was made to run.
    pub start_pc: u64,
    /// Where it was made: the address behind the `go` statement.
    pub go_pc: u64,
    /// GOMAXPROCS.
    pub procs: u32,
    /// Goroutines that are ready to run and wait for this very P.
    pub local: u32,
    /// Goroutines that are ready to run and wait for any P.
    pub global: u32,
    /// Unused, zero.
    pub padding: u32,
    /// Its labels: key of map `LABELS`; 0 = none that could be read.
    pub labels: u64,
}

impl Goroutine {
    /// Not looked for.
    pub const NONE: Goroutine = Goroutine {
        flags: 0,
        p: 0,
        id: 0,
        start_pc: 0,
        go_pc: 0,
        procs: 0,
        local: 0,
        global: 0,
        padding: 0,
        labels: 0,
    };
}

/// In place of a number of goroutines: it could not be read.
pub const NOT_READ: u32 = u32::MAX;

/// What the thread of a fault was at, sent right before the fault.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct GoroutineEvent {
    /// [`super::kind::GOROUTINE`].
    pub kind: u32,
    /// Thread id.
    pub tid: u32,
    /// [`super::FaultEvent::start_ns`] of the fault.
    pub start_ns: u64,
    /// As it was when the fault first slept, or at its end if that was not seen or it never slept.
    pub goroutine: Goroutine,
    /// [`Goroutine::global`] at the fault's end; [`NOT_READ`] if it is not known.
    pub global_at_end: u32,
    /// Unused, zero.
    pub padding: u32,
}

const _: () = {
    assert!(size_of::<GoLayout>() == 5 * 8 + 16 * 4);
    assert!(size_of::<Goroutine>() == 4 * 8 + 6 * 4);
    assert!(size_of::<Label>() == 8 + KEY_LEN + VALUE_LEN);
    assert!(size_of::<Labels>() == 8 + MAX_LABELS * size_of::<Label>());
    assert!(KEY_LEN.is_power_of_two() && VALUE_LEN.is_power_of_two());
    assert!(size_of::<GoroutineEvent>() == 16 + size_of::<Goroutine>() + 8);
};
