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
use crate::process::elf_files::FileNumber;
use crate::process::starting::Starting;

/// How many files one keeps. Each costs two descriptors, of 1,024 that a process has by default, and memory
/// for what was read of it.
const MAX_FILES: usize = 384;
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
    sent: HashMap<FileNumber, u32>,
}

impl Process {
    pub(super) fn start() -> io::Result<Self> {
        let (ours, theirs) = sockets()?;
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

    /// Whether it would keep too many files with this one.
    pub(super) fn is_full_for(&self, file_number: FileNumber) -> bool {
        self.sent.len() >= MAX_FILES && !self.sent.contains_key(&file_number)
    }

    pub(super) fn ask<T: DeserializeOwned>(
        &mut self,
        file_number: Option<FileNumber>,
        file: &File,
        about: About,
        offset: u64,
    ) -> io::Result<Option<T>> {
        let new = u32::try_from(self.sent.len()).map_err(io::Error::other)?;
        let number = file_number.and_then(|number| self.sent.get(&number).copied());
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
        if let Some(file_number) = file_number {
            self.sent.entry(file_number).or_insert(new);
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

/// The two ends of what questions and answers go through.
pub(super) fn sockets() -> nix::Result<(OwnedFd, OwnedFd)> {
    socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
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

    use super::super::Helper;
    use super::*;

    fn endless() -> Child {
        let child = Command::new("sleep").arg("infinity").spawn();
        child.expect("started")
    }

    /// With the other end of its socket.
    fn silent() -> (Process, OwnedFd) {
        let (ours, theirs) = sockets().expect("sockets");
        let process = Process {
            child: endless(),
            socket: ours,
            sent: HashMap::new(),
        };
        (process, theirs)
    }

    #[test]
    fn no_zombie_is_left_of_a_process_that_is_dropped() {
        let (process, _theirs) = silent();
        let pid = Pid::from_raw(process.child.id().cast_signed());
        drop(process);
        let left = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        assert_eq!(left, Err(Errno::ECHILD));
    }

    #[test]
    fn one_that_keeps_too_many_files_is_replaced() {
        let (mut process, theirs) = silent();
        let full = (0..).map(FileNumber).zip(0..).take(MAX_FILES);
        process.sent = full.collect();
        assert!(!process.is_full_for(FileNumber(0)), "it has that");
        let mut helper = Helper {
            process: Some(process),
            ..Helper::default()
        };
        let file = File::open("/proc/self/exe").expect("our own program");
        // The test program is no helper, so there is no answer.
        let asked = helper.ask::<()>(Some(FileNumber(u64::MAX)), &file, About::BuildId, 0);
        assert!(asked.is_err());
        let read = recv(theirs.as_raw_fd(), &mut [0; 1], MsgFlags::empty());
        assert_eq!(read, Ok(0), "it was asked for no other file");
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
        assert!(child.wait().is_err(), "nothing is left of it");
    }
}
