//! Every fault once, with its thread, file, offset and time: 1,000 cold touches of a file system
//! whose delay is known.

use std::collections::HashMap;

use faulttrace_tests::harness::disk::evict;
use faulttrace_tests::harness::record::{Fault, Record};
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::tracer::{Trace, Tracer};
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::truth::{Touch, Worker};

/// The faults of one file, by thread and offset.
type ByPlace<'a> = HashMap<(u32, u64), Vec<&'a Fault>>;

#[test]
fn a_thousand_touches_are_a_thousand_faults() {
    let bench = start();
    let slow = SlowFs::mount(&bench, &Options::default());
    let path = slow.file().to_str().expect("our own path").to_owned();
    let mut work = Work::start(["touch", &path, "--threads=4", "--touches=250", "--verify"]);
    let tracer = Tracer::of(work.pid());
    let done = work.run();
    let trace = tracer.stop();
    trace.check_nothing_lost();

    let faults = trace.faults(work.pid());
    let mut by_place = ByPlace::new();
    for fault in &faults {
        if fault.facts.path.as_deref() == Some(&path) {
            let offset = fault.facts.offset.expect("a fault on a file has an offset");
            let key = (fault.facts.tid, offset);
            by_place.entry(key).or_default().push(fault);
        }
    }
    assert_eq!(done.threads.len(), 4);
    for worker in &done.threads {
        check_worker(&trace, worker, &mut by_place);
    }
    assert!(by_place.is_empty(), "nobody made these: {by_place:?}");
    let summary = trace.summary(work.pid());
    assert_eq!(Some(summary.majors), summary.maj_flt_delta);
    assert_eq!(summary.faults, faults.len() as u64, "as many as reported");
    work.exit();
}

/// Each of its touches is one fault, and their times add up to its own clock's.
fn check_worker(trace: &Trace, worker: &Worker, by_place: &mut ByPlace) {
    assert_eq!(worker.touches.len(), 250);
    let (mut blocked_ns, mut slept) = (0, 0);
    for touch in &worker.touches {
        let key = (worker.tid, touch.offset);
        let found = by_place.remove(&key).unwrap_or_default();
        let [fault] = found[..] else {
            trace.fail(&format!("{}, {touch:?}: {}", worker.name, found.len()));
        };
        check_fault(fault, worker, touch);
        blocked_ns += fault.blocked_ns;
        slept += usize::from(fault.blocked_ns > 0);
    }
    // Where a fault is preempted for longer than the file takes, there is nothing left to wait for.
    trace.check(slept * 10 >= worker.touches.len() * 9, || {
        format!("{}: {slept} of its faults slept", worker.name)
    });
    // The time it did not run, by its own clocks, less what it waited for a CPU: it slept.
    let (name, own_ns) = (&worker.name, worker.lost_ns - worker.queued_ns);
    eprintln!("{name}: blocked {blocked_ns} ns, own clock {own_ns} ns");
    trace.check(blocked_ns.abs_diff(own_ns) * 50 <= own_ns, || {
        format!("{name}: blocked {blocked_ns} ns, own clock {own_ns} ns")
    });
}

fn check_fault(fault: &Fault, worker: &Worker, touch: &Touch) {
    let facts = &fault.facts;
    assert_eq!(facts.thread, worker.name, "the thread's name");
    let cause = if fault.blocked_ns > 0 { "fuse" } else { "" };
    assert_eq!((&*facts.mode, facts.cause()), ("user", cause), "{fault:#?}");
    assert_eq!(facts.access.as_deref(), Some("read"), "{fault:?}");
    assert!(fault.major, "nobody else read this page: {fault:?}");
    assert!(
        fault.duration_ns <= touch.elapsed_ns(),
        "{fault:?} in {touch:?}"
    );
    fault.check_parts();
}

/// On some kernels an idle CPU now and then takes up a thread without any tracepoint telling. When such a
/// thread comes to the file's fault handler again, that is not the beginning of another fault.
#[test]
fn a_retry_is_no_second_fault() {
    const ROUNDS: usize = 6;
    let bench = start();
    let options = Options {
        delay_us: 3_000,
        pages: RETRIED.0 * RETRIED.1,
        ..Options::default()
    };
    let slow = SlowFs::mount(&bench, &options);
    // As it happens by chance: until it was seen in both ways.
    for how in ["--copy", "--verify"] {
        let seen = (0..ROUNDS).any(|_| touched_once(&slow, how));
        eprintln!("{how}: a switch-in was unseen: {seen}");
    }
}

/// Threads that touch pages, and how many pages each.
const RETRIED: (usize, usize) = (2, 1_500);

/// Each touch is one fault. Whether a CPU took up a thread without a word meanwhile.
fn touched_once(slow: &SlowFs, how: &str) -> bool {
    let path = slow.file().to_str().expect("our own path").to_owned();
    let threads = format!("--threads={}", RETRIED.0);
    let touches = format!("--touches={}", RETRIED.1);
    evict(slow.file());
    let mut work = Work::start(["touch", &path, &threads, &touches, how]);
    let pid = work.pid();
    let tracer = Tracer::of(pid);
    let done = work.run();
    let trace = tracer.stop();
    work.exit();
    trace.check_nothing_lost();
    let touched = done.threads.iter().flat_map(|worker| &worker.touches);
    let mut faults: HashMap<u64, usize> = touched.map(|touch| (touch.offset, 0)).collect();
    assert_eq!(faults.len(), RETRIED.0 * RETRIED.1);
    for fault in trace.faults(pid) {
        if fault.facts.path.as_deref() == Some(&path) {
            let offset = fault.facts.offset.expect("of a file");
            *faults.entry(offset).or_default() += 1;
        }
    }
    faults.retain(|_, count| *count != 1);
    trace.check(faults.is_empty(), || {
        format!("{how}: faults of pages touched once: {faults:?}")
    });
    assert_eq!(trace.summary(pid).maj_flt_remainder, Some(0));
    let unseen = |record: &Record| matches!(record, Record::Lost(lost) if lost.reason == "switches_unseen" && lost.count > 0);
    trace.records.iter().any(unseen)
}
