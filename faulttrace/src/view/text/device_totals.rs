//! What devices did for the faults (`--io`): which is slow, which has too much to do.

use super::line::{Page, Paint};
use super::words::{duration, percent, plural, size};
use crate::model::{Device, DeviceTotals, DeviceVerdict, Devices};

/// The devices whose requests took longest.
pub(in crate::view) fn devices(page: Page, devices: &Devices, top: usize, out: &mut Vec<u8>) {
    let ranked = devices.ranked();
    let others = devices.others();
    page.say("", out);
    page.line()
        .paint(Paint::Bold, "devices, for reads that faults began")
        .end(out);
    let unseen = devices.unseen();
    if ranked.is_empty() && others.faults == 0 && unseen.faults == 0 {
        page.say("  none: no fault began a read of a block device", out);
        return;
    }
    for (device, totals) in ranked.iter().take(top) {
        one(page, Some(device), totals, out);
    }
    if let Some(more) = ranked.len().checked_sub(top).filter(|more| *more > 0) {
        page.say(&format!("  and {more} more"), out);
    }
    if others.faults > 0 {
        one(page, None, others, out);
    }
    if unseen.faults > 0 {
        let text = format!(
            "not seen at any device: the reads of {} that blocked for {}; what a limit holds back \
             (io.max of a cgroup) is handed on later, by threads of the kernel, and not always found again",
            plural(unseen.faults, "fault"),
            duration(unseen.blocked_ns)
        );
        page.wrap(2, &text, out);
    }
}

fn one(page: Page, device: Option<&Device>, totals: &DeviceTotals, out: &mut Vec<u8>) {
    let name = device.map_or_else(
        || "devices not known or not told apart".to_owned(),
        super::devices::device,
    );
    let mut text = format!(
        "{name}: {} for {} that blocked for {}, {}",
        plural(totals.requests, "request"),
        plural(totals.faults, "fault"),
        duration(totals.blocked_ns),
        size(totals.bytes)
    );
    if totals.shared > 0 {
        text += &format!(", {} shared with others", totals.shared);
    }
    if totals.elsewhere > 0 {
        text += &format!(", {} of them to other devices", totals.elsewhere);
    }
    page.wrap(2, &text, out);
    if let Some(text) = times(totals) {
        page.wrap(4, &text, out);
    }
    if totals.held > 0 {
        let text = format!(
            "a limit (io.max of a cgroup) held back the reads of {} for {}",
            plural(totals.held, "fault"),
            duration(totals.held_ns)
        );
        page.wrap(4, &text, out);
    }
    page.wrap(4, &verdict(totals), out);
}

fn times(totals: &DeviceTotals) -> Option<String> {
    Some(format!(
        "{} completed within their faults: queued {} in the mean, at most {}; served {} in the mean, at most {}",
        totals.completed,
        duration(totals.mean_queued_ns()?),
        duration(totals.max_queued_ns),
        duration(totals.mean_served_ns()?),
        duration(totals.max_served_ns)
    ))
}

fn verdict(totals: &DeviceTotals) -> String {
    let all = totals.queued_ns.saturating_add(totals.served_ns);
    match totals.verdict() {
        None => "no request was completed within a fault, so nothing tells what takes the time"
            .to_owned(),
        Some(DeviceVerdict::Limited) => format!(
            "limited: {} of the time is over before the device is asked",
            percent(totals.held_ns, all.saturating_add(totals.held_ns))
        ),
        Some(DeviceVerdict::Busy) => format!(
            "busy: {} of the time is in the queue, before the device gets the request",
            percent(totals.queued_ns, all)
        ),
        Some(DeviceVerdict::Slow) => format!(
            "slow: {} of the time is the device's own",
            percent(totals.served_ns, all)
        ),
        Some(DeviceVerdict::Quick) => {
            "quick: neither the queue nor the device takes long".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::summary::samples;

    #[test]
    fn a_slow_device_is_called_so() {
        let page = Page {
            color: false,
            width: None,
        };
        let (mut found, mut out) = (Devices::default(), Vec::new());
        devices(page, &found, 10, &mut out);
        assert!(String::from_utf8_lossy(&out).contains("no fault began a read"));
        found.add(Some(&samples::io()), None, 12_100_000);
        out.clear();
        devices(page, &found, 10, &mut out);
        insta::assert_snapshot!(String::from_utf8_lossy(&out), @"

        devices, for reads that faults began
          nvme0n1 (259:1): 3 requests for 1 fault that blocked for 12.1 ms, 128 KiB, 1 shared with others
            2 completed within their faults: queued 150 µs in the mean, at most 200 µs; served 10.5 ms in the mean, at most 11.0 ms
            slow: 99 % of the time is the device's own
        ");
    }
}
