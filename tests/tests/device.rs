//! `--io`: what devices did for the reads that faults began, beside what the kernel's own tracer and
//! the device's own counters say.

use std::collections::BTreeMap;

use faulttrace_tests::harness::blocks::BlockEvents;
use faulttrace_tests::harness::disk::{
    LoopDevice, LoopDisk, bytes_read, create, depth, evict, numbers,
};
use faulttrace_tests::harness::reads::{agree, check_single_page, sum, totals, with_io};
use faulttrace_tests::harness::record::{Fault, Io, Record};
use faulttrace_tests::harness::saved::report;
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::tracer::{Trace, Tracer, run_to_end};
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::harness::{Bench, SOON, start};
use serde_json::Value;

const PAGE: u64 = 4096;
const TOUCHES: usize = 400;
const STRIDE: usize = 7;

fn touch(file: &str, more: &[&str]) -> Work {
    let (touches, stride) = (format!("--touches={TOUCHES}"), format!("--stride={STRIDE}"));
    Work::start([&["touch", file, &touches, &stride], more].concat())
}

/// Cold touches of single pages, traced with these options.
fn single_pages(disk: &LoopDisk, options: &[&str]) {
    let file = disk.path().join("data");
    let path = file.to_str().expect("our own path");
    let mut work = touch(path, &[]);
    evict(&file);
    let device = numbers(disk.name());
    let tracer = Tracer::of_with(work.pid(), &[&["--no-symbols", "--io"], options].concat());
    let events = BlockEvents::of(&device);
    let before = bytes_read(disk.name());
    work.run();
    let read = bytes_read(disk.name()) - before;
    let trace = tracer.stop();
    trace.check_nothing_lost();
    let reads = events.reads_of(&work.ready.tids);
    let faults = with_io(&trace, work.pid(), &device);
    let on_file = |(fault, _): &&(&Fault, &Io)| fault.facts.path.as_deref() == Some(path);
    trace.check(faults.iter().filter(on_file).count() >= TOUCHES, || {
        format!("{options:?}: {} of {TOUCHES} began a read", faults.len())
    });
    let mut waited_ns = 0;
    for (fault, io) in faults.iter().filter(on_file) {
        assert_eq!(io.device_name.as_deref(), Some(disk.name()), "{fault:?}");
        check_single_page(fault, io);
        waited_ns += fault.blocked_ns;
    }
    // The thread falls asleep a little after it has handed over its read.
    let device_ns = sum(&faults, |io| io.queued_ns + io.served_ns);
    eprintln!("{options:?}: devices {device_ns} ns, blocked {waited_ns} ns");
    trace.check(device_ns <= waited_ns + TOUCHES as u64 * 200_000, || {
        format!("{device_ns} ns for reads, but blocked for {waited_ns} ns")
    });
    let bytes = sum(&faults, |io| io.bytes);
    assert_eq!(
        bytes,
        reads.iter().map(|read| read.bytes).sum::<u64>(),
        "{options:?}: what the thread queued"
    );
    assert!(
        bytes <= read && read <= bytes + bytes / 20,
        "{options:?}: {bytes} bytes, the device counts {read}"
    );
    let [ours, theirs] = totals(&trace, &faults, &reads);
    agree("served", ours.1, theirs.1, 5, 0);
    // Some µs each, of which the kernel's tracer tells whole ones.
    let slack = faults.len() as u64 * 2_000;
    agree("queued", ours.0, theirs.0, 5, slack);
    work.exit();
}

#[test]
fn single_pages_are_single_requests_as_the_kernel_counts_them() {
    let bench = start();
    let disk = LoopDisk::new(&bench, 64, 128);
    create(&disk.path().join("data"), TOUCHES * STRIDE);
    for options in [&[][..], &["--probe-rung", "raw"]] {
        single_pages(&disk, options);
    }
}

#[test]
fn single_pages_are_single_requests_with_light_too() {
    let bench = start();
    let disk = LoopDisk::new(&bench, 64, 128);
    create(&disk.path().join("data"), TOUCHES * STRIDE);
    single_pages(&disk, &["--light"]);
}

#[test]
fn readahead_is_more_bytes_than_the_fault_waits_for() {
    let bench = start();
    let disk = LoopDisk::new(&bench, 128, 4096);
    let file = disk.path().join("data");
    create(&file, 16_384);
    let path = file.to_str().expect("our own path");
    let mut work = Work::start(["touch", path, "--touches=16384", "--sequential"]);
    evict(&file);
    let device = numbers(disk.name());
    let tracer = Tracer::of_with(work.pid(), &["--no-symbols", "--io"]);
    let events = BlockEvents::of(&device);
    work.run();
    let trace = tracer.stop();
    trace.check_nothing_lost();
    let queued: u64 = events
        .reads_of(&work.ready.tids)
        .iter()
        .map(|read| read.bytes)
        .sum();
    let faults = with_io(&trace, work.pid(), &device);
    let bytes = sum(&faults, |io| io.bytes);
    let several = faults.iter().filter(|(_, io)| io.requests > 1).count();
    eprintln!(
        "{} faults, {bytes} of {queued} bytes, {several} with several requests",
        faults.len()
    );
    // What is read ahead by a fault that did not sleep is not reported.
    trace.check(!faults.is_empty() && several > 0 && bytes <= queued, || {
        format!("{bytes} of {queued} bytes")
    });
    let most = faults.iter().map(|(_, io)| io.bytes).max();
    assert!(most >= Some(1 << 20), "readahead of 4 MiB: {most:?}");
    work.exit();
}

#[test]
fn reads_in_system_calls_are_followed() {
    let bench = start();
    let disk = LoopDisk::new(&bench, 64, 128);
    let (file, source) = (disk.path().join("data"), disk.path().join("source"));
    create(&file, 512);
    create(&source, 512);
    let mut work = Work::start(["gup".as_ref(), file.as_os_str(), source.as_os_str()]);
    evict(&file);
    let device = numbers(disk.name());
    let tracer = Tracer::of_with(work.pid(), &["--io"]);
    work.run();
    let trace = tracer.stop();
    trace.check_nothing_lost();
    let faults = with_io(&trace, work.pid(), &device);
    let gup = faults.iter().filter(|(fault, _)| fault.facts.mode == "gup");
    let (gup, all) = (gup.count(), trace.faults(work.pid()).len());
    eprintln!("{gup} faults in system calls began reads, of {all}");
    trace.check(gup > 0, || {
        format!("none of {all} faults began a read in a system call")
    });
    // A read of its own, of which the system call's fault knows nothing.
    let bytes = sum(&faults, |io| io.bytes);
    trace.check(bytes <= 512 * PAGE, || {
        format!("{bytes} bytes, more than there are")
    });
    work.exit();
}

/// The report's row of this device.
fn device_row(trace: &Trace, name: &str) -> Value {
    let saved = trace.saved.as_ref().expect("saved").path();
    let saved = saved.to_str().expect("our own path");
    let ended = run_to_end(["report", "--json", saved]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let text = run_to_end(["report", saved]).stdout;
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let rows = report["devices"].as_array().expect("it was asked for");
    let row = rows.iter().find(|row| row["device_name"] == name);
    let row = row
        .unwrap_or_else(|| panic!("no {name} in {rows:?}"))
        .clone();
    let verdict = format!("{}: ", row["verdict"].as_str().unwrap_or_default());
    assert!(text.contains(&verdict), "{verdict} in\n{text}");
    row
}

/// Names of the devices that the report's advice says have too much to do.
fn advised_to_quiet(trace: &Trace) -> Vec<String> {
    let saved = trace.saved.as_ref().expect("it was saved").path();
    let advice = report(&saved, &[])["advice"]["given"].clone();
    let given = advice.as_array().expect("a list").iter();
    let busy = given.filter(|one| one["rule"] == "busy_device");
    busy.map(|one| one["device_name"].as_str().expect("a name").to_owned())
        .collect()
}

/// Part of the time that requests were queued, percent.
fn queued_percent(faults: &[(&Fault, &Io)]) -> u64 {
    let (queued, served) = (
        sum(faults, |io| io.queued_ns),
        sum(faults, |io| io.served_ns),
    );
    eprintln!(
        "{} faults: queued {queued} ns, served {served} ns",
        faults.len()
    );
    queued * 100 / (queued + served).max(1)
}

/// Six threads wait for a device that takes four requests and answers none.
#[test]
fn stuck_threads_say_whether_their_device_has_the_read() {
    let bench = start();
    let slow = SlowFs::with_delay(&bench, 0);
    let device = LoopDevice::over(slow.file());
    let _depth = depth(device.name(), 4);
    let (number, pages) = (numbers(device.name()), ["--touches=1", "--stride=8"]);
    let six = ["touch", device.node(), "--threads=6"];
    let mut work = Work::start([&six[..], &pages].concat());
    let mut tracer = Tracer::of_with(work.pid(), &["--no-symbols", "--io", "--stuck-after=50ms"]);
    slow.suspend();
    work.go();
    let mut told = BTreeMap::new();
    while told.len() < 6 {
        let (_, (tid, io)) = tracer.wait_for("a stuck thread", SOON, |record| match record {
            Record::Stuck(stuck) => Some((stuck.facts.tid, stuck.io.clone())),
            _ => None,
        });
        told.insert(tid, io.expect("it began a read"));
    }
    slow.resume();
    work.done();
    let (trace, pid) = (tracer.stop(), work.pid());
    work.exit();
    let seen: Vec<_> = told.values().collect();
    let here = seen.iter().all(|io| io.device.as_deref() == Some(&number));
    trace.check(here, || format!("the device is {number}: {seen:#?}"));
    assert!(seen.iter().all(|io| io.completed == 0 && io.bytes == PAGE));
    let taken = seen.iter().filter(|io| io.requests == 1).count();
    assert_eq!(taken, 4, "{seen:#?}");
    // What they were at when they were stuck is not taken for what they were at in the end.
    let faults = with_io(&trace, pid, &number);
    assert!(faults.iter().all(|(_, io)| io.requests == 1), "{faults:?}");
}

/// A device each of whose reads takes 10 ms.
fn slow(bench: &Bench) {
    let slow = SlowFs::mount(bench, &Options::default());
    let device = LoopDevice::over(slow.file());
    let mut work = Work::start(["touch", device.node(), "--touches=100", "--stride=5"]);
    let tracer = Tracer::of_with(work.pid(), &["--no-symbols", "--io"]);
    work.run();
    let trace = tracer.stop();
    let faults = with_io(&trace, work.pid(), &numbers(device.name()));
    trace.check(faults.len() >= 100, || format!("{} of 100", faults.len()));
    let percent = queued_percent(&faults);
    assert!(percent < 20, "a slow device: {percent} % queued");
    for (fault, io) in faults.iter().filter(|(_, io)| io.completed > 0) {
        assert!(io.served_ns >= 10_000_000, "{fault:?}");
    }
    assert_eq!(device_row(&trace, device.name())["verdict"], "slow");
    assert_eq!(advised_to_quiet(&trace), [""; 0]);
    work.exit();
}

/// A device that takes four requests at once, and is given sixteen.
fn busy(bench: &Bench) {
    let disk = LoopDisk::new(bench, 128, 128);
    let (file, other) = (disk.path().join("data"), disk.path().join("other"));
    create(&file, TOUCHES * STRIDE);
    create(&other, 16_384);
    let _depth = depth(disk.name(), 4);
    let path = file.to_str().expect("our own path");
    let mut work = touch(path, &[]);
    evict(&file);
    let other = other.to_str().expect("our own path");
    let mut busy = Work::start(["direct", other, "--threads=16", "--pages=64"]);
    let device = numbers(disk.name());
    let tracer = Tracer::of_with(work.pid(), &["--no-symbols", "--io"]);
    busy.go();
    let events = BlockEvents::of(&device);
    work.run();
    busy.say("stop");
    busy.done();
    let trace = tracer.stop();
    let reads = events.reads_of(&work.ready.tids);
    let faults = with_io(&trace, work.pid(), &device);
    trace.check(faults.len() >= TOUCHES, || {
        format!("{} of {TOUCHES}", faults.len())
    });
    let percent = queued_percent(&faults);
    let [ours, theirs] = totals(&trace, &faults, &reads);
    agree("served", ours.1, theirs.1, 5, 0);
    agree("queued", ours.0, theirs.0, 5, 0);
    assert!(percent > 50, "a busy device: {percent} % queued");
    let row = device_row(&trace, disk.name());
    let quick = row["verdict"] == "quick";
    assert!(quick || row["verdict"] == "busy", "{row}");
    assert!(row["queued_share"].as_f64() > Some(0.5), "{row}");
    let expected = (!quick).then(|| disk.name().to_owned());
    assert_eq!(advised_to_quiet(&trace), Vec::from_iter(expected));
    work.exit();
    busy.exit();
}

#[test]
fn a_busy_device_is_told_from_a_slow_one() {
    let bench = start();
    slow(&bench);
    busy(&bench);
}
