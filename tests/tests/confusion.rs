//! Which cause is reported, against which one is known: a confusion matrix of all that can be brought
//! about. What a touch waited for follows from what the scenario does, or from the log of the file
//! system; which touches those are, the workload says by its own clock and the kernel's count of its
//! sleeps.

use std::time::Duration;

use faulttrace_tests::frozen::Stutter;
use faulttrace_tests::harness::cgroup::MemoryGroup;
use faulttrace_tests::harness::disk::{LoopDisk, SwapFile, create, depth, evict};
use faulttrace_tests::harness::matrix::{Known, Matrix, judge};
use faulttrace_tests::harness::memory::{HugePages, ZramSwap};
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::tracer::Tracer;
use faulttrace_tests::harness::work::{Work, binary};
use faulttrace_tests::harness::{Bench, emulated, start};

const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

#[test]
fn causes_are_told_from_each_other() {
    let bench = start();
    let mut matrix = Matrix::default();
    files(&bench, &mut matrix);
    reads_of_others(&bench, &mut matrix);
    memory(&bench, &mut matrix);
    written(&bench, &mut matrix);
    let userfaultfd = Work::start(["userfaultfd", "--pages=100", "--delay-ms=3"]);
    judge(
        &mut matrix,
        ("handler", "userfaultfd"),
        userfaultfd,
        (100, false),
    );
    let lock = Work::start(["mmap-lock", "--waits=50"]);
    judge(
        &mut matrix,
        ("mprotect meanwhile", "mmap_lock"),
        lock,
        (45, false),
    );
    let split = Work::start(["split"]);
    judge(
        &mut matrix,
        ("huge page split", "migration"),
        split,
        // There, no thread runs while another splits a page.
        (if emulated() { 0 } else { 20 }, true),
    );
    same_pages(&mut matrix);
    copied(&mut matrix);
    matrix.print();
    matrix.check();
}

/// Several threads at the same page at once, of which one has it cleared or swapped in.
fn same_pages(matrix: &mut Matrix) {
    let _reserved = HugePages::reserve(16);
    let work = Work::start(["together", "huge-pages", "--pages=16"]);
    judge(
        matrix,
        ("same huge page", "huge_page"),
        work,
        (if emulated() { 0 } else { 20 }, true),
    );
    let _zram = ZramSwap::new(64);
    let work = Work::start(["together", "swapped", "--pages=4096"]);
    judge(matrix, ("same page of zram", "swap_in"), work, (20, true));
}

/// Copies of a huge page, for which the kernel needs the lock of a file's mappings, which another process has taken.
fn copied(matrix: &mut Matrix) {
    let _reserved = HugePages::reserve(1);
    let work = Work::start(["huge-copy", "--waits=30", "--copies=3000"]);
    let of_huge_pages = |name| std::fs::read_to_string(format!("{HUGE_PAGES}/{name}")).expect(name);
    for name in ["free_hugepages", "nr_overcommit_hugepages"] {
        assert_eq!(
            of_huge_pages(name).trim_end(),
            "0",
            "{name}: none may be left"
        );
    }
    let file = format!("/proc/{}/fd/{}", work.pid(), work.ready.places["file"]);
    let mappings = if emulated() { 1_000 } else { 20_000 };
    let mut holder = Work::start([
        "contend",
        &file,
        "--first-page=512",
        "--pages=512",
        &format!("--mappings={mappings}"),
    ]);
    // Who waits for a lock whose holder runs spins for as long as nobody else wants the CPU
    // (kernel/locking/rwsem.c, rwsem_spin_on_owner).
    let mut nudger = Work::start(["hog", "--cpu=1", "--busy-ms=0", "--idle-ms=1"]);
    holder.go();
    nudger.go();
    judge(matrix, ("huge page copied", "cow"), work, (20, true));
    nudger.done();
    nudger.exit();
    holder.say("stop");
    holder.done();
    holder.exit();
}

/// Own reads from a disk, by reading and by writing to a private mapping.
fn files(bench: &Bench, matrix: &mut Matrix) {
    let disk = LoopDisk::within(&bench.subdirectory("files"), 64, 16, "--direct-io=on");
    let file = disk.path().join("data");
    create(&file, 4096);
    let path = file.to_str().expect("our own path");
    for (scenario, option) in [
        ("file, read", "--passes=1"),
        ("file, private write", "--copy"),
    ] {
        let work = Work::start(["touch", path, "--touches=400", "--stride=7", option]);
        evict(&file);
        judge(matrix, (scenario, "file_read"), work, (300, false));
    }
    let source = disk.path().join("source");
    create(&source, 16);
    let sink = disk.path().join("sink");
    let arguments = ["kernel-mode".as_ref(), file.as_os_str(), source.as_os_str()];
    let more = [sink.as_os_str(), "--repeat=50".as_ref()];
    let work = Work::start(arguments.into_iter().chain(more));
    evict(&file);
    let scenario = ("file, by system calls", "file_read");
    judge(matrix, scenario, work, (200, false));
}

/// Two processes on the same pages of a slow file system, the second while the first's reads are under
/// way: who asked for which page, its log tells.
fn reads_of_others(bench: &Bench, matrix: &mut Matrix) {
    let mut slow = SlowFs::mount(
        bench,
        &Options {
            delay_us: 300_000,
            ..Options::default()
        },
    );
    let path = slow.file().to_str().expect("our own path").to_owned();
    let options = ["touch", &path, "--threads=24", "--touches=1"];
    let mut works = [Work::start(options), Work::start(options)];
    let pids = works.each_ref().map(|work| work.pid().to_string());
    let tracer = Tracer::start(["--pid", &pids[0], "--pid", &pids[1]]);
    works[0].go();
    std::thread::sleep(Duration::from_millis(80));
    works[1].go();
    let done = works.each_mut().map(Work::done);
    let trace = tracer.stop();
    let log = slow.log();
    assert_eq!(log.len(), 24, "each page is read once: {log:?}");
    assert!(
        log.iter()
            .all(|read| works[0].ready.tids.contains(&read.tid))
    );
    for (index, known) in [
        ("own read, FUSE", "fuse"),
        ("another process's read", "read_wait"),
    ]
    .into_iter()
    .enumerate()
    {
        let known = Known {
            scenario: known.0,
            truth: known.1,
            work: &works[index],
            done: &done[index],
            at_least: 24,
        };
        matrix.count(&known, &trace, false);
    }
    works.into_iter().for_each(Work::exit);
}

/// Swap, and the limit of a cgroup.
fn memory(bench: &Bench, matrix: &mut Matrix) {
    let outer = LoopDisk::within(&bench.subdirectory("swap"), 320, 16, "--direct-io=on");
    let disk = LoopDisk::within(outer.path(), 192, 16, "--direct-io=on");
    let _swap = SwapFile::new(disk.path(), 128);
    let group = MemoryGroup::new();
    let work = Work::start_swapped_out(&group, 2048);
    judge(matrix, ("swapped out", "swap_in"), work, (200, false));
    drop(group);
    let group = MemoryGroup::new();
    group.limit(16 << 20);
    let mut command = group.command(&binary());
    command.args(["grow", "--pages=20000"]);
    let work = Work::start_command("grow", &mut command);
    // Swapping out takes time, and only a few pages can be on their way: so who wants more than the limit
    // has to wait. In cgroups of version 2, reclaim itself does not wait for pages being written.
    let _depth = depth(disk.name(), 4);
    let _slow = Stutter::new(outer.path(), Duration::from_millis(5));
    judge(
        matrix,
        ("over the cgroup's limit", "memcg_reclaim"),
        work,
        (20, true),
    );
}

/// Writes that wait for a page on its way to the disk, and for a file system that takes no writes.
fn written(bench: &Bench, matrix: &mut Matrix) {
    let outer = LoopDisk::within(&bench.subdirectory("outer"), 96, 16, "--direct-io=on");
    let inner = LoopDisk::stable(outer.path(), 32);
    let file = inner.path().join("data");
    create(&file, 128);
    for (scenario, frozen, option) in [
        (
            "page under writeback",
            outer.path(),
            &["--writing=page"][..],
        ),
        ("journal under way", outer.path(), &["--writing=journal"]),
        ("frozen file system", inner.path(), &[]),
    ] {
        let mut arguments = vec!["written".as_ref(), file.as_os_str(), frozen.as_os_str()];
        arguments.extend(option.iter().map(std::ffi::OsStr::new));
        let work = Work::start(arguments);
        judge(matrix, (scenario, "writeback"), work, (20, true));
    }
}
