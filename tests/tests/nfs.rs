//! Faults on a file that is on an NFS server. For kernels that have a client (`cargo xtask vm`): fails on others.

use faulttrace_tests::harness::matrix::{Matrix, judge};
use faulttrace_tests::harness::nfs::Nfs;
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::tracer::Tracer;
use faulttrace_tests::harness::work::Work;

const DELAY_MS: u64 = 20;

#[test]
fn who_waits_for_a_server_is_told_so() {
    let bench = start();
    let export = Nfs::mount(&bench, 1024, DELAY_MS * 1000);
    let path = export.file().to_str().expect("our own path");
    let mut matrix = Matrix::default();
    for (scenario, option) in [
        ("nfs, read", "--passes=1"),
        ("nfs, private write", "--copy"),
    ] {
        let first = if option == "--copy" { 512 } else { 0 };
        let first = format!("--first-page={first}");
        let work = Work::start(["touch", path, "--touches=60", "--stride=7", &first, option]);
        judge(&mut matrix, (scenario, "nfs"), work, (60, false));
    }
    matrix.print();
    matrix.check();
}

#[test]
fn a_wait_takes_as_long_as_the_server() {
    let bench = start();
    let export = Nfs::mount(&bench, 256, DELAY_MS * 1000);
    let path = export.file().to_str().expect("our own path");
    let mut work = Work::start(["touch", path, "--touches=30", "--stride=3", "--threads=2"]);
    let tracer = Tracer::of(work.pid());
    let done = work.run();
    let trace = tracer.stop();
    let pid = work.pid();
    work.exit();
    let faults = trace.faults(pid);
    let reads: Vec<_> = faults
        .iter()
        .filter(|fault| fault.facts.path.as_deref() == Some(path))
        .collect();
    trace.check(reads.len() == 60, || format!("{} faults", reads.len()));
    for fault in &reads {
        fault.check_parts();
        trace.check(fault.blocked_ns >= DELAY_MS * 1_000_000, || {
            format!("blocked {} ns", fault.blocked_ns)
        });
        trace.check(fault.major, || "not major".to_owned());
    }
    let told: u64 = reads.iter().map(|fault| fault.duration_ns).sum();
    let clock: u64 = done.threads.iter().map(|worker| worker.touch_ns).sum();
    trace.check(told <= clock && told * 100 >= clock * 95, || {
        format!("{told} ns of {clock} ns")
    });
}
