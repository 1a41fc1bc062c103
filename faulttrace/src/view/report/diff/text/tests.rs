//! What people read of two traces.

use jiff::tz::TimeZone;

use super::in_zone;
use crate::model::analysis::tests::analyse;
use crate::model::analysis::tests::diff::{trace, trace_of};
use crate::model::analysis::tests::diff_ps::{go_trace, go_trace_of};
use crate::model::analysis::tests::during;
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

/// The two sentences of Go programs.
fn of_go(before: &Report, after: &Report) -> (String, String) {
    let text = shown(before, after, None);
    let mut lines = text.lines().skip_while(|line| !line.is_empty()).skip(1);
    let mut next = || lines.next().unwrap().to_owned();
    (next(), next())
}

#[test]
fn a_remedy_that_works_is_called_better_though_threads_wait_longer() {
    let (two, three) = (go_trace(2, 90, 20), go_trace(3, 90, 20));
    let (first, second) = of_go(&two, &three);
    assert_eq!(
        first,
        "Go: better: no P was left to run goroutines with: before 180 ms per second (9.00 stalls, the \
         longest of 20.0 ms), after never."
    );
    let neutral = "Threads in faults, each counted for itself: blocked 360 ms per second before, 1.08 s \
                   after (+200 %). With a P left, more of them wait at once: that is no loss by itself.";
    assert!(second.starts_with(neutral), "{second}");
    assert!(second.contains(" Most of it: "), "{second}");
    for word in ["longer", "shorter", "worse"] {
        assert!(!shown(&two, &three, None).contains(word), "{word}");
    }

    let (first, second) = of_go(&three, &two);
    assert!(first.starts_with("Go: worse: no P was left"), "{first}");
    assert!(second.contains("(-67 %). Most of it"), "{second}");

    let (first, second) = of_go(&two, &two);
    assert!(
        first.starts_with("Go: as before, or no more than"),
        "{first}"
    );
    assert!(second.ends_with("(=, no more than chance)."), "{second}");

    // Not a Go program after: nothing is known of Ps there.
    let (first, _) = of_go(&two, &trace(1, 30, 20));
    assert!(first.starts_with("Go: not to be compared: "), "{first}");
    assert!(first.ends_with("after not known."), "{first}");
}

#[test]
fn a_moment_without_a_p_does_not_come_before_all_else() {
    // 400 µs of 10 s, and the threads of another program, which wait ten times as long.
    let other = |seconds: u64| -> Vec<_> {
        let all = (0..30).map(|n| {
            let begin = n * 300_000_000;
            let mut one = during(9, begin, begin + seconds * 25_000_000);
            one.facts.pid += 1;
            one
        });
        all.collect()
    };
    let before = go_trace_of(2, 2, 200, true, &other(1));
    let after = go_trace_of(3, 2, 200, true, &other(10));
    let (first, second) = of_go(&before, &after);
    let longer = "Threads are blocked in faults longer";
    assert!(first.starts_with(longer), "{first}");
    assert!(second.starts_with("Go: as before, or no"), "{second}");
    // With enough of it, too, others' threads are not excused by the Ps.
    let before = go_trace_of(2, 90, 20_000, true, &other(1));
    let after = go_trace_of(3, 90, 20_000, true, &other(10));
    let (first, second) = of_go(&before, &after);
    assert!(first.starts_with("Go: better"), "{first}");
    assert!(!second.contains("no loss"), "{second}");
}

#[test]
fn where_a_p_was_always_left_threads_tell_what_changed() {
    let (one, other) = (go_trace(3, 90, 20), go_trace(3, 90, 30));
    let (first, second) = of_go(&one, &other);
    assert!(
        first.starts_with("Threads are blocked in faults longer"),
        "{first}"
    );
    assert_eq!(
        second,
        "Go: it was never seen that no P was left to run goroutines with, before and after."
    );
    let (_, second) = of_go(&trace(1, 30, 20), &one);
    assert!(second.ends_with(" after; before is not known."), "{second}");
}

#[test]
fn majors_that_signals_have_made_few_are_not_compared() {
    let (two, three) = (go_trace(2, 90, 20), go_trace(3, 90, 20));
    let text = shown(&two, &three, None);
    let lines = "\n         0          0              major faults per second: not to be compared\n\
                 \x20     18.0       18.0         =    given up per second, and not counted\n\
                 \x20                                  (100 % of the faults before, 100 % of the faults after: for a signal, ";
    assert!(text.contains(lines), "{text}");
    for width in [40, 80] {
        let text = shown(&two, &three, Some(width));
        let words: Vec<_> = text.split_whitespace().collect();
        assert!(words.join(" ").contains("neither as major nor"), "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= width),
            "{text}"
        );
    }
    let text = shown(&trace(1, 30, 20), &trace(2, 30, 20), None);
    assert!(text.contains("=    major faults per second\n"), "{text}");
    assert!(!text.contains("given up"), "{text}");
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
