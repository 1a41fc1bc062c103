//! What differs between two traces of Go programs.

use std::sync::Arc;

use super::{analyse, during};
use crate::model::analysis::{Options, PsChange, Report, Verdict, Wall, compare};
use crate::model::summary::samples::{T0, fault, go_process, goroutine, record};
use crate::model::{Fault, GoProcess, Goroutine, Record};

const MS: u64 = 1_000_000;

/// A trace of 10 s of a Go program with so many Ps. Two goroutines fault at once, so often and for so many
/// ms, each time at the beginning of 100 ms; three times as long if there is a P left.
pub(crate) fn go_trace(procs: u32, times: u64, ms: u64) -> Report {
    go_trace_of(procs, times, ms * 1_000, true, &[])
}

/// The same in µs, with other faults in the trace.
pub(crate) fn go_trace_of(
    procs: u32,
    times: u64,
    us: u64,
    is_known: bool,
    others: &[Fault],
) -> Report {
    let mut all: Vec<Record> = others.iter().cloned().map(record).collect();
    all.extend(go_records(procs, times, us, is_known));
    let wall = Some(Wall {
        begin_ns: T0,
        end_ns: T0 + 10_000 * MS,
    });
    let options = Options {
        wall,
        ..Options::default()
    };
    analyse(options, &all)
}

fn go_records(procs: u32, times: u64, us: u64, is_known: bool) -> Vec<Record> {
    let mut all = vec![Record::Go(Arc::new(GoProcess {
        pid: fault().facts.pid,
        procs: Some(procs),
        ..go()
    }))];
    let last = if procs > 2 { 3 * us } else { us };
    for n in 0..times {
        for p in 0..2 {
            let begin = n * 100 * MS;
            let mut one = during(p + 1, begin, begin + last * 1_000);
            one.major = false;
            one.facts.given_up = true;
            one.facts.goroutine = Some(Box::new(Goroutine {
                id: Some(u64::from(p)),
                p: Some(p),
                procs: is_known.then_some(procs),
                ..goroutine()
            }));
            all.push(record(one));
        }
    }
    all
}

fn go() -> GoProcess {
    match go_process() {
        Record::Go(go) => GoProcess::clone(&go),
        other => panic!("{other:?}"),
    }
}

fn ps(before: &Report, after: &Report) -> PsChange {
    compare(before, after).ps.unwrap()
}

#[test]
fn more_or_less_time_without_a_p_is_told_from_chance() {
    let verdict = |before: &Report, after: &Report| ps(before, after).none_left.verdict;
    let (much, none) = (go_trace(2, 90, 20), go_trace(3, 90, 20));
    assert_eq!(verdict(&much, &none), Verdict::Significant);
    assert_eq!(verdict(&none, &much), Verdict::Significant);
    assert_eq!(verdict(&much, &much), Verdict::Chance);
    assert_eq!(verdict(&none, &none), Verdict::Chance);
    assert_eq!(verdict(&much, &go_trace(2, 80, 20)), Verdict::Chance);
    assert_eq!(verdict(&much, &go_trace(2, 30, 20)), Verdict::Significant);
    // A part of the trace is enough if it is often so; now and then is not, nor is once, for long.
    assert_eq!(verdict(&go_trace(2, 11, 90), &none), Verdict::Significant);
    assert_eq!(verdict(&go_trace(2, 10, 20), &none), Verdict::Chance);
    assert_eq!(verdict(&go_trace(2, 1, 4_000), &none), Verdict::Chance);
    let found = ps(&much, &none);
    assert_eq!(found.none_left.before, Some(180e6));
    assert_eq!(found.none_left.after, Some(0.0));
    assert_eq!(found.stalls.verdict, Verdict::Unknown);
}

#[test]
fn next_to_nothing_in_one_burst_is_not_worse() {
    let none = go_trace(3, 90, 20);
    let verdict = |us| {
        let burst = go_trace_of(2, 12, us, true, &[]);
        ps(&none, &burst).none_left.verdict
    };
    // Of 10 s, a thousandth and less.
    assert_eq!(verdict(1_000), Verdict::Significant);
    assert_eq!(verdict(40), Verdict::Chance);
}

#[test]
fn other_programs_in_the_trace_are_no_threads_of_go() {
    let mut other = during(9, 0, 9_000 * MS);
    other.facts.pid += 1;
    let both = go_trace_of(2, 90, 20_000, true, &[other]);
    let alone = go_trace(2, 90, 20);
    assert!(ps(&alone, &alone).only_go);
    assert!(!ps(&alone, &both).only_go && !ps(&both, &alone).only_go);
}

#[test]
fn the_time_without_a_p_is_known_by_slice() {
    // Slices are of half a second.
    let whole = [[100 * MS; 18].as_slice(), &[0; 2]].concat();
    assert_eq!(go_trace(2, 90, 20).all.no_p_left_ns.as_slice(), whole);
    let long = go_trace(2, 1, 1_200);
    let part = [[500 * MS, 500 * MS, 200 * MS].as_slice(), &[0; 17]].concat();
    assert_eq!(long.all.no_p_left_ns.as_slice(), part);
}

#[test]
fn ps_that_may_have_been_all_are_no_gain() {
    let unknown = go_trace_of(2, 90, 20_000, false, &[]);
    let found = ps(&go_trace(2, 90, 20), &unknown);
    assert_eq!(found.none_left.after, Some(0.0));
    assert_eq!(found.none_left.verdict, Verdict::Chance);
    let found = ps(&unknown, &go_trace(2, 90, 20));
    assert_eq!(found.none_left.verdict, Verdict::Chance);
}

#[test]
fn majors_are_no_measure_where_faults_are_given_up() {
    let (before, after) = (go_trace(2, 90, 20), go_trace(3, 90, 20));
    let diff = compare(&before, &after);
    assert_eq!(diff.all.given_up.before, Some(18.0));
    assert_eq!(diff.all.before.unwrap().given_up, 180);
    assert!(!diff.all.has_majors());
    let usual = super::diff::trace(1, 30, 20);
    assert!(compare(&usual, &usual).all.has_majors());
    assert!(!compare(&usual, &after).all.has_majors());
    // A few do not matter.
    let few = |every: u64| {
        let at = move |one: &mut Fault| {
            one.facts.given_up = (one.facts.begin_ns.unwrap() / (50 * MS)).is_multiple_of(every);
            one.major = !one.facts.given_up;
        };
        super::diff::trace_of(2, 30, 20, at)
    };
    assert!(compare(&usual, &few(20)).all.has_majors());
    assert!(!compare(&usual, &few(10)).all.has_majors());
}
