//! Waits that have nothing to do with reading a file, each named.

use faulttrace_tests::harness::cgroup::MemoryGroup;
use faulttrace_tests::harness::disk::{LoopDisk, SwapFile, create, evict};
use faulttrace_tests::harness::record::Fault;
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::tracer::{Trace, Tracer};
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::truth::Done;

/// The faults with this cause. Panics if one did not block.
fn blocking<'a>(trace: &'a Trace, pid: u32, cause: &str) -> Vec<&'a Fault> {
    let faults = trace.faults(pid);
    let found: Vec<_> = faults
        .into_iter()
        .filter(|f| f.facts.cause() == cause)
        .collect();
    for fault in &found {
        assert!(fault.blocked_ns > 0, "a cause without a wait: {fault:?}");
        fault.check_parts();
    }
    found
}

/// Time of the faults as a part of the touches' own time, in percent.
fn percent(faults: &[&Fault], done: &Done) -> u64 {
    let reported_ns: u64 = faults.iter().map(|fault| fault.duration_ns).sum();
    reported_ns * 100 / done.threads[0].touch_ns
}

#[test]
fn swap_in() {
    let bench = start();
    // A loop device is served by a thread of the kernel, so that who reads it sleeps.
    let disk = LoopDisk::new(&bench, 64, 16);
    let _swap = SwapFile::new(disk.path(), 32);
    let group = MemoryGroup::new();
    let mut work = Work::start_swapped_out(&group, 2048);
    let tracer = Tracer::of(work.pid());
    let done = work.run();
    let trace = tracer.stop();
    let swapped = blocking(&trace, work.pid(), "swap_in");
    let majors = trace
        .faults(work.pid())
        .iter()
        .filter(|fault| fault.major)
        .count() as u64;
    // Taking its memory away took its code as well: some majors come before the work begins.
    let summary = trace.summary(work.pid());
    assert_eq!(
        (summary.majors, summary.maj_flt_remainder),
        (majors, Some(0))
    );
    assert!(majors >= done.stat_majors, "{majors} majors: {done:?}");
    // A read from a fast disk may be over before the thread sleeps; most are not, but where a single
    // CPU does both.
    let slept = majors.min(done.sleeps);
    assert!(slept > 0, "{done:?}");
    trace.check(swapped.len() as u64 * 2 >= slept, || {
        let swapped = swapped.len();
        format!(
            "{swapped} blocking swap-ins, {majors} majors, {} sleeps",
            done.sleeps
        )
    });
    // Its heap, stack and changed pages of its program and libraries were swapped out as well: some dozens,
    // beside which the workload's own are not so many where a single CPU hardly ever sleeps for them.
    let anonymous = |fault: &&&Fault| fault.facts.mapping.as_deref() == Some("anon");
    let own = swapped.iter().filter(anonymous).count();
    trace.check(own * 3 >= swapped.len(), || {
        format!(
            "{own} swap-ins of the workload's memory, of {}",
            swapped.len()
        )
    });
    work.exit();
}

#[test]
fn userfaultfd() {
    let _bench = start();
    let mut work = Work::start(["userfaultfd", "--pages=50", "--delay-ms=10"]);
    let tracer = Tracer::of(work.pid());
    let done = work.run();
    let trace = tracer.stop();
    let waits = blocking(&trace, work.pid(), "userfaultfd");
    trace.check(waits.len() == 50, || {
        format!("50 waits for the handler, not {}", waits.len())
    });
    let majors = waits.iter().filter(|fault| fault.major).count() as u64;
    assert_eq!(majors, done.stat_majors, "as the kernel counts them");
    assert!(waits.iter().all(|fault| fault.facts.mode == "user"));
    assert!(
        waits
            .iter()
            .all(|fault| fault.facts.access.as_deref() == Some("read"))
    );
    let part = percent(&waits, &done);
    assert!(
        (98..=100).contains(&part),
        "{part} % of the workload's own time"
    );
    work.exit();
}

#[test]
fn mmap_lock() {
    let _bench = start();
    let mut work = Work::start(["mmap-lock", "--waits=50"]);
    let tracer = Tracer::of(work.pid());
    let done = work.run();
    let trace = tracer.stop();
    let tid = work.ready.tids[0];
    let all = blocking(&trace, work.pid(), "mmap_lock");
    // Other touches wait too, but shorter than the workload cares to list; and a touch may be long
    // because its thread was preempted on the way.
    let long: Vec<_> = all
        .into_iter()
        .filter(|fault| fault.facts.tid == tid && fault.duration_ns >= 1_900_000)
        .collect();
    trace.check((45..=52).contains(&long.len()), || {
        format!("50 long waits for mmap_lock, not {}", long.len())
    });
    check_holder(&trace, &long, &done);
    let part = percent(&long, &done);
    assert!(
        (90..=110).contains(&part),
        "{part} % of the workload's own time"
    );
    work.exit();
}

/// Who woke was the thread that held the lock, in the call for which it did; of no wait somebody else.
fn check_holder(trace: &Trace, waits: &[&Fault], done: &Done) {
    let holder = u32::try_from(done.figures["holder"]).expect("a thread id");
    let mut named = 0;
    for fault in waits {
        let sleep = fault.longest_sleep.as_ref();
        let Some(waker) = sleep.and_then(|sleep| sleep.waker.as_ref()) else {
            continue;
        };
        let ids = (waker.pid, waker.tid, &*waker.thread);
        assert_eq!(
            ids,
            (Some(done.pid), Some(holder), "lock-holder"),
            "{fault:?}"
        );
        assert_eq!(waker.syscall.as_deref(), Some("mprotect"), "{fault:?}");
        named += 1;
    }
    eprintln!("{named} of {} waits have a holder", waits.len());
    trace.check(named * 100 >= waits.len() * 95, || {
        format!("{named} of {} waits have a holder", waits.len())
    });
}

#[test]
fn a_read_of_ones_own_and_one_that_readahead_started() {
    let bench = start();
    let disk = LoopDisk::new(&bench, 64, 16);
    let file = disk.path().join("data");
    create(&file, 4096);
    let path = file.to_str().expect("our own path");
    let mut work = Work::start(["touch", path, "--touches=4096", "--sequential"]);
    evict(&file);
    let tracer = Tracer::of(work.pid());
    work.run();
    let trace = tracer.stop();
    let waits = blocking(&trace, work.pid(), "read_wait");
    trace.check(waits.len() > 100, || {
        format!("{} waits for readahead", waits.len())
    });
    assert!(
        waits.iter().all(|fault| !fault.major),
        "a page under read is no major"
    );
    work.exit();

    let mut work = Work::start(["touch", path, "--touches=500"]);
    evict(&file);
    let tracer = Tracer::of(work.pid());
    let done = work.run();
    let trace = tracer.stop();
    let reads = blocking(&trace, work.pid(), "file_read");
    assert_eq!(done.stat_majors, 500);
    trace.check(reads.len() > 400, || {
        format!("{} reads of its own, of 500", reads.len())
    });
    work.exit();
}
