//! Threads in faults that do not end: shown while they are stuck, and when they are no more.

use std::fs;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use faulttrace_tests::harness::disk::{create, evict};
use faulttrace_tests::harness::process::until;
use faulttrace_tests::harness::record::{Record, Sample, Stuck};
use faulttrace_tests::harness::slow::SlowFs;
use faulttrace_tests::harness::tracer::Tracer;
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::harness::{SOON, start};
use nix::sys::signal::Signal;

const HELD: usize = 5 * 4096;

fn held_workload(slow: &mut SlowFs) -> Work {
    let path = slow.file().to_str().expect("our own path").to_owned();
    slow.hold(HELD);
    Work::start([
        "touch",
        &path,
        "--touches=1",
        "--first-page=5",
        "--name=victim",
    ])
}

fn stuck_record(record: &Record) -> Option<Stuck> {
    match record {
        Record::Stuck(stuck) => Some((**stuck).clone()),
        _ => None,
    }
}

#[test]
fn a_thread_stuck_before_attach_is_shown_within_a_second_and_its_end_reported() {
    let bench = start();
    let mut slow = SlowFs::with_delay(&bench, 0);
    let mut work = held_workload(&mut slow);
    let (path, tid) = (
        slow.file().to_str().expect("our own path").to_owned(),
        work.ready.tids[0],
    );
    work.go();
    slow.wait_until_held();
    let begin = Instant::now();
    work.wait_until_in_fault(tid);
    // The times are the test's stimulus: two seconds stuck, then the tracer; six in all.
    thread::sleep(Duration::from_secs(2).saturating_sub(begin.elapsed()));
    let mut tracer = Tracer::of(work.pid());
    let attached = tracer.attached_at;
    let (at, stuck) = tracer.wait_for("the stuck thread", Duration::from_secs(3), stuck_record);
    assert!(
        at - attached <= Duration::from_secs(1),
        "shown after {:?}",
        at - attached
    );
    check_stuck_before_attach(&stuck, tid, &path);
    // Repeated while it lasts, with a growing time.
    let (_, again) = tracer.wait_for("a second report", Duration::from_secs(3), stuck_record);
    assert!(
        again.elapsed_ns > stuck.elapsed_ns,
        "{} then {}",
        stuck.elapsed_ns,
        again.elapsed_ns
    );

    // Where attaching takes long, long enough after it.
    let release = (begin + Duration::from_secs(6)).max(attached + Duration::from_millis(1500));
    thread::sleep(release.saturating_duration_since(Instant::now()));
    slow.release();
    work.done();
    let trace = tracer.stop();
    let faults = trace.faults(work.pid());
    let ended: Vec<_> = faults
        .iter()
        .filter(|fault| fault.facts.tid == tid && fault.facts.began_before_attach)
        .collect();
    let [fault] = ended[..] else {
        trace.fail(&format!("one fault ended, not {ended:#?}"));
    };
    assert!(
        fault.facts.began_before_attach && fault.blocked_ns > 1_000_000_000,
        "{fault:?}"
    );
    assert_eq!(fault.facts.path.as_deref(), Some(&*path), "{fault:?}");
    assert_ne!(fault.end, "died");
    fault.check_parts();
    work.exit();
}

#[test]
fn a_process_that_hangs_as_it_executes_a_program_does_not_hold_up_the_start() {
    let bench = start();
    let slow = SlowFs::with_delay(&bench, 0);
    let mut work = Work::start(["replaced".as_ref(), slow.file().as_os_str()]);
    hang_in_execve(&mut work, &slow);
    let trace = Tracer::start(["--all"]).stop();
    slow.resume();
    assert_eq!(trace.lost_for("stuck_before_not_looked_for"), 1);
}

#[test]
fn a_process_that_hangs_as_it_executes_a_program_does_not_hold_up_what_is_told_of_others() {
    let bench = start();
    let slow = SlowFs::with_delay(&bench, 0);
    let mut hangs = Work::start(["replaced".as_ref(), slow.file().as_os_str()]);
    let file = bench.path().join("data");
    create(&file, 1024);
    evict(&file);
    let path = file.to_str().expect("our own path");
    let mut other = Work::start(["touch", path, "--touches=200", "--threads=2"]);
    let pids = format!("{},{}", hangs.pid(), other.pid());
    let mut tracer = Tracer::start(["--pid", &pids]);
    hang_in_execve(&mut hangs, &slow);
    let done = other.run();
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let done_ns = since_1970.expect("after 1970").as_nanos();
    let of_other = other.pid();
    tracer.wait_for("its counters", Duration::from_secs(10), |record| {
        let is_later = |one: &Sample| u128::from(one.time_ns) > done_ns && one.user_ns.is_some();
        matches!(record, Record::Sample(one) if one.pid == of_other && is_later(one)).then_some(())
    });
    let trace = tracer.stop();
    slow.resume();
    let told = trace.summary(other.pid());
    assert_eq!(told.maj_flt_delta, Some(done.stat_majors));
    assert_eq!(told.maj_flt_remainder, Some(0));
    other.exit();
}

/// Lets it begin to execute a program: its file is closed before that begins, which asks the file system.
fn hang_in_execve(work: &mut Work, slow: &SlowFs) {
    slow.suspend();
    work.go();
    let stack = format!("/proc/{}/stack", work.pid());
    until("its stack cannot be read any more", SOON, || {
        !can_be_read(&stack)
    });
}

/// Whether reading a file comes to an end.
fn can_be_read(path: &str) -> bool {
    let (tell, told) = channel();
    let path = path.to_owned();
    // It may hang until the test is over.
    thread::spawn(move || tell.send(fs::read(path).is_ok()));
    told.recv_timeout(Duration::from_secs(1)).is_ok()
}

fn check_stuck_before_attach(stuck: &Stuck, tid: u32, path: &str) {
    let facts = &stuck.facts;
    assert_eq!((facts.tid, facts.thread.as_str()), (tid, "victim-0"));
    assert!(facts.began_before_attach, "{stuck:?}");
    assert_eq!(facts.cause(), "fuse", "{stuck:?}");
    assert_eq!(facts.path.as_deref(), Some(path), "its file: {stuck:?}");
    let frames = |stack: &Option<Vec<_>>| stack.as_ref().map_or(0, Vec::len);
    let frames = frames(&facts.user_stack) + frames(&facts.kernel_stack);
    assert!(frames > 0, "a stack: {stuck:?}");
}

#[test]
fn a_thread_that_gets_stuck_is_shown_with_address_and_stack() {
    let bench = start();
    let mut slow = SlowFs::with_delay(&bench, 0);
    let mut work = held_workload(&mut slow);
    let mut tracer = Tracer::of_with(work.pid(), &["--stuck-after", "200ms", "-k"]);
    work.go();
    let (_, stuck) = tracer.wait_for("the stuck thread", Duration::from_secs(3), stuck_record);
    assert!(
        stuck.elapsed_ns >= 200_000_000,
        "not before --stuck-after: {stuck:?}"
    );
    assert_eq!(stuck.facts.offset, Some(HELD as u64), "{stuck:?}");
    assert!(
        stuck.facts.address.is_some() && !stuck.facts.began_before_attach,
        "{stuck:?}"
    );
    let functions = stuck.facts.functions();
    assert!(
        functions.iter().any(|name| name.contains("touch_one")),
        "{functions:?}"
    );
    let kernel = stuck
        .facts
        .kernel_stack
        .as_deref()
        .expect("-k shows the kernel stack");
    let waits = kernel
        .iter()
        .any(|f| f.function.as_deref().is_some_and(|n| n.contains("fuse")));
    assert!(waits, "a FUSE function in {kernel:#?}");
    slow.release();
    work.done();
    let trace = tracer.stop();
    let faults = trace.faults(work.pid());
    let held: Vec<_> = faults
        .iter()
        .filter(|f| f.facts.offset == Some(HELD as u64))
        .collect();
    assert_eq!(held.len(), 1, "its end, once: {held:#?}");
    assert!(held[0].blocked_ns >= 200_000_000, "{:?}", held[0]);
    work.exit();
}

#[test]
fn a_fault_that_its_thread_does_not_survive_is_shown_as_such() {
    let bench = start();
    let mut slow = SlowFs::with_delay(&bench, 0);
    let path = slow.file().to_str().expect("our own path").to_owned();
    let mut work = Work::start(["touch", &path, "--touches=1", "--name=victim"]);
    let (pid, tid) = (work.pid(), work.ready.tids[0]);
    let mut tracer = Tracer::of(pid);
    // With the server stopped the request stays in the queue, where the waiter can be killed.
    slow.suspend();
    work.go();
    work.wait_until_in_fault(tid);
    tracer.wait_for("the stuck thread", Duration::from_secs(3), stuck_record);
    work.signal(Signal::SIGKILL);
    work.gone();
    slow.resume();
    // The target has exited, so the tracer ends by itself.
    let trace = tracer.finish();
    assert_eq!(trace.code, Some(0));
    let faults = trace.faults(pid);
    let died: Vec<_> = faults
        .iter()
        .filter(|fault| fault.facts.tid == tid)
        .collect();
    let [fault] = died[..] else {
        trace.fail(&format!("one fault, not {died:#?}"));
    };
    assert_eq!(fault.end, "died", "{fault:?}");
    assert!(
        fault.blocked_ns >= 100_000_000,
        "stuck for 100 ms at least: {fault:?}"
    );
    fault.check_parts();
    // And the file system is still sound.
    assert!(slow.log().len() <= 1);
}
