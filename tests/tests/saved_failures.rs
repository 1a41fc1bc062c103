//! Saved traces when something goes wrong: the tracer is killed, the disk is full, turns read-only,
//! or is gone. What was written stays valid, streaming goes on, and the exit code says so.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use faulttrace_tests::harness::disk::{LoopDisk, SmallDisk};
use faulttrace_tests::harness::process::{Running, die_with_parent, until};
use faulttrace_tests::harness::record::Record;
use faulttrace_tests::harness::saved::{SavedTrace, check_integrity, records, replay_json, report};
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::tracer::{Trace, Tracer, binary};
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::harness::{Bench, LONG, SOON, start};

const KILLS: usize = 20;
const THREADS: usize = 4;
/// Pages that each thread touches in one run.
const TOUCHES: usize = 2_500;
const SECOND_NS: u64 = 1_000_000_000;

/// A file system that answers after a millisecond, with pages for so many runs.
fn slow(bench: &Bench, runs: usize, delay_us: u64) -> SlowFs {
    SlowFs::mount(
        bench,
        &Options {
            pages: runs * THREADS * TOUCHES,
            delay_us,
            ..Options::default()
        },
    )
}

/// Threads that touch the pages of one run.
fn toucher(slow: &SlowFs, run: usize) -> Work {
    let file = slow.file().to_str().expect("our own path").to_owned();
    let first = format!("--first-page={}", run * THREADS * TOUCHES);
    let (threads, touches) = (
        format!("--threads={THREADS}"),
        format!("--touches={TOUCHES}"),
    );
    Work::start(["touch", &file, &threads, &touches, &first])
}

/// A moment that differs from run to run: after so many faults, up to nearly all.
fn random_count(run: usize) -> usize {
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), run);
    let span = THREADS * TOUCHES / 3;
    THREADS * TOUCHES / 2 + usize::try_from(random).expect("64 bits") % span
}

#[test]
fn a_killed_tracer_leaves_all_but_the_last_second() {
    let bench = start();
    let slow = slow(&bench, KILLS, 1_000);
    for run in 0..KILLS {
        let mut work = toucher(&slow, run);
        let mut tracer = Tracer::of_with(work.pid(), &["--no-symbols"]);
        work.go();
        let (wanted, mut seen) = (random_count(run), 0);
        tracer.wait_for("enough faults", LONG, |record| {
            seen += usize::from(matches!(record, Record::Fault(_)));
            (seen >= wanted).then_some(())
        });
        let (said, saved, killed_ns) = tracer.kill();
        let kept = check_whole(&saved);
        let must_be_there: Vec<_> = said
            .iter()
            .filter_map(|record| match record {
                Record::Fault(fault) if fault.end_ns + SECOND_NS <= killed_ns => {
                    Some((fault.facts.tid, fault.end_ns))
                }
                _ => None,
            })
            .collect();
        let missing = must_be_there
            .iter()
            .filter(|key| !kept.contains(key))
            .count();
        eprintln!(
            "killed after {wanted} faults: {} older than a second, {} in the file",
            must_be_there.len(),
            kept.len()
        );
        assert!(
            must_be_there.len() > 100,
            "the run was too short to prove anything"
        );
        assert_eq!(missing, 0, "faults older than a second are missing");
        work.exit_without_work();
    }
}

/// The faults in the file, which must be one that everything can read.
fn check_whole(saved: &SavedTrace) -> HashSet<(u32, u64)> {
    let replayed = replay_json(&saved.path(), &[]);
    check_integrity(&saved.path());
    keys(&replayed)
}

/// Thread and end of each fault in JSON Lines.
fn keys(lines: &str) -> HashSet<(u32, u64)> {
    let faults = records(lines)
        .into_iter()
        .filter(|record| record["type"] == "fault");
    faults
        .map(|fault| {
            let tid = fault["tid"].as_u64().expect("a thread id");
            (
                u32::try_from(tid).expect("a thread id"),
                fault["end_ns"].as_u64().expect("a time"),
            )
        })
        .collect()
}

/// Traces a workload into a file; `midway` happens when the file has something in it.
fn trace_into(path: &Path, slow: &SlowFs, midway: impl FnOnce()) -> Trace {
    let mut work = toucher(slow, 0);
    let mut command = Command::new(binary());
    command.args(["--format", "json", "--no-symbols", "--pid"]);
    command
        .arg(work.pid().to_string())
        .arg("--output")
        .arg(path);
    let mut tracer = Tracer::start_command(&mut command);
    work.go();
    let mut seen = 0;
    tracer.wait_for("the first faults", LONG, |record| {
        seen += usize::from(matches!(record, Record::Fault(_)));
        (seen >= TOUCHES).then_some(())
    });
    midway();
    let done = work.done();
    let trace = tracer.stop();
    let touches: usize = done.threads.iter().map(|thread| thread.touches.len()).sum();
    let reported = trace.faults(work.pid()).len();
    trace.check(reported >= touches, || {
        format!("streaming went on: {reported} faults of {touches} touches")
    });
    work.exit();
    trace
}

/// It says once what is wrong, its exit code says so, and what is not in the file is counted.
fn check_failed(trace: &Trace, words: &str) {
    assert_eq!(trace.code, Some(1), "{}", trace.stderr);
    let told = trace.stderr.matches("nothing more is saved").count();
    assert_eq!(told, 1, "one clear error: {}", trace.stderr);
    let lower = trace.stderr.to_lowercase();
    assert!(lower.contains(words), "{words}: {}", trace.stderr);
}

fn not_saved(trace: &Trace) -> u64 {
    let count = |record: &Record| match record {
        Record::Lost(lost) if lost.reason == "trace_not_saved" => lost.count,
        _ => 0,
    };
    trace.records.iter().map(count).sum()
}

/// What is in the file is valid, and with what was said not to be there it is everything.
fn check_rest(path: &Path, trace: &Trace) {
    let replayed = replay_json(path, &[]);
    check_integrity(path);
    let kept = keys(&replayed);
    let all: HashSet<_> = trace
        .all_faults()
        .iter()
        .map(|fault| (fault.facts.tid, fault.end_ns))
        .collect();
    assert!(kept.is_subset(&all), "nothing that was not streamed");
    let (kept_count, all_count) = (kept.len() as u64, trace.all_faults().len() as u64);
    eprintln!(
        "{kept_count} of {all_count} saved, {} told as not saved",
        not_saved(trace)
    );
    assert!(kept_count > 0, "what was written stays");
    assert_eq!(
        kept_count + not_saved(trace),
        all_count,
        "all is accounted for"
    );
    let faults = &report(path, &[])["total"]["faults"];
    assert_eq!(
        faults.as_u64(),
        Some(kept_count),
        "the report is of what is there"
    );
}

#[test]
fn a_full_disk_ends_saving_not_streaming() {
    let bench = start();
    let slow = slow(&bench, 1, 200);
    let disk = SmallDisk::new(&bench, 384);
    let path = disk.path().join("a.faulttrace");
    let trace = trace_into(&path, &slow, || {});
    check_failed(&trace, "the disk is full");
    check_rest(&path, &trace);
}

#[test]
fn a_file_system_that_turns_read_only_ends_saving_not_streaming() {
    let bench = start();
    let slow = slow(&bench, 1, 1_000);
    let disk = LoopDisk::new(&bench, 64, 128);
    let path = disk.path().join("a.faulttrace");
    let trace = trace_into(&path, &slow, || disk.turn_read_only());
    check_failed(&trace, "a.faulttrace");
    // Its journal cannot be used where nothing can be written: on a copy it can.
    let copy = bench.subdirectory("copy").join("a.faulttrace");
    fs::copy(&path, &copy).expect("copied");
    let journal = path.with_extension("faulttrace-journal");
    if journal.exists() {
        fs::copy(&journal, copy.with_extension("faulttrace-journal")).expect("copied");
    }
    check_rest(&copy, &trace);
}

#[test]
fn a_directory_that_vanishes_ends_saving_not_streaming() {
    let bench = start();
    let slow = slow(&bench, 1, 1_000);
    let directory = bench.subdirectory("gone");
    let path = directory.join("a.faulttrace");
    let trace = trace_into(&path, &slow, || {
        fs::remove_dir_all(&directory).expect("removed");
    });
    check_failed(&trace, "removed or replaced");
    assert!(!directory.exists(), "nothing is made anew");
    assert!(not_saved(&trace) > 0);
}

#[test]
fn saving_does_not_wait_for_who_does_not_read_the_output() {
    let bench = start();
    let slow = slow(&bench, 1, 200);
    let mut work = toucher(&slow, 0);
    let path = bench.path().join("a.faulttrace");
    let mut command = Command::new(binary());
    command.args(["--format", "json", "--pid", &work.pid().to_string()]);
    // Far more than a pipe holds, and nobody reads it.
    command.arg("--output").arg(&path).stdout(Stdio::piped());
    die_with_parent(&mut command);
    let mut tracer = command.spawn().expect("started");
    until("tracing has begun", SOON, || count(&path, "meta") > 0);
    work.run();
    let touches = (THREADS * TOUCHES) as u64;
    until("all is saved", LONG, || count(&path, "faults") >= touches);
    assert!(
        tracer.try_wait().expect("asked").is_none(),
        "it still goes on"
    );
    tracer.kill().expect("killed");
    tracer.wait().expect("gone");
    let kept = keys(&replay_json(&path, &[]));
    check_integrity(&path);
    assert!(kept.len() as u64 >= touches, "{} of {touches}", kept.len());
    work.exit();
}

/// Rows of a table of a trace that is being written; 0 while there is none.
fn count(path: &Path, table: &str) -> u64 {
    let sql = format!("SELECT count(*) FROM {table}");
    let mut command = Command::new("sqlite3");
    let answer = command.arg("-readonly").arg(path).arg(sql).output();
    let answer = answer.expect("sqlite3 starts").stdout;
    String::from_utf8_lossy(&answer).trim().parse().unwrap_or(0)
}

#[test]
fn who_reads_a_trace_cannot_keep_its_session_from_ending() {
    let bench = start();
    let slow = slow(&bench, 1, 1_000);
    let mut work = toucher(&slow, 0);
    let path = bench.path().join("a.faulttrace");
    let mut command = Command::new(binary());
    command.args(["--format", "json", "--pid", &work.pid().to_string()]);
    command.arg("--output").arg(&path);
    let tracer = Tracer::start_command(&mut command);
    until("tracing has begun", SOON, || count(&path, "meta") > 0);
    let mut reader = Command::new("sqlite3");
    let mut reader = Running::start("a reader", reader.arg(&path));
    reader.say("BEGIN; SELECT count(*) FROM meta;");
    let deadline = Instant::now() + SOON;
    reader.next_line(deadline, "its answer").expect("an answer");
    work.run();
    let begin = Instant::now();
    let trace = tracer.stop();
    let took = begin.elapsed();
    eprintln!("ended after {took:?}");
    assert!(took < Duration::from_secs(25), "{took:?}");
    assert_eq!(trace.code, Some(1), "{}", trace.stderr);
    assert!(trace.stderr.contains("keeps it locked"), "{}", trace.stderr);
    assert!(not_saved(&trace) > 0, "what is not saved is counted");
    drop(reader);
    check_integrity(&path);
    work.exit();
}
