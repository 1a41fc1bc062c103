//! What block devices did for the reads that faults began (`--io`), and what that adds up to for each
//! device: whether it is slow, or has more to do than it gets done.

use std::collections::HashMap;

use super::{Cause, Name, Start};

/// A block device: a disk, not a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// As in `/sys/block`; `None` if it could not be read.
    pub name: Option<Name>,
}

impl Device {
    /// Its numbers as the kernel writes them: `259:0`.
    pub(crate) fn numbers(&self) -> String {
        format!("{}:{}", self.major, self.minor)
    }
}

/// What block devices did for the reads that a fault began.
///
/// A request is *queued* from the moment the thread handed its first read to the block layer until the
/// driver got it (tracepoints `block_bio_queue`, `block_rq_issue`), and *served* from then until the
/// device had done with it (`block_rq_complete`). Before both, a limit (`io.max` of a cgroup) may have *held
/// back* its reads: a thread of the kernel hands them on when it is their turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Io {
    /// The device of its first request; without any, the device that was asked. `None`: not known.
    pub device: Option<Device>,
    /// Requests that drivers had got by the end of the fault.
    pub requests: u32,
    /// Of those: with reads of others in them.
    pub shared: u32,
    /// Of those: to other devices than `device`.
    pub elsewhere: u32,
    /// Of those: completed by the end of the fault. Nobody waits for the rest, which is readahead.
    pub completed: u32,
    /// What the thread asked for.
    pub bytes: u64,
    /// Sum over the requests that were completed, ns.
    pub queued_ns: u64,
    /// Sum over the requests that were completed, ns.
    pub served_ns: u64,
    /// How long the thread had slept when the read of its page was handed on, ns; 0: nothing held it back.
    /// `None`: not known.
    pub held_ns: Option<u64>,
    /// The request that was completed last; `None` if none was, or if its times are too long to be
    /// kept (some four minutes).
    pub last: Option<Served>,
}

/// The job whose rung tells whether reads were followed.
const JOB: &str = "io_queued";

impl Start {
    /// Whether reads that faults begin are followed to their devices (`--io`).
    pub fn follows_io(&self) -> bool {
        self.does(JOB)
    }
}

/// The times of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Until the driver got it, ns.
    pub queued_ns: u64,
    /// From then until it was completed, ns.
    pub served_ns: u64,
}

/// What faults waited for at a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceTotals {
    /// Faults that began reads.
    pub faults: u64,
    /// How long these blocked, whatever for, ns.
    pub blocked_ns: u64,
    /// Requests that drivers had got by the ends of these faults.
    pub requests: u64,
    /// Of those: completed by then.
    pub completed: u64,
    /// Of `requests`: with reads of others in them.
    pub shared: u64,
    /// Of `requests`: to other devices, as the fault began reads of several.
    pub elsewhere: u64,
    /// What the faults asked for.
    pub bytes: u64,
    /// Sum over the requests that were completed, ns.
    pub queued_ns: u64,
    /// Sum over the requests that were completed, ns.
    pub served_ns: u64,
    /// Faults whose reads a limit held back.
    pub held: u64,
    /// How long, ns.
    pub held_ns: u64,
    /// Faults of which it is not known whether their reads were held back ([`Io::held_ns`]).
    pub held_untold: u64,
    /// The longest that the last request of a fault was queued, ns.
    pub max_queued_ns: u64,
    /// The longest that the last request of a fault was served, ns.
    pub max_served_ns: u64,
}

/// What takes the time of a device's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A limit holds reads back before the device is asked at all.
    Limited,
    /// Requests wait for their turn: the device, or what limits it, has more to do than it gets done.
    Busy,
    /// The device itself, however little it has to do.
    Slow,
    /// Neither: a request takes no longer than on disks that are fast.
    Quick,
}

/// A share of the time in the queue from which on it is what takes the time, percent.
const BUSY_PERCENT: u128 = 50;
/// Requests that take less than this in the mean are quick, ns: disks without moving parts do.
const QUICK_NS: u128 = 1_000_000;

impl Verdict {
    /// Stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Limited => "limited",
            Verdict::Busy => "busy",
            Verdict::Slow => "slow",
            Verdict::Quick => "quick",
        }
    }
}

impl DeviceTotals {
    /// Adds a fault that blocked for so long.
    pub fn add(&mut self, io: &Io, blocked_ns: u64) {
        self.faults += 1;
        self.blocked_ns = self.blocked_ns.saturating_add(blocked_ns);
        self.requests += u64::from(io.requests);
        self.completed += u64::from(io.completed);
        self.shared += u64::from(io.shared);
        self.elsewhere += u64::from(io.elsewhere);
        self.bytes = self.bytes.saturating_add(io.bytes);
        self.queued_ns = self.queued_ns.saturating_add(io.queued_ns);
        self.served_ns = self.served_ns.saturating_add(io.served_ns);
        self.held_untold += u64::from(io.held_ns.is_none());
        let held_ns = io.held_ns.unwrap_or(0);
        self.held += u64::from(held_ns > 0);
        self.held_ns = self.held_ns.saturating_add(held_ns);
        if let Some(last) = io.last {
            self.max_queued_ns = self.max_queued_ns.max(last.queued_ns);
            self.max_served_ns = self.max_served_ns.max(last.served_ns);
        }
    }

    /// Adds what `other` added up.
    pub(crate) fn merge(&mut self, other: &DeviceTotals) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.faults, other.faults);
        add(&mut self.blocked_ns, other.blocked_ns);
        add(&mut self.requests, other.requests);
        add(&mut self.completed, other.completed);
        add(&mut self.shared, other.shared);
        add(&mut self.elsewhere, other.elsewhere);
        add(&mut self.bytes, other.bytes);
        add(&mut self.queued_ns, other.queued_ns);
        add(&mut self.served_ns, other.served_ns);
        add(&mut self.held, other.held);
        add(&mut self.held_ns, other.held_ns);
        add(&mut self.held_untold, other.held_untold);
        self.max_queued_ns = self.max_queued_ns.max(other.max_queued_ns);
        self.max_served_ns = self.max_served_ns.max(other.max_served_ns);
    }

    /// What takes the time; `None` if no request was completed, and no limit told.
    pub fn verdict(&self) -> Option<Verdict> {
        let (held, queued) = (u128::from(self.held_ns), u128::from(self.queued_ns));
        let all = queued + u128::from(self.served_ns);
        let mean_held_ns = held.checked_div(u128::from(self.faults)).unwrap_or(0);
        if mean_held_ns >= QUICK_NS && held >= all {
            return Some(Verdict::Limited);
        }
        let mean_ns = all.checked_div(u128::from(self.completed))?;
        Some(if mean_ns < QUICK_NS {
            Verdict::Quick
        } else if queued * 100 >= all * BUSY_PERCENT {
            Verdict::Busy
        } else {
            Verdict::Slow
        })
    }

    /// Faults whose reads a limit held back, and for how long; `None` if that is not known of each.
    pub fn held(&self) -> Option<(u64, u64)> {
        (self.held_untold == 0).then_some((self.held, self.held_ns))
    }

    /// Mean over all faults, ns; `None` if there were none, or if it is not known of each.
    pub fn mean_held_ns(&self) -> Option<u64> {
        self.held()?.1.checked_div(self.faults)
    }

    /// Mean over the requests that were completed, ns; `None` if none was.
    pub fn mean_queued_ns(&self) -> Option<u64> {
        self.queued_ns.checked_div(self.completed)
    }

    /// Mean over the requests that were completed, ns; `None` if none was.
    pub fn mean_served_ns(&self) -> Option<u64> {
        self.served_ns.checked_div(self.completed)
    }
}

/// How many devices are told apart.
const MAX_DEVICES: usize = 1024;

/// Totals of each device.
#[derive(Debug, Clone, Default)]
pub struct Devices {
    known: HashMap<Device, DeviceTotals>,
    /// Of devices beyond what is told apart, and of those that are not known.
    others: DeviceTotals,
    unseen: Unseen,
}

/// Faults that waited for a read of their own which no device was seen to get: what a limit holds back
/// (`io.max`) is handed on later, by threads of the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unseen {
    /// How many.
    pub faults: u64,
    /// How long they blocked, ns.
    pub blocked_ns: u64,
}

impl Devices {
    /// Adds a fault of this cause that blocked for so long.
    pub fn add(&mut self, io: Option<&Io>, cause: Option<Cause>, blocked_ns: u64) {
        match io {
            Some(io) => self.of(io.device.as_ref()).add(io, blocked_ns),
            None if matches!(cause, Some(Cause::FileRead | Cause::SwapIn)) => {
                self.unseen.faults = self.unseen.faults.saturating_add(1);
                self.unseen.blocked_ns = self.unseen.blocked_ns.saturating_add(blocked_ns);
            }
            None => {}
        }
    }

    /// Adds what `other` added up.
    pub(crate) fn merge(&mut self, other: &Devices) {
        for (device, totals) in &other.known {
            self.of(Some(device)).merge(totals);
        }
        self.others.merge(&other.others);
        let unseen = &mut self.unseen;
        unseen.faults = unseen.faults.saturating_add(other.unseen.faults);
        unseen.blocked_ns = unseen.blocked_ns.saturating_add(other.unseen.blocked_ns);
    }

    /// Where a device is added up.
    fn of(&mut self, device: Option<&Device>) -> &mut DeviceTotals {
        let has_room = self.known.len() < MAX_DEVICES;
        match device {
            Some(device) if has_room || self.known.contains_key(device) => {
                self.known.entry(device.clone()).or_default()
            }
            _ => &mut self.others,
        }
    }

    /// Those first whose requests took longest, the time that limits held them back included.
    pub fn ranked(&self) -> Vec<(&Device, &DeviceTotals)> {
        let mut all: Vec<_> = self.known.iter().collect();
        all.sort_by_key(|(device, totals)| {
            let at_device_ns = totals.queued_ns.saturating_add(totals.served_ns);
            let took_ns = at_device_ns.saturating_add(totals.held_ns);
            (std::cmp::Reverse(took_ns), *device)
        });
        all
    }

    /// No fault began a read.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.others.faults == 0
    }

    /// Faults whose reads no device was seen to get. Counted whether or not reads were followed.
    pub fn unseen(&self) -> Unseen {
        self.unseen
    }

    /// Of devices beyond what is told apart, and of those that are not known.
    pub fn others(&self) -> &DeviceTotals {
        &self.others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn io(minor: u32, queued_ns: u64, served_ns: u64) -> Io {
        Io {
            device: Some(Device {
                major: 7,
                minor,
                name: None,
            }),
            requests: 1,
            shared: 0,
            elsewhere: 0,
            completed: 1,
            bytes: 4096,
            queued_ns,
            served_ns,
            held_ns: Some(0),
            last: Some(Served {
                queued_ns,
                served_ns,
            }),
        }
    }

    fn verdict(queued_ns: u64, served_ns: u64) -> Option<Verdict> {
        let mut totals = DeviceTotals::default();
        totals.add(&io(0, queued_ns, served_ns), 0);
        totals.verdict()
    }

    #[test]
    fn a_busy_device_is_told_from_a_slow_one() {
        assert_eq!(verdict(MS / 10, 20 * MS), Some(Verdict::Slow));
        assert_eq!(verdict(20 * MS, MS / 10), Some(Verdict::Busy));
        assert_eq!(verdict(20 * MS, 20 * MS), Some(Verdict::Busy));
        assert_eq!(verdict(20_000, 80_000), Some(Verdict::Quick));
        assert_eq!(DeviceTotals::default().verdict(), None);
    }

    #[test]
    fn a_limit_is_told_from_a_busy_device() {
        let mut held = io(0, MS, MS);
        held.held_ns = Some(3 * MS);
        let mut totals = DeviceTotals::default();
        totals.add(&held, 5 * MS);
        assert_eq!(totals.verdict(), Some(Verdict::Limited));
        assert_eq!(totals.held(), Some((1, 3 * MS)));
        let mut alone = DeviceTotals::default();
        (
            held.requests,
            held.completed,
            held.queued_ns,
            held.served_ns,
        ) = (0, 0, 0, 0);
        alone.add(&held, 5 * MS);
        assert_eq!(alone.verdict(), Some(Verdict::Limited));
        held = io(0, MS, MS);
        held.held_ns = Some(MS);
        totals.add(&held, 3 * MS);
        totals.add(&io(0, 3 * MS, MS), 4 * MS);
        assert_eq!(totals.verdict(), Some(Verdict::Busy));
        assert_eq!(totals.mean_held_ns(), Some(4 * MS / 3));
        held.held_ns = None;
        totals.add(&held, MS);
        assert_eq!((totals.held(), totals.mean_held_ns()), (None, None));
    }

    #[test]
    fn devices_are_told_apart_as_far_as_there_is_room() {
        let mut devices = Devices::default();
        for minor in 0..2000 {
            let io = io(minor, 1, u64::from(minor));
            devices.add(Some(&io), Some(Cause::FileRead), 2);
        }
        let mut unknown = io(0, 5, 6);
        unknown.device = None;
        devices.add(Some(&unknown), None, 2);
        devices.add(None, Some(Cause::FileRead), 5);
        devices.add(None, Some(Cause::Fuse), 7);
        let ranked = devices.ranked();
        assert_eq!(ranked.len(), MAX_DEVICES);
        assert_eq!(ranked[0].0.minor, 1023);
        assert_eq!(devices.others().faults, 2000 - 1024 + 1);
        let all: u64 = ranked.iter().map(|(_, totals)| totals.faults).sum();
        assert_eq!(all + devices.others().faults, 2001);
        let mut twice = devices.clone();
        twice.merge(&devices);
        let first = twice.ranked()[0].1;
        assert_eq!((first.faults, first.blocked_ns), (2, 4));
        assert_eq!(twice.others().faults, 2 * devices.others().faults);
        let unseen = twice.unseen();
        assert_eq!((unseen.faults, unseen.blocked_ns), (2, 10));
    }

    #[test]
    fn nothing_overflows() {
        let mut totals = DeviceTotals::default();
        let mut huge = io(0, u64::MAX, u64::MAX);
        huge.bytes = u64::MAX;
        totals.add(&huge, u64::MAX);
        totals.add(&huge, u64::MAX);
        assert_eq!(totals.verdict(), Some(Verdict::Busy));
        huge.completed = 0;
        let mut none = DeviceTotals::default();
        none.add(&huge, u64::MAX);
        assert_eq!((none.verdict(), none.mean_queued_ns()), (None, None));
    }
}
