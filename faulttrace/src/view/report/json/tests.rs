//! What is written, against docs/report-json.md.

use serde_json::Value;

use super::write_json;
use crate::model::Record;
use crate::model::analysis::tests::{analyse, records};
use crate::model::analysis::{Options, Report};
use crate::model::summary::samples;
use crate::view::json::tests::docs::{
    Fields, check, check_pasts, check_record, documented, documented_in, joined,
};
use crate::view::report::samples::{by_goroutines, eventful, hostile, several};

/// The schema as users read it.
const DOCS: &str = include_str!("../../../../../docs/report-json.md");

pub(in crate::view::report) fn fields(section: &str) -> Fields {
    documented_in(DOCS, section)
}

/// The object, checked to be as documented in every part.
fn written(report: &Report) -> Value {
    let mut out = Vec::new();
    write_json(report, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with('\n'));
    assert!(text.trim_end().chars().all(|c| !c.is_control()), "{text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    check(&value, &fields("report"));
    if !value["start"].is_null() {
        check_record(&value["start"]);
    }
    for still in list(&value["still_stuck"]) {
        check(still, &documented("still_stuck"));
    }
    for device in value["devices"].as_array().into_iter().flatten() {
        check(device, &documented("device"));
    }
    check(&value["quality"], &fields("quality"));
    maybe(&value["cache_fills"], "cache_fills");
    maybe(&value["read_ahead"], "read_ahead");
    for file in value["read_ahead"]["files"]
        .as_array()
        .into_iter()
        .flatten()
    {
        check(file, &documented("read_ahead_file"));
    }
    check_advice(&value["advice"]);
    maybe(&value["processes_others"], "totals");
    check_section(&value["total"]);
    list(&value["processes"]).iter().for_each(check_section);
    value
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn maybe(value: &Value, section: &str) {
    if !value.is_null() {
        check(value, &fields(section));
    }
}

/// As documented in every part, if there is some.
pub(in crate::view::report) fn check_advice(advice: &Value) {
    maybe(advice, "given_advice");
    for piece in advice["given"].as_array().into_iter().flatten() {
        check(piece, &fields("piece"));
        for action in list(&piece["actions"]) {
            check(action, &fields("action"));
        }
        let holders = &piece["lock_holders"];
        maybe(holders, "lock_holders");
        maybe(&holders["others"], "lock_waits");
        maybe(&holders["unknown"], "lock_waits");
        for holder in holders["rows"].as_array().into_iter().flatten() {
            check(holder, &fields("lock_holder"));
        }
    }
}

fn check_section(section: &Value) {
    check_pasts(&section["pasts"]);
    check(section, &fields("section"));
    check(&section["at_once"], &fields("at_once"));
    maybe(&section["duration_percentiles_ns"], "percentiles");
    let stalls = &section["stalls"];
    maybe(stalls, "stalls");
    for stall in stalls["longest"].as_array().into_iter().flatten() {
        check(stall, &fields("stall"));
        if !stall["meanwhile"].is_null() {
            check(&stall["meanwhile"], &documented("meanwhile"));
        }
        for member in list(&stall["members"]) {
            check(member, &fields("member"));
        }
    }
    for (table, measured) in [
        ("by_cause", true),
        ("by_thread", true),
        ("by_file", true),
        ("by_stack", false),
    ] {
        check(&section[table], &fields("table"));
        maybe(&section[table]["more"], "totals");
        maybe(&section[table]["others"], "totals");
        let mut row = joined(joined(fields(table), fields("totals")), fields("row"));
        if measured {
            row = joined(row, fields("measured"));
        }
        for one in list(&section[table]["rows"]) {
            check(one, &row);
            maybe(&one["duration_percentiles_ns"], "percentiles");
        }
    }
    list(&section["by_file"]["rows"])
        .iter()
        .for_each(check_file);
}

fn check_file(row: &Value) {
    maybe(&row["offsets"], "offsets");
    for range in row["offsets"]["hot"].as_array().into_iter().flatten() {
        check(range, &fields("range"));
    }
    maybe(&row["access"], "access");
    if !row["access"].is_null() {
        check(&row["access"]["threads"], &fields("threads"));
        check(&row["access"]["goroutines"], &fields("threads"));
    }
}

#[test]
fn every_part_has_the_documented_fields() {
    let report = written(&eventful());
    assert_eq!(report["type"], "report");
    assert_eq!(report["start"]["type"], "start");
    assert_eq!(report["filters"], "only those of 1 ms and more");
    assert_eq!(report["wall_ns"], 1_000_000_000);
    let total = &report["total"];
    assert_eq!(total["pid"], 4700);
    assert_eq!(total["name"], "server");
    assert_eq!(total["faults"], 84);
    assert_eq!(total["at_once"]["one_share"], 0.684);
    assert_eq!(total["stalls"]["count"], 20);
    assert_eq!(list(&total["stalls"]["longest"]).len(), 3);
    assert_eq!(total["by_thread"]["more_rows"], 2);
    assert_eq!(total["by_thread"]["more"]["faults"], 24);
    let file = &total["by_file"]["rows"][0];
    assert_eq!(file["access"]["pattern"], "mixed");
    assert_eq!(file["access"]["threads"]["sequential"], 1);
    assert_eq!(file["access"]["stride"], Value::Null);
    assert!(list(&report["processes"]).is_empty());
    assert_eq!(report["lost"]["ring_full"], 3);
}

#[test]
fn ways_of_goroutines_are_told_apart_from_those_of_threads() {
    let report = analyse(Options::default(), &records(by_goroutines(2, 20)));
    let report = written(&report);
    let access = &report["total"]["by_file"]["rows"][0]["access"];
    assert_eq!(access["pattern"], "sequential");
    assert_eq!(access["threads"]["sequential"], 0);
    assert_eq!(access["goroutines"]["sequential"], 2);
    assert_eq!(access["not_followed"], 0);
}

#[test]
fn several_processes_have_a_section_each() {
    let report = written(&several());
    assert_eq!(report["total"]["pid"], Value::Null);
    assert_eq!(report["total"]["stalls"], Value::Null);
    let processes = list(&report["processes"]);
    assert_eq!(processes.len(), 2);
    assert_eq!(processes[1]["pid"], 4800);
    assert_eq!(processes[1]["stalls"]["threads_needed"], 2);
    let sum = processes
        .iter()
        .map(|one| one["blocked_ns"].as_u64().unwrap());
    assert_eq!(report["total"]["blocked_ns"], sum.sum::<u64>());
}

#[test]
fn what_is_not_known_is_null() {
    let report = written(&analyse(Options::default(), &[]));
    for key in [
        "start",
        "filters",
        "begin_ns",
        "end_ns",
        "wall_ns",
        "stall_threads",
    ] {
        assert_eq!(report[key], Value::Null, "{key}");
    }
    let total = &report["total"];
    assert_eq!(total["duration_percentiles_ns"], Value::Null);
    assert_eq!(total["at_once"]["one_share"], Value::Null);
    assert_eq!(total["maj_flt_delta"], Value::Null);

    let mut one = eventful();
    one.all.threads.clear();
    one.all.files.clear();
    let one = written(&one);
    let row = &one["total"]["by_thread"]["rows"][0];
    assert_eq!(row["duration_percentiles_ns"], Value::Null);
    let row = &one["total"]["by_file"]["rows"][0];
    assert_eq!(row["offsets"], Value::Null);
}

#[test]
fn hostile_names_are_escaped_and_hostile_numbers_written() {
    let report = written(&hostile());
    assert_eq!(report["total"]["duration_ns"], u64::MAX);
    let path = &report["total"]["by_file"]["rows"][0]["path"];
    assert_eq!(path, r"\x1b[2J\r\n14:03:07.123 \xff\u{202e}");
}

#[test]
fn devices_are_told_where_reads_were_followed() {
    let options = Options::default();
    let without = analyse(
        options.clone(),
        &[samples::start(), samples::record(samples::fault())],
    );
    assert!(written(&without)["devices"].is_null());
    // Asked for, and no device was seen to get any: that is none, and what was not seen is counted.
    let mut start = samples::start();
    if let Record::Start(start) = &mut start {
        let rungs = &mut std::sync::Arc::make_mut(start).rungs;
        rungs.push(("io_queued".to_owned(), "tp_btf".to_owned()));
    }
    let unseen = analyse(options.clone(), &[start, samples::record(samples::fault())]);
    let unseen = written(&unseen);
    assert!(list(&unseen["devices"]).is_empty());
    assert_eq!(unseen["devices_unseen"]["faults"], 1);
    let mut unknown = samples::fault_with_io();
    if let Some(io) = &mut unknown.io {
        io.device = None;
    }
    let records = [
        samples::start(),
        samples::record(samples::fault_with_io()),
        samples::record(samples::fault()),
        samples::record(unknown),
    ];
    let report = written(&analyse(options, &records));
    let devices = list(&report["devices"]);
    assert_eq!(devices.len(), 2);
    assert_eq!(devices[0]["device"], "259:1");
    assert_eq!(devices[0]["device_name"], "nvme0n1");
    assert_eq!(devices[0]["verdict"], "slow");
    assert_eq!(
        (&devices[0]["faults"], &devices[0]["requests"]),
        (&1.into(), &3.into())
    );
    assert!(devices[1]["device"].is_null());
    assert_eq!(devices[1]["faults"], 1);
}
