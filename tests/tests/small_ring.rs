//! A ring that is far too small loses events, counts them, says so, and costs the target nothing.

use faulttrace_tests::harness::disk::{create, evict};
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::tracer::{Trace, Tracer};
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::truth::Done;
use nix::sys::signal::Signal;
use std::path::Path;

const PAGES: usize = 16_384;

/// The tracer is stopped while the workload runs, so that nothing is taken out of the ring: the
/// loss is certain however fast the machine is.
fn run_with_stopped_tracer(file: &Path, options: &[&str]) -> (Done, Trace, u32) {
    let mut work = Work::start(["churn".as_ref(), file.as_os_str()]);
    evict(file);
    let tracer = Tracer::of_with(work.pid(), &[&["--no-symbols"], options].concat());
    tracer.signal(Signal::SIGSTOP);
    let done = work.run();
    tracer.signal(Signal::SIGCONT);
    let trace = tracer.stop();
    let pid = work.pid();
    work.exit();
    (done, trace, pid)
}

#[test]
fn losses_add_up_and_are_shown() {
    let bench = start();
    let file = bench.path().join("data");
    create(&file, PAGES);
    let (done, trace, pid) = run_with_stopped_tracer(&file, &["--ring-size", "4K", "--strict"]);
    let summary = trace.summary(pid);
    let [emitted, received, lost] = trace.event_counts();
    eprintln!("emitted {emitted}, received {received}, lost {lost}");
    assert_eq!(emitted, received + lost, "received + lost = emitted");
    trace.check(lost > 0, || "a ring of 4 KiB lost nothing".to_owned());
    assert!(trace.lost("lost") > 0, "the loss has records of its own");
    assert!(
        summary.lost.values().sum::<u64>() > 0,
        "and is in the summary: {summary:?}"
    );
    trace.check(trace.code == Some(4), || {
        format!("--strict and losses: code {:?}", trace.code)
    });
    // What the kernel counted is known all the same, and nothing is reported twice.
    assert_eq!(summary.maj_flt_delta, Some(done.stat_majors));
    assert!(summary.majors < done.stat_majors, "{summary:?}");
}

#[test]
fn losses_without_strict_are_no_failure() {
    let bench = start();
    let file = bench.path().join("data");
    create(&file, 2048);
    let (_, trace, _) = run_with_stopped_tracer(&file, &["--ring-size", "4K"]);
    assert!(trace.lost("lost") > 0);
    assert_eq!(trace.code, Some(0));
}

#[test]
fn a_full_ring_does_not_slow_the_target() {
    let bench = start();
    let file = bench.path().join("data");
    create(&file, PAGES);
    let emptied = || {
        let mut work = Work::start(["churn".as_ref(), file.as_os_str()]);
        evict(&file);
        let tracer = Tracer::of_with(work.pid(), &["--no-symbols"]);
        let done = work.run();
        tracer.stop().check_nothing_lost();
        work.exit();
        done.wall_ns
    };
    // The disk's speed varies: interleaved runs, and the best of each kind is compared. What tracing
    // costs while there is room is for the benchmarks to say.
    let mut best = [u64::MAX; 2];
    for _ in 0..4 {
        best[0] = best[0].min(emptied());
        let (done, trace, _) = run_with_stopped_tracer(&file, &["--ring-size", "4K"]);
        // Without a loss there was no full ring to be slowed by.
        assert!(trace.lost("lost") > 0, "a ring of 4 KiB lost nothing");
        best[1] = best[1].min(done.wall_ns);
    }
    eprintln!("emptied {} ns, with a full ring {} ns", best[0], best[1]);
    assert!(
        best[1] * 10 <= best[0] * 13,
        "more than 30 % slower: {best:?}"
    );
}
