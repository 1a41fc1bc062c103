//! What the flags and numbers of a fault mean.

use faulttrace_ebpf::flag;

use crate::model::{Access, Mode};
use crate::process::FileId;

/// Whether a fault that is over started the read of its page itself. The kernel says so of those that it
/// counts; of one that it gave up, whether the thread handed a read to a device in it, and not for later
/// pages alone. File systems that have no device (FUSE, NFS) read in other ways, unless they are on one
/// (btrfs).
pub(super) fn started(flags: u32, device: u32) -> Option<bool> {
    let has = |flag| flags & flag != 0;
    if !has(flag::GIVEN_UP) {
        return Some(has(flag::MAJOR));
    }
    if !has(flag::READ_MARKED) {
        return None;
    }
    if has(flag::READ_STARTED) {
        return (!has(flag::READ_AHEAD_UNTOLD)).then(|| !has(flag::READ_AHEAD));
    }
    let file = FileId {
        dev: device,
        ino: 0,
    };
    (!file.has_made_up_device()).then_some(false)
}

/// Whether a fault has a cause. One that did not sleep has none; of one that began before faulttrace attached,
/// and was only seen to end, it is not known whether it slept: its cause is unknown.
pub(super) fn waited(flags: u32, slept: bool) -> bool {
    slept || flags & flag::NO_START != 0
}

/// How the kernel came to the fault.
pub(super) fn mode_of(flags: u32) -> Mode {
    if flags & flag::GUP != 0 {
        Mode::Gup
    } else if flags & flag::KERNEL_MODE != 0 {
        Mode::Kernel
    } else {
        Mode::User
    }
}

/// The access, from the error code of an x86 page fault (arch/x86/include/asm/trap_pf.h).
pub(super) fn access_of(error: u32) -> Access {
    const WRITE: u32 = 1 << 1;
    const INSTRUCTION: u32 = 1 << 4;
    if error & INSTRUCTION != 0 {
        Access::Exec
    } else if error & WRITE != 0 {
        Access::Write
    } else {
        Access::Read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: u32 = 8 << 20 | 1;
    const FUSE: u32 = 46;

    #[test]
    fn whose_read_a_fault_waited_for_that_was_given_up() {
        let given_up = |more| started(flag::GIVEN_UP | flag::READ_MARKED | more, DISK);
        assert_eq!(given_up(flag::READ_STARTED), Some(true));
        assert_eq!(given_up(0), Some(false));
        // It read, but for later pages.
        assert_eq!(given_up(flag::READ_STARTED | flag::READ_AHEAD), Some(false));
        // What it read for is not told.
        let untold = flag::READ_AHEAD_UNTOLD;
        assert_eq!(given_up(flag::READ_STARTED | untold), None);
        assert_eq!(given_up(untold), Some(false));
        assert_eq!(started(flag::GIVEN_UP, DISK), None);
    }

    #[test]
    fn a_file_system_without_a_device_may_read_in_other_ways() {
        let given_up = |more| started(flag::GIVEN_UP | flag::READ_MARKED | more, FUSE);
        assert_eq!(given_up(0), None);
        assert_eq!(given_up(flag::READ_STARTED), Some(true));
    }

    #[test]
    fn what_began_before_may_have_slept_unseen() {
        assert!(waited(flag::MAJOR | flag::NO_START, false));
        assert!(waited(flag::MAJOR, true));
        assert!(!waited(flag::MAJOR | flag::APPROXIMATE_START, false));
    }

    #[test]
    fn the_kernel_tells_of_what_it_counts() {
        assert_eq!(started(flag::MAJOR, FUSE), Some(true));
        assert_eq!(
            started(flag::READ_MARKED | flag::READ_STARTED, DISK),
            Some(false)
        );
    }
}
