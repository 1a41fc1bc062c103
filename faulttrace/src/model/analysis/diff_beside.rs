//! What two traces have only if they were asked to record it, compared: what became of pages
//! (`--evictions`), and what devices did (`--io`).
//!
//! Without verdicts: no slices are kept of it. A trace that was not asked has no zeros, but nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::chance::Verdict;
use super::diff::Change;
use super::report::Report;
use crate::model::summary::{Pasts, Waited};
use crate::model::{Device, DeviceTotals, Devices, How, Name, Start};

/// What two traces recorded beside faults, if they were asked to.
#[derive(Debug, Clone, PartialEq)]
pub struct Beside<T> {
    /// The first one recorded it.
    pub before: bool,
    /// The second one did.
    pub after: bool,
    /// What changed; `None` unless both did.
    pub change: Option<T>,
}

impl<T> Beside<T> {
    /// `None` if neither trace has it.
    pub(super) fn of<S>(
        before: Option<S>,
        after: Option<S>,
        compare: impl FnOnce(S, S) -> T,
    ) -> Option<Self> {
        let (has_before, has_after) = (before.is_some(), after.is_some());
        (has_before || has_after).then(|| Beside {
            before: has_before,
            after: has_after,
            change: before
                .zip(after)
                .map(|(before, after)| compare(before, after)),
        })
    }
}

/// What had become of a page before a fault waited for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// It had not been in memory, as far as was seen.
    FirstTouch,
    /// It had been, and was removed so.
    Removed(How),
    /// Nothing is known of it.
    Unknown,
}

/// Faults by what had become of their pages; what changed most first.
#[derive(Debug, Clone, PartialEq)]
pub struct PastsChange {
    /// Those that either trace has.
    pub rows: Vec<(Fate, WaitedChange)>,
}

/// Faults of a kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WaitedChange {
    /// Before.
    pub before: Waited,
    /// After.
    pub after: Waited,
    /// Faults per second.
    pub faults: Change,
    /// Blocked ns per second.
    pub blocked: Change,
}

/// What devices did for the reads that faults began.
#[derive(Debug, Clone, PartialEq)]
pub struct DevicesChange {
    /// By device, the greatest change of the time that requests took first; those last that are not known
    /// or not told apart.
    pub rows: Vec<DeviceChange>,
    /// Reads that no device was seen to get; `None` if neither trace has any.
    pub unseen: Option<WaitedChange>,
}

/// A device. Numbers may differ from boot to boot: a device goes by its name, if that is known.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceChange {
    /// Which; `None`: those that are not known or not told apart.
    pub device: Option<DeviceKey>,
    /// Before; `None` if it may be among those that are not known.
    pub before: Option<DeviceTotals>,
    /// After; `None` likewise.
    pub after: Option<DeviceTotals>,
    /// Requests per second.
    pub requests: Change,
    /// How long a request was queued, in the mean, ns.
    pub queued: Change,
    /// How long it was served, in the mean, ns.
    pub served: Change,
    /// How long a limit held back the reads of a fault, in the mean of all, ns.
    pub held: Change,
}

/// A device by its name, or by its numbers if it has none that is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceKey {
    /// As in `/sys/block`.
    Name(Name),
    /// Major and minor number.
    Numbers(u32, u32),
}

impl DeviceKey {
    fn of(device: &Device) -> Self {
        match &device.name {
            Some(name) => DeviceKey::Name(name.clone()),
            None => DeviceKey::Numbers(device.major, device.minor),
        }
    }
}

/// What became of pages. `None` if neither trace was asked to look.
pub(super) fn pasts(before: &Report, after: &Report) -> Option<Beside<PastsChange>> {
    let side = |report| watched(report).map(fates);
    Beside::of(side(before), side(after), |a, b| {
        let fates: BTreeSet<Fate> = a.keys().chain(b.keys()).copied().collect();
        let waited = |of: &BTreeMap<Fate, Waited>, fate| of.get(&fate).copied().unwrap_or_default();
        let row = |fate| {
            (
                fate,
                changed((before, waited(&a, fate)), (after, waited(&b, fate))),
            )
        };
        let mut rows: Vec<_> = fates.into_iter().map(row).collect();
        rows.sort_by(|(_, a), (_, b)| b.blocked.size().total_cmp(&a.blocked.size()));
        PastsChange { rows }
    })
}

/// The pasts of a trace that was asked to look.
fn watched(report: &Report) -> Option<&Pasts> {
    let pasts = &report.total.pasts;
    let asked = report.start.as_deref().is_some_and(Start::watches_pages);
    (asked || !pasts.is_empty()).then_some(pasts)
}

fn fates(pasts: &Pasts) -> BTreeMap<Fate, Waited> {
    let mut all = BTreeMap::from([
        (Fate::FirstTouch, pasts.first_touch),
        (Fate::Unknown, pasts.unknown),
    ]);
    all.extend(
        pasts
            .how
            .iter()
            .map(|(how, waited)| (Fate::Removed(*how), *waited)),
    );
    all.retain(|_, waited| waited.faults > 0);
    all
}

/// What devices did. `None` if neither trace was asked to follow reads.
pub(super) fn devices(before: &Report, after: &Report) -> Option<Beside<DevicesChange>> {
    let side = |report: &Report| report.summary.devices(&report.total).cloned();
    Beside::of(side(before), side(after), |a, b| {
        let (known_a, known_b) = (by_name(&a), by_name(&b));
        let keys: BTreeSet<&DeviceKey> = known_a.keys().chain(known_b.keys()).collect();
        let row = |key: &DeviceKey| {
            DeviceChange::new(
                Some(key),
                (before, totals(&known_a, key, &a)),
                (after, totals(&known_b, key, &b)),
            )
        };
        let mut rows: Vec<_> = keys.into_iter().map(row).collect();
        rows.sort_by(|a, b| b.size(before, after).total_cmp(&a.size(before, after)));
        let (others_a, others_b) = (*a.others(), *b.others());
        if others_a.faults > 0 || others_b.faults > 0 {
            rows.push(DeviceChange::new(
                None,
                (before, Some(others_a)),
                (after, Some(others_b)),
            ));
        }
        let unseen = |of: &Devices| Waited {
            faults: of.unseen().faults,
            blocked_ns: of.unseen().blocked_ns,
        };
        let unseen = changed((before, unseen(&a)), (after, unseen(&b)));
        DevicesChange {
            rows,
            unseen: (unseen.before.faults > 0 || unseen.after.faults > 0).then_some(unseen),
        }
    })
}

fn by_name(devices: &Devices) -> BTreeMap<DeviceKey, DeviceTotals> {
    let mut all: BTreeMap<DeviceKey, DeviceTotals> = BTreeMap::new();
    for (device, totals) in devices.ranked() {
        all.entry(DeviceKey::of(device)).or_default().merge(totals);
    }
    all
}

/// What a device did; `None` if that may be among what is not told apart.
fn totals(
    known: &BTreeMap<DeviceKey, DeviceTotals>,
    key: &DeviceKey,
    all: &Devices,
) -> Option<DeviceTotals> {
    let may_be_other = all.others().faults > 0;
    let none = (!may_be_other).then(DeviceTotals::default);
    known.get(key).copied().or(none)
}

impl DeviceChange {
    fn new(
        key: Option<&DeviceKey>,
        (before, a): (&Report, Option<DeviceTotals>),
        (after, b): (&Report, Option<DeviceTotals>),
    ) -> Self {
        let mean = |of: fn(&DeviceTotals) -> Option<u64>| Change {
            before: a.as_ref().and_then(of).map(number),
            after: b.as_ref().and_then(of).map(number),
            verdict: Verdict::Unknown,
        };
        DeviceChange {
            device: key.cloned(),
            before: a,
            after: b,
            requests: Change {
                before: rate(before, a.map(|of| of.requests)),
                after: rate(after, b.map(|of| of.requests)),
                verdict: Verdict::Unknown,
            },
            queued: mean(DeviceTotals::mean_queued_ns),
            served: mean(DeviceTotals::mean_served_ns),
            held: mean(DeviceTotals::mean_held_ns),
        }
    }

    /// By how much the time that its requests took per second differs.
    fn size(&self, before: &Report, after: &Report) -> f64 {
        let took = |report, of: Option<DeviceTotals>| {
            let took_ns = of.map(|of| {
                let at_device_ns = of.queued_ns.saturating_add(of.served_ns);
                at_device_ns.saturating_add(of.held_ns)
            });
            rate(report, took_ns).unwrap_or(0.0)
        };
        (took(after, self.after) - took(before, self.before)).abs()
    }
}

fn changed((before, a): (&Report, Waited), (after, b): (&Report, Waited)) -> WaitedChange {
    let per_second = |of: fn(Waited) -> u64| Change {
        before: rate(before, Some(of(a))),
        after: rate(after, Some(of(b))),
        verdict: Verdict::Unknown,
    };
    WaitedChange {
        before: a,
        after: b,
        faults: per_second(|waited| waited.faults),
        blocked: per_second(|waited| waited.blocked_ns),
    }
}

/// `count` per second of a trace.
pub(super) fn rate(report: &Report, count: Option<u64>) -> Option<f64> {
    let wall_ns = report.wall.map(|wall| wall.length_ns());
    let wall_ns = wall_ns.filter(|wall| *wall > 0)?;
    Some(number(count?) / (number(wall_ns) / 1e9))
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn number(of: u64) -> f64 {
    of as f64
}
