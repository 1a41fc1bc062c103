//! What people read of a trace.

use jiff::tz::TimeZone;

use super::in_zone;
use crate::model::analysis::tests::{analyse, during, records};
use crate::model::analysis::{Options, Report};
use crate::view::TextOptions;
use crate::view::report::samples::{by_goroutines, eventful, hostile, several};
use crate::view::text::words::percent;

pub(in crate::view::report) fn shown(report: &Report, width: Option<usize>) -> String {
    let mut out = Vec::new();
    let options = TextOptions {
        width,
        ..TextOptions::default()
    };
    in_zone(report, options, TimeZone::UTC, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_report() {
    insta::assert_snapshot!(shown(&eventful(), None));
}

#[test]
fn a_report_of_80_columns() {
    insta::assert_snapshot!(shown(&eventful(), Some(80)));
}

#[test]
fn a_report_of_several_processes() {
    insta::assert_snapshot!(shown(&several(), Some(80)));
}

#[test]
fn a_report_of_nothing() {
    let text = shown(&analyse(Options::default(), &[]), None);
    insta::assert_snapshot!(text, @"
    what was traced is unknown: the trace has no start
    REPORT, of no time: no record has one
    No faults: no traced thread was seen to finish a page fault that was major or that put it to sleep.
    If threads waited meanwhile, it was hardly in page faults: look at read() and write(), locks, the network, and the CPU.
      all processes: 0 faults
      The kernel's own count (maj_flt) could not be read: whether all major faults were reported is unknown.

    lost: nothing that faulttrace knows of
    ring buffer: counts unknown

    ADVICE
      none: there are no faults
    ");
}

#[test]
fn what_the_times_at_once_leave_out_is_said() {
    let mut report = eventful();
    report.quality.out_of_order = 3;
    report.quality.overlapping = 1;
    report.quality.not_swept = 2;
    let text = shown(&report, None);
    assert!(text.contains("\n3 faults recorded too late"), "{text}");
    assert!(text.contains("\n1 fault overlapping another"), "{text}");
    assert!(text.contains("\n2 faults of threads beyond"), "{text}");
}

#[test]
fn unknown_percentiles_are_no_zeros() {
    let mut report = eventful();
    report.all.threads.clear();
    let text = shown(&report, Some(80));
    let line = text.lines().find(|line| line.ends_with("worker-1[1]"));
    assert!(line.unwrap().contains("        ? "), "{line:?}");
}

#[test]
fn goroutines_that_went_through_a_file_are_told() {
    let line = |report: &Report| {
        let text = shown(report, None);
        let line = text.lines().find(|line| line.contains("gone through"));
        line.unwrap().trim().to_owned()
    };
    let mut report = analyse(Options::default(), &records(by_goroutines(2, 20)));
    let alone =
        "gone through in sequence: of 38 steps 100 % to the next page; goroutines: 2 in sequence";
    assert_eq!(line(&report), alone);
    let file = report.all.files.values_mut().next().unwrap();
    let access = file.access.as_mut().unwrap();
    access.threads[2] = 1;
    access.not_followed = 3;
    assert_eq!(
        line(&report),
        "gone through in sequence: of 38 steps 100 % to the next page; threads: 1 here and there; \
         goroutines: 2 in sequence; 3 faults not followed, for want of room"
    );
    let few = analyse(Options::default(), &records(by_goroutines(1, 5)));
    assert_eq!(
        line(&few),
        "too few faults to tell how it is gone through (4 steps of a goroutine to another page)"
    );
}

#[test]
fn ways_through_a_file_are_told_with_what_shows_them() {
    let walk = |pages: &dyn Fn(u64) -> u64| {
        let faults = (0..20).map(|n| {
            let mut one = during(1, n * 100, n * 100 + 50);
            one.facts.place.offset = Some(pages(n) * 4096);
            one
        });
        let text = shown(&analyse(Options::default(), &records(faults)), None);
        let line = text.lines().find(|line| line.contains("gone through"));
        line.unwrap().trim().to_owned()
    };
    assert_eq!(
        walk(&|n| n),
        "gone through in sequence: of 19 steps 100 % to the next page"
    );
    assert_eq!(
        walk(&|n| 1_000 - n * 37),
        "gone through in equal steps, by 148 KiB backward (or the pages between were there, thanks \
         to readahead): of 19 steps 100 % backward, at least 100 % by 148 KiB backward"
    );
    assert_eq!(
        walk(&|n| n * 8192),
        "gone through in equal steps, by 32 MiB forward: of 19 steps 100 % further forward, at \
         least 100 % by 32 MiB forward"
    );
}

#[test]
fn only_the_longest_stalls_have_their_threads() {
    let faults = (0..5_u64).flat_map(|n| [1, 2].map(|tid| during(tid, n * 100, n * 100 + 50)));
    let text = shown(&analyse(Options::default(), &records(faults)), None);
    assert!(
        text.contains("were blocked at once 5 times, 250 ns in all"),
        "{text}"
    );
    assert_eq!(text.matches("    50 ns  2 threads\n").count(), 5, "{text}");
    assert_eq!(text.matches("file_read  worker-1[1]").count(), 3, "{text}");
}

#[test]
fn hostile_names_stay_within_their_line_and_its_width() {
    let report = hostile();
    for width in [40, 80, 120] {
        let text = shown(&report, Some(width));
        for line in text.lines() {
            assert!(line.chars().all(|c| !c.is_control()), "{line}");
            assert!(!line.contains('\u{202e}'), "{line}");
            let columns = crate::view::escape::width(line);
            assert!(columns <= width, "{columns} columns: {line}");
        }
    }
    let ours = [
        " ",
        "REPORT",
        "PROCESS",
        "faulttrace",
        "14:03",
        "traced with",
        "shown",
        "why pages",
        "page cache",
        "by ",
        "stalls",
        "in the files",
        "still",
        "lost",
        "ring",
        "unreadable",
        "ADVICE",
        // A duration that is too long for its column.
        "213503 d 23 h ",
    ];
    for line in shown(&report, None).lines() {
        let known = line.is_empty() || ours.iter().any(|start| line.starts_with(start));
        assert!(known, "{line}");
    }
}

#[test]
fn a_part_is_never_all_and_something_never_nothing() {
    assert_eq!(percent(0, 10), "0 %");
    assert_eq!(percent(1, 1_000), "<1 %");
    assert_eq!(percent(5, 1_000), "1 %");
    assert_eq!(percent(124, 1_000), "12 %");
    assert_eq!(percent(125, 1_000), "13 %");
    assert_eq!(percent(999, 1_000), ">99 %");
    assert_eq!(percent(u64::MAX, u64::MAX), "100 %");
    assert_eq!(percent(0, 0), "?");
}
