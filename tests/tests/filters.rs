//! Filters work in the kernel and count what they hold back.

use faulttrace_tests::harness::disk::{LoopDisk, create, evict};
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::tracer::Tracer;
use faulttrace_tests::harness::work::Work;

#[test]
fn min_duration_reports_the_slow_ones_and_counts_the_others() {
    let bench = start();
    // Every fourth page takes 40 ms, the others 1 ms.
    let options = Options {
        delay_us: 1_000,
        every: 4,
        every_us: 40_000,
        ..Options::default()
    };
    let slow = SlowFs::mount(&bench, &options);
    let path = slow.file().to_str().expect("our own path").to_owned();
    let mut work = Work::start(["touch", &path, "--touches=100"]);
    let tracer = Tracer::of_with(work.pid(), &["--min-duration", "20ms"]);
    let done = work.run();
    let trace = tracer.stop();
    let (long, short): (Vec<_>, Vec<_>) = done.threads[0]
        .touches
        .iter()
        .partition(|touch| touch.elapsed_ns() >= 20_000_000);
    let faults = trace.faults(work.pid());
    let mut reported: Vec<_> = faults
        .iter()
        .filter_map(|fault| fault.facts.offset)
        .collect();
    reported.sort_unstable();
    let expected: Vec<_> = long.iter().map(|touch| touch.offset).collect();
    assert_eq!(reported, expected, "those of 20 ms and more");
    assert!(faults.iter().all(|fault| fault.duration_ns >= 20_000_000));
    let filtered = trace.lost("filtered");
    trace.check(filtered >= short.len() as u64, || {
        format!("{} were held back, {filtered} counted", short.len())
    });
    let summary = trace.summary(work.pid());
    assert_eq!(summary.maj_flt_delta, Some(done.stat_majors));
    assert_eq!(
        summary.maj_flt_remainder,
        Some(0),
        "filtered majors are accounted for"
    );
    trace.check_nothing_lost();
    work.exit();
}

#[test]
fn major_only_holds_back_the_minors() {
    let bench = start();
    let disk = LoopDisk::new(&bench, 64, 16);
    let file = disk.path().join("data");
    create(&file, 8192);
    let path = file.to_str().expect("our own path");
    let mut work = Work::start(["touch", path, "--touches=8192", "--sequential"]);
    evict(&file);
    let tracer = Tracer::of_with(work.pid(), &["--major-only"]);
    let done = work.run();
    let trace = tracer.stop();
    let faults = trace.faults(work.pid());
    assert!(
        faults.iter().all(|fault| fault.major),
        "a minor in spite of --major-only"
    );
    assert_eq!(faults.len() as u64, done.stat_majors, "all majors");
    assert!(
        trace.lost("filtered") > 100,
        "the blocking minors are counted"
    );
    trace.check_nothing_lost();
    work.exit();
}

#[test]
fn major_only_tells_the_end_of_a_minor_that_was_shown_as_stuck() {
    let _bench = start();
    let mut work = Work::start(["userfaultfd", "--pages=2", "--delay-ms=400"]);
    let options = ["--major-only", "--stuck-after=50ms"];
    let tracer = Tracer::of_with(work.pid(), &options);
    let done = work.run();
    let trace = tracer.stop();
    let stuck = trace.stuck(work.pid());
    assert!(stuck.len() >= 2, "each was shown: {stuck:?}");
    let faults = trace.faults(work.pid());
    assert_eq!(faults.len(), 2, "the ends of those");
    let touched_ns: u64 = done.threads.iter().map(|thread| thread.touch_ns).sum();
    let told_ns: u64 = faults.iter().map(|fault| fault.duration_ns).sum();
    assert!(
        told_ns <= touched_ns && told_ns >= touched_ns / 10 * 9,
        "{told_ns} ns of {touched_ns} ns"
    );
    let left = trace.summary(work.pid()).still_stuck.len();
    assert_eq!(left, 0, "nobody is stuck any more");
    work.exit();
}
