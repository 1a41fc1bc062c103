//! Each rung of the ladder, forced: the same workloads are told the same way from whichever kernel
//! feature, and what cannot be had here is refused with a reason. What can be is asked of `doctor`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use faulttrace_tests::harness::disk::{create, evict};
use faulttrace_tests::harness::record::{Facts, Fault, Record};
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::tracer::{Trace, Tracer, run_to_end};
use faulttrace_tests::harness::work::{self, Work};
use faulttrace_tests::harness::{Bench, SOON, emulated, start};
use faulttrace_tests::truth::Done;

/// Keeps glibc from registering rseq, without which `rseq_update` tells nothing of a thread.
const NO_RSEQ: (&str, &str) = ("GLIBC_TUNABLES", "glibc.pthread.rseq=0");
const TOUCHES: u64 = 100;

/// The rung of each job, as `doctor` tells it.
fn jobs() -> BTreeMap<String, String> {
    #[derive(serde::Deserialize)]
    struct Job {
        job: String,
        rung: String,
    }
    #[derive(serde::Deserialize)]
    struct Doctor {
        jobs: Vec<Job>,
    }
    let ended = run_to_end(["doctor", "--format", "json"]);
    let doctor: Doctor =
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:#?}"));
    let named = doctor.jobs.into_iter().map(|job| (job.job, job.rung));
    named.collect()
}

/// Cold touches of a slow file system by two threads, seen with these rungs.
fn touches(bench: &Bench, rungs: &str) -> (Done, BTreeMap<String, String>) {
    let options = Options {
        delay_us: 5_000,
        ..Options::default()
    };
    let mount = bench.subdirectory(&format!("slow-{rungs}"));
    let slow = SlowFs::mount_in(mount, &options);
    let path = slow.file().to_str().expect("our own path").to_owned();
    let mut work = Work::start(["touch", &path, "--threads=2", "--touches=50", "--verify"]);
    let tracer = Tracer::of_with(work.pid(), &["--no-symbols", "--probe-rung", rungs]);
    let taken = tracer.start.rungs.clone();
    let done = work.run();
    let trace = tracer.stop();
    trace.check_nothing_lost();
    let summary = trace.summary(work.pid());
    assert_eq!(
        (summary.majors, summary.maj_flt_remainder),
        (done.stat_majors, Some(0)),
        "{rungs}: majors"
    );
    check_touches(&trace, &done, &path);
    work.exit();
    (done, taken)
}

/// Each touch is one major fault of that page, within its time.
fn check_touches(trace: &Trace, done: &Done, path: &str) {
    let faults = trace.faults(done.pid);
    for touch in done.threads.iter().flat_map(|thread| &thread.touches) {
        let of_page = faults.iter().filter(|fault| {
            fault.facts.path.as_deref() == Some(path) && fault.facts.offset == Some(touch.offset)
        });
        let of_page: Vec<_> = of_page.collect();
        let [fault] = of_page[..] else {
            trace.fail(&format!("{touch:?} was {} faults", of_page.len()));
        };
        fault.check_parts();
        let inside = fault.duration_ns <= touch.elapsed_ns() && fault.blocked_ns > 0;
        assert!(fault.major && inside, "{fault:?} in {touch:?}");
    }
}

#[test]
fn typed_and_raw_tracepoints_and_the_memory_map_tell_the_same() {
    let bench = start();
    let jobs = jobs();
    for (asked, rung) in [("typed", "tp_btf"), ("raw", "raw_tracepoint")] {
        let (done, taken) = touches(&bench, asked);
        assert_eq!(done.stat_majors, TOUCHES, "{asked}: the workload");
        for (job, taken) in &taken {
            let expected = match job.as_str() {
                "major_fault_ends" => "perf_event",
                // Not the job of a program.
                "privileges_kept" => continue,
                // These options give them nothing to do.
                "process_forks" | "process_renames" => "none",
                "page_cached" | "page_uncached" | "pages_mapped" => "none",
                _ if job.starts_with("io_") => "none",
                // Its tracepoint may be there or not where fexit is.
                "fault_ends" if jobs[job] == "fexit" && taken == "none" => "none",
                _ if jobs[job] == "none" => "none",
                // Where no tracepoint tells beginnings.
                _ if jobs[job] == "perf_event" => "perf_event",
                _ => rung,
            };
            assert_eq!(taken, expected, "{asked}: {job}");
        }
    }
    let (_, taken) = touches(&bench, "no-pages");
    assert_eq!(taken["which_page"], "none");
    let (_, taken) = touches(&bench, "event");
    for job in ["user_fault_begins", "kernel_fault_begins"] {
        assert_eq!(taken[job], "perf_event", "{job}");
    }
}

/// What two tracers tell of the same faults that slept, in any order.
fn what_is_told(trace: &Trace, pid: u32) -> Vec<String> {
    let faults = trace.faults(pid).into_iter();
    let slept = faults.filter(|fault| fault.blocked_ns > 0);
    let mut told: Vec<_> = slept
        .map(|fault| {
            let Facts {
                mode,
                address,
                access,
                path,
                offset,
                syscall,
                ..
            } = &fault.facts;
            // By the event, that of faults in system calls is not known.
            let access = access.as_ref().filter(|_| mode == "user");
            format!("{mode} {address:?} {access:?} {path:?} {offset:?} {syscall:?}")
        })
        .collect();
    told.sort();
    told
}

/// The only rung there is for beginnings outside x86 is the perf event of all faults: it is to tell what the
/// tracepoints tell, and as early.
#[test]
fn beginnings_told_by_the_event_are_those_of_the_tracepoints() {
    let bench = start();
    let options = Options {
        delay_us: 2_000,
        ..Options::default()
    };
    let mounts = ["slow-touched", "slow-written"].map(|name| bench.subdirectory(name));
    let slow = mounts.map(|mount| SlowFs::mount_in(mount, &options));
    let (source, sink) = (bench.path().join("source"), bench.path().join("sink"));
    create(&source, 64);
    let text = |path: &Path| path.to_str().expect("our own path").to_owned();
    let (source, sink) = (text(&source), text(&sink));
    let [touched, written] = slow.each_ref().map(|slow| text(slow.file()));
    let workloads: [&[&str]; 3] = [
        &["touch", &touched, "--threads=2", "--touches=50"],
        &["userfaultfd", "--pages=40", "--delay-ms=2"],
        &["kernel-mode", &written, &source, &sink, "--repeat=8"],
    ];
    for arguments in workloads {
        let mut work = Work::start(arguments);
        let by_event = Tracer::of_with(work.pid(), &["--no-symbols", "--probe-rung", "event"]);
        let by_tracepoint = Tracer::of_with(work.pid(), &["--no-symbols"]);
        let taken = [&by_event, &by_tracepoint].map(|tracer| {
            let rungs = &tracer.start.rungs;
            [&*rungs["user_fault_begins"], &*rungs["kernel_fault_begins"]]
        });
        assert_eq!(taken, [["perf_event"; 2], ["tp_btf"; 2]]);
        let done = work.run();
        let (event, tracepoint) = (by_event.stop(), by_tracepoint.stop());
        event.check_nothing_lost();
        tracepoint.check_nothing_lost();
        let told = what_is_told(&event, done.pid);
        assert_eq!(told, what_is_told(&tracepoint, done.pid), "{arguments:?}");
        assert!(told.len() >= 40, "{arguments:?}: {told:#?}");
        let sum = |trace: &Trace| -> u64 {
            let faults = trace.faults(done.pid).into_iter();
            faults.map(|fault| fault.duration_ns).sum()
        };
        let (event_ns, tracepoint_ns) = (sum(&event), sum(&tracepoint));
        eprintln!("{arguments:?}: {event_ns} ns by the event, {tracepoint_ns} by tracepoints");
        // The event comes some hundreds of instructions later, which take an emulated machine longer.
        let part = if emulated() { 20 } else { 50 };
        assert!(event_ns.abs_diff(tracepoint_ns) * part < tracepoint_ns);
        work.exit();
    }
}

/// The faults of a process that slept, by address.
fn by_address(trace: &Trace, pid: u32) -> BTreeMap<String, Fault> {
    let waited = |fault: &&Fault| fault.blocked_ns > 0 && !fault.major;
    let faults = trace.faults(pid).into_iter().filter(waited).cloned();
    let named = faults.filter_map(|fault| Some((fault.facts.address.clone()?, fault)));
    named.collect()
}

/// Two tracers at once on minor faults that wait 5 ms each: with these ends, and without any.
fn compare_ends(rungs: &str, rseq: bool, expected: &str) {
    let mut command = Command::new(work::binary());
    command.args(["userfaultfd", "--pages=40", "--delay-ms=5"]);
    if !rseq {
        command.env(NO_RSEQ.0, NO_RSEQ.1);
    }
    let mut work = Work::start_command("userfaultfd", &mut command);
    let options = ["--no-symbols", "--probe-rung", rungs];
    let told = Tracer::of_with(work.pid(), &options);
    let untold = Tracer::of_with(work.pid(), &["--no-symbols", "--probe-rung", "no-ends"]);
    let taken = untold.start.rungs["fault_ends"].clone();
    assert_eq!(taken, "none", "without ends");
    let done = work.run();
    let (told, untold) = (told.stop(), untold.stop());
    for trace in [&told, &untold] {
        trace.check_nothing_lost();
        let summary = trace.summary(work.pid());
        assert_eq!((summary.majors, summary.maj_flt_delta), (0, Some(0)));
    }
    let exact = by_address(&told, work.pid());
    let bounds = by_address(&untold, work.pid());
    let touches = &done.threads[0].touches;
    told.check(exact.len() >= touches.len(), || {
        format!("{} faults of {} touches", exact.len(), touches.len())
    });
    let (mut exact_ns, mut bounds_ns) = (0, 0);
    // Now and then a CPU runs no program of ours for a while (docs/how-it-works.md).
    let as_expected = exact.values().filter(|fault| fault.end == expected).count();
    told.check(as_expected * 20 >= exact.len() * 19, || {
        format!(
            "{rungs}: {as_expected} of {} ends are {expected}",
            exact.len()
        )
    });
    for (address, fault) in &exact {
        fault.check_parts();
        let bound = bounds.get(address);
        let bound = bound.unwrap_or_else(|| untold.fail(&format!("only one told of {fault:?}")));
        assert_eq!(bound.end, "approximate", "{bound:?}");
        exact_ns += fault.duration_ns;
        bounds_ns += bound.duration_ns;
    }
    let own_ns = done.threads[0].touch_ns;
    eprintln!("{rungs}, rseq {rseq}: {exact_ns} ns, without ends {bounds_ns}, own {own_ns}");
    // What is not told is the way from the last switch to the CPU to the end: little of 5 ms. Each
    // program runs after the other, so a bound may seem later by their own time.
    assert!(bounds_ns <= exact_ns + exact_ns / 100, "a bound is no more");
    assert!(bounds_ns >= exact_ns - exact_ns / 5, "a bound is near");
    assert!(exact_ns <= own_ns, "{rungs}: no longer than the touches");
    work.exit();
}

#[test]
fn ends_told_by_rseq_update_and_bounds() {
    let _bench = start();
    let forced = run_to_end(["--probe-rung", "typed,rseq", "--duration", "1ms", "--all"]);
    if jobs()["fault_ends"] == "none" || forced.code == Some(3) {
        forced.expect(3, &["fault_ends", "--probe-rung", "rseq_update"]);
        return;
    }
    compare_ends("rseq", true, "exact");
    compare_ends("rseq", false, "approximate");
}

#[test]
fn ends_told_by_fexit_or_refused_with_a_reason() {
    let bench = start();
    if jobs()["fault_ends"] != "fexit" {
        let forced = run_to_end(["--probe-rung", "fexit", "--duration", "1ms", "--all"]);
        forced.expect(3, &["fault_ends", "--probe-rung", "fexit", "doctor"]);
        return;
    }
    let (_, taken) = touches(&bench, "fexit");
    assert_eq!(taken["fault_ends"], "fexit");
    compare_ends("fexit", true, "exact");
    compare_ends("fexit", false, "exact");
    faults_without_exception(&bench);
}

/// With fexit, the ends of faults in `get_user_pages` are exact too.
fn faults_without_exception(bench: &Bench) {
    let (file, source) = (bench.path().join("data"), bench.path().join("source"));
    create(&file, 512);
    create(&source, 512);
    let mut work = Work::start(["gup".as_ref(), file.as_os_str(), source.as_os_str()]);
    evict(&file);
    let tracer = Tracer::of_with(work.pid(), &["--no-symbols", "--probe-rung", "fexit"]);
    let done = work.run();
    let trace = tracer.stop();
    let summary = trace.summary(work.pid());
    assert_eq!(summary.maj_flt_delta, Some(done.stat_majors));
    let faults = trace.faults(work.pid());
    let gup = faults.iter().filter(|fault| fault.facts.mode == "gup");
    let gup: Vec<_> = gup.collect();
    let exact = gup.iter().filter(|fault| fault.end == "exact").count();
    trace.check(exact == gup.len() && exact > 0, || {
        format!("{exact} exact ends of {} faults", gup.len())
    });
    let majors = gup.iter().filter(|fault| fault.major).count() as u64;
    assert!(majors <= done.stat_majors, "{majors}");
    work.exit();
}

#[test]
fn stuck_threads_are_shown_without_the_iterator_but_not_where() {
    let bench = start();
    let mut slow = SlowFs::with_delay(&bench, 0);
    let file = slow.file().to_str().expect("our own path").to_owned();
    slow.hold(8192);
    let mut work = Work::start(["touch", &file, "--touches=1", "--first-page=2"]);
    work.go();
    slow.wait_until_held();
    for (rungs, rung) in [("no-iterator", "none"), ("typed", "iterator")] {
        let mut tracer = Tracer::of_with(work.pid(), &["--probe-rung", rungs]);
        assert_eq!(tracer.start.rungs["stuck_before_attach"], rung, "{rungs}");
        let (_, facts) = tracer.wait_for("a stuck thread", SOON, |record| match record {
            Record::Stuck(stuck) => Some(stuck.facts.clone()),
            _ => None,
        });
        let place = facts.path.as_deref().zip(facts.offset);
        let expected = (rung == "iterator").then_some((&*file, 8192));
        assert_eq!(place, expected, "{rungs}: {facts:?}");
        tracer.stop();
    }
    slow.release();
    work.done();
    work.exit();
}
