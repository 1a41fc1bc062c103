//! Processes that are being started, and what they hold on to meanwhile.
//!
//! A child has a copy of each descriptor until its exec closes them, and that is after the parent goes on, even
//! after vfork (fs/exec.c, begin_new_exec: `exec_mmap` comes before `do_close_on_exec`). A program that is
//! detached meanwhile, by closing its link, stays attached until then: 22 ms on a guest that preempts itself, in
//! which faults were told that no account has.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long to wait for them: whoever ends a session waits for it to be over.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many children may still have copies.
static STARTING: Mutex<usize> = Mutex::new(0);
static STARTED: Condvar = Condvar::new();

fn locked() -> MutexGuard<'static, usize> {
    STARTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child is being started; dropped when it has shown that its exec is through, or has ended.
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
        STARTED.notify_all();
    }
}

/// While it lives, no child is started.
pub struct Alone {
    /// Children that were not through in time.
    still_starting: MutexGuard<'static, usize>,
}

/// Waits until no child has copies of descriptors any more, half a second at most.
pub fn alone() -> Alone {
    let alone = alone_within(PATIENCE);
    if *alone.still_starting > 0 {
        log::warn!(
            "a helper is still being started: what is detached now stays attached until it is through"
        );
    }
    alone
}

fn alone_within(patience: Duration) -> Alone {
    let waited = STARTED.wait_timeout_while(locked(), patience, |starting| *starting > 0);
    let (guard, _) = waited.unwrap_or_else(PoisonError::into_inner);
    Alone {
        still_starting: guard,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    /// One test: what is counted is of the whole process.
    #[test]
    fn who_wants_to_be_alone_waits_for_children_and_they_for_it() {
        const LONG: Duration = Duration::from_secs(60);
        let begun = Starting::begin();
        assert!(
            *alone_within(Duration::ZERO).still_starting >= 1,
            "out of patience"
        );
        let (sender, receiver) = channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let alone = alone_within(LONG);
                sender
                    .send(*alone.still_starting)
                    .expect("somebody listens");
                drop(alone);
            });
            drop(begun);
            assert_eq!(receiver.recv_timeout(LONG), Ok(0), "all are through");
        });
        let alone = alone_within(LONG);
        let (sender, receiver) = channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                drop(Starting::begin());
                sender.send(()).expect("somebody listens");
            });
            assert!(receiver.try_recv().is_err(), "it waits");
            drop(alone);
            assert_eq!(receiver.recv_timeout(LONG), Ok(()));
        });
    }
}
