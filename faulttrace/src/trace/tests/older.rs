//! Files that earlier versions wrote.

use std::sync::Arc;

use rusqlite::Connection;

use super::{directory, json, read, records, write};
use crate::model::{Record, Sleep, Waker};
use crate::trace::{Order, Trace};

#[test]
fn a_file_of_the_first_version_lacks_what_came_later() {
    let directory = directory();
    let path = directory.path().join("a");
    write(&path, &records());
    let db = Connection::open(&path).expect("opened");
    // Whatever has the name of a table that was not there yet is not looked at.
    db.execute_batch(
        "DROP TABLE samples; CREATE VIEW samples AS SELECT 1; DROP TABLE histories; \
         DROP TABLE cache_fills; DROP TABLE cache_fill_by; DROP TABLE read_aheads; DROP TABLE fault_io; \
         CREATE VIEW fault_io AS SELECT 1; DROP TABLE go_processes; DROP TABLE goroutines; \
         DROP TABLE goroutine_labels; \
         DROP TABLE fault_goroutines; PRAGMA user_version = 1000",
    )
    .expect("made older");
    drop(db);
    let trace = Trace::open(&path).expect("opened");
    let mut expected = records();
    expected.retain(|record| {
        !matches!(
            record,
            Record::Sample(_) | Record::CacheFill(_) | Record::ReadAhead(_) | Record::Go(_)
        )
    });
    for record in &mut expected {
        if let Record::Fault(fault) = record {
            let fault = Arc::make_mut(fault);
            fault.facts.begin_approximate = false;
            fault.facts.goroutine = None;
            fault.history = None;
            if let Some(Sleep {
                waker: Some(Waker::Task(task)),
                ..
            }) = &mut fault.longest_sleep
            {
                task.syscall = None;
            }
            fault.io = None;
        } else if let Record::Stuck(stuck) = record {
            let stuck = Arc::make_mut(stuck);
            (stuck.facts.goroutine, stuck.io) = (None, None);
        }
    }
    assert_eq!(json(&read(&trace, Order::OldestFirst)), json(&expected));
}

#[test]
fn a_file_without_goroutines_has_everything_else() {
    let directory = directory();
    let path = directory.path().join("a");
    write(&path, &records());
    let db = Connection::open(&path).expect("opened");
    // Views are for people, and are not looked at.
    db.execute_batch(
        "DROP VIEW goroutine_totals; DROP VIEW fault_details; DROP TABLE go_processes; \
         DROP TABLE goroutines; DROP TABLE fault_goroutines; PRAGMA user_version = 1003",
    )
    .expect("made older");
    drop(db);
    let trace = Trace::open(&path).expect("opened");
    let mut expected = records();
    expected.retain(|record| !matches!(record, Record::Go(_) | Record::ReadAhead(_)));
    for record in &mut expected {
        let (facts, io) = match record {
            Record::Fault(fault) => {
                let fault = Arc::make_mut(fault);
                (&mut fault.facts, &mut fault.io)
            }
            Record::Stuck(stuck) => {
                let stuck = Arc::make_mut(stuck);
                (&mut stuck.facts, &mut stuck.io)
            }
            _ => continue,
        };
        facts.goroutine = None;
        // Nor was it known how long reads were held back.
        if let Some(io) = io {
            io.held_ns = None;
        }
    }
    assert_eq!(json(&read(&trace, Order::OldestFirst)), json(&expected));
}
