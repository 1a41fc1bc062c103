//! Whether a process or thread that was named once is still that one: ids are reused.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::threads;

/// One process, or one thread of it, from when this was made.
#[derive(Debug, Clone)]
pub struct Life {
    id: u32,
    /// The process, held: its id may be given to another, the descriptor stays with this one.
    process: Option<Arc<OwnedFd>>,
    /// Clock ticks after boot; `None` if it had ended already.
    started: Option<u64>,
    is_thread: bool,
}

impl Life {
    /// Of a process.
    pub fn of_process(pid: u32) -> Self {
        // First the descriptor: what is read after it is of the same process or of none.
        let process = open(pid);
        Self {
            id: pid,
            process,
            started: threads::start_time(pid).ok(),
            is_thread: false,
        }
    }

    /// Of a thread.
    pub fn of_thread(pid: u32, tid: u32) -> Self {
        // One of a thread takes Linux 6.9 (PIDFD_THREAD, commit 64bef697d33b).
        let process = open(pid);
        Self {
            id: tid,
            process,
            started: threads::start_time(tid).ok(),
            is_thread: true,
        }
    }

    /// Whether it has ended. A process that its parent has not waited for has.
    pub fn is_over(&self) -> bool {
        match &self.process {
            Some(process) if has_ended(process) => true,
            // Alive, so that the id is still its own.
            Some(_) if !self.is_thread => false,
            // With the process there, or without a descriptor (too many open files), the time at
            // which it started tells it from another.
            _ => self.started.is_none() || threads::start_time(self.id).ok() != self.started,
        }
    }
}

fn open(pid: u32) -> Option<Arc<OwnedFd>> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok().map(Arc::new)
}

fn has_ended(process: &OwnedFd) -> bool {
    use std::os::fd::AsFd as _;
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_ends_with_its_process_and_not_before() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .expect("a child");
        let pid = child.id();
        let (process, thread) = (Life::of_process(pid), Life::of_thread(pid, pid));
        assert!(!process.is_over() && !thread.is_over());
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert!(process.is_over() && thread.is_over());
        assert!(Life::of_process(pid).is_over(), "it had ended before");
    }

    #[test]
    fn another_with_the_same_id_is_not_taken_for_it() {
        let own = std::process::id();
        let before = Life {
            started: Some(1),
            process: None,
            ..Life::of_process(own)
        };
        assert!(before.is_over());
    }
}
