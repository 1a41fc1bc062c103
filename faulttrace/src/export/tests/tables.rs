//! CSV and JSON Lines.

use std::collections::BTreeMap;
use std::time::Instant;

use super::{HOSTILE, export, faults, fold, hostile, many, record, text};
use crate::export::Kind;
use crate::model::summary::samples;
use crate::model::{Place, Record};
use crate::view::escape::Escaped;
use crate::view::{self, View as _};

type Row = BTreeMap<String, String>;

fn rows(csv: &[u8]) -> Vec<Row> {
    ::csv::Reader::from_reader(csv)
        .deserialize()
        .map(Result::unwrap)
        .collect()
}

#[test]
fn a_row_has_what_json_has() {
    let mut fault = samples::fault_with_io();
    fault.facts.goroutine = Some(Box::new(samples::goroutine()));
    let csv = text(Kind::Csv, &[samples::start(), record(fault)]);
    insta::assert_snapshot!(csv, @"
    time_ns,end_ns,pid,tid,thread,mode,syscall,access,address,cause,path,offset,deleted,mapping,major,duration_ns,blocked_ns,runqueue_ns,on_cpu_ns,switches,end,began_before_attach,begin_approximate,woken_by,waker_pid,waker_tid,waker_thread,waker_syscall,user_stack_id,user_stack,kernel_stack,io_device,io_device_name,io_requests,io_shared,io_elsewhere,io_completed,io_bytes,io_queued_ns,io_served_ns,io_held_ns,io_last_queued_ns,io_last_served_ns,history_past,history_watched_ns,history_removed_ns,history_cached_ns,history_how,history_removed_by_pid,history_removed_by_thread,history_removed_by_cgroup,history_distance_pages,history_filled_pid,history_filled_name,goroutine,goroutine_start,goroutine_created_by,p,in_syscall,gomaxprocs,given_up
    1752242587123000000,1752242587135400000,4700,4711,worker-3,kernel,pread64,write,0x7f3a2c01f040,file_read,/data/index.bin,258048,false,file,true,12400000,12100000,200000,100000,2,exact,false,false,task,4800,4801,server-io,writev,0xabcd,index::page < index::lookup < libstripped.so+0x1234 < 0xdeadbeef,io_schedule < folio_wait_bit_common < filemap_fault < handle_mm_fault < asm_exc_page_fault < [stack cut],259:1,nvme0n1,3,1,0,2,131072,300000,21000000,0,200000,11000000,refault,1752242578123000000,1752242585123000000,1752242580123000000,memcg_reclaim,5100,grep,/batch.slice/grep.service,2560,5100,grep,18,main.serve,main.main,1,false,2,false
    ");
}

/// The value of a column; who woke is of the longest sleep, `io_` of what devices did, and what a
/// goroutine was at of that.
fn json_of<'a>(line: &'a serde_json::Value, column: &str) -> &'a serde_json::Value {
    let sleep = &line["longest_sleep"];
    if let Some(of) = column.strip_prefix("io_") {
        return &line["io"][of];
    }
    if let Some(of) = column.strip_prefix("history_") {
        let history = &line["history"];
        return match (of.strip_prefix("removed_by_"), of.strip_prefix("filled_")) {
            (Some(of), _) => &history["removed_by"][of],
            (_, Some(of)) => &history["filled"][of],
            _ => &history[of],
        };
    }
    let goroutine = &line["goroutine"];
    match column {
        "goroutine" => return &goroutine["id"],
        "goroutine_start" => return &goroutine["start"],
        "goroutine_created_by" => return &goroutine["created_by"],
        "p" | "in_syscall" | "gomaxprocs" => return &goroutine[column],
        _ => {}
    }
    match column.strip_prefix("waker_") {
        Some(of) => &sleep["waker"][of],
        None if column == "woken_by" => &sleep[column],
        None => &line[column],
    }
}

#[test]
fn rows_and_json_lines_agree() {
    let records = many(500, 2);
    let rows = rows(&export(Kind::Csv, &records));
    assert_eq!(rows.len(), 500);
    let lines = text(Kind::Json, &records);
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["type"] == "fault");
    for (row, line) in rows.iter().zip(lines) {
        for (column, cell) in row {
            if column == "user_stack" || column == "kernel_stack" {
                assert_eq!(cell.is_empty(), line[column].is_null());
                continue;
            }
            let value = match json_of(&line, column) {
                serde_json::Value::Null => String::new(),
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(*cell, value, "{column}");
        }
    }
}

#[test]
fn totals_are_those_of_the_summary() {
    let records = many(2000, 4);
    let rows = rows(&export(Kind::Csv, &records));
    let tally = fold(&records).total().tally;
    let sum = |column: &str| -> u64 {
        rows.iter()
            .map(|row| row[column].parse::<u64>().unwrap())
            .sum()
    };
    assert_eq!(sum("blocked_ns"), tally.blocked_ns);
    assert_eq!(sum("duration_ns"), tally.duration_ns);
    let majors = rows.iter().filter(|row| row["major"] == "true").count();
    assert_eq!(u64::try_from(majors).unwrap(), tally.majors);
}

#[test]
fn unknown_is_an_empty_cell() {
    let mut fault = samples::fault();
    fault.facts.begin_ns = None;
    fault.facts.began_before_attach = true;
    fault.facts.syscall = None;
    fault.facts.access = None;
    fault.facts.address = None;
    fault.facts.place = Place::default();
    fault.facts.cause = None;
    fault.facts.user_stack = None;
    fault.facts.kernel_stack = None;
    let rows = rows(&export(Kind::Csv, &[record(fault)]));
    let empty: Vec<_> = rows[0]
        .iter()
        .filter(|(column, cell)| cell.is_empty() && !column.starts_with("io_"))
        .map(|(column, _)| column.as_str())
        .collect();
    assert_eq!(
        empty,
        [
            "access",
            "address",
            "cause",
            "deleted",
            "gomaxprocs",
            "goroutine",
            "goroutine_created_by",
            "goroutine_start",
            "in_syscall",
            "kernel_stack",
            "mapping",
            "offset",
            "p",
            "path",
            "syscall",
            "time_ns",
            "user_stack",
            "user_stack_id"
        ]
    );
    let mut io = rows[0]
        .iter()
        .filter(|(column, _)| column.starts_with("io_"));
    assert!(io.all(|(_, cell)| cell.is_empty()), "{rows:?}");
}

#[test]
fn no_cell_is_a_formula_and_none_is_lost() {
    let records = hostile();
    let csv = export(Kind::Csv, &records);
    assert!(csv.iter().all(|byte| *byte == b'\n' || *byte >= b' '));
    let rows = rows(&csv);
    assert_eq!(rows.len(), HOSTILE.len());
    for (row, name) in rows.iter().zip(HOSTILE) {
        for cell in row.values() {
            assert!(
                !cell.starts_with(['=', '+', '-', '@', '\t', '\r']),
                "{cell}"
            );
        }
        let thread = &row["thread"];
        let thread = thread.strip_prefix('\'').unwrap_or(thread);
        assert_eq!(thread, Escaped(name).to_string());
    }
}

#[test]
fn a_trace_of_nothing_has_a_header() {
    let csv = text(Kind::Csv, &[]);
    assert_eq!(csv.lines().count(), 1);
    assert!(csv.starts_with("time_ns,"));
}

#[test]
fn json_is_what_the_live_stream_says() {
    let mut records = many(100, 6);
    records.extend(hostile());
    let mut live = Vec::new();
    let mut view = view::Json::new();
    for record in &records {
        view.record(record, Instant::now(), &mut live);
    }
    view.finish(&fold(&records), &mut live);
    assert_eq!(export(Kind::Json, &records), live);
    assert!(faults(&records).count() > 0 && matches!(records[0], Record::Start(_)));
}
