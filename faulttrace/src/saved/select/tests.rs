//! Which records of a small trace are taken, and what a report says of it.

use std::path::PathBuf;
use std::sync::Arc;

use super::Filter;
use crate::cli::{Pattern, Select, When};
use crate::model::analysis::{Options, Report};
use crate::model::summary::samples::{self, T0};
use crate::model::{Fault, Name, Record, Sample, Stuck};
use crate::saved::report::analyse;
use crate::trace::{Item, Trace, Writer};
use crate::view::TextOptions;

const MS: u64 = 1_000_000;
/// When the trace ends, after [`T0`].
const END: u64 = 10_000 * MS;

/// A trace, for as long as its directory.
struct Saved(tempfile::TempDir);

impl Saved {
    fn new(records: &[Record]) -> Self {
        let saved = Saved(tempfile::tempdir().expect("a directory"));
        let mut writer =
            Writer::create(&saved.path(), &crate::trace::Options::default()).expect("created");
        let Record::Start(start) = samples::start() else {
            panic!("no start")
        };
        writer.begin(&start).expect("begun");
        writer.write(records, T0 + END).expect("written");
        writer.finish(T0 + END).expect("finished");
        saved
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("a.ft")
    }

    fn report(&self, select: &Select) -> Report {
        analyse(&self.path(), select, &Options::default()).expect("readable")
    }

    fn refusal(&self, select: &Select) -> String {
        let trace = Trace::open(&self.path()).expect("opened");
        let refused = Filter::new(select, &trace).expect_err("refused");
        refused.to_string()
    }
}

fn when(ms: u64) -> Option<When> {
    Some(When::After(std::time::Duration::from_millis(ms)))
}

fn since(ms: u64) -> Select {
    Select {
        since: when(ms),
        ..Select::default()
    }
}

fn until(ms: u64) -> Select {
    Select {
        until: when(ms),
        ..Select::default()
    }
}

/// A thread that was stuck when tracing began, as of `ms` after that.
fn stuck(tid: u32, ms: u64) -> Stuck {
    let mut stuck = samples::stuck();
    stuck.facts.tid = tid;
    stuck.facts.begin_ns = None;
    stuck.facts.began_before_attach = true;
    stuck.elapsed_ns = ms * MS;
    stuck
}

/// The fault of it, which is over at `ms` after tracing began.
fn freed(tid: u32, ms: u64) -> Fault {
    let mut fault = samples::fault();
    fault.facts = stuck(tid, ms).facts;
    fault.end_ns = T0 + ms * MS;
    fault.duration_ns = ms * MS;
    (fault.runqueue_ns, fault.on_cpu_ns) = (0, 0);
    fault.blocked_ns = fault.duration_ns;
    fault
}

fn fault(fault: Fault) -> Record {
    Record::Fault(Arc::new(fault))
}

fn report(stuck: Stuck) -> Record {
    Record::Stuck(Arc::new(stuck))
}

fn still_stuck(report: &Report) -> Vec<u32> {
    let all = report.summary.still_stuck();
    all.iter().map(|still| still.stuck.facts.tid).collect()
}

#[test]
fn who_came_free_before_the_time_that_is_wanted_is_not_stuck_in_it() {
    let saved = Saved::new(&[
        report(stuck(11, 200)),
        report(stuck(12, 200)),
        fault(freed(11, 430)),
        report(stuck(12, 9_900)),
    ]);
    for select in [since(300), since(3_000)] {
        let report = saved.report(&select);
        assert_eq!(still_stuck(&report), [12]);
    }
    assert_eq!(
        still_stuck(&saved.report(&until(300))),
        [12],
        "11 ends later"
    );
    let trace = Trace::open(&saved.path()).expect("opened");
    let select = since(3_000);
    let mut filter = Filter::new(&select, &trace).expect("a filter");
    assert!(!filter.takes(&Item::Other(report(stuck(11, 2_999)))));
    assert!(filter.takes(&Item::Other(report(stuck(11, 3_000)))));
}

#[test]
fn who_came_free_in_a_fault_that_is_not_wanted_is_not_stuck() {
    let mut minor = freed(11, 430);
    minor.major = false;
    let saved = Saved::new(&[report(stuck(11, 200)), report(stuck(12, 200)), fault(minor)]);
    let majors = Select {
        major_only: true,
        ..Select::default()
    };
    assert_eq!(still_stuck(&saved.report(&majors)), [12]);
}

/// A fault of a thread, blocked all the time, ms after tracing began.
fn during(tid: u32, begin_ms: u64, end_ms: u64) -> Fault {
    let mut one = freed(tid, end_ms);
    one.facts.thread = Name::from(format!("reader-{tid}").as_str());
    one.facts.began_before_attach = false;
    one.facts.begin_ns = Some(T0 + begin_ms * MS);
    one.duration_ns = (end_ms - begin_ms) * MS;
    one.blocked_ns = one.duration_ns;
    one
}

fn sample(ms: u64, stall_threads: u32) -> Record {
    let pid = samples::facts().pid;
    let sample = samples::sample(pid, ms * MS);
    Record::Sample(Arc::new(Sample {
        stall_threads,
        ..sample
    }))
}

#[test]
fn what_makes_a_stall_after_the_last_sample_of_a_time_the_next_one_tells() {
    let saved = Saved::new(&[
        sample(1_000, 3),
        fault(during(1, 1_100, 1_800)),
        fault(during(2, 1_100, 2_200)),
        fault(during(3, 1_100, 2_200)),
        sample(3_000, 2),
        sample(4_000, 4),
    ]);
    let of_one = Select {
        threads: vec![Pattern::parse("reader-2").expect("a pattern")],
        ..until(2_000)
    };
    for (select, stalls) in [(until(2_000), 1), (of_one, 0)] {
        let report = saved.report(&select);
        let found = report.all.stalls.expect("of one process");
        assert_eq!(found.needed_bounds, (2, 3));
        assert_eq!(found.count, stalls, "{select:?}");
    }
}

#[test]
fn what_is_not_asked_for_is_told_as_such() {
    let mut other = during(3, 100, 200);
    other.facts.pid += 1;
    let pid = samples::facts().pid;
    let saved = Saved::new(&[
        fault(during(1, 100, 200)),
        fault(during(2, 100, 200)),
        fault(other),
        samples::accounting(pid, Some(2)),
        samples::accounting(pid + 1, Some(1)),
    ]);
    let select = Select {
        pids: vec![pid],
        threads: vec![Pattern::parse("nosuch").expect("a pattern")],
        ..Select::default()
    };
    let mut text = Vec::new();
    crate::view::report::write_text(&saved.report(&select), TextOptions::default(), &mut text);
    let text = String::from_utf8(text).expect("text");
    for wanted in [
        "No faults: of 3 faults in the trace, none is what was asked for.\n  server",
        "+2 in the whole trace, majors shown: 0, not asked for: 2.\n",
        "3  faults of the trace that were not asked for (--thread,",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(!text.contains("--min-duration"), "{text}");
}

#[test]
fn a_time_outside_the_trace_is_refused() {
    let saved = Saved::new(&[]);
    let late = saved.refusal(&since(10_000));
    assert!(late.contains("a.ft, which goes from "), "{late}");
    assert!(
        late.starts_with("--since is not before the end of"),
        "{late}"
    );
    let early = Select {
        until: Some(When::At(T0)),
        ..Select::default()
    };
    let early = saved.refusal(&early);
    assert!(
        early.starts_with("--until is not after the beginning"),
        "{early}"
    );
    saved.report(&since(9_999));
    saved.report(&until(1));
}
