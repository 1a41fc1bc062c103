//! What devices did for a fault.

use serde::Serialize;

use super::scalar::escaped;
use crate::model::{Device, Io};
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
