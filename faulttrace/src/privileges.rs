//! What each thread of the tracer may still do once everything is attached: no more than it needs.
//!
//! Linux keeps capabilities for each thread, so each gives up its own, first of all: the session's
//! when the programs are attached, the others when they begin. Threads share their memory, so that
//! together they are only as confined as the one that keeps most; what that is, is in
//! docs/architecture.md.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// The session's own thread: prints, and takes signals.
pub const SESSION: CapabilitySet = CapabilitySet::empty();
/// The same where it passes signals on to a command, which may run as another user.
pub const SESSION_OF_COMMAND: CapabilitySet = CapabilitySet::KILL;
/// Whoever reads memory maps of other users' processes and opens what is mapped there.
pub const MAPS: CapabilitySet = CapabilitySet::SYS_PTRACE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::CHECKPOINT_RESTORE);
/// Whoever reads the memory of other users' processes.
pub const MEMORY: CapabilitySet = CapabilitySet::SYS_PTRACE;
/// Whoever reads on what other users' threads sleep.
pub const STACKS: CapabilitySet = CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH);
/// The thread that drains the ring: it uses the programs' maps (which took CAP_BPF until Linux 5.19,
/// commit c8644cd0efe7), opens perf events of threads, and starts readers of memory maps.
pub const TRACER: CapabilitySet = MAPS.union(CapabilitySet::BPF).union(CapabilitySet::PERFMON);
/// The helper that reads symbols: opening one's own descriptor again asks for the right to read the
/// file.
pub const HELPER: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;

/// What CAP_SYS_ADMIN stands for as well (include/linux/capability.h).
const IN_ADMIN: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::CHECKPOINT_RESTORE);

/// Gives up, in the calling thread and those that it starts, every capability but these, and the
/// right ever to get one back. What cannot be given up is told, and tracing goes on.
pub fn keep(wanted: CapabilitySet) {
    report(confine(wanted, CapabilitySet::empty()));
}

/// As [`keep`], with some of them handed on to the programs that the thread executes.
pub fn keep_and_hand_on(wanted: CapabilitySet, handed_on: CapabilitySet) {
    report(confine(wanted, handed_on));
}

/// As [`keep`] with nothing, for a thread that writes these files: if it may do that only because
/// root may write anything, that right is all it keeps.
pub fn keep_to_write(paths: &[&Path]) {
    let root_writes = CapabilitySet::DAC_OVERRIDE;
    let done = capabilities(None).and_then(|held| {
        let mut without = held;
        without.effective.remove(root_writes);
        set_capabilities(None, without)?;
        let allowed = paths.iter().all(|path| may_write(path));
        set_capabilities(None, held)?;
        let wanted = if allowed {
            CapabilitySet::empty()
        } else {
            root_writes & held.effective
        };
        confine(wanted, CapabilitySet::empty())
    });
    report(done);
}

/// The capabilities that the calling thread would keep of these, by name; a word if there are none.
pub fn describe(wanted: CapabilitySet) -> String {
    let kept = capabilities(None).map_or(wanted, |held| kept_of(held.permitted, wanted));
    let names: Vec<String> = kept
        .iter_names()
        .map(|(name, _)| format!("CAP_{name}"))
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(" ")
    }
}

fn report(done: rustix::io::Result<()>) {
    if let Err(error) = done {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("?");
        log::warn!("the thread \"{name}\" keeps more privileges than it needs: {error}");
    }
}

/// What is kept of what is held: whoever has CAP_SYS_ADMIN in the place of others keeps that.
fn kept_of(held: CapabilitySet, wanted: CapabilitySet) -> CapabilitySet {
    let lacking = wanted & IN_ADMIN & !held;
    let instead = if lacking.is_empty() {
        CapabilitySet::empty()
    } else {
        CapabilitySet::SYS_ADMIN
    };
    held & (wanted | instead)
}

fn confine(wanted: CapabilitySet, handed_on: CapabilitySet) -> rustix::io::Result<()> {
    set_no_new_privs(true)?;
    let held = capabilities(None)?;
    let kept = kept_of(held.permitted, wanted);
    let handed_on = handed_on & kept;
    // Nobody else may; without, the set bounds nothing any more, because of no_new_privs.
    if held.effective.contains(CapabilitySet::SETPCAP) {
        bound(kept)?;
    }
    clear_ambient_capability_set()?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: handed_on,
        },
    )?;
    for one in handed_on.iter() {
        configure_capability_in_ambient_set(one, true)?;
    }
    Ok(())
}

/// Takes all but these off the bounding set.
fn bound(kept: CapabilitySet) -> rustix::io::Result<()> {
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        // The kernel refuses what it does not know: that was the last.
        let Ok(there) = capability_is_in_bounding_set(one) else {
            break;
        };
        if there && !kept.contains(one) {
            remove_capability_from_bounding_set(one)?;
        }
    }
    Ok(())
}

/// Whether this thread may write, with the capabilities that are in effect now. Not access(2), which
/// asks for the real user with all that is permitted.
fn may_write(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: the kernel reads the path up to its 0 and keeps nothing.
    let done = unsafe {
        libc::syscall(
            libc::SYS_faccessat2,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::W_OK,
            libc::AT_EACCESS,
        )
    };
    done == 0
}

/// For a child between fork and exec: a command is not to have what the tracer was given for itself.
///
/// # Errors
///
/// What prctl(2) says.
pub fn hand_on_nothing() -> io::Result<()> {
    clear_ambient_capability_set().map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_held_is_not_kept_but_in_the_form_of_sys_admin() {
        let all = CapabilitySet::from_bits_retain((1 << 41) - 1);
        assert_eq!(kept_of(all, TRACER), TRACER);
        let few = CapabilitySet::BPF | CapabilitySet::CHOWN;
        assert_eq!(kept_of(few, TRACER), CapabilitySet::BPF);
        let admin = CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE;
        assert_eq!(kept_of(admin, TRACER), admin);
        assert_eq!(kept_of(admin, MEMORY), CapabilitySet::SYS_PTRACE);
        assert_eq!(kept_of(all, SESSION), CapabilitySet::empty());
    }

    #[test]
    fn a_thread_that_gave_up_everything_has_nothing_and_the_others_are_as_before() {
        let before = capabilities(None).expect("ours");
        let after = std::thread::spawn(|| {
            keep(SESSION);
            let none_new = rustix::thread::no_new_privs().expect("known");
            (capabilities(None).expect("its own"), none_new)
        });
        let (after, none_new) = after.join().expect("no panic");
        assert!(none_new);
        assert!(after.permitted.is_empty() && after.effective.is_empty());
        assert_eq!(capabilities(None).expect("ours"), before);
    }

    #[test]
    fn a_writer_of_its_own_files_keeps_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_owned();
        let kept = std::thread::spawn(move || {
            keep_to_write(&[&path]);
            capabilities(None).expect("its own").permitted
        });
        assert!(kept.join().expect("no panic").is_empty());
    }
}
