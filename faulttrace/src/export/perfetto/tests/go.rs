//! Go programs: goroutines in faults, Ps that are stuck.

use std::sync::Arc;

use super::counters::at_once;
use super::read::{Read, Slice, Value, read};
use crate::export::Kind;
use crate::export::tests::{T0, export, faults, many, record};
use crate::model::ps::FullStall;
use crate::model::summary::samples;
use crate::model::{Fault, Goroutine, PStall, Record, Stuck};

const MS: u64 = 1_000_000;
const PS_STUCK: &str = "Ps stuck";

fn trace(records: &[Record]) -> Read {
    let mut all = vec![samples::start()];
    all.extend_from_slice(records);
    read(&export(Kind::Perfetto, &all))
}

fn stall(begin: u64, length: u64, over: bool, queued: Option<u64>) -> Record {
    let begin_ns = T0 + begin * MS;
    Record::PStall(Arc::new(PStall {
        pid: 4700,
        stall: FullStall {
            begin_ns,
            end_ns: begin_ns + length * MS,
            stuck_ns: length * MS - 5,
            procs: 2,
            queued,
        },
        over,
        faults: Vec::new(),
        other_faults: 0,
        files: Vec::new(),
        other_files_faults: 0,
        causes: Vec::new(),
        meanwhile: None,
    }))
}

/// A report of a fault that goes on, in which the thread is at this.
fn stuck(goroutine: Option<Goroutine>) -> Record {
    let mut stuck: Stuck = samples::stuck();
    stuck.facts.goroutine = goroutine.map(Box::new);
    Record::Stuck(Arc::new(stuck))
}

#[test]
fn a_fault_has_its_goroutine() {
    let mut fault = samples::fault();
    fault.facts.goroutine = Some(Box::new(samples::goroutine()));
    for record in [record(fault), stuck(Some(samples::goroutine()))] {
        let read = trace(&[record]);
        let fault = &read.faults()[0];
        assert_eq!(fault.text("goroutine_start"), "main.serve");
        assert_eq!(fault.text("goroutine_created_by"), "main.main");
        let no = Value::Flag(false);
        assert_eq!(fault.arguments["goroutine_in_syscall"], no);
        let numbers = [
            ("goroutine_id", 18),
            ("goroutine_p", 1),
            ("gomaxprocs", 2),
            ("goroutines_queued_local", 3),
            ("goroutines_queued_global", 40),
            ("goroutines_queued_global_at_end", 57),
        ];
        for (name, number) in numbers {
            assert_eq!(fault.number(name), number, "{name}");
        }
    }
    // What is not known is left out, and all of it where there is no Go program.
    for (goroutine, expected) in [(Some(Goroutine::default()), 1), (None, 0)] {
        let mut fault = samples::fault();
        fault.facts.goroutine = goroutine.map(Box::new);
        let read = trace(&[record(fault)]);
        let of = |name: &&String| name.starts_with("go");
        let faults = read.faults();
        assert_eq!(faults[0].arguments.keys().filter(of).count(), expected);
    }
}

#[test]
fn a_program_and_the_stalls_of_its_ps_have_a_track() {
    let read = trace(&[
        samples::go_process(),
        stall(10, 100, false, None),
        stall(10, 300, true, Some(46)),
        stall(500, 150, false, None),
        samples::unknown_go_process(),
    ]);
    let programs = Read::of("go", &read.slices);
    let names: Vec<_> = programs.iter().map(|one| one.name.as_str()).collect();
    let expected = [
        "go1.27.3, GOMAXPROCS 2",
        "devel go1.99-\\x1b[31m, GOMAXPROCS unknown",
    ];
    assert_eq!(names, expected);
    let known = &programs[0];
    assert_eq!((known.begin, known.number("gomaxprocs")), (T0 + MS, 2));
    assert_eq!(known.text("module"), "example.com/server");
    assert_eq!(known.text("layout"), "table");
    assert_eq!(programs[1].arguments.keys().count(), 1);

    let stalls = Read::of("p_stall", &read.slices);
    let shown: Vec<_> = stalls.iter().map(|one| (one.begin, one.end)).collect();
    let at = |ms: u64| T0 + ms * MS;
    assert_eq!(shown, [(at(10), Some(at(310))), (at(500), Some(at(650)))]);
    let is_over = |one: &Slice| one.arguments["over"] == Value::Flag(true);
    assert!(is_over(&stalls[0]) && !is_over(&stalls[1]));
    let number = |name| stalls[0].number(name);
    assert_eq!((number("gomaxprocs"), number("queued")), (2, 46));
    assert_eq!(number("stuck_ns"), 300 * MS - 5);
    assert!(!stalls[1].arguments.contains_key("queued"));

    assert!(stalls.iter().all(|one| one.track == known.track));
    let track = &read.tracks[&known.track];
    let parent = &read.tracks[&track.parent_uuid.unwrap()];
    assert_eq!(track.name.as_deref(), Some("Go"));
    assert_eq!(parent.process.as_ref().unwrap().pid, Some(4700));
}

/// How many Ps are held in blocking faults, at each time at which that changes.
fn truth(records: &[Record]) -> Vec<(u64, i64)> {
    let holds_p = |fault: &&Fault| {
        let goroutine = fault.facts.goroutine.as_deref();
        fault.blocked_ns > 0 && goroutine.is_some_and(|goroutine| goroutine.p.is_some())
    };
    at_once(faults(records).filter(holds_p))
}

#[test]
fn ps_stuck_are_exact() {
    for seed in 0..20 {
        let records = many(400, seed);
        let read = trace(&records[1..]);
        let values = read.counter(PS_STUCK, 4700);
        assert_eq!(values, truth(&records));
        assert_eq!(values.iter().map(|(_, ps)| *ps).max(), Some(3));
        // It is no Go program.
        assert_eq!(read.counter(PS_STUCK, 5000), []);
    }
}

#[test]
fn a_p_that_was_not_counted_is_not_given_back() {
    let mut ended = samples::fault();
    ended.facts = match stuck(Some(samples::goroutine())) {
        Record::Stuck(stuck) => stuck.facts.clone(),
        other => panic!("{other:?}"),
    };
    // The first report does not know yet what the thread is at.
    let late = [
        stuck(None),
        stuck(Some(samples::goroutine())),
        record(ended.clone()),
    ];
    assert_eq!(trace(&late).counter(PS_STUCK, 4700), []);
    let known = [stuck(Some(samples::goroutine())), stuck(None)];
    let read = trace(&known);
    assert_eq!(read.counter(PS_STUCK, 4700), [(T0, 0), (T0, 1)]);
    ended.facts.goroutine = None;
    let read = trace(&[known.as_slice(), &[record(ended.clone())]].concat());
    let values = [(T0, 0), (T0, 1), (ended.end_ns, 0)];
    assert_eq!(read.counter(PS_STUCK, 4700), values);
    let read = trace(&[known.as_slice(), &[samples::process_end()]].concat());
    let values = [(T0, 0), (T0, 1), (T0 + 5_000 * MS, 0)];
    assert_eq!(read.counter(PS_STUCK, 4700), values);
}
