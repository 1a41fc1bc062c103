//! Tracks, slices, arrows.

use std::sync::Arc;

use super::read::{Read, Slice, Value, read};
use crate::export::perfetto::Perfetto;
use crate::export::perfetto::counters::Counters;
use crate::export::perfetto::stream::Limits;
use crate::export::tests::{HOSTILE, T0, export, faults, fold, hostile, many, record, run};
use crate::export::{Kind, names};
use crate::model::summary::samples;
use crate::model::{Fault, Record, Sleep, Task, Waker};

fn trace(records: &[Record]) -> Read {
    read(&export(Kind::Perfetto, records))
}

/// A fault of whose sleep it is not known where it lies.
fn unplaced() -> Fault {
    Fault {
        longest_sleep: None,
        io: None,
        ..samples::fault()
    }
}

fn slept(waker: Option<Waker>, runqueue_ns: u64) -> Fault {
    let mut fault = samples::fault();
    fault.longest_sleep = Some(Sleep {
        after_ns: 60_000,
        blocked_ns: 12_000_000,
        runqueue_ns,
        waker,
    });
    fault
}

fn task() -> Option<Waker> {
    Some(Waker::Task(Task {
        pid: 31,
        tid: 32,
        name: "kworker".into(),
        syscall: Some("mprotect".into()),
    }))
}

/// Name, begin and end after T0, of all but the notes.
fn drawn(read: &Read) -> Vec<(&str, u64, Option<u64>)> {
    let slices = read.slices.iter().filter(|slice| slice.category != "note");
    slices
        .map(|of| {
            let end = of.end.map(|end| end - T0);
            (of.name.as_str(), of.begin - T0, end)
        })
        .collect()
}

fn check_nesting(read: &Read) {
    for slice in &read.slices {
        match slice.category.as_str() {
            "fault" => assert_eq!(slice.parent, None),
            "part" => {
                let fault = &read.slices[slice.parent.unwrap()];
                assert_eq!(fault.category, "fault");
                assert!(fault.begin <= slice.begin && slice.end <= fault.end);
            }
            _ => {}
        }
    }
}

#[test]
fn a_fault_has_its_parts_and_its_waker() {
    let read = trace(&[samples::start(), record(slept(task(), 150_000))]);
    assert_eq!(
        drawn(&read),
        [
            ("file_read", 0, Some(12_400_000)),
            ("blocked", 60_000, Some(12_060_000)),
            ("wake-up", 12_060_000, Some(12_060_000)),
            ("run queue", 12_060_000, Some(12_210_000)),
        ]
    );
    let (from, to) = read.flows[&1];
    assert_eq!(read.slices[from].name, "wake-up");
    assert_eq!(read.slices[to.unwrap()].name, "run queue");
    let track = |slice: &Slice| read.tracks[&slice.track].thread.clone().unwrap();
    let waker = track(&read.slices[from]);
    assert_eq!((waker.pid, waker.tid), (Some(31), Some(32)));
    assert_eq!(waker.thread_name.as_deref(), Some("kworker"));
    let fault = &read.faults()[0];
    assert_eq!(track(fault).tid, Some(4711));
    // 100 µs blocked and 50 µs on the run queue in other sleeps.
    assert_eq!(fault.number("unplaced_ns"), 150_000);
    assert_eq!(fault.number("offset"), 0x3f000);
    assert_eq!(fault.arguments["major"], Value::Flag(true));
    assert_eq!(fault.text("file"), "/data/index.bin");
    assert_eq!(fault.text("woken_by"), "kworker[32]");
    assert_eq!(fault.text("waker_syscall"), "mprotect");
    insta::assert_snapshot!(fault.text("user_stack"), @"index::page src/index.rs:42 (inlined) < index::lookup src/index.rs:77 < libstripped.so+0x1234 < 0xdeadbeef");
    check_nesting(&read);
}

#[test]
fn a_fault_has_the_past_of_its_page_and_what_devices_did() {
    let read = trace(&[record(samples::fault_with_io())]);
    let fault = &read.faults()[0];
    assert_eq!(fault.text("history_past"), "refault");
    assert_eq!(fault.text("history_how"), "memcg_reclaim");
    assert_eq!(fault.text("history_removed_by"), "grep[5100]");
    assert_eq!(
        fault.text("history_removed_by_cgroup"),
        "/batch.slice/grep.service"
    );
    assert_eq!(fault.number("history_distance_pages"), 2560);
    assert_eq!(fault.text("history_filled_by"), "grep[5100]");
    assert_eq!(fault.text("io_device_name"), "nvme0n1");
    assert_eq!(fault.number("io_requests"), 3);
    assert_eq!(fault.number("io_served_ns"), 21_000_000);
    // Without --evictions and --io there are none.
    let mut without = samples::fault();
    (without.history, without.io) = (None, None);
    let read = trace(&[record(without)]);
    let faults = read.faults();
    let names = faults[0].arguments.keys();
    let of = |name: &&String| name.starts_with("history_") || name.starts_with("io_");
    assert_eq!(names.filter(of).count(), 0);
}

#[test]
fn without_a_run_queue_the_arrow_ends_where_the_sleep_does() {
    let read = trace(&[record(slept(task(), 0))]);
    let (from, to) = read.flows[&1];
    let to = &read.slices[to.unwrap()];
    assert_eq!(to.name, "blocked");
    assert_eq!(to.end, Some(read.slices[from].begin));
    assert_eq!(
        read.slices.iter().filter(|s| s.name == "run queue").count(),
        0
    );
}

#[test]
fn what_has_no_known_place_is_not_placed() {
    let read = trace(&[record(unplaced())]);
    assert_eq!(drawn(&read), [("file_read", 0, Some(12_400_000))]);
    assert_eq!(read.faults()[0].number("unplaced_ns"), 12_300_000);
    let read = trace(&[record(slept(Some(Waker::Interrupt), 5))]);
    assert_eq!(read.faults()[0].text("woken_by"), "an interrupt");
    assert!(read.flows.is_empty());
}

#[test]
fn a_waker_without_ids_has_no_thread() {
    let outside = Some(Waker::Task(Task {
        pid: 0,
        tid: 0,
        name: "server".into(),
        syscall: None,
    }));
    let read = trace(&[record(slept(outside, 5))]);
    assert_eq!(read.faults()[0].text("woken_by"), "server");
    let (from, _) = read.flows[&1];
    let track = &read.tracks[&read.slices[from].track];
    assert_eq!(
        track.name.as_deref(),
        Some("threads outside the pid namespace")
    );
    assert_eq!(track.thread, None);
}

#[test]
fn everything_nests_and_adds_up() {
    for seed in 0..20 {
        let records = many(500, seed);
        let read = trace(&records);
        check_nesting(&read);
        let drawn = read.faults();
        let tally = fold(&records).total().tally;
        let sum = |name: &str| drawn.iter().map(|fault| fault.number(name)).sum::<u64>();
        assert_eq!(u64::try_from(drawn.len()).unwrap(), tally.faults);
        assert_eq!(sum("blocked_ns"), tally.blocked_ns);
        assert_eq!(sum("duration_ns"), tally.duration_ns);
        let length: u64 = drawn.iter().map(|of| of.end.unwrap() - of.begin).sum();
        assert_eq!(length, tally.duration_ns);
        let placed: u64 = Read::of("part", &read.slices)
            .iter()
            .map(|part| part.end.unwrap() - part.begin)
            .sum();
        let off_cpu = tally.blocked_ns + tally.runqueue_ns;
        assert_eq!(placed + sum("unplaced_ns"), off_cpu);
        assert!(read.flows.len() > 10);
        assert!(read.flows.values().all(|(_, end)| end.is_some()));
        assert_eq!(read.states, 1);
    }
}

#[test]
fn what_was_told_can_be_forgotten() {
    let records = many(300, 11);
    let limits = Limits {
        texts: 40,
        bytes: 1 << 20,
    };
    let small = Perfetto::with(limits, Counters::new());
    let small = read(&run(Box::new(small), &records).unwrap());
    assert!(small.states > 5, "{}", small.states);
    let arguments = |read: &Read| -> Vec<_> {
        let faults = read.faults().into_iter();
        faults.map(|fault| fault.arguments).collect()
    };
    assert_eq!(arguments(&small), arguments(&trace(&records)));
    // Told once, a stack takes a number only.
    let once = export(Kind::Perfetto, &many(1, 11)).len();
    let more = export(Kind::Perfetto, &many(1001, 11)).len();
    assert!((more - once) / 1000 < 450, "{once} {more}");
}

#[test]
fn faults_of_a_thread_that_overlap_are_cut_and_counted() {
    let mut second = unplaced();
    second.end_ns += 1_000_000;
    let third = slept(task(), 5);
    let read = trace(&[unplaced(), second, third].map(record));
    check_nesting(&read);
    let faults = read.faults();
    assert_eq!(faults[1].begin, faults[0].end.unwrap());
    assert_eq!(faults[1].number("begins_earlier_by_ns"), 11_400_000);
    assert_eq!(faults[2].begin, faults[2].end.unwrap());
    let note = "2 faults overlap another of their thread, and are drawn from its end on";
    assert!(
        read.notes().iter().any(|of| of == note),
        "{:?}",
        read.notes()
    );
}

fn stuck(begin_ns: Option<u64>) -> Record {
    let mut stuck = samples::stuck();
    stuck.facts.begin_ns = begin_ns;
    stuck.facts.began_before_attach = begin_ns.is_none();
    Record::Stuck(Arc::new(stuck))
}

#[test]
fn a_fault_that_never_ends_is_open() {
    let read = trace(&[samples::start(), stuck(Some(T0 + 5)), stuck(Some(T0 + 5))]);
    assert_eq!(drawn(&read), [("fuse", 5, None)]);
    let fault = &read.faults()[0];
    assert_eq!(fault.arguments["still_stuck"], Value::Flag(true));
    assert_eq!(fault.number("elapsed_ns"), 2_300_000_000);
    // Something is at the end of the trace, so that the open slice has a length.
    let last = read.slices.last().unwrap();
    assert_eq!(
        (last.name.as_str(), last.begin),
        ("end of the trace", T0 + 2_300_000_005)
    );
}

#[test]
fn a_stuck_fault_that_ends_is_drawn_once() {
    let mut ended = unplaced();
    ended.facts.begin_ns = Some(T0);
    let read = trace(&[samples::start(), stuck(Some(T0)), record(ended)]);
    assert_eq!(drawn(&read), [("file_read", 0, Some(12_400_000))]);
    assert_eq!(read.faults()[0].text("end"), "exact");
}

#[test]
fn a_stuck_fault_is_over_when_its_process_or_the_next_fault_says_so() {
    let read = trace(&[
        samples::start(),
        stuck(Some(T0 + 5)),
        samples::process_end(),
    ]);
    assert_eq!(drawn(&read), [("fuse", 5, Some(5_000_000_000))]);
    assert_eq!(
        read.faults()[0].text("end"),
        "not seen; the process ended here"
    );

    let mut next = unplaced();
    next.end_ns += 20_000_000;
    next.facts.begin_ns = Some(T0 + 20_000_000);
    let read = trace(&[samples::start(), stuck(Some(T0 + 5)), record(next)]);
    assert_eq!(
        drawn(&read),
        [
            ("fuse", 5, Some(20_000_000)),
            ("file_read", 20_000_000, Some(32_400_000))
        ]
    );
}

#[test]
fn what_began_before_attach_says_so() {
    let read = trace(&[samples::start(), stuck(None)]);
    assert_eq!(drawn(&read), [("fuse", 0, None)]);
    let fault = &read.faults()[0];
    assert_eq!(fault.arguments["began_before_attach"], Value::Flag(true));
    assert!(
        fault
            .text("begin")
            .starts_with("unknown, before faulttrace")
    );
}

#[test]
fn hostile_names_come_out_escaped() {
    let records = hostile();
    let read = trace(&records);
    check_nesting(&read);
    let found = read.faults();
    for (name, (slice, fault)) in HOSTILE.iter().zip(found.iter().zip(faults(&records))) {
        let thread = read.tracks[&slice.track].thread.clone().unwrap();
        assert_eq!(thread.thread_name, Some(names::thread(&fault.facts.thread)));
        for value in slice.arguments.values() {
            if let Value::Text(text) = value {
                assert!(text.chars().all(|c| !c.is_control()), "{name:?}");
            }
        }
    }
    let notes = read.notes();
    assert!(notes.contains(&"lost, so not in here: 7 </title><script>\\n".to_owned()));
    // Who a process is, is what was said last.
    let process = read.tracks.values().find_map(|track| track.process.clone());
    assert!(
        process
            .unwrap()
            .process_name
            .unwrap()
            .starts_with("\\u{202e}")
    );
}
