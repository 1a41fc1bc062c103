//! What the tracer may do: what suffices to start it, and what it keeps.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use faulttrace_tests::endurance::memory::family;
use faulttrace_tests::harness::privileges::{INSTEAD_OF_ROOT, NOBODY, Rights, bits, command_with};
use faulttrace_tests::harness::process::until;
use faulttrace_tests::harness::setting::Setting;
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::tracer::{Tracer, binary, run_command};
use faulttrace_tests::harness::work::{self, Work};
use faulttrace_tests::harness::{Bench, SOON, start};
use nix::sys::signal::Signal;

/// The threads, and the helper, that every tracer has which saves and has seen a stack.
const THREADS: [&str; 8] = [
    "faulttrace",
    "tracer",
    "sampler",
    "public reader",
    "symbols",
    "recorder",
    "output",
    "faulttrace-name",
];

/// A copy of a program that any user may execute, wherever the original is.
fn public_copy(bench: &Bench, program: &Path, name: &str) -> PathBuf {
    let open = || fs::Permissions::from_mode(0o755);
    fs::set_permissions(bench.path(), open()).expect("open the directory");
    let copy = bench.path().join(name);
    fs::copy(program, &copy).expect("copy a program");
    fs::set_permissions(&copy, open()).expect("make it executable");
    copy
}

/// A directory that any user may write to.
fn open_directory(bench: &Bench) -> PathBuf {
    let directory = bench.subdirectory("public");
    let all = fs::Permissions::from_mode(0o777);
    fs::set_permissions(&directory, all).expect("open the directory");
    directory
}

fn slow_file(bench: &Bench) -> SlowFs {
    let options = Options {
        delay_us: 2_000,
        pages: 64,
        ..Options::default()
    };
    SlowFs::mount(bench, &options)
}

/// What doctor advises somebody with these capabilities on a check; empty if there is nothing to mend.
fn advised(program: &Path, capabilities: &[&str], name: &str) -> String {
    let ended = run_command(command_with(capabilities, program).args(["doctor", "--json"]));
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let mut checks = report["checks"].as_array().expect("checks").iter();
    let check = checks.find(|check| check["name"] == name);
    let check = check.unwrap_or_else(|| panic!("no {name}: {report:#}"));
    check["fix"].as_str().unwrap_or_default().to_owned()
}

/// The capabilities in the setcap(8) line that doctor gives to somebody without any.
fn named_by_doctor(program: &Path) -> Vec<String> {
    let fix = advised(program, &[], "privileges");
    let line = fix.split_once("setcap ").map(|(_, rest)| rest);
    let names = line.and_then(|line| line.split_once("=ep"));
    let (names, _) = names.unwrap_or_else(|| panic!("no setcap: {fix}"));
    names.split(',').map(str::to_uppercase).collect()
}

/// What doctor advises besides on Debian's kernels, which have a level of their own: then only CAP_SYS_ADMIN may
/// open perf events.
fn perf_events_allowed(program: &Path, capabilities: &[&str]) -> Option<Setting> {
    let fix = advised(program, capabilities, "perf events");
    let (_, value) = fix.split_once("sysctl kernel.perf_event_paranoid=")?;
    let value = value.split_once(',').map_or(value, |(value, _)| value);
    Some(Setting::set("/proc/sys/kernel/perf_event_paranoid", value))
}

#[test]
fn what_doctor_says_suffices_instead_of_root() {
    let bench = start();
    let slow = slow_file(&bench);
    let path = slow.file().to_str().expect("our own path").to_owned();
    let program = public_copy(&bench, &binary(), "faulttrace");
    // The target is root's.
    let mut work = Work::start(["touch", &path, "--touches=10"]);
    let named = named_by_doctor(&program);
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    let _allowed = perf_events_allowed(&program, &named);
    let mut command = command_with(&named, &program);
    command.args(["--format=json", "--pid", &work.pid().to_string()]);
    let tracer = Tracer::start_command(&mut command);
    let kept = tracer.start.rungs["privileges_kept"].clone();
    let done = work.run();
    let trace = tracer.stop();
    trace.check_nothing_lost();
    let faults = trace.faults(work.pid());
    let of_file = faults
        .iter()
        .filter(|fault| fault.facts.path.as_deref() == Some(&path));
    assert_eq!(of_file.count(), 10, "each touch, with its file");
    let named = faults.iter().filter(|fault| {
        fault
            .facts
            .functions()
            .iter()
            .any(|name| name.contains("touch_one"))
    });
    assert_eq!(named.count(), 10, "the functions of root's program");
    let summary = trace.summary(work.pid());
    assert_eq!(summary.majors, done.stat_majors);
    assert_eq!(summary.maj_flt_delta, Some(done.stat_majors));
    let missing = trace.stderr.contains("CAP_SYS_ADMIN");
    trace.check(missing, || "nothing says what is not shown".to_owned());
    let kept = bits(kept.split(' '));
    assert_eq!(kept & !bits(INSTEAD_OF_ROOT), 0, "no more than it had");
    work.exit();
}

#[test]
fn what_is_missing_is_named() {
    let bench = start();
    let program = public_copy(&bench, &binary(), "faulttrace");
    let work = Work::start(["quiet"]);
    for missing in ["CAP_BPF", "CAP_PERFMON"] {
        let held: Vec<_> = INSTEAD_OF_ROOT
            .into_iter()
            .filter(|name| *name != missing)
            .collect();
        let mut command = command_with(&held, &program);
        command.args(["--pid", &work.pid().to_string()]);
        run_command(&mut command).expect(3, &[missing, "setcap"]);
    }
    work.exit_without_work();
}

/// The table of docs/architecture.md: what each thread and process keeps.
fn documented() -> BTreeMap<String, u64> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/architecture.md");
    let docs = fs::read_to_string(docs).expect("the docs");
    let table = docs
        .lines()
        .skip_while(|line| !line.starts_with("| thread | keeps |"));
    let rows = table.skip(2).take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let name = cells.next().expect("a name").trim_matches('`').to_owned();
        let cell = cells.next().expect("what it keeps");
        // What follows are conditions that do not hold in the test.
        let cell = if cell.starts_with("nothing") {
            ""
        } else {
            cell
        };
        let words = cell.split([' ', ',', ':', '`']);
        (name, bits(words.filter(|word| word.starts_with("CAP_"))))
    };
    let found: BTreeMap<_, _> = rows.map(row).collect();
    assert!(found.len() >= 6, "the table: {found:?}");
    found
}

/// Name and rights of each thread of some processes.
fn rights_of(pids: &[u32]) -> Vec<(String, Rights)> {
    let tasks = pids
        .iter()
        .filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok());
    let tasks = tasks.flatten().flatten().map(|task| task.path());
    let named = |task: PathBuf| {
        let name = fs::read_to_string(task.join("comm")).ok()?;
        Some((name.trim_end().to_owned(), Rights::of(&task)?))
    };
    tasks.filter_map(named).collect()
}

#[test]
fn each_thread_keeps_what_the_docs_say() {
    let bench = start();
    let slow = slow_file(&bench);
    let mut work = Work::start(["touch".as_ref(), slow.file_arg(), "--touches=10".as_ref()]);
    let tracer = Tracer::of(work.pid());
    work.run();
    let documented = documented();
    let is_known = |(name, rights): &(String, Rights)| {
        // Those that read of one process have its number in their names.
        let key = match name.rsplit_once(' ') {
            Some(("maps of", _)) => "maps of N",
            Some(("go of", _)) => "go of N",
            _ => name,
        };
        let Some(kept) = documented.get(key).copied() else {
            return false;
        };
        let handed_on = if ["symbols", "go programs"].contains(&key) {
            bits(["CAP_DAC_READ_SEARCH"])
        } else {
            0
        };
        let expected = Rights {
            inheritable: handed_on,
            permitted: kept,
            effective: kept,
            bounding: kept,
            ambient: handed_on,
            no_new: true,
        };
        // These were started by a thread that could not bound any more.
        let bounding = if ["maps of N", "go of N", "faulttrace-name"].contains(&key) {
            rights.bounding
        } else {
            kept
        };
        *rights
            == Rights {
                bounding,
                ..expected
            }
    };
    // The helper is there as soon as there was a stack; threads give up theirs when they begin.
    let deadline = Instant::now() + SOON;
    loop {
        let found = rights_of(&family(tracer.pid()));
        let names: Vec<_> = found.iter().map(|(name, _)| &**name).collect();
        let all = THREADS.iter().all(|name| names.contains(name));
        if all && found.iter().all(is_known) {
            break;
        }
        let odd: Vec<_> = found.iter().filter(|task| !is_known(task)).collect();
        let late = Instant::now() > deadline;
        assert!(!late, "{names:?}, not as documented: {odd:x?}");
        thread::sleep(Duration::from_millis(10));
    }
    let trace = tracer.stop();
    trace.check_nothing_lost();
    work.exit();
}

#[test]
fn root_can_save_where_only_root_may_write_anything() {
    let bench = start();
    let directory = bench.subdirectory("theirs");
    chown(&directory, Some(NOBODY), Some(NOBODY)).expect("give it away");
    let closed = fs::Permissions::from_mode(0o700);
    fs::set_permissions(&directory, closed).expect("close it");
    let work = Work::start(["quiet"]);
    let file = directory.join("trace");
    let mut command = std::process::Command::new(binary());
    command.args([
        "--format=json",
        "--pid",
        &work.pid().to_string(),
        "--output",
    ]);
    let tracer = Tracer::start_command(command.arg(&file));
    let recorder = rights_of(&[tracer.pid()]);
    let recorder = recorder.iter().find(|(name, _)| name == "recorder");
    let (_, rights) = recorder.expect("a recorder");
    assert_eq!(rights.effective, bits(["CAP_DAC_OVERRIDE"]), "{rights:x?}");
    let trace = tracer.stop();
    assert_eq!(trace.code, Some(0), "{}", trace.stderr);
    let left: Vec<_> = fs::read_dir(&directory)
        .expect("the directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(left, ["trace"], "without its journal");
    work.exit_without_work();
}

#[test]
fn a_launched_command_has_nothing_of_the_tracers() {
    let bench = start();
    let program = public_copy(&bench, &binary(), "faulttrace");
    let mut command = command_with(&INSTEAD_OF_ROOT, &program);
    let report = open_directory(&bench).join("report");
    let pattern = "^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs)";
    let script = format!(
        "grep -E '{pattern}' /proc/self/status | cut -f2 > {}",
        report.display()
    );
    let ended = run_command(command.args(["--", "sh", "-c", &script]));
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let report = fs::read_to_string(report).expect("the command wrote it");
    let values: Vec<_> = report.split_whitespace().collect();
    // Inheritable ones are of no use without those of a file.
    let (zero, none) = ("0".repeat(16), "0");
    assert_eq!(&values[1..], [&*zero, &zero, &zero, none], "{ended:#?}");
}

#[test]
fn signals_reach_a_command_of_another_user() {
    let bench = start();
    let slow = slow_file(&bench);
    let program = public_copy(&bench, &work::binary(), "workload");
    let report = open_directory(&bench).join("report");
    let mut command = std::process::Command::new(binary());
    command
        .args(["--format=json", "--"])
        .arg(&program)
        .arg("plain");
    command
        .arg(slow.file())
        .args(["--touches=10", "--until-signal"]);
    command.arg(format!("--report={}", report.display()));
    command
        .env("SUDO_UID", NOBODY.to_string())
        .env("SUDO_GID", NOBODY.to_string())
        .env("SUDO_USER", "nobody");
    let tracer = Tracer::start_command(&mut command);
    until("the workload waits for a signal", SOON, || report.exists());
    tracer.signal(Signal::SIGTERM);
    let trace = tracer.finish();
    assert_eq!(
        trace.code,
        Some(100 + Signal::SIGTERM as i32),
        "{}",
        trace.stderr
    );
}
