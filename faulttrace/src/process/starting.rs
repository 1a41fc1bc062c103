//! Processes that are being started, and what they hold on to meanwhile.
//!
//! A child has a copy of each descriptor until its exec closes them, and that is after the parent goes on, even
//! after vfork (fs/exec.c, begin_new_exec: `exec_mmap` comes before `do_close_on_exec`). A program that is
//! detached meanwhile, by closing its link, stays attached until then: 22 ms on a guest that preempts itself, in
//! which faults were told that no account has.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many children may still have copies.
static STARTING: Mutex<usize> = Mutex::new(0);

fn locked() -> MutexGuard<'static, usize> {
    STARTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child is being started; to be dropped when it has shown that its exec is through, or that it has ended.
pub(super) struct Starting;

impl Starting {
    /// Waits while somebody is [`Alone`].
    pub(super) fn begin() -> Self {
        *locked() += 1;
        Self
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        *locked() -= 1;
    }
}

/// While it lives, no child is started.
#[must_use]
pub struct Alone {
    _none_begins: MutexGuard<'static, usize>,
}

/// No child has copies of descriptors; `None` if one may, unless there is no more time to wait for it.
pub fn alone(out_of_patience: bool) -> Option<Alone> {
    let starting = locked();
    if *starting > 0 && !out_of_patience {
        return None;
    }
    if *starting > 0 {
        log::warn!(
            "a helper is still being started: what is detached now stays attached until it is through"
        );
    }
    Some(Alone {
        _none_begins: starting,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Other tests start children, too.
    fn alone_at_last() -> Alone {
        let deadline = Instant::now() + LONG;
        loop {
            match alone(Instant::now() > deadline) {
                Some(alone) => return alone,
                None => thread::yield_now(),
            }
        }
    }

    /// One test: what is counted is of the whole process.
    #[test]
    fn who_wants_to_be_alone_waits_for_children_and_they_for_it() {
        let begun = Starting::begin();
        assert!(alone(false).is_none(), "one is being started");
        assert!(alone(true).is_some(), "out of patience");
        drop(begun);
        let alone = alone_at_last();
        let (sender, receiver) = channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                sender.send("about to begin").expect("somebody listens");
                drop(Starting::begin());
                sender.send("begun").expect("somebody listens");
            });
            assert_eq!(receiver.recv_timeout(LONG), Ok("about to begin"));
            let meanwhile = receiver.recv_timeout(Duration::from_millis(100));
            assert_eq!(meanwhile, Err(RecvTimeoutError::Timeout));
            drop(alone);
            assert_eq!(receiver.recv_timeout(LONG), Ok("begun"));
        });
    }
}
