//! `--evictions`: what became of pages before a fault had them read, against what was done to them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use faulttrace_tests::harness::Bench;
use faulttrace_tests::harness::cgroup::MemoryGroup;
use faulttrace_tests::harness::disk::{create, evict};
use faulttrace_tests::harness::process::{meminfo, pid_of_run};
use faulttrace_tests::harness::record::{Fault, Filled, Remover};
use faulttrace_tests::harness::saved::report;
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::tracer::{Trace, Tracer};
use faulttrace_tests::harness::work::{self, Work};
use faulttrace_tests::mem::Mapping;

/// Pages of the file that is touched.
const PAGES: usize = 256;
/// Pages of the file that fills the page cache.
const BIG: usize = 24_576;
const MIB: u64 = 1 << 20;

/// A file that nothing of is in memory.
fn cold(bench: &Bench, name: &str, pages: usize) -> PathBuf {
    let path = bench.path().join(name);
    create(&path, pages);
    evict(&path);
    path
}

fn revisit(group: &MemoryGroup, file: &Path, options: &[&str]) -> Work {
    let mut command = group.command(&work::binary());
    command.arg("revisit").arg(file).args(options);
    Work::start_command("revisit", &mut command)
}

/// Reads a file in this cgroup.
fn read_in(group: &MemoryGroup, file: &Path) -> u32 {
    let mut command = group.command(Path::new("dd"));
    let input = format!("if={}", file.display());
    pid_of_run(command.args([&input, "of=/dev/null", "bs=1M", "status=none"]))
}

/// Its cgroup of version 2, as the kernel says.
fn cgroup(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the cgroups of a process");
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    path.map(str::to_owned)
}

/// The faults of a round on the file, by when they ended.
fn round<'t>(
    trace: &'t Trace,
    pid: u32,
    file: &Path,
    bounds: &[u64],
    round: usize,
) -> Vec<&'t Fault> {
    let path = file.to_str().expect("our own path");
    let mut faults = trace.faults(pid);
    faults.retain(|fault| {
        let within = bounds.get(round).is_some_and(|begin| fault.end_ns > *begin)
            && bounds.get(round + 1).is_none_or(|end| fault.end_ns <= *end);
        fault.facts.path.as_deref() == Some(path) && within
    });
    faults
}

fn unix_ns() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(now.expect("after 1970").as_nanos()).expect("not so far in the future")
}

/// What is done to the pages between two rounds, how that is to be called, and by whom it is done.
type Blow<'a> = (&'static str, &'static str, Box<dyn FnMut() -> u32 + 'a>);

fn blows<'a>(group: &'a MemoryGroup, file: &'a Path, big: &'a Path) -> Vec<Blow<'a>> {
    let us = std::process::id();
    vec![
        (
            "a big file read in the same cgroup",
            "memcg_reclaim",
            Box::new(|| read_in(group, big)),
        ),
        (
            "memory.reclaim",
            "memcg_reclaim",
            Box::new(move || {
                group.reclaim();
                us
            }),
        ),
        (
            "fadvise",
            "fadvise",
            Box::new(move || {
                evict(file);
                us
            }),
        ),
        (
            "drop_caches",
            "drop_caches",
            Box::new(move || {
                fs::write("/proc/sys/vm/drop_caches", "1").expect("drop_caches");
                us
            }),
        ),
        (
            "truncate",
            "truncate",
            Box::new(move || {
                let length = (PAGES * 4096) as u64;
                let file = File::options().write(true).open(file).expect("open");
                file.set_len(0).expect("truncate");
                file.set_len(length).expect("extend");
                us
            }),
        ),
    ]
}

#[test]
fn each_kind_of_removal_is_told_with_who_did_it() {
    let bench = start();
    let file = cold(&bench, "data", PAGES);
    let big = cold(&bench, "big", BIG);
    let group = MemoryGroup::with_pressure();
    group.limit(32 * MIB);
    let mut blows = blows(&group, &file, &big);
    let rounds = format!("--rounds={}", blows.len() + 1);
    let mut work = revisit(&group, &file, &[&format!("--pages={PAGES}"), &rounds]);
    let tracer = Tracer::of_with(work.pid(), &["--evictions", "--no-symbols"]);
    let mut bounds = vec![0];
    let mut who = Vec::new();
    work.run();
    for (_, _, strike) in &mut blows {
        bounds.push(unix_ns());
        who.push(strike());
        work.run();
    }
    let trace = tracer.stop();
    let pid = work.pid();
    let cgroups = [cgroup(pid), cgroup(std::process::id())];
    work.exit();
    let of_round = |index: usize| round(&trace, pid, &file, &bounds, index);
    let mut matrix = Matrix::default();
    for fault in of_round(0) {
        matrix.add("first touch", fault, past(fault) == "first_touch");
    }
    for (index, ((name, how, _), who)) in blows.iter().zip(&who).enumerate() {
        for fault in of_round(index + 1) {
            // The first is done by a process of the target's cgroup, the others by this one.
            let expected = (Some(*who), cgroups[index.min(1)].as_ref());
            let by = remover(fault).map(|by| (by.pid, by.cgroup.as_ref()));
            matrix.add(name, fault, past(fault) == *how && by == Some(expected));
        }
    }
    matrix.check(&trace, PAGES * (blows.len() + 1));
    let first = of_round(1);
    let filled = first.iter().filter(|fault| {
        let filled = filled(fault);
        filled.is_some_and(|one| one.pid == Some(who[0]) && one.pages * 2 > one.of_pages)
    });
    let filled = filled.count();
    trace.check(filled * 10 >= first.len() * 9, || {
        format!("{filled} of {} name who filled the page cache", first.len())
    });
    check_times(&first, bounds[1]);
    let hows: Vec<_> = blows.iter().map(|(_, how, _)| *how).collect();
    check_report(&trace, pid, &hows);
}

/// The same is in the report.
fn check_report(trace: &Trace, pid: u32, hows: &[&str]) {
    let saved = trace.saved.as_ref().expect("it was saved").path();
    let pasts = report(&saved, &[])["total"]["pasts"].clone();
    assert_eq!(
        pasts["refault"]["faults"].as_u64().expect("a number") as usize,
        {
            let of = |fault: &&Fault| {
                fault
                    .history
                    .as_ref()
                    .is_some_and(|one| one.past == "refault")
            };
            trace.faults(pid).into_iter().filter(of).count()
        }
    );
    let removed = pasts["removed_by"].as_array().expect("a list");
    let told = |how: &str| removed.iter().any(|row| row["how"] == how);
    assert!(hows.iter().all(|how| told(how)), "{removed:?}");
}

/// What was done, and what is told of it.
#[derive(Debug, Default)]
struct Matrix<'a> {
    told: BTreeMap<(&'a str, String), usize>,
    right: usize,
}

impl<'a> Matrix<'a> {
    fn add(&mut self, truth: &'a str, fault: &Fault, is_right: bool) {
        self.right += usize::from(is_right);
        *self.told.entry((truth, past(fault))).or_default() += 1;
    }

    /// Shows it, and panics unless 99 % of so many are right.
    fn check(&self, trace: &Trace, all: usize) {
        for ((truth, told), count) in &self.told {
            eprintln!("{truth}: told as {told}: {count}");
        }
        let right = self.right;
        eprintln!("{right} of {all} right");
        trace.check(right * 100 >= all * 99, || {
            format!("{right} of {all}: {self:?}")
        });
    }
}

/// Removed after the blow began and before the fault, and added before the blow.
fn check_times(faults: &[&Fault], blow_ns: u64) {
    for fault in faults {
        let history = fault.history.as_ref().expect("a history");
        let removed_ns = history.removed_ns.expect("a refault");
        assert!(
            history.cached_ns.is_some_and(|cached| cached < blow_ns),
            "{fault:?}"
        );
        assert!((blow_ns..fault.end_ns).contains(&removed_ns), "{fault:?}");
    }
}

fn past(fault: &Fault) -> String {
    match &fault.history {
        None => "nothing".to_owned(),
        Some(history) => match &history.how {
            Some(how) if how == "unknown" => "removed somehow".to_owned(),
            Some(how) => how.clone(),
            None => history.past.clone(),
        },
    }
}

fn remover(fault: &Fault) -> Option<&Remover> {
    fault.history.as_ref()?.removed_by.as_ref()
}

fn filled(fault: &Fault) -> Option<&Filled> {
    fault.history.as_ref()?.filled.as_ref()
}

/// A figure of /proc/vmstat.
fn vmstat(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/vmstat").expect("/proc/vmstat");
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.expect(name).parse().expect("a number")
}

/// Fills the page cache of the whole machine, with nothing that anybody would miss: the holes of a file
/// larger than the memory. Who did it.
fn fill_memory(bench: &Bench) -> u32 {
    let total = meminfo("MemTotal");
    let sparse = bench.path().join("sparse");
    let file = File::create(&sparse).expect("create");
    file.set_len(total + total / 8).expect("a file with holes");
    let mut command = Command::new("dd");
    let input = format!("if={}", sparse.display());
    let pid = pid_of_run(command.args([&input, "of=/dev/null", "bs=4M", "status=none"]));
    fs::remove_file(&sparse).expect("remove");
    pid
}

#[test]
fn what_the_whole_machine_evicts_is_told_with_who_did_it() {
    let bench = start();
    let file = cold(&bench, "data", PAGES);
    let options = [&format!("--pages={PAGES}"), "--rounds=2"];
    let path = file.to_str().expect("our own path");
    let mut work = Work::start([&["revisit", path], &options[..]].concat());
    let tracer = Tracer::of_with(work.pid(), &["--evictions", "--no-symbols"]);
    work.run();
    let stolen = || [vmstat("pgsteal_kswapd"), vmstat("pgsteal_direct")];
    let before = stolen();
    let mapping = Mapping::file(&File::open(&file).expect("open")).expect("map");
    let resident = || mapping.resident().expect("mincore");
    let mut fillers = Vec::new();
    // What is read once goes first, but what that is the kernel only estimates.
    while fillers.len() < 4 && resident() * 20 > PAGES {
        fillers.push(fill_memory(&bench));
    }
    let after = stolen();
    let bounds = [0, unix_ns()];
    work.run();
    let trace = tracer.stop();
    let pid = work.pid();
    work.exit();
    let faults = round(&trace, pid, &file, &bounds, 1);
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    let mut right = 0;
    for fault in &faults {
        let how = past(fault);
        let by = remover(fault);
        right += usize::from(match how.as_str() {
            "kswapd" => by.is_some_and(|by| by.thread.starts_with("kswapd")),
            // DAMON, where the machine has it reclaim what is cold.
            "other_reclaim" => by.is_some_and(|by| by.thread.starts_with("kdamond")),
            "direct_reclaim" => by.is_some_and(|by| !by.thread.starts_with("kswapd")),
            _ => false,
        });
        *told.entry(how).or_default() += 1;
    }
    let [kswapd, direct] = [0, 1].map(|index| after[index] - before[index]);
    eprintln!("{told:?}; the kernel: {kswapd} pages by kswapd, {direct} in direct reclaim");
    // Some may have stayed.
    let all = faults.len();
    trace.check(all * 10 >= PAGES * 9 && right * 100 >= all * 99, || {
        format!("{right} of {all} right, of {PAGES} pages: {told:?}")
    });
    // What the kernel has not done at all cannot have been it.
    for (how, pages) in [("kswapd", kswapd), ("direct_reclaim", direct)] {
        assert!(pages > 0 || !told.contains_key(how), "{how}: {told:?}");
    }
    let named = |fault: &&&Fault| {
        let pid = filled(fault).and_then(|one| one.pid);
        pid.is_some_and(|pid| fillers.contains(&pid))
    };
    let filled = faults.iter().filter(named).count();
    trace.check(filled * 10 >= all * 9, || {
        format!("{filled} of {all} name who filled the page cache")
    });
}

/// Refaults of the file's pages that reclaim caused.
fn refaults(trace: &Trace, pid: u32, file: &Path) -> usize {
    let faults = round(trace, pid, file, &[0], 0);
    let reclaimed = faults.iter().filter(|fault| past(fault) == "memcg_reclaim");
    reclaimed.count()
}

#[test]
fn refaults_are_those_that_the_kernel_counts() {
    let bench = start();
    let file = cold(&bench, "data", 4096);
    let group = MemoryGroup::new();
    group.limit(8 * MIB);
    let mut work = revisit(&group, &file, &["--pages=4096", "--rounds=3"]);
    let tracer = Tracer::of_with(work.pid(), &["--evictions", "--no-symbols"]);
    work.run();
    let before = group.stat("workingset_refault_file");
    work.run();
    work.run();
    let counted = group.stat("workingset_refault_file") - before;
    let trace = tracer.stop();
    let found = refaults(&trace, work.pid(), &file) as u64;
    work.exit();
    eprintln!("{found} refaults told, {counted} counted by the kernel");
    assert!(counted > 1000, "the limit evicts");
    // Pages that go and come in the first round are not in the kernel's difference, nor code of the
    // workload in ours.
    trace.check(found.abs_diff(counted) * 100 <= counted * 2, || {
        format!("{found} refaults told, {counted} counted by the kernel")
    });
}

/// Touches at random under this limit: the refaults that reclaim caused, and the trace.
fn random_touches(bench: &Bench, file: &Path, limit: u64) -> (u64, Trace) {
    evict(file);
    let group = MemoryGroup::new();
    group.limit(limit);
    let options = ["--pages=4096", "--touches=16384", "--seed=7"];
    let mut work = revisit(&group, file, &options);
    let tracer = Tracer::of_with(work.pid(), &["--evictions", "--no-symbols"]);
    work.run();
    let trace = tracer.stop();
    let found = refaults(&trace, work.pid(), file) as u64;
    work.exit();
    assert!(bench.path().exists());
    (found, trace)
}

#[test]
fn so_much_more_memory_avoids_as_many_refaults_as_the_report_says() {
    let bench = start();
    let file = cold(&bench, "data", 4096);
    let limit = 10 * MIB;
    let (before, trace) = random_touches(&bench, &file, limit);
    let saved = trace.saved.as_ref().expect("it was saved").path();
    let more = report(&saved, &[])["total"]["pasts"]["pages_more"].clone();
    eprintln!("{before} refaults under {limit} bytes; {more}");
    for (name, avoided) in [("p50", 50), ("p90", 90)] {
        let pages = more[name].as_u64().expect("pages");
        let (after, _) = random_touches(&bench, &file, limit + pages * 4096);
        let left = after * 100 / before;
        eprintln!("{name}: with {pages} pages more {after} refaults, {left} %");
        assert!(left <= 100 - avoided + 15, "{name}: {left} % are left");
    }
}

#[test]
fn nothing_is_told_and_nothing_costs_without_the_option() {
    let bench = start();
    let file = cold(&bench, "data", PAGES);
    let group = MemoryGroup::new();
    let mut work = revisit(&group, &file, &[&format!("--pages={PAGES}")]);
    let tracer = Tracer::of(work.pid());
    assert_eq!(tracer.start.rungs["page_cached"], "none");
    work.run();
    let trace = tracer.stop();
    let told = trace.faults(work.pid()).into_iter();
    assert!(told.filter(|fault| fault.history.is_some()).count() == 0);
    work.exit();
}
