//! Starts a command as the user who called sudo, held back before its first instruction until the
//! programs are attached.

use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, setgid, setgroups, setuid};

use super::caller::{self, Caller, caller};
use crate::privileges::hand_on_nothing;

/// Why a command could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such program, or it cannot be executed.
    #[error("{command}: {source}")]
    Exec {
        /// What was to be run, escaped.
        command: String,
        /// Why not.
        source: io::Error,
    },
    /// The user who called sudo is not what sudo says.
    #[error(transparent)]
    User(#[from] caller::Error),
    /// Anything else.
    #[error("start a process: {0}")]
    Start(#[from] io::Error),
}

impl Error {
    /// The exit code a shell would give: 127 not found, 126 not executable.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Exec { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Error::Exec { .. } => 126,
            _ => 1,
        }
    }
}

/// A command that was started.
pub struct Launched {
    pid: Pid,
    /// Written to, the command goes on; closed, it ends.
    hold: Option<PipeWriter>,
    starter: Option<JoinHandle<io::Result<Child>>>,
    child: Option<Child>,
    name: String,
}

/// Starts a command, held back.
pub fn stopped(command: &[OsString]) -> Result<Launched, Error> {
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| io::Error::other("no command"))?;
    let name = program.to_string_lossy().escape_debug().to_string();
    let (mut told_pid, tell_pid) = io::pipe()?;
    let (held, hold) = io::pipe()?;
    let user = caller()?;
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(user) = &user {
        command
            .env("HOME", &user.home)
            .env("USER", &user.name)
            .env("LOGNAME", &user.name);
    }
    hold_back(&mut command, tell_pid, held, hold.as_raw_fd(), user);
    // spawn returns only after exec, so it waits on a thread of its own.
    let starter = std::thread::Builder::new()
        .name("launch".to_owned())
        .spawn(move || command.spawn())?;
    let mut bytes = [0; 4];
    if let Err(error) = told_pid.read_exact(&mut bytes) {
        // The child ended before it could tell its id; spawn knows why.
        return Err(match starter.join() {
            Ok(Err(source)) => Error::Exec {
                command: name,
                source,
            },
            _ => Error::Start(error),
        });
    }
    let pid = Pid::from_raw(i32::from_ne_bytes(bytes));
    Ok(Launched {
        pid,
        hold: Some(hold),
        starter: Some(starter),
        child: None,
        name,
    })
}

/// Has the child tell its id, wait, and change to the user.
fn hold_back(
    command: &mut Command,
    mut tell_pid: PipeWriter,
    mut held: PipeReader,
    hold: i32,
    user: Option<Caller>,
) {
    let before_exec = move || {
        // Its copy of the tracer's end must go, or the tracer's death would not be noticed.
        // SAFETY: closes a descriptor of this process's own table that nothing here uses.
        unsafe { libc::close(hold) };
        tell_pid.write_all(&std::process::id().cast_signed().to_ne_bytes())?;
        held.read_exact(&mut [0])?;
        hand_on_nothing()?;
        if let Some(user) = &user {
            setgroups(&user.groups)?;
            setgid(user.gid)?;
            setuid(user.uid)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec, only system calls on memory allocated before.
    unsafe { command.pre_exec(before_exec) };
}

impl Launched {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Lets it execute its first instruction. Says why if there is nothing to execute.
    pub fn release(&mut self) -> Result<(), Error> {
        if let Some(mut hold) = self.hold.take() {
            hold.write_all(&[1])?;
        }
        let Some(starter) = self.starter.take() else {
            return Ok(());
        };
        match starter.join() {
            Ok(Ok(child)) => {
                self.child = Some(child);
                Ok(())
            }
            Ok(Err(source)) => Err(Error::Exec {
                command: self.name.clone(),
                source,
            }),
            Err(_) => Err(Error::Start(io::Error::other(
                "the launching thread panicked",
            ))),
        }
    }

    /// Its exit code if it has ended: 128 + the signal that killed it.
    pub fn try_wait(&mut self) -> io::Result<Option<u8>> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        Ok(child.try_wait()?.map(exit_code))
    }

    /// Whether it has ended, without waiting for it: until then its id is not given to another.
    pub fn has_ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        // An error says that there is no such child any more.
        waitid(Id::Pid(self.pid), flags) != Ok(WaitStatus::StillAlive)
    }

    /// Passes a signal on.
    pub fn signal(&self, signal: Signal) -> nix::Result<()> {
        kill(self.pid, signal)
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn launch(command: &[&str]) -> Launched {
        let command: Vec<OsString> = command.iter().map(OsString::from).collect();
        stopped(&command).expect("started")
    }

    fn ended(launched: &mut Launched) -> u8 {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(code) = launched.try_wait().expect("waits") {
                return code;
            }
            assert!(Instant::now() < deadline, "the command does not end");
            std::thread::yield_now();
        }
    }

    #[test]
    fn it_waits_for_its_release_and_gives_its_exit_code() {
        let mut launched = launch(&["sh", "-c", "exit 7"]);
        let exe = std::fs::read_link(format!("/proc/{}/exe", launched.pid())).expect("lives");
        assert_eq!(
            exe,
            std::env::current_exe().expect("ours"),
            "it has not executed anything yet"
        );
        launched.release().expect("released");
        assert_eq!(ended(&mut launched), 7);
    }

    #[test]
    fn a_signal_reaches_it_and_shows_in_the_exit_code() {
        let mut launched = launch(&["sleep", "1000"]);
        launched.release().expect("released");
        launched.signal(Signal::SIGTERM).expect("sent");
        assert_eq!(ended(&mut launched), 128 + 15);
    }

    #[test]
    fn its_end_is_noticed_and_its_exit_code_is_still_there() {
        let mut launched = launch(&["sleep", "1000"]);
        assert!(!launched.has_ended(), "it is held back");
        launched.release().expect("released");
        launched.signal(Signal::SIGKILL).expect("sent");
        let deadline = Instant::now() + Duration::from_secs(20);
        while !launched.has_ended() {
            assert!(Instant::now() < deadline, "the command does not end");
            std::thread::yield_now();
        }
        assert!(launched.has_ended(), "asked again");
        assert_eq!(ended(&mut launched), 128 + 9);
        assert!(launched.has_ended(), "nor is it there after the wait");
    }

    #[test]
    fn a_command_that_does_not_exist_is_told_like_a_shell_does() {
        let mut launched = launch(&["/nonexistent/command"]);
        let error = launched.release().expect_err("nothing to execute");
        assert_eq!(error.exit_code(), 127);
        let mut directory = launch(&["/"]);
        assert_eq!(
            directory.release().expect_err("a directory").exit_code(),
            126
        );
    }

    #[test]
    fn without_release_it_never_runs() {
        let launched = launch(&["sh", "-c", "kill -KILL $PPID"]);
        let (pid, hold, starter) = (launched.pid(), launched.hold, launched.starter);
        drop(hold);
        assert!(
            starter
                .expect("starting")
                .join()
                .expect("no panic")
                .is_err()
        );
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
