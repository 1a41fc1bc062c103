//! Who removed pages: a process by its own name, a thread by its own id.

use super::{Screen, plain};
use crate::model::summary::samples::{fault, record, start};
use crate::model::{Fault, Name, Past, Removal};
use crate::view::text::TextOptions;

/// A fault on a page that a thread of the traced process itself removed.
fn removed_by(thread: &str, tid: u32, stay_ms: u64) -> Fault {
    let mut one = fault();
    let removal = removal(&mut one);
    removal.by.pid = 4700;
    removal.by.tid = tid;
    removal.by.name = Name::from(thread);
    removal.cached_ns = Some(removal.removed_ns - stay_ms * 1_000_000);
    if let Some(filled) = &mut removal.filled {
        filled.pid = 4700;
        filled.name = Name::from(thread);
    }
    one
}

fn removal(fault: &mut Fault) -> &mut Removal {
    match &mut fault.history.as_mut().unwrap().past {
        Past::Refault(removal) => removal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn threads_of_one_process_are_one_row_with_its_name() {
    let mut screen = Screen::new(TextOptions::default());
    screen.feed(&start());
    for (thread, tid) in [("reader-1", 4711), ("reader-2", 4712)] {
        screen.feed(&record(removed_by(thread, tid, 1_000)));
    }
    let text = screen.text();
    assert!(text.contains("limit, by reader-2[4712] (cgroup"), "{text}");
    assert!(text.contains("; meanwhile server[4700] brought"), "{text}");
    screen.finish();
    let text = screen.text();
    let rows = text.lines().filter(|line| line.contains("by server[4700]"));
    let rows: Vec<_> = rows.collect();
    assert_eq!(rows.len(), 1, "{text}");
    assert!(rows[0].starts_with("        2 "), "{text}");
    assert!(!text.contains("reader-1[4700]"), "{text}");
}

#[test]
fn a_short_time_in_memory_is_not_the_time_that_was_asked() {
    for (stay_ms, when) in [(6, "; within a second around it "), (500, "; meanwhile ")] {
        let text = plain(&[record(removed_by("reader-1", 4711, stay_ms))]);
        assert!(text.contains(when), "{stay_ms}: {text}");
    }
}
