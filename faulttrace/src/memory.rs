//! Keeps the memory that glibc's allocator holds near to what is in use. Elsewhere there is nothing to
//! do, or to be done.

/// Heaps that threads share. By default there are eight for each CPU, each of which keeps what was
/// free in it at some time: a tracer that had much to do once stays large.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;
/// Blocks from this size on are mapped, and go back to the kernel when they are freed. By default the
/// bound rises, up to 32 MiB, with the largest block that was ever freed; from then on such blocks lie
/// in the heaps, which nothing below the top leaves again (mallopt(3), `M_MMAP_THRESHOLD`).
#[cfg(target_env = "gnu")]
const MAPPED_FROM: libc::c_int = 1 << 20;
/// How much may be free at the top of a heap.
#[cfg(target_env = "gnu")]
const FREE_AT_TOP: libc::c_int = 4 << 20;

/// To be called before there are threads.
pub fn bound() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, ARENAS),
        (libc::M_MMAP_THRESHOLD, MAPPED_FROM),
        (libc::M_TRIM_THRESHOLD, FREE_AT_TOP),
    ] {
        // SAFETY: mallopt(3) sets a number of the allocator's own; there is one thread.
        unsafe {
            // It fails only for an unknown parameter, and then all is as before.
            libc::mallopt(parameter, value);
        }
    }
}

/// Gives free memory back to the kernel; takes milliseconds. To be called when something large is
/// done with: the kernel's types and symbols take 60 MB while they are read.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) has no condition.
    unsafe {
        libc::malloc_trim(0);
    }
}
