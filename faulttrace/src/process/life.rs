//! Whether a process or thread that was named once is still that one: ids are reused. Waits for no process.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::threads;

/// One process, or one thread of it, from when this was made.
#[derive(Debug, Clone)]
pub struct Life {
    id: u32,
    /// The process, held: its id may be given to another, the descriptor stays with this one.
    process: Option<Arc<OwnedFd>>,
    /// Of a thread, its name, which can be read as long as it is this thread's.
    thread: Option<Arc<File>>,
    is_thread: bool,
}

impl Life {
    /// Of a process.
    pub fn of_process(pid: u32) -> Self {
        Self {
            id: pid,
            process: open(pid),
            thread: None,
            is_thread: false,
        }
    }

    /// Of a thread.
    pub fn of_thread(pid: u32, tid: u32) -> Self {
        // One of a thread takes Linux 6.9 (PIDFD_THREAD, commit 64bef697d33b).
        let process = open(pid);
        let thread = File::open(format!("/proc/{pid}/task/{tid}/comm"));
        let thread = thread.ok().map(Arc::new);
        Self {
            id: tid,
            process,
            thread,
            is_thread: true,
        }
    }

    /// Whether it has ended. A process that its parent has not waited for has.
    pub fn is_over(&self) -> bool {
        match (&self.process, &self.thread) {
            (Some(process), _) if has_ended(process) => true,
            // Alive, so that the id is still its own.
            (Some(_), _) if !self.is_thread => false,
            (Some(_), Some(thread)) => is_of_nobody(thread),
            // Without a descriptor (too many open files) another with its id is taken for it: what tells them
            // apart hangs while a process executes a program.
            _ => !threads::exists(self.id) || threads::is_zombie(self.id),
        }
    }
}

/// Whether a file of /proc is of a thread that is no more, whoever has its id.
fn is_of_nobody(file: &File) -> bool {
    let read = file.read_at(&mut [0], 0);
    read.is_err_and(|error| error.raw_os_error() == Some(Errno::ESRCH as i32))
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
    fn a_thread_ends_before_its_process() {
        let (tell, told) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(nix::unistd::gettid().as_raw()).expect("sent");
            let _ = wait.recv();
        });
        let tid = u32::try_from(told.recv().expect("a tid")).expect("positive");
        let life = Life::of_thread(std::process::id(), tid);
        assert!(life.thread.is_some() && !life.is_over());
        drop(done);
        thread.join().expect("ends");
        // It is joined a moment before the kernel has taken it out.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !life.is_over() {
            assert!(std::time::Instant::now() < deadline, "it never ends");
            std::thread::yield_now();
        }
        assert!(Life::of_thread(std::process::id(), tid).is_over());
    }

    #[test]
    fn without_a_descriptor_it_lives_as_long_as_there_is_somebody_of_its_id() {
        let without = |life: Life| Life {
            process: None,
            thread: None,
            ..life
        };
        let own = std::process::id();
        assert!(!without(Life::of_process(own)).is_over());
        assert!(!without(Life::of_thread(own, own)).is_over());
        assert!(without(Life::of_process(u32::MAX >> 1)).is_over());
    }
}
