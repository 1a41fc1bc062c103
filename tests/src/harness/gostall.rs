//! The Go program `gostall`, built in several ways, run and traced.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::disk::evict;
use super::programs::compile_go;
use super::record::{Fault, GoProgram, Goroutine, PStall, Ps, Record};
use super::slow::{Options, SlowFs};
use super::tracer::{Trace, Tracer};
use super::work::Work;
use super::{Bench, SOON};

/// Goroutines that touch pages.
pub const READERS: usize = 2;
/// Of each reader.
pub const PAGES: usize = 20;
/// Long against what a busy machine makes the ticker late besides.
pub const DELAY_US: u64 = 60_000;
/// By less than this the program's ticker may be late for other reasons; it does not count that.
pub const TOLERANCE_NS: u64 = 20_000_000;

/// What the program says of a reader.
#[derive(Debug, Deserialize)]
pub struct Reader {
    pub goroutine: u64,
    /// Its first page, which is in its labels.
    pub first: u64,
    pub touches: usize,
}

/// What the program says.
#[derive(Debug, Deserialize)]
pub struct Told {
    pub readers: Vec<Reader>,
    pub version: String,
    pub late_ns: u64,
    pub late_p99_ns: u64,
}

/// How programs are built: what for, options of `go build`, whether with C.
pub type Build = (&'static str, &'static [&'static str], bool);
/// With symbols and debug information.
pub const PLAIN: Build = ("plain", &[], false);
/// Four ways.
pub const BUILDS: [Build; 4] = [
    PLAIN,
    ("stripped", &["-ldflags=-s -w"], false),
    ("pie", &["-buildmode=pie", "-ldflags=-s -w"], false),
    ("cgo-pie", &["-buildmode=pie", "-ldflags=-s -w"], true),
];

/// The oldest Go at hand.
pub fn oldest() -> PathBuf {
    PathBuf::from("go")
}

/// The newest.
pub fn newest() -> PathBuf {
    let go = std::env::var_os("FAULTTRACE_GO");
    go.expect("FAULTTRACE_GO must name a new Go: `cargo xtask e2e` does")
        .into()
}

pub fn built(bench: &Bench, go: &Path, (name, options, with_c): Build) -> PathBuf {
    let program = bench.path().join(name);
    compile_go(go, "gostall", &program, options, with_c);
    program
}

pub fn slow(bench: &Bench) -> SlowFs {
    slow_in(bench, "slow")
}

pub fn slow_in(bench: &Bench, directory: &str) -> SlowFs {
    let options = Options {
        delay_us: DELAY_US,
        pages: READERS * PAGES,
        ..Options::default()
    };
    SlowFs::mount_in(bench.subdirectory(directory), &options)
}

/// Starts a program that touches pages in this way.
pub fn started(program: &Path, procs: u32, mode: &str, slow: &SlowFs) -> Work {
    evict(slow.file());
    started_on(program, procs, mode, slow.file())
}

pub fn started_on(program: &Path, procs: u32, mode: &str, file: &Path) -> Work {
    Work::start_command("gostall", &mut command(program, procs, mode, file))
}

/// The command that starts it.
pub fn command(program: &Path, procs: u32, mode: &str, file: &Path) -> Command {
    of_pages(program, procs, mode, file, PAGES)
}

/// The same with so many pages for each reader.
pub fn of_pages(program: &Path, procs: u32, mode: &str, file: &Path, pages: usize) -> Command {
    let mut command = Command::new(program);
    command
        .arg(file)
        .arg(mode)
        .args([READERS, 0, pages].map(|number| number.to_string()))
        .env("GOMAXPROCS", procs.to_string());
    command
}

/// A traced run.
pub struct Run {
    pub trace: Trace,
    pub pid: u32,
    pub told: Told,
    /// How long its threads were runnable meanwhile without a CPU, all together: what others made it late.
    pub queued_ns: u64,
}

pub fn run(program: &Path, procs: u32, mode: &str, slow: &SlowFs) -> Run {
    let mut work = started(program, procs, mode, slow);
    let pid = work.pid();
    let mut tracer = Tracer::of(pid);
    recognised(&mut tracer, pid);
    let before_ns = queued_ns(pid);
    work.go();
    let told: Told = work.done_as();
    let queued_ns = queued_ns(pid).saturating_sub(before_ns);
    let trace = tracer.stop();
    work.exit();
    Run {
        trace,
        pid,
        told,
        queued_ns,
    }
}

/// A run whose full stalls can be compared with the ticker, which is also late when others take the CPU: once
/// more if they took more than the comparison allows for, and it fails.
pub fn comparable(program: &Path, procs: u32, slow: &SlowFs) -> Run {
    const TRIES: usize = 4;
    let mut last = run(program, procs, "mmap", slow);
    for _ in 1..TRIES {
        let late_ns = last.told.late_ns;
        if within_5_percent(last.long_ns(), late_ns) || last.queued_ns * 20 <= late_ns {
            break;
        }
        let queued_ns = last.queued_ns;
        eprintln!("its threads waited {queued_ns} ns for a CPU: once more");
        last = run(program, procs, "mmap", slow);
    }
    last
}

pub fn within_5_percent(found_ns: u64, truth_ns: u64) -> bool {
    found_ns.abs_diff(truth_ns) * 20 <= truth_ns
}

/// How long the threads of a process waited for a CPU so far, as the kernel counts it.
fn queued_ns(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the program runs");
    let of_task = |task: PathBuf| {
        // A thread may have ended.
        let text = fs::read_to_string(task.join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let tasks = tasks.filter_map(|task| of_task(task.ok()?.path()));
    tasks.sum()
}

/// Waits until the process is known to run a Go program.
pub fn recognised(tracer: &mut Tracer, pid: u32) -> GoProgram {
    let known = |record: &Record| match record {
        Record::Go(go) if go.pid == pid => Some(go.clone()),
        _ => None,
    };
    tracer.wait_for("the `go` record", SOON, known).1
}

impl Run {
    pub fn go(&self) -> &GoProgram {
        let mut programs = self.trace.records.iter().filter_map(|record| match record {
            Record::Go(go) => Some(go),
            _ => None,
        });
        programs.next().expect("recognised")
    }

    /// How long no P was left, in stalls of which the ticker is sure to tell.
    pub fn long_ns(&self) -> u64 {
        let stalls = self.stalls();
        let long = stalls
            .iter()
            .filter(|one| one.over && one.duration_ns > TOLERANCE_NS);
        long.map(|one| one.duration_ns).sum()
    }

    pub fn stalls(&self) -> Vec<&PStall> {
        let told = self.trace.records.iter().filter_map(|record| match record {
            Record::PStall(stall) => Some(&**stall),
            _ => None,
        });
        told.collect()
    }

    pub fn ps(&self) -> Option<&Ps> {
        let summary = self.trace.summary(self.pid);
        let go = summary.go.as_ref().expect("a Go program");
        go.ps.as_ref()
    }

    /// The faults on the slow file.
    pub fn faults(&self, slow: &SlowFs) -> Vec<&Fault> {
        let path = slow.file().to_str();
        let all = self.trace.faults(self.pid).into_iter();
        all.filter(|fault| fault.facts.path.as_deref() == path)
            .collect()
    }

    /// The goroutines of the faults are those of the program: each with as many as it touched pages.
    pub fn check_goroutines(&self, slow: &SlowFs) {
        let mut found: BTreeMap<u64, usize> = BTreeMap::new();
        for fault in self.faults(slow) {
            let goroutine = fault.facts.goroutine.as_ref();
            let goroutine = goroutine.unwrap_or_else(|| panic!("no goroutine: {fault:#?}"));
            *found.entry(goroutine.id.expect("a goroutine")).or_default() += 1;
            assert_eq!(goroutine.created_by.as_deref(), Some("main.main"));
            self.check_labels(goroutine);
            // `go f(x)` makes the compiler wrap f.
            let start = goroutine.start.as_deref().expect("a function");
            assert!(start.starts_with("main.main."), "{start}");
        }
        let readers = self.told.readers.iter();
        let truth: BTreeMap<u64, usize> = readers.map(|one| (one.goroutine, one.touches)).collect();
        self.trace.check(found == truth, || {
            format!("{found:?}, not {truth:?}: {:#?}", self.repeated(slow))
        });
    }

    /// Faults on the slow file on a page that has another: each page is touched once.
    fn repeated(&self, slow: &SlowFs) -> Vec<&Fault> {
        let faults = self.faults(slow);
        let times = |one: &&&Fault| {
            let same = |other: &&&Fault| other.facts.offset == one.facts.offset;
            faults.iter().filter(same).count()
        };
        faults
            .iter()
            .filter(|one| times(one) > 1)
            .copied()
            .collect()
    }
}

impl Run {
    /// The labels are those that the reader gave itself.
    pub fn check_labels(&self, goroutine: &Goroutine) {
        let mut readers = self.told.readers.iter();
        let reader = readers.find(|one| Some(one.goroutine) == goroutine.id);
        let first = reader.expect("one of them").first.to_string();
        let labels = goroutine.labels.as_deref().expect("labels");
        let pairs: Vec<_> = labels
            .iter()
            .map(|label| (label.key.as_str(), label.value.as_str()))
            .collect();
        let long = format!("{}a…", "ab".repeat(31));
        let truth = [("a long one", long.as_str()), ("reader", first.as_str())];
        assert_eq!(pairs, truth);
        assert_eq!(goroutine.labels_left_out, Some(0));
    }
}
