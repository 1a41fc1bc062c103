//! What devices did for the faults.

use serde::Serialize;

use super::share;
use crate::model::{Device, DeviceTotals, DeviceVerdict, Devices};
use crate::view::json::io::DevicePart;

#[derive(Serialize)]
pub(super) struct DeviceRow<'a> {
    #[serde(flatten)]
    device: DevicePart<'a>,
    verdict: Option<&'static str>,
    faults: u64,
    requests: u64,
    shared: u64,
    elsewhere: u64,
    completed: u64,
    bytes: u64,
    queued_ns: u64,
    served_ns: u64,
    queued_share: Option<f64>,
    max_queued_ns: u64,
    max_served_ns: u64,
}

impl<'a> DeviceRow<'a> {
    /// A row for each device, and one for all that are not known.
    pub(super) fn all(devices: &'a Devices, top: usize) -> Vec<Self> {
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
            requests: totals.requests,
            shared: totals.shared,
            elsewhere: totals.elsewhere,
            completed: totals.completed,
            bytes: totals.bytes,
            queued_ns: totals.queued_ns,
            served_ns: totals.served_ns,
            queued_share: share(
                totals.queued_ns,
                totals.queued_ns.saturating_add(totals.served_ns),
            ),
            max_queued_ns: totals.max_queued_ns,
            max_served_ns: totals.max_served_ns,
        }
    }
}
