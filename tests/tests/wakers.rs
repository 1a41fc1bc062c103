//! Where the longest sleep of a fault lies, and who ended it: a known thread, or an interrupt that is
//! not blamed on the task it found running.

use std::collections::BTreeMap;
use std::fs;

use faulttrace_tests::harness::disk::{create, evict};
use faulttrace_tests::harness::record::{Fault, Sleep};
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::tracer::{Trace, Tracer};
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::harness::{emulated, start};

const MS: u64 = 1_000_000;

/// The faults of a process that slept, checked, with their longest sleeps.
fn sleeps(trace: &Trace, pid: u32) -> Vec<(&Fault, &Sleep)> {
    let faults = trace.faults(pid);
    faults.iter().for_each(|fault| fault.check_parts());
    let slept = faults.iter().filter(|fault| fault.facts.cause.is_some());
    let (slept, all) = (slept.count(), faults.len());
    let found: Vec<_> = faults
        .into_iter()
        .filter_map(|fault| Some((fault, fault.longest_sleep.as_ref()?)))
        .collect();
    // A switch that was not seen leaves it unknown; that is rare.
    trace.check(
        found.len() <= slept && found.len() * 100 >= slept * 98,
        || {
            format!(
                "{} longest sleeps, {slept} faults that slept, of {all}",
                found.len()
            )
        },
    );
    found
}

/// How often who woke, for messages.
fn tally(sleeps: &[(&Fault, &Sleep)]) -> String {
    let mut counts = BTreeMap::<_, usize>::new();
    for (_, sleep) in sleeps {
        let who = sleep.waker.as_ref().map(|waker| &*waker.thread);
        *counts.entry((sleep.woken_by.as_deref(), who)).or_default() += 1;
    }
    format!("{counts:?}")
}

/// The threads of a process: id and name.
fn threads(pid: u32) -> Vec<(u32, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives");
    let thread = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        Some((
            task.file_name().to_str()?.parse().ok()?,
            name.trim_end().to_owned(),
        ))
    };
    tasks.flatten().filter_map(thread).collect()
}

#[test]
fn a_file_system_in_user_space_wakes_by_its_threads() {
    let bench = start();
    let slow = SlowFs::mount(&bench, &Options::default());
    let path = slow.file().to_str().expect("our own path").to_owned();
    // The first CPU has something else to do, so that who is woken waits for it.
    let mut work = Work::start(["touch", &path, "--threads=2", "--touches=100", "--cpu=0"]);
    let tracer = Tracer::of(work.pid());
    let mut hog = Work::start(["hog", "--cpu=0"]);
    hog.go();
    let done = work.run();
    let trace = tracer.stop();
    hog.done();
    let servers = threads(slow.server());
    let mut sleeps = sleeps(&trace, work.pid());
    sleeps.retain(|(fault, _)| fault.facts.path.as_deref() == Some(&*path));
    trace.check(sleeps.len() >= 198, || format!("{} of 200", sleeps.len()));
    let (mut early, mut queued_ns) = (0, 0);
    for (fault, sleep) in &sleeps {
        assert_eq!(sleep.woken_by.as_deref(), Some("task"), "{fault:?}");
        let waker = sleep.waker.as_ref().expect("a task");
        assert_eq!(waker.pid, Some(slow.server()), "{fault:?}");
        let of_server =
            |(tid, name): &(u32, String)| waker.tid == Some(*tid) && *name == waker.thread;
        assert!(servers.iter().any(of_server), "{waker:?} in {servers:?}");
        // Its answer.
        assert_eq!(waker.syscall.as_deref(), Some("writev"), "{fault:?}");
        early += usize::from(sleep.after_ns < 5 * MS && sleep.blocked_ns >= 9 * MS);
        queued_ns += sleep.runqueue_ns;
    }
    trace.check(early * 10 >= sleeps.len() * 9, || {
        format!("{early} of {} slept early for the delay", sleeps.len())
    });
    // How long they waited for the CPU is the scheduler's choice; the kernel's own run_delay tells it,
    // with what lies outside these sleeps.
    let kernel_ns: u64 = done.threads.iter().map(|thread| thread.queued_ns).sum();
    eprintln!("run queue after these sleeps {queued_ns} ns, run_delay {kernel_ns} ns");
    let slack_ns = sleeps.len() as u64 * MS / 20;
    trace.check(queued_ns * 2 + slack_ns >= kernel_ns, || {
        format!("{queued_ns} ns on the run queue, of {kernel_ns} ns")
    });
    trace.check(queued_ns <= kernel_ns + slack_ns, || {
        format!("{queued_ns} ns on the run queue, more than {kernel_ns} ns")
    });
    work.exit();
    hog.exit();
}

#[test]
fn the_handler_of_userfaultfd_is_the_waker() {
    let _bench = start();
    let mut work = Work::start(["userfaultfd", "--pages=50", "--delay-ms=5"]);
    let tracer = Tracer::of(work.pid());
    let named = |(_, name): &(u32, String)| name == "uffd-handler";
    let (handler, _) = threads(work.pid())
        .into_iter()
        .find(named)
        .expect("its handler");
    work.run();
    let trace = tracer.stop();
    let of_handler = |fault: &Fault| fault.facts.cause() == "userfaultfd";
    let faults = trace.faults(work.pid()).into_iter();
    let faults = faults.filter(|fault| of_handler(fault)).count();
    let mut sleeps = sleeps(&trace, work.pid());
    sleeps.retain(|(fault, _)| of_handler(fault));
    // Of some thousand switches one is not seen, and with it the sleep before.
    let unseen = trace.lost_for("switches_unseen");
    trace.check(faults == 50 && sleeps.len() as u64 + unseen >= 50, || {
        format!("{} of {faults}, {unseen} not seen", sleeps.len())
    });
    for (fault, sleep) in &sleeps {
        let waker = sleep.waker.as_ref().expect("a task");
        let ids = (waker.pid, waker.tid, &*waker.thread);
        assert_eq!(
            ids,
            (Some(work.pid()), Some(handler), "uffd-handler"),
            "{fault:?}"
        );
        assert_eq!(waker.syscall.as_deref(), Some("ioctl"), "{fault:?}");
        assert_ne!(fault.facts.tid, handler);
    }
    work.exit();
}

#[test]
fn a_disk_wakes_by_interrupts_and_not_by_whom_they_interrupt() {
    let bench = start();
    let file = bench.path().join("data");
    create(&file, 4000);
    let path = file.to_str().expect("our own path");
    let mut work = Work::start(["touch", path, "--threads=4", "--touches=1000"]);
    evict(&file);
    let tracer = Tracer::of(work.pid());
    // Every CPU is busy, so that each interrupt finds somebody who has nothing to do with it. Not
    // before: little is left to the tracer to start with.
    let cpus = std::thread::available_parallelism().expect("CPUs").get();
    let mut hogs: Vec<_> = (0..cpus)
        .map(|cpu| Work::start(["hog", &format!("--cpu={cpu}")]))
        .collect();
    hogs.iter_mut().for_each(Work::go);
    work.run();
    let trace = tracer.stop();
    let sleeps = sleeps(&trace, work.pid());
    eprintln!("{}", tally(&sleeps));
    // The disk of an emulated machine has most pages before the busy CPU comes back to the thread.
    let enough = if emulated() { 50 } else { 1000 };
    trace.check(sleeps.len() >= enough, || {
        format!("{} sleeps of 4000", sleeps.len())
    });
    let mut fine = 0;
    for (fault, sleep) in &sleeps {
        let waker = sleep.waker.as_ref();
        let pid = waker.and_then(|waker| waker.pid);
        assert_ne!(pid, Some(work.pid()), "{fault:?}");
        let hog = hogs.iter().find(|hog| pid == Some(hog.pid()));
        assert!(hog.is_none(), "it does nothing but spin: {fault:?}");
        let of_kernel = pid.is_some_and(is_kernel_thread);
        let call = waker.and_then(|waker| waker.syscall.as_ref());
        assert!(!of_kernel || call.is_none(), "{fault:?}");
        let interrupt = sleep.woken_by.as_deref() == Some("interrupt");
        fine += usize::from(interrupt || of_kernel);
    }
    trace.check(fine * 10 >= sleeps.len() * 9, || tally(&sleeps));
    work.exit();
    for mut hog in hogs {
        hog.done();
        hog.exit();
    }
}

/// Whether it is a child of kthreadd.
fn is_kernel_thread(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let parent = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split(' ').nth(2));
    parent == Some("2")
}
