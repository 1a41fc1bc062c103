//! Faults that the kernel takes on user memory, inside system calls.

use faulttrace_tests::harness::disk::create;
use faulttrace_tests::harness::slow::SlowFs;
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::tracer::Tracer;
use faulttrace_tests::harness::work::Work;

#[test]
fn faults_in_system_calls_are_reported_with_their_name() {
    let bench = start();
    let slow = SlowFs::with_delay(&bench, 5_000);
    let (source, sink) = (bench.path().join("source"), bench.path().join("sink"));
    create(&source, 64);
    let arguments = [slow.file_arg(), source.as_os_str(), sink.as_os_str()];
    let mut work = Work::start([&["kernel-mode".as_ref()], &arguments[..]].concat());
    let tracer = Tracer::of(work.pid());
    let begins = tracer.start.rungs["kernel_fault_begins"].clone();
    let done = work.run();
    let trace = tracer.stop();
    trace.check_nothing_lost();
    let path = slow.file().to_str().expect("our own path");
    let faults = trace.faults(work.pid());
    let of_file: Vec<_> = faults
        .iter()
        .filter(|fault| fault.facts.path.as_deref() == Some(path))
        .collect();
    for call in &done.threads[0].touches {
        let at_page = of_file
            .iter()
            .filter(|fault| fault.facts.offset == Some(call.offset));
        // A write fault of a private page may be two: the page is read, then copied. Only one
        // had to wait.
        let waited: Vec<_> = at_page.filter(|fault| fault.blocked_ns > 0).collect();
        let [fault] = waited[..] else {
            trace.fail(&format!("{call:?}: one fault that waited, not {waited:#?}"));
        };
        assert_eq!(fault.facts.mode, "kernel", "{fault:?}");
        assert_eq!(
            fault.facts.syscall.as_deref(),
            Some(&*call.syscall),
            "{fault:?}"
        );
        let reads = call.syscall.contains("read");
        let access = if reads { "write" } else { "read" };
        // The event that takes the tracepoint's place does not tell it (outside x86).
        let access = (begins != "perf_event").then_some(access);
        assert_eq!(fault.facts.access.as_deref(), access, "{fault:?}");
        assert!(fault.major && fault.facts.cause() == "fuse", "{fault:?}");
        assert!(
            fault.duration_ns <= call.elapsed_ns(),
            "{fault:?} in {call:?}"
        );
        fault.check_parts();
        let functions = fault.facts.functions();
        // The C library's wrapper keeps no frame pointer, so its caller's frame is skipped; those
        // further out are there.
        let outermost = functions.iter().any(|name| name.contains("lang_start"));
        assert!(outermost, "the callers in the user stack: {functions:?}");
    }
    let summary = trace.summary(work.pid());
    assert_eq!(
        (summary.majors, summary.maj_flt_remainder),
        (done.stat_majors, Some(0))
    );
    work.exit();
}
