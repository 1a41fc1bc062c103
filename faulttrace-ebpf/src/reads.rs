//! What block devices do for the reads that faults begin (`--io`).

use crate::flag;

/// See [`IoEvent::last`].
pub const LAST_SHIFT: u32 = 6;
/// In place of [`IoEvent::held_ns`]: not known.
pub const HELD_UNTOLD: u64 = u64::MAX;

/// Whether it is known of a fault with these flags, that slept, how long its read was held back; where the
/// programs look for such reads at all.
#[inline(always)]
pub fn tells_held(flags: u32) -> bool {
    let looked_for = flag::HAS_FILE | flag::READ_MARKED;
    flags & (looked_for | flag::READ_AHEAD | flag::HELD_BACK) == looked_for
}

/// See [`IoEvent::last`]: some four minutes.
pub const LAST_TOO_LONG: u64 = u32::MAX as u64;

/// What block devices did for the reads that a fault began (`--io`), sent right before the fault.
///
/// Times are sums over the requests that were completed by the end of the fault. Queued is from the
/// moment the thread handed the read to the block layer until the driver got its request; served, from
/// then until the device had done with it. What a limit held back comes before both.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IoEvent {
    /// [`super::kind::IO`].
    pub kind: u32,
    /// Thread id.
    pub tid: u32,
    /// [`super::FaultEvent::start_ns`] of the fault.
    pub start_ns: u64,
    /// What the thread asked for.
    pub bytes: u64,
    /// Queued, ns.
    pub queued_ns: u64,
    /// Served, ns.
    pub served_ns: u64,
    /// How long the thread had slept when its read was handed on that a limit held back, ns, and how long the parts
    /// of it waited for their turn; 0 = none did. Of an event, [`HELD_UNTOLD`] = not known.
    pub held_ns: u64,
    /// Queued and served, of the request that was completed last, 32 bits each: queued above served, in units of
    /// `1 << `[`LAST_SHIFT`] ns; [`LAST_TOO_LONG`] if that is not enough.
    pub last: u64,
    /// The disk of the first request, as the kernel numbers devices (20 bits of minor); without a
    /// request, the device that was asked. 0 = not known.
    pub device: u32,
    /// Requests that the driver got.
    pub requests: u32,
    /// Of those: with reads of others in them.
    pub shared: u32,
    /// Of those: to another device than `device`.
    pub elsewhere: u32,
    /// Of those: completed by the end of the fault.
    pub completed: u32,
    /// Unused, zero.
    pub padding: u32,
}

/// What was read for a fault; see [`IoEvent`]. Its thread begins it, devices add to it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FaultIo {
    /// Which fault of the thread: when it began, or with `LIGHT` how many it had completed before; 0 = none
    /// any more.
    pub fault: u64,
    /// Bytes that the thread queued reads for.
    pub asked_bytes: u64,
    /// Bytes of its reads in requests.
    pub issued_bytes: u64,
    /// As in [`IoEvent`].
    pub requests: u64,
    /// As in [`IoEvent`].
    pub shared: u64,
    /// As in [`IoEvent`].
    pub elsewhere: u64,
    /// As in [`IoEvent`].
    pub completed: u64,
    /// As in [`IoEvent`].
    pub queued_ns: u64,
    /// As in [`IoEvent`].
    pub served_ns: u64,
    /// As in [`IoEvent`].
    pub held_ns: u64,
    /// Bytes that it asked for, and that were not handed on when it fell asleep; 0 = none, or they were found.
    pub held_bytes: u64,
    /// As in [`IoEvent`].
    pub last: u64,
    /// Disk of the first request; 0 = there was none.
    pub device: u32,
    /// The device of the first read; 0 = there was none, or it is not known.
    pub asked_device: u32,
}

impl FaultIo {
    /// What is told of it, as of now. `held_told`: how long its read was held back is known.
    #[inline(always)]
    pub fn event(&self, tid: u32, start_ns: u64, held_told: bool) -> IoEvent {
        let (bytes, device) = if self.requests == 0 {
            (self.asked_bytes, self.asked_device)
        } else if self.asked_bytes < self.issued_bytes {
            (self.issued_bytes, self.device)
        } else {
            (self.asked_bytes, self.device)
        };
        IoEvent {
            kind: super::kind::IO,
            tid,
            start_ns,
            bytes: bytes + self.held_bytes,
            queued_ns: self.queued_ns,
            served_ns: self.served_ns,
            held_ns: if held_told { self.held_ns } else { HELD_UNTOLD },
            last: self.last,
            device,
            requests: self.requests as u32,
            shared: self.shared as u32,
            elsewhere: self.elsewhere as u32,
            completed: self.completed as u32,
            padding: 0,
        }
    }
}

const _: () = assert!(size_of::<IoEvent>() == 2 * 4 + 6 * 8 + 6 * 4);
const _: () = assert!(size_of::<FaultIo>() == 12 * 8 + 2 * 4);
