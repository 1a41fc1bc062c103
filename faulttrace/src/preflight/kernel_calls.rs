//! Asks the kernel directly whether it grants what the probe will ask for.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

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

/// Creates the smallest ring buffer and lets it go.
pub(super) fn create_ring_buffer() -> io::Result<()> {
    let attributes = MapAttributes {
        map_type: TYPE_RINGBUF,
        key_size: 0,
        value_size: 0,
        max_entries: 4096,
        map_flags: 0,
    };
    // SAFETY: the kernel reads `size_of` bytes at the pointer and keeps nothing.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            MAP_CREATE,
            &raw const attributes,
            size_of::<MapAttributes>(),
        )
    };
    close(fd)
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
    close(fd)
}

/// The result of a system call that returns a new descriptor.
fn close(fd: libc::c_long) -> io::Result<()> {
    match RawFd::try_from(fd) {
        Ok(fd) if fd >= 0 => {
            // SAFETY: the kernel has just made it for us alone.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            Ok(())
        }
        _ => Err(io::Error::last_os_error()),
    }
}
