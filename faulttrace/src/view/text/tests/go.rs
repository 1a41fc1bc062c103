//! What is told of Go programs.

use std::sync::Arc;

use super::{Screen, plain, reported};
use crate::model::analysis::tests::during;
use crate::model::summary::samples::{
    self, T0, fault, go_process, goroutine, record, start, stuck, unknown_go_process,
};
use crate::model::{Cause, Fault, GoLabels, GoProcess, Goroutine, Mode, Name, Record};
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
    let mut one = samples::sample(fault().facts.pid, at_ms * MS);
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

/// The lines of stalls that come of these records, and the summary.
fn stalls(records: &[Record]) -> (Vec<String>, String) {
    let mut screen = Screen::new(TextOptions::default());
    feed(&mut screen, &[start(), go_process(), sample(50)]);
    feed(&mut screen, records);
    let text = screen.text();
    let lines = text.lines().filter(|line| line.contains("STALL"));
    let lines = lines.map(str::to_owned).collect();
    screen.summary.end_stalls();
    screen.finish();
    (lines, screen.text())
}

/// A fault in which the thread held no P, or whose goroutine could not be read.
fn without_p(tid: u32, begin_ms: u64, end_ms: u64, at: Option<Goroutine>) -> Record {
    let mut one = during(tid, begin_ms * MS, end_ms * MS);
    one.facts.goroutine = at.map(Box::new);
    record(one)
}

#[test]
fn a_stall_of_the_threads_that_hold_all_ps_is_told_once() {
    let (lines, summary) = stalls(&[held(0, 100, 400), held(1, 150, 420), sample(600)]);
    let [line] = &lines[..] else {
        panic!("{lines:#?}");
    };
    assert!(line.starts_with("P-STALL  14:03:07.2"), "{line}");
    assert!(
        line.contains("2 of 2 Ps stuck in page faults (file_read); "),
        "{line}"
    );
    assert!(
        summary.contains("stalls: 1 time, 250 ms in all"),
        "{summary}"
    );
    assert!(
        summary.contains("no P left: 250 ms in 1 stall;"),
        "{summary}"
    );

    // While it goes on, too.
    let mut going_on = stuck();
    going_on.facts.goroutine = Some(Box::new(goroutine()));
    going_on.facts.begin_ns = Some(T0 + 100 * MS);
    going_on.elapsed_ns = 400 * MS;
    let mut other = going_on.clone();
    other.facts.tid += 1;
    let at = other.facts.goroutine.as_mut().expect("one");
    (at.id, at.p) = (Some(1), Some(0));
    let both = [
        reported(going_on),
        reported(other),
        sample(300),
        sample(900),
    ];
    let (lines, _) = stalls(&both);
    assert!(lines.len() > 1, "{lines:#?}");
    for line in &lines {
        assert!(
            line.starts_with("P-STALL") && line.contains(" so far"),
            "{line}"
        );
    }
}

#[test]
fn a_stall_that_says_more_than_that_no_p_is_left_is_told() {
    let in_c = Goroutine {
        p: None,
        in_syscall: true,
        ..goroutine()
    };
    let unknown = Goroutine {
        procs: None,
        ..goroutine()
    };
    let both = [held(0, 100, 400), held(1, 150, 420)];
    for (also, what) in [
        // Before all Ps are stuck, a thread in C makes it a stall.
        (without_p(7, 120, 300, Some(in_c.clone())), "longer"),
        // Within it is another thread in a fault.
        (without_p(7, 200, 300, Some(in_c)), "more threads"),
        (
            without_p(7, 200, 300, None),
            "what a thread was at is not known",
        ),
    ] {
        let [one, other] = both.clone();
        let (lines, _) = stalls(&[one, also, other, sample(600)]);
        let stalls = lines
            .iter()
            .filter(|line| line.starts_with("STALL"))
            .count();
        assert_eq!((stalls, lines.len()), (1, 2), "{what}: {lines:#?}");
    }
    // Of one, what it holds is not known; and of a program, how many Ps there are.
    for (tids, at) in [([0, 1], Some(unknown)), ([0, 1], None)] {
        let both = tids.map(|tid| without_p(tid, 100, 400, at.clone()));
        let [one, other] = both;
        let (lines, _) = stalls(&[one, other, sample(600)]);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(lines[0].starts_with("STALL"), "{lines:#?}");
    }
}

#[test]
fn of_many_faults_without_a_p_the_files_and_causes_are_told() {
    let mut records = Vec::new();
    for n in 0..20_u64 {
        for p in 0..2 {
            let begin = 100 + 10 * n;
            let Record::Fault(fault) = held(p, begin, begin + 10) else {
                panic!("a fault");
            };
            let mut fault = Fault::clone(&fault);
            fault.facts.place.path = Some(Name::from(format!("/{}", n / 15).as_str()));
            if n == 19 {
                fault.facts.cause = Some(Cause::ReadWait);
            }
            records.push(record(fault));
        }
    }
    records.push(sample(600));
    let mut screen = Screen::new(TextOptions::default());
    feed(&mut screen, &[start(), go_process(), sample(50)]);
    screen.text();
    feed(&mut screen, &records);
    let text = screen.text();
    let mut stall = text.lines().skip_while(|line| !line.starts_with("P-STALL"));
    let head = stall.next().expect("a stall");
    assert!(
        head.contains("page faults (file_read, read_wait); "),
        "{head}"
    );
    let end: Vec<&str> = stall.skip(8).take(2).collect();
    assert_eq!(
        end[0],
        "         and 32 more faults; of all most on /0 and 1 more"
    );
    assert!(
        end[1].starts_with("         beside it, over 550 ms: CPU "),
        "{}",
        end[1]
    );
    assert!(
        !text.lines().any(|line| line.starts_with("STALL")),
        "{text}"
    );
}

#[test]
fn labels_are_in_quotes_where_they_could_be_misread() {
    let labels = |pairs: &[(&str, &str)]| {
        let kept = pairs
            .iter()
            .map(|(key, value)| (Name::from(*key), Name::from(*value)));
        let at = Goroutine {
            labels: Some(Arc::new(GoLabels {
                kept: kept.collect(),
                left_out: 0,
            })),
            ..goroutine()
        };
        let line = line(at, Mode::User);
        line.split("; labels ").nth(1).expect("labels").to_owned()
    };
    let plain = [("handler", "/api/v1_x.y"), ("at", "10.0.0.1:80@db-2")];
    assert_eq!(labels(&plain), "handler=/api/v1_x.y at=10.0.0.1:80@db-2");
    assert_eq!(
        labels(&[("a", "1 b=2"), ("x=y", "1,2"), ("e", ""), ("", "k")]),
        r#"a="1 b=2" "x=y"="1,2" e="" ""=k"#
    );
    assert_eq!(
        labels(&[("q", "say \"\\\""), ("c", "a\n\x1b[2J"), ("u", "größe")]),
        r#"q="say \"\\\"" c="a\n\x1b[2J" u="größe""#
    );
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
