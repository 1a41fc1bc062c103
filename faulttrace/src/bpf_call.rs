//! bpf(2), for what aya has no function.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

/// What the call returns: a new descriptor for some commands, 0 for others.
///
/// # Errors
///
/// What the kernel says.
///
/// # Safety
///
/// `attributes` begins as `union bpf_attr` does for this command, and what addresses in it point to may be
/// read, and written where the command does, until the call returns.
pub(crate) unsafe fn bpf_call<T>(command: libc::c_int, attributes: &T) -> io::Result<RawFd> {
    let pointer = std::ptr::from_ref(attributes);
    // SAFETY: the kernel reads `size_of` bytes at the pointer; the rest is up to the caller.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size_of::<T>()) };
    match RawFd::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The same for a command that makes a descriptor.
///
/// # Errors
///
/// As [`bpf_call`].
///
/// # Safety
///
/// As [`bpf_call`], and the command returns a new descriptor.
pub(crate) unsafe fn bpf_open<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's.
    let fd = unsafe { bpf_call(command, attributes) }?;
    // SAFETY: the kernel has just made it for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
