//! Advice on real workloads, and what becomes of them if it is taken.
//!
//! The truth: what each workload does is known, so is what helps it, and that is tried: the blocked
//! time of a second run, in which the advice is taken, is compared with what was promised.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use faulttrace_tests::harness::cgroup::MemoryGroup;
use faulttrace_tests::harness::disk::{LoopDisk, SwapFile, create, evict};
use faulttrace_tests::harness::saved::{SavedTrace, report, succeed};
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::tracer::{Trace, Tracer};
use faulttrace_tests::harness::work::{Work, binary};
use serde_json::Value;

/// A traced run.
struct Run {
    trace: Trace,
    pid: u32,
    /// How long its faults on the file blocked, ns.
    blocked_ns: u64,
}

/// Touches a cold file.
fn touch(file: &Path, options: &[&str]) -> Run {
    let mut command = Command::new(binary());
    touch_as(&mut command, file, options)
}

/// The same, as a command that is prepared already.
fn touch_as(command: &mut Command, file: &Path, options: &[&str]) -> Run {
    command.arg("touch").arg(file).args(options);
    let mut work = Work::start_command("touch", command);
    evict(file);
    let tracer = Tracer::of_with(work.pid(), &["--no-symbols"]);
    work.run();
    let trace = tracer.stop();
    let pid = work.pid();
    work.exit();
    let blocked_ns = blocked_ns(&trace, pid, file);
    Run {
        trace,
        pid,
        blocked_ns,
    }
}

/// The shorter of two runs: what else the machine does can only make one longer.
fn least_ns(file: &Path, options: &[&str]) -> u64 {
    let runs = (0..2).map(|_| touch(file, options).blocked_ns);
    runs.min().expect("two runs")
}

fn blocked_ns(trace: &Trace, pid: u32, file: &Path) -> u64 {
    let name = file.to_str();
    let faults = trace.faults(pid).into_iter();
    faults
        .filter(|fault| fault.facts.path.as_deref() == name)
        .map(|fault| fault.blocked_ns)
        .sum()
}

/// Reads that its faults on the file started.
fn reads(run: &Run, file: &Path) -> u64 {
    let faults = run.trace.faults(run.pid).into_iter();
    let majors = faults.filter(|fault| fault.major && fault.facts.path.as_deref() == file.to_str());
    majors.count() as u64
}

fn saved(trace: &Trace) -> &SavedTrace {
    trace.saved.as_ref().expect("it saves what it traces")
}

/// What `faulttrace advise` says of a trace. Panics unless the report ends with the same.
fn advice(trace: &Trace, options: &[&str]) -> Value {
    let path = saved(trace).path();
    let words = ["advise", "--format=json"].map(OsStr::new);
    let options_ = options.iter().map(OsStr::new);
    let found = succeed(words.into_iter().chain(options_).chain([path.as_os_str()]));
    let found: Value = serde_json::from_str(&found).expect("one JSON object");
    assert_eq!(found["advice"], report(&path, options)["advice"]);
    let text = succeed([OsStr::new("advise"), path.as_os_str()]);
    assert!(text.contains("\nADVICE\n"), "{text}");
    eprintln!("{}", text.split("\nADVICE\n").last().unwrap_or_default());
    found["advice"].clone()
}

fn rules(advice: &Value) -> Vec<&str> {
    let given = advice["given"].as_array().expect("a list");
    let rules = given
        .iter()
        .map(|one| one["rule"].as_str().expect("a name"));
    rules.collect()
}

/// The piece of a rule. Panics if there is none.
fn piece<'a>(advice: &'a Value, rule: &str) -> &'a Value {
    let given = advice["given"].as_array().expect("a list");
    let found = given.iter().find(|one| one["rule"] == rule);
    found.unwrap_or_else(|| panic!("no {rule} in {:?}", rules(advice)))
}

fn actions(piece: &Value) -> Vec<&str> {
    let actions = piece["actions"].as_array().expect("a list");
    let names = actions.iter().map(|one| one["action"].as_str());
    names.map(|name| name.expect("a name")).collect()
}

fn number(piece: &Value, field: &str) -> u64 {
    piece[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field} of {piece}"))
}

/// Panics unless of what was promised so many percent came true, at least, and no more than all of it:
/// a gain is a bound.
fn check_kept(what: &str, piece: &Value, before_ns: u64, after_ns: u64, percent: u64) {
    let promised_ns = number(piece, "gain_at_most_ns");
    let gained_ns = before_ns.saturating_sub(after_ns);
    eprintln!(
        "{what}: {} us blocked before, {} us after: gained {} us of at most {} us promised",
        before_ns / 1000,
        after_ns / 1000,
        gained_ns / 1000,
        promised_ns / 1000
    );
    assert!(promised_ns <= number(piece, "blocked_ns"), "{piece}");
    assert!(
        gained_ns * 100 >= promised_ns * percent,
        "{what}: gained {gained_ns} ns, promised {promised_ns} ns"
    );
    // Two runs differ, also in how long a read takes; a bound that is passed by much is none.
    assert!(
        gained_ns * 100 <= promised_ns * 150,
        "{what}: gained {gained_ns} ns, but {promised_ns} ns was all that could be"
    );
}

#[test]
fn page_by_page_in_order_wants_readahead() {
    let bench = start();
    let disk = LoopDisk::new(&bench, 64, 128);
    let file = disk.path().join("data");
    create(&file, 8192);
    let before = touch(&file, &["--touches=8192"]);
    let advice = advice(&before.trace, &[]);
    assert_eq!(rules(&advice), ["readahead_off"]);
    let piece = piece(&advice, "readahead_off");
    assert_eq!(piece["path"], file.to_str().expect("our own path"));
    assert_eq!(number(piece, "blocked_ns"), before.blocked_ns);
    assert_eq!(
        actions(piece),
        ["madv_normal", "madv_sequential", "madv_willneed"]
    );
    // Each of the three is taken.
    for advise in ["none", "sequential", "willneed"] {
        let option = format!("--advise={advise}");
        let after_ns = least_ns(&file, &["--touches=8192", &option]);
        check_kept(advise, piece, before.blocked_ns, after_ns, 70);
    }
}

#[test]
fn behind_readahead_pages_are_to_be_asked_for_before() {
    let bench = start();
    let disk = LoopDisk::new(&bench, 160, 16);
    let file = disk.path().join("data");
    create(&file, 32_768);
    let before = touch(&file, &["--touches=32768", "--advise=none"]);
    let advice = advice(&before.trace, &[]);
    assert_eq!(rules(&advice), ["readahead_late"]);
    let piece = piece(&advice, "readahead_late");
    assert_eq!(actions(piece)[..2], ["madv_willneed", "read_ahead_kb_up"]);
    let after_ns = least_ns(&file, &["--touches=32768", "--advise=willneed"]);
    check_kept("willneed", piece, before.blocked_ns, after_ns, 60);
}

#[test]
fn many_small_reads_of_a_small_range_want_a_few_large_ones() {
    let bench = start();
    let disk = LoopDisk::new(&bench, 64, 128);
    let file = disk.path().join("data");
    create(&file, 4096);
    let before = touch(&file, &["--touches=4096", "--shuffle=1"]);
    let advice = advice(&before.trace, &[]);
    assert_eq!(rules(&advice), ["prefetch"]);
    let piece = piece(&advice, "prefetch");
    assert_eq!(actions(piece), ["madv_willneed", "madv_normal"]);
    for (advise, percent) in [("willneed", 70), ("populate", 50)] {
        let option = format!("--advise={advise}");
        let after_ns = least_ns(&file, &["--touches=4096", "--shuffle=1", &option]);
        check_kept(advise, piece, before.blocked_ns, after_ns, percent);
    }
}

/// Pages far apart, in no order: further than a window of [`LARGE_KIB`].
const FAR: [&str; 3] = ["--touches=200", "--stride=160", "--shuffle=1"];
/// Readahead of so much takes long beside a read of one page, also on a busy machine.
const LARGE_KIB: usize = 512;

#[test]
fn what_readahead_brought_in_vain_is_evidence() {
    let bench = start();
    let disk = LoopDisk::new(&bench, 320, 128);
    let file = disk.path().join("data");
    create(&file, 65_536);
    let path = file.to_str().expect("our own path");
    evict(&file);
    let mut work = Work::start(["touch", path].iter().chain(&FAR).chain(&["--advise=none"]));
    let tracer = Tracer::of_with(work.pid(), &["--evictions", "--no-symbols"]);
    work.run();
    let trace = tracer.stop();
    work.exit();
    let found = advice(&trace, &[]);
    let one = piece(&found, "random_access");
    let evidence = one["evidence"].as_array().expect("a list");
    let told = evidence.iter().filter_map(Value::as_str);
    let told = told
        .filter(|text| text.contains("read besides the pages that faults asked for"))
        .collect::<Vec<_>>();
    eprintln!("{told:?}; only if {}", one["only_if"]);
    // 200 times 31 pages; around each page, 15 more were mapped.
    let [told] = told[..] else {
        trace.fail(&format!("{one}"));
    };
    assert!(
        told.starts_with("24.2 MiB read") && told.contains("at most 49 % of it was mapped"),
        "{told}"
    );
    let condition = one["only_if"].as_str().expect("a condition");
    assert!(
        condition.contains("of each, at most 16.00 are"),
        "{condition}"
    );
}

#[test]
fn here_and_there_readahead_may_be_in_vain() {
    let bench = start();
    let disk = LoopDisk::new(&bench, 320, LARGE_KIB);
    let file = disk.path().join("data");
    create(&file, 65_536);
    // Readahead brings in all that lies between, and nothing of it is used.
    let before = touch(&file, &[&FAR[..], &["--advise=none"]].concat());
    let found = advice(&before.trace, &[]);
    let one = piece(&found, "random_access");
    assert!(one["gain_at_most_ns"].is_null(), "{one}");
    assert!(!one["only_if"].is_null(), "{one}");
    assert_eq!(actions(one), ["madv_random", "read_ahead_kb_down"]);
    let options = ["--advise=random"];
    let after = touch(&file, &[&FAR[..], &options].concat());
    eprintln!("{} ns, {} ns", before.blocked_ns, after.blocked_ns);
    assert!(after.blocked_ns * 10 < before.blocked_ns * 7);
    // There is nothing left to be advised, least of all the contrary.
    let found = advice(&after.trace, &[]);
    assert!(
        rules(&found).is_empty() && !found["none"].is_null(),
        "{found}"
    );
}

#[test]
fn what_reads_of_one_page_take_says_what_is_gained() {
    let bench = start();
    let disk = LoopDisk::new(&bench, 320, LARGE_KIB);
    let file = disk.path().join("data");
    create(&file, 65_536);
    // Two processes on the file, one on each half, and only one of them with MADV_RANDOM.
    let run = |advise: &str| {
        let path = file.to_str().expect("our own path");
        let half = |first: &str, advise: &str| {
            let advise = format!("--advise={advise}");
            let options = [first, &advise];
            Work::start(["touch", path].iter().chain(&FAR).chain(&options))
        };
        let mut one = half("--first-page=0", "random");
        let mut other = half("--first-page=32768", advise);
        evict(&file);
        let pid = one.pid().to_string();
        let tracer = Tracer::of_with(other.pid(), &["--no-symbols", "--pid", &pid]);
        one.run();
        other.run();
        let trace = tracer.stop();
        let blocked_ns = blocked_ns(&trace, other.pid(), &file);
        let pids = [one.pid(), other.pid()];
        one.exit();
        other.exit();
        (trace, pids, blocked_ns)
    };
    let (trace, pids, before_ns) = run("none");
    let found = advice(&trace, &[]);
    let one = piece(&found, "random_access");
    assert_eq!(number(one, "processes"), 2);
    let mut named = pids.map(Value::from);
    named.sort_by_key(Value::as_u64);
    assert_eq!(one["pids"], Value::from(named.to_vec()));
    let after_ns = (0..3).map(|_| run("random").2).min();
    check_kept("random", one, before_ns, after_ns.expect("three runs"), 60);
    // Of the one alone there is nothing to be said, of the other not how much.
    let pid = format!("--pid={}", pids[0]);
    assert_eq!(rules(&advice(&trace, &[&pid])), Vec::<&str>::new());
    let pid = format!("--pid={}", pids[1]);
    let found = advice(&trace, &[&pid]);
    assert!(piece(&found, "random_access")["gain_at_most_ns"].is_null());
}

#[test]
fn pages_that_come_again_want_memory() {
    let bench = start();
    let disk = LoopDisk::new(&bench, 160, 128);
    let file = disk.path().join("data");
    create(&file, 32_768);
    let options = ["--touches=6000", "--stride=5", "--shuffle=1", "--passes=3"];
    let group = MemoryGroup::new();
    group.limit(12 << 20);
    let before = touch_as(&mut group.command(&binary()), &file, &options);
    drop(group);
    let found = advice(&before.trace, &[]);
    let one = piece(&found, "read_again");
    let all = ["more_memory", "mlock", "move_neighbour"];
    assert_eq!(actions(one), all);
    // Of 6000 pages in each of two passes, 12 MiB less what the process needs itself had room.
    let again = number(one, "faults");
    assert!((6_000..=12_000).contains(&again), "{again} came again");
    let directions = ["readahead_off", "readahead_late", "prefetch"];
    let contrary = |rule: &&str| directions.contains(rule);
    assert!(!rules(&found).iter().any(contrary), "{:?}", rules(&found));
    // With room for all, only the first pass waits.
    let group = MemoryGroup::new();
    group.limit(96 << 20);
    let after = touch_as(&mut group.command(&binary()), &file, &options);
    drop(group);
    // The very faults in question are gone; their time, too, as far as reads take as long in both runs.
    let gone = reads(&before, &file) - reads(&after, &file);
    assert!(
        gone.abs_diff(again) * 20 <= again,
        "{gone} gone, of {again}"
    );
    check_kept("memory", one, before.blocked_ns, after.blocked_ns, 40);
    assert!(!rules(&advice(&after.trace, &[])).contains(&"read_again"));
}

#[test]
fn memory_in_swap_is_to_be_kept() {
    let bench = start();
    let disk = LoopDisk::new(&bench, 64, 16);
    let _swap = SwapFile::new(disk.path(), 32);
    let group = MemoryGroup::new();
    let mut work = Work::start_swapped_out(&group, 2048);
    let tracer = Tracer::of(work.pid());
    work.run();
    let trace = tracer.stop();
    let pid = work.pid();
    work.exit();
    let found = advice(&trace, &[]);
    let one = piece(&found, "swap_in");
    assert_eq!(
        (&one["path"], &one["pids"]),
        (&Value::Null, &vec![pid].into())
    );
    let all = [
        "more_memory",
        "mlock_memory",
        "swappiness",
        "compressed_swap",
    ];
    assert_eq!(actions(one), all);
    let swapped = trace.faults(pid).into_iter();
    let swapped = swapped.filter(|fault| fault.facts.cause.as_deref() == Some("swap_in"));
    let blocked_ns: u64 = swapped.map(|fault| fault.blocked_ns).sum();
    assert_eq!(number(one, "blocked_ns"), blocked_ns);
    assert_eq!(number(one, "gain_at_most_ns"), blocked_ns);
}

#[test]
fn changes_of_the_address_space_are_to_be_fewer() {
    let _bench = start();
    let mut work = Work::start(["mmap-lock", "--waits=50"]);
    let tracer = Tracer::of(work.pid());
    work.run();
    let trace = tracer.stop();
    work.exit();
    let found = advice(&trace, &[]);
    let one = piece(&found, "mmap_lock");
    // The workload holds the lock in mprotect, and is the only one to.
    assert_eq!(actions(one)[0], "fewer_mprotects");
    assert!(number(one, "faults") >= 45, "{one}");
    let holder = &one["lock_holders"]["rows"][0];
    assert_eq!(holder["syscall"], "mprotect", "{one}");
    assert_eq!(holder["other_process"], false, "{one}");
    assert!(number(holder, "faults") >= 45, "{one}");
    assert!(
        !rules(&found).contains(&"blocked_together"),
        "{:?}",
        rules(&found)
    );
}

#[test]
fn threads_that_read_together_are_told_so() {
    let bench = start();
    let disk = LoopDisk::new(&bench, 64, 128);
    let file = disk.path().join("data");
    create(&file, 8192);
    let run = touch(&file, &["--threads=4", "--touches=2000", "--shuffle=1"]);
    let found = advice(&run.trace, &[]);
    let one = piece(&found, "blocked_together");
    assert_eq!(one["gain_of"], "wall");
    assert_eq!(one["pids"], Value::from(vec![run.pid]));
    let stalls = &report(&saved(&run.trace).path(), &[])["total"]["stalls"];
    // Stalls include time on the run queue, of which a busy machine has much.
    let shared_ns = run.blocked_ns / number(stalls, "threads_needed");
    let most_ns = number(stalls, "total_ns").min(shared_ns);
    assert!(
        number(one, "gain_at_most_ns").abs_diff(most_ns) * 20 <= most_ns,
        "{one}"
    );
    let places = found["given"].as_array().expect("a list").len();
    assert!(places >= 2, "{:?}", rules(&found));
    let overlaps = one["overlaps"].as_array().expect("a list");
    assert_eq!(overlaps.len(), places - 1, "{:?}", rules(&found));
}

#[test]
fn a_warm_file_needs_no_advice() {
    let bench = start();
    let file = bench.path().join("data");
    create(&file, 256);
    let path = file.to_str().expect("our own path");
    let mut work = Work::start(["touch", path, "--touches=256"]);
    let tracer = Tracer::of(work.pid());
    work.run();
    let trace = tracer.stop();
    work.exit();
    let found = advice(&trace, &[]);
    assert_eq!(rules(&found), Vec::<&str>::new());
    let why = found["none"].as_str().expect("why there is none");
    assert!(["no_faults", "too_little"].contains(&why), "{why}");
}
