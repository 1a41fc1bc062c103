//! What devices did: for a fault, and in sum.

use serde::Serialize;

use super::scalar::{escaped, share};
use crate::model::{Device, DeviceTotals, DeviceVerdict, Devices, Io};
use crate::view::escape::Escaped;

#[derive(Serialize)]
pub(in crate::view) struct IoPart<'a> {
    #[serde(flatten)]
    device: DevicePart<'a>,
    requests: u32,
    shared: u32,
    elsewhere: u32,
    completed: u32,
    bytes: u64,
    queued_ns: u64,
    served_ns: u64,
    held_ns: Option<u64>,
    last_queued_ns: Option<u64>,
    last_served_ns: Option<u64>,
}

impl<'a> IoPart<'a> {
    pub(in crate::view) fn new(io: &'a Io) -> Self {
        IoPart {
            device: DevicePart::new(io.device.as_ref()),
            requests: io.requests,
            shared: io.shared,
            elsewhere: io.elsewhere,
            completed: io.completed,
            bytes: io.bytes,
            queued_ns: io.queued_ns,
            served_ns: io.served_ns,
            held_ns: io.held_ns,
            last_queued_ns: io.last.map(|last| last.queued_ns),
            last_served_ns: io.last.map(|last| last.served_ns),
        }
    }
}

/// Which device.
#[derive(Serialize)]
pub(in crate::view) struct DevicePart<'a> {
    device: Option<String>,
    device_name: Option<Escaped<'a>>,
}

impl<'a> DevicePart<'a> {
    pub(in crate::view) fn new(device: Option<&'a Device>) -> Self {
        DevicePart {
            device: device.map(Device::numbers),
            device_name: escaped(device.and_then(|device| device.name.as_ref())),
        }
    }
}

/// What a device did for the faults.
#[derive(Serialize)]
pub(in crate::view) struct DeviceRow<'a> {
    #[serde(flatten)]
    device: DevicePart<'a>,
    verdict: Option<&'static str>,
    faults: u64,
    blocked_ns: u64,
    requests: u64,
    shared: u64,
    elsewhere: u64,
    completed: u64,
    bytes: u64,
    queued_ns: u64,
    served_ns: u64,
    held: Option<u64>,
    held_ns: Option<u64>,
    queued_share: Option<f64>,
    max_queued_ns: u64,
    max_served_ns: u64,
}

/// Reads that no device was seen to get.
#[derive(Serialize)]
pub(in crate::view) struct UnseenPart {
    faults: u64,
    blocked_ns: u64,
}

impl UnseenPart {
    pub(in crate::view) fn new(devices: &Devices) -> Self {
        let unseen = devices.unseen();
        UnseenPart {
            faults: unseen.faults,
            blocked_ns: unseen.blocked_ns,
        }
    }
}

impl<'a> DeviceRow<'a> {
    /// A row for each device, and one for all that are not known.
    pub(in crate::view) fn all(devices: &'a Devices, top: usize) -> Vec<Self> {
        let ranked = devices.ranked().into_iter().take(top);
        let mut rows: Vec<_> = ranked
            .map(|(device, totals)| DeviceRow::new(Some(device), totals))
            .collect();
        if devices.others().faults > 0 {
            rows.push(DeviceRow::new(None, devices.others()));
        }
        rows
    }

    fn new(device: Option<&'a Device>, totals: &DeviceTotals) -> Self {
        DeviceRow {
            device: DevicePart::new(device),
            verdict: totals.verdict().map(DeviceVerdict::as_str),
            faults: totals.faults,
            blocked_ns: totals.blocked_ns,
            requests: totals.requests,
            shared: totals.shared,
            elsewhere: totals.elsewhere,
            completed: totals.completed,
            bytes: totals.bytes,
            queued_ns: totals.queued_ns,
            served_ns: totals.served_ns,
            held: totals.held().map(|(faults, _)| faults),
            held_ns: totals.held().map(|(_, held_ns)| held_ns),
            queued_share: share(
                totals.queued_ns,
                totals.queued_ns.saturating_add(totals.served_ns),
            ),
            max_queued_ns: totals.max_queued_ns,
            max_served_ns: totals.max_served_ns,
        }
    }
}
