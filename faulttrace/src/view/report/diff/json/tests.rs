//! What is written, against docs/report-json.md.

use serde_json::Value;

use crate::model::analysis::tests::analyse;
use crate::model::analysis::tests::diff::{trace, trace_of};
use crate::model::analysis::tests::diff_ahead::ahead;
use crate::model::analysis::tests::diff_beside::{
    BOTH, after, faults, one_by_one, reads, recorded,
};
use crate::model::analysis::tests::diff_ps::go_trace;
use crate::model::analysis::{Fate, Options, Report, compare};
use crate::model::{Cause, How, Name};
use crate::view::json::tests::docs::{check, check_record, joined};
use crate::view::report::diff::{Compared, write_diff_json};
use crate::view::report::json::tests::fields;
use crate::view::report::samples::hostile;

/// The object, checked to be as documented in every part.
fn written(before: &Report, after: &Report) -> Value {
    let diff = compare(before, after);
    let mut out = Vec::new();
    let compared = Compared {
        before_name: b"a\n.faulttrace",
        before,
        after_name: b"b.faulttrace",
        after,
        diff: &diff,
        top: 2,
    };
    write_diff_json(&compared, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with('\n'));
    assert!(text.trim_end().chars().all(|c| !c.is_control()), "{text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    check(&value, &fields("diff"));
    for side in ["before", "after"] {
        check(&value[side], &fields("side"));
        if !value[side]["start"].is_null() {
            check_record(&value[side]["start"]);
        }
    }
    check(&value["total"], &fields("rates"));
    check_rates(&value["total"]);
    if !value["go_ps"].is_null() {
        check(&value["go_ps"], &fields("go_ps"));
        for (_, change) in value["go_ps"].as_object().unwrap() {
            check(change, &fields("change"));
        }
    }
    check_beside(&value);
    for (table, key) in [
        ("by_cause", "cause_key"),
        ("by_file", "file_key"),
        ("by_stack", "stack_key"),
        ("by_thread", "thread_key"),
    ] {
        check(&value[table], &fields("diff_table"));
        for row in value[table]["rows"].as_array().unwrap() {
            check(row, &joined(fields(key), fields("rates")));
            check_rates(row);
            for frame in row["frames"].as_array().into_iter().flatten() {
                check(frame, &fields("frame_key"));
            }
        }
        for others in ["others_before", "others_after"] {
            if !value[table][others].is_null() {
                check(&value[table][others], &fields("totals"));
            }
        }
    }
    value
}

fn check_beside(value: &Value) {
    let maybe = |value: &Value, section: &str| {
        if !value.is_null() {
            check(value, &fields(section));
        }
    };
    maybe(&value["pasts"], "diff_pasts");
    for row in value["pasts"]["rows"].as_array().into_iter().flatten() {
        check(row, &joined(fields("past_key"), fields("waited_change")));
        check_waited(row);
    }
    let ahead = &value["read_ahead"];
    maybe(ahead, "diff_read_ahead");
    for others in ["others_before", "others_after"] {
        maybe(&ahead[others], "ahead_pages");
    }
    for row in ahead["rows"].as_array().into_iter().flatten() {
        check(row, &fields("ahead_change"));
        maybe(&row["before"], "ahead_pages");
        maybe(&row["after"], "ahead_pages");
        for key in ["read_pages_per_s", "used_at_most"] {
            check(&row[key], &fields("change"));
        }
    }
    let devices = &value["devices"];
    maybe(devices, "diff_devices");
    for row in devices["rows"].as_array().into_iter().flatten() {
        check(row, &fields("device_change"));
        maybe(&row["before"], "device_side");
        maybe(&row["after"], "device_side");
        for key in [
            "requests_per_s",
            "mean_queued_ns",
            "mean_served_ns",
            "mean_held_ns",
        ] {
            check(&row[key], &fields("change"));
        }
    }
    maybe(&devices["unseen"], "waited_change");
    if !devices["unseen"].is_null() {
        check_waited(&devices["unseen"]);
    }
}

fn check_waited(row: &Value) {
    for key in ["before", "after"] {
        check(&row[key], &fields("waited"));
    }
    for key in ["faults_per_s", "blocked_ns_per_s"] {
        check(&row[key], &fields("change"));
    }
}

fn check_rates(rates: &Value) {
    for side in ["before", "after"] {
        if !rates[side].is_null() {
            check(&rates[side], &fields("totals"));
        }
    }
    let object = rates.as_object().unwrap();
    for (_, change) in object.iter().filter(|(key, _)| key.ends_with("_per_s")) {
        check(change, &fields("change"));
    }
    for key in ["p50_ns", "p90_ns", "p99_ns", "max_ns"] {
        check(&rates[key], &fields("change"));
    }
}

#[test]
fn every_part_has_the_documented_fields() {
    let value = written(&trace(1, 30, 20), &trace(2, 30, 60));
    assert_eq!(value["type"], "diff");
    assert_eq!(value["slices"], 20);
    assert_eq!(value["before"]["file"], r"a\n.faulttrace");
    assert_eq!(value["before"]["wall_ns"], 30_000_000_000_u64);
    assert_eq!(value["total"]["faults_per_s"]["before"], 20.0);
    assert_eq!(value["total"]["faults_per_s"]["verdict"], "chance");
    assert_eq!(value["total"]["blocked_ns_per_s"]["verdict"], "significant");
    assert_eq!(value["total"]["max_ns"]["verdict"], "unknown");
    assert_eq!(value["by_thread"]["rows"].as_array().unwrap().len(), 2);
    assert_eq!(value["by_thread"]["more_rows"], 1);
    let frames = &value["by_stack"]["rows"][0]["frames"];
    assert_eq!(frames[0]["function"], "index::page");
    assert_eq!(frames[2]["module_offset"], 0x1234);
    assert_eq!(frames[3]["module"], Value::Null);
}

#[test]
fn the_time_without_a_p_has_a_verdict() {
    let value = written(&go_trace(2, 90, 20), &go_trace(3, 90, 20));
    let none_left = &value["go_ps"]["none_left_ns_per_s"];
    assert_eq!(none_left["verdict"], "significant");
    assert_eq!(
        (&none_left["before"], &none_left["after"]),
        (&180e6.into(), &0.0.into())
    );
    assert_eq!(value["go_ps"]["lost_ns_per_s"]["verdict"], "unknown");
    assert_eq!(value["total"]["given_up_per_s"]["before"], 18.0);
    assert_eq!(value["total"]["before"]["given_up"], 180);
}

#[test]
fn nothing_is_not_unknown() {
    let other = trace_of(2, 30, 20, |one| {
        one.facts.cause = Some(Cause::Fuse);
        one.facts.thread = Name::from("new");
    });
    let value = written(&trace(1, 30, 20), &other);
    let row = &value["by_cause"]["rows"][0];
    let (there, gone) = match row["cause"].as_str() {
        Some("fuse") => ("after", "before"),
        _ => ("before", "after"),
    };
    assert_eq!(row[there]["faults"], 600);
    assert_eq!(row[gone]["faults"], 0);
    assert_eq!(row["faults_per_s"][gone], 0.0);
    assert_eq!(row["p50_ns"][gone], Value::Null);
    let nothing = analyse(Options::default(), &[]);
    let value = written(&nothing, &nothing);
    assert_eq!(value["total"]["faults_per_s"]["before"], Value::Null);
    assert_eq!(value["total"]["faults_per_s"]["verdict"], "too_little");
}

#[test]
fn hostile_traces_are_written() {
    let value = written(&hostile(), &hostile());
    let thread = &value["by_thread"]["rows"][0]["thread"];
    assert_eq!(thread, r"\x1b[2J\r\n14:03:07.123 \xff\u{202e}");
}

#[test]
fn what_both_recorded_besides_is_compared() {
    let kswapd = Fate::Removed(How::Kswapd);
    let before = one_by_one([after(5, Fate::FirstTouch), reads(5, 0, Some("sda"), (1, 1))]);
    let later = one_by_one([
        after(5, kswapd),
        reads(5, 0, Some("sda"), (8, 2)),
        reads(5, 1, Some("sdb"), (1, 1)),
        reads(5, 2, Some("sdc"), (0, 1)),
    ]);
    let (before, later) = (recorded(BOTH, 5, before), recorded(BOTH, 5, later));
    let value = written(&before, &later);
    let pasts = &value["pasts"];
    assert_eq!(
        (&pasts["recorded_before"], &pasts["recorded_after"]),
        (&true.into(), &true.into())
    );
    let rows = pasts["rows"].as_array().unwrap();
    let evicted = rows.iter().find(|row| row["how"] == "kswapd").unwrap();
    assert_eq!(
        (&evicted["past"], &evicted["after"]["faults"]),
        (&"refault".into(), &5.into())
    );
    assert_eq!(evicted["before"]["faults"], 0);
    let first = rows
        .iter()
        .find(|row| row["past"] == "first_touch")
        .unwrap();
    assert!(first["how"].is_null());
    let devices = &value["devices"];
    assert_eq!(
        (&devices["more_rows"], &devices["unseen"]),
        (&1.into(), &Value::Null)
    );
    let sda = &devices["rows"][0];
    assert_eq!(
        (&sda["device_name"], &sda["device"]),
        (&"sda".into(), &Value::Null)
    );
    assert_eq!(
        (&sda["before"]["verdict"], &sda["after"]["verdict"]),
        (&"busy".into(), &"busy".into())
    );
    assert_eq!(sda["mean_queued_ns"]["after"], 8e6);
    assert_eq!(sda["mean_served_ns"]["before"], 1e6);

    let neither = recorded(&[], 5, faults(5));
    let value = written(&before, &neither);
    for part in ["pasts", "devices"] {
        assert_eq!(value[part]["recorded_before"], true);
        assert_eq!(value[part]["recorded_after"], false);
        assert!(value[part]["rows"].is_null());
    }
    let value = written(&neither, &neither);
    assert!(value["pasts"].is_null() && value["devices"].is_null());
}

#[test]
fn what_both_read_ahead_is_compared() {
    let (before, later) = (
        ahead(10, Some(&[("/index", 1_000, 100), ("/log", 10, 10)])),
        ahead(5, Some(&[("/index", 20, 10)])),
    );
    let value = written(&before, &later);
    let row = &value["read_ahead"]["rows"][0];
    assert_eq!(row["path"], "/index");
    assert_eq!(
        (&row["before"]["dropped_pages"], &row["after"]["read_pages"]),
        (&900.into(), &20.into())
    );
    assert_eq!(row["read_pages_per_s"]["before"], 100.0);
    assert_eq!(row["used_at_most"]["after"], 0.5);
    let log = &value["read_ahead"]["rows"][1];
    assert_eq!(
        (&log["path"], &log["after"]["read_pages"]),
        (&"/log".into(), &0.into())
    );
    assert!(log["used_at_most"]["after"].is_null());
    let value = written(&before, &ahead(5, None));
    assert_eq!(value["read_ahead"]["recorded_after"], false);
    assert!(value["read_ahead"]["rows"].is_null());
    assert!(written(&ahead(5, None), &ahead(5, None))["read_ahead"].is_null());
}
