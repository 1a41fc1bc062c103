//! The fold against hand-counted totals, and its bounds.

use std::sync::Arc;

use super::samples::{accounting, fault, lost, process_end, record, start, stuck};
use super::{Limits, Summary, ThreadKey};
use crate::model::{Cause, End, Frame, LossClass, Name, Record, Stack};

fn summary(records: &[Record]) -> Summary {
    let mut summary = Summary::new();
    for record in records {
        summary.add(record);
    }
    summary
}

#[test]
fn totals_add_up_per_thread_file_stack_and_cause() {
    let mut minor = fault();
    minor.major = false;
    minor.facts.tid = 4712;
    minor.facts.thread = Name::from("worker-4");
    minor.facts.cause = Some(Cause::ReadWait);
    minor.facts.place.path = None;
    minor.facts.user_stack = None;
    minor.end = End::Approximate;
    let summary = summary(&[
        start(),
        record(fault()),
        record(fault()),
        record(minor),
        accounting(4700, Some(2)),
    ]);
    let process = summary.processes().next().unwrap();
    assert_eq!(process.info.as_ref().unwrap().name, Name::from("server"));
    assert_eq!(process.tally.faults, 3);
    assert_eq!(process.tally.majors, 2);
    assert_eq!(process.tally.blocked_ns, 3 * 12_100_000);
    assert_eq!(process.approximate, 1);
    let first = process.by_thread.ranked()[0];
    assert_eq!(first.0.tid, 4711);
    assert_eq!(first.1.tally.faults, 2);
    assert_eq!(process.by_file.len(), 2);
    assert_eq!(process.by_stack.len(), 2);
    assert_eq!(process.by_cause.len(), 2);
    assert_eq!(summary.remainder().value(), Some(0));
    let p50 = process.duration_percentile_ns(50.0).unwrap();
    assert!(p50.abs_diff(12_400_000) <= 124_000, "{p50}");
    assert_eq!(summary.total().tally, process.tally);
}

#[test]
fn the_remainder_is_signed_and_takes_filters_into_account() {
    let filtered = lost(LossClass::Filtered, super::FILTERED_MAJORS, 3);
    let more = summary(&[
        record(fault()),
        filtered.clone(),
        accounting(4700, Some(14)),
    ]);
    assert_eq!(more.remainder().value(), Some(10));
    assert!(
        more.remainder()
            .explain(0)
            .contains("majors reported: 1, filtered: 3. 10 major faults taken without")
    );
    assert!(more.remainder().explain(5).contains("lost"));

    let fewer = summary(&[record(fault()), record(fault()), accounting(4700, Some(1))]);
    assert_eq!(fewer.remainder().value(), Some(-1));
    assert!(
        fewer
            .remainder()
            .explain(0)
            .contains("majors reported: 2. 1 major fault more reported than")
    );
    let fewer = summary(&[filtered.clone(), accounting(4700, Some(2))]);
    assert!(
        fewer
            .remainder()
            .explain(0)
            .contains("filtered: 3. 1 major fault more reported and filtered than")
    );

    let unknown = summary(&[record(fault()), accounting(4700, None)]);
    assert_eq!(unknown.remainder().value(), None);
    assert!(unknown.remainder().explain(0).contains("could not be read"));

    // Two processes: the filter's share of each is unknown, that of both is not.
    let two = summary(&[
        record(fault()),
        filtered,
        accounting(4700, Some(4)),
        accounting(4800, Some(1)),
    ]);
    assert_eq!(two.remainder().value(), Some(1));
    let first = two.processes().next().unwrap();
    assert_eq!(two.remainder_of(first).value(), None);
}

#[test]
fn a_part_of_a_trace_is_not_compared_with_what_the_kernel_counted_of_all() {
    let left_out = lost(LossClass::Filtered, super::NOT_SELECTED, 8);
    let majors = lost(LossClass::Filtered, super::NOT_SELECTED_MAJORS, 6);
    let part = summary(&[record(fault()), left_out, majors, accounting(4700, Some(7))]);
    assert_eq!(part.not_selected(), 8);
    assert_eq!(
        part.lost_in(LossClass::Filtered),
        8,
        "majors are part of it"
    );
    assert_eq!(part.remainder().value(), Some(0));
    assert_eq!(
        part.remainder().explain(0),
        "maj_flt of the kernel: +7 in the whole trace, majors shown: 1, not asked for: 6."
    );
}

#[test]
fn one_unread_maj_flt_makes_the_sum_unknown() {
    let two = summary(&[accounting(1, Some(4)), accounting(2, None)]);
    assert_eq!(two.remainder().value(), None);
    assert_eq!(two.total().maj_flt_delta, None);
    let two = summary(&[accounting(1, Some(4)), accounting(2, Some(5))]);
    assert_eq!(two.total().maj_flt_delta, Some(9));
}

#[test]
fn stuck_threads_stay_until_their_fault_ends() {
    let mut other = stuck();
    other.facts.tid = 9;
    other.elapsed_ns += 1;
    let report = |stuck| Record::Stuck(Arc::new(stuck));
    let mut summary = summary(&[report(stuck()), report(other)]);
    let all = summary.still_stuck();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].stuck.facts.tid, 9, "longest first");
    summary.add(&record(fault()));
    let left = summary.still_stuck();
    assert_eq!(left.len(), 1);
    assert!(!left[0].process_ended);
    summary.add(&process_end());
    assert!(summary.still_stuck()[0].process_ended);
}

#[test]
fn memory_is_bounded_and_what_exceeds_it_is_counted() {
    let mut summary = Summary::with_limits(Limits {
        keys_per_table: 10,
        keys_in_all: 32,
        stack_bytes: 1 << 20,
        processes: 2,
        stuck: 3,
    });
    for n in 0..200_u32 {
        let mut one = fault();
        one.facts.tid = n;
        one.facts.pid = n % 4;
        one.facts.place.path = Some(Name::from(format!("/f{n}").as_str()));
        one.facts.user_stack = Some(Arc::new(Stack {
            id: u64::from(n),
            ..Stack::default()
        }));
        summary.add(&record(one));
        let mut one = stuck();
        one.facts.tid = 1000 + n;
        summary.add(&Record::Stuck(Arc::new(one)));
        summary.add(&Record::Lost(crate::model::Lost {
            class: LossClass::Lost,
            reason: format!("reason_{}", n * 2).into(),
            count: 1,
        }));
    }
    assert_eq!(summary.processes().len(), 2);
    assert_eq!(summary.other_processes().unwrap().tally.faults, 100);
    let mut keys = 0;
    for process in summary.processes().chain(summary.other_processes()) {
        assert!(process.by_thread.len() <= 10);
        keys += process.by_thread.len()
            + process.by_file.len()
            + process.by_stack.len()
            + process.by_cause.len();
        let own: u64 = process
            .by_file
            .ranked()
            .iter()
            .map(|(_, entry)| entry.tally.faults)
            .sum();
        assert_eq!(
            own + process.by_file.others().faults,
            process.tally.faults,
            "nothing vanishes"
        );
    }
    assert!(keys <= 32, "{keys}");
    assert_eq!(summary.total().tally.faults, 200);
    assert_eq!(summary.still_stuck().len(), 3);
    assert_eq!(summary.stuck_beyond_limit(), 197);
    assert_eq!(summary.lost_in(LossClass::Lost), 200);
    assert!(summary.lost().count() <= 257);
}

#[test]
fn threads_of_different_processes_stay_apart_in_the_total() {
    let mut other = fault();
    other.facts.pid = 1;
    other.facts.tid = 4711;
    let total = summary(&[record(fault()), record(other)]).total();
    let keys: Vec<_> = total
        .by_thread
        .ranked()
        .iter()
        .map(|(key, _)| **key)
        .collect();
    assert_eq!(
        keys,
        [
            ThreadKey { pid: 1, tid: 4711 },
            ThreadKey {
                pid: 4700,
                tid: 4711
            }
        ]
    );
}

/// A fault of this process by a stack with one frame of this name.
fn of_stack(pid: u32, id: u64, function: &str) -> Record {
    let mut one = fault();
    one.facts.pid = pid;
    let frame = Frame {
        function: Some(Name::from(function)),
        ..Frame::default()
    };
    one.facts.user_stack = Some(Arc::new(Stack {
        id,
        frames: vec![frame],
        truncated: false,
    }));
    record(one)
}

#[test]
fn equal_stacks_of_several_processes_are_kept_once() {
    let forked = [1, 2].map(|pid| of_stack(pid, 7, "f"));
    let other_code = of_stack(3, 7, "g");
    let summary = summary(&[&forked[..], &[other_code]].concat());
    let stacks: Vec<_> = summary
        .processes()
        .map(|process| {
            let (_, entry) = process.by_stack.ranked()[0];
            entry.detail.clone().expect("a stack")
        })
        .collect();
    assert!(Arc::ptr_eq(&stacks[0], &stacks[1]));
    assert!(!Arc::ptr_eq(&stacks[0], &stacks[2]));
    assert_eq!(
        stacks[2].frames[0].function.as_ref().map(Name::as_bytes),
        Some(&b"g"[..])
    );
}

#[test]
fn stacks_beyond_their_room_are_counted_together() {
    let mut summary = Summary::with_limits(Limits {
        stack_bytes: 64 << 10,
        ..Limits::default()
    });
    for n in 0..1000 {
        summary.add(&of_stack(1, n, &"x".repeat(1000)));
    }
    let process = summary.processes().next().expect("one");
    let kept = process.by_stack.len();
    assert!((1..64).contains(&kept), "{kept}");
    assert_eq!(process.by_stack.others().faults, 1000 - kept as u64);
}
