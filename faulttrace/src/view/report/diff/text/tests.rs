//! What people read of two traces.

use jiff::tz::TimeZone;

use super::in_zone;
use crate::model::analysis::tests::analyse;
use crate::model::analysis::tests::diff::{trace, trace_of};
use crate::model::analysis::{Options, Report, compare};
use crate::model::{Cause, Fault, Name};
use crate::view::TextOptions;
use crate::view::report::diff::Compared;
use crate::view::report::samples::{eventful, hostile};

fn shown(before: &Report, after: &Report, width: Option<usize>) -> String {
    let diff = compare(before, after);
    let mut out = Vec::new();
    let compared = Compared {
        before_name: b"before.faulttrace",
        before,
        after_name: b"after.faulttrace",
        after,
        diff: &diff,
        top: 2,
    };
    let options = TextOptions {
        width,
        ..TextOptions::default()
    };
    in_zone(&compared, options, TimeZone::UTC, &mut out);
    String::from_utf8(out).unwrap()
}

/// One of the threads is on an index; after, that is slow, and on a slow file system.
fn with_index(seed: u64, slow: u64) -> Report {
    trace_of(seed, 90, 20, |one: &mut Fault| {
        if one.facts.thread == Name::from("worker-1") {
            one.facts.place.path = Some(Name::from("/data/by-name.idx"));
            one.duration_ns *= slow;
            one.blocked_ns *= slow;
            if slow > 1 {
                one.facts.cause = Some(Cause::Fuse);
            }
        }
    })
}

#[test]
fn a_change() {
    insta::assert_snapshot!(shown(&with_index(1, 1), &with_index(2, 9), None));
}

#[test]
fn a_change_in_80_columns() {
    insta::assert_snapshot!(shown(&with_index(1, 1), &with_index(2, 9), Some(80)));
}

/// The sentence that says what changed.
fn headline(before: &Report, after: &Report) -> String {
    let text = shown(before, after, None);
    let line = text.lines().skip_while(|line| !line.is_empty()).nth(1);
    line.unwrap().to_owned()
}

#[test]
fn the_headline_says_what_changed_and_what_did_not() {
    let (one, other) = (trace(1, 30, 20), trace(2, 30, 20));
    let line = headline(&one, &other);
    assert!(
        line.starts_with("How long threads are blocked in faults did not change beyond"),
        "{line}"
    );
    assert!(line.ends_with(" after."), "{line}");

    let line = headline(&one, &trace(2, 30, 60));
    assert!(
        line.starts_with("Threads are blocked in faults longer (+1"),
        "{line}"
    );
    let line = headline(&trace(2, 30, 60), &one);
    assert!(
        line.starts_with("Threads are blocked in faults shorter (-6"),
        "{line}"
    );
    assert!(line.contains("Most of it: cause file_read, "), "{line}");

    let fuse = trace_of(3, 30, 20, |one| one.facts.cause = Some(Cause::Fuse));
    let line = headline(&one, &fuse);
    assert!(line.starts_with("How long threads are blocked"), "{line}");
    assert!(line.contains(" But: cause file_read, "), "{line}");
    assert!(line.contains("; cause fuse, 0 before and "), "{line}");

    let nothing = analyse(Options::default(), &[]);
    let line = headline(&nothing, &one);
    assert!(line.starts_with("Too little to tell"), "{line}");
    assert!(line.contains("blocked ? per second before"), "{line}");
}

#[test]
fn what_a_trace_lacks_is_said() {
    let text = shown(&trace(1, 30, 20), &eventful(), Some(80));
    assert!(text.contains("lost: 3; not in the numbers below"), "{text}");
    assert!(
        text.contains("shown: only those of 1 ms and more"),
        "{text}"
    );
    assert!(text.contains("traced by faulttrace 0.1.0 on db1"), "{text}");
}

#[test]
fn hostile_names_stay_within_their_line_and_its_width() {
    let report = hostile();
    for width in [40, 80, 120] {
        for line in shown(&report, &report, Some(width)).lines() {
            assert!(line.chars().all(|c| !c.is_control()), "{line}");
            assert!(!line.contains('\u{202e}'), "{line}");
            let columns = crate::view::escape::width(line);
            assert!(columns <= width, "{columns} columns: {line}");
        }
    }
}
