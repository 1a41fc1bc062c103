//! Keeps the memory that glibc's allocator holds near to what is in use. Elsewhere there is nothing to
//! do, or to be done.

/// Heaps that threads share. By default there are eight for each CPU, each of which keeps what was
/// free in it at some time: a tracer that had much to do once stays large.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;

/// To be called before there are threads.
pub fn share_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) sets a number of the allocator's own; there is one thread.
    unsafe {
        // It fails only for an unknown parameter, and then all is as before.
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
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
