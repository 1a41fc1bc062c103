//! Follows the frame pointers of a user stack.
//!
//! `bpf_get_stack` does the same, but ends by reading where the outermost frame pointer points to, which is
//! address 0: an exception in the kernel, at the price of all the rest.

use aya_ebpf::helpers::bpf_probe_read_user;
use faulttrace_ebpf::MAX_FRAMES;

use crate::config::{self, member};
use crate::maps;
use crate::registers;
use crate::stack::{note, seen};

/// No program has memory below: least value of the sysctl `vm.mmap_min_addr` as distributions set it.
const LOWEST_ADDRESS: u64 = 4096;

/// Captures the user stack of the current thread into this room of `maps::scratch`. Returns the number of frames; 0 if
/// the thread's registers of 64-bit user mode are not found.
///
/// A function of its own; see `stack::scan_stack`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn follow_frames(room: u32) -> u32 {
    let (Some(scratch), Some(registers)) = (
        maps::scratch(room),
        registers::user_registers(config::current_task()),
    ) else {
        return 0;
    };
    scratch.stack.frames[0] = member(registers, &config::OFF_REGS_IP);
    let frame_pointer = member(registers, &config::OFF_REGS_BP);
    note(&mut scratch.word, frame_pointer);
    let mut len = 1;
    while len < MAX_FRAMES {
        let frame = seen(&scratch.word);
        if frame < LOWEST_ADDRESS {
            break;
        }
        // SAFETY: the helper accepts any address and fails on a bad one, or one that is not in memory.
        let Ok([next, returns_to]) = (unsafe { bpf_probe_read_user(frame as *const [u64; 2]) })
        else {
            break;
        };
        // As in the kernel (arch/arm64/kernel/stacktrace.c): records are aligned, and lie further out each time.
        if cfg!(bpf_target_arch = "aarch64") && (frame & 7 != 0 || (next <= frame && next != 0)) {
            break;
        }
        scratch.stack.frames[len] = registers::without_signature(returns_to);
        note(&mut scratch.word, next);
        len += 1;
    }
    len as u32
}
