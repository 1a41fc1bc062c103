//! What is no fault, or no wait, is not reported as one.

use faulttrace_tests::harness::slow::SlowFs;
use faulttrace_tests::harness::tracer::Tracer;
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::harness::{emulated, start};

#[test]
fn blocking_in_system_calls_after_minor_faults_is_no_fault() {
    let _bench = start();
    let mut work = Work::start(["quiet"]);
    let tracer = Tracer::of(work.pid());
    let done = work.run();
    let trace = tracer.stop();
    let faults = trace.faults(work.pid());
    trace.check(faults.is_empty(), || {
        format!(
            "{} faults of a process without any, the first: {:#?}",
            faults.len(),
            faults[0]
        )
    });
    assert!(trace.stuck(work.pid()).is_empty());
    let summary = trace.summary(work.pid());
    assert_eq!((summary.faults, summary.blocked_ns), (0, 0));
    assert_eq!(summary.maj_flt_delta, Some(done.stat_majors));
    trace.check_nothing_lost();
    work.exit();
}

#[test]
fn preempted_minor_faults_are_no_blocking_faults() {
    let _bench = start();
    // Among so many, some are preempted. An emulated machine has one CPU for all, the tracer included.
    let [rounds, spinners] = if emulated() {
        ["--rounds=3", "--spinners=1"]
    } else {
        ["--rounds=80", "--spinners=4"]
    };
    let mut work = Work::start(["storm", rounds, spinners]);
    let tracer = Tracer::of(work.pid());
    work.run();
    let trace = tracer.stop();
    let faults = trace.faults(work.pid());
    trace.check(faults.is_empty(), || {
        format!(
            "{} faults of a storm that never sleeps: {:#?}",
            faults.len(),
            faults[0]
        )
    });
    let summary = trace.summary(work.pid());
    assert_eq!((summary.faults, summary.blocked_ns), (0, 0));
    work.exit();
}

#[test]
fn waiting_for_the_cpu_is_run_queue_and_not_blocked() {
    let bench = start();
    let mut slow = SlowFs::with_delay(&bench, 3_000);
    let path = slow.file().to_str().expect("our own path").to_owned();
    let mut hog = Work::start(["hog", "--cpu=0"]);
    hog.go();
    let mut work = Work::start(["touch", &path, "--touches=100", "--cpu=0"]);
    let tracer = Tracer::of(work.pid());
    let done = work.run();
    let trace = tracer.stop();
    hog.done();
    hog.exit();
    let faults = trace.faults(work.pid());
    let of_file: Vec<_> = faults
        .iter()
        .filter(|fault| fault.facts.path.as_deref() == Some(&path))
        .collect();
    assert_eq!(of_file.len(), 100, "all touches");
    of_file.iter().for_each(|fault| fault.check_parts());
    let blocked_ns: u64 = of_file.iter().map(|fault| fault.blocked_ns).sum();
    let runqueue_ns: u64 = of_file.iter().map(|fault| fault.runqueue_ns).sum();
    // The server's own log says how long the file made it wait, the kernel how long the CPU did.
    let log = slow.log();
    let served_ns: u64 = log.iter().map(|read| read.end_ns - read.begin_ns).sum();
    let queued_ns = done.threads[0].queued_ns;
    eprintln!("served {served_ns}, blocked {blocked_ns}, queued {queued_ns}, queue {runqueue_ns}");
    assert!(
        queued_ns >= 100 * 500_000,
        "the hog took the CPU: {queued_ns} ns"
    );
    trace.check(
        runqueue_ns * 10 >= queued_ns * 8 && runqueue_ns * 10 <= queued_ns * 11,
        || format!("run queue {runqueue_ns} ns, but {queued_ns} ns were waited for the CPU"),
    );
    trace.check(
        blocked_ns >= served_ns && blocked_ns * 2 <= served_ns * 3,
        || format!("blocked {blocked_ns} ns, but the file took {served_ns} ns"),
    );
    work.exit();
}

#[test]
fn sleeps_between_faults_are_not_counted_into_them() {
    let bench = start();
    let slow = SlowFs::with_delay(&bench, 2_000);
    let path = slow.file().to_str().expect("our own path").to_owned();
    let mut work = Work::start(["alternate", &path, "--touches=100", "--sleep-ms=10"]);
    let tracer = Tracer::of(work.pid());
    let done = work.run();
    let trace = tracer.stop();
    let faults = trace.faults(work.pid());
    for touch in &done.threads[0].touches {
        let here: Vec<_> = faults
            .iter()
            .filter(|fault| fault.facts.offset == Some(touch.offset))
            .collect();
        let [fault] = here[..] else {
            trace.fail(&format!("{touch:?}: one fault, not {here:#?}"));
        };
        assert!(
            fault.duration_ns <= touch.elapsed_ns(),
            "{fault:?} in {touch:?}"
        );
    }
    assert_eq!(faults.len(), 100, "nothing but the touches");
    work.exit();
}
