//! User stacks of Go programs, whose symbols are stripped or not: against the stack that the Go runtime
//! itself tells.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use faulttrace_tests::harness::disk::evict;
use faulttrace_tests::harness::programs::{compile_go, line_of};
use faulttrace_tests::harness::record::{Fault, Frame};
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::tracer::Tracer;
use faulttrace_tests::harness::work::Work;
use serde::Deserialize;

const SOURCE: &str = "gofault/main.go";
const PAGES: usize = 8;

/// A frame as `runtime.CallersFrames` tells it.
#[derive(Debug, Deserialize)]
struct Truth {
    function: String,
    file: String,
    line: u32,
}

/// How programs are built: what for, options of `go build`, whether with C.
const BUILDS: [(&str, &[&str], bool); 6] = [
    ("plain", &[], false),
    ("stripped", &["-ldflags=-s -w"], false),
    ("pie", &["-buildmode=pie", "-ldflags=-s -w"], false),
    ("cgo", &["-ldflags=-s -w"], true),
    ("cgo-pie", &["-buildmode=pie", "-ldflags=-s -w"], true),
    (
        "static",
        &["-ldflags=-s -w -linkmode=external -extldflags=-static"],
        true,
    ),
];

#[test]
fn stacks_of_the_oldest_go_are_those_of_its_runtime() {
    stacks_are_those_of_the_runtime(&PathBuf::from("go"));
}

#[test]
fn stacks_of_the_newest_go_are_those_of_its_runtime() {
    let go = std::env::var_os("FAULTTRACE_GO");
    let go = go.expect("FAULTTRACE_GO must name a new Go: `cargo xtask e2e` does");
    stacks_are_those_of_the_runtime(Path::new(&go));
}

fn stacks_are_those_of_the_runtime(go: &Path) {
    let bench = start();
    let options = Options {
        delay_us: 5_000,
        pages: PAGES,
        ..Options::default()
    };
    let slow = SlowFs::mount(&bench, &options);
    for (name, arguments, with_c) in BUILDS {
        evict(slow.file());
        let program = bench.path().join(name);
        compile_go(go, "gofault", &program, arguments, with_c);
        let told = bench.path().join("stack");
        let mut command = Command::new(&program);
        command.arg(slow.file()).arg(&told);
        let mut work = Work::start_command("program", &mut command);
        let tracer = Tracer::of(work.pid());
        work.run();
        let trace = tracer.stop();
        let path = slow.file().to_str().expect("our own path");
        let faults: Vec<_> = trace
            .faults(work.pid())
            .into_iter()
            .filter(|fault| fault.facts.path.as_deref() == Some(path))
            .collect();
        let truth = fs::read(&told).expect("the program tells its stack");
        let truth: [Vec<Truth>; 2] = serde_json::from_slice(&truth).expect("frames");
        trace.check(faults.len() == PAGES, || {
            format!("{name}: {PAGES} faults, not {}", faults.len())
        });
        for fault in faults {
            let page = fault.facts.offset.expect("an offset") / 4096;
            let by_copy = page % 2 == 1;
            check(name, fault, by_copy, &truth[usize::from(by_copy)]);
        }
        work.exit();
    }
}

/// touchPage (inlined) in middle, or memmove, which has no frame, and copyPage, at lines of our own; then
/// what the runtime tells.
fn check(name: &str, fault: &Fault, by_copy: bool, truth: &[Truth]) {
    let stack = fault.facts.user_stack.as_deref().expect("a user stack");
    let [touch, middle, callers @ ..] = stack else {
        panic!("{name}: {stack:#?}");
    };
    assert_eq!(touch.inlined, !by_copy, "{name}: {stack:#?}");
    assert!(!middle.inlined, "{name}: {stack:#?}");
    let is = |frame: &Frame, function: &str, file: &str, line: u32| {
        let found = (frame.function.as_deref(), frame.file.as_deref(), frame.line);
        assert_eq!(
            found,
            (Some(function), Some(file), Some(line)),
            "{name}: {stack:#?}"
        );
    };
    let file = &truth[0].file;
    let line = |marker| line_of(SOURCE, marker);
    let (own, marker) = if by_copy {
        assert_eq!(touch.function.as_deref(), Some("runtime.memmove"));
        ("main.copyPage", "// COPY LINE")
    } else {
        is(touch, "main.touchPage", file, line("// FAULT LINE"));
        ("main.middle", "// MIDDLE LINE")
    };
    is(middle, own, file, line(marker));
    assert_eq!(truth[0].function, own);
    assert_eq!(
        callers.len(),
        truth.len() - 1,
        "{name}: {stack:#?} {truth:#?}"
    );
    for (frame, told) in callers.iter().zip(&truth[1..]) {
        is(frame, &told.function, &told.file, told.line);
    }
    let last = &callers[callers.len() - 2..];
    assert_eq!(last[0].function.as_deref(), Some("runtime.main"));
}
