//! Counters of samples, and stalls.

use std::sync::Arc;

use super::read::{Read, read};
use crate::export::perfetto::Perfetto;
use crate::export::tests::{T0, run};
use crate::model::stall::Stall;
use crate::model::summary::samples;
use crate::model::{Record, Sample};

const MS: u64 = 1_000_000;

fn stall(begin: u64, length: u64, over: bool) -> Record {
    Record::Stall(Arc::new(Stall {
        pid: 4700,
        begin_ns: T0 + begin * MS,
        duration_ns: length * MS,
        over,
        threads: 5,
        max_threads: 4,
        needed: 3,
        files: Vec::new(),
        other_faults: 0,
        causes: Vec::new(),
        meanwhile: None,
        no_p_left_ns: None,
        is_p_stall: false,
    }))
}

fn trace(records: &[Record]) -> Read {
    let mut all = vec![samples::start()];
    all.extend_from_slice(records);
    read(&run(Box::new(Perfetto::new()), &all).unwrap())
}

fn sample(one: Sample) -> Record {
    Record::Sample(Arc::new(one))
}

#[test]
fn what_is_counted_between_two_samples_stands_at_the_first() {
    let unread = samples::sample_unread(4700, 700 * MS);
    let read = trace(&[
        sample(samples::sample(4700, 0)),
        sample(samples::sample(4700, 200 * MS)),
        sample(samples::sample(4700, 600 * MS)),
        // Of which nothing is known: no value, not 0.
        sample(unread),
        // Out of order, as a file may say.
        sample(samples::sample(4700, 300 * MS)),
    ]);
    let at = |ms: u64| T0 + ms * MS;
    assert_eq!(
        read.counter("CPU time, % of one CPU", 4700),
        [(at(0), 7), (at(200), 7)]
    );
    assert_eq!(
        read.counter("I/O pressure, %", 4700),
        [(at(0), 80), (at(200), 80)]
    );
    assert_eq!(
        read.counter("iowait, % of one CPU", 4700),
        [(at(0), 90), (at(200), 90)]
    );
    assert_eq!(
        read.counter("run queue", 4700),
        [(at(0), 3), (at(200), 3), (at(600), 3)]
    );
}

#[test]
fn stalls_are_slices_of_a_track_of_their_own() {
    let read = trace(&[
        stall(10, 100, false),
        stall(10, 300, true),
        stall(400, 20, true),
        stall(500, 150, false),
    ]);
    let found = Read::of("stall", &read.slices);
    let shown: Vec<_> = found
        .iter()
        .map(|one| (one.begin, one.end, one.number("max_threads")))
        .collect();
    let at = |ms: u64| T0 + ms * MS;
    assert_eq!(
        shown,
        [
            (at(10), Some(at(310)), 4),
            (at(400), Some(at(420)), 4),
            (at(500), Some(at(650)), 4),
        ]
    );
    assert!(found.iter().all(|one| one.track == found[0].track));
}
