//! How much memory all the memory maps take that are being read, or were and nobody has taken yet. A process
//! can have some 100 MiB of mappings and paths, and many are read at once.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What each of them has for itself: as good as all need no more, so that large ones are not in their way.
const OWN_BYTES: usize = 1 << 20;
/// What all may take together beyond that.
const SHARED_BYTES: usize = 512 << 20;

/// What is taken of that.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// What one of them takes. Given back when it is dropped.
#[derive(Debug)]
pub(in crate::process) struct Held {
    /// What all have taken of what is shared, and this one.
    taken: &'static AtomicUsize,
    shared: usize,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            taken: &TAKEN,
            shared: 0,
        }
    }
}

impl Held {
    /// It takes so much from now on, or, if that is not to be had, as much as before.
    pub(super) fn hold(&mut self, bytes: usize) -> io::Result<()> {
        let shared = bytes.saturating_sub(OWN_BYTES);
        let before = self.shared;
        let change = |taken: usize| {
            let taken = taken.saturating_sub(before).checked_add(shared)?;
            (shared <= before || taken <= SHARED_BYTES).then_some(taken)
        };
        let order = Ordering::Relaxed;
        let changed = self.taken.fetch_update(order, order, change);
        if changed.is_err() {
            let why = "no room: other large ones are being read";
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, why));
        }
        self.shared = shared;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.shared, Ordering::Relaxed);
    }
}

#[cfg(test)]
impl Held {
    /// Others have taken all that is shared.
    pub(super) fn without_room() -> Self {
        static FULL: AtomicUsize = AtomicUsize::new(SHARED_BYTES);
        Self {
            taken: &FULL,
            shared: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_take_no_more_than_there_is() {
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        let nothing = || Held {
            taken: &TAKEN,
            shared: 0,
        };
        let (mut first, mut second, mut small) = (nothing(), nothing(), nothing());
        first.hold(OWN_BYTES + SHARED_BYTES).expect("room");
        assert!(second.hold(OWN_BYTES + 1).is_err());
        small.hold(OWN_BYTES).expect("its own");
        first.hold(OWN_BYTES + SHARED_BYTES / 2).expect("less");
        second.hold(OWN_BYTES + SHARED_BYTES / 2).expect("room");
        assert!(first.hold(OWN_BYTES + SHARED_BYTES).is_err());
        drop(second);
        first.hold(OWN_BYTES + SHARED_BYTES).expect("room again");
        drop(first);
        assert_eq!(TAKEN.load(Ordering::Relaxed), 0);
    }
}
