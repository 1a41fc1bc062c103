//! Signals as events of the session.
//!
//! A signalfd rather than handlers, because only it tells who sent a signal: Ctrl-C reaches the
//! launched command by itself, one that another process sent must be passed on.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;

/// What the session reacts to.
const WATCHED: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCHLD,
];

/// By which the user asks for the end of tracing.
const ENDING: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
];

/// A signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrived {
    pub(super) signal: Signal,
    /// The terminal (the kernel) sent it to the whole foreground process group.
    pub(super) from_terminal: bool,
}

struct Fd(SignalFd);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// The signals, from creation on. They stay blocked in every thread that is created later.
pub(super) struct Signals {
    fd: AsyncFd<Fd>,
}

/// Blocks the watched signals in this thread and in those it will create. To be called before
/// there is any other thread.
pub(super) fn block() -> nix::Result<()> {
    set().thread_block()
}

fn set() -> SigSet {
    WATCHED.into_iter().collect()
}

/// Whether one has arrived by which the user asks for the end. It is left for [`Signals`] to take.
pub(super) fn end_is_asked_for() -> bool {
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let set: SigSet = ENDING.into_iter().collect();
    SignalFd::with_flags(&set, flags).is_ok_and(|fd| {
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
    })
}

impl Signals {
    /// Must be called inside the runtime, after [`block`].
    pub(super) fn new() -> std::io::Result<Self> {
        let fd = SignalFd::with_flags(&set(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        // SAFETY: `Fd` owns the descriptor, gives the same one each time, and closes it only when it
        // is dropped, which the `AsyncFd` that owns it does last.
        let fd = unsafe { AsyncFd::register(Fd(fd)) }?;
        Ok(Self { fd })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> std::io::Result<Arrived> {
        loop {
            let mut guard = self.fd.readable_mut().await?;
            let Some(info) = guard.get_inner_mut().0.read_signal()? else {
                guard.clear_ready();
                continue;
            };
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            if let Ok(signal) = Signal::try_from(number) {
                return Ok(Arrived {
                    signal,
                    from_terminal: info.ssi_code == libc::SI_KERNEL,
                });
            }
        }
    }
}
