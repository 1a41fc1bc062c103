//! What became of pages and what devices did, of two traces.

use std::sync::Arc;

use super::{analyse, during, records};
use crate::model::analysis::{
    Beside, DeviceKey, Diff, Fate, Options, Report, Verdict, Wall, compare,
};
use crate::model::summary::Waited;
use crate::model::summary::samples::{T0, history, io, start};
use crate::model::{Cause, Device, Fault, History, How, Name, Past, Record};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// What is recorded with both options.
pub(crate) const BOTH: &[&str] = &["page_uncached", "io_queued"];

/// A trace of so many seconds for which these jobs were done.
pub(crate) fn recorded(jobs: &[&str], seconds: u64, faults: Vec<Fault>) -> Report {
    let mut start = start();
    if let Record::Start(start) = &mut start {
        let rungs = ["page_uncached", "io_queued"].map(|job| {
            let rung = if jobs.contains(&job) {
                "tp_btf"
            } else {
                "none"
            };
            (job.to_owned(), rung.to_owned())
        });
        Arc::make_mut(start).rungs.extend(rungs);
    }
    let mut all = vec![start];
    all.extend(records(faults));
    lasting(seconds, &all)
}

/// These records as a trace of so many seconds.
pub(super) fn lasting(seconds: u64, all: &[Record]) -> Report {
    let options = Options {
        wall: Some(Wall {
            begin_ns: T0,
            end_ns: T0 + seconds * SECOND,
        }),
        ..Options::default()
    };
    analyse(options, all)
}

/// So many faults, one each 10 ms, each blocked for a bit less than 1 ms: without a past, and without reads.
pub(crate) fn faults(count: u64) -> Vec<Fault> {
    let one = |n| {
        let mut one = during(1, n * 10 * MS, n * 10 * MS + MS);
        one.facts.cause = Some(Cause::ReadWait);
        one.history = None;
        one
    };
    (0..count).map(one).collect()
}

/// The same, on pages of this past.
pub(crate) fn after(count: u64, fate: Fate) -> Vec<Fault> {
    let mut history = history();
    match (fate, &mut history.past) {
        (Fate::Removed(how), Past::Refault(removal)) => removal.how = how,
        (Fate::FirstTouch, past) => *past = Past::FirstTouch,
        (_, past) => *past = Past::Unknown,
    }
    with(count, |one| {
        one.history = Some(Box::new(History::clone(&history)));
    })
}

fn with(count: u64, change: impl Fn(&mut Fault)) -> Vec<Fault> {
    let mut all = faults(count);
    all.iter_mut().for_each(change);
    all
}

/// The same, with reads of a device, each of whose requests was queued and served for so many ms.
pub(crate) fn reads(count: u64, minor: u32, name: Option<&str>, took: (u64, u64)) -> Vec<Fault> {
    with(count, |one| {
        let mut io = io();
        io.device = Some(Device {
            major: 259,
            minor,
            name: name.map(Name::from),
        });
        (io.requests, io.completed) = (1, 1);
        (io.queued_ns, io.served_ns) = (took.0 * MS, took.1 * MS);
        one.facts.cause = Some(Cause::FileRead);
        one.io = Some(Box::new(io));
    })
}

/// Several, one after another in time.
pub(crate) fn one_by_one(groups: impl IntoIterator<Item = Vec<Fault>>) -> Vec<Fault> {
    let mut all: Vec<_> = groups.into_iter().flatten().collect();
    for (one, n) in all.iter_mut().zip(0..) {
        one.facts.begin_ns = Some(T0 + n * 10 * MS);
        one.end_ns = T0 + n * 10 * MS + MS;
    }
    all
}

fn sides<T>(found: Option<&Beside<T>>) -> Option<(bool, bool, bool)> {
    found.map(|found| (found.before, found.after, found.change.is_some()))
}

#[test]
fn pages_are_compared_by_what_had_become_of_them() {
    let kswapd = Fate::Removed(How::Kswapd);
    let dropped = Fate::Removed(How::Fadvise);
    let before = one_by_one([
        after(50, Fate::FirstTouch),
        after(10, kswapd),
        after(1, Fate::Unknown),
    ]);
    let later = one_by_one([
        after(100, Fate::FirstTouch),
        after(90, kswapd),
        after(3, dropped),
    ]);
    let diff = compare(&recorded(BOTH, 5, before), &recorded(BOTH, 10, later));
    let found = diff.pasts.as_ref().unwrap();
    let rows = &found.change.as_ref().unwrap().rows;
    let fates: Vec<_> = rows.iter().map(|(fate, _)| *fate).collect();
    // Ten a second each, before and after: no change at all.
    assert_eq!(fates, [kswapd, dropped, Fate::Unknown, Fate::FirstTouch]);
    let (_, evicted) = rows[0];
    assert_eq!((evicted.before.faults, evicted.after.faults), (10, 90));
    assert_eq!(evicted.before.blocked_ns, 10 * (MS - 1));
    assert_eq!(
        (evicted.faults.before, evicted.faults.after),
        (Some(2.0), Some(9.0))
    );
    assert_eq!(evicted.blocked.verdict, Verdict::Unknown);
    let (_, dropped) = rows[1];
    assert_eq!(
        (dropped.before, dropped.faults.before),
        (Waited::default(), Some(0.0))
    );
}

#[test]
fn what_only_one_trace_recorded_is_not_compared_with_nothing() {
    let some = || after(5, Fate::FirstTouch);
    let of = |before: &[&str], a: Vec<Fault>, later: &[&str], b: Vec<Fault>| -> Diff {
        compare(&recorded(before, 5, a), &recorded(later, 5, b))
    };
    let diff = of(BOTH, some(), &[], faults(5));
    assert_eq!(sides(diff.pasts.as_ref()), Some((true, false, false)));
    assert_eq!(sides(diff.devices.as_ref()), Some((true, false, false)));
    let diff = of(&[], faults(5), BOTH, some());
    assert_eq!(sides(diff.pasts.as_ref()), Some((false, true, false)));
    let diff = of(&[], faults(5), &[], faults(5));
    assert!(diff.pasts.is_none() && diff.devices.is_none());
    // Asked for, and there was nothing: that is a zero.
    let diff = of(BOTH, some(), BOTH, faults(5));
    let rows = diff.pasts.unwrap().change.unwrap().rows;
    assert_eq!((rows.len(), rows[0].1.after), (1, Waited::default()));
    let devices = diff.devices.unwrap().change.unwrap();
    assert!(devices.rows.is_empty() && devices.unseen.is_none());
}

#[test]
fn devices_go_by_their_names_and_have_means() {
    let before = one_by_one([
        reads(10, 0, Some("nvme0n1"), (0, 2)),
        reads(10, 5, None, (1, 1)),
    ]);
    let later = one_by_one([
        reads(40, 3, Some("nvme0n1"), (6, 2)),
        reads(10, 5, None, (1, 1)),
    ]);
    let diff = compare(&recorded(BOTH, 5, before), &recorded(BOTH, 5, later));
    let rows = diff.devices.unwrap().change.unwrap().rows;
    assert_eq!(rows.len(), 2, "{rows:#?}");
    assert_eq!(rows[0].device, Some(DeviceKey::Name(Name::from("nvme0n1"))));
    assert_eq!(
        (rows[0].requests.before, rows[0].requests.after),
        (Some(2.0), Some(8.0))
    );
    let ms = |ms: u64| Some((ms * MS) as f64);
    assert_eq!(
        (rows[0].queued.before, rows[0].queued.after),
        (ms(0), ms(6))
    );
    assert_eq!(
        (rows[0].served.before, rows[0].served.after),
        (ms(2), ms(2))
    );
    let verdicts =
        [rows[0].before, rows[0].after].map(|of| of.unwrap().verdict().unwrap().as_str());
    assert_eq!(verdicts, ["slow", "busy"]);
    assert_eq!(rows[1].device, Some(DeviceKey::Numbers(259, 5)));
}

#[test]
fn a_device_that_may_not_be_told_apart_is_unknown_and_unseen_reads_are_counted() {
    let mut unknown = reads(4, 0, None, (1, 1));
    for one in &mut unknown {
        one.io.as_mut().unwrap().device = None;
    }
    let mut unseen = faults(5);
    for one in &mut unseen {
        one.facts.cause = Some(Cause::FileRead);
    }
    let before = one_by_one([unknown, unseen]);
    let later = reads(10, 0, Some("sda"), (1, 1));
    let diff = compare(&recorded(BOTH, 5, before), &recorded(BOTH, 5, later));
    let found = diff.devices.unwrap().change.unwrap();
    let [sda, others] = &found.rows[..] else {
        panic!("{found:#?}");
    };
    assert_eq!(
        (sda.before, sda.requests.before, sda.queued.before),
        (None, None, None)
    );
    assert_eq!(sda.after.unwrap().requests, 10);
    assert!(others.device.is_none());
    assert_eq!(
        (others.before.unwrap().faults, others.after.unwrap().faults),
        (4, 0)
    );
    let unseen = found.unseen.unwrap();
    assert_eq!((unseen.before.faults, unseen.after.faults), (5, 0));
}
