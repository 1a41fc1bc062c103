//! Names that want to be more than names, and lines that have to fit.

use std::sync::Arc;

use super::{Screen, nth, reported};
use crate::model::summary::samples::{fault, lost, record, start, stuck};
use crate::model::{LossClass, Mode, Name, ProcessInfo, Record, Stack};
use crate::view::text::TextOptions;

fn hostile() -> Vec<Record> {
    let evil = Name::from(&b"\x1b[2J\r\n14:03:07.123 \xff\xe2\x80\xae"[..]);
    let mut info = stuck();
    info.facts.thread = evil.clone();
    info.facts.syscall = Some(evil.clone());
    info.facts.mode = Mode::Kernel;
    info.facts.place.path = Some(evil.clone());
    let mut stack = Stack::clone(info.facts.user_stack.as_ref().unwrap());
    for frame in &mut stack.frames {
        frame.function = frame.function.as_ref().map(|_| evil.clone());
        frame.module = Some(evil.clone());
        frame.file = frame.file.as_ref().map(|_| evil.clone());
    }
    stack.frames[0].function = Some(Name::from("x".repeat(1 << 20).as_str()));
    info.facts.user_stack = Some(Arc::new(stack));
    let mut one = fault();
    one.facts = info.facts.clone();
    one.facts.tid = 1;
    vec![
        Record::Process(Arc::new(ProcessInfo {
            pid: 4700,
            name: evil.clone(),
            exe: Some(evil),
        })),
        reported(info),
        record(one),
        lost(LossClass::Lost, "bad\x1b\nreason", 1),
    ]
}

#[test]
fn hostile_names_stay_within_their_line() {
    let mut screen = Screen::new(TextOptions {
        multi_process: true,
        ..TextOptions::default()
    });
    for record in &hostile() {
        screen.feed(record);
    }
    screen.finish();
    let text = screen.text();
    for line in text.lines() {
        assert!(line.chars().all(|c| !c.is_control()), "{line}");
        assert!(!line.contains('\u{202e}'), "{line}");
        assert!(line.len() < 5000, "{}", line.len());
        let ours = [
            "14:03:07.123  ",
            "process ",
            "LOST  ",
            " ",
            "SUMMARY",
            "why pages",
            "page cache",
            "still",
            "lost",
            "ring",
        ];
        assert!(
            line.is_empty() || ours.iter().any(|start| line.starts_with(start)),
            "{line}"
        );
    }
    insta::assert_snapshot!(text.lines().take(3).collect::<Vec<_>>().join("\n"), @r"
    process seen: \x1b[2J\r\n14:03:07.123 \xff\u{202e}[4700] (\x1b[2J\r\n14:03:07.123 \xff\u{202e})
    14:03:07.123    2.30 s  STUCK fuse       \x1b[2J\r\n14:03:07.123 \xff\u{202e}[4700] \x1b[2J\r\n14:03:07.123 \xff\u{202e}[4711]  \x1b[2J\r\n14:03:07.123 \xff\u{202e} +0x3f000
        waiting for the answer of a FUSE server
    ");
}

#[test]
fn nothing_exceeds_the_width() {
    for width in [40, 80, 120] {
        let mut screen = Screen::new(TextOptions {
            width: Some(width),
            kernel_stacks: true,
            multi_process: true,
            ..TextOptions::default()
        });
        screen.feed(&start());
        for record in &hostile() {
            screen.feed(record);
        }
        for n in 0..200 {
            screen.feed(&record(nth(n)));
        }
        screen.finish();
        let text = screen.text();
        for line in text.lines() {
            let columns = crate::view::escape::width(line);
            assert!(columns <= width, "{columns} columns: {line}");
        }
    }
}
