//! What is told of Go programs.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::{check_record, fold, nullable, nulls, one, summaries};
use crate::model::analysis::tests::during;
use crate::model::summary::Summary;
use crate::model::summary::samples::{self, T0};
use crate::model::{Fault, Goroutine, Record};

const MS: u64 = 1_000_000;

/// The fault of a goroutine that holds a P.
pub(super) fn in_goroutine(mut fault: Fault) -> Fault {
    fault.facts.goroutine = Some(Box::new(samples::goroutine()));
    fault
}

/// A thread that held this P, ms after the start of the samples.
fn held(p: u32, begin_ms: u64, end_ms: u64) -> Record {
    let mut fault = in_goroutine(during(p, begin_ms * MS, end_ms * MS));
    if let Some(goroutine) = &mut fault.facts.goroutine {
        (goroutine.id, goroutine.p) = (Some(17 + u64::from(p)), Some(p));
    }
    samples::record(fault)
}

fn told(records: &[Record]) -> (Summary, Vec<Value>) {
    let mut summary = fold(records);
    summary.end_stalls();
    let told = summary.take_stalls();
    let told = told.into_iter().map(|record| {
        let line = one(record);
        check_record(&line);
        line
    });
    (summary, told.collect())
}

fn sample(at_ms: u64) -> Record {
    let mut one = samples::sample(samples::fault().facts.pid, at_ms * MS);
    one.settled_ns = T0 + at_ms * MS;
    Record::Sample(Arc::new(one))
}

#[test]
fn a_time_without_a_p_is_as_documented() {
    let records = [
        samples::start(),
        samples::go_process(),
        sample(50),
        held(0, 100, 400),
        held(1, 150, 420),
        sample(600),
    ];
    let (summary, told) = told(&records);
    // Both are told here, whatever the text leaves out.
    let [stall, of_threads] = &told[..] else {
        panic!("{told:#?}");
    };
    let types = (&stall["type"], &of_threads["type"]);
    assert_eq!(types, (&"p_stall".into(), &"stall".into()), "{told:#?}");
    assert_eq!(of_threads["no_p_left_ns"], of_threads["duration_ns"]);
    assert_eq!(stall["time_ns"], T0 + 150 * MS);
    assert_eq!(stall["duration_ns"], 250 * MS);
    assert_eq!(
        (&stall["stuck_ns"], &stall["over"]),
        (&stall["duration_ns"], &true.into())
    );
    // Both local queues, and what waited for any when the first of the faults ended.
    assert_eq!(
        (&stall["gomaxprocs"], &stall["queued"]),
        (&2.into(), &63.into())
    );
    assert_eq!(stall["faults"].as_array().map(Vec::len), Some(2));
    assert_eq!(stall["faults"][1]["p"], 1);
    assert_eq!(stall["faults"][0]["start"], "main.serve");
    assert_eq!(stall["files"][0]["faults"], 2);
    assert_eq!(stall["causes"]["file_read"], 2);
    assert_eq!(stall["meanwhile"]["duration_ns"], 550 * MS);
    assert_eq!(nulls(stall), BTreeSet::new());
    let lines = summaries(&summary);
    let go = &lines[0]["go"];
    assert_eq!(go["module"], "example.com/server");
    assert_eq!(
        go["ps"]["stuck_ns"],
        Value::from([70 * MS, 250 * MS].to_vec())
    );
    assert_eq!(go["ps"]["lost_ns"], 570 * MS);
    assert_eq!(go["ps"]["all_stuck_count"], 1);
    assert_eq!(go["ps"]["longest"]["queued"], 63);
}

#[test]
fn what_is_not_known_of_a_go_program_is_null() {
    let line = one(samples::unknown_go_process());
    check_record(&line);
    assert_eq!(nulls(&line), nullable("go"));
    assert_eq!(line["version"], "devel go1.99-\\x1b[31m");
    let mut fault = samples::fault();
    fault.facts.goroutine = Some(Box::new(Goroutine::default()));
    let line = one(samples::record(fault));
    check_record(&line);
    assert_eq!(line["goroutine"]["in_syscall"], false);
    assert_eq!(nulls(&line["goroutine"]).len(), 10);
    // No P that was stuck, and no Go program.
    let (summary, told) = told(&[
        samples::start(),
        samples::unknown_go_process(),
        samples::record(samples::fault()),
    ]);
    assert!(told.is_empty());
    let lines = summaries(&summary);
    assert!(lines.iter().any(|line| line["go"].is_null()));
    let unknown = lines.iter().find(|line| line["pid"] == 4701).expect("it");
    assert!(unknown["go"]["ps"].is_null());
}
