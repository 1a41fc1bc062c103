//! What devices have to do.

use crate::model::advice::{About, Action, Advice, Evidence, Gain, How, Rule, Unit};
use crate::model::{Device, DeviceTotals, DeviceVerdict};

/// A device before which reads wait longer than it takes for them.
pub(super) fn crowded((device, totals): &(Device, DeviceTotals)) -> Advice {
    let limited = totals.verdict() == Some(DeviceVerdict::Limited);
    let (rule, waited_ns, how, evidence, actions) = if limited {
        limit(totals)
    } else {
        queue(totals)
    };
    Advice {
        rule,
        about: About::Device(device.clone()),
        faults: totals.faults,
        blocked_ns: totals.blocked_ns,
        gain: Gain {
            // Requests of one fault are in the queue at the same time.
            at_most_ns: Some(waited_ns.min(totals.blocked_ns)),
            unit: Unit::Blocked,
            how,
        },
        evidence: vec![evidence],
        only_if: None,
        actions,
        overlaps: Vec::new(),
    }
}

type Why = (Rule, u64, How, Evidence, Vec<Action>);

/// Requests wait for their turn at the device.
fn queue(totals: &DeviceTotals) -> Why {
    let evidence = Evidence::Requests {
        completed: totals.completed,
        queued_ns: totals.mean_queued_ns().unwrap_or(0),
        served_ns: totals.mean_served_ns().unwrap_or(0),
    };
    let actions = vec![Action::QuietDevice, Action::OtherDevice];
    let waited_ns = totals.queued_ns;
    (Rule::BusyDevice, waited_ns, How::Queued, evidence, actions)
}

/// A limit holds them back before that.
fn limit(totals: &DeviceTotals) -> Why {
    let evidence = Evidence::HeldBack(Box::new(*totals));
    let actions = vec![Action::RaiseIoLimit];
    let waited_ns = totals.held_ns;
    (
        Rule::LimitedDevice,
        waited_ns,
        How::HeldBack,
        evidence,
        actions,
    )
}
