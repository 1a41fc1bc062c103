//! What is written, against docs/json.md.

mod devices;
pub(in crate::view) mod docs;
mod go;
mod history;
mod stalls;
mod values;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use serde::ser::Error as _;
use serde_json::Value;

use super::Json;
use crate::model::summary::{Limits, Summary, samples};
use crate::model::{
    Access, Cause, End, Fault, Frame, LossClass, MappingKind, Mode, Name, Place, Record, Stack,
    Stuck, Task, Transport, Waker,
};
use crate::view::View as _;
use docs::{DOCS, check_record, nullable};

fn nulls(record: &Value) -> BTreeSet<&str> {
    let fields = record.as_object().unwrap().iter();
    fields
        .filter(|(_, value)| value.is_null())
        .map(|(key, _)| key.as_str())
        .collect()
}

/// Every line, checked to be one object.
fn parse(out: Vec<u8>) -> Vec<Value> {
    let text = String::from_utf8(out).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines.iter().all(Value::is_object));
    lines
}

fn write(records: &[Record]) -> Vec<Value> {
    let mut out = Vec::new();
    let mut json = Json::new();
    for record in records {
        json.record(record, Instant::now(), &mut out);
    }
    parse(out)
}

fn one(record: Record) -> Value {
    let mut lines = write(&[record]);
    assert_eq!(lines.len(), 1);
    lines.remove(0)
}

fn summaries(summary: &Summary) -> Vec<Value> {
    let mut out = Vec::new();
    Json::new().finish(summary, &mut out);
    let lines = parse(out);
    lines.iter().for_each(check_record);
    lines
}

fn transport() -> Record {
    Record::Transport(Transport {
        emitted: 10,
        received: 9,
        lost: 1,
    })
}

fn fold(records: &[Record]) -> Summary {
    let mut summary = Summary::new();
    records.iter().for_each(|record| summary.add(record));
    summary
}

/// Of process `pid`, with nothing known that need not be.
fn unknown(pid: u32) -> Fault {
    let mut fault = samples::fault();
    fault.facts.pid = pid;
    fault.facts.tid = pid;
    fault.facts.begin_ns = None;
    fault.facts.began_before_attach = true;
    fault.facts.syscall = None;
    fault.facts.access = None;
    fault.facts.address = None;
    fault.facts.place = Place::default();
    fault.facts.cause = None;
    fault.facts.user_stack = None;
    fault.facts.kernel_stack = None;
    fault.longest_sleep = None;
    fault.history = None;
    fault
}

fn stuck(stuck: Stuck) -> Record {
    Record::Stuck(Arc::new(stuck))
}

fn known_stuck() -> Stuck {
    let mut known = samples::stuck();
    known.facts.goroutine = Some(Box::new(samples::goroutine()));
    known.io = samples::fault_with_io().io;
    known
}

fn all_known() -> Vec<Record> {
    vec![
        samples::start(),
        Record::Process(Arc::new(samples::process())),
        samples::record(go::in_goroutine(samples::fault_with_io())),
        stuck(known_stuck()),
        samples::lost(LossClass::Unreadable, "user_stack", 3),
        samples::process_end(),
        Record::Sample(Arc::new(samples::sample(4700, 1_000_000_000))),
        samples::cache_fill(),
        samples::read_ahead(),
        samples::go_process(),
    ]
}

#[test]
fn every_record_has_the_documented_fields() {
    let lines = write(&all_known());
    let kinds: Vec<_> = lines
        .iter()
        .map(|line| line["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "start",
            "process",
            "fault",
            "stuck",
            "lost",
            "process_end",
            "sample",
            "cache_fill",
            "read_ahead",
            "go"
        ]
    );
    for line in &lines {
        check_record(line);
    }
    assert_eq!(nulls(&lines[0]), BTreeSet::new());
    assert_eq!(nulls(&lines[2]), BTreeSet::new());
    assert_eq!(nulls(&lines[3]), BTreeSet::from(["syscall"]));
    assert_eq!(nulls(&lines[6]), BTreeSet::new());
    assert_eq!(nulls(&lines[8]), BTreeSet::new());
    assert_eq!(lines[6]["io_full_ns"], 750_000_000);
    assert_eq!(lines[6]["pressure_of"], "cgroup");
    assert_eq!(lines[0]["rungs"]["fault_begin"], "tp_btf/page_fault_user");
    assert_eq!(lines[2]["address"], "0x7f3a2c01f040");
    assert_eq!(lines[2]["user_stack_id"], "0xabcd");
    assert_eq!(lines[2]["user_stack"][0]["function"], "index::page");
    assert_eq!(lines[2]["user_stack"][0]["build_id"], "0aff00");
    assert_eq!(lines[2]["kernel_stack_truncated"], true);
    assert_eq!(lines[2]["deleted"], false);
    assert_eq!(lines[2]["time_ns"], samples::T0);
    let sleep = &lines[2]["longest_sleep"];
    assert_eq!(
        (&sleep["after_ns"], &sleep["blocked_ns"]),
        (&40_000.into(), &12_000_000.into())
    );
    assert_eq!(sleep["runqueue_ns"], 150_000);
    assert_eq!(sleep["woken_by"], "task");
    let waker = &sleep["waker"];
    assert_eq!(
        (&waker["pid"], &waker["tid"], &waker["thread"]),
        (&4800.into(), &4801.into(), &"server-io".into())
    );
    assert_eq!(waker["syscall"], "writev");
}

#[test]
fn a_waker_is_a_task_an_interrupt_or_not_known() {
    let line = |waker| {
        let mut fault = samples::fault();
        fault.longest_sleep.as_mut().unwrap().waker = waker;
        let line = one(samples::record(fault));
        check_record(&line);
        line["longest_sleep"].clone()
    };
    let interrupt = line(Some(Waker::Interrupt));
    assert_eq!(interrupt["woken_by"], "interrupt");
    assert_eq!(nulls(&interrupt), BTreeSet::from(["waker"]));
    assert_eq!(nulls(&line(None)), BTreeSet::from(["waker", "woken_by"]));
    let elsewhere = line(Some(Waker::Task(Task {
        pid: 0,
        tid: 0,
        name: Name::from("kworker/0:1"),
        syscall: None,
    })));
    assert_eq!(elsewhere["woken_by"], "task");
    let unknown = BTreeSet::from(["pid", "syscall", "tid"]);
    assert_eq!(nulls(&elsewhere["waker"]), unknown);
    assert_eq!(elsewhere["waker"]["thread"], "kworker/0:1");
}

#[test]
fn what_is_not_known_is_null() {
    let fault = one(samples::record(unknown(1)));
    check_record(&fault);
    assert_eq!(nulls(&fault), nullable("fault"));

    let report = one(stuck(Stuck {
        facts: unknown(1).facts,
        ..samples::stuck()
    }));
    check_record(&report);
    assert_eq!(nulls(&report), nullable("stuck"));

    let mut process = samples::process();
    process.exe = None;
    let process = one(Record::Process(Arc::new(process)));
    assert_eq!(nulls(&process), nullable("process"));

    let sample = one(Record::Sample(Arc::new(samples::sample_unread(1, 2))));
    check_record(&sample);
    assert_eq!(nulls(&sample), nullable("sample"));

    let frame = &one(samples::record(samples::fault()))["user_stack"][3];
    assert_eq!(frame["address"], "0xdeadbeef");
    assert_eq!(frame["inlined"], false);
    assert_eq!(nulls(frame), nullable("frame"));
}

#[test]
fn a_summary_without_anything_knows_nothing() {
    let lines = summaries(&Summary::new());
    assert_eq!(lines.len(), 1);
    assert_eq!(nulls(&lines[0]), nullable("summary"));
    assert_eq!(lines[0]["faults"], 0);
}

#[test]
fn a_single_process_is_the_total() {
    let mut records = all_known();
    records.push(samples::accounting(4700, Some(7)));
    records.push(samples::lost(LossClass::Lost, "user_stack", 4));
    records.push(transport());
    let lines = summaries(&fold(&records));
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    let none = [
        "by_cause_others",
        "by_file_others",
        "by_stack_others",
        "by_thread_others",
    ];
    assert_eq!(nulls(line), BTreeSet::from(none));
    assert_eq!(line["pid"], 4700);
    assert_eq!(line["exe"], "/usr/bin/server");
    assert_eq!(line["maj_flt_remainder"], 6);
    assert_eq!(line["duration_percentiles_ns"]["max"], 12_400_000);
    assert_eq!(line["by_file"][0]["path"], "/data/index.bin");
    assert_eq!(line["by_stack"][0]["user_stack"][0]["line"], 42);
    assert_eq!(line["by_cause"][0]["cause"], "file_read");
    assert_eq!(line["by_thread"][0]["thread"], "worker-3");
    assert_eq!(line["still_stuck"][0]["process_ended"], true);
    // The same reason in two classes: together, and apart.
    assert_eq!(line["lost"]["user_stack"], 7);
    assert_eq!(line["lost_by_class"]["lost"]["user_stack"], 4);
    assert_eq!(line["lost_by_class"]["unreadable"]["user_stack"], 3);
    assert_eq!(line["events_emitted"], 10);
    assert_eq!(line["events_lost"], 1);
}

#[test]
fn the_total_of_several_processes_comes_last() {
    let mut still = samples::stuck();
    still.facts.pid = 9;
    let records = [
        samples::record(unknown(9)),
        samples::record(samples::fault()),
        samples::accounting(9, None),
        stuck(still),
    ];
    let lines = summaries(&fold(&records));
    let pids: Vec<_> = lines.iter().map(|line| line["pid"].as_u64()).collect();
    assert_eq!(pids, [Some(9), Some(4700), None]);
    let stuck = |line: &Value| line["still_stuck"].as_array().unwrap().len();
    assert_eq!(lines.iter().map(stuck).collect::<Vec<_>>(), [1, 0, 1]);
    let total = &lines[2];
    assert_eq!(total["faults"], 2);
    assert_eq!(total["maj_flt_delta"], Value::Null);
    assert_eq!(total["by_thread"].as_array().unwrap().len(), 2);
    assert_eq!(total["still_stuck"][0]["pid"], 9);
}

#[test]
fn what_did_not_fit_is_counted() {
    let mut summary = Summary::with_limits(Limits {
        keys_per_table: 1,
        processes: 1,
        stuck: 0,
        ..Limits::default()
    });
    let mut second = samples::fault();
    second.facts.tid = 2;
    second.facts.cause = None;
    second.facts.place = Place::default();
    second.facts.user_stack = None;
    summary.add(&samples::record(samples::fault()));
    summary.add(&samples::record(second));
    summary.add(&samples::record(unknown(9)));
    summary.add(&stuck(samples::stuck()));
    let lines = summaries(&summary);
    assert_eq!(lines.len(), 2, "one process, and the total with the other");
    for table in ["by_thread", "by_file", "by_stack", "by_cause"] {
        assert_eq!(lines[0][table].as_array().unwrap().len(), 1);
        assert_eq!(lines[0][format!("{table}_others")]["faults"], 1);
        assert_eq!(lines[1][format!("{table}_others")]["faults"], 2);
    }
    assert_eq!(lines[0]["still_stuck_others"], 1);
    assert_eq!(lines[1]["faults"], 3);
}

#[test]
fn hostile_names_are_escaped() {
    let hostile = Name::from(&b"\x1b[2J\n{\"type\":\"lost\"}\xff\\\x7f\xe2\x80\xae"[..]);
    let shown = r#"\x1b[2J\n{"type":"lost"}\xff\\\x7f\u{202e}"#;
    let mut fault = samples::fault();
    fault.facts.thread = hostile.clone();
    fault.facts.syscall = Some(hostile.clone());
    fault.facts.place.path = Some(hostile.clone());
    let frame = Frame {
        function: Some(hostile.clone()),
        module: Some(hostile.clone()),
        file: Some(hostile.clone()),
        ..Frame::default()
    };
    let stack = Stack {
        frames: vec![frame],
        ..Stack::default()
    };
    fault.facts.user_stack = Some(Arc::new(stack));
    fault.longest_sleep.as_mut().unwrap().waker = Some(Waker::Task(Task {
        pid: 1,
        tid: 1,
        name: hostile.clone(),
        syscall: Some(hostile.clone()),
    }));
    let mut process = samples::process();
    process.name = hostile.clone();
    process.exe = Some(hostile);
    let records = [
        samples::record(fault),
        Record::Process(Arc::new(process)),
        samples::lost(LossClass::Lost, "a\nb", 1),
    ];
    let lines = write(&records);
    assert_eq!(lines.len(), 3);
    for key in ["thread", "syscall", "path"] {
        assert_eq!(lines[0][key], shown);
    }
    for key in ["thread", "syscall"] {
        assert_eq!(lines[0]["longest_sleep"]["waker"][key], shown);
    }
    for key in ["function", "module", "file"] {
        assert_eq!(lines[0]["user_stack"][0][key], shown);
    }
    assert_eq!(
        (&lines[1]["name"], &lines[1]["exe"]),
        (&shown.into(), &shown.into())
    );
    let line = &summaries(&fold(&records))[0];
    assert_eq!(line["name"], shown);
    assert_eq!(line["by_file"][0]["path"], shown);
    assert_eq!(line["by_thread"][0]["thread"], shown);
    assert_eq!(line["lost"][r"a\nb"], 1);
}

#[test]
fn a_cached_stack_is_the_same_text() {
    let (record, mut json) = (samples::record(samples::fault()), Json::new());
    let mut written = [Vec::new(), Vec::new(), Vec::new()];
    json.record(&record, Instant::now(), &mut written[0]);
    assert_eq!(json.stacks.len(), 2);
    json.record(&record, Instant::now(), &mut written[1]);
    assert_eq!(json.stacks.len(), 2);
    // Equal stacks that are other allocations.
    json.record(
        &samples::record(samples::fault()),
        Instant::now(),
        &mut written[2],
    );
    assert_eq!(json.stacks.len(), 4);
    assert_eq!(written[0], written[1]);
    assert_eq!(written[0], written[2]);
}

#[test]
fn the_cache_is_bounded_and_never_mixes_stacks_up() {
    let mut json = Json::new();
    let mut out = Vec::new();
    for address in 0..5_000 {
        // Dropped at once: without the cache's hold its allocation would be used again.
        let frame = Frame {
            address,
            ..Frame::default()
        };
        let mut stack = Stack::default();
        stack.frames.push(frame);
        let mut fault = unknown(1);
        fault.facts.user_stack = Some(Arc::new(stack));
        json.record(&samples::record(fault), Instant::now(), &mut out);
    }
    assert!(json.stacks.len() <= 4096);
    for (address, line) in parse(out).iter().enumerate() {
        assert_eq!(line["user_stack"][0]["address"], format!("{address:#x}"));
    }

    // Large stacks are bounded by their size.
    for _ in 0..40 {
        let mut fault = unknown(1);
        let mut frame = samples::frame("f", "", 0);
        frame.function = Some(Name::from(vec![b'f'; Name::MAX_BYTES].as_slice()));
        let stack = Stack {
            frames: vec![frame; (1 << 20) / Name::MAX_BYTES],
            ..Stack::default()
        };
        fault.facts.user_stack = Some(Arc::new(stack));
        json.record(&samples::record(fault), Instant::now(), &mut Vec::new());
    }
    assert!(json.stacks.len() < 40);
}

#[test]
fn what_cannot_be_serialized_is_counted() {
    struct Fails;
    impl serde::Serialize for Fails {
        fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq as _;
            to.serialize_seq(None)?.serialize_element("half")?;
            Err(S::Error::custom("no"))
        }
    }
    let (mut json, mut out) = (Json::new(), Vec::new());
    json.failed.line(&Fails, &mut out);
    assert!(out.is_empty());
    json.record(&samples::process_end(), Instant::now(), &mut out);
    json.finish(&Summary::new(), &mut out);
    let lines = parse(out);
    lines.iter().for_each(check_record);
    let kinds = lines.iter().map(|line| &line["type"]);
    assert!(kinds.eq(["process_end", "lost", "summary"]));
    assert_eq!(lines[1]["reason"], "not_serialized");
    assert_eq!(lines[1]["count"], 1);
    assert_eq!(lines[2]["lost"]["not_serialized"], 1);
}

#[test]
fn other_records_write_nothing_and_time_neither() {
    assert!(write(&[transport(), samples::accounting(1, Some(1))]).is_empty());
    let mut out = Vec::new();
    Json::new().tick(Instant::now(), &mut out);
    assert!(out.is_empty());
}
