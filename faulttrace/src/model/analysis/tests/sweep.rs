//! Threads at once and stalls, against a count of every moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Random, analyse, bounded, during, end_of, records, walled};
use crate::model::analysis::{Bounds, Options, Report, Wall};
use crate::model::summary::samples::{T0, stuck};
use crate::model::{Cause, Fault, Name, Record};

/// For each ns from [`T0`]: which threads of `faults` were in one.
pub(crate) fn moments(faults: &[Fault], blocked: bool) -> Vec<BTreeSet<u32>> {
    let last = faults.iter().map(|one| one.end_ns - T0).max().unwrap_or(0);
    let mut moments = vec![BTreeSet::new(); usize::try_from(last).unwrap()];
    for one in faults.iter().filter(|one| !blocked || one.blocked_ns > 0) {
        for at in one.measure().begin_ns() - T0..one.end_ns - T0 {
            moments[usize::try_from(at).unwrap()].insert(one.facts.tid);
        }
    }
    moments
}

/// (begin, end, most at once, different threads) of each stall, longest first.
fn stalls(faults: &[Fault], needed: usize) -> Vec<(u64, u64, u64, u64)> {
    let moments = moments(faults, true);
    let mut found = Vec::new();
    let mut at = 0;
    while at < moments.len() {
        let length = moments[at..]
            .iter()
            .take_while(|now| now.len() >= needed)
            .count();
        if length > 0 {
            let inside = &moments[at..at + length];
            let most = inside.iter().map(BTreeSet::len).max().unwrap();
            let different: BTreeSet<_> = inside.iter().flatten().collect();
            let number = |n: usize| u64::try_from(n).unwrap();
            found.push((
                number(at),
                number(at + length),
                number(most),
                number(different.len()),
            ));
        }
        at += length + 1;
    }
    found.sort_by_key(|(begin, end, ..)| (std::cmp::Reverse(end - begin), *begin));
    found
}

/// Faults of a few threads in a short time. With `overlaps` also such as cannot be: two at once
/// in one thread.
pub(crate) fn crowd(random: &mut Random, overlaps: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    for tid in 1..=5 {
        let mut now = 0;
        while now < 600 {
            let begin = now + random.below(30);
            let end = begin + random.below(60);
            let mut one = during(tid, begin, end);
            if random.below(4) == 0 {
                one.blocked_ns = 0;
                one.on_cpu_ns = one.duration_ns;
            }
            faults.push(one);
            now = if overlaps {
                begin + random.below(60)
            } else {
                end
            };
        }
    }
    faults.sort_by_key(|one| one.end_ns);
    faults
}

fn check(report: &Report, faults: &[Fault], needed: usize) {
    let moments = moments(faults, false);
    let at_least = |threads: usize| {
        let long = moments.iter().filter(|now| now.len() >= threads).count();
        u64::try_from(long).unwrap()
    };
    let found = &report.all.concurrency;
    assert_eq!(found.threads, Some(5));
    assert_eq!(found.one_ns, at_least(1));
    assert_eq!(found.half_ns, Some(at_least(3)));
    assert_eq!(found.all_ns, Some(at_least(5)));
    let most = moments.iter().map(BTreeSet::len).max().unwrap();
    assert_eq!(found.max_threads, u64::try_from(most).unwrap());

    let expected = stalls(faults, needed);
    let found = report.all.stalls.as_ref().unwrap();
    assert_eq!(found.count, u64::try_from(expected.len()).unwrap());
    let total: u64 = expected.iter().map(|(begin, end, ..)| end - begin).sum();
    assert_eq!(found.total_ns, total);
    assert_eq!(found.worst.len(), expected.len().min(10));
    let worst: Vec<_> = found
        .worst
        .iter()
        .map(|one| {
            (
                one.begin_ns - T0,
                one.end_ns - T0,
                one.max_threads,
                one.threads,
            )
        })
        .collect();
    for (found, expected) in worst.iter().zip(&expected) {
        // Of equally long ones, which are told is not promised.
        assert_eq!(found.1 - found.0, expected.1 - expected.0);
    }
    for one in worst {
        assert!(expected.contains(&one), "{one:?} is none of {expected:?}");
    }
}

#[test]
fn every_moment_counts_the_threads_that_were_in_faults() {
    let mut stalls = 0;
    for seed in 1..200 {
        let mut random = Random(seed);
        let faults = crowd(&mut random, seed % 2 == 0);
        for needed in [1_u32, 2, 3, 5] {
            let records = records(faults.clone());
            let options = Options {
                stall_threads: Some(needed),
                ..walled(&records)
            };
            let report = analyse(options, &records);
            check(&report, &faults, usize::try_from(needed).unwrap());
            assert_eq!(report.quality.out_of_order, 0);
            assert_eq!(report.quality.overlapping > 0, seed % 2 == 0);
            stalls += report.all.stalls.unwrap().count;
        }
    }
    assert!(stalls > 1_000, "{stalls}");
}

/// The faults in the order of records that were written up to `late` places too late.
fn belated(random: &mut Random, faults: &[Fault], late: u64) -> Vec<Record> {
    let mut places = BTreeMap::new();
    for (at, one) in (0_u64..).zip(faults) {
        let extra = if random.below(10) == 0 {
            random.below(late)
        } else {
            0
        };
        places.insert((at + extra, at), one.clone());
    }
    records(places.into_values())
}

#[test]
fn ends_out_of_order_are_put_in_order() {
    for seed in 1..100 {
        let mut random = Random(seed);
        let faults = crowd(&mut random, false);
        let all = belated(&mut random, &faults, 40);
        let in_order = all.windows(2).all(|two| end_of(&two[0]) <= end_of(&two[1]));
        assert!(!in_order);
        let options = Options {
            stall_threads: Some(3),
            ..walled(&all)
        };
        let report = analyse(options, &all);
        check(&report, &faults, 3);
        assert_eq!(report.quality.out_of_order, 0);
    }
}

#[test]
fn what_cannot_be_put_in_order_is_counted() {
    // Read backward: a late end after the sweep, with room for two, has passed it.
    let late = during(1, 900, 1_000);
    let mut all = vec![late];
    all.extend((1..10).map(|n| during(2, n * 10, n * 10 + 5)));
    let records = records(all);
    let few = Bounds {
        order: 2,
        ..Bounds::default()
    };
    let report = bounded(few, &records);
    assert_eq!(report.quality.out_of_order, 1);
    assert_eq!(report.all.concurrency.one_ns, 9 * 5, "its time is gone");
    let enough = Bounds {
        order: 20,
        ..Bounds::default()
    };
    let report = bounded(enough, &records);
    assert_eq!(report.quality.out_of_order, 0);
    assert_eq!(report.all.concurrency.one_ns, 9 * 5 + 100);
}

#[test]
fn a_stall_needs_half_of_the_threads_but_at_least_two() {
    let needed = |threads: u32| {
        let faults = (1..=threads).map(|tid| during(tid, 0, 10));
        let records = records(faults);
        analyse(walled(&records), &records)
            .all
            .stalls
            .unwrap()
            .needed
    };
    assert_eq!([1, 2, 3, 4, 5, 9].map(needed), [1, 2, 2, 2, 3, 5]);
}

#[test]
fn a_stall_tells_its_threads() {
    let mut other = during(2, 40, 90);
    other.facts.cause = Some(Cause::Fuse);
    other.facts.place.path = Some(Name::from("/mnt/slow"));
    let mut faults = vec![
        during(1, 0, 50),
        other,
        // Again, and longer.
        during(1, 55, 95),
        during(3, 60, 70),
        during(3, 75, 80),
        // Alone, so in no stall.
        during(3, 100, 300),
    ];
    faults.sort_by_key(|one| one.end_ns);
    let records = records(faults);
    let report = analyse(walled(&records), &records);
    let stalls = report.all.stalls.unwrap();
    assert_eq!(stalls.needed, 2);
    assert_eq!(stalls.count, 2, "one ends when thread 1 goes on, at 50");
    let worst = &stalls.worst[0];
    assert_eq!((worst.begin_ns - T0, worst.end_ns - T0), (55, 90));
    assert_eq!((worst.max_threads, worst.threads), (3, 3));
    let members: Vec<_> = worst
        .members
        .iter()
        .map(|one| (one.thread.tid, one.longest_ns, one.faults, one.cause))
        .collect();
    assert_eq!(
        members,
        [
            (2, 50, 1, Some(Cause::Fuse)),
            (1, 40, 1, Some(Cause::FileRead)),
            (3, 10, 2, Some(Cause::FileRead)),
        ]
    );
    let path = worst.members[0].file.as_ref().unwrap().path.as_ref();
    assert_eq!(path, Some(&Name::from("/mnt/slow")));
    assert_eq!(worst.members[2].name, Some(Name::from("worker-3")));
}

#[test]
fn of_many_threads_in_a_stall_each_counts_once() {
    // Each of 40 threads goes from fault to fault, so that others are always blocked.
    let mut faults: Vec<_> = (0..40_u64)
        .flat_map(|tid| (0..5).map(move |n| (tid, n * 100 + tid, n * 100 + tid + 90)))
        .map(|(tid, begin, end)| during(u32::try_from(tid).unwrap(), begin, end))
        .collect();
    faults.sort_by_key(|one| one.end_ns);
    let records = records(faults);
    let report = analyse(walled(&records), &records);
    let stalls = report.all.stalls.unwrap();
    assert_eq!((stalls.needed, stalls.count), (20, 1));
    let worst = &stalls.worst[0];
    assert_eq!(worst.threads, 40);
    assert_eq!(worst.members.len(), 16, "the others are only counted");
    assert!(
        worst
            .members
            .iter()
            .all(|one| (4..=5).contains(&one.faults))
    );
}

#[test]
fn processes_stall_apart_and_are_counted_together() {
    let mut other = during(9, 0, 60);
    other.facts.pid = 1;
    let records = records([during(2, 10, 50), other]);
    let report = analyse(walled(&records), &records);
    assert_eq!(report.all.concurrency.threads, Some(2));
    assert_eq!(report.all.concurrency.one_ns, 60);
    assert_eq!(report.all.concurrency.all_ns, Some(40));
    assert!(report.all.stalls.is_none());
    let parts: Vec<_> = report.processes().map(|(_, part)| part).collect();
    assert_eq!(parts.len(), 2);
    assert_eq!(parts[0].concurrency.all_ns, Some(60));
    assert_eq!(parts[0].stalls.as_ref().unwrap().total_ns, 60);
}

#[test]
fn a_process_that_comes_late_counts_with_the_first_from_then_on() {
    // Read backward, the other process comes in the middle, while two threads of the first are in
    // faults.
    let mut other = during(9, 10, 60);
    other.facts.pid = 1;
    let mut faults = vec![
        during(2, 0, 100),
        during(3, 20, 90),
        other,
        during(3, 5, 15),
    ];
    faults.sort_by_key(|one| one.end_ns);
    let at_once = Bounds {
        order: 1,
        ..Bounds::default()
    };
    let report = bounded(at_once, &records(faults));
    assert_eq!(report.quality.out_of_order, 0);
    let all = &report.all.concurrency;
    assert_eq!(all.threads, Some(3));
    assert_eq!((all.one_ns, all.half_ns), (100, Some(90 - 5)));
    assert_eq!(all.all_ns, Some(60 - 20 + 15 - 10));
}

#[test]
fn only_what_is_within_the_wall_counts() {
    let records = records([during(1, 0, 100)]);
    let options = Options {
        wall: Some(Wall {
            begin_ns: T0 + 30,
            end_ns: T0 + 70,
        }),
        ..Options::default()
    };
    assert_eq!(analyse(options, &records).all.concurrency.one_ns, 40);
}

#[test]
fn who_was_stuck_before_the_start_is_stuck_from_the_start_on_whatever_part_is_wanted() {
    let mut still = stuck();
    still.facts.begin_ns = None;
    still.facts.began_before_attach = true;
    still.elapsed_ns = 50;
    let records = [Record::Stuck(Arc::new(still))];
    let options = |begin| Options {
        start_ns: Some(T0),
        stall_threads: Some(1),
        wall: Some(Wall {
            begin_ns: T0 + begin,
            end_ns: T0 + 100,
        }),
        ..Options::default()
    };
    let stalled_ns = |begin| {
        let stalls = analyse(options(begin), &records).all.stalls;
        stalls.map(|stalls| stalls.total_ns)
    };
    assert_eq!([0, 30].map(stalled_ns), [Some(50), Some(20)]);
}
