//! What users get of `--output`: a private file of their own, that says what the stream said.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use faulttrace_tests::harness::process::{must, run};
use faulttrace_tests::harness::record::Record;
use faulttrace_tests::harness::saved::{
    attempt, check_integrity, records, replay_json, report, sqlite, succeed,
};
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::tracer::{Trace, Tracer, binary, run_command};
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::harness::{Bench, LONG, start};
use serde_json::Value;

/// Some user that is not root: on every Debian.
const USER: &str = "65534";
const USER_ID: u32 = 65_534;
const TOUCHES: u64 = 60;

/// Traces touches of a slow file with these options besides `--pid`; `prepare` may change the
/// command.
fn trace(bench: &Bench, options: &[OsString], prepare: impl FnOnce(&mut Command)) -> Trace {
    let directory = bench.path().join("slow");
    if !directory.exists() {
        fs::create_dir(&directory).expect("made");
    }
    let slow = SlowFs::mount_in(
        directory,
        &Options {
            delay_us: 2_000,
            ..Options::default()
        },
    );
    let file = slow.file().to_str().expect("our own path").to_owned();
    let mut work = Work::start(["touch", &file, "--threads=2", "--touches=30", "--name=w"]);
    let mut command = Command::new(binary());
    command.args(["--format", "json", "--pid", &work.pid().to_string()]);
    command.args(options);
    prepare(&mut command);
    let tracer = Tracer::start_command(&mut command);
    work.run();
    let trace = tracer.stop();
    work.exit();
    trace
}

fn output(path: &Path) -> Vec<OsString> {
    vec!["--output".into(), path.into()]
}

fn mode_and_owner(path: &Path) -> (u32, u32) {
    let metadata = fs::symlink_metadata(path).expect("it is there");
    (metadata.mode() & 0o7777, metadata.uid())
}

#[test]
fn the_file_is_private_and_belongs_to_who_called_sudo() {
    let bench = start();
    let as_user = |command: &mut Command| {
        command.env("SUDO_UID", USER).env("SUDO_GID", USER);
    };
    let own = bench.subdirectory("own");
    std::os::unix::fs::chown(&own, Some(USER_ID), Some(USER_ID)).expect("chown");
    fs::set_permissions(bench.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let path = own.join("a.faulttrace");
    let done = trace(&bench, &output(&path), as_user);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(mode_and_owner(&path), (0o600, USER_ID));
    assert_eq!(
        fs::read_dir(&own).expect("read").count(),
        1,
        "no file beside it"
    );
    // Where that user may not write, root does, for the user.
    let roots = bench.subdirectory("roots").join("a.faulttrace");
    let done = trace(&bench, &output(&roots), as_user);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(mode_and_owner(&roots), (0o600, USER_ID));
    // And that user can do everything with it, without any privilege.
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]);
    command.arg(copy_of_binary(&own)).arg("report").arg(&path);
    run_command(&mut command).expect(0, &[]);
}

/// The tool where everybody can execute it.
fn copy_of_binary(directory: &Path) -> std::path::PathBuf {
    let copy = directory.join("faulttrace");
    fs::copy(binary(), &copy).expect("copied");
    copy
}

#[test]
fn links_in_shared_directories_lead_nowhere() {
    let bench = start();
    let shared = bench.subdirectory("shared");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).expect("chmod");
    let precious = bench.path().join("precious");
    fs::write(&precious, "precious").expect("written");
    let path = shared.join("a.faulttrace");
    symlink(&precious, &path).expect("linked");
    // Whoever wants to be followed can also guess the journal's name.
    let journal = shared.join("b.faulttrace-journal");
    symlink(&precious, &journal).expect("linked");
    for force in [false, true] {
        let mut arguments = vec!["--all".into(), "--duration=1s".into()];
        arguments.extend(output(&path));
        arguments.extend(force.then(|| "--force".into()));
        attempt(arguments).expect(1, &["a.faulttrace"]);
    }
    let other = shared.join("b.faulttrace");
    let done = trace(&bench, &output(&other), |_| {});
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    check_integrity(&other);
    assert_eq!(fs::read(&precious).expect("there"), b"precious");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).expect("chmod");
    let mut arguments = vec!["--all".into(), "--duration=1s".into()];
    arguments.extend(output(&shared.join("c")));
    attempt(arguments).expect(1, &["sticky", "chmod"]);
}

#[test]
fn nothing_is_overwritten_without_force() {
    let bench = start();
    let path = bench.path().join("a.faulttrace");
    fs::write(&path, "precious").expect("written");
    let mut arguments = vec!["--all".into(), "--duration=1s".into()];
    arguments.extend(output(&path));
    attempt(&arguments).expect(1, &["exists already", "--force"]);
    assert_eq!(fs::read(&path).expect("there"), b"precious");
    let mut options = output(&path);
    options.push("--force".into());
    let done = trace(&bench, &options, |_| {});
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    check_integrity(&path);
    for line in ["--quiet --all", "--force --all", "--max-size 64M --all"] {
        attempt(line.split(' ')).expect(2, &["--output"]);
    }
}

#[test]
fn quiet_saves_and_says_nothing() {
    let bench = start();
    let path = bench.path().join("a.faulttrace");
    let slow = SlowFs::mount(&bench, &Options::default());
    let file = slow.file().to_str().expect("our own path").to_owned();
    let mut command = Command::new(binary());
    command.args(["--quiet", "--output"]).arg(&path).arg("--");
    command.arg(faulttrace_tests::harness::work::binary());
    command.args(["plain", &file, "--touches=20", "--code=7"]);
    let output = run(&mut command, LONG);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{stderr}");
    assert!(output.stdout.is_empty(), "nothing on standard output");
    assert!(
        stderr.contains("faulttrace report"),
        "it says what is next: {stderr}"
    );
    let faults = records(&replay_json(&path, &[]));
    let on_file = faults
        .iter()
        .filter(|record| record["path"] == file.as_str());
    assert!(on_file.count() >= 20);
}

/// The faults of a replay.
fn faults(path: &Path, options: &[&str]) -> Vec<Value> {
    let all = records(&replay_json(path, options));
    all.into_iter()
        .filter(|record| record["type"] == "fault")
        .collect()
}

fn summary(path: &Path, options: &[&str]) -> Value {
    records(&replay_json(path, options))
        .pop()
        .expect("a summary")
}

#[test]
fn a_replay_takes_the_filters_of_live_tracing_and_counts_what_they_hold_back() {
    let bench = start();
    let path = bench.path().join("a.faulttrace");
    let live = trace(&bench, &output(&path), |_| {});
    let all = faults(&path, &[]);
    assert_eq!(all.len(), live.all_faults().len());
    let of_thread = faults(&path, &["--thread", "w-1"]);
    assert_eq!(of_thread.len() as u64, TOUCHES / 2);
    assert!(of_thread.iter().all(|fault| fault["thread"] == "w-1"));
    let tid = of_thread[0]["tid"].to_string();
    assert_eq!(faults(&path, &["--thread", &tid]), of_thread);
    assert_eq!(faults(&path, &["--file", "data"]).len() as u64, TOUCHES);
    assert_eq!(
        faults(&path, &["--file", "*/slow/da?a"]).len() as u64,
        TOUCHES
    );
    assert!(faults(&path, &["--file", "dat"]).is_empty());
    assert!(faults(&path, &["--pid", "1"]).is_empty());
    let late = ["replay".as_ref(), path.as_os_str(), "--since=1h".as_ref()];
    attempt(late).expect(1, &["--since is not before the end", "which goes from"]);
    let held_back = summary(&path, &["--thread", "w-1"]);
    let filtered = &held_back["lost_by_class"]["filtered"];
    assert_eq!(filtered["not_selected"], all.len() as u64 - TOUCHES / 2);
    assert_eq!(held_back["maj_flt_remainder"], 0, "{held_back}");
    // In the middle, by the time of one of them.
    let middle = all[all.len() / 2]["end_ns"].as_u64().expect("a time");
    let at = |ns: u64| format!("{}.{:09}Z", unix(ns), ns % 1_000_000_000);
    let until = faults(&path, &["--until", &at(middle)]);
    let since = faults(&path, &["--since", &at(middle)]);
    assert!(!until.is_empty() && !since.is_empty());
    assert!(
        since
            .iter()
            .all(|fault| fault["end_ns"].as_u64() >= Some(middle))
    );
    assert!(
        until
            .iter()
            .all(|fault| fault["time_ns"].as_u64() <= Some(middle))
    );
    let text = succeed(["replay".as_ref(), path.as_os_str(), "-k".as_ref()]);
    assert!(text.contains("kernel stack of its longest sleep") && text.contains("SUMMARY"));
}

/// Date and time of day, by another program than ours.
fn unix(ns: u64) -> String {
    let seconds = format!("@{}", ns / 1_000_000_000);
    must("date", ["-u", "-d", &seconds, "+%Y-%m-%dT%H:%M:%S"])
}

#[test]
fn a_replay_can_keep_the_pace() {
    let bench = start();
    let path = bench.path().join("a.faulttrace");
    trace(&bench, &output(&path), |_| {});
    let span = |records: &[Value]| {
        let begin = records[0]["time_ns"].as_u64().expect("a time");
        let ends = records
            .iter()
            .filter_map(|record| record["end_ns"].as_u64());
        ends.max().expect("faults") - begin
    };
    let span_ns = span(&records(&replay_json(&path, &[])));
    let took = |speed: &str| {
        let begin = std::time::Instant::now();
        replay_json(&path, &["--speed", speed]);
        begin.elapsed().as_nanos()
    };
    assert!(took("1") >= u128::from(span_ns), "as long as it took");
    assert!(took("0.5") >= 2 * u128::from(span_ns), "twice as long");
}

#[test]
fn the_size_is_bounded_and_what_dropped_out_is_counted() {
    let bench = start();
    let slow = SlowFs::mount(
        &bench,
        &Options {
            pages: 60_000,
            delay_us: 0,
            ..Options::default()
        },
    );
    let file = slow.file().to_str().expect("our own path").to_owned();
    let mut work = Work::start(["touch", &file, "--threads=4", "--touches=15000"]);
    let path = bench.path().join("a.faulttrace");
    let mut command = Command::new(binary());
    command.args(["--format", "json", "--no-symbols", "--max-size", "1M"]);
    command
        .args(["--pid", &work.pid().to_string()])
        .args(output(&path));
    let tracer = Tracer::start_command(&mut command);
    let done = work.run();
    let live = tracer.stop();
    let size = fs::metadata(&path).expect("there").len();
    assert!(size <= 1 << 20, "{size} bytes");
    check_integrity(&path);
    let kept = faults(&path, &[]);
    let dropped: usize = sqlite(&path, "SELECT value FROM meta WHERE key = 'dropped_faults'")
        .parse()
        .expect("a number");
    let streamed = live.all_faults().len();
    eprintln!("{size} bytes, {} kept, {dropped} dropped", kept.len());
    assert!(dropped > 0 && kept.len() > 5_000);
    let told: u64 = live.lost("lost");
    assert_eq!((kept.len() + dropped) as u64 + told, streamed as u64 + told);
    let last = live.all_faults().last().map(|fault| fault.end_ns);
    assert_eq!(
        kept.last().expect("kept")["end_ns"].as_u64(),
        last,
        "the newest stay"
    );
    let summary = summary(&path, &[]);
    assert_eq!(
        summary["lost_by_class"]["filtered"]["dropped_max_size"],
        dropped
    );
    assert_eq!(
        summary["maj_flt_remainder"], 0,
        "majors that dropped out are accounted for"
    );
    assert_eq!(report(&path, &[])["total"]["faults"], kept.len());
    assert!(done.stat_majors >= 60_000);
    work.exit();
}

#[test]
fn what_is_no_trace_is_refused_with_a_reason() {
    let bench = start();
    let path = bench.path().join("text");
    fs::write(&path, "not a database, but long enough to be taken for one").expect("written");
    let other = bench.path().join("other.db");
    must("sqlite3", [other.as_os_str(), "CREATE TABLE t(a)".as_ref()]);
    for command in ["report", "replay"] {
        attempt([command.as_ref(), path.as_os_str()]).expect(1, &["not a sqlite database"]);
        attempt([command.as_ref(), other.as_os_str()]).expect(1, &["not a trace of faulttrace"]);
        attempt([command, "/nowhere/at/all"]).expect(1, &["No such file"]);
    }
    let path = bench.path().join("a.faulttrace");
    trace(&bench, &output(&path), |_| {});
    sqlite(&path, "PRAGMA user_version = 9000");
    attempt(["report".as_ref(), path.as_os_str()]).expect(1, &["9.0", "newer"]);
}

#[test]
fn a_trace_can_be_read_while_it_is_written() {
    let bench = start();
    let slow = SlowFs::mount(&bench, &Options::default());
    let file = slow.file().to_str().expect("our own path").to_owned();
    let mut work = Work::start(["touch", &file, "--touches=500"]);
    let mut tracer = Tracer::of(work.pid());
    work.go();
    let path = tracer.saved_path();
    let mut found = 0;
    while found == 0 {
        tracer.wait_for("a fault", LONG, |record| {
            matches!(record, Record::Fault(_)).then_some(())
        });
        check_integrity(&path);
        found = sqlite(&path, "SELECT count(*) FROM faults")
            .parse::<u64>()
            .expect("a number");
    }
    eprintln!("{found} faults in the file while it was being written");
    work.done();
    let trace = tracer.stop();
    assert_eq!(trace.code, Some(0), "{}", trace.stderr);
    assert_eq!(trace.lost("lost"), 0, "a quick reader costs nothing");
    work.exit();
}
