//! Who goes through a file: threads, or goroutines that change threads.

use super::{Random, analyse, bounded, during, records, walled};
use crate::model::analysis::{Bounds, FileAccess, Pattern};
use crate::model::summary::samples::goroutine;
use crate::model::{Fault, Goroutine};

const PAGE: u64 = 4096;

/// The fault of this number in a trace.
fn nth(n: u64, tid: u32, page: u64, goroutine_id: Option<u64>) -> Fault {
    let mut one = during(tid, n * 100, n * 100 + 50);
    one.facts.place.offset = Some(page * PAGE);
    one.facts.goroutine = goroutine_id.map(|id| {
        Box::new(Goroutine {
            id: Some(id),
            ..goroutine()
        })
    });
    one
}

fn access(faults: &[Fault]) -> FileAccess {
    bounded_access(faults, Bounds::default())
}

fn bounded_access(faults: &[Fault], bounds: Bounds) -> FileAccess {
    let report = bounded(bounds, &records(faults.to_vec()));
    let mut files = report.all.files.into_values();
    let first = files.next().unwrap();
    assert!(files.next().is_none());
    first.access.unwrap()
}

/// Two goroutines, each through its part of the file in order, on threads that swap at random.
fn swapping() -> Vec<Fault> {
    let mut random = Random(17);
    let mut next = [0, 100_000];
    let faults = (0..400).map(|n| {
        let which = usize::try_from(random.below(2)).unwrap();
        let tid = 1 + u32::try_from(random.below(2)).unwrap();
        let page = next[which];
        next[which] += 1;
        nth(n, tid, page, Some(18 + which as u64))
    });
    faults.collect()
}

fn without_goroutines(mut faults: Vec<Fault>) -> Vec<Fault> {
    for fault in &mut faults {
        fault.facts.goroutine = None;
    }
    faults
}

#[test]
fn goroutines_go_their_own_way_whatever_their_threads() {
    let found = access(&swapping());
    assert_eq!(found.pattern, Pattern::Sequential);
    assert_eq!(found.goroutines, [2, 0, 0, 0, 0]);
    assert_eq!(found.threads, [0; 5], "no fault is told of twice");
    assert_eq!(
        (found.evidence.faults, found.evidence.next_page),
        (400, 398)
    );
    assert_eq!(found.not_followed, 0);

    let by_thread = access(&without_goroutines(swapping()));
    assert_eq!(by_thread.threads.iter().sum::<u64>(), 2);
    assert_eq!(by_thread.goroutines, [0; 5]);
    assert_ne!(by_thread.pattern, Pattern::Sequential);
    assert_eq!(by_thread.evidence.faults, 400);
    assert!(by_thread.evidence.backward > 50, "{by_thread:?}");
}

#[test]
fn what_no_goroutine_is_known_of_is_the_threads() {
    let mut faults = swapping();
    for n in 0..40 {
        // The runtime itself, on one of the threads.
        let mut own = nth(400 + n, 1, 5_000 - n, Some(1));
        own.facts.goroutine = Some(Box::default());
        faults.push(own);
        faults.push(nth(440 + n, 3, 7_000 - n, None));
    }
    faults.sort_by_key(|one| one.end_ns);
    let found = access(&faults);
    assert_eq!(found.goroutines, [2, 0, 0, 0, 0]);
    assert_eq!(found.threads, [0, 2, 0, 0, 0]);
    assert_eq!(found.evidence.faults, 480);
    assert_eq!(found.evidence.backward, 2 * 39);
}

#[test]
fn one_goroutine_for_each_request_leaves_the_order_to_the_threads() {
    let mut random = Random(23);
    let faults: Vec<_> = (0..300)
        .map(|n| {
            let page = random.below(1 << 20);
            let tid = u32::try_from(n % 2 + 1).unwrap();
            nth(n, tid, page, Some(100 + n))
        })
        .collect();
    let found = access(&faults);
    assert_eq!(found, access(&without_goroutines(faults)));
    assert_eq!(found.pattern, Pattern::Random);
    assert_eq!(found.threads, [0, 0, 2, 0, 0]);
}

#[test]
fn faults_that_were_given_up_for_signals_are_not_pages_of_their_own() {
    // Each page three times, by a goroutine of its own.
    let faults: Vec<_> = (0..300)
        .map(|n| nth(n, 1, n / 3, Some(100 + n / 3)))
        .collect();
    let found = access(&faults);
    assert_eq!(found.goroutines, [0; 5]);
    assert_eq!(found.threads, [1, 0, 0, 0, 0]);
    assert_eq!((found.evidence.steps, found.evidence.same_page), (99, 200));
}

#[test]
fn the_same_number_is_another_goroutine_in_another_process() {
    let mut faults = swapping();
    for fault in &mut faults {
        if fault.facts.goroutine.as_ref().unwrap().id == Some(19) {
            fault.facts.pid += 1;
            fault.facts.goroutine.as_mut().unwrap().id = Some(18);
        }
    }
    let all = records(faults);
    let report = analyse(walled(&all), &all);
    assert_eq!(report.parts.len(), 2);
    for part in report.parts.iter().chain([&report.all]) {
        let file = part.files.values().next().unwrap();
        let found = file.access.as_ref().unwrap();
        let several = u64::from(part.pid.is_none());
        assert_eq!(found.pattern, Pattern::Sequential);
        assert_eq!(found.goroutines, [1 + several, 0, 0, 0, 0]);
    }
}

#[test]
fn beyond_the_bound_faults_are_counted_and_goroutines_do_not_crowd_out_threads() {
    let few = Bounds {
        walks: 4,
        ..Bounds::default()
    };
    // The last ones are those that are followed: they come first.
    let mut faults: Vec<_> = (0..10)
        .flat_map(|g| (0..20).map(move |n| nth(g * 20 + n, 1, g * 1_000 + n, Some(50 + g))))
        .collect();
    for n in (0..20).rev() {
        faults.insert(0, nth(0, 9, n, None));
    }
    let found = bounded_access(&faults, few);
    // Most of the faults are not followed by goroutine, so all of them are by thread.
    assert_eq!(found.threads, [2, 0, 0, 0, 0]);
    assert_eq!((found.goroutines, found.not_followed), ([0; 5], 0));

    let enough = Bounds {
        walks: 8,
        ..Bounds::default()
    };
    let found = bounded_access(&faults, enough);
    assert_eq!(found.goroutines, [8, 0, 0, 0, 0]);
    assert_eq!(found.threads, [1, 0, 0, 0, 0]);
    assert_eq!((found.evidence.faults, found.not_followed), (180, 40));
}
