//! A sequential touch with readahead: hardly a major, thousands of minors that sleep, and all the
//! time they cost is reported.

use faulttrace_tests::harness::disk::{LoopDisk, create, evict};
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::tracer::Tracer;
use faulttrace_tests::harness::work::Work;

const PAGES: usize = 32_768;

#[test]
fn the_time_lost_to_readahead_is_reported() {
    let bench = start();
    let disk = LoopDisk::new(&bench, 160, 16);
    let file = disk.path().join("data");
    create(&file, PAGES);
    let path = file.to_str().expect("our own path");
    let touches = format!("--touches={PAGES}");
    let mut work = Work::start(["touch", path, &touches, "--sequential"]);
    evict(&file);
    let tracer = Tracer::of_with(work.pid(), &["--no-symbols"]);
    let done = work.run();
    let trace = tracer.stop();
    trace.check_nothing_lost();

    // By the workload's own clocks: the time in which it did not run, less that in which it could
    // have (it is preempted outside faults as well).
    let lost_ns = done.threads[0].lost_ns - done.threads[0].queued_ns;
    let faults = trace.faults(work.pid());
    // What lies between being woken and being queued counts as run queue here, in the kernel's
    // count as neither.
    let reported_ns: u64 = faults
        .iter()
        .map(|fault| fault.blocked_ns + fault.runqueue_ns)
        .sum();
    let minors = faults
        .iter()
        .filter(|fault| !fault.major && fault.blocked_ns > 0)
        .count();
    eprintln!("lost {lost_ns} ns, reported {reported_ns} ns, {minors} blocking minors");

    trace.check(minors >= 1000, || {
        format!("{minors} blocking minors, not thousands")
    });
    assert!(
        done.stat_majors * 10 < minors as u64,
        "few majors: {}",
        done.stat_majors
    );
    trace.check(reported_ns * 100 >= lost_ns * 97, || {
        format!("reported {reported_ns} ns, less than 97 % of {lost_ns} ns")
    });
    // Nor more than there was: all the time in which it did not run, and some µs for each sleep that
    // lie between the kernel's clocks and ours.
    let off_cpu_ns = done.threads[0].lost_ns;
    trace.check(reported_ns * 100 <= off_cpu_ns * 115, || {
        format!("reported {reported_ns} ns, but it was off the CPU for {off_cpu_ns} ns")
    });
    for fault in &faults {
        fault.check_parts();
        let cause = fault.facts.cause();
        let read = ["file_read", "read_wait", "file_wait"].contains(&cause);
        assert!(
            fault.blocked_ns == 0 || read,
            "a wait for a read: {fault:?}"
        );
    }
    let summary = trace.summary(work.pid());
    assert_eq!(
        (summary.majors, summary.maj_flt_remainder),
        (done.stat_majors, Some(0))
    );
    work.exit();
}
