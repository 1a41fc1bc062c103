//! Folded stacks and the flame graph.

use quick_xml::Reader;
use quick_xml::events::Event;

use super::{HOSTILE, export, faults, fold, hostile, hostile_fault, many, record, run, text};
use crate::export::bounded::Limits;
use crate::export::folded::Stacks;
use crate::export::{Error, Kind, start};
use crate::model::summary::{NOT_SELECTED, samples};
use crate::model::{LossClass, Record, Stack, Start};

/// Stack and time of a line.
fn split(line: &str) -> (Vec<&str>, u64) {
    let (stack, time) = line.rsplit_once(' ').unwrap();
    (stack.split(';').collect(), time.parse().unwrap())
}

fn total(folded: &str) -> u64 {
    folded.lines().map(|line| split(line).1).sum()
}

#[test]
fn a_line_has_thread_frames_and_cause() {
    let mut other = samples::fault();
    other.facts.user_stack = None;
    other.facts.thread = "spare".into();
    let mut cut: Stack = samples::user_stack().as_ref().clone();
    cut.id = 9;
    cut.truncated = true;
    let mut third = samples::fault();
    third.facts.user_stack = Some(cut.into());
    let mut never = samples::fault();
    never.blocked_ns = 0;
    never.facts.thread = "never".into();
    let records = [samples::fault(), other, samples::fault(), third, never].map(record);
    insta::assert_snapshot!(text(Kind::Folded, &records), @r"
    spare;[no user stack];[file_read] 12100000
    worker-3;0xdeadbeef;libstripped.so+0x1234;index::lookup;index::page;[file_read] 24200000
    worker-3;[stack cut];0xdeadbeef;libstripped.so+0x1234;index::lookup;index::page;[file_read] 12100000
    ");
}

#[test]
fn lines_add_up_to_the_time_blocked() {
    let records = many(3000, 5);
    let folded = text(Kind::Folded, &records);
    assert_eq!(total(&folded), fold(&records).total().tally.blocked_ns);
    assert!(folded.lines().all(|line| split(line).1 > 0));
    assert!(folded.contains("[no user stack]"));
    // The same lines for the same faults.
    assert_eq!(folded, text(Kind::Folded, &records));
}

#[test]
fn hostile_names_cannot_break_a_line() {
    let folded = text(Kind::Folded, &hostile());
    assert!(folded.chars().all(|c| c == '\n' || !c.is_control()));
    assert_eq!(folded.lines().count(), HOSTILE.len());
    for line in folded.lines() {
        let (frames, time) = split(line);
        // A thread, four frames and a cause: not one more.
        assert_eq!(frames.len(), 6, "{line}");
        assert_eq!((frames[5], time), ("[file_read]", 12_100_000));
        for frame in frames {
            assert!(!frame.is_empty() && frame.trim() == frame && !frame.starts_with('#'));
            assert!(!frame.starts_with("[beyond"), "{line}");
        }
    }
}

#[test]
fn beyond_the_limit_the_total_stays_right() {
    for limits in [
        Limits {
            groups: 3,
            bytes: 1 << 20,
        },
        Limits {
            groups: 100_000,
            bytes: 2_000,
        },
    ] {
        let records = many(1000, 8);
        let mut stacks = Stacks::new(limits);
        faults(&records).for_each(|fault| stacks.add(fault));
        let lines: Vec<_> = stacks.lines().collect();
        assert!(lines.len() > 1 && lines.len() < 20, "{}", lines.len());
        let (name, _) = lines.last().unwrap();
        assert!(name.starts_with("[beyond the limit of "), "{name}");
        let sum: u64 = lines.iter().map(|(_, ns)| ns).sum();
        assert_eq!(sum, fold(&records).total().tally.blocked_ns);
    }
}

#[test]
fn a_long_stack_keeps_its_innermost_frames() {
    let mut fault = samples::fault();
    let mut frames = vec![samples::frame("innermost", "", 0)];
    let long = "x".repeat(5000);
    frames.extend((0..5000).map(|_| samples::frame(&long, "", 0)));
    fault.facts.user_stack = Some(
        Stack {
            id: 1,
            frames,
            truncated: false,
        }
        .into(),
    );
    let folded = text(Kind::Folded, &[record(fault)]);
    assert!(folded.len() < 100_000);
    assert!(
        folded.starts_with("worker-3;[stack cut];"),
        "{}",
        &folded[..40]
    );
    assert!(folded.ends_with(";innermost;[file_read] 12100000\n"));
}

/// Elements by name, and all text, of what must be well-formed.
fn parse(svg: &str) -> (Vec<String>, Vec<String>) {
    let mut reader = Reader::from_str(svg);
    let (mut elements, mut texts) = (Vec::new(), Vec::new());
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) | Event::Empty(tag) => {
                for attribute in tag.attributes() {
                    attribute.unwrap();
                }
                let name = tag.name().as_ref().to_vec();
                elements.push(String::from_utf8(name).unwrap());
            }
            Event::Text(text) => texts.push(text.decode().unwrap().into_owned()),
            Event::CData(text) => texts.push(text.decode().unwrap().into_owned()),
            Event::GeneralRef(name) => {
                let name = name.decode().unwrap();
                assert!(["lt", "gt", "amp", "quot", "apos"].contains(&name.as_ref()));
            }
            Event::Eof => return (elements, texts),
            _ => {}
        }
    }
}

fn scripts(svg: &str) -> usize {
    let (elements, _) = parse(svg);
    elements.iter().filter(|name| *name == "script").count()
}

#[test]
fn a_flame_graph_says_what_it_is() {
    let mut records = vec![samples::start()];
    records.push(record(samples::fault()));
    let svg = text(Kind::Flamegraph, &records);
    let (elements, texts) = parse(&svg);
    assert_eq!(elements[0], "svg");
    assert_eq!(scripts(&svg), 1);
    let has = |text: &str| texts.iter().any(|of| of.contains(text));
    assert!(has("Time blocked in page faults"));
    assert!(
        has("server[4700] on db1, 2025-07-11T14:03:07.123Z, 12.4 ms"),
        "{texts:?}"
    );
    assert!(has("index::page (12,100 µs blocked, 100.00%)"), "{texts:?}");
    assert!(has("[file_read] (12,100 µs blocked, 100.00%)"));
}

#[test]
fn hostile_names_are_inert_in_svg() {
    let svg = text(Kind::Flamegraph, &hostile());
    let own = text(Kind::Flamegraph, &[record(samples::fault())]);
    assert_eq!(scripts(&svg), scripts(&own));
    assert!(!svg.contains("<script>alert"));
    assert!(
        svg.chars()
            .all(|c| matches!(c, '\n' | '\t' | '\r') || !c.is_control())
    );
    let (elements, texts) = parse(&svg);
    let known = |name: &String| {
        [
            "svg",
            "defs",
            "linearGradient",
            "stop",
            "style",
            "script",
            "rect",
            "text",
            "g",
            "title",
        ]
        .contains(&name.as_str())
    };
    assert!(elements.iter().all(known), "{elements:?}");
    // They are there all the same.
    assert!(texts.iter().any(|text| text.contains("alert(1)")));
}

#[test]
fn a_hostile_process_name_is_inert_in_the_subtitle() {
    for name in HOSTILE {
        let start = Start {
            host: String::from_utf8_lossy(name).into_owned(),
            ..Start::default()
        };
        let records = [Record::Start(start.into()), record(hostile_fault(0, name))];
        let svg = text(Kind::Flamegraph, &records);
        assert_eq!(scripts(&svg), 1);
    }
}

#[test]
fn nothing_blocked_is_nothing_to_draw() {
    let mut fault = samples::fault();
    fault.blocked_ns = 0;
    let drawn = run(start(Kind::Flamegraph), &[record(fault.clone())]);
    assert!(matches!(drawn, Err(Error::NothingBlocked)));
    let others = samples::lost(LossClass::Filtered, NOT_SELECTED, 7);
    let drawn = run(start(Kind::Flamegraph), &[record(fault.clone()), others]);
    assert!(matches!(drawn, Err(Error::NothingSelected(7))));
    assert_eq!(export(Kind::Folded, &[record(fault)]), b"");
}
