//! `--light`: no program sees each fault begin, and what is reported is true all the same.

use faulttrace_tests::harness::disk::{LoopDisk, create, evict};
use faulttrace_tests::harness::slow::SlowFs;
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::tracer::{Trace, Tracer};
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::truth::Done;

const LIGHT: [&str; 1] = ["--light"];

/// Faults whose beginning was not seen, as counted.
fn begins_unseen(trace: &Trace, pid: u32) -> u64 {
    let lost = &trace.summary(pid).lost;
    lost.get("begins_unseen").copied().unwrap_or(0)
}

/// Faults that were asleep, in percent of the time that the touches took by their own clock.
fn percent(trace: &Trace, pid: u32, done: &Done) -> u64 {
    let faults = trace.faults(pid);
    let blocking = faults.iter().filter(|fault| fault.blocked_ns > 0);
    let reported_ns: u64 = blocking.map(|fault| fault.duration_ns).sum();
    let own_ns: u64 = done.threads.iter().map(|thread| thread.touch_ns).sum();
    reported_ns * 100 / own_ns
}

#[test]
fn faults_on_a_file_are_whole() {
    let bench = start();
    let slow = SlowFs::with_delay(&bench, 5_000);
    let file = slow.file().to_str().expect("our own path").to_owned();
    let mut work = Work::start(["touch", &file, "--threads=2", "--touches=50"]);
    let tracer = Tracer::of_with(work.pid(), &LIGHT);
    assert_eq!(tracer.start.rungs["user_fault_begins"], "inferred");
    let done = work.run();
    let trace = tracer.stop();
    let faults = trace.faults(work.pid());
    assert_eq!((faults.len(), done.stat_majors), (100, 100));
    assert_eq!(trace.summary(work.pid()).maj_flt_remainder, Some(0));
    for touch in done.threads.iter().flat_map(|thread| &thread.touches) {
        let fault = faults
            .iter()
            .find(|fault| fault.facts.offset == Some(touch.offset))
            .expect("its fault");
        assert!(fault.major && fault.facts.mode == "user", "{fault:?}");
        assert_eq!(fault.facts.access.as_deref(), Some("read"));
        assert!(fault.facts.address.is_some(), "{fault:?}");
        fault.check_parts();
    }
    let part = percent(&trace, work.pid(), &done);
    assert!(
        (97..=100).contains(&part),
        "{part} % of the touches' own time"
    );
    assert_eq!(begins_unseen(&trace, work.pid()), 0);
    let faults = trace.faults(work.pid());
    assert!(faults.iter().all(|fault| !fault.facts.begin_approximate));
    work.exit();
}

#[test]
fn other_faults_have_an_address_and_are_counted_as_begun_unseen() {
    let _bench = start();
    let mut work = Work::start(["userfaultfd", "--pages=50", "--delay-ms=10"]);
    let tracer = Tracer::of_with(work.pid(), &LIGHT);
    let done = work.run();
    let trace = tracer.stop();
    let faults = trace.faults(work.pid());
    let waits: Vec<_> = faults
        .iter()
        .filter(|fault| fault.facts.cause() == "userfaultfd")
        .collect();
    assert_eq!(waits.len(), 50);
    assert!(
        waits
            .iter()
            .all(|fault| fault.facts.address.is_some() && !fault.major)
    );
    assert!(waits.iter().all(|fault| fault.facts.begin_approximate));
    let marked = faults
        .iter()
        .filter(|fault| fault.facts.begin_approximate)
        .count() as u64;
    let unseen = begins_unseen(&trace, work.pid());
    // What is still in a fault at the end is counted and not told.
    assert!(
        (marked..=marked + 1).contains(&unseen),
        "{marked} marked, {unseen} counted"
    );
    let part = percent(&trace, work.pid(), &done);
    assert!(
        (95..=100).contains(&part),
        "{part} % of the touches' own time"
    );
    work.exit();
}

#[test]
fn majors_that_need_not_sleep_are_all_there() {
    let bench = start();
    let disk = LoopDisk::new(&bench, 64, 16);
    let file = disk.path().join("data");
    create(&file, 4096);
    let path = file.to_str().expect("our own path");
    let mut work = Work::start(["touch", path, "--threads=2", "--touches=1000"]);
    evict(&file);
    let tracer = Tracer::of_with(work.pid(), &LIGHT);
    let done = work.run();
    let trace = tracer.stop();
    let faults = trace.faults(work.pid());
    let majors: Vec<_> = faults.iter().filter(|fault| fault.major).collect();
    assert_eq!(majors.len() as u64, done.stat_majors);
    assert_eq!(trace.summary(work.pid()).maj_flt_remainder, Some(0));
    // None takes over the beginning of another: each is as long as its own touch at the most.
    for touch in done.threads.iter().flat_map(|thread| &thread.touches) {
        let longest = faults
            .iter()
            .filter(|fault| fault.facts.offset == Some(touch.offset))
            .map(|fault| fault.duration_ns)
            .max();
        assert!(
            longest.is_none_or(|ns| ns <= touch.end_ns - touch.begin_ns),
            "{longest:?} ns of {touch:?}"
        );
    }
    work.exit();
}
