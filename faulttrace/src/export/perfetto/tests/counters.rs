//! Threads in faults, and bytes touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::read::{Read, read};
use crate::export::perfetto::Perfetto;
use crate::export::perfetto::counters::Counters;
use crate::export::perfetto::stream::Limits;
use crate::export::perfetto::touched::{Limits as TouchedLimits, Touched};
use crate::export::tests::{T0, faults, many, record, run};
use crate::model::summary::samples;
use crate::model::{Fault, Name, Record};

const IN_FAULTS: &str = "threads in page faults";
const TOUCHED: &str = "file bytes touched by faults";

fn trace(window: usize, records: &[Record]) -> Read {
    let export = Perfetto::with(Limits::default(), Counters::with_window(window));
    read(&run(Box::new(export), records).unwrap())
}

/// How many threads of a process are in a fault, at each time at which that changes.
fn truth(pid: u32, records: &[Record]) -> Vec<(u64, i64)> {
    at_once(faults(records).filter(|fault| fault.facts.pid == pid))
}

/// How many of these faults there are, at each time at which that changes.
pub(super) fn at_once<'f>(of: impl Iterator<Item = &'f Fault>) -> Vec<(u64, i64)> {
    let mut changes: BTreeMap<u64, i64> = BTreeMap::new();
    for fault in of {
        *changes.entry(fault.end_ns - fault.duration_ns).or_default() += 1;
        *changes.entry(fault.end_ns).or_default() -= 1;
    }
    let mut count = 0;
    let mut values = vec![(T0, 0)];
    for (at, change) in changes.into_iter().filter(|(_, change)| *change != 0) {
        count += change;
        values.push((at, count));
    }
    values
}

#[test]
fn threads_in_faults_are_exact() {
    for seed in 0..20 {
        let records = many(400, seed);
        let read = trace(1000, &records);
        for pid in [4700, 5000] {
            let values = read.counter(IN_FAULTS, pid);
            assert_eq!(values, truth(pid.cast_unsigned(), &records));
            assert!(values.iter().all(|(_, count)| (0..=3).contains(count)));
        }
        assert!(!read.notes().iter().any(|note| note.contains("too late")));
    }
}

#[test]
fn what_comes_too_late_for_the_window_is_counted_late_and_told() {
    let records = many(400, 3);
    let read = trace(4, &records);
    let late = read
        .notes()
        .into_iter()
        .find(|note| note.contains("too late"));
    assert!(late.is_some());
    for pid in [4700, 5000] {
        let values = read.counter(IN_FAULTS, pid);
        assert!(values.is_sorted_by_key(|(at, _)| *at));
        assert_eq!(values.last().unwrap().1, 0);
        assert_ne!(values, truth(pid.cast_unsigned(), &records));
    }
}

#[test]
fn a_report_of_a_stuck_fault_makes_it_early_enough() {
    // One long fault, during which another thread has more than the window holds.
    let mut long = samples::fault();
    long.duration_ns = 90_000_000;
    long.end_ns = T0 + 90_000_000;
    let mut records = vec![samples::start()];
    let mut report = samples::stuck();
    report.facts = long.facts.clone();
    let report = Record::Stuck(Arc::new(report));
    for number in 0..50 {
        let mut short = samples::fault();
        short.facts.tid = 1;
        short.duration_ns = 500_000;
        short.end_ns = T0 + 1_000_000 * (number + 1);
        short.facts.begin_ns = Some(short.end_ns - short.duration_ns);
        records.push(record(short));
    }
    records.push(record(long));
    assert_ne!(
        trace(8, &records).counter(IN_FAULTS, 4700),
        truth(4700, &records)
    );
    records.insert(3, report);
    let read = trace(8, &records);
    assert_eq!(read.counter(IN_FAULTS, 4700), truth(4700, &records));
}

#[test]
fn stuck_threads_stay_in_their_fault_until_something_says_otherwise() {
    let report = Record::Stuck(Arc::new(samples::stuck()));
    let read = trace(8, &[samples::start(), report.clone(), report.clone()]);
    assert_eq!(read.counter(IN_FAULTS, 4700), [(T0, 0), (T0, 1)]);
    let read = trace(8, &[samples::start(), report, samples::process_end()]);
    let end = T0 + 5_000_000_000;
    assert_eq!(read.counter(IN_FAULTS, 4700), [(T0, 0), (T0, 1), (end, 0)]);
}

#[test]
fn bytes_touched_are_those_of_different_pages() {
    let records = many(400, 9);
    let read = trace(1000, &records);
    for pid in [4700, 5000] {
        let pages: BTreeSet<_> = faults(&records)
            .map(|fault| &fault.facts)
            .filter(|facts| facts.pid == pid && facts.place.path.is_some())
            .map(|facts| (facts.place.path.clone(), facts.place.offset))
            .collect();
        let values = read.counter(TOUCHED, i32::try_from(pid).unwrap());
        let bytes = i64::try_from(pages.len() * 4096).unwrap();
        assert_eq!(values.last().unwrap().1, bytes);
        assert!(values.is_sorted());
    }
}

#[test]
fn too_many_pages_stop_the_counting() {
    let small = TouchedLimits {
        files: 100,
        bytes: 2_000,
        look_every: 16,
    };
    let mut facts = samples::facts();
    let mut touched = Touched::with_limits(small);
    let new = (0..10_000_u64).take_while(|page| {
        facts.place.offset = Some(page << 33);
        touched.is_new(&facts)
    });
    assert!((16..1000).contains(&new.count()));
    assert!(touched.stopped());

    let mut touched = Touched::with_limits(TouchedLimits {
        bytes: 1 << 20,
        ..small
    });
    let files = (0..1000).take_while(|file: &i32| {
        facts.place.path = Some(Name::from(file.to_string().as_str()));
        touched.is_new(&facts)
    });
    assert_eq!(files.count(), 100);

    // A file read from end to end fits.
    let mut touched = Touched::default();
    for page in 0..200_000 {
        facts.place.offset = Some(page * 4096);
        assert!(touched.is_new(&facts) && !touched.is_new(&facts));
    }
}
