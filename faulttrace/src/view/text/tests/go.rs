//! What is told of Go programs.

use std::sync::Arc;

use super::{Screen, plain, reported};
use crate::model::analysis::tests::during;
use crate::model::summary::samples::{
    self, T0, fault, go_process, goroutine, record, start, stuck, unknown_go_process,
};
use crate::model::{GoLabels, GoProcess, Goroutine, Mode, Name, Record};
use crate::view::TextOptions;

const MS: u64 = 1_000_000;

/// What the entry of a fault says of this.
fn line(of: Goroutine, mode: Mode) -> String {
    let mut one = fault();
    one.facts.goroutine = Some(Box::new(of));
    one.facts.mode = mode;
    let text = plain(&[record(one)]);
    let mut lines = text.lines().skip_while(|line| {
        let line = line.trim_start();
        !line.starts_with("goroutine") && !line.starts_with("the Go runtime")
    });
    lines.next().expect("a line").trim().to_owned()
}

fn held(p: u32, begin_ms: u64, end_ms: u64) -> Record {
    let mut one = during(p, begin_ms * MS, end_ms * MS);
    let mut at = goroutine();
    (at.id, at.p) = (Some(17 + u64::from(p)), Some(p));
    one.facts.goroutine = Some(Box::new(at));
    record(one)
}

/// Feeds records, and what follows from them, as a session does.
fn feed(screen: &mut Screen, records: &[Record]) {
    for record in records {
        screen.feed(record);
        for stall in screen.summary.take_stalls() {
            screen.feed(&stall);
        }
    }
}

fn sample(at_ms: u64) -> Record {
    let mut one = samples::sample(fault().facts.pid, T0 + at_ms * MS);
    one.settled_ns = T0 + at_ms * MS;
    Record::Sample(Arc::new(one))
}

#[test]
fn what_a_goroutine_was_at() {
    let known = goroutine();
    insta::assert_snapshot!(line(known.clone(), Mode::User));
    let in_c = Goroutine {
        p: None,
        in_syscall: true,
        labels: None,
        ..known
    };
    assert_eq!(
        line(in_c.clone(), Mode::User),
        "goroutine 18 (main.serve), made by main.main; holds no P: it is in C, as the runtime knows"
    );
    assert!(line(in_c, Mode::Kernel).ends_with("it is in a system call, as the runtime knows"));
    let runtime = Goroutine {
        p: Some(3),
        ..Goroutine::default()
    };
    assert_eq!(
        line(runtime, Mode::User),
        "the Go runtime itself; holds P 3"
    );
    assert_eq!(
        line(Goroutine::default(), Mode::User),
        "the Go runtime itself; holds no P"
    );
}

#[test]
fn that_no_p_is_left() {
    let mut screen = Screen::new(TextOptions::default());
    screen.feed(&start());
    screen.text();
    feed(&mut screen, &[go_process()]);
    insta::assert_snapshot!("program", screen.text());
    feed(&mut screen, &[held(0, 100, 400), held(1, 150, 420)]);
    screen.text();
    feed(&mut screen, &[sample(600)]);
    let text = screen.text();
    let stall = text.lines().skip_while(|line| !line.starts_with("P-STALL"));
    insta::assert_snapshot!("p_stall", stall.take(3).collect::<Vec<_>>().join("\n"));
    screen.summary.end_stalls();
    screen.finish();
    let text = screen.text();
    let go = text.lines().skip_while(|line| !line.starts_with("Go"));
    insta::assert_snapshot!("go_summary", go.take(3).collect::<Vec<_>>().join("\n"));
}

#[test]
fn what_is_not_known_of_a_program_is_said() {
    let mut screen = Screen::new(TextOptions::default());
    feed(&mut screen, &[start(), unknown_go_process()]);
    let text = screen.text();
    assert!(text.contains("GOMAXPROCS not known"), "{text}");
    assert!(
        text.contains("its goroutines cannot be read, so nothing is told of them"),
        "{text}"
    );
    screen.finish();
    let text = screen.text();
    assert!(
        !text.contains("no P was stuck"),
        "that is not known: {text}"
    );
    // Another number is told, the rest is not said again.
    let Record::Go(known) = go_process() else {
        panic!("a program");
    };
    let changed = GoProcess {
        procs: Some(8),
        ..(*known).clone()
    };
    let mut screen = Screen::new(TextOptions::default());
    feed(&mut screen, &[start(), go_process()]);
    screen.text();
    feed(&mut screen, &[Record::Go(Arc::new(changed))]);
    let text = screen.text();
    assert!(text.ends_with("GOMAXPROCS 8 from now on\n"), "{text}");
}

#[test]
fn names_of_a_go_program_are_escaped() {
    let evil = Name::from(&b"\x1b[2Jf\nP-STALL\xff\xe2\x80\xae"[..]);
    let at = Goroutine {
        start: Some(evil.clone()),
        created_by: Some(evil.clone()),
        labels: Some(Arc::new(GoLabels {
            kept: vec![(evil.clone(), evil.clone())],
            left_out: u32::MAX,
        })),
        ..goroutine()
    };
    let mut one = fault();
    one.facts.goroutine = Some(Box::new(at.clone()));
    let mut still = stuck();
    still.facts.goroutine = Some(Box::new(at));
    let program = GoProcess {
        pid: 4700,
        time_ns: u64::MAX,
        version: evil.clone(),
        module: Some(evil),
        procs: Some(u32::MAX),
        layout: None,
    };
    let text = plain(&[
        start(),
        Record::Go(Arc::new(program)),
        record(one),
        reported(still),
    ]);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
    assert!(!text.contains('\u{202e}'), "{text}");
    assert!(
        !text.lines().any(|line| line.starts_with("P-STALL")),
        "{text}"
    );
}
