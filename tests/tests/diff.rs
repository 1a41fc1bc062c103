//! Two runs of one workload, one with a cold and one with a warm file: the comparison tells what
//! changed, and calls nothing a change that is none.

use std::ffi::OsStr;

use faulttrace_tests::harness::disk::{create, evict};
use faulttrace_tests::harness::saved::{SavedTrace, succeed};
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::tracer::Tracer;
use faulttrace_tests::harness::work::Work;
use serde_json::Value;
use std::path::Path;

const TOUCHES: usize = 400;

/// Touches every page, one each few milliseconds; returns the trace and the majors the kernel
/// counted.
fn traced(file: &Path) -> (SavedTrace, u64) {
    let touches = format!("--touches={TOUCHES}");
    let words = ["alternate".as_ref(), file.as_os_str()];
    let options = [touches.as_ref(), "--sleep-ms=4".as_ref()];
    let mut work = Work::start(words.into_iter().chain(options));
    let tracer = Tracer::of(work.pid());
    let done = work.run();
    let saved = tracer.stop().saved.expect("it saves what it traces");
    work.exit();
    (saved, done.stat_majors)
}

fn diff(before: &SavedTrace, after: &SavedTrace, options: &[&str]) -> String {
    let (before, after) = (before.path(), after.path());
    let words = [OsStr::new("diff")].into_iter();
    let files = [before.as_os_str(), after.as_os_str()];
    succeed(words.chain(options.iter().map(OsStr::new)).chain(files))
}

fn json(before: &SavedTrace, after: &SavedTrace) -> Value {
    serde_json::from_str(&diff(before, after, &["--json"])).expect("one JSON object")
}

#[test]
fn cold_and_warm_runs_differ_by_the_file_that_was_cold() {
    let bench = start();
    let file = bench.path().join("data");
    create(&file, TOUCHES);
    evict(&file);
    let (cold, cold_majors) = traced(&file);
    let (warm, warm_majors) = traced(&file);
    assert!(cold_majors >= TOUCHES as u64 && warm_majors < 20);
    let found = json(&cold, &warm);
    eprintln!("{}", diff(&cold, &warm, &[]));

    let blocked = &found["total"]["blocked_ns_per_s"];
    assert_eq!(blocked["verdict"], "significant", "{blocked}");
    let side = |name: &str| blocked[name].as_f64().expect(name);
    assert!(side("before") > 20.0 * side("after"), "{blocked}");
    let name = file.to_str().expect("our own path");
    let rows = found["by_file"]["rows"].as_array().expect("rows");
    let row = rows
        .iter()
        .find(|row| row["path"] == name)
        .expect("the file");
    assert_eq!(row["blocked_ns_per_s"]["verdict"], "significant", "{row}");
    let text = diff(&cold, &warm, &[]);
    assert!(text.contains("shorter") && text.contains(name), "{text}");
    // The other way round it is the other way round.
    let back = json(&warm, &cold);
    let blocked = &back["total"]["blocked_ns_per_s"];
    assert!(
        blocked["after"].as_f64() > blocked["before"].as_f64(),
        "{blocked}"
    );
    // And nothing differs from itself.
    let same = json(&cold, &cold);
    let blocked = &same["total"]["blocked_ns_per_s"];
    assert_ne!(blocked["verdict"], "significant", "{blocked}");
    assert_eq!(blocked["before"], blocked["after"]);
}
