//! Pages that come again, against a list of all of them.

use std::collections::HashMap;

use crate::model::Measure;
use crate::model::advice::pages::{Again, Pages};
use crate::model::analysis::tests::Random;

fn measure(begin_ns: u64, duration_ns: u64) -> Measure {
    Measure {
        end_ns: begin_ns + duration_ns,
        duration_ns,
        blocked_ns: duration_ns,
        runqueue_ns: 0,
        switches: 1,
        address: None,
        offset: None,
        longest_sleep: None,
        history: None,
        io: None,
        goroutine: None,
    }
}

/// Random faults one after the other: (space, page, started).
fn faults(count: u64, pages: u64) -> Vec<(u32, u64, bool)> {
    let mut random = Random(41);
    (0..count)
        .map(|_| {
            let space = u32::try_from(random.below(3)).unwrap();
            (space, random.below(pages), random.below(2) == 0)
        })
        .collect()
}

fn fed(limit: usize, faults: &[(u32, u64, bool)]) -> Pages {
    let mut pages = Pages::new(limit);
    let mut n = u64::try_from(faults.len()).unwrap();
    for (space, page, started) in faults.iter().rev() {
        n -= 1;
        pages.fault(*space, *page, *started, &measure(n * 100, 10 + n % 7));
    }
    pages
}

#[test]
fn they_are_those_that_were_there_before() {
    let faults = faults(5_000, 400);
    let mut known: HashMap<(u32, u64), u64> = HashMap::new();
    let mut all: HashMap<u32, Again> = HashMap::new();
    for ((space, page, started), n) in faults.iter().zip(0_u64..) {
        let sum = all.entry(*space).or_default();
        let times = known.entry((*space, *page)).or_default();
        *times += 1;
        sum.pages += u64::from(*times == 1);
        sum.again_pages += u64::from(*times == 2);
        if *times > 1 {
            sum.faults += 1;
            sum.started += u64::from(*started);
            sum.blocked_ns += 10 + n % 7;
        }
    }
    let pages = fed(10_000, &faults);
    assert_eq!(pages.one_in(), 1);
    assert_eq!(pages.spaces(), all);
}

#[test]
fn with_too_many_a_part_tells_of_the_whole() {
    let faults = faults(200_000, 30_000);
    let all = fed(100_000, &faults).spaces();
    let some = fed(4_000, &faults);
    assert!(some.one_in() > 8, "{}", some.one_in());
    for (space, estimate) in some.spaces() {
        let truth = all[&space];
        for (estimate, truth) in [
            (estimate.pages, truth.pages),
            (estimate.again_pages, truth.again_pages),
            (estimate.faults, truth.faults),
            (estimate.started, truth.started),
            (estimate.blocked_ns, truth.blocked_ns),
        ] {
            let off = estimate.abs_diff(truth) * 100 / truth;
            assert!(off < 20, "{estimate} for {truth}");
        }
    }
}

#[test]
fn faults_at_the_same_time_are_one() {
    let mut pages = Pages::new(10);
    // From the last to the first: two at once, two at once, one before.
    for (begin, duration) in [(105, 10), (100, 10), (55, 5), (50, 20), (10, 10)] {
        pages.fault(0, 7, begin == 100, &measure(begin, duration));
    }
    let again = pages.spaces()[&0];
    assert_eq!((again.pages, again.again_pages), (1, 1));
    assert_eq!((again.faults, again.started), (2, 1));
    assert_eq!(again.blocked_ns, 20 + 25);
}

#[test]
fn hostile_numbers_are_bounded() {
    let mut pages = Pages::new(4);
    let mut random = Random(3);
    for _ in 0..10_000 {
        let mut one = measure(0, 0);
        one.end_ns = random.next();
        one.duration_ns = random.next();
        one.blocked_ns = u64::MAX;
        pages.fault(0, random.next(), true, &one);
    }
    let again = pages.spaces();
    assert!(again.len() <= 1 && pages.one_in() > 1_000);
}
