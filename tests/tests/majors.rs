//! The count of majors is the kernel's, exactly, and what the tracer cannot see is a number.

use faulttrace_tests::harness::disk::{create, evict};
use faulttrace_tests::harness::record::Fault;
use faulttrace_tests::harness::tracer::{Tracer, launch_text};
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::harness::{Bench, emulated, start};
use faulttrace_tests::truth::maj_flt;

/// Runs, and pages in each: more than 50,000.
const FULL: (u64, usize) = (5, 53_248);
const EMULATED: (u64, usize) = (2, 8_192);

#[test]
fn majors_equal_maj_flt_in_five_runs_in_a_row() {
    let bench = start();
    let (runs, pages) = if emulated() { EMULATED } else { FULL };
    let file = bench.path().join("data");
    create(&file, pages);
    for run in 1..=runs {
        let mut work = Work::start(["churn".as_ref(), file.as_os_str()]);
        evict(&file);
        let before = maj_flt(work.pid()).expect("readable");
        let tracer = Tracer::of_with(work.pid(), &["--no-symbols"]);
        let done = work.run();
        let after = maj_flt(work.pid()).expect("readable");
        let trace = tracer.stop();
        let truth = after - before;
        assert!(
            done.stat_majors >= pages as u64 * 15 / 16,
            "the workload took {} majors",
            done.stat_majors
        );
        let threads = done.figures["threads_created"];
        assert!(threads >= pages as u64 / 64, "{:?}", done.figures);
        trace.check_nothing_lost();

        let reported = trace
            .faults(work.pid())
            .iter()
            .filter(|fault| fault.major)
            .count() as u64;
        let summary = trace.summary(work.pid());
        eprintln!(
            "run {run}: maj_flt {truth}, reported {reported}, {} ns",
            done.wall_ns
        );
        trace.check(reported == truth, || {
            format!("run {run}: {reported} of {truth} reported")
        });
        assert_eq!(summary.majors, truth, "run {run}: majors in the summary");
        assert_eq!(
            summary.maj_flt_delta,
            Some(truth),
            "run {run}: maj_flt in the summary"
        );
        assert_eq!(summary.maj_flt_remainder, Some(0), "run {run}");
        work.exit();
    }
}

/// Majors that end while a tracer attaches or detaches are in no account of it.
#[test]
fn no_more_majors_are_reported_than_were_counted_meanwhile() {
    let bench = start();
    let file = bench.path().join("data");
    create(&file, 16_384);
    let mut work = Work::start(["paced".as_ref(), file.as_os_str(), "--rate=4000".as_ref()]);
    evict(&file);
    work.go();
    let mut majors = 0;
    for round in 0..10 {
        let trace = Tracer::of_with(work.pid(), &["--no-symbols"]).stop();
        let summary = trace.summary(work.pid());
        let remainder = summary.maj_flt_remainder.expect("the kernel's count");
        eprintln!("{round}: {} majors, remainder {remainder}", summary.majors);
        trace.check(remainder >= 0, || {
            let told: Vec<_> = trace
                .faults(work.pid())
                .iter()
                .map(|one| in_short(one))
                .collect();
            format!("{round}: {summary:?}\n{}", told.join("\n"))
        });
        majors += summary.majors;
    }
    assert!(majors > 0, "nothing went on meanwhile");
    work.say("stop");
    work.done();
    work.exit();
}

/// What tells a fault from others, and how it was told.
fn in_short(fault: &Fault) -> String {
    let facts = &fault.facts;
    format!(
        "{} {:?} to {}: {} {:?} {} before {} approximate {} switches {}",
        facts.tid,
        facts.time_ns,
        fault.end_ns,
        facts.mode,
        facts.address,
        fault.end,
        facts.began_before_attach,
        facts.begin_approximate,
        fault.switches
    )
}

fn gup_workload(bench: &Bench) -> Work {
    let (file, source) = (bench.path().join("data"), bench.path().join("source"));
    create(&file, 512);
    create(&source, 512);
    let work = Work::start(["gup".as_ref(), file.as_os_str(), source.as_os_str()]);
    evict(&file);
    work
}

#[test]
fn faults_without_an_exception_are_a_remainder_or_reported_as_gup() {
    let bench = start();
    let mut work = gup_workload(&bench);
    let tracer = Tracer::of(work.pid());
    let done = work.run();
    let trace = tracer.stop();
    let summary = trace.summary(work.pid());
    assert_eq!(done.stat_majors, 512, "the workload");
    assert_eq!(
        summary.maj_flt_delta,
        Some(done.stat_majors),
        "maj_flt in the summary"
    );
    let delta = i64::try_from(done.stat_majors).expect("small");
    let majors = i64::try_from(summary.majors).expect("small");
    assert_eq!(
        summary.maj_flt_remainder,
        Some(delta - majors),
        "{summary:?}"
    );
    // They read from a disk, so most of them slept, and where they slept the stack shows them.
    let faults = trace.faults(work.pid());
    let gup: Vec<_> = faults
        .iter()
        .filter(|fault| fault.facts.mode == "gup")
        .collect();
    trace.check(!gup.is_empty(), || {
        format!("no fault of mode gup among {}", faults.len())
    });
    for name in ["madvise", "pread64"] {
        let named = gup
            .iter()
            .any(|fault| fault.facts.syscall.as_deref() == Some(name));
        trace.check(named, || {
            format!("no gup fault in {name}: {:?}", gup.first())
        });
    }
    work.exit();
}

#[test]
fn the_text_explains_the_remainder() {
    let bench = start();
    let (file, source) = (bench.path().join("data"), bench.path().join("source"));
    create(&file, 512);
    create(&source, 512);
    let arguments = ["gup".as_ref(), file.as_os_str(), source.as_os_str()];
    let ended = launch_text(&["--no-symbols"], &arguments, || evict(&file));
    // Each such fault that slept is reported and says what it is; what is left is explained.
    let reported = ended.stdout.contains("without an exception (gup)");
    let explained = ended.stdout.contains("get_user_pages")
        || ended
            .stdout
            .contains("Every major fault that the kernel counted is accounted for");
    assert!(
        reported && explained && ended.code == Some(0),
        "the remainder is explained in:\n{ended:#?}"
    );
}
