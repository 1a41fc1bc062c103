//! What was read ahead, of two traces.

use std::sync::Arc;

use super::diff_beside::{faults, lasting};
use super::records;
use crate::model::analysis::{Report, compare};
use crate::model::summary::samples::{T0, start};
use crate::model::{AheadPages, Name, ReadAhead, Record};

/// A trace of so many seconds with this read ahead, if it was asked to look: path, pages read, mapped.
pub(crate) fn ahead(seconds: u64, told: Option<&[(&str, u64, u64)]>) -> Report {
    let mut start = start();
    if let Record::Start(start) = &mut start {
        let rung = if told.is_some() { "tp_btf" } else { "none" };
        let job = "pages_mapped".to_owned();
        Arc::make_mut(start).rungs.push((job, rung.to_owned()));
    }
    let mut all = vec![start];
    all.extend(records(faults(5)));
    all.extend(told.into_iter().flatten().map(|(path, read, mapped)| {
        Record::ReadAhead(Arc::new(ReadAhead {
            begin_ns: T0,
            end_ns: T0 + 1,
            path: (!path.is_empty()).then(|| Name::from(*path)),
            pages: AheadPages {
                read: *read,
                mapped: *mapped,
                dropped: read - mapped,
                unknown: 0,
            },
        }))
    }));
    lasting(seconds, &all)
}

#[test]
fn files_are_compared_by_what_was_read_in_vain() {
    let before = ahead(10, Some(&[("/same", 100, 50), ("/index", 1_000, 100)]));
    let after = ahead(
        5,
        Some(&[("/same", 50, 25), ("/index", 20, 10), ("", 5, 5)]),
    );
    let diff = compare(&before, &after);
    let found = diff.read_ahead.unwrap();
    assert!(found.before && found.after);
    let rows = found.change.unwrap().rows;
    let paths: Vec<_> = rows.iter().map(|row| row.path.clone()).collect();
    // Of /same as much a second was read, and as much in vain.
    assert_eq!(paths[0], Some(Name::from("/index")));
    assert!(paths.contains(&None) && paths.len() == 3);
    let index = &rows[0];
    assert_eq!(
        (index.read.before, index.read.after),
        (Some(100.0), Some(4.0))
    );
    assert_eq!(
        (index.used.before, index.used.after),
        (Some(0.1), Some(0.5))
    );
    let unknown = rows.iter().find(|row| row.path.is_none()).unwrap();
    assert_eq!(unknown.before, Some(AheadPages::default()));
    assert_eq!((unknown.used.before, unknown.used.after), (None, Some(1.0)));
}

#[test]
fn what_was_not_looked_at_is_not_zero() {
    let some: &[_] = &[("/index", 10, 1)];
    let sides = |before, after| {
        let found = compare(&ahead(5, before), &ahead(5, after)).read_ahead;
        found.map(|found| {
            (
                found.before,
                found.after,
                found.change.map(|it| it.rows.len()),
            )
        })
    };
    assert_eq!(sides(None, None), None);
    assert_eq!(sides(Some(some), None), Some((true, false, None)));
    assert_eq!(sides(None, Some(some)), Some((false, true, None)));
    assert_eq!(sides(Some(some), Some(&[])), Some((true, true, Some(1))));
}

#[test]
fn a_file_that_may_be_among_the_others_is_unknown() {
    let many: Vec<_> = (0..300).map(|file| format!("/{file}")).collect();
    let told: Vec<_> = many.iter().map(|path| (path.as_str(), 10, 1)).collect();
    let diff = compare(
        &ahead(5, Some(&told)),
        &ahead(5, Some(&[("/index", 10, 1)])),
    );
    let change = diff.read_ahead.unwrap().change.unwrap();
    assert!(change.others.0.read > 0 && change.others.1.read == 0);
    let index = change
        .rows
        .iter()
        .find(|row| row.path == Some(Name::from("/index")));
    let index = index.unwrap();
    assert_eq!((index.before, index.read.before), (None, None));
    assert_eq!(index.after.unwrap().read, 10);
}
