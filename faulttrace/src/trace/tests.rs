//! What is written comes back; what is no trace is refused.

mod hostile;
mod odd_files;
mod older;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use super::{Error, Options, Order, State, Trace, Writer, schema};
use crate::model::summary::samples;
use crate::model::{
    Cause, End, Fault, Goroutine, History, LossClass, Name, Past, Place, ProcessEnd, Record, Sleep,
    Start, Stuck, Task, Transport, Waker,
};
use crate::view::{Json, View as _};

const MS: u64 = 1_000_000;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn start() -> Start {
    match samples::start() {
        Record::Start(start) => (*start).clone(),
        other => panic!("{other:?}"),
    }
}

/// A fault of which little is known.
fn bare() -> Fault {
    let mut bare = samples::fault();
    if let Some(sleep) = &mut bare.longest_sleep {
        sleep.waker = Some(Waker::Task(Task {
            pid: 0,
            tid: 0,
            name: Name::from("outside"),
            syscall: None,
        }));
    }
    bare.facts.place = Place::default();
    bare.facts.address = None;
    bare.facts.user_stack = None;
    bare.facts.kernel_stack = None;
    bare.facts.cause = None;
    bare.facts.access = None;
    bare.facts.syscall = None;
    bare.facts.begin_ns = None;
    bare.facts.began_before_attach = true;
    bare.facts.begin_approximate = true;
    bare.major = false;
    bare.history = None;
    bare.end = End::Died;
    bare
}

fn history(past: Past) -> Option<Box<History>> {
    Some(Box::new(History {
        past,
        ..samples::history()
    }))
}

/// A refault of which little is known.
fn little() -> Option<Box<History>> {
    let mut little = samples::history();
    if let Past::Refault(removal) = &mut little.past {
        removal.cached_ns = None;
        removal.by.syscall = None;
        removal.distance_pages = None;
        removal.filled = None;
    }
    Some(Box::new(little))
}

/// Of a thread with another name, at another place.
fn renamed() -> Fault {
    let mut renamed = samples::fault_with_io();
    if let Some(device) = renamed.io.as_mut().and_then(|io| io.device.as_mut()) {
        device.name = None;
    }
    renamed.facts.thread = Name::from("a\tb");
    renamed.facts.address = Some(u64::MAX - 5);
    renamed.facts.place.offset = None;
    renamed.facts.place.deleted = true;
    renamed.facts.cause = Some(Cause::Unknown);
    renamed.history = little();
    renamed
}

/// Faults of every kind that a trace has to tell apart, and all other records.
fn records() -> Vec<Record> {
    let mut slept = samples::fault_with_io();
    slept.switches = 1;
    slept.history = history(Past::FirstTouch);
    slept.longest_sleep = Some(Sleep {
        after_ns: 50_000,
        blocked_ns: slept.blocked_ns,
        runqueue_ns: slept.runqueue_ns,
        waker: Some(Waker::Interrupt),
    });
    slept.facts.goroutine = Some(Box::new(samples::goroutine()));
    let mut twice = samples::fault_with_io();
    twice.history = history(Past::Unknown);
    twice.longest_sleep = Some(Sleep {
        after_ns: 70_000,
        blocked_ns: 9 * MS,
        runqueue_ns: 0,
        waker: Some(Waker::Task(Task {
            pid: 77,
            tid: 78,
            name: Name::from(&b"fuse\xff"[..]),
            syscall: Some(Name::from("writev")),
        })),
    });
    if let Some(io) = &mut twice.io {
        (io.device, io.last) = (None, None);
    }
    let mut before = samples::stuck();
    before.facts.begin_ns = None;
    before.facts.began_before_attach = true;
    before.facts.goroutine = Some(Box::new(Goroutine::default()));
    before.io = samples::fault_with_io().io;
    let fault = |fault: Fault| Record::Fault(Arc::new(fault));
    let stuck = |stuck: Stuck| Record::Stuck(Arc::new(stuck));
    vec![
        Record::Process(Arc::new(samples::process())),
        fault(samples::fault()),
        stuck(samples::stuck()),
        fault(slept),
        samples::lost(LossClass::Lost, "ring_full", 3),
        fault(twice),
        fault(bare()),
        stuck(before),
        fault(renamed()),
        samples::process_end(),
        samples::lost(LossClass::Unreadable, "symbols_late", 1),
        samples::cache_fill(),
        samples::read_ahead(),
        samples::go_process(),
        samples::unknown_go_process(),
        samples::accounting(4700, Some(5)),
        samples::accounting(4701, None),
        Record::Sample(Arc::new(samples::sample(4700, 900 * MS))),
        Record::Sample(Arc::new(samples::sample_unread(4701, 901 * MS))),
        Record::Transport(Transport {
            emitted: 5,
            received: 5,
            lost: 0,
        }),
    ]
}

fn write(path: &Path, records: &[Record]) {
    let mut writer = Writer::create(path, &Options::default()).expect("created");
    writer.begin(&start()).expect("begun");
    let (first, second) = records.split_at(records.len() / 2);
    writer.write(first, samples::T0 + 1).expect("written");
    writer.write(second, samples::T0 + 2).expect("written");
    writer.finish(samples::T0 + 3).expect("finished");
}

/// What the JSON view makes of records, the only judge of whether they are the same.
fn json<'a>(records: impl IntoIterator<Item = &'a Record>) -> String {
    let (mut view, mut out) = (Json::new(), Vec::new());
    for record in records {
        view.record(record, std::time::Instant::now(), &mut out);
    }
    String::from_utf8(out).expect("JSON")
}

fn read(trace: &Trace, order: Order) -> Vec<Record> {
    let mut all = Vec::new();
    let done = trace.records(order, |item| {
        all.push(item.into_record());
        ControlFlow::Continue(())
    });
    done.expect("readable");
    all
}

#[test]
fn records_come_back_as_they_were() {
    let directory = directory();
    let path = directory.path().join("a.faulttrace");
    let written = records();
    write(&path, &written);
    let trace = Trace::open(&path).expect("opened");
    assert_eq!(**trace.start(), start());
    assert_eq!(trace.meta().state, State::Complete);
    assert_eq!(trace.meta().written_ns, samples::T0 + 3);
    let found = read(&trace, Order::OldestFirst);
    assert_eq!(json(&found), json(&written));
    let (Record::Accounting(known), Record::Accounting(unknown)) = (&found[15], &found[16]) else {
        panic!("{found:?}")
    };
    assert_eq!(
        (known.maj_flt_delta, unknown.maj_flt_delta),
        (Some(5), None)
    );
    let mut backwards = read(&trace, Order::NewestFirst);
    backwards.reverse();
    assert_eq!(json(&backwards), json(&written));
    for (found, written) in found.iter().zip(&written) {
        if let (Record::Fault(found), Record::Fault(written)) = (found, written) {
            assert_eq!(found.longest_sleep, written.longest_sleep);
            assert_eq!(found.io, written.io);
        }
    }
    let mut names: Vec<_> = std::fs::read_dir(directory.path())
        .expect("directory")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["a.faulttrace"], "nothing is left beside it");
}

#[test]
fn totals_have_the_sleeps_of_those_alone_who_waited_for_mmap_lock() {
    let directory = directory();
    let sleeps = |name: &str, cause| {
        let path = directory.path().join(name);
        let mut waited = samples::fault();
        waited.facts.cause = cause;
        let written = [samples::record(samples::fault()), samples::record(waited)];
        write(&path, &written);
        let mut found = Vec::new();
        let trace = Trace::open(&path).expect("opened");
        let done = trace.records_for_totals(Order::OldestFirst, |item| {
            if let Record::Fault(fault) = item.into_record() {
                found.push(fault.longest_sleep.clone());
            }
            ControlFlow::Continue(())
        });
        done.expect("readable");
        found
    };
    let slept = samples::fault().longest_sleep;
    assert_eq!(sleeps("a", Some(Cause::MmapLock)), [None, slept]);
    assert_eq!(sleeps("b", Some(Cause::Fuse)), [None, None]);
    assert_eq!(sleeps("c", None), [None, None]);
}

#[test]
fn sites_are_shared() {
    let directory = directory();
    let path = directory.path().join("a");
    let many: Vec<Record> = (0..1000)
        .map(|page| {
            let mut fault = samples::fault();
            fault.facts.address = Some(0x7f00_0000_0000 + page * 4096);
            fault.facts.place.offset = Some(page * 4096);
            samples::record(fault)
        })
        .collect();
    // The samples make a stack of their own for each fault; the tracer does not.
    let Record::Fault(first) = &many[0] else {
        panic!()
    };
    let many: Vec<Record> = many
        .iter()
        .map(|record| {
            let Record::Fault(fault) = record else {
                panic!()
            };
            let mut fault = (**fault).clone();
            fault.facts.user_stack.clone_from(&first.facts.user_stack);
            fault
                .facts
                .kernel_stack
                .clone_from(&first.facts.kernel_stack);
            samples::record(fault)
        })
        .collect();
    write(&path, &many);
    let trace = Trace::open(&path).expect("opened");
    let mut sites = 0;
    trace.sites(|_, _| sites += 1).expect("readable");
    assert_eq!(sites, 1);
    assert_eq!(json(&read(&trace, Order::OldestFirst)), json(&many));
    assert_eq!(trace.faults_at_most(), 1000);
}

#[test]
fn an_existing_file_is_replaced_by_force_only() {
    let directory = directory();
    let path = directory.path().join("a");
    std::fs::write(&path, "precious").expect("written");
    let kept = Writer::create(&path, &Options::default());
    assert!(matches!(kept, Err(Error::Exists(_))));
    assert_eq!(std::fs::read(&path).expect("kept"), b"precious");
    let force = Options {
        force: true,
        ..Options::default()
    };
    let writer = Writer::create(&path, &force).expect("replaced");
    drop(writer);
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).expect("linked");
    for options in [&Options::default(), &force] {
        assert!(
            Writer::create(&link, options).is_err(),
            "links are not followed"
        );
    }
    std::fs::create_dir(directory.path().join("d")).expect("made");
    for options in [&Options::default(), &force] {
        assert!(matches!(
            Writer::create(&directory.path().join("d"), options),
            Err(Error::NotReplaceable(_))
        ));
    }
}

#[test]
fn what_is_replaced_by_force_comes_back_if_nothing_takes_its_place() {
    let directory = directory();
    let path = directory.path().join("a");
    std::fs::write(&path, "precious").expect("written");
    let force = Options {
        force: true,
        ..Options::default()
    };
    let writer = Writer::create(&path, &force).expect("created");
    writer.discard();
    assert_eq!(std::fs::read(&path).expect("back"), b"precious");
    let mut writer = Writer::create(&path, &force).expect("created");
    writer.begin(&start()).expect("begun");
    writer.finish(1).expect("finished");
    assert_eq!(
        std::fs::read_dir(directory.path()).expect("read").count(),
        1
    );
    // A journal with something in it may repair another trace.
    let other = directory.path().join("b");
    std::fs::write(directory.path().join("b-journal"), "x").expect("written");
    let refused = Writer::create(&other, &Options::default());
    assert!(matches!(refused, Err(Error::Exists(_))));
}

#[test]
fn a_trace_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = directory();
    let path = directory.path().join("a");
    let mut writer = Writer::create(&path, &Options::default()).expect("created");
    writer.begin(&start()).expect("begun");
    for entry in std::fs::read_dir(directory.path()).expect("directory") {
        let mode = entry
            .expect("entry")
            .metadata()
            .expect("metadata")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600);
    }
    let open = directory.path().join("open");
    std::fs::create_dir(&open).expect("made");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).expect("set");
    let refused = Writer::create(&open.join("a"), &Options::default());
    assert!(matches!(refused, Err(Error::SharedDirectory { .. })));
}

#[test]
fn a_file_that_vanished_is_noticed() {
    let directory = directory();
    let path = directory.path().join("a");
    let mut writer = Writer::create(&path, &Options::default()).expect("created");
    writer.begin(&start()).expect("begun");
    std::fs::remove_file(&path).expect("removed");
    let gone = writer.write(&records(), 1);
    assert!(matches!(gone, Err(Error::Vanished(_))), "{gone:?}");
}

#[test]
fn the_oldest_make_room_and_are_counted() {
    let directory = directory();
    let path = directory.path().join("a");
    let max = 1 << 20;
    let options = Options {
        max_bytes: Some(max),
        ..Options::default()
    };
    let mut writer = Writer::create(&path, &options).expect("created");
    writer.begin(&start()).expect("begun");
    let batch: Vec<Record> = (0..500).map(|_| samples::record(shared_fault())).collect();
    for _ in 0..100 {
        writer.write(&batch, 1).expect("written");
    }
    let saved = writer.finish(2).expect("finished");
    let size = std::fs::metadata(&path).expect("there").len();
    assert!(size <= max, "{size}");
    let trace = Trace::open(&path).expect("opened");
    let kept = read(&trace, Order::OldestFirst).len() as u64;
    assert_eq!(kept + trace.meta().dropped_faults, 50_000);
    assert_eq!(trace.meta().dropped_majors, trace.meta().dropped_faults);
    assert_eq!(
        (saved.faults, saved.dropped),
        (kept, trace.meta().dropped_faults)
    );
    assert!(kept > 4_000, "{kept}");
}

#[test]
fn names_and_processes_make_room_too() {
    let directory = directory();
    let path = directory.path().join("a");
    let max = 1 << 20;
    let options = Options {
        max_bytes: Some(max),
        ..Options::default()
    };
    let mut writer = Writer::create(&path, &options).expect("created");
    writer.begin(&start()).expect("begun");
    // Every fault in another process, thread and stack: nothing is shared.
    for batch in 0..60 {
        let mut records = Vec::new();
        for number in 0..200 {
            let pid = 10_000 + batch * 200 + number;
            let mut fault = samples::fault();
            (fault.facts.pid, fault.facts.tid) = (pid, pid);
            fault.facts.user_stack = Some(samples::user_stack());
            let mut process = samples::process();
            process.pid = pid;
            records.push(Record::Process(Arc::new(process)));
            records.push(samples::record(fault));
            let time_ns = samples::T0;
            records.push(Record::ProcessEnd(ProcessEnd { pid, time_ns }));
        }
        records.push(samples::lost(LossClass::Lost, "ring_full", 1));
        writer.write(&records, 1).expect("there is always room");
    }
    writer.finish(2).expect("finished");
    assert!(std::fs::metadata(&path).expect("there").len() <= max);
    let trace = Trace::open(&path).expect("opened");
    let kept = read(&trace, Order::OldestFirst);
    let faults = |record: &&Record| matches!(record, Record::Fault(_));
    let kept_faults = kept.iter().filter(faults).count() as u64;
    assert!(kept_faults > 500, "{kept_faults}");
    assert_eq!(kept_faults + trace.meta().dropped_faults, 60 * 200);
    let lost = |record: &Record| match record {
        Record::Lost(lost) => lost.count,
        _ => 0,
    };
    assert_eq!(
        kept.iter().map(lost).sum::<u64>(),
        60,
        "no loss is forgotten"
    );
}

/// A fault whose stacks are always the same, as the tracer's are.
fn shared_fault() -> Fault {
    static FAULT: std::sync::LazyLock<Fault> = std::sync::LazyLock::new(|| Fault {
        history: None,
        ..samples::fault()
    });
    FAULT.clone()
}

#[test]
fn the_questions_have_answers() {
    let directory = directory();
    let path = directory.path().join("a");
    write(&path, &records());
    let db = Connection::open(&path).expect("opened");
    assert_eq!(schema::QUERIES.len(), 11);
    for query in schema::QUERIES {
        let mut statement = db.prepare(query.sql).expect(query.question);
        let mut rows = statement.query([]).expect(query.question);
        let mut count = 0;
        while rows.next().expect(query.question).is_some() {
            count += 1;
        }
        assert!(count > 0, "no answer: {}", query.question);
    }
    for view in schema::VIEWS {
        let sql = format!("SELECT count(*) FROM {}", view.name);
        let rows: i64 = db.query_row(&sql, [], |row| row.get(0)).expect(view.name);
        assert!(rows > 0, "{} is empty", view.name);
    }
}

#[test]
fn the_schema_is_documented() {
    let documented = include_str!("../../../docs/trace-schema.md");
    assert!(
        documented == schema::markdown(),
        "docs/trace-schema.md is not what the schema says: cargo xtask docs"
    );
}
