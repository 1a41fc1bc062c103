//! Stalls, as they are told and in the summary.

use std::sync::Arc;

use super::Screen;
use crate::model::analysis::tests::during;
use crate::model::summary::samples::{self, record, start};
use crate::model::{Name, Record, Sample};
use crate::view::text::TextOptions;

const MS: u64 = 1_000_000;

fn sample(one: Sample) -> Record {
    Record::Sample(Arc::new(one))
}

/// Feeds records, and the stalls that they make, as a session does. Gives what came of the latter.
fn told(screen: &mut Screen, records: &[Record]) -> String {
    for record in records {
        screen.feed(record);
        screen.text();
        for stall in screen.summary.take_stalls() {
            screen.feed(&stall);
        }
    }
    screen.text()
}

fn stalled() -> Vec<Record> {
    let mut other = during(2, 150 * MS, 420 * MS);
    other.facts.place.path = Some(Name::from("/data/\x1b[2Jother"));
    vec![
        start(),
        sample(samples::sample(4700, 50 * MS)),
        record(during(1, 100 * MS, 400 * MS)),
        record(other),
        sample(samples::sample(4700, 250 * MS)),
        sample(samples::sample(4700, 600 * MS)),
    ]
}

#[test]
fn a_stall_is_told_with_what_was_counted_beside_it() {
    let mut screen = Screen::new(TextOptions::default());
    let text = told(&mut screen, &stalled());
    insta::assert_snapshot!(text);
    screen.summary.end_stalls();
    screen.finish();
    let summary = screen.text();
    let stalls = summary
        .lines()
        .skip_while(|line| !line.starts_with("stalls"));
    insta::assert_snapshot!(stalls.take(2).collect::<Vec<_>>().join("\n"));
}

#[test]
fn what_is_not_known_has_a_question_mark() {
    let mut records = stalled();
    for record in &mut records {
        if let Record::Sample(one) = record {
            let after = one.time_ns - samples::T0;
            let mut unread = samples::sample_unread(4700, after);
            unread.process.user_ns = Some(after);
            unread.settled_ns = one.settled_ns;
            *record = sample(unread);
        }
    }
    let mut screen = Screen::new(TextOptions::default());
    insta::assert_snapshot!(told(&mut screen, &records));
}

#[test]
fn a_flood_of_stalls_is_counted() {
    let mut records = vec![start(), sample(samples::sample(4700, 0))];
    for n in 0..40 {
        let (begin, end) = (n * 20 * MS, (n * 20 + 15) * MS);
        records.push(record(during(1, begin, end)));
        records.push(record(during(2, begin, end)));
    }
    records.push(sample(samples::sample(4700, 900 * MS)));
    let mut screen = Screen::new(TextOptions::default());
    let text = told(&mut screen, &records);
    let lines = text
        .lines()
        .filter(|line| line.starts_with("STALL"))
        .count();
    assert_eq!(lines, 10, "{text}");
    screen.wait(1_100);
    assert!(screen.text().contains("30 more stalls not shown"));
}
