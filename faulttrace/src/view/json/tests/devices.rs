//! What devices did, in sum.

use super::*;
use crate::model::Start;

/// A trace with `--io`, or without.
fn begun(io: bool) -> Record {
    let Record::Start(start) = samples::start() else {
        panic!("no start")
    };
    let rung = if io { "tracepoint" } else { "none" };
    let mut start = Start::clone(&start);
    start.rungs.push(("io_queued".to_owned(), rung.to_owned()));
    Record::Start(start.into())
}

#[test]
fn devices_are_summed_up_for_each_process_and_for_all() {
    let mut other = samples::fault_with_io();
    other.facts.pid = 9;
    let mut unknown = other.clone();
    if let Some(io) = &mut unknown.io {
        io.device = None;
    }
    let records = [
        begun(true),
        samples::record(samples::fault_with_io()),
        samples::record(other),
        samples::record(unknown),
    ];
    let lines = summaries(&fold(&records));
    lines.iter().for_each(check_record);
    let faults = |line: &Value| {
        let devices = line["devices"].as_array().unwrap().iter();
        let fault = |one: &Value| (one["device"].as_str().is_some(), one["faults"].as_u64());
        devices.map(fault).collect::<Vec<_>>()
    };
    let found: Vec<_> = lines.iter().map(faults).collect();
    let known = |count| (true, Some(count));
    let unknown = (false, Some(1));
    assert_eq!(
        found,
        [
            vec![known(1), unknown],
            vec![known(1)],
            vec![known(2), unknown]
        ]
    );
}

#[test]
fn none_is_not_the_same_as_not_asked() {
    let of = |io| summaries(&fold(&[begun(io), samples::record(samples::fault())]));
    assert_eq!(of(true)[0]["devices"], Value::Array(Vec::new()));
    assert!(of(false)[0]["devices"].is_null());
}
