//! Which cause is reported, against which one is known: a confusion matrix of all that can be brought
//! about. What a touch waited for follows from what the scenario does, or from the log of the file
//! system; which touches those are, the workload says by its own clock and the kernel's count of its
//! sleeps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use faulttrace_tests::clock::{monotonic_ns, unix_ns};
use faulttrace_tests::frozen::Stutter;
use faulttrace_tests::harness::cgroup::MemoryGroup;
use faulttrace_tests::harness::disk::{LoopDisk, SwapFile, create, evict};
use faulttrace_tests::harness::record::Fault;
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::tracer::{Trace, Tracer};
use faulttrace_tests::harness::work::{Work, binary};
use faulttrace_tests::harness::{Bench, start};
use faulttrace_tests::mem::PAGE;
use faulttrace_tests::truth::{Done, Touch};

/// How far the clocks of a touch and of its fault may be apart, ns.
const SLACK_NS: u64 = 200_000;

/// Faults with a known cause by the one reported, and how long all were blocked.
#[derive(Default)]
struct Matrix {
    /// By scenario, truth, and cause reported.
    cells: BTreeMap<(&'static str, &'static str, String), u64>,
    blocked_ns: u64,
    unknown_ns: u64,
}

/// Touches of one process that waited, if they did, for this.
struct Known<'a> {
    scenario: &'static str,
    truth: &'static str,
    work: &'a Work,
    done: &'a Done,
    /// Fewer faults with a known cause are too few to say anything.
    at_least: usize,
}

impl Matrix {
    /// Counts the blocking faults of these touches. The workloads that ask for it (`all_slept`) list only
    /// touches that slept: then each must have a fault.
    fn count(&mut self, known: &Known<'_>, trace: &Trace, all_slept: bool) {
        let touches = by_place(known.work, known.done);
        let offset_ns = unix_ns() - monotonic_ns();
        let mut matched = BTreeSet::new();
        for fault in trace.faults(known.work.pid()) {
            fault.check_parts();
            let Some(cause) = &fault.facts.cause else {
                continue;
            };
            self.blocked_ns += fault.blocked_ns;
            if cause == "unknown" {
                self.unknown_ns += fault.blocked_ns;
                eprintln!("{}: unknown: {}", known.scenario, stack(fault));
            }
            let Some(touch) = touch_of(fault, &touches, offset_ns) else {
                continue;
            };
            matched.insert((fault.facts.tid, touch.begin_ns));
            if cause != known.truth {
                eprintln!(
                    "{}: {cause}, not {}: {}",
                    known.scenario,
                    known.truth,
                    stack(fault)
                );
            }
            let key = (known.scenario, known.truth, cause.clone());
            *self.cells.entry(key).or_default() += 1;
        }
        let listed = touches.values().map(Vec::len).sum::<usize>();
        if all_slept {
            tell_unmatched(known.scenario, &touches, &matched);
        }
        eprintln!(
            "{}: {} faults of {listed} touches",
            known.scenario,
            matched.len()
        );
        trace.check(matched.len() >= known.at_least, || {
            format!("{}: only {} faults", known.scenario, matched.len())
        });
        trace.check(!all_slept || matched.len() * 100 >= listed * 98, || {
            format!("{}: {listed} touches slept", known.scenario)
        });
    }

    /// Prints it: scenarios with what is true in rows, what is reported in columns.
    fn print(&self) {
        let columns: BTreeSet<_> = self.cells.keys().map(|(_, _, cause)| cause).collect();
        let rows: BTreeSet<_> = self
            .cells
            .keys()
            .map(|(of, truth, _)| (of, truth))
            .collect();
        eprint!("{:<26}{:<14}", "scenario", "truth");
        columns.iter().for_each(|cause| eprint!("{cause:>14}"));
        eprintln!();
        for (of, truth) in rows {
            eprint!("{of:<26}{truth:<14}");
            for cause in &columns {
                let count = self.cells.get(&(*of, *truth, (*cause).clone()));
                eprint!("{:>14}", count.copied().unwrap_or_default());
            }
            eprintln!();
        }
        let (unknown_ns, blocked_ns) = (self.unknown_ns, self.blocked_ns);
        eprintln!("unknown: {unknown_ns} ns of {blocked_ns} ns blocked");
    }

    /// In each scenario, and of the blocked time of all faults, at most one in a hundred is wrong.
    fn check(&self) {
        let mut totals: BTreeMap<_, (u64, u64)> = BTreeMap::new();
        for ((of, truth, cause), count) in &self.cells {
            let (right, all) = totals.entry((of, truth)).or_default();
            *right += if truth == cause { *count } else { 0 };
            *all += count;
        }
        for ((of, truth), (right, all)) in &totals {
            assert!(
                right * 100 >= all * 99,
                "{of}: {right} of {all} are {truth}"
            );
        }
        let right: u64 = totals.values().map(|(right, _)| right).sum();
        let all: u64 = totals.values().map(|(_, all)| all).sum();
        assert!(right * 100 >= all * 99, "{right} right of {all}");
        assert!(
            self.unknown_ns * 100 < self.blocked_ns,
            "{} ns of {} ns are unknown",
            self.unknown_ns,
            self.blocked_ns
        );
    }
}

/// A thread and the address of a page to what was done there.
type Places<'a> = BTreeMap<(u32, u64), Vec<&'a Touch>>;

fn by_place<'a>(work: &Work, done: &'a Done) -> Places<'a> {
    let memory = work.ready.places["memory"];
    let mut places = Places::new();
    for worker in &done.threads {
        for touch in &worker.touches {
            let place = (worker.tid, memory + touch.offset);
            places.entry(place).or_default().push(touch);
        }
    }
    places
}

/// The touch whose fault this is, by thread, page and time.
fn touch_of<'a>(fault: &Fault, touches: &Places<'a>, offset_ns: u64) -> Option<&'a Touch> {
    let address = fault.facts.address.as_deref()?.strip_prefix("0x")?;
    let address = u64::from_str_radix(address, 16).expect("an address");
    let page = address & !(PAGE as u64 - 1);
    let began_ns = fault.facts.time_ns? - offset_ns;
    let there = touches.get(&(fault.facts.tid, page))?.iter();
    let mut during = there
        .filter(|touch| (touch.begin_ns - SLACK_NS..=touch.end_ns + SLACK_NS).contains(&began_ns));
    during.next().copied()
}

/// Prints which touches have no fault in this set of threads and beginnings.
fn tell_unmatched(scenario: &str, touches: &Places<'_>, matched: &BTreeSet<(u32, u64)>) {
    for ((tid, address), there) in touches {
        for touch in there {
            if !matched.contains(&(*tid, touch.begin_ns)) {
                let took_ns = touch.end_ns - touch.begin_ns;
                eprintln!("{scenario}: {tid} at {address:#x} took {took_ns} ns without a fault");
            }
        }
    }
}

/// The functions of its kernel stack, innermost first.
fn stack(fault: &Fault) -> String {
    let frames = fault.facts.kernel_stack.as_deref().unwrap_or_default();
    let names = frames
        .iter()
        .map(|frame| frame.function.as_deref().unwrap_or("?"));
    names.collect::<Vec<_>>().join(" < ")
}

/// Runs a workload that is ready, traced.
fn run(work: &mut Work) -> (Done, Trace) {
    let tracer = Tracer::of(work.pid());
    let done = work.run();
    (done, tracer.stop())
}

/// Runs a workload to its end and counts: what it waited for is the same for all its touches.
fn judge(
    matrix: &mut Matrix,
    (scenario, truth): (&'static str, &'static str),
    mut work: Work,
    (at_least, all_slept): (usize, bool),
) {
    let (done, trace) = run(&mut work);
    let known = Known {
        scenario,
        truth,
        work: &work,
        done: &done,
        at_least,
    };
    matrix.count(&known, &trace, all_slept);
    work.exit();
}

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
        (20, true),
    );
    matrix.print();
    matrix.check();
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
    // Swapping out takes time, so that who wants more than the limit has to wait.
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
