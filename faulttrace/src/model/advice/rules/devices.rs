//! What devices have to do.

use crate::model::advice::{About, Action, Advice, Evidence, Gain, How, Rule, Unit};
use crate::model::{Device, DeviceTotals};

/// A device at which requests wait longer for their turn than they take.
pub(super) fn busy((device, totals): &(Device, DeviceTotals)) -> Advice {
    Advice {
        rule: Rule::BusyDevice,
        about: About::Device(device.clone()),
        faults: totals.faults,
        blocked_ns: totals.blocked_ns,
        gain: Gain {
            // Requests of one fault are in the queue at the same time.
            at_most_ns: Some(totals.queued_ns.min(totals.blocked_ns)),
            unit: Unit::Blocked,
            how: How::Queued,
        },
        evidence: vec![Evidence::Requests {
            completed: totals.completed,
            queued_ns: totals.mean_queued_ns().unwrap_or(0),
            served_ns: totals.mean_served_ns().unwrap_or(0),
        }],
        only_if: None,
        actions: vec![Action::QuietDevice, Action::OtherDevice],
        overlaps: Vec::new(),
    }
}
