//! Stalls and what stands beside them.

use std::sync::Arc;

use serde_json::Value;

use super::{check_record, fold, nullable, nulls, one, summaries};
use crate::model::analysis::tests::during;
use crate::model::summary::{Summary, samples};
use crate::model::{Record, Sample};

const MS: u64 = 1_000_000;

fn sample(sample: Sample) -> Record {
    Record::Sample(Arc::new(sample))
}

/// Two threads in faults, with a sample before and one after.
fn stalled(sampled: fn(u32, u64) -> Sample) -> Vec<Record> {
    vec![
        samples::start(),
        sample(sampled(4700, 50 * MS)),
        samples::record(during(1, 100 * MS, 400 * MS)),
        samples::record(during(2, 150 * MS, 350 * MS)),
        sample(sampled(4700, 600 * MS)),
    ]
}

fn told(records: &[Record]) -> (Summary, Vec<Record>) {
    let mut summary = fold(records);
    summary.end_stalls();
    let stalls = summary.take_stalls();
    (summary, stalls)
}

fn line(stall: &Record) -> Value {
    let line = one(stall.clone());
    check_record(&line);
    line
}

#[test]
fn a_stall_is_as_documented() {
    let (summary, stalls) = told(&stalled(samples::sample));
    let found = line(&stalls[0]);
    assert_eq!(
        (&found["time_ns"], &found["duration_ns"]),
        (&(samples::T0 + 150 * MS).into(), &(200 * MS).into())
    );
    assert_eq!(found["files"][0]["path"], "/data/index.bin");
    assert_eq!(found["causes"]["file_read"], 2);
    assert_eq!(found["over"], true);
    let beside = &found["meanwhile"];
    assert_eq!(
        (&beside["duration_ns"], &beside["iowait_ns"]),
        (&(550 * MS).into(), &(495 * MS).into())
    );
    // No sample was taken in it.
    assert_eq!(nulls(beside), ["runnable_share"].into());
    let lines = summaries(&summary);
    let stalls = &lines[0]["stalls"];
    assert_eq!(
        (&stalls["count"], &stalls["threads_needed"]),
        (&1.into(), &2.into())
    );
    assert_eq!(stalls["longest"][0]["time_ns"], found["time_ns"]);
}

#[test]
fn what_is_not_known_of_a_stall_is_null() {
    let (_, stalls) = told(&stalled(samples::sample_unread));
    assert_eq!(nulls(&line(&stalls[0])), nullable("stall"));
    let odd = |pid, at: u64| Sample {
        // Read, and nothing to compare.
        system: crate::model::SystemCounters {
            iowait_ns: Some(u64::MAX - at),
            run_queue: None,
        },
        ..samples::sample_unread(pid, at)
    };
    let (_, stalls) = told(&stalled(odd));
    assert_eq!(nulls(&line(&stalls[0])["meanwhile"]), nullable("meanwhile"));
    let lines = summaries(&fold(&stalled(samples::sample)[..1]));
    assert!(lines[0]["stalls"].is_null());
}
