//! What is compared only if both traces recorded it, for programs.

use serde::Serialize;

use super::ChangePart;
use crate::model::analysis::{
    AheadChange, Beside, DeviceChange, DeviceKey, DevicesChange, Fate, FileAhead, PastsChange,
    WaitedChange,
};
use crate::model::summary::Waited;
use crate::model::{DeviceTotals, DeviceVerdict, How};
use crate::view::escape::Escaped;
use crate::view::json::read_ahead::PagesPart;
use crate::view::json::scalar::escaped;

/// What had become of pages.
#[derive(Serialize)]
pub(super) struct PastsPart {
    recorded_before: bool,
    recorded_after: bool,
    rows: Option<Vec<FateRow>>,
}

impl PastsPart {
    pub(super) fn new(found: &Beside<PastsChange>) -> Self {
        PastsPart {
            recorded_before: found.before,
            recorded_after: found.after,
            rows: found.change.as_ref().map(|change| {
                let rows = change.rows.iter();
                rows.map(|(fate, of)| FateRow::new(*fate, of)).collect()
            }),
        }
    }
}

#[derive(Serialize)]
struct FateRow {
    past: &'static str,
    how: Option<&'static str>,
    #[serde(flatten)]
    waited: WaitedRow,
}

impl FateRow {
    fn new(fate: Fate, of: &WaitedChange) -> Self {
        let (past, how) = match fate {
            Fate::FirstTouch => ("first_touch", None),
            Fate::Removed(how) => ("refault", Some(how)),
            Fate::Unknown => ("unknown", None),
        };
        FateRow {
            past,
            how: how.map(How::as_str),
            waited: WaitedRow::new(of),
        }
    }
}

#[derive(Serialize)]
struct WaitedRow {
    before: WaitedPart,
    after: WaitedPart,
    faults_per_s: ChangePart,
    blocked_ns_per_s: ChangePart,
}

impl WaitedRow {
    fn new(of: &WaitedChange) -> Self {
        WaitedRow {
            before: WaitedPart::new(of.before),
            after: WaitedPart::new(of.after),
            faults_per_s: ChangePart::new(&of.faults),
            blocked_ns_per_s: ChangePart::new(&of.blocked),
        }
    }
}

#[derive(Serialize)]
struct WaitedPart {
    faults: u64,
    blocked_ns: u64,
}

impl WaitedPart {
    fn new(of: Waited) -> Self {
        WaitedPart {
            faults: of.faults,
            blocked_ns: of.blocked_ns,
        }
    }
}

/// What was read ahead.
#[derive(Serialize)]
pub(super) struct AheadPart<'a> {
    recorded_before: bool,
    recorded_after: bool,
    rows: Option<Vec<AheadRow<'a>>>,
    more_rows: usize,
    others_before: Option<PagesPart>,
    others_after: Option<PagesPart>,
}

impl<'a> AheadPart<'a> {
    pub(super) fn new(found: &'a Beside<AheadChange>, top: usize) -> Self {
        let change = found.change.as_ref();
        AheadPart {
            recorded_before: found.before,
            recorded_after: found.after,
            rows: change.map(|change| change.rows.iter().take(top).map(AheadRow::new).collect()),
            more_rows: change.map_or(0, |change| change.rows.len().saturating_sub(top)),
            others_before: change.map(|change| change.others.0.into()),
            others_after: change.map(|change| change.others.1.into()),
        }
    }
}

#[derive(Serialize)]
struct AheadRow<'a> {
    path: Option<Escaped<'a>>,
    before: Option<PagesPart>,
    after: Option<PagesPart>,
    read_pages_per_s: ChangePart,
    used_at_most: ChangePart,
}

impl<'a> AheadRow<'a> {
    fn new(of: &'a FileAhead) -> Self {
        AheadRow {
            path: escaped(of.path.as_ref()),
            before: of.before.map(PagesPart::from),
            after: of.after.map(PagesPart::from),
            read_pages_per_s: ChangePart::new(&of.read),
            used_at_most: ChangePart::new(&of.used),
        }
    }
}

/// What devices did.
#[derive(Serialize)]
pub(super) struct DevicesPart<'a> {
    recorded_before: bool,
    recorded_after: bool,
    rows: Option<Vec<DeviceRow<'a>>>,
    more_rows: usize,
    unseen: Option<WaitedRow>,
}

impl<'a> DevicesPart<'a> {
    pub(super) fn new(found: &'a Beside<DevicesChange>, top: usize) -> Self {
        let change = found.change.as_ref();
        let known = |change: &DevicesChange| {
            let known = change.rows.iter().filter(|row| row.device.is_some());
            known.count()
        };
        DevicesPart {
            recorded_before: found.before,
            recorded_after: found.after,
            rows: change.map(|change| rows(change, top)),
            more_rows: change.map_or(0, |change| known(change).saturating_sub(top)),
            unseen: change
                .and_then(|change| change.unseen.as_ref())
                .map(WaitedRow::new),
        }
    }
}

/// Those that changed most, and what is not told apart.
fn rows(change: &DevicesChange, top: usize) -> Vec<DeviceRow<'_>> {
    let is_known = |row: &&DeviceChange| row.device.is_some();
    let known = change.rows.iter().filter(is_known).take(top);
    let others = change.rows.iter().filter(|row| !is_known(row));
    known.chain(others).map(DeviceRow::new).collect()
}

#[derive(Serialize)]
struct DeviceRow<'a> {
    device: Option<String>,
    device_name: Option<Escaped<'a>>,
    before: Option<DevicePart>,
    after: Option<DevicePart>,
    requests_per_s: ChangePart,
    mean_queued_ns: ChangePart,
    mean_served_ns: ChangePart,
    mean_held_ns: ChangePart,
}

impl<'a> DeviceRow<'a> {
    fn new(of: &'a DeviceChange) -> Self {
        let (device, device_name) = match &of.device {
            Some(DeviceKey::Numbers(major, minor)) => (Some(format!("{major}:{minor}")), None),
            Some(DeviceKey::Name(name)) => (None, Some(Escaped(name.as_bytes()))),
            None => (None, None),
        };
        DeviceRow {
            device,
            device_name,
            before: of.before.as_ref().map(DevicePart::new),
            after: of.after.as_ref().map(DevicePart::new),
            requests_per_s: ChangePart::new(&of.requests),
            mean_queued_ns: ChangePart::new(&of.queued),
            mean_served_ns: ChangePart::new(&of.served),
            mean_held_ns: ChangePart::new(&of.held),
        }
    }
}

#[derive(Serialize)]
struct DevicePart {
    verdict: Option<&'static str>,
    faults: u64,
    blocked_ns: u64,
    requests: u64,
    completed: u64,
    bytes: u64,
    queued_ns: u64,
    served_ns: u64,
    held: Option<u64>,
    held_ns: Option<u64>,
}

impl DevicePart {
    fn new(of: &DeviceTotals) -> Self {
        DevicePart {
            verdict: of.verdict().map(DeviceVerdict::as_str),
            faults: of.faults,
            blocked_ns: of.blocked_ns,
            requests: of.requests,
            completed: of.completed,
            bytes: of.bytes,
            queued_ns: of.queued_ns,
            served_ns: of.served_ns,
            held: of.held().map(|(faults, _)| faults),
            held_ns: of.held().map(|(_, held_ns)| held_ns),
        }
    }
}
