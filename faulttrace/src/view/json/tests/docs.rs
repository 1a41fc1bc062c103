//! The tables of docs/json.md, and JSON against them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The schema as users read it.
pub(super) const DOCS: &str = include_str!("../../../../../docs/json.md");

/// Field → (type, may be null).
pub(in crate::view) type Fields = BTreeMap<&'static str, (&'static str, bool)>;

/// The table of the section with this heading.
pub(in crate::view) fn documented(section: &str) -> Fields {
    documented_in(DOCS, section)
}

/// The same in any document.
pub(in crate::view) fn documented_in(docs: &'static str, section: &str) -> Fields {
    let heading = |line: &&str| line.trim_start_matches('#').trim().replace('`', "") == section;
    let mut lines = docs
        .lines()
        .skip_while(|line| !(line.starts_with('#') && heading(line)));
    assert!(lines.next().is_some(), "no section {section}");
    lines
        .take_while(|line| !line.starts_with('#'))
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 6, "{line}");
            assert!(!cells[4].is_empty(), "{line}");
            assert!(["", "null"].contains(&cells[3]), "{line}");
            (cells[1].trim_matches('`'), (cells[2], cells[3] == "null"))
        })
        .collect()
}

fn both(first: &str, second: &str) -> Fields {
    joined(documented(first), documented(second))
}

/// The fields of both tables.
pub(in crate::view) fn joined(mut fields: Fields, more: Fields) -> Fields {
    for (name, of) in more {
        assert!(fields.insert(name, of).is_none(), "{name} is there twice");
    }
    fields
}

fn record_fields(kind: &str) -> Fields {
    match kind {
        "fault" | "stuck" => both("Common to fault and stuck", kind),
        _ => documented(kind),
    }
}

/// The keys of `object` are those documented, each with its type or null where that may be.
pub(in crate::view) fn check(object: &Value, fields: &Fields) {
    let object = object.as_object().unwrap();
    let keys: BTreeSet<_> = object.keys().map(String::as_str).collect();
    assert_eq!(keys, fields.keys().copied().collect());
    for (key, value) in object {
        let (kind, nullable) = fields[key.as_str()];
        let is = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        assert!(is == kind || (nullable && is == "null"), "{key}: {value}");
    }
}

/// The record, and all objects in it, are as documented.
pub(in crate::view) fn check_record(record: &Value) {
    let kind = record["type"].as_str().unwrap();
    check(record, &record_fields(kind));
    for stack in ["user_stack", "kernel_stack"] {
        for frame in record[stack].as_array().into_iter().flatten() {
            check(frame, &documented("frame"));
        }
    }
    let sleep = &record["longest_sleep"];
    if !sleep.is_null() {
        check(sleep, &documented("longest_sleep"));
        if !sleep["waker"].is_null() {
            check(&sleep["waker"], &documented("waker"));
        }
    }
    check_history(&record["history"]);
    for by in record["by"].as_array().into_iter().flatten() {
        check(by, &documented("filled_by"));
    }
    if !record["io"].is_null() {
        check(&record["io"], &documented("io"));
    }
    for target in record["targets"].as_array().into_iter().flatten() {
        check(target, &documented("target"));
    }
    check_go(record);
    if kind == "stall" {
        check_stall(record, &record_fields(kind));
    }
    if kind == "summary" {
        check_tables(record);
    }
}

/// What is said of Go, in whichever record.
fn check_go(record: &Value) {
    let object = |of: &Value, section: &str| {
        if !of.is_null() {
            check(of, &documented(section));
        }
    };
    object(&record["goroutine"], "goroutine");
    let labels = record["goroutine"]["labels"].as_array();
    for label in labels.into_iter().flatten() {
        object(label, "label");
    }
    let program = &record["go"];
    object(program, "go_program");
    object(&program["ps"], "ps");
    object(&program["ps"]["longest"], "all_stuck");
    if record["type"] == "p_stall" {
        for fault in record["faults"].as_array().unwrap() {
            check(fault, &documented("p_stall_fault"));
        }
    }
}

fn check_history(history: &Value) {
    if history.is_null() {
        return;
    }
    check(history, &documented("history"));
    for part in ["removed_by", "filled"] {
        if !history[part].is_null() {
            check(&history[part], &documented(part));
        }
    }
}

/// What the pasts of pages add up to is as documented.
pub(in crate::view) fn check_pasts(pasts: &Value) {
    if pasts.is_null() {
        return;
    }
    check(pasts, &documented("pasts"));
    for sum in [
        "first_touch",
        "refault",
        "unknown",
        "removed_by_others",
        "filled_by_others",
    ] {
        check(&pasts[sum], &documented("waited"));
    }
    for (table, keys) in [("removed_by", 6), ("filled_by", 4)] {
        for row in pasts[table].as_array().unwrap() {
            assert_eq!(row.as_object().unwrap().len(), keys, "{row}");
        }
    }
    if !pasts["pages_more"].is_null() {
        check(&pasts["pages_more"], &documented("pages_more"));
    }
}

fn check_stall(stall: &Value, fields: &Fields) {
    check(stall, fields);
    for file in stall["files"].as_array().unwrap() {
        check(file, &documented("stall_file"));
    }
    if !stall["meanwhile"].is_null() {
        check(&stall["meanwhile"], &documented("meanwhile"));
    }
}

fn check_tables(summary: &Value) {
    let stalls = &summary["stalls"];
    if !stalls.is_null() {
        check(stalls, &documented("stalls"));
        for stall in stalls["longest"].as_array().unwrap() {
            let mut fields = record_fields("stall");
            fields.remove("type");
            check_stall(stall, &fields);
        }
    }
    check_pasts(&summary["pasts"]);
    if !summary["devices_unseen"].is_null() {
        check(&summary["devices_unseen"], &documented("devices_unseen"));
    }
    for device in summary["devices"].as_array().into_iter().flatten() {
        check(device, &documented("device"));
    }
    for table in ["by_thread", "by_file", "by_stack", "by_cause"] {
        for row in summary[table].as_array().unwrap() {
            check(row, &both(table, "totals"));
        }
        let others = &summary[format!("{table}_others")];
        if !others.is_null() {
            check(others, &documented("totals"));
        }
    }
    for still in summary["still_stuck"].as_array().unwrap() {
        check(still, &documented("still_stuck"));
    }
    if !summary["duration_percentiles_ns"].is_null() {
        check(
            &summary["duration_percentiles_ns"],
            &documented("percentiles"),
        );
    }
}

/// The fields of a record that may be null.
pub(in crate::view) fn nullable(kind: &str) -> BTreeSet<&'static str> {
    let fields = record_fields(kind).into_iter();
    fields
        .filter(|(_, (_, null))| *null)
        .map(|(key, _)| key)
        .collect()
}
