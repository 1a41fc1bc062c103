//! What others say of the same waits: the kernel's delay accounting, and `perf sched timehist`.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use faulttrace_tests::harness::disk::{LoopDisk, create, evict};
use faulttrace_tests::harness::process::{Running, must, until};
use faulttrace_tests::harness::setting::Setting;
use faulttrace_tests::harness::slow::SlowFs;
use faulttrace_tests::harness::tracer::{Trace, Tracer};
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::harness::{LONG, SOON, start};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

const MS: u64 = 1_000_000;
const DELAY_ACCOUNTING: &str = "/proc/sys/kernel/task_delayacct";

/// Panics unless two figures are near each other: 5 %, and so many ns.
fn near(trace: &Trace, what: &str, ours: u64, theirs: u64, slack_ns: u64) {
    let off = ours.abs_diff(theirs);
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let percent = off as f64 * 100.0 / theirs.max(1) as f64;
    eprintln!("{what}: {ours} ns reported, {theirs} ns by the referee: {percent:.2} % apart");
    trace.check(off * 20 <= theirs + slack_ns * 20, || {
        format!("{what}: {ours} ns reported, {theirs} ns by the referee")
    });
}

/// Time that a process's main thread waited for block I/O, ns: `delayacct_blkio_ticks` of
/// proc_pid_stat(5).
fn block_io_ns(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let (_, rest) = stat.rsplit_once(')').expect("a stat line");
    // Field 42; the first of these is the third.
    let ticks = rest.split_whitespace().nth(39);
    let ticks: u64 = ticks.and_then(|text| text.parse().ok()).expect("a number");
    // USER_HZ is 100 on every architecture that faulttrace runs on.
    ticks * 10 * MS
}

#[test]
fn waits_for_the_disk_are_within_those_of_delay_accounting() {
    let bench = start();
    let _accounting = Setting::set(DELAY_ACCOUNTING, "1");
    let disk = LoopDisk::new(&bench, 96, 0);
    let file = disk.path().join("data");
    create(&file, 16_384);
    let path = file.to_str().expect("our own path");
    let mut work = Work::start(["revisit", path, "--pages=16384"]);
    evict(&file);
    let pid = work.pid();
    let tracer = Tracer::of_with(pid, &["--no-symbols"]);
    let before = block_io_ns(pid);
    work.run();
    let theirs = block_io_ns(pid) - before;
    let trace = tracer.stop();
    let waits = trace.faults(pid).into_iter();
    let waits = waits.filter(|fault| ["file_read", "read_wait"].contains(&fault.facts.cause()));
    let ours: u64 = waits.map(|fault| fault.blocked_ns).sum();
    eprintln!("asleep for reads {ours} ns, waited for block I/O {theirs} ns");
    assert!(theirs > 100 * MS, "too little to compare: {theirs} ns");
    // Delay accounting goes on from the wake-up until the thread is put on the queue of its CPU, which
    // takes long where that CPU is busy elsewhere: it is never less.
    trace.check(ours * 19 <= (theirs + 20 * MS) * 20, || {
        format!("asleep for reads {ours} ns, waited for block I/O {theirs} ns")
    });
    work.exit();
}

/// `perf record` of context switches and wake-ups on all CPUs, once it has begun.
struct Recording {
    running: Running,
    file: PathBuf,
}

impl Recording {
    fn start(directory: &Path) -> Self {
        let [commands, answers, file] =
            ["commands", "answers", "perf.data"].map(|name| directory.join(name));
        let open = |path: &Path| {
            mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).expect("a fifo");
            let mut options = OpenOptions::new();
            // Both ends, so that opening waits for nobody.
            options
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK);
            options.open(path).expect("open a fifo")
        };
        let (mut tell, mut told) = (open(&commands), open(&answers));
        let control = format!("fifo:{},{}", commands.display(), answers.display());
        let mut command = Command::new("perf");
        command
            .args([
                "record",
                "--all-cpus",
                "--clockid=CLOCK_MONOTONIC",
                "--delay=-1",
                "--quiet",
            ])
            .args([
                "-e",
                "sched:sched_switch,sched:sched_waking,sched:sched_wakeup",
            ])
            .args(["--control", &control, "-o"])
            .arg(&file);
        let running = Running::start("perf", &mut command);
        tell.write_all(b"enable\n").expect("perf listens");
        until("perf records", SOON, || {
            told.read(&mut [0; 64]).is_ok_and(|count| count > 0)
        });
        Self { running, file }
    }

    /// Ends it; what a thread did: when it left a CPU, and how long it had been off the CPU before it
    /// got that, ns.
    fn stop(mut self, tid: u32) -> Vec<(u64, u64)> {
        self.running.signal(Signal::SIGINT);
        self.running.wait(Instant::now() + LONG);
        let tid = tid.to_string();
        let arguments = ["sched", "timehist", "--tid", &tid, "-i"].map(OsStr::new);
        let text = must("perf", arguments.into_iter().chain([self.file.as_os_str()]));
        let row = |line: &str| {
            let mut words = line.split_whitespace();
            let at_s: f64 = words.next()?.parse().ok()?;
            let wait_ms: f64 = line.split_whitespace().rev().nth(2)?.parse().ok()?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "times"
            )]
            let row = ((at_s * 1e9) as u64, (wait_ms * 1e6) as u64);
            Some(row)
        };
        text.lines().filter_map(row).collect()
    }
}

#[test]
fn time_off_the_cpu_is_that_of_perf_sched_timehist() {
    let bench = start();
    let slow = SlowFs::with_delay(&bench, 5_000);
    let path = slow.file().to_str().expect("our own path");
    let mut work = Work::start(["revisit", path, "--pages=200"]);
    let pid = work.pid();
    let tracer = Tracer::of_with(pid, &["--no-symbols"]);
    let recording = Recording::start(bench.path());
    let done = work.run();
    let rows = recording.stop(work.ready.tids[0]);
    let trace = tracer.stop();
    let touches = &done.threads[0].touches;
    let (first, last) = (touches[0].begin_ns, touches[touches.len() - 1].end_ns);
    // What was waited for before the first touch is in the row of the first sleep in one, and the wait
    // of the last touch is in the row that ends after it.
    let begin = rows.partition_point(|(left_ns, _)| *left_ns < first) + 1;
    let end = rows.partition_point(|(left_ns, _)| *left_ns < last) + 1;
    let theirs: u64 = rows[begin..end].iter().map(|(_, wait_ns)| wait_ns).sum();
    let ours: u64 = trace
        .faults(pid)
        .iter()
        .map(|fault| fault.blocked_ns + fault.runqueue_ns)
        .sum();
    assert!(
        theirs > 500 * MS,
        "too little to compare: {theirs} ns of {} rows",
        rows.len()
    );
    near(&trace, "off the CPU", ours, theirs, MS);
    work.exit();
}
