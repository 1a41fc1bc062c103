//! Each way in which tracing can be impossible is provoked: the message says what is missing and
//! how to mend it, the exit code is 3. What the tracer can mend itself, it does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use faulttrace_tests::harness::process::{must, until};
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::tracer::{Ended, Tracer, binary, run_command, run_to_end};
use faulttrace_tests::harness::work::{self, Work};
use faulttrace_tests::harness::{Bench, SOON, start};

/// A copy of the tracer that any user may execute, wherever the original is.
fn public_binary(bench: &Bench) -> PathBuf {
    let open = || fs::Permissions::from_mode(0o755);
    fs::set_permissions(bench.path(), open()).expect("open the directory");
    let copy = bench.path().join("faulttrace");
    fs::copy(binary(), &copy).expect("copy the tracer");
    fs::set_permissions(&copy, open()).expect("make it executable");
    copy
}

/// The tracer in a mount namespace of its own that a script has changed before.
fn in_changed_mounts(script: &str, arguments: &[&str]) -> Command {
    let script = format!("set -e; {script}; exec \"$0\" \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=private", "sh", "-c", &script]);
    command.arg(binary()).args(arguments);
    command
}

/// Tries to trace a healthy target in changed mounts.
fn trace_in_changed_mounts(script: &str) -> Ended {
    let work = Work::start(["quiet"]);
    let pid = work.pid().to_string();
    let ended = run_command(&mut in_changed_mounts(
        script,
        &["--pid", &pid, "--duration", "1s"],
    ));
    work.exit_without_work();
    ended
}

#[test]
fn doctor_says_what_is_there() {
    let _bench = start();
    let text = run_to_end(["doctor"]);
    assert_eq!(text.code, Some(0), "{text:#?}");
    for word in [
        "BTF",
        "lockdown",
        "tracefs",
        "sched_switch",
        "page_fault_user",
    ] {
        let found = text.stdout.to_lowercase().contains(&word.to_lowercase());
        assert!(found, "{word} in:\n{}", text.stdout);
    }
    let json = run_to_end(["doctor", "--format", "json"]);
    assert_eq!(json.code, Some(0), "{json:#?}");
    let values = serde_json::Deserializer::from_str(&json.stdout).into_iter();
    let values: Vec<serde_json::Value> = values
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("{error}: {json:#?}"));
    assert!(
        values
            .iter()
            .all(|value| value.is_object() || value.is_array()),
        "{json:#?}"
    );
    assert!(!values.is_empty(), "{json:#?}");
}

#[test]
fn without_privilege() {
    let bench = start();
    let tracer = public_binary(&bench);
    let work = Work::start(["quiet"]);
    let pid = work.pid().to_string();
    let nobody = [
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all",
    ];
    let as_nobody = |arguments: &[&str]| {
        run_command(
            Command::new("setpriv")
                .args(nobody)
                .arg(&tracer)
                .args(arguments),
        )
    };
    as_nobody(&["--pid", &pid]).expect(3, &["sudo"]);
    // The doctor's table is on stdout, whatever it says.
    let doctor = as_nobody(&["doctor"]);
    assert_eq!(doctor.code, Some(3), "{doctor:#?}");
    assert!(
        doctor.stdout.contains("sudo"),
        "how to mend it: {doctor:#?}"
    );
    // Root without capabilities is no better off, and is told which one it lacks.
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(&tracer)
        .args(["--pid", &pid]);
    run_command(&mut command).expect(3, &["CAP_"]);
    work.exit_without_work();
}

#[test]
fn no_such_process() {
    let _bench = start();
    let mut gone = Command::new("true").spawn().expect("start true");
    gone.wait().expect("wait for true");
    let pid = gone.id().to_string();
    run_to_end(["--pid", &pid]).expect(3, &[&pid, "process"]);
}

#[test]
fn kernel_thread() {
    let _bench = start();
    assert_eq!(
        fs::read_to_string("/proc/2/comm").expect("kthreadd").trim(),
        "kthreadd"
    );
    run_to_end(["--pid", "2"]).expect(3, &["kernel thread"]);
}

#[test]
fn process_that_has_exited_but_is_still_listed() {
    let _bench = start();
    let mut zombie = Command::new("true").spawn().expect("start true");
    let pid = zombie.id().to_string();
    let stat = format!("/proc/{pid}/stat");
    until("it is a zombie", SOON, || {
        fs::read_to_string(&stat).is_ok_and(|s| s.contains(") Z "))
    });
    let ended = run_to_end(["--pid", &pid]);
    zombie.wait().expect("wait for true");
    ended.expect(3, &[&pid, "exited"]);
}

#[test]
fn kernel_too_old() {
    let _bench = start();
    let work = Work::start(["quiet"]);
    let machine = must("uname", ["-m"]);
    let mut command = Command::new("setarch");
    command.args([&machine, "--uname-2.6"]).arg(binary());
    command.args(["--pid", &work.pid().to_string()]);
    run_command(&mut command).expect(3, &["kernel", "2.6."]);
    work.exit_without_work();
}

#[test]
fn no_btf() {
    let _bench = start();
    let ended = trace_in_changed_mounts("mount -t tmpfs none /sys/kernel/btf");
    ended.expect(3, &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"]);
}

#[test]
fn lockdown_confidentiality() {
    let _bench = start();
    let script = "mount -t tmpfs none /sys/kernel/security; \
                  echo 'none integrity [confidentiality]' > /sys/kernel/security/lockdown";
    trace_in_changed_mounts(script).expect(3, &["lockdown", "confidentiality"]);
    let script = "mount -t tmpfs none /sys/kernel/security; \
                  echo 'none [integrity] confidentiality' > /sys/kernel/security/lockdown";
    trace_in_changed_mounts(script).expect(0, &[]);
}

fn tracefs_mounts() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc/self/mounts");
    let tracefs = mounts
        .lines()
        .filter(|line| line.split(' ').nth(2) == Some("tracefs"));
    tracefs.map(str::to_owned).collect()
}

#[test]
fn tracefs_not_mounted() {
    let _bench = start();
    let before = tracefs_mounts();
    let script = "while umount /sys/kernel/debug/tracing 2>/dev/null; do :; done; \
                  while umount /sys/kernel/tracing 2>/dev/null; do :; done";
    let ended = trace_in_changed_mounts(script);
    if ended.code == Some(3) {
        ended.expect(3, &["mount -t tracefs"]);
    } else {
        ended.expect(0, &[]);
    }
    assert_eq!(
        tracefs_mounts(),
        before,
        "what the tracer mounts, nobody else sees"
    );
}

/// The only child of a process.
fn child_of(parent: u32) -> u32 {
    let wanted = format!("PPid:\t{parent}\n");
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))
            .is_ok_and(|status| status.contains(&wanted))
    };
    pids.into_iter()
        .find(is_child)
        .expect("the process has a child")
}

#[test]
fn pid_from_inside_a_pid_namespace() {
    let bench = start();
    let options = Options {
        delay_us: 5_000,
        pages: 16,
        ..Options::default()
    };
    let slow = SlowFs::mount(&bench, &options);
    // The shell is process 1 of the namespace and outlives the workload, whose pid is small.
    let mut command = Command::new("unshare");
    command.args([
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        "\"$@\"; :",
        "sh",
    ]);
    command
        .arg(work::binary())
        .arg("touch")
        .arg(slow.file())
        .arg("--touches=10");
    let mut work = Work::start_command("touch in a pid namespace", &mut command);
    let inside = work.pid();
    assert!(inside < 100, "a pid as seen inside: {inside}");
    let shell = child_of(work.outer_pid());
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--target={shell}"))
        .args(["--pid", "--mount"])
        .arg(binary());
    command.args([
        "--format",
        "json",
        "--duration",
        "4s",
        "--pid",
        &inside.to_string(),
    ]);
    let tracer = Tracer::start_command(&mut command);
    work.run();
    let trace = tracer.finish();
    let path = slow.file().to_str().expect("our own path");
    let faults = trace.faults(inside);
    let of_file = faults
        .iter()
        .filter(|fault| fault.facts.path.as_deref() == Some(path));
    let (found, all) = (of_file.count(), trace.all_faults().len());
    trace.check(found == 10, || {
        format!("10 faults of pid {inside}, not {found}; {all} in all")
    });
    let told = trace.stderr.to_lowercase().contains("namespace");
    trace.check(told, || {
        "nothing on stderr says that the pid was translated".to_owned()
    });
    assert_eq!(trace.code, Some(0));
    work.exit();
}
