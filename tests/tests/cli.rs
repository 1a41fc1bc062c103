//! Choosing what to trace, launching it, and how it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use faulttrace_tests::harness::disk::{create, evict};
use faulttrace_tests::harness::process::until;
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::tracer::{Trace, Tracer, binary, launch_text, run_to_end};
use faulttrace_tests::harness::work::{self, Work};
use faulttrace_tests::harness::{Bench, SOON, start};
use faulttrace_tests::truth::{Done, Worker};
use nix::sys::signal::Signal;

fn slow_file(bench: &Bench) -> SlowFs {
    SlowFs::with_delay(bench, 2_000)
}

fn toucher(slow: &SlowFs, first: usize, threads: usize) -> Work {
    let path = slow.file().to_str().expect("our own path");
    let (threads, first) = (
        format!("--threads={threads}"),
        format!("--first-page={first}"),
    );
    Work::start(["touch", path, "--touches=10", &threads, &first])
}

/// How many faults on the file each of the workers was reported with.
fn reported(trace: &Trace, path: &Path, workers: &[Worker]) -> Vec<usize> {
    let path = path.to_str();
    let faults = trace.all_faults();
    let of = |worker: &Worker| {
        let here = faults.iter().filter(|fault| {
            fault.facts.path.as_deref() == path
                && (fault.facts.pid, fault.facts.tid) == (worker.pid, worker.tid)
                && worker
                    .touches
                    .iter()
                    .any(|t| Some(t.offset) == fault.facts.offset)
        });
        here.count()
    };
    workers.iter().map(of).collect()
}

#[test]
fn pid_repeats_and_takes_commas() {
    let bench = start();
    let slow = slow_file(&bench);
    let mut works = [0, 10, 20, 30].map(|first| toucher(&slow, first, 1));
    let pids = works.each_ref().map(|work| work.pid().to_string());
    let list = format!("{},{}", pids[0], pids[1]);
    let tracer = Tracer::start(["--pid", &list, "--pid", &pids[2]]);
    let targets: Vec<_> = tracer
        .start
        .targets
        .iter()
        .map(|target| target.pid)
        .collect();
    let workers: Vec<_> = works
        .iter_mut()
        .flat_map(|work| work.run().threads)
        .collect();
    let trace = tracer.stop();
    assert_eq!(
        reported(&trace, slow.file(), &workers),
        [10, 10, 10, 0],
        "three of four"
    );
    assert_eq!(targets.len(), 3, "{targets:?}");
    for work in works {
        work.exit();
    }
}

#[test]
fn tid_takes_one_thread() {
    let bench = start();
    let slow = slow_file(&bench);
    let mut work = toucher(&slow, 0, 3);
    let tid = work.ready.tids[1];
    let tracer = Tracer::start(["--tid", &tid.to_string()]);
    let done = work.run();
    let trace = tracer.stop();
    let expected: Vec<_> = done
        .threads
        .iter()
        .map(|t| usize::from(t.tid == tid) * 10)
        .collect();
    assert_eq!(reported(&trace, slow.file(), &done.threads), expected);
    work.exit();
}

#[test]
fn comm_takes_processes_by_name() {
    let bench = start();
    let slow = slow_file(&bench);
    let named = |name: &str, first: usize| {
        let program = bench.path().join(name);
        fs::copy(work::binary(), &program).expect("copy the workload");
        let mut command = Command::new(program);
        command.arg("touch").arg(slow.file());
        command.args(["--touches=10".to_owned(), format!("--first-page={first}")]);
        // The threads keep the process's name.
        command.arg(format!("--name={name}"));
        Work::start_command(name, &mut command)
    };
    let mut works = [
        named("ftdb-one", 0),
        named("ftdb-two", 10),
        named("other", 20),
    ];
    let tracer = Tracer::start(["--comm", "ftdb-*"]);
    let workers: Vec<_> = works
        .iter_mut()
        .flat_map(|work| work.run().threads)
        .collect();
    let trace = tracer.stop();
    assert_eq!(reported(&trace, slow.file(), &workers), [10, 10, 0]);
    for work in works {
        work.exit();
    }
}

/// Between the look for processes of the name and the attaching, no program sees who takes it.
#[test]
fn comm_takes_those_that_come_while_it_attaches_and_lets_go_of_those_that_end() {
    let bench = start();
    let slow = slow_file(&bench);
    let (file, program) = (slow.file().to_owned(), bench.path().join("ftdb-late"));
    fs::copy(work::binary(), &program).expect("copy the workload");
    let start_one = |first: usize| {
        let mut command = Command::new(&program);
        command.arg("touch").arg(&file);
        command.args(["--touches=5".to_owned(), format!("--first-page={first}")]);
        command.arg("--name=ftdb-late");
        Work::start_command("late", &mut command)
    };
    let attached = AtomicBool::new(false);
    let (stop, stopped) = channel();
    let (mut works, mut gone) = (Vec::new(), Vec::new());
    let (trace, workers) = thread::scope(|scope| {
        // What a thread started ends with it, so each stays until its own are done.
        let now = &attached;
        let tracing = scope.spawn(move || {
            let tracer = Tracer::start(["--comm", "ftdb-*"]);
            now.store(true, Ordering::Relaxed);
            stopped.recv().expect("told to stop");
            let targets = tracer.start.targets.iter().map(|target| target.pid);
            let targets: Vec<u32> = targets.collect();
            (tracer.stop(), targets)
        });
        while !attached.load(Ordering::Relaxed) && !tracing.is_finished() {
            // As many as the file has pages for; the others only come and go.
            if works.len() < 15 {
                works.push(start_one(works.len() * 5));
            }
            let short = start_one(0);
            gone.push(short.pid());
            short.exit_without_work();
        }
        let touched = works.iter_mut().flat_map(|work| work.run().threads);
        let workers: Vec<_> = touched.collect();
        stop.send(()).expect("it traces");
        (tracing.join().expect("a trace"), workers)
    });
    let (trace, targets) = trace;
    let ended = gone.iter().filter(|pid| targets.contains(pid)).count();
    // One may have been there when the programs were.
    assert!(ended <= 1, "{ended} of {} that ended", gone.len());
    // Those before the first look, if any, were few: that takes milliseconds, the attaching hundreds.
    let came = works.iter().filter(|work| targets.contains(&work.pid()));
    assert!(came.count() > 4, "{} in all, {targets:?}", works.len());
    let counts = reported(&trace, slow.file(), &workers);
    assert_eq!(counts, vec![5; works.len()]);
    for work in works {
        // Of those that came later still, the kernel's count at their beginning is not known.
        let remainder = trace.summary(work.pid()).maj_flt_remainder;
        assert!(matches!(remainder, Some(0) | None), "{remainder:?}");
        work.exit();
    }
}

#[test]
fn all_takes_the_whole_system() {
    let bench = start();
    let slow = slow_file(&bench);
    let mut early = toucher(&slow, 0, 1);
    let tracer = Tracer::start(["--all"]);
    let mut late = toucher(&slow, 10, 1);
    let workers = [early.run().threads, late.run().threads].concat();
    let trace = tracer.stop();
    assert_eq!(
        reported(&trace, slow.file(), &workers),
        [10, 10],
        "before and after attach"
    );
    early.exit();
    late.exit();
}

#[test]
fn follow_takes_children_along_and_without_it_they_are_left_out() {
    let bench = start();
    for (option, expected) in [(Some("--follow"), 10), (None, 0)] {
        let slow = slow_file_in(&bench, option.unwrap_or("alone"));
        let mut work = Work::start(["tree".as_ref(), slow.file_arg()]);
        let pid = work.pid().to_string();
        let tracer = Tracer::start(["--pid", &pid].into_iter().chain(option));
        let done = work.run();
        let trace = tracer.stop();
        let counts = reported(&trace, slow.file(), &done.threads);
        trace.check(counts == [expected; 4], || {
            format!("{option:?}: forked, forked, executed, executed: {counts:?}")
        });
        work.exit();
    }
}

fn slow_file_in(bench: &Bench, name: &str) -> SlowFs {
    // So slow that a forked child is still there when its memory map is read.
    let options = Options {
        delay_us: 6_000,
        ..Options::default()
    };
    SlowFs::mount_in(bench.subdirectory(name.trim_start_matches('-')), &options)
}

/// The command line of a launch: the tracer's options, then the plain workload.
fn launch(options: &[&str], program: &Path, file: &Path, rest: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .args(["--format", "json"])
        .args(options)
        .arg("--")
        .arg(program);
    command
        .arg("plain")
        .arg(file)
        .arg("--touches=10")
        .args(rest);
    command
}

fn report_option(bench: &Bench) -> (PathBuf, String) {
    let directory = bench.subdirectory("public");
    for path in [bench.path(), &directory] {
        let all = fs::Permissions::from_mode(0o777);
        fs::set_permissions(path, all).expect("open the directory");
    }
    let report = directory.join("report");
    let option = format!("--report={}", report.display());
    (report, option)
}

fn read_report(report: &Path) -> Done {
    let json = fs::read(report).expect("the workload wrote its report");
    serde_json::from_slice(&json).expect("a report")
}

#[test]
fn a_launched_command_is_traced_from_its_first_instruction_and_gives_its_exit_code() {
    let bench = start();
    let slow = slow_file(&bench);
    let (report, option) = report_option(&bench);
    // A cold copy of the program: its own first pages are major faults.
    let program = bench.path().join("cold-workload");
    fs::copy(work::binary(), &program).expect("copy the workload");
    evict(&program);
    let mut command = launch(&[], &program, slow.file(), &[&option, "--code=7"]);
    let trace = Tracer::start_command(&mut command).finish();
    assert_eq!(
        trace.code,
        Some(7),
        "the command's exit code\n{}",
        trace.stderr
    );
    let done = read_report(&report);
    assert_eq!(reported(&trace, slow.file(), &done.threads), [10]);
    let name = program.to_str();
    let own = trace.faults(done.pid);
    let own = own
        .iter()
        .filter(|f| f.major && f.facts.path.as_deref() == name)
        .count();
    trace.check(own > 0, || "no major on the program's own pages".to_owned());
    let summary = trace.summary(done.pid);
    assert_eq!(
        Some(summary.majors),
        summary.maj_flt_delta,
        "from the beginning on"
    );
}

#[test]
fn a_launched_command_runs_as_the_user_who_called_sudo() {
    let bench = start();
    let (report, option) = report_option(&bench);
    let file = bench.path().join("data");
    create(&file, 16);
    // The workload's own directory may be closed to that user.
    let program = bench.path().join("workload");
    fs::copy(work::binary(), &program).expect("copy the workload");
    let mut command = launch(&[], &program, &file, &[&option]);
    command
        .env("SUDO_UID", "65534")
        .env("SUDO_GID", "65534")
        .env("SUDO_USER", "nobody");
    let trace = Tracer::start_command(&mut command).finish();
    assert_eq!(trace.code, Some(0), "{}", trace.stderr);
    assert_eq!(read_report(&report).uid, 65534);
}

#[test]
fn signals_are_passed_on_to_a_launched_command() {
    let bench = start();
    let slow = slow_file(&bench);
    for (index, signal) in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1]
        .iter()
        .enumerate()
    {
        let first = format!("--first-page={}", index * 10);
        let report = bench.path().join(format!("report-{index}"));
        let option = format!("--report={}", report.display());
        let rest = [&*option, &first, "--until-signal"];
        let tracer = Tracer::start_command(&mut launch(&[], &work::binary(), slow.file(), &rest));
        until("the workload waits for a signal", SOON, || report.exists());
        tracer.signal(*signal);
        let trace = tracer.finish();
        let code = 100 + *signal as i32;
        trace.check(trace.code == Some(code), || {
            format!("{signal}: {:?}, not {code}", trace.code)
        });
    }
}

#[test]
fn a_command_that_does_not_exist_is_an_error() {
    let _bench = start();
    let ended = run_to_end(["--", "/nonexistent/program"]);
    assert!(matches!(ended.code, Some(1 | 127)), "{ended:#?}");
    assert!(ended.stderr.contains("/nonexistent/program"), "{ended:#?}");
}

#[test]
fn duration_ends_the_trace() {
    let _bench = start();
    let work = Work::start(["quiet"]);
    let tracer = Tracer::of_with(work.pid(), &["--duration", "2s"]);
    let begin = tracer.attached_at;
    let trace = tracer.finish();
    let took = begin.elapsed();
    assert_eq!(trace.code, Some(0));
    assert!(
        took >= Duration::from_millis(1900) && took < Duration::from_secs(6),
        "{took:?}"
    );
    trace.summary(work.pid());
    work.exit_without_work();
}

#[test]
fn the_targets_exit_ends_the_trace() {
    let bench = start();
    let slow = slow_file(&bench);
    let mut work = toucher(&slow, 0, 1);
    let pid = work.pid();
    let tracer = Tracer::of(pid);
    let done = work.run();
    work.exit();
    let trace = tracer.finish();
    assert_eq!(trace.code, Some(0));
    assert_eq!(reported(&trace, slow.file(), &done.threads), [10]);
    assert_eq!(
        trace.summary(pid).maj_flt_delta,
        Some(done.stat_majors),
        "read in time"
    );
}

#[test]
fn attaching_takes_about_a_second_and_records_come_at_once() {
    let bench = start();
    let slow = slow_file(&bench);
    let mut work = toucher(&slow, 0, 1);
    let mut tracer = Tracer::of(work.pid());
    eprintln!("attached after {:?}", tracer.attached_after);
    // The promise is one second on a quiet machine; this build is not optimized.
    assert!(
        tracer.attached_after < Duration::from_secs(3),
        "{:?}",
        tracer.attached_after
    );
    work.go();
    work.done();
    let done = Instant::now();
    let last = (9 * 4096) as u64;
    let (at, ()) = tracer.wait_for("the last fault", SOON, |record| match record {
        faulttrace_tests::harness::record::Record::Fault(f) if f.facts.offset == Some(last) => {
            Some(())
        }
        _ => None,
    });
    // Flushed every 100 ms; the rest is the machine's.
    let late = at.saturating_duration_since(done);
    assert!(
        late < Duration::from_secs(1),
        "the last record came {late:?} after the fault"
    );
    tracer.stop();
    work.exit();
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let _bench = start();
    for arguments in [
        &["--pid", "many"][..],
        &["--no-such-option"],
        &["--pid", "1", "--min-duration", "soon"],
        &["--pid", "1", "--format", "pictures"],
        &[],
    ] {
        let ended = run_to_end(arguments);
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert!(!ended.stderr.is_empty(), "usage is explained: {ended:#?}");
    }
    let help = run_to_end(["--help"]);
    assert_eq!(help.code, Some(0));
    for option in [
        "--pid",
        "--follow",
        "--stuck-after",
        "--min-duration",
        "--strict",
    ] {
        assert!(
            help.stdout.contains(option),
            "{option} in:\n{}",
            help.stdout
        );
    }
}

#[test]
fn text_in_a_pipe_is_plain_and_names_what_matters() {
    let bench = start();
    let slow = slow_file(&bench);
    let path = slow.file().to_str().expect("our own path");
    let ended = launch_text(&[], &["touch", path, "--touches=10"], || ());
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let output = &ended.stdout;
    assert!(
        !output.contains('\x1b'),
        "no escape sequences in a pipe:\n{output}"
    );
    for word in ["toucher-0", path, "fuse", "touch_one"] {
        assert!(
            output.to_lowercase().contains(&word.to_lowercase()),
            "{word} in:\n{output}"
        );
    }
}
