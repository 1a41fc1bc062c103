//! The referees are tested themselves, without the tracer: if a workload did not do what it says,
//! a comparison with the tracer's records would prove nothing.

use faulttrace_tests::harness::cgroup::MemoryGroup;
use faulttrace_tests::harness::disk::{LoopDisk, SwapFile, create, evict};
use faulttrace_tests::harness::slow::SlowFs;
use faulttrace_tests::harness::start_without_tracer;
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::truth::Touch;
use nix::sys::signal::Signal;

#[test]
fn each_touch_of_the_slow_file_system_is_one_read_of_the_delay() {
    let bench = start_without_tracer();
    let mut slow = SlowFs::with_delay(&bench, 5_000);
    let file = slow.file().to_str().expect("our own path").to_owned();
    let mut work = Work::start(["touch", &file, "--threads=4", "--touches=50", "--verify"]);
    let done = work.run();
    let log = slow.log();
    assert_eq!(log.len(), 200, "one read for each touch");
    assert!(
        log.iter().all(|read| read.size == 4096),
        "one page at a time"
    );
    assert_eq!((done.rusage_majors, done.stat_majors), (200, 200));
    for touch in done.threads.iter().flat_map(|thread| &thread.touches) {
        let read = log
            .iter()
            .find(|read| read.offset == touch.offset)
            .expect("its read");
        assert!(read.end_ns - read.begin_ns >= 5_000_000, "{read:?}");
        assert!(
            touch.begin_ns <= read.begin_ns && read.end_ns <= touch.end_ns,
            "{touch:?}"
        );
    }
    work.exit();
}

#[test]
fn a_held_read_waits_for_its_release_and_a_killed_process_does_not() {
    let bench = start_without_tracer();
    let mut slow = SlowFs::with_delay(&bench, 0);
    let file = slow.file().to_str().expect("our own path").to_owned();
    slow.hold(8192);
    let mut work = Work::start(["touch", &file, "--touches=1", "--first-page=2"]);
    work.go();
    slow.wait_until_held();
    slow.release();
    assert_eq!(work.done().threads[0].touches[0].offset, 8192);
    work.exit();
    let mut work = Work::start(["touch", &file, "--touches=1", "--first-page=3"]);
    slow.suspend();
    work.go();
    work.wait_until_in_fault(work.ready.tids[0]);
    work.signal(Signal::SIGKILL);
    work.gone();
    slow.resume();
}

#[test]
fn churn_takes_one_major_for_each_page() {
    let bench = start_without_tracer();
    let file = bench.path().join("data");
    create(&file, 8192);
    let mut work = Work::start(["churn".as_ref(), file.as_os_str()]);
    evict(&file);
    let done = work.run();
    assert_eq!(done.rusage_majors, done.stat_majors);
    // Code of its own that is not in memory yet adds a few, if at all.
    assert!((8192..8196).contains(&done.stat_majors), "{done:?}");
    assert_eq!(done.figures["threads_created"], 128);
    work.exit();
}

#[test]
fn readahead_hides_majors_but_not_sleeps() {
    let bench = start_without_tracer();
    let disk = LoopDisk::new(&bench, 160, 16);
    let file = disk.path().join("data");
    create(&file, 32_768);
    let path = file.to_str().expect("our own path");
    let mut work = Work::start(["touch", path, "--touches=32768", "--sequential"]);
    evict(&file);
    let done = work.run();
    eprintln!("majors {}, sleeps {}", done.rusage_majors, done.sleeps);
    assert!(
        done.sleeps > 2_000,
        "thousands of sleeps, not {}",
        done.sleeps
    );
    assert!(
        done.rusage_majors * 4 < done.sleeps,
        "few majors: {}",
        done.rusage_majors
    );
    work.exit();
}

#[test]
fn get_user_pages_takes_majors_without_exceptions() {
    let bench = start_without_tracer();
    let (file, source) = (bench.path().join("data"), bench.path().join("source"));
    create(&file, 512);
    create(&source, 512);
    let mut work = Work::start(["gup".as_ref(), file.as_os_str(), source.as_os_str()]);
    evict(&file);
    let done = work.run();
    assert_eq!(done.figures["populate_majors"], 256);
    assert_eq!(done.figures["direct_majors"], 256);
    assert_eq!(done.stat_majors, 512);
    work.exit();
}

#[test]
fn system_calls_fault_on_cold_buffers() {
    let bench = start_without_tracer();
    let mut slow = SlowFs::with_delay(&bench, 2_000);
    let (source, sink) = (bench.path().join("source"), bench.path().join("sink"));
    create(&source, 64);
    let arguments = [slow.file_arg(), source.as_os_str(), sink.as_os_str()];
    let mut work = Work::start([&["kernel-mode".as_ref()], &arguments[..]].concat());
    let done = work.run();
    assert_eq!(slow.log().len(), 30, "six system calls, five times");
    assert_eq!(done.rusage_majors, 30);
    assert!(
        done.threads[0]
            .touches
            .iter()
            .all(|call| call.elapsed_ns() >= 2_000_000)
    );
    work.exit();
}

#[test]
fn quiet_blocks_without_majors() {
    let _bench = start_without_tracer();
    let mut work = Work::start(["quiet", "--rounds=20"]);
    let done = work.run();
    assert_eq!((done.rusage_majors, done.stat_majors), (0, 0));
    assert!(done.wall_ns >= 20 * 4 * 2_000_000);
    work.exit();
}

#[test]
fn swapped_pages_are_majors() {
    let bench = start_without_tracer();
    let _swap = SwapFile::new(bench.path(), 32);
    let group = MemoryGroup::new();
    let mut work = Work::start_swapped_out(&group, 1024);
    let done = work.run();
    eprintln!(
        "swapped {}, majors {}",
        done.figures["swapped_pages"], done.rusage_majors
    );
    assert!(done.figures["swapped_pages"] >= 1000, "{:?}", done.figures);
    // Swap has readahead, of 8 pages unless somebody set it otherwise.
    assert!(done.rusage_majors >= 64, "majors: {}", done.rusage_majors);
    work.exit();
}

#[test]
fn userfaultfd_makes_faults_that_wait_all_major_or_none() {
    let _bench = start_without_tracer();
    let mut work = Work::start(["userfaultfd", "--pages=20", "--delay-ms=5"]);
    let done = work.run();
    // A fault that is tried again counts as major, but for one that was first tried under the VMA's
    // lock: kernel commit 0bff0aaea03e (6.4).
    assert!([0, 20].contains(&done.rusage_majors), "{done:?}");
    assert!(
        done.threads[0]
            .touches
            .iter()
            .all(|touch| touch.elapsed_ns() >= 5_000_000)
    );
    work.exit();
}

#[test]
fn touches_wait_for_mmap_lock() {
    let _bench = start_without_tracer();
    let mut work = Work::start(["mmap-lock", "--waits=20"]);
    let done = work.run();
    let waits: Vec<_> = done.threads[0]
        .touches
        .iter()
        .map(Touch::elapsed_ns)
        .collect();
    eprintln!("waits {waits:?}, holds {}", done.figures["holds"]);
    assert_eq!((waits.len(), done.rusage_majors), (20, 0));
    // A waiter may spin for a while before it sleeps.
    assert!(done.sleeps >= 5, "waits are sleeps: {}", done.sleeps);
    work.exit();
}

#[test]
fn children_and_storms_do_what_they_say() {
    let bench = start_without_tracer();
    let file = bench.path().join("data");
    create(&file, 64);
    let mut work = Work::start(["tree".as_ref(), file.as_os_str()]);
    evict(&file);
    let done = work.run();
    assert_eq!(done.threads.len(), 4, "two forked, two executed");
    work.exit();
    let mut work = Work::start(["storm", "--rounds=10", "--spinners=2"]);
    let done = work.run();
    assert_eq!(done.rusage_majors, 0);
    assert_eq!(done.figures["faults"], 40_960);
    assert!(done.figures["ns_per_fault"] > 0);
    work.exit();
}

#[test]
fn the_hog_makes_a_woken_thread_wait_for_the_cpu() {
    let bench = start_without_tracer();
    let mut slow = SlowFs::with_delay(&bench, 3_000);
    let file = slow.file().to_str().expect("our own path").to_owned();
    let mut hog = Work::start(["hog", "--cpu=0"]);
    hog.go();
    let mut work = Work::start(["touch", &file, "--touches=50", "--cpu=0"]);
    let done = work.run();
    hog.done();
    let served: u64 = slow
        .log()
        .iter()
        .map(|read| read.end_ns - read.begin_ns)
        .sum();
    let waited = done.threads[0].touch_ns;
    eprintln!("waited {waited}, served {served}");
    // As the kernel counts it, half a millisecond for each touch at least.
    let queued = done.threads[0].queued_ns;
    assert!(
        queued >= 50 * 500_000,
        "waits for the CPU: {queued} of {waited} ns"
    );
    work.exit();
    hog.exit();
}
