//! Every fault once, with its thread, file, offset and time: 1,000 cold touches of a file system
//! whose delay is known.

use std::collections::HashMap;

use faulttrace_tests::harness::record::Fault;
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::tracer::Tracer;
use faulttrace_tests::harness::work::Work;

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
    let mut by_place: HashMap<(u32, u64), Vec<&Fault>> = HashMap::new();
    for fault in faults
        .iter()
        .filter(|fault| fault.facts.path.as_deref() == Some(&path))
    {
        let offset = fault.facts.offset.expect("a fault on a file has an offset");
        by_place
            .entry((fault.facts.tid, offset))
            .or_default()
            .push(fault);
    }
    let mut expected = 0;
    for worker in &done.threads {
        let mut blocked_ns = 0;
        for touch in &worker.touches {
            let found = by_place
                .remove(&(worker.tid, touch.offset))
                .unwrap_or_default();
            let [fault] = found[..] else {
                trace.fail(&format!(
                    "{}, {touch:?}: {} faults",
                    worker.name,
                    found.len()
                ));
            };
            assert_eq!(fault.facts.thread, worker.name, "the thread's name");
            assert_eq!(
                (fault.facts.mode.as_str(), fault.facts.cause()),
                ("user", "fuse")
            );
            assert_eq!(fault.facts.access.as_deref(), Some("read"), "{fault:?}");
            assert!(fault.major, "nobody else read this page: {fault:?}");
            assert!(
                fault.duration_ns <= touch.elapsed_ns(),
                "{fault:?} in {touch:?}"
            );
            fault.check_parts();
            blocked_ns += fault.blocked_ns;
            expected += 1;
        }
        let apart = blocked_ns.abs_diff(worker.touch_ns);
        trace.check(apart * 50 <= worker.touch_ns, || {
            format!(
                "{}: blocked {blocked_ns} ns, own clock {} ns",
                worker.name, worker.touch_ns
            )
        });
        eprintln!(
            "{}: blocked {blocked_ns} ns of {} ns",
            worker.name, worker.touch_ns
        );
    }
    assert_eq!(expected, 1000);
    assert!(
        by_place.is_empty(),
        "faults of the file nobody made: {by_place:?}"
    );
    let summary = trace.summary(work.pid());
    assert_eq!(
        summary.majors,
        summary.maj_flt_delta.expect("readable"),
        "majors as the kernel's"
    );
    assert_eq!(
        summary.faults,
        faults.len() as u64,
        "the summary counts what was reported"
    );
    work.exit();
}
