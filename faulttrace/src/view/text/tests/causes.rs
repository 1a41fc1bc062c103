//! What is said of a cause that is not known.

use super::{plain, reported, shown};
use crate::model::summary::Summary;
use crate::model::summary::samples::{fault, record, stuck};
use crate::model::{Cause, Fault};
use crate::view::text::TextOptions;
use crate::view::text::line::Page;
use crate::view::text::tables::{Labels, tables};

/// Begun before faulttrace attached, and only its end was seen.
fn only_end() -> Fault {
    let mut one = fault();
    one.facts.began_before_attach = true;
    one.facts.begin_ns = None;
    one.facts.cause = Some(Cause::Unknown);
    one.facts.kernel_stack = None;
    (one.duration_ns, one.blocked_ns, one.runqueue_ns) = (0, 0, 0);
    (one.on_cpu_ns, one.switches) = (0, 0);
    (one.longest_sleep, one.history) = (None, None);
    one
}

#[test]
fn a_fault_of_which_only_the_end_was_seen_may_have_slept() {
    let mut older = only_end();
    // As older traces have it.
    older.facts.cause = None;
    for one in [only_end(), older] {
        let text = plain(&[record(one)]);
        assert!(text.contains("≥0  major unknown"), "{text}");
        assert!(text.contains("whether it slept, and for what, is not known"));
        for wrong in ["no sleep", "did not sleep", "waited for", "blocked 0"] {
            assert!(!text.contains(wrong), "{wrong}: {text}");
        }
    }
}

#[test]
fn a_stack_that_was_not_recorded_is_not_one_without_names() {
    let mut named = fault();
    named.facts.cause = Some(Cause::Unknown);
    let mut without = named.clone();
    without.facts.kernel_stack = None;
    let text = plain(&[record(named)]);
    assert!(text.contains("waited for something that the kernel stack does not name"));
    let text = plain(&[record(without)]);
    let said = "something unknown: its kernel stack was not recorded";
    assert!(text.contains(said), "{text}");
    let mut still = stuck();
    still.facts.cause = Some(Cause::Unknown);
    still.facts.kernel_stack = None;
    let text = shown(TextOptions::default(), &[reported(still)]);
    assert!(text.contains(&format!("waiting for {said}")), "{text}");
}

#[test]
fn causes_fit_on_their_lines() {
    let mut summary = Summary::new();
    for cause in [Some(Cause::FileRead), Some(Cause::Unknown), None] {
        let mut one = fault();
        one.facts.cause = cause;
        summary.add(&record(one));
    }
    let show = |width| {
        let mut out = Vec::new();
        let page = Page {
            color: false,
            width: Some(width),
        };
        let labels = Labels::new(&summary, false);
        tables(page, &labels, &summary.total(), &mut out);
        let text = String::from_utf8(out).unwrap();
        let (causes, _) = text.split_once("by thread").unwrap();
        causes.to_owned()
    };
    let narrow = show(80);
    assert!(
        !narrow.contains('…') && narrow.contains("  file_read\n"),
        "{narrow}"
    );
    assert!(
        narrow.contains("unknown: no recorded stack tells\n"),
        "{narrow}"
    );
    assert!(
        narrow.contains("no sleep: over before it had to wait\n"),
        "{narrow}"
    );
    assert!(show(120).contains("file_read: a read of the file that this fault started\n"));
}
