//! Asks the kernel directly whether it grants what the probe will ask for.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use crate::bpf_call::bpf_open;

/// `BPF_MAP_CREATE` and `BPF_MAP_TYPE_RINGBUF` of include/uapi/linux/bpf.h.
const MAP_CREATE: libc::c_int = 0;
const TYPE_RINGBUF: u32 = 27;

/// The first fields of `union bpf_attr` for `BPF_MAP_CREATE`; the kernel takes the rest as zero.
#[repr(C)]
struct MapAttributes {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// Creates the smallest ring buffer and lets it go. Before kernel commits 3ac1f01b43b6 and 80ee81e0403c (5.11) maps
/// count as locked memory of the user, of which another tracer may have used up what is allowed: then as much as
/// is wanted is allowed for this, as it will be when the programs are loaded.
pub(super) fn create_ring_buffer() -> io::Result<()> {
    let is_refused = |result: &io::Result<()>| matches!(result, Err(error) if error.raw_os_error() == Some(libc::EPERM));
    let first = try_ring_buffer();
    if !is_refused(&first) {
        return first;
    }
    let memlock = Resource::RLIMIT_MEMLOCK;
    let Ok((soft, hard)) = getrlimit(memlock) else {
        return first;
    };
    if setrlimit(memlock, RLIM_INFINITY, RLIM_INFINITY).is_err() {
        return first;
    }
    let again = try_ring_buffer();
    setrlimit(memlock, soft, hard)?;
    again
}

/// How much memory may be locked, once as much as may be is asked for (`RLIMIT_MEMLOCK`), bytes.
pub(super) fn memlock_bytes() -> u64 {
    getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(_, hard)| hard)
}

fn try_ring_buffer() -> io::Result<()> {
    let attributes = MapAttributes {
        map_type: TYPE_RINGBUF,
        key_size: 0,
        value_size: 0,
        max_entries: 4096,
        map_flags: 0,
    };
    // SAFETY: without addresses; makes a descriptor.
    unsafe { bpf_open(MAP_CREATE, &attributes) }.map(drop)
}

/// `PERF_TYPE_SOFTWARE`, `PERF_COUNT_SW_PAGE_FAULTS_MAJ` and the oldest `size` of
/// include/uapi/linux/perf_event.h.
const TYPE_SOFTWARE: u32 = 1;
const PAGE_FAULTS_MAJ: u64 = 6;
const ATTRIBUTES_BYTES: usize = 64;

/// `struct perf_event_attr`, version 0.
#[repr(C)]
struct EventAttributes {
    kind: u32,
    size: u32,
    config: u64,
    rest: [u8; ATTRIBUTES_BYTES - 16],
}

/// Opens the event of major faults on a CPU, as the probe will on each, and lets it go.
pub(super) fn open_major_faults() -> io::Result<()> {
    let size = u32::try_from(ATTRIBUTES_BYTES).unwrap_or(0);
    let attributes = EventAttributes {
        kind: TYPE_SOFTWARE,
        size,
        config: PAGE_FAULTS_MAJ,
        rest: [0; ATTRIBUTES_BYTES - 16],
    };
    let (every_process, cpu, no_group, flags) = (-1, 0, -1, 0);
    // SAFETY: the kernel reads `size` bytes at the pointer and keeps nothing.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            every_process,
            cpu,
            no_group,
            flags,
        )
    };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for us alone.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}

/// `BPF_PROG_LOAD`, `BPF_RAW_TRACEPOINT_OPEN`, `BPF_PROG_TYPE_TRACING` and `BPF_TRACE_FEXIT` of
/// include/uapi/linux/bpf.h.
const PROG_LOAD: libc::c_int = 5;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const TYPE_TRACING: u32 = 26;
const TRACE_FEXIT: u32 = 25;

/// The fields of `union bpf_attr` for `BPF_PROG_LOAD` up to the last that is needed.
#[repr(C)]
#[derive(Default)]
struct ProgramAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log: [u64; 2],
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

/// The fields for `BPF_RAW_TRACEPOINT_OPEN`.
#[repr(C)]
struct OpenAttributes {
    name: u64,
    prog_fd: i32,
    padding: u32,
}

/// `struct bpf_insn`.
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8) -> Instruction {
    Instruction {
        code,
        registers: 0,
        offset: 0,
        immediate: 0,
    }
}

/// Attaches a program that does nothing to the return of the kernel function with this BTF id, and
/// takes it away again. Loading alone proves nothing where the architecture has no trampolines.
pub(super) fn attach_fexit(function: u32) -> io::Result<()> {
    // r0 = 0; exit
    static PROGRAM: [Instruction; 2] = [instruction(0xb7), instruction(0x95)];
    const LICENSE: &std::ffi::CStr = c"Dual MIT/GPL";
    let attributes = ProgramAttributes {
        prog_type: TYPE_TRACING,
        insn_cnt: 2,
        insns: (&raw const PROGRAM).expose_provenance() as u64,
        license: LICENSE.as_ptr().expose_provenance() as u64,
        expected_attach_type: TRACE_FEXIT,
        attach_btf_id: function,
        ..ProgramAttributes::default()
    };
    // SAFETY: what the two addresses are of lives as long as the program; makes a descriptor.
    let program = unsafe { bpf_open(PROG_LOAD, &attributes) }?;
    let attributes = OpenAttributes {
        name: 0,
        prog_fd: program.as_raw_fd(),
        padding: 0,
    };
    // SAFETY: without addresses; makes a descriptor.
    unsafe { bpf_open(RAW_TRACEPOINT_OPEN, &attributes) }.map(drop)
}
