//! What devices did for a fault, which the programs send right before the fault itself.

use std::collections::HashMap;

use faulttrace_ebpf::{HELD_UNTOLD, IoEvent, LAST_SHIFT, LAST_TOO_LONG};

use super::beside::Beside;
use crate::model::{Cause, Device, Io, Name, Served};
use crate::process::devices;

/// Low bits of a device's number that are the minor (include/linux/kdev_t.h).
const MINOR_BITS: u32 = 20;
/// Names of devices that are remembered.
const MAX_NAMES: usize = 1_024;

/// What was read for faults that are still to come, and the names of devices.
#[derive(Default)]
pub(super) struct Pending {
    events: Beside<IoEvent>,
    names: HashMap<u32, Option<Name>>,
    unseen: u64,
}

impl Pending {
    /// Keeps it until its fault comes.
    pub(super) fn keep(&mut self, event: IoEvent) {
        self.events.keep(event.tid, event.start_ns, event);
    }

    /// What was read for the fault of this thread that began at this time and took so long.
    pub(super) fn take(&mut self, tid: u32, start_ns: u64, duration_ns: u64) -> Option<Box<Io>> {
        let event = self.events.take(tid, start_ns)?;
        Some(Box::new(self.io(&event, duration_ns)))
    }

    /// Counts a fault that waited for its own read, but of whose requests none was seen to be completed:
    /// now and then a CPU runs no program for a while.
    pub(super) fn check(&mut self, io: Option<&Io>, cause: Option<Cause>) {
        let own = matches!(cause, Some(Cause::FileRead | Cause::SwapIn));
        if own && io.is_some_and(|io| io.requests > 0 && io.completed == 0) {
            self.unseen += 1;
        }
    }

    /// How many of these there were since the last time.
    pub(super) fn take_unseen(&mut self) -> u64 {
        std::mem::take(&mut self.unseen)
    }

    /// What an event says of a fault that has taken so long.
    pub(super) fn io(&mut self, event: &IoEvent, duration_ns: u64) -> Io {
        let completed = event.completed.min(event.requests);
        // Clocks of two CPUs may differ by a little, but a request lies within its fault.
        let most_ns = duration_ns.saturating_mul(u64::from(completed));
        let served_ns = event.served_ns.min(most_ns);
        let queued_ns = event.queued_ns.min(most_ns - served_ns);
        let last = match completed {
            0 => None,
            1 => Some(Served {
                queued_ns,
                served_ns,
            }),
            _ => last(event.last, duration_ns),
        };
        Io {
            device: (event.device != 0).then(|| self.device(event.device)),
            requests: event.requests,
            shared: event.shared,
            elsewhere: event.elsewhere,
            completed,
            bytes: event.bytes,
            queued_ns,
            served_ns,
            held_ns: (event.held_ns != HELD_UNTOLD).then(|| event.held_ns.min(duration_ns)),
            last,
        }
    }

    fn device(&mut self, number: u32) -> Device {
        let (major, minor) = (number >> MINOR_BITS, number & ((1 << MINOR_BITS) - 1));
        if self.names.len() >= MAX_NAMES && !self.names.contains_key(&number) {
            self.names.clear();
        }
        let name = self.names.entry(number);
        Device {
            major,
            minor,
            name: name.or_insert_with(|| devices::name(major, minor)).clone(),
        }
    }
}

/// [`IoEvent::last`], taken apart.
fn last(packed: u64, duration_ns: u64) -> Option<Served> {
    let (queued, served) = (packed >> 32, packed & LAST_TOO_LONG);
    if queued == LAST_TOO_LONG || served == LAST_TOO_LONG {
        return None;
    }
    let served_ns = (served << LAST_SHIFT).min(duration_ns);
    Some(Served {
        queued_ns: (queued << LAST_SHIFT).min(duration_ns - served_ns),
        served_ns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use faulttrace_ebpf::kind;

    fn event(tid: u32, start_ns: u64) -> IoEvent {
        IoEvent {
            kind: kind::IO,
            tid,
            start_ns,
            bytes: 8192,
            queued_ns: 300,
            served_ns: 900,
            held_ns: 0,
            last: (128 >> LAST_SHIFT) << 32 | (640 >> LAST_SHIFT),
            device: 0xfff << MINOR_BITS | 3,
            requests: 2,
            shared: 1,
            elsewhere: 0,
            completed: 2,
            padding: 0,
        }
    }

    #[test]
    fn what_devices_did_is_told() {
        let mut pending = Pending::default();
        pending.keep(event(1, 5));
        let io = pending.take(1, 5, 10_000).expect("its own");
        let device = io.device.as_ref().expect("known");
        assert_eq!(
            (device.major, device.minor, &device.name),
            (0xfff, 3, &None)
        );
        assert_eq!((io.queued_ns, io.served_ns), (300, 900));
        let last = io.last.expect("two");
        assert_eq!((last.queued_ns, last.served_ns), (128, 640));
        assert_eq!(pending.take(1, 5, 10_000), None, "once");
    }

    #[test]
    fn times_lie_within_the_fault() {
        let mut pending = Pending::default();
        let mut one = event(1, 5);
        one.completed = 1;
        pending.keep(one);
        let io = pending.take(1, 5, 1_000).expect("it");
        assert_eq!((io.queued_ns, io.served_ns), (100, 900));
        assert_eq!(io.last.map(|last| last.queued_ns), Some(100), "exact");
        one.completed = u32::MAX;
        (one.queued_ns, one.served_ns) = (u64::MAX, u64::MAX);
        one.last = u64::MAX;
        pending.keep(one);
        let io = pending.take(1, 5, u64::MAX).expect("it");
        assert_eq!((io.completed, io.queued_ns, io.last), (2, 0, None));
        one.completed = 0;
        one.device = 0;
        pending.keep(one);
        let io = pending.take(1, 5, 1_000).expect("it");
        assert_eq!((io.queued_ns, io.served_ns, io.last), (0, 0, None));
        assert_eq!(io.device, None);
    }

    #[test]
    fn a_read_that_was_waited_for_but_not_seen_to_end_is_counted() {
        let mut pending = Pending::default();
        let mut one = event(1, 5);
        one.completed = 0;
        pending.keep(one);
        let io = pending.take(1, 5, 1_000);
        pending.check(io.as_deref(), Some(Cause::ReadWait));
        pending.check(None, Some(Cause::FileRead));
        assert_eq!(
            pending.take_unseen(),
            0,
            "it waited for another's, or began none"
        );
        pending.check(io.as_deref(), Some(Cause::FileRead));
        assert_eq!((pending.take_unseen(), pending.take_unseen()), (1, 0));
    }
}
