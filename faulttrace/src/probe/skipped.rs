//! How many runs of the programs the kernel has skipped: it does not run a program on a CPU on which another run
//! of it was preempted or interrupted (kernel/bpf/trampoline.c and kernel/trace/bpf_trace.c, `prog->active`).

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::Ebpf;

use crate::bpf_call::bpf_call;

/// `BPF_OBJ_GET_INFO_BY_FD` of include/uapi/linux/bpf.h.
const GET_INFO: libc::c_int = 15;
/// Where `struct bpf_prog_info` has `recursion_misses`, in words: since kernel commit 9ed9e9ba2337 (5.12).
const MISSES: usize = 26;
/// Words of it that are asked for.
const WORDS: usize = MISSES + 1;

/// The member `info` of `union bpf_attr`; the kernel takes the rest as zero.
#[repr(C)]
struct InfoAttributes {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// Runs that were skipped.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Skipped {
    /// Of the programs at beginnings of faults.
    pub begins: u64,
    /// Of all others.
    pub others: u64,
}

/// Of all programs that are loaded. 0 before Linux 5.12, which does not count them.
pub(super) fn runs(ebpf: &Ebpf) -> Skipped {
    let mut skipped = Skipped::default();
    for (name, program) in ebpf.programs() {
        let Ok(fd) = program.fd() else { continue };
        let runs = of_program(fd.as_fd().as_raw_fd());
        if name.starts_with("page_fault_") {
            skipped.begins += runs;
        } else {
            skipped.others += runs;
        }
    }
    skipped
}

fn of_program(fd: i32) -> u64 {
    let mut info = [0_u64; WORDS];
    let attributes = InfoAttributes {
        bpf_fd: u32::try_from(fd).unwrap_or(u32::MAX),
        info_len: u32::try_from(size_of_val(&info)).unwrap_or(0),
        info: info.as_mut_ptr().expose_provenance() as u64,
    };
    // SAFETY: the kernel writes at most `info_len` bytes to `info`.
    if let Err(error) = unsafe { bpf_call(GET_INFO, &attributes) } {
        log::debug!("a program's account: {error}");
        return 0;
    }
    info[MISSES]
}
