//! `--io` on volumes of the device mapper (LVM, LUKS, multipath), beside what the kernel's own tracer says of the
//! device that gets the requests. For kernels that have it (`cargo xtask vm`): fails on others.

use faulttrace_tests::harness::blocks::BlockEvents;
use faulttrace_tests::harness::disk::{create, evict, numbers};
use faulttrace_tests::harness::mapper::{Target, Volume};
use faulttrace_tests::harness::reads::{agree, check_single_page, sum, totals, with_io};
use faulttrace_tests::harness::record::{Fault, Io};
use faulttrace_tests::harness::tracer::Tracer;
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::harness::{emulated, start};

const TOUCHES: usize = 100;

/// Single pages are single requests.
fn reads_of(target: Target) {
    let bench = start();
    let volume = Volume::new(bench.path(), target, 32);
    let file = volume.path().join("data");
    create(&file, TOUCHES * 7);
    let path = file.to_str().expect("our own path");
    let touches = format!("--touches={TOUCHES}");
    let mut work = Work::start(["touch", path, &touches, "--stride=7"]);
    evict(&file);
    let device = numbers(&volume.device());
    let tracer = Tracer::of_with(work.pid(), &["--no-symbols", "--io"]);
    let events = BlockEvents::of(&device);
    work.run();
    let trace = tracer.stop();
    trace.check_nothing_lost();
    let reads = events.reads_of(&work.ready.tids);
    let pid = work.pid();
    work.exit();
    let faults = with_io(&trace, pid, &device);
    let on_file = |(fault, _): &&(&Fault, &Io)| fault.facts.path.as_deref() == Some(path);
    let count = faults.iter().filter(on_file).count();
    trace.check(count == TOUCHES, || {
        format!("{target:?}: {count} of {TOUCHES} began a read of {device}")
    });
    for (fault, io) in faults.iter().filter(on_file) {
        check_single_page(fault, io);
    }
    let bytes = sum(&faults, |io| io.bytes);
    assert_eq!(bytes, reads.iter().map(|read| read.bytes).sum::<u64>());
    let [ours, theirs] = totals(&trace, &faults, &reads);
    // From the event to a program at it, an emulated machine takes tens of µs.
    let slack = if emulated() { 50_000 } else { 0 };
    let count = faults.len() as u64;
    agree("served", ours.1, theirs.1, 5, count * slack);
    agree("queued", ours.0, theirs.0, 5, count * (2_000 + slack));
}

#[test]
fn a_linear_volume_hands_reads_on() {
    reads_of(Target::Linear);
}

#[test]
fn an_encrypted_volume_hands_reads_on() {
    reads_of(Target::Crypt);
}

#[test]
fn a_volume_of_several_paths_takes_requests_itself() {
    reads_of(Target::Multipath);
}
