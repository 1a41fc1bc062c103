//! A machine that runs out of memory. Takes nearly all of it: only for machines that are made for it
//! (`cargo xtask vm`), and fails on others.

use std::fs;
use std::process::Command;

use faulttrace_tests::harness::disk::{SwapFile, create, depth, disk_of, evict};
use faulttrace_tests::harness::matrix::{Matrix, judge};
use faulttrace_tests::harness::memory::set_reserved;
use faulttrace_tests::harness::process::{meminfo, pid_of_run};
use faulttrace_tests::harness::setting::Setting;
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::tracer::Tracer;
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::mem::keep_what_is_mapped;

const MIB: u64 = 1 << 20;

/// Memory that nobody else can have, given back on drop: reserved for huge pages.
struct Taken;

impl Taken {
    /// Takes all but so much.
    fn all_but(bytes: u64) -> Taken {
        get_ready();
        let pages = meminfo("MemAvailable").saturating_sub(bytes) / meminfo("Hugepagesize");
        let taken = Taken;
        set_reserved(pages);
        let left = meminfo("MemAvailable");
        assert!(left < 2 * bytes, "{} MiB are left", left / MIB);
        taken
    }
}

/// All memory that can be had is about to be taken.
fn get_ready() {
    // What is looked at here is how others wait.
    keep_what_is_mapped().expect("mlockall");
    let total = meminfo("MemTotal");
    assert!(
        total < 4096 * MIB,
        "this takes all memory of a machine that has {} MiB: run it with `cargo xtask vm`",
        total / MIB
    );
    fs::write("/proc/sys/vm/drop_caches", "1").expect("drop_caches");
}

impl Drop for Taken {
    fn drop(&mut self) {
        set_reserved(0);
    }
}

#[test]
fn who_makes_room_waits_in_direct_reclaim() {
    let bench = start();
    // On the machine's own disk: a loop device needs memory to write, and here there is none.
    let _swap = SwapFile::new(bench.path(), 192);
    // Only a few pages can be on their way there, so that whoever reclaims has to wait.
    let _depth = depth(&disk_of(bench.path()), 4);
    let work = Work::start(["grow", "--pages=40000"]);
    let _taken = Taken::all_but(96 * MIB);
    let mut matrix = Matrix::default();
    judge(
        &mut matrix,
        ("out of memory", "direct_reclaim"),
        work,
        (20, true),
    );
    matrix.print();
    matrix.check();
}

#[test]
fn who_moves_pages_together_waits_in_compaction() {
    let _bench = start();
    let work = Work::start(["huge", "--waits=20", "--pages=200"]);
    get_ready();
    // Pages are to be moved together only by who needs it.
    let _by_need = Setting::set("/proc/sys/vm/compaction_proactiveness", "0");
    let pages = meminfo("MemAvailable")
        .checked_sub(96 * MIB)
        .expect("more memory")
        / 4096;
    let mut pieces = Work::start(["pieces", &format!("--pages={pages}"), "--mappings=1000"]);
    pieces.go();
    let mut matrix = Matrix::default();
    let scenario = ("memory in pieces", "compaction");
    judge(&mut matrix, scenario, work, (10, false));
    matrix.print();
    matrix.check();
    pieces.say("stop");
    pieces.done();
    pieces.exit();
}

#[test]
fn pages_are_evicted_by_kswapd_or_by_who_wants_memory() {
    const PAGES: usize = 256;
    let bench = start();
    let file = bench.path().join("data");
    create(&file, PAGES);
    let big = bench.path().join("big");
    create(&big, 40_000);
    evict(&file);
    evict(&big);
    let path = file.to_str().expect("our own path");
    let mut work = Work::start(["revisit", path, "--rounds=2", &format!("--pages={PAGES}")]);
    let tracer = Tracer::of_with(work.pid(), &["--evictions", "--no-symbols"]);
    let _taken = Taken::all_but(96 * MIB);
    work.run();
    let input = format!("if={}", big.display());
    let reader = pid_of_run(Command::new("dd").args([&input, "of=/dev/null", "bs=1M"]));
    work.run();
    let trace = tracer.stop();
    let pid = work.pid();
    work.exit();
    let (mut kswapd, mut direct, mut others) = (0, 0, Vec::new());
    for fault in trace.faults(pid) {
        let Some(history) = fault.history.as_ref().filter(|one| one.past == "refault") else {
            continue;
        };
        let by = history.removed_by.as_ref().expect("who removed it");
        match history.how.as_deref() {
            Some("kswapd") if by.thread == "kswapd0" => kswapd += 1,
            Some("direct_reclaim") if by.pid == Some(reader) => direct += 1,
            other => others.push((other.map(str::to_owned), by.clone())),
        }
    }
    eprintln!("by kswapd {kswapd}, by the reader {direct}, by others {others:?}");
    trace.check(kswapd + direct >= PAGES / 2, || {
        "hardly any page was evicted".to_owned()
    });
    trace.check(others.len() * 100 <= kswapd + direct, || {
        format!("by others: {others:?}")
    });
}
