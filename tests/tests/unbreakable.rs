//! The target ends, stops or hangs, or the tracer does: what was seen is told, and is right.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use faulttrace_tests::endurance::chaos::check_gone;
use faulttrace_tests::endurance::memory::family;
use faulttrace_tests::endurance::watched::Watched;
use faulttrace_tests::harness::bpf::Objects;
use faulttrace_tests::harness::cgroup::Freezer;
use faulttrace_tests::harness::disk::{create, evict};
use faulttrace_tests::harness::process::{must, until};
use faulttrace_tests::harness::record::Record;
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::tracer::{Tracer, binary};
use faulttrace_tests::harness::work::{self, Work};
use faulttrace_tests::harness::{Bench, SOON, start};
use nix::sys::signal::Signal;

/// How long things last that could take as long as they like.
const A_WHILE: Duration = Duration::from_millis(1500);
/// A second is promised on a machine that is not busy.
const PROMPT: Duration = Duration::from_secs(3);

/// A file of 16 MiB that is not in memory.
fn cold_file(bench: &Bench) -> std::path::PathBuf {
    let file = bench.path().join("data");
    create(&file, 4096);
    evict(&file);
    file
}

#[test]
fn a_target_that_is_killed_ends_the_trace_and_its_counts_are_right() {
    let bench = start();
    let file = cold_file(&bench);
    let mut work = Work::start(["paced".as_ref(), file.as_os_str(), "--rate=2000".as_ref()]);
    let pid = work.pid();
    let mut tracer = Watched::start(&["--pid".to_owned(), pid.to_string()]);
    work.go();
    tracer.take_for(A_WHILE);
    work.signal(Signal::SIGKILL);
    let report = tracer.finish(false);
    work.gone();
    report.check();
    let [reported, counted, lost] = report.check_majors(pid, 0);
    eprintln!("reported {reported}, counted {counted}, lost {lost}");
    assert!(reported > 100, "it had faults: {reported}");
}

#[test]
fn a_target_that_is_stopped_and_frozen_goes_on_to_be_traced() {
    let bench = start();
    let file = cold_file(&bench);
    let freezer = Freezer::new();
    let mut command = freezer.command(&work::binary());
    command.arg("paced").arg(&file).arg("--rate=2000");
    let mut work = Work::start_command("paced", &mut command);
    let pid = work.pid();
    let mut tracer = Watched::start(&["--pid".to_owned(), pid.to_string()]);
    work.go();
    tracer.take_for(A_WHILE);
    work.signal(Signal::SIGSTOP);
    tracer.take_for(A_WHILE);
    work.signal(Signal::SIGCONT);
    freezer.freeze();
    // Frozen, it can be attached to as well, and Ctrl-C works.
    let second = Watched::start(&["--pid".to_owned(), pid.to_string()]);
    let begin = Instant::now();
    let report = second.stop(false);
    assert!(
        begin.elapsed() < PROMPT,
        "Ctrl-C took {:?}",
        begin.elapsed()
    );
    report.check();
    freezer.thaw();
    tracer.take_for(A_WHILE);
    work.say("enough");
    let done = work.done();
    let report = tracer.stop(false);
    work.exit();
    report.check();
    let [reported, counted, lost] = report.check_majors(pid, 0);
    assert_eq!((counted, lost), (done.stat_majors, 0));
    assert_eq!(reported, counted);
}

#[test]
fn a_tracer_that_is_stopped_under_load_accounts_for_what_it_lost() {
    let bench = start();
    let file = cold_file(&bench);
    let mut work = Work::start(["paced".as_ref(), file.as_os_str(), "--rate=3000".as_ref()]);
    let pid = work.pid();
    let arguments = ["--pid", &pid.to_string(), "--ring-size=64K"].map(str::to_owned);
    let mut tracer = Watched::start(&arguments);
    work.go();
    tracer.take_for(A_WHILE);
    tracer.signal(Signal::SIGSTOP);
    tracer.take_for(A_WHILE * 3);
    tracer.signal(Signal::SIGCONT);
    tracer.take_for(A_WHILE);
    work.say("enough");
    let done = work.done();
    let report = tracer.stop(false);
    work.exit();
    report.check();
    let [reported, counted, lost] = report.check_majors(pid, 0);
    eprintln!("reported {reported}, counted {counted}, lost {lost}");
    assert_eq!(counted, done.stat_majors);
    assert!(lost > 0, "64 KiB hold no {A_WHILE:?} of faults");
    // Nothing but majors happens here, so that each of them is reported or lost.
    let minor = report.told.faults - reported;
    assert!(reported + lost >= counted && reported + lost <= counted + minor + lost / 20);
}

/// Mounts of the kinds that a tracer might leave behind, and pinned objects.
fn mounts_and_pins() -> BTreeSet<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let of_interest = |line: &&str| {
        [" - bpf ", " - tracefs ", " - debugfs "]
            .iter()
            .any(|kind| line.contains(kind))
    };
    let mut found: BTreeSet<String> = mounts
        .lines()
        .filter(of_interest)
        .map(str::to_owned)
        .collect();
    let pins = fs::read_dir("/sys/fs/bpf").into_iter().flatten().flatten();
    found.extend(pins.map(|pin| pin.path().display().to_string()));
    found
}

#[test]
fn a_tracer_that_is_killed_leaves_nothing_behind() {
    let bench = start();
    let file = cold_file(&bench);
    let before = mounts_and_pins();
    let mut work = Work::start(["paced".as_ref(), file.as_os_str(), "--rate=1000".as_ref()]);
    let tracer = Tracer::of_with(work.pid(), &["--follow"]);
    work.go();
    until("its helper runs", SOON, || family(tracer.pid()).len() > 1);
    let processes = family(tracer.pid());
    let objects = Objects::of(tracer.pid());
    let (programs, maps) = (objects.programs.len(), objects.maps.len());
    assert!(
        programs >= 8 && maps >= 5 && objects.links.len() >= 8,
        "{objects:?}"
    );
    let there = objects.left();
    assert!(
        !there.links.is_empty() && there.programs.len() == programs,
        "the kernel shows them"
    );
    let (records, ..) = tracer.kill();
    assert!(!records.is_empty());
    check_gone(&objects, &processes);
    assert_eq!(mounts_and_pins(), before);
    work.say("enough");
    work.done();
    work.exit();
}

/// `R`, `S`, `Z`, …; `None` if there is no such process.
fn state_of(pid: &str) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn a_trace_that_goes_on_with_a_commands_children_can_be_ended() {
    let bench = start();
    let file = bench.path().join("ids");
    let script = r#"sleep 60 < /dev/null > /dev/null 2>&1 & echo $$ $! > "$0"; exit 7"#;
    let mut command = Command::new(binary());
    command.args(["--format", "json", "--follow", "--", "sh", "-c", script]);
    let tracer = Tracer::start_command(command.arg(&file));
    let mut ids = Vec::new();
    until("the command has ended", SOON, || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        ids = text.split_whitespace().map(str::to_owned).collect();
        matches!(&*ids, [command, _] if state_of(command) == Some('Z'))
    });
    tracer.signal(Signal::SIGTERM);
    let trace = tracer.finish();
    let child = state_of(&ids[1]);
    must("kill", ["-KILL", &*ids[1]]);
    assert_eq!(child, Some('S'), "the trace ended without the child's end");
    trace.check(trace.code == Some(7), || {
        format!("{:?}, not the command's", trace.code)
    });
    let is_summary = |record: &Record| matches!(record, Record::Summary(_));
    trace.check(trace.records.iter().any(is_summary), || {
        "no summary".to_owned()
    });
}

/// Starts a workload with a process id that has just become free.
fn start_as(pid: u32, arguments: &[&str]) -> Work {
    let before = (pid - 1).to_string();
    for _ in 0..500 {
        // Others may start something just now.
        fs::write("/proc/sys/kernel/ns_last_pid", &before).expect("choose the next pid");
        let work = Work::start(arguments);
        if work.pid() == pid {
            return work;
        }
        work.exit_without_work();
    }
    panic!("no process can be had with the id {pid}");
}

fn slow_file(bench: &Bench, delay_us: u64) -> SlowFs {
    let options = Options {
        delay_us,
        pages: 1024,
        ..Options::default()
    };
    SlowFs::mount(bench, &options)
}

#[test]
fn a_new_process_with_the_id_of_a_target_is_not_traced() {
    let bench = start();
    let slow = slow_file(&bench, 2_000);
    let path = slow.file().to_str().expect("our own path");
    let other = Work::start(["quiet"]);
    let mut first = Work::start(["touch", path, "--touches=10"]);
    let pid = first.pid();
    let tracer = Tracer::start(["--pid", &format!("{pid},{}", other.pid())]);
    let done = first.run();
    first.exit();
    let mut second = start_as(pid, &["touch", path, "--touches=10", "--first-page=100"]);
    second.run();
    let trace = tracer.stop();
    second.exit();
    let offsets: Vec<_> = trace.faults(pid).iter().map(|f| f.facts.offset).collect();
    trace.check(offsets.len() == 10, || {
        format!("of the first alone: {offsets:?}")
    });
    assert!(offsets.iter().all(|offset| *offset < Some(100 * 4096)));
    let summary = trace.summary(pid);
    assert_eq!(summary.maj_flt_delta, Some(done.stat_majors), "{summary:?}");
    other.exit_without_work();
}

#[test]
fn the_end_of_a_target_is_seen_though_its_id_is_in_use_again() {
    let bench = start();
    let file = bench.path().join("data");
    create(&file, 4096);
    let mut work = Work::start(["churn".as_ref(), file.as_os_str()]);
    evict(&file);
    let pid = work.pid();
    let arguments = ["--pid", &pid.to_string(), "--ring-size=4K"].map(str::to_owned);
    let tracer = Watched::start(&arguments);
    // Nothing is taken out of the ring, which is full when the target ends.
    tracer.signal(Signal::SIGSTOP);
    let done = work.run();
    work.exit();
    let second = start_as(pid, &["quiet"]);
    tracer.signal(Signal::SIGCONT);
    let report = tracer.finish(false);
    report.check();
    let summary = &report.told.summaries[&pid];
    assert!(
        report
            .told
            .lost
            .iter()
            .any(|((class, _), count)| class == "lost" && *count > 0)
    );
    let counted = summary.maj_flt_delta;
    assert!(
        counted.is_none_or(|count| count == done.stat_majors),
        "{summary:?}"
    );
    second.exit_without_work();
}

#[test]
fn a_target_whose_mmap_lock_is_held_holds_up_nothing() {
    let bench = start();
    let mut slow = SlowFs::mount_in(bench.subdirectory("stalled"), &Options::default());
    let healthy_file = slow_file(&bench, 20_000);
    let path = healthy_file.file().to_str().expect("our own path");
    let mut healthy = Work::start(["touch", path, "--touches=400"]);
    let mut stalled = Work::start(["stall".as_ref(), slow.file_arg()]);
    let (pid, main) = (stalled.pid(), stalled.ready.tids[1]);
    slow.stall(0);
    let targets = format!("{pid},{}", healthy.pid());
    let mut tracer = Watched::start(&["--pid".to_owned(), targets]);
    stalled.go();
    slow.wait_until_held();
    stalled.say("map");
    let stack = format!("/proc/{pid}/task/{main}/stack");
    until("a writer waits for the lock", SOON, || {
        fs::read_to_string(&stack).is_ok_and(|stack| stack.contains("vm_mmap_pgoff"))
    });
    healthy.go();
    let before = tracer.told().faults;
    let time = Duration::from_secs(4);
    tracer.take_for(time);
    let streamed = tracer.told().faults - before;
    eprintln!("{streamed} faults of the other process in {time:?}");
    // Each takes 20 ms and a little: three quarters of what is possible, of a busy machine.
    assert!(streamed >= 100, "streaming goes on: {streamed}");
    assert!(tracer.told().stuck > 0, "the one that waits is shown");
    let begin = Instant::now();
    let report = tracer.stop(false);
    eprintln!("Ctrl-C took {:?}", begin.elapsed());
    assert!(
        begin.elapsed() < PROMPT,
        "Ctrl-C took {:?}",
        begin.elapsed()
    );
    report.check();
    let still = fs::read_to_string(&stack).expect("it lives");
    assert!(
        still.contains("vm_mmap_pgoff"),
        "the lock was held until now: {still}"
    );
    slow.release();
    stalled.done();
    stalled.exit();
    healthy.signal(Signal::SIGKILL);
    healthy.gone();
}

#[test]
fn ten_thousand_threads() {
    let bench = start();
    let file = bench.path().join("data");
    create(&file, 20_000);
    let mut work = Work::start([
        "touch".as_ref(),
        file.as_os_str(),
        "--threads=10000".as_ref(),
        "--touches=2".as_ref(),
    ]);
    evict(&file);
    let pid = work.pid();
    let tracer = Watched::start(&["--pid".to_owned(), pid.to_string()]);
    let done = work.run();
    let report = tracer.stop(false);
    work.exit();
    report.check();
    let [reported, counted, lost] = report.check_majors(pid, 0);
    eprintln!(
        "reported {reported}, counted {counted}, lost {lost}: {:?}",
        report.told.lost
    );
    assert_eq!(counted, done.stat_majors);
    assert_eq!((reported, lost), (counted, 0));
    assert!(
        reported >= 19_000,
        "nearly each touch is a major fault: {reported}"
    );
}
