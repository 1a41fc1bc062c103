//! Ps of Go programs that page faults hold, against what the programs know themselves: the numbers of
//! their goroutines, and how late a ticker was.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use faulttrace_tests::harness::disk::{LoopDevice, evict};
use faulttrace_tests::harness::gostall::{
    BUILDS, DELAY_US, PAGES, PLAIN, READERS, TOLERANCE_NS, Told, built, command, comparable,
    newest, of_pages, oldest, recognised, run, slow, slow_in, started, started_on,
    within_5_percent,
};
use faulttrace_tests::harness::process::until;
use faulttrace_tests::harness::record::{Ps, Record};
use faulttrace_tests::harness::saved::{report, succeed};
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::tracer::{Trace, Tracer};
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::harness::{SOON, start};
use serde_json::Value;

fn full_stalls_are_those_of_the_ticker(go: &Path) {
    let bench = start();
    let slow = slow(&bench);
    for build in BUILDS {
        let name = build.0;
        let program = built(&bench, go, build);
        let run = comparable(&program, 2, &slow);
        let known = run.go();
        assert_eq!(known.version, run.told.version, "{name}");
        assert_eq!(known.gomaxprocs, Some(2), "{name}");
        let stripped = name != PLAIN.0;
        let layout = if stripped { "table" } else { "debug_info" };
        assert_eq!(known.layout.as_deref(), Some(layout), "{name}");
        run.check_goroutines(&slow);
        for fault in run.faults(&slow) {
            let goroutine = fault.facts.goroutine.as_ref().expect("checked");
            assert!(goroutine.p.is_some_and(|p| p < 2), "{name}: {fault:#?}");
            assert!(!goroutine.in_syscall && goroutine.gomaxprocs == Some(2));
            // Not the compiler's wrapper, main.main.gowrap1.
            let start = goroutine.start.as_deref().unwrap_or_default();
            assert!(start.starts_with("main.main.func"), "{name}: {start}");
            assert!(goroutine.queued_local.is_some() && goroutine.queued_global.is_some());
        }
        let ps = run.ps().expect("Ps were stuck");
        let stalls = run.stalls();
        let over = stalls.iter().filter(|one| one.over);
        let found = run.long_ns();
        let truth = run.told.late_ns;
        eprintln!("{name}: no P left for {found} ns, the ticker was late by {truth} ns; {ps:?}");
        run.trace.check(within_5_percent(found, truth), || {
            format!("{name}: no P left for {found} ns, but the ticker was late by {truth} ns")
        });
        // Told as they happened: but for the short ones, which are only counted.
        let told: u64 = over.map(|one| one.stuck_ns).sum();
        let all = ps.all_stuck_ns;
        assert!(
            told <= all && told * 10 >= all * 7,
            "{name}: {told} of {all}"
        );
        for stall in run.stalls() {
            assert_eq!(stall.gomaxprocs, 2);
            // At least the ticker or the goroutine that is always ready.
            assert!(
                stall.queued.is_some_and(|queued| queued >= 1),
                "{name}: {stall:?}"
            );
            let ps: Vec<_> = stall.faults.iter().filter_map(|fault| fault.p).collect();
            assert!(ps.contains(&0) && ps.contains(&1), "{name}: {stall:?}");
        }
        // A report goes through the trace backwards.
        let saved = report(
            run.trace.saved.as_ref().expect("saved").path().as_path(),
            &[],
        );
        let again: Ps = serde_json::from_value(saved["total"]["go"]["ps"].clone()).expect("Ps");
        assert!(again.all_stuck_ns.abs_diff(ps.all_stuck_ns) * 1_000 <= ps.all_stuck_ns);
        assert_eq!(again.unknown_gomaxprocs_ns, 0);
    }
}

#[test]
fn full_stalls_are_those_of_the_ticker_with_the_oldest_go() {
    full_stalls_are_those_of_the_ticker(&oldest());
}

#[test]
fn full_stalls_are_those_of_the_ticker_with_the_newest_go() {
    full_stalls_are_those_of_the_ticker(&newest());
}

#[test]
fn no_p_is_held_in_c_or_in_a_system_call() {
    let bench = start();
    let slow = slow(&bench);
    for go in [oldest(), newest()] {
        for (build, mode) in [(BUILDS[3], "cgo"), (PLAIN, "syscall")] {
            let program = built(&bench, &go, build);
            let run = run(&program, 2, mode, &slow);
            run.check_goroutines(&slow);
            for fault in run.faults(&slow) {
                let goroutine = fault.facts.goroutine.as_ref().expect("checked");
                assert!(
                    goroutine.p.is_none() && goroutine.in_syscall,
                    "{mode}: {fault:#?}"
                );
                let kernel = fault.facts.mode == "kernel";
                assert_eq!(kernel, mode == "syscall", "{fault:#?}");
            }
            assert_eq!(run.ps(), None, "{mode}");
            assert!(run.stalls().is_empty(), "{mode}");
            let late = run.told.late_ns;
            let took = DELAY_US * 1_000 * PAGES as u64;
            eprintln!("{mode}: the ticker was late by {late} of {took} ns");
            assert!(late < took / 5, "{mode}: late by {late} of {took} ns");
        }
    }
}

/// How many Ps the advice says would do.
fn advised(trace: &Trace) -> u32 {
    let path = trace.saved.as_ref().expect("saved").path();
    let advice = succeed([
        OsStr::new("advise"),
        "--format=json".as_ref(),
        path.as_ref(),
    ]);
    let advice: Value = serde_json::from_str(&advice).expect("JSON");
    let given = advice["advice"]["given"].as_array().expect("a list");
    let stuck = given.iter().find(|one| one["rule"] == "ps_stuck");
    let stuck = stuck.unwrap_or_else(|| panic!("not advised: {advice:#}"));
    eprintln!("{}", stuck["evidence"][0]);
    let site = stuck["evidence"][0].as_str().expect("words");
    assert!(site.contains("main.touchMapped main.go:"), "{site}");
    let what = &stuck["actions"][0]["what"];
    eprintln!("{what}");
    let number = what.as_str().and_then(|what| what.split(": with ").nth(1));
    let number = number.and_then(|rest| rest.split(',').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no number: {what}"))
}

/// The comparison says that a P is left now, whatever else it says.
fn check_diff(before: &Trace, after: &Trace) {
    let path = |trace: &Trace| trace.saved.as_ref().expect("saved").path();
    let (before, after) = (path(before), path(after));
    let diff = |options: &[&str]| {
        let options = ["diff"].iter().chain(options).map(OsStr::new);
        succeed(options.chain([before.as_os_str(), after.as_os_str()]))
    };
    let json: Value = serde_json::from_str(&diff(&["--json"])).expect("JSON");
    let none_left = &json["go_ps"]["none_left_ns_per_s"];
    assert!(none_left["before"].as_f64() > Some(1e8), "{none_left}");
    assert_eq!(none_left["after"].as_f64(), Some(0.0), "{none_left}");
    assert_eq!(none_left["verdict"], "significant", "{none_left}");
    let text = diff(&[]);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("Go: better: no P was left to run goroutines with: before "),
        "{text}"
    );
    assert!(words.contains("), after never. "), "{text}");
}

#[test]
fn with_the_gomaxprocs_advised_the_ticker_is_in_time() {
    let bench = start();
    let slow = slow(&bench);
    let program = built(&bench, &newest(), BUILDS[1]);
    let before = run(&program, 2, "mmap", &slow);
    let enough = advised(&before.trace);
    assert_eq!(enough, READERS as u32 + 1);
    for procs in [enough, 4] {
        let after = run(&program, procs, "mmap", &slow);
        assert_eq!(after.go().gomaxprocs, Some(procs));
        after.check_goroutines(&slow);
        let ps = after.ps().expect("Ps were stuck");
        assert_eq!((ps.all_stuck_ns, ps.all_stuck_count), (0, 0), "{ps:?}");
        assert_eq!(ps.stuck_ns.len(), READERS, "{ps:?}");
        assert!(after.stalls().is_empty());
        check_diff(&before.trace, &after.trace);
        let (was, is) = (before.told.late_p99_ns, after.told.late_p99_ns);
        eprintln!("GOMAXPROCS {procs}: p99 of the ticker {was} ns before, {is} ns after");
        assert!(
            was > DELAY_US * 500 && is * 3 < was,
            "{was} ns before, {is} ns after"
        );
    }
}

#[test]
fn programs_that_start_later_are_recognised_each() {
    let bench = start();
    // One each: pages that another process has mapped cannot be dropped.
    let slow = ["a", "b"].map(|directory| slow_in(&bench, directory));
    let program = built(&bench, &newest(), PLAIN);
    let mut tracer = Tracer::start(["--comm", PLAIN.0]);
    let mut works =
        [(2, &slow[0]), (3, &slow[1])].map(|(procs, slow)| started(&program, procs, "mmap", slow));
    // Each has a thread that looks at it, so they come in any order.
    let mut missing: HashSet<u32> = works.iter().map(Work::pid).collect();
    tracer.wait_for("a `go` record of each", SOON, |record| {
        if let Record::Go(go) = record {
            missing.remove(&go.pid);
        }
        missing.is_empty().then_some(())
    });
    let mut told = Vec::new();
    for work in &mut works {
        work.go();
        let one: Told = work.done_as();
        told.push(one);
    }
    let pids = works.each_ref().map(Work::pid);
    let trace = tracer.stop();
    works.into_iter().for_each(Work::exit);
    for ((pid, told), procs) in pids.into_iter().zip(told).zip([2, 3]) {
        let go = trace.summary(pid).go.clone().expect("a Go program");
        assert_eq!((go.gomaxprocs, go.version), (Some(procs), told.version));
        let ps = go.ps.expect("Ps were stuck");
        assert_eq!(ps.all_stuck_count > 0, procs == 2, "{ps:?}");
    }
}

#[test]
fn what_is_stuck_tells_its_goroutine() {
    let bench = start();
    let options = Options {
        delay_us: 700_000,
        pages: READERS * 3,
        ..Options::default()
    };
    let slow = SlowFs::mount(&bench, &options);
    let program = built(&bench, &newest(), PLAIN);
    evict(slow.file());
    let mut command = of_pages(&program, 2, "mmap", slow.file(), 3);
    let mut work = Work::start_command("gostall", &mut command);
    let mut tracer = Tracer::of_with(work.pid(), &["--stuck-after", "100ms"]);
    recognised(&mut tracer, work.pid());
    work.go();
    let lasts = |record: &Record| match record {
        Record::PStall(stall) if !stall.over => Some(stall.duration_ns),
        _ => None,
    };
    let (_, so_far) = tracer.wait_for("a stall that goes on", SOON, lasts);
    assert!(so_far < 700_000_000, "told while it goes on: {so_far}");
    let told: Told = work.done_as();
    let trace = tracer.stop();
    let readers: Vec<u64> = told.readers.iter().map(|one| one.goroutine).collect();
    let stuck = trace.stuck(work.pid());
    assert!(stuck.len() >= READERS);
    for one in stuck {
        let goroutine = one.facts.goroutine.as_ref().expect("a goroutine");
        let id = goroutine.id.expect("a number");
        assert!(
            readers.contains(&id) && goroutine.p.is_some(),
            "{goroutine:?}"
        );
        assert_eq!(goroutine.queued_global_at_end, None);
    }
    work.exit();
}

#[test]
fn a_program_that_is_frozen_at_the_start_tells_who_holds_its_ps() {
    let bench = start();
    let options = Options {
        delay_us: 4_000_000,
        pages: READERS,
        ..Options::default()
    };
    let slow = SlowFs::mount(&bench, &options);
    for (go, build) in [(newest(), BUILDS[1]), (oldest(), BUILDS[3])] {
        let program = built(&bench, &go, build);
        evict(slow.file());
        let mut command = of_pages(&program, 2, "mmap", slow.file(), 1);
        let mut work = Work::start_command("gostall", &mut command);
        let pid = work.pid();
        work.go();
        until("a thread of it is in a fault", SOON, || in_faults(pid) > 0);
        let mut tracer = Tracer::of_with(pid, &["--stuck-after", "100ms"]);
        let known = |record: &Record| match record {
            Record::Stuck(stuck) if stuck.facts.began_before_attach => {
                stuck.facts.goroutine.clone()
            }
            _ => None,
        };
        let (_, goroutine) = tracer.wait_for("a stuck thread with its goroutine", SOON, known);
        let told: Told = work.done_as();
        let trace = tracer.stop();
        let readers: Vec<u64> = told.readers.iter().map(|one| one.goroutine).collect();
        let is_reader = |id: Option<u64>| id.is_some_and(|id| readers.contains(&id));
        assert!(
            is_reader(goroutine.id) && goroutine.p.is_some(),
            "{goroutine:?}"
        );
        assert_eq!(goroutine.gomaxprocs, Some(2));
        // At its end the programs read it themselves.
        let mut before = trace.faults(pid).into_iter();
        let before = before.find(|fault| fault.facts.began_before_attach);
        let at_end = before.expect("a fault that began before");
        let at_end = at_end.facts.goroutine.as_ref().expect("read");
        assert_eq!((at_end.id, at_end.p), (goroutine.id, goroutine.p));
        assert_eq!(at_end.start, goroutine.start);
        work.exit();
    }
}

/// Threads of a process that sleep outside of system calls.
fn in_faults(pid: u32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let calls = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("syscall")).ok());
    calls.filter(|call| call.starts_with("-1 ")).count()
}

#[test]
fn faults_that_a_signal_ends_are_known_to_read_themselves() {
    let bench = start();
    let slow = slow(&bench);
    let program = built(&bench, &newest(), PLAIN);
    let device = LoopDevice::over(slow.file());
    let file = Path::new(device.node());
    let mut work = started_on(&program, 2, "mmap", file);
    let pid = work.pid();
    let mut tracer = Tracer::of_with(pid, &["--io"]);
    recognised(&mut tracer, pid);
    work.go();
    let _: Told = work.done_as();
    let trace = tracer.stop();
    let faults = trace.faults(pid).into_iter();
    let slow: Vec<_> = faults
        .filter(|fault| fault.facts.path.as_deref() == Some(device.node()))
        .filter(|fault| fault.duration_ns > TOLERANCE_NS)
        .collect();
    // Each page is read once, by the goroutine that touches it.
    trace.check(slow.len() == READERS * PAGES, || {
        format!("{} faults", slow.len())
    });
    let given_up = slow.iter().filter(|fault| fault.given_up).count();
    eprintln!("{given_up} of {} were ended by a signal", slow.len());
    assert!(given_up * 2 > slow.len(), "{given_up}");
    for fault in slow {
        assert_eq!(fault.facts.cause(), "file_read", "{fault:#?}");
        assert_eq!(fault.major, !fault.given_up, "{fault:#?}");
        assert!(fault.io.is_some(), "{fault:#?}");
    }
    assert_eq!(trace.summary(pid).maj_flt_remainder, Some(0));
    work.exit();
}

#[test]
fn another_gomaxprocs_is_followed() {
    let bench = start();
    let slow = slow(&bench);
    let program = built(&bench, &newest(), BUILDS[1]);
    let mut command = command(&program, 2, "mmap", slow.file());
    let mut work = Work::start_command("gostall", command.arg("3"));
    let pid = work.pid();
    let mut tracer = Tracer::of(pid);
    recognised(&mut tracer, pid);
    work.go();
    let _: Told = work.done_as();
    let trace = tracer.stop();
    let told: Vec<_> = trace
        .records
        .iter()
        .filter_map(|record| match record {
            Record::Go(go) => go.gomaxprocs,
            _ => None,
        })
        .collect();
    assert_eq!(told, [2, 3]);
    let go = trace.summary(pid).go.as_ref().expect("a Go program");
    assert_eq!(go.gomaxprocs, Some(3));
    let ps = go.ps.as_ref().expect("Ps were stuck");
    assert_eq!(
        (ps.gomaxprocs_least, ps.gomaxprocs_most),
        (Some(2), Some(3))
    );
    // As long as there were two, both were stuck; of three, never all.
    let both = trace.faults(pid).into_iter();
    let with_three = both.filter(|fault| {
        let goroutine = fault.facts.goroutine.as_ref();
        goroutine.is_some_and(|of| of.gomaxprocs == Some(3))
    });
    assert!(with_three.count() > PAGES / 2);
    assert!(
        ps.all_stuck_count > 0 && ps.stuck_ns.len() == READERS,
        "{ps:?}"
    );
    work.exit();
}
