//! `--io` where a cgroup's limit holds reads back: how long, by the workload's own clock.

use std::process::Command;
use std::time::Duration;

use faulttrace_tests::harness::cgroup::IoGroup;
use faulttrace_tests::harness::disk::{LoopDisk, create, evict, largest_request, numbers};
use faulttrace_tests::harness::reads::{agree, sum, with_io};
use faulttrace_tests::harness::record::Record;
use faulttrace_tests::harness::saved::report;
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::tracer::{Trace, Tracer};
use faulttrace_tests::harness::work::{self, Work};
use faulttrace_tests::mem::PAGE;

const TOUCHES: usize = 100;
const STRIDE: usize = 40;
/// Reads a second that the cgroup has.
const LIMIT: u32 = 50;

/// What the touches of one process were: reads held back, by how much, and its own time for them.
struct Touched {
    held: usize,
    held_ns: u64,
    device_ns: u64,
    touch_ns: u64,
    pid: u32,
    trace: Trace,
}

fn touch(disk: &LoopDisk, group: Option<&IoGroup>, more: &[&str], options: &[&str]) -> Touched {
    let file = disk.path().join("data");
    let device = numbers(disk.name());
    let program = work::binary();
    let mut command = match group {
        Some(group) => group.command(&program),
        None => Command::new(&program),
    };
    command.arg("touch").arg(&file).args(more);
    command.args([format!("--touches={TOUCHES}"), format!("--stride={STRIDE}")]);
    let mut work = Work::start_command("touch", &mut command);
    evict(&file);
    let tracer = Tracer::of_with(work.pid(), &[&["--no-symbols", "--io"], options].concat());
    let done = work.run();
    let trace = tracer.stop();
    trace.check_nothing_lost();
    let path = file.to_str();
    let mut faults = with_io(&trace, work.pid(), &device);
    faults.retain(|(fault, _)| fault.facts.path.as_deref() == path);
    trace.check(faults.len() >= TOUCHES * 9 / 10, || {
        format!("{} of {TOUCHES} with reads", faults.len())
    });
    for (fault, io) in &faults {
        // Of several reads, one may be held back while another is queued.
        assert!(io.held_ns.unwrap_or(0) <= fault.duration_ns, "{fault:?}");
    }
    let held_ns = sum(&faults, |io| io.held_ns.unwrap_or(0));
    let device_ns = sum(&faults, |io| {
        io.last_queued_ns.unwrap_or(0) + io.last_served_ns.unwrap_or(0)
    });
    let own = trace.faults(work.pid()).into_iter();
    let unseen = own.filter(|fault| fault.io.is_none() && fault.facts.cause() == "file_read");
    // A thread that is preempted, and not asleep, when its read is handed on does not wait for it yet.
    let unseen = unseen.count();
    assert!(unseen <= TOUCHES / 20, "{unseen} were not found again");
    let pid = work.pid();
    work.exit();
    Touched {
        held: faults.iter().filter(|(_, io)| io.held_ns > Some(0)).count(),
        held_ns,
        device_ns,
        touch_ns: done.threads[0].touch_ns,
        pid,
        trace,
    }
}

/// What the report and its advice say of the device. Nothing is saved on an emulated machine.
fn check_report(trace: &Trace, name: &str, limited: bool) {
    let Some(saved) = &trace.saved else { return };
    let report = report(&saved.path(), &[]);
    let rows = report["devices"].as_array().expect("it was asked for");
    let row = rows.iter().find(|row| row["device_name"] == name);
    let verdict = &row.unwrap_or_else(|| panic!("no {name} in {rows:?}"))["verdict"];
    assert_eq!(verdict == "limited", limited, "{rows:?}");
    let given = report["advice"]["given"].as_array().expect("a list");
    let mut to_raise = given.iter().filter(|one| one["rule"] == "limited_device");
    let advised = to_raise.next().map(|one| one["device_name"].as_str());
    assert_eq!(advised, limited.then_some(Some(name)), "{given:?}");
}

/// Touches with these arguments, traced with these options, under a limit; last, without one.
fn check(rounds: &[(&[&str], &[&str])]) {
    let bench = start();
    let disk = LoopDisk::new(&bench, 64, 128);
    create(&disk.path().join("data"), TOUCHES * STRIDE);
    let group = IoGroup::new();
    group.limit_reads(&numbers(disk.name()), LIMIT);
    for (more, options) in rounds {
        let found = touch(&disk, Some(&group), more, options);
        let (held, held_ns) = (found.held, found.held_ns);
        let (device_ns, touch_ns) = (found.device_ns, found.touch_ns);
        eprintln!(
            "{more:?} {options:?}: {held} held back for {held_ns} ns, device {device_ns} ns, all {touch_ns} ns"
        );
        assert!(held >= TOUCHES / 20, "{held} were held back");
        assert!(touch_ns >= 1_000_000_000, "the limit held: {touch_ns} ns");
        let expected_ns = touch_ns.saturating_sub(device_ns);
        agree("held back", held_ns, expected_ns, 5, 0);
        check_report(&found.trace, disk.name(), true);
    }
    let (_, options) = rounds[0];
    let free = touch(&disk, None, &[], options);
    assert_eq!((free.held, free.held_ns), (0, 0), "without a limit");
    check_report(&free.trace, disk.name(), false);
}

/// A page each, and with the pages around it, in the middle of which it is.
#[test]
fn reads_that_a_limit_holds_back_are_told_by_how_long() {
    check(&[(&[], &[]), (&["--advise=none"], &[])]);
}

#[test]
fn reads_that_a_limit_holds_back_are_told_with_light_too() {
    check(&[(&[], &["--light"])]);
}

/// The thread of the kernel that hands such a read on splits it, and the limit counts each part: all but the last
/// are known to have been held back.
#[test]
fn reads_that_are_held_back_and_too_large_for_the_device_are_whole() {
    const LARGEST_KIB: u32 = 16;
    let bench = start();
    let disk = LoopDisk::new(&bench, 64, 128);
    create(&disk.path().join("data"), TOUCHES * STRIDE);
    let _largest = largest_request(disk.name(), LARGEST_KIB);
    let group = IoGroup::new();
    group.limit_reads(&numbers(disk.name()), LIMIT);
    let found = touch(&disk, Some(&group), &["--advise=none"], &[]);
    let faults = found.trace.faults(found.pid);
    let split: Vec<_> = faults
        .iter()
        .filter_map(|fault| fault.io.as_ref())
        .filter(|io| io.held_ns > Some(0) && io.bytes > u64::from(LARGEST_KIB) * 1024)
        .collect();
    found
        .trace
        .check(split.len() >= TOUCHES / 20, || format!("{faults:#?}"));
    for io in split {
        let least = io.bytes.div_ceil(u64::from(LARGEST_KIB) * 1024);
        assert!(u64::from(io.requests) >= least, "{io:?}");
    }
    let (held_ns, touch_ns) = (found.held_ns, found.touch_ns);
    eprintln!("{held_ns} of {touch_ns} ns held back");
    assert!(
        held_ns <= touch_ns && held_ns * 10 >= touch_ns * 7,
        "{held_ns} of {touch_ns}"
    );
    check_report(&found.trace, disk.name(), true);
}

#[test]
fn a_thread_whose_read_is_held_back_says_so() {
    let bench = start();
    let disk = LoopDisk::new(&bench, 64, 128);
    let file = disk.path().join("data");
    create(&file, TOUCHES * STRIDE);
    let group = IoGroup::new();
    // The least that io.max takes.
    group.limit_reads(&numbers(disk.name()), 2);
    let mut command = group.command(&work::binary());
    command.arg("touch").arg(&file);
    command.args(["--touches=8", &format!("--stride={STRIDE}")]);
    let mut work = Work::start_command("touch", &mut command);
    evict(&file);
    let options = ["--no-symbols", "--io", "--stuck-after=100ms"];
    let mut tracer = Tracer::of_with(work.pid(), &options);
    work.go();
    let soon = Duration::from_secs(60);
    let (_, (elapsed_ns, io)) =
        tracer.wait_for("a thread that is held back", soon, |record| match record {
            Record::Stuck(stuck) => Some((stuck.elapsed_ns, stuck.io.clone()?)),
            _ => None,
        });
    let held_ns = io.held_ns.expect("it is known");
    assert!(
        held_ns > 0 && held_ns <= elapsed_ns,
        "{held_ns} of {elapsed_ns}"
    );
    assert_eq!((io.bytes, io.requests), (PAGE as u64, 0), "{io:?}");
    assert_eq!(io.device, None, "{io:?}");
    work.done();
    work.exit();
    tracer.stop();
}
