//! Stalls, against the clocks of the threads that were in them, and what is counted beside them.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use faulttrace_tests::clock::{monotonic_ns, unix_ns};
use faulttrace_tests::frozen::Stutter;
use faulttrace_tests::harness::cgroup::MemoryGroup;
use faulttrace_tests::harness::disk::{LoopDisk, SwapFile, depth};
use faulttrace_tests::harness::record::{Record, Sample, Stall};
use faulttrace_tests::harness::saved::{SavedTrace, report};
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::tracer::{Trace, Tracer};
use faulttrace_tests::harness::work::{Work, binary};
use faulttrace_tests::harness::{emulated, start};
use faulttrace_tests::mem::PAGE;
use faulttrace_tests::truth::Done;
use serde_json::Value;

const THREADS: usize = 4;

fn touch(slow: &SlowFs, touches: usize) -> Work {
    let path = slow.file().to_str().expect("our own path").to_owned();
    let (threads, touches) = (
        format!("--threads={THREADS}"),
        format!("--touches={touches}"),
    );
    Work::start(["touch", &path, &threads, &touches, "--name=w"])
}

fn slow_by(bench: &faulttrace_tests::harness::Bench, delay_us: u64) -> SlowFs {
    SlowFs::mount(
        bench,
        &Options {
            delay_us,
            pages: 70_000,
            ..Options::default()
        },
    )
}

fn stalls(trace: &Trace) -> Vec<&Stall> {
    let told = trace.records.iter().filter_map(|record| match record {
        Record::Stall(stall) => Some(&**stall),
        _ => None,
    });
    told.collect()
}

fn samples(trace: &Trace, pid: u32) -> Vec<&Sample> {
    let read = trace.records.iter().filter_map(|record| match record {
        Record::Sample(sample) if sample.pid == pid => Some(&**sample),
        _ => None,
    });
    read.collect()
}

/// When so many threads were in touches at once, by their own clocks: (begin, end), ns.
fn truth(done: &Done, needed: usize) -> Vec<(u64, u64)> {
    let mut edges: BTreeMap<u64, i64> = BTreeMap::new();
    for touch in done.threads.iter().flat_map(|worker| &worker.touches) {
        *edges.entry(touch.begin_ns).or_default() += 1;
        *edges.entry(touch.end_ns).or_default() -= 1;
    }
    let (mut count, mut begin, mut found) = (0, None, Vec::new());
    for (at, change) in edges {
        count += change;
        let is_stall = count >= i64::try_from(needed).expect("few");
        match (begin, is_stall) {
            (None, true) => begin = Some(at),
            (Some(since), false) => {
                found.push((since, at));
                begin = None;
            }
            _ => {}
        }
    }
    found
}

fn near(name: &str, found: u64, truth: u64, percent: u64) {
    let off = found.abs_diff(truth) as f64 * 100.0 / truth.max(1) as f64;
    eprintln!("{name}: found {found}, truth {truth}: {off:.2} % off");
    assert!(off <= percent as f64, "{name}: {found} against {truth}");
}

/// The report's stalls of the only process.
fn reported(path: &Path, options: &[&str]) -> Value {
    report(path, options)["total"]["stalls"].clone()
}

/// The windows that were told live are those that the report finds going backwards.
fn check_report(trace: &Trace, pid: u32) {
    // On an emulated machine nothing is saved.
    let Some(saved) = trace.saved.as_ref().map(SavedTrace::path) else {
        return;
    };
    let found = reported(&saved, &["--top", "1000"]);
    let longest = found["longest"].as_array().expect("a list").iter();
    let mut backwards: Vec<(u64, u64, u64, u64)> = longest
        .map(|one| {
            let number = |key: &str| one[key].as_u64().expect("a number");
            let (begin, length) = (number("begin_ns"), number("length_ns"));
            (begin, length, number("threads"), number("max_threads"))
        })
        .filter(|(_, length, ..)| *length >= 10_000_000)
        .collect();
    backwards.sort_unstable();
    let forwards: Vec<_> = stalls(trace)
        .into_iter()
        .filter(|stall| stall.pid == pid && (stall.over || stall.duration_ns == 0))
        .map(|stall| {
            let parts = (stall.threads, stall.max_threads);
            (stall.time_ns, stall.duration_ns, parts.0, parts.1)
        })
        .collect();
    assert_eq!(forwards, backwards, "live and in the report");
    let summary = trace.records.last();
    assert!(matches!(summary, Some(Record::Summary(_))));
}

#[test]
fn stalls_are_those_that_the_threads_clocks_show() {
    let bench = start();
    let slow = slow_by(&bench, 60_000);
    let mut work = touch(&slow, 15);
    let pid = work.pid();
    let tracer = Tracer::of_with(pid, &["--stall-threads", "3"]);
    let done = work.run();
    let trace = tracer.stop();
    work.exit();
    let told: Vec<_> = stalls(&trace).into_iter().filter(|one| one.over).collect();
    let expected = truth(&done, 3);
    let sum = |windows: &[(u64, u64)]| windows.iter().map(|(begin, end)| end - begin).sum::<u64>();
    let found: u64 = told.iter().map(|stall| stall.duration_ns).sum();
    near("length of all stalls", found, sum(&expected), 5);
    // From the first to the last one's end.
    let (first, last) = (told.first().expect("stalls"), told.last().expect("stalls"));
    let span = last.time_ns + last.duration_ns - first.time_ns;
    let expected_span = expected.last().expect("stalls").1 - expected[0].0;
    near("from the first to the last", span, expected_span, 5);
    for stall in &told {
        assert_eq!(stall.threads_needed, 3);
        assert!((3..=4).contains(&stall.max_threads), "{stall:?}");
        let [file] = stall.files.as_slice() else {
            panic!("one file: {stall:?}")
        };
        assert_eq!(file.path.as_deref(), slow.file().to_str());
        assert_eq!(stall.causes.keys().collect::<Vec<_>>(), ["fuse"]);
    }
    check_report(&trace, pid);
}

#[test]
fn a_stall_is_told_while_it_goes_on_with_what_is_counted_beside_it() {
    let bench = start();
    let mut slow = slow_by(&bench, 0);
    for page in 0..THREADS {
        slow.hold(page * PAGE);
    }
    let mut work = touch(&slow, 1);
    let pid = work.pid();
    // Half of four threads make a stall by default.
    let mut tracer = Tracer::of(pid);
    // So that there is one before the stall.
    tracer.wait_for("a sample", Duration::from_secs(10), |record| {
        matches!(record, Record::Sample(_)).then_some(())
    });
    work.go();
    let (_, going_on) = tracer.wait_for(
        "a stall that goes on",
        Duration::from_secs(10),
        |record| match record {
            Record::Stall(stall) => Some(stall.clone()),
            _ => None,
        },
    );
    assert!(
        !going_on.over && going_on.duration_ns >= 100_000_000,
        "{going_on:?}"
    );
    assert_eq!((going_on.threads, going_on.max_threads), (4, 4));
    // The test's stimulus: long enough for some samples.
    thread::sleep(Duration::from_secs(2));
    slow.release();
    let done = work.done();
    // Told with the first sample after it.
    tracer.wait_for("its end", Duration::from_secs(10), |record| {
        matches!(record, Record::Stall(stall) if stall.over).then_some(())
    });
    let trace = tracer.stop();
    work.exit();
    let told = stalls(&trace);
    let last = told.last().expect("its end");
    assert!(last.over && last.time_ns == going_on.time_ns, "{last:?}");
    let [(begin, end)] = truth(&done, 2)[..] else {
        panic!("one stall: {:?}", truth(&done, 2))
    };
    near("length of the stall", last.duration_ns, end - begin, 3);
    assert_eq!(
        (last.threads, last.max_threads, last.threads_needed),
        (4, 4, 2)
    );
    check_beside(last);
    check_report(&trace, pid);
}

/// What stands beside a stall of two seconds and more of all threads of the workload but one.
fn check_beside(last: &Stall) {
    let beside = last.meanwhile.as_ref().expect("samples");
    assert!(beside.time_ns <= last.time_ns, "{beside:?}");
    assert!(
        beside.time_ns + beside.duration_ns >= last.time_ns + last.duration_ns,
        "over all of it: {beside:?}"
    );
    assert!(
        beside.samples >= 4 && beside.threads == Some(5),
        "{beside:?}"
    );
    assert!(beside.iowait_ns.is_some() && beside.run_queue.is_some());
    // Nobody but those in faults wanted to run; a look may catch one on its way.
    assert!(beside.runnable_share > Some(0.8), "{beside:?}");
    // Four threads that sleep take no CPU: less than one tick in a hundred.
    let cpu = beside.user_ns.expect("known") + beside.system_ns.expect("known");
    assert!(cpu * 20 <= beside.duration_ns, "{beside:?}");
    let has_pressure = Path::new("/proc/pressure/io").exists();
    assert_eq!(beside.pressure_of.is_some(), has_pressure, "{beside:?}");
    assert_eq!(beside.io_some_ns.is_some(), has_pressure, "{beside:?}");
}

#[test]
fn a_stall_that_does_not_end_is_told_at_the_end_of_tracing() {
    let bench = start();
    let mut slow = slow_by(&bench, 0);
    for page in 0..THREADS {
        slow.hold(page * PAGE);
    }
    let mut work = touch(&slow, 1);
    let mut tracer = Tracer::of_with(work.pid(), &["--stall-threads", "4"]);
    work.go();
    tracer.wait_for("a stall that goes on", Duration::from_secs(10), |record| {
        matches!(record, Record::Stall(_)).then_some(())
    });
    let trace = tracer.stop();
    let told = stalls(&trace);
    let last = told.last().expect("told once more");
    assert!(!last.over && last.threads == 4, "{last:?}");
    assert!(last.duration_ns >= told[0].duration_ns);
    if let Some(saved) = trace.saved.as_ref().map(SavedTrace::path) {
        let longest = &reported(&saved, &[])["longest"][0];
        assert_eq!(longest["begin_ns"], last.time_ns, "{longest}");
        assert_eq!(longest["length_ns"], last.duration_ns, "{longest}");
    }
    slow.release();
    work.done();
    work.exit();
}

#[test]
fn the_cpu_time_of_samples_is_that_of_getrusage() {
    let bench = start();
    let slow = slow_by(&bench, 0);
    let mut work = touch(&slow, 15_000);
    let pid = work.pid();
    let mut tracer = Tracer::of(pid);
    let done = work.run();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let done_ns = now.expect("after 1970").as_nanos();
    tracer.wait_for("a sample after it", Duration::from_secs(10), |record| {
        let is_later = |one: &Sample| u128::from(one.time_ns) > done_ns && one.user_ns.is_some();
        matches!(record, Record::Sample(one) if is_later(one)).then_some(())
    });
    let trace = tracer.stop();
    work.exit();
    let read: Vec<_> = samples(&trace, pid);
    let cpu = |sample: &Sample| Some(sample.user_ns? + sample.system_ns?);
    let known: Vec<_> = read
        .iter()
        .filter_map(|sample| Some((sample.time_ns, cpu(sample)?)))
        .collect();
    // What it does after its touches, telling of them, is not in its own figure.
    let clocks_apart_ns = unix_ns() - monotonic_ns();
    let touches = done.threads.iter().flat_map(|worker| &worker.touches);
    let touched_ns = touches.map(|touch| touch.end_ns).max().expect("touches") + clocks_apart_ns;
    let (first, last) = (
        known.first().expect("samples").1,
        known
            .iter()
            .find(|(time_ns, _)| *time_ns >= touched_ns)
            .expect("a sample after it")
            .1,
    );
    eprintln!("{} samples in {} ms", read.len(), done.wall_ns / 1_000_000);
    near("CPU time", last - first, done.cpu_ns, 10);
    assert!(
        read.iter()
            .all(|sample| sample.settled_ns <= sample.time_ns)
    );
    // At most five a second, however many faults there are.
    let (begin, end) = (read[0].time_ns, read[read.len() - 1].time_ns);
    let seconds = (end - begin).div_ceil(1_000_000_000) + 1;
    assert!(read.len() as u64 <= 5 * seconds, "{} samples", read.len());
    check_report(&trace, pid);
}

#[test]
fn the_pressure_of_samples_is_that_of_the_targets_cgroup() {
    let bench = start();
    let outer = LoopDisk::new(&bench, 224, 16);
    let disk = LoopDisk::within(outer.path(), 160, 16, "--direct-io=on");
    let _swap = SwapFile::new(disk.path(), 96);
    let group = MemoryGroup::with_pressure();
    group.limit(16 << 20);
    let mut command = group.command(&binary());
    command.args(["grow", "--pages=16000"]);
    let mut work = Work::start_command("grow", &mut command);
    let before = group.memory_pressure_ns();
    let mut tracer = Tracer::of(work.pid());
    // Swapping out takes time, and only a few pages can be on their way: so who wants more than the limit has to
    // wait.
    let _depth = depth(disk.name(), 4);
    let slow = Stutter::new(outer.path(), Duration::from_millis(5));
    let done = work.run();
    drop(slow);
    let after = group.memory_pressure_ns();
    let done_ns = unix_ns();
    let (_, last) = tracer.wait_for("a sample after it", Duration::from_secs(10), |record| {
        let later = |one: &Sample| one.time_ns > done_ns && one.threads.is_some();
        match record {
            Record::Sample(one) if later(one) => Some(one.clone()),
            _ => None,
        }
    });
    // It hardly waits for anything any more: what was counted since is what it had to do to say so.
    let later = group.memory_pressure_ns();
    let trace = tracer.stop();
    work.exit();
    let (Some(before), Some(after), Some(later)) = (before, after, later) else {
        // Not counted by cgroup here; then it is the machine's, or none.
        assert_ne!(last.pressure_of.as_deref(), Some("cgroup"), "{last:?}");
        return;
    };
    assert_eq!(last.pressure_of.as_deref(), Some("cgroup"), "{last:?}");
    let (some_ns, full_ns) = (last.memory_some_ns, last.memory_full_ns);
    let told = (some_ns.expect("counted"), full_ns.expect("counted"));
    assert!((after.0..=later.0).contains(&told.0), "{last:?}");
    assert!((after.1..=later.1).contains(&told.1), "{last:?}");
    near("since then", later.0, after.0, 2);
    for sample in samples(&trace, done.pid) {
        let some_ns = sample.memory_some_ns.unwrap_or(before.0);
        assert!((before.0..=later.0).contains(&some_ns), "{sample:?}");
    }
    // Whom the limit made sleep is in the count; so is what it did itself to make room, and who waited for
    // code that had to go.
    let faults = trace.faults(done.pid);
    let by_limit = faults
        .iter()
        .filter(|fault| fault.facts.cause() == "memcg_reclaim");
    let slept_ns: u64 = by_limit.map(|fault| fault.blocked_ns).sum();
    let (counted_ns, touched_ns) = (after.0 - before.0, done.threads[0].touch_ns);
    eprintln!("pressure {counted_ns} ns, slept {slept_ns} ns of touches of {touched_ns} ns");
    assert!(slept_ns > 0 && slept_ns <= touched_ns);
    // On an emulated machine it is making room that takes most of the time, not the disk.
    assert!(slept_ns * 2 >= touched_ns || emulated());
    assert!(counted_ns * 3 >= slept_ns * 2 && counted_ns <= done.wall_ns);
}
