//! The tracer's side of one process: starts it, asks it, ends it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;

use super::{ARGUMENT, About, MAX_ANSWER, QUESTION_BYTES};
use crate::process::maps::FileId;
use crate::process::starting::Starting;

/// How long an answer may take: large debug information takes seconds.
const ANSWER_WAIT: Duration = Duration::from_secs(20);
/// How long the end of a process may take that was killed, and how long to rest between two looks.
const END_WAIT: Duration = Duration::from_secs(1);
const END_PAUSE: Duration = Duration::from_millis(1);

/// Killed processes that hung for longer.
static KILLED: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

pub(super) struct Process {
    child: Child,
    socket: OwnedFd,
    /// Numbers of the files that it has.
    sent: HashMap<FileId, u32>,
}

impl Process {
    pub(super) fn start() -> io::Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        reap(&mut killed());
        let _starting = Starting::begin();
        let child = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let process = Self {
            child,
            socket: ours,
            sent: HashMap::new(),
        };
        // Its greeting: from now on it has none of our descriptors. Without, it has ended when `_starting`
        // is dropped, which comes after.
        process.receive::<()>()?;
        Ok(process)
    }

    pub(super) fn ask<T: DeserializeOwned>(
        &mut self,
        id: Option<FileId>,
        file: &File,
        about: About,
        offset: u64,
    ) -> io::Result<Option<T>> {
        let new = u32::try_from(self.sent.len()).map_err(io::Error::other)?;
        let number = id.and_then(|id| self.sent.get(&id).copied());
        let question = question(number.unwrap_or(new), about, offset);
        let descriptor = [file.as_raw_fd()];
        let with_file = [ControlMessage::ScmRights(&descriptor)];
        sendmsg::<()>(
            self.socket.as_raw_fd(),
            &[IoSlice::new(&question)],
            if number.is_none() { &with_file } else { &[] },
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        if let Some(id) = id {
            self.sent.entry(id).or_insert(new);
        }
        self.receive()
    }

    fn receive<T: DeserializeOwned>(&self) -> io::Result<T> {
        self.wait()?;
        let mut answer = vec![0; MAX_ANSWER];
        let length = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let answer = answer.get(..length).unwrap_or_default();
        serde_json::from_slice(answer).map_err(io::Error::other)
    }

    fn wait(&self) -> io::Result<()> {
        let deadline = Instant::now() + ANSWER_WAIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) | Err(nix::Error::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Process {
    /// Kills it and waits until it has ended, which costs no more than the thread that asked. Not for ever: a
    /// file system may hang it.
    fn drop(&mut self) {
        // It may have died already.
        let _ = self.child.kill();
        let deadline = Instant::now() + END_WAIT;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() >= deadline {
                let pid = Pid::from_raw(self.child.id().cast_signed());
                killed().push(pid);
                break;
            }
            thread::sleep(END_PAUSE);
        }
    }
}

fn killed() -> MutexGuard<'static, Vec<Pid>> {
    KILLED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the ends of those that hung; they would stay as zombies.
fn reap(killed: &mut Vec<Pid>) {
    killed.retain(|pid| {
        let ended = waitpid(*pid, Some(WaitPidFlag::WNOHANG));
        matches!(ended, Ok(WaitStatus::StillAlive) | Err(nix::Error::EINTR))
    });
}

pub(super) fn question(number: u32, about: About, offset: u64) -> [u8; QUESTION_BYTES] {
    let mut bytes = [0; QUESTION_BYTES];
    bytes[..4].copy_from_slice(&number.to_ne_bytes());
    bytes[4..8].copy_from_slice(&about.word().to_ne_bytes());
    bytes[8..].copy_from_slice(&offset.to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;
    use nix::sys::wait::{Id, waitid};

    use super::*;

    fn endless() -> Child {
        let child = Command::new("sleep").arg("infinity").spawn();
        child.expect("started")
    }

    #[test]
    fn no_zombie_is_left_of_a_process_that_is_dropped() {
        let (ours, _theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .expect("sockets");
        let child = endless();
        let pid = Pid::from_raw(child.id().cast_signed());
        drop(Process {
            child,
            socket: ours,
            sent: HashMap::new(),
        });
        let left = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        assert_eq!(left, Err(Errno::ECHILD));
    }

    #[test]
    fn who_hung_when_it_was_killed_is_reaped_later() {
        let mut child = endless();
        let pid = Pid::from_raw(child.id().cast_signed());
        let mut killed = vec![pid];
        reap(&mut killed);
        assert_eq!(killed, [pid], "it lives");
        child.kill().expect("killed");
        let stays = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(pid), stays).expect("it has ended");
        reap(&mut killed);
        assert!(killed.is_empty());
        assert_eq!(waitpid(pid, None), Err(Errno::ECHILD));
    }
}
