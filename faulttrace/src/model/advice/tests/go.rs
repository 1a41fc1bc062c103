//! Go programs without a P, beside others.

use super::*;
use crate::model::Goroutine;
use crate::model::advice::About;
use crate::model::summary::samples::{fault, goroutine};

/// Both Ps of a Go program stuck for 10 ms, at the beginning of each 100 ms: so often.
fn without_p(times: u64) -> Vec<Fault> {
    let both = (0..times).flat_map(|n| {
        [0, 1].map(|p| {
            let begin = n * 100 * MS;
            let mut one = during(p + 1, begin, begin + 10 * MS);
            one.facts.goroutine = Some(Box::new(Goroutine {
                id: Some(u64::from(p)),
                p: Some(p),
                ..goroutine()
            }));
            one.facts.cause = None;
            one.history = None;
            one
        })
    });
    both.collect()
}

/// Fifty threads of another program that wait for a slow server for a second, and the last ends after 10 s.
fn others() -> Vec<Fault> {
    let all = (0..50_u32).map(|n| {
        let end = (1 + u64::from(n % 10)) * 1_000 * MS;
        let mut one = during(100 + n, end - 1_000 * MS, end);
        one.facts.pid += 1;
        one.facts.cause = Some(Cause::Fuse);
        one.history = None;
        on(one, "/slow", MappingKind::File)
    });
    all.collect()
}

#[test]
fn a_program_that_can_do_nothing_comes_before_what_gains_more() {
    // The trace is as long again as its faults: 20 s.
    let all = advised([without_p(20), others()].concat());
    let [first, second, ..] = &all.given[..] else {
        panic!("{all:#?}");
    };
    assert_eq!((first.rule, second.rule), (Rule::PsStuck, Rule::FuseServer));
    assert_eq!(first.about, About::Process(fault().facts.pid));
    assert!(first.gain.at_most_ns < Some(all.least_ns));
    assert!(second.gain.at_most_ns > Some(all.least_ns));
    assert!(!second.overlaps.contains(&0), "of another program");

    // Less than 1 %, and so little of what was blocked in all that it is not worth a line.
    let all = advised([without_p(19), others()].concat());
    assert_eq!(rules(&all)[0], Rule::FuseServer, "{all:#?}");
    assert!(!rules(&all).contains(&Rule::PsStuck), "{all:#?}");

    // Few faults are no evidence, however long they take.
    let all = advised([without_p(7), others()].concat());
    assert!(!rules(&all).contains(&Rule::PsStuck), "{all:#?}");
}

#[test]
fn with_less_time_without_a_p_the_order_is_by_time_of_threads() {
    // The same threads blocked for 19 and for 40 times 10 ms.
    let also = (0..40).map(|n| {
        let mut one = during(7, n * 100 * MS + 50 * MS, n * 100 * MS + 60 * MS);
        one.facts.pid += 1;
        one.facts.cause = Some(Cause::Fuse);
        one.history = None;
        on(one, "/slow", MappingKind::File)
    });
    let also: Vec<_> = also.collect();
    let mut last = during(9, 9_999 * MS, 10_000 * MS);
    last.facts.pid += 1;
    let order = |times| {
        let all = advised([without_p(times), also.clone(), vec![last.clone()]].concat());
        let both = |rule: &Rule| matches!(rule, Rule::PsStuck | Rule::FuseServer);
        rules(&all).into_iter().filter(both).collect::<Vec<_>>()
    };
    assert_eq!(order(19), [Rule::FuseServer, Rule::PsStuck]);
    assert_eq!(order(20), [Rule::PsStuck, Rule::FuseServer]);
}
