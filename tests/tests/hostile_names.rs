//! What the target calls itself and its files cannot steer the terminal or forge output.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::tracer::{Tracer, launch_text};
use faulttrace_tests::harness::work::Work;

/// ESC, newline, a byte that is not UTF-8, a backslash: 11 bytes, a thread name has 15.
const THREAD: &[u8] = b"e\x1b[31m\n\xff\\x";
const THREAD_HEX: &str = "651b5b33316d0aff5c78";
const THREAD_SHOWN: &str = r"e\x1b[31m\n\xff\\x";
const FILE: &[u8] = b"a\x1b]0;owned\x07 b\nfault\xc3\x28\\.db";
const FILE_SHOWN: &str = r"a\x1b]0;owned\x07 b\nfault\xc3(\\.db";

fn options() -> Options {
    let name = OsString::from_vec(FILE.to_vec());
    Options {
        name,
        delay_us: 5_000,
        pages: 16,
        ..Options::default()
    }
}

fn arguments(slow: &SlowFs) -> Vec<OsString> {
    let name = format!("--name-hex={THREAD_HEX}");
    let file = slow.file_arg().to_owned();
    vec!["touch".into(), file, "--touches=5".into(), name.into()]
}

#[test]
fn json_shows_hostile_names_escaped() {
    assert!(
        THREAD_HEX.eq_ignore_ascii_case(
            &THREAD
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        )
    );
    let bench = start();
    let slow = SlowFs::mount(&bench, &options());
    let mut work = Work::start(arguments(&slow));
    let tracer = Tracer::of(work.pid());
    work.run();
    let trace = tracer.stop();
    let faults = trace.faults(work.pid());
    let hostile: Vec<_> = faults
        .iter()
        .filter(|fault| {
            fault
                .facts
                .path
                .as_ref()
                .is_some_and(|path| path.contains("owned"))
        })
        .collect();
    assert_eq!(hostile.len(), 5, "all touches of the file: {faults:#?}");
    for fault in hostile {
        assert_eq!(fault.facts.thread, THREAD_SHOWN);
        let path = fault.facts.path.as_deref().unwrap_or_default();
        assert!(path.ends_with(&format!("/{FILE_SHOWN}")), "{path}");
    }
    work.exit();
}

#[test]
fn text_shows_hostile_names_escaped() {
    let bench = start();
    let slow = SlowFs::mount(&bench, &options());
    let ended = launch_text(&["--format", "text"], &arguments(&slow), || ());
    let text = &ended.stdout;
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(text.contains(THREAD_SHOWN), "the thread's name in:\n{text}");
    assert!(
        text.contains("owned") && text.contains(r"\x1b]0;"),
        "the file's name in:\n{text}"
    );
    let control = |c: char| c.is_control() && c != '\n' && c != '\t';
    assert!(
        !text.contains(control),
        "no control characters in:\n{text:?}"
    );
    assert!(
        !text.contains('\u{fffd}'),
        "invalid UTF-8 is escaped, not printed:\n{text:?}"
    );
    // The first line is the tracer's own: "faulttrace 0.1.0 …".
    let forged = text.lines().skip(1).any(|line| line.starts_with("fault"));
    assert!(!forged, "a file name cannot begin a line:\n{text}");
}
