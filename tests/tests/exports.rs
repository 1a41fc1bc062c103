//! Exports, read by the tools they are for: what each of them counts is what the report says.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use faulttrace_tests::harness::process::must;
use faulttrace_tests::harness::saved::{SavedTrace, attempt, report, succeed};
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::tracer::Tracer;
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::harness::{Bench, start};
use serde_json::Value;

/// A saved trace of touches of a slow file, and its report's totals.
struct Traced {
    bench: Bench,
    saved: SavedTrace,
    total: Value,
    file: String,
}

fn traced() -> Traced {
    let bench = start();
    let slow = SlowFs::mount(
        &bench,
        &Options {
            // Of what a target can name: what CSV, folded stacks and XML have to escape.
            name: "=1+2,\"x\" <b>;&.db".into(),
            delay_us: 3_000,
            ..Options::default()
        },
    );
    let file = slow.file().to_str().expect("our own path").to_owned();
    let mut work = Work::start(["touch", &file, "--threads=3", "--touches=40", "--name=w;<"]);
    let tracer = Tracer::of(work.pid());
    work.run();
    let saved = tracer.stop().saved.expect("it saves what it traces");
    work.exit();
    let total = report(&saved.path(), &[])["total"].clone();
    assert!(total["faults"].as_u64() >= Some(120), "{total}");
    Traced {
        bench,
        saved,
        total,
        file,
    }
}

impl Traced {
    fn export(&self, format: &str) -> PathBuf {
        let path = self.bench.path().join(format!("exported.{format}"));
        let trace = self.saved.path();
        let words = ["export", "--to", format, "--output"].map(OsStr::new);
        succeed(
            words
                .into_iter()
                .chain([path.as_os_str(), trace.as_os_str()]),
        );
        path
    }

    fn number(&self, field: &str) -> u64 {
        self.total[field].as_u64().expect(field)
    }

    fn read(&self, format: &str) -> String {
        std::fs::read_to_string(self.export(format)).expect("text")
    }
}

/// A program of the tests in Python, with the packages that `cargo xtask setup` brings.
fn python(program: &str, files: &[&Path]) -> Value {
    let python = std::env::var("FAULTTRACE_PYTHON")
        .expect("FAULTTRACE_PYTHON must name a Python with perfetto: `cargo xtask e2e` does");
    let program = Path::new("python").join(program);
    let arguments = [&*program].into_iter().chain(files.iter().copied());
    serde_json::from_str(&must(&python, arguments)).expect("JSON")
}

#[test]
fn go_tool_pprof_reads_the_profile() {
    let traced = traced();
    let profile = traced.export("pprof");
    let pprof = |option: &str| {
        must(
            "go",
            [
                OsStr::new("tool"),
                "pprof".as_ref(),
                option.as_ref(),
                profile.as_os_str(),
            ],
        )
    };
    let raw = pprof("-raw");
    assert!(
        raw.contains("faults/count blocked/nanoseconds[dflt]"),
        "{raw}"
    );
    // A sample's line: its values, a colon, its locations.
    let samples = raw.lines().filter_map(|line| {
        let mut values = line.split_once(':')?.0.split_whitespace();
        let faults = values.next()?.parse::<u64>().ok()?;
        let blocked = values.next()?.parse::<u64>().ok()?;
        values.next().is_none().then_some((faults, blocked))
    });
    let (faults, blocked_ns) = samples.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert_eq!(faults, traced.number("faults"), "{raw}");
    assert_eq!(blocked_ns, traced.number("blocked_ns"), "{raw}");
    for label in ["cause:[fuse]", "thread:[w;<-1]", "file:["] {
        assert!(raw.contains(label), "{label}: {raw}");
    }
    let top = pprof("-top");
    assert!(
        top.contains("Type: blocked") && top.contains("touch_one"),
        "{top}"
    );
}

#[test]
fn folded_stacks_and_flame_graph_add_up_to_the_report() {
    let traced = traced();
    let blocked_ns = traced.number("blocked_ns");
    let folded = traced.read("folded");
    let value = |line: &str| line.rsplit_once(' ')?.1.parse::<u64>().ok();
    let sum: u64 = folded.lines().map(|line| value(line).expect(line)).sum();
    assert_eq!(sum, blocked_ns, "{folded}");
    assert!(
        folded.lines().all(|line| line.contains("[fuse] ")),
        "{folded}"
    );
    let svg = traced.read("flamegraph");
    let title = svg.split("<title>all (").nth(1).expect("the root's title");
    let (micros, _) = title.split_once(" µs").expect("its value");
    let micros: u64 = micros.replace(',', "").parse().expect("a number");
    assert!(micros.abs_diff(blocked_ns / 1000) <= 1 + folded.lines().count() as u64);
    assert!(!svg.contains("w;<"), "names are escaped");
}

#[test]
fn perfettos_own_classes_read_the_timeline() {
    let traced = traced();
    let found = python("check_perfetto.py", &[&traced.export("perfetto")]);
    assert_eq!(found["violations"], Value::Array(Vec::new()), "{found}");
    assert_eq!(found["flows_without_partner"], 0, "{found}");
    for field in ["faults", "blocked_ns", "runqueue_ns", "duration_ns"] {
        assert_eq!(found[field], traced.total[field], "{field}: {found}");
    }
    // Each of these touches sleeps once, and a thread of the file system's server wakes it.
    assert!(found["wake_ups"].as_u64() >= Some(100), "{found}");
    let placed = found["placed_blocked_ns"].as_u64().expect("a number");
    assert!(placed * 10 >= traced.number("blocked_ns") * 9, "{found}");
}

#[test]
fn csv_and_json_are_read_by_python_and_sqlite() {
    let traced = traced();
    let (csv, json) = (traced.export("csv"), traced.export("json"));
    let found = python("check_csv_json.py", &[&csv, &json]);
    assert_eq!(found["differences"], Value::Array(Vec::new()), "{found}");
    for format in ["csv", "json"] {
        for field in ["faults", "blocked_ns", "runqueue_ns", "duration_ns"] {
            assert_eq!(
                found[format][field], traced.total[field],
                "{format} {field}: {found}"
            );
        }
    }
    let import = format!(".import --csv {} t", csv.display());
    let question = "SELECT count(*) || ' ' || sum(blocked_ns) || ' ' || max(path) FROM t";
    let answer = must("sqlite3", [":memory:", &import, question]);
    let (faults, blocked_ns) = (traced.number("faults"), traced.number("blocked_ns"));
    assert_eq!(answer, format!("{faults} {blocked_ns} {}", traced.file));
    let lines = std::fs::read_to_string(&json).expect("text");
    let replayed = faulttrace_tests::harness::saved::replay_json(&traced.saved.path(), &[]);
    assert!(lines == replayed, "the JSON export is the replay");
}

#[test]
fn an_export_overwrites_nothing_and_is_not_for_a_terminal() {
    let traced = traced();
    let path = traced.export("csv");
    let trace = traced.saved.path();
    let mut arguments = vec!["export".as_ref(), "--to=csv".as_ref(), "-o".as_ref()];
    arguments.extend([path.as_os_str(), trace.as_os_str()]);
    attempt(&arguments).expect(1, &["exists already", "--force"]);
    arguments.push("--force".as_ref());
    succeed(&arguments);
    // Nor the trace itself, nor what is no file.
    for output in [trace.as_os_str(), "/dev/full".as_ref()] {
        let words = ["export", "--to=csv", "--force", "-o"].map(OsStr::new);
        let arguments = words.into_iter().chain([output, trace.as_os_str()]);
        attempt(arguments).expect(1, &[]);
    }
    succeed(["report".as_ref(), trace.as_os_str()]);
    // `script` gives it a terminal.
    let command = format!(
        "{} export --to pprof {}",
        faulttrace_tests::harness::tracer::binary().display(),
        trace.display()
    );
    let said = must("script", ["-qc", &command, "/dev/null"]);
    assert!(said.contains("not for a terminal"), "{said}");
    // A reader that has seen enough is no failure.
    let piped = format!("{command} | head -c 10 >/dev/null; exit ${{PIPESTATUS[0]}}");
    must("bash", ["-c", &piped.replace("pprof", "json")]);
}
