//! What people read of what was recorded besides.

use super::write;
use crate::model::analysis::tests::diff_ahead::ahead;
use crate::model::analysis::tests::diff_beside::{
    BOTH, after, faults, one_by_one, reads, recorded,
};
use crate::model::analysis::{Fate, Report, compare};
use crate::model::{Fault, How};
use crate::view::text::line::Page;

fn shown(before: &Report, after: &Report, width: Option<usize>) -> String {
    let page = Page {
        color: false,
        width,
    };
    let mut out = Vec::new();
    write(page, &compare(before, after), 1, &mut out);
    String::from_utf8(out).unwrap()
}

fn cold() -> Report {
    let all = one_by_one([
        after(50, Fate::FirstTouch),
        reads(10, 0, Some("nvme0n1"), (1, 2)),
        reads(2, 1, Some("nvme1n1"), (1, 2)),
    ]);
    recorded(BOTH, 5, all)
}

fn crowded() -> Report {
    let mut unseen: Vec<Fault> = reads(3, 0, None, (0, 0));
    unseen.iter_mut().for_each(|one| one.io = None);
    let all = one_by_one([
        after(5, Fate::FirstTouch),
        after(90, Fate::Removed(How::Kswapd)),
        reads(40, 0, Some("nvme0n1"), (6, 2)),
        unseen,
    ]);
    recorded(BOTH, 5, all)
}

#[test]
fn pages_and_devices_are_compared() {
    insta::assert_snapshot!(shown(&cold(), &crowded(), None), @"

                 blocked per second           faults per s
        before      after    change      before      after    why pages were not in memory
             0    18.0 ms       new           0       18.0    evicted by kswapd
       10.0 ms    1.00 ms     -90 %        10.0       1.00    not in memory before, as far as was seen

        before      after    change    devices, for reads that faults began
          2.00       8.00    +300 %    nvme0n1: requests per second
       1.00 ms    6.00 ms    +500 %    queued, a request in the mean
       2.00 ms    2.00 ms         =    served, a request in the mean
          slow       busy              what takes the time
    and 1 more, that changed less
             0       0.60       new    not seen at any device: faults per second
             0     600 µs       new    blocked per second
    ");
}

#[test]
fn pages_and_devices_are_compared_in_80_columns() {
    let text = shown(&cold(), &crowded(), Some(80));
    assert!(
        text.lines()
            .all(|line| crate::view::escape::width(line) <= 80),
        "{text}"
    );
    assert!(!text.contains("faults per s\n"), "{text}");
}

#[test]
fn what_one_trace_lacks_is_said_and_not_zero() {
    let neither = recorded(&[], 5, faults(5));
    assert_eq!(shown(&neither, &neither, None), "");
    insta::assert_snapshot!(shown(&crowded(), &neither, None), @"

    why pages were not in memory: not compared, only before was recorded with --evictions

    devices, for reads that faults began: not compared, only before was recorded with --io
    ");
    let text = shown(&neither, &crowded(), None);
    assert!(text.contains("only after was recorded with --io"), "{text}");
    // Asked for, without finding any, is nothing to be compared either, and said otherwise.
    let nothing = recorded(BOTH, 5, faults(5));
    insta::assert_snapshot!(shown(&nothing, &nothing, None), @"

                 blocked per second           faults per s
        before      after    change      before      after    why pages were not in memory
    no fault waited for a page of a file whose past was looked at

        before      after    change    devices, for reads that faults began
    none: no fault began a read of a block device
    ");
}

#[test]
fn what_was_read_ahead_is_compared() {
    let before = ahead(
        10,
        Some(&[("/srv/index", 10_000, 1_000), ("/srv/log", 100, 100)]),
    );
    let after = ahead(5, Some(&[("/srv/index", 200, 100)]));
    insta::assert_snapshot!(shown(&before, &after, None), @"

                         per second  mapped of it, at most
        before      after    change      before      after    read ahead of faults
      3.91 MiB    160 KiB     -96 %        10 %       50 %    /srv/index
    and 1 more, that changed less
    ");
    let text = shown(&before, &after, Some(80));
    assert!(
        text.lines()
            .all(|line| crate::view::escape::width(line) <= 80),
        "{text}"
    );
    let text = shown(&before, &ahead(5, None), None);
    assert!(text.contains("only before tells it"), "{text}");
    // A bound is rounded up, and little is not nothing.
    let little = ahead(5, Some(&[("/srv/index", 1_000, 1)]));
    let text = shown(&ahead(500, Some(&[("/srv/index", 1, 0)])), &little, None);
    assert!(text.contains(" <4 KiB    800 KiB"), "{text}");
    assert!(text.contains(" 0 %        1 %    /srv/index"), "{text}");
    // Where more files were read than are told apart, nothing is known of one that is not among them.
    let paths: Vec<_> = (0..300).map(|file| format!("/{file}")).collect();
    let many: Vec<_> = paths.iter().map(|path| (path.as_str(), 1, 1)).collect();
    let text = shown(&ahead(5, Some(&many)), &little, None);
    assert!(
        text.contains("?    800 KiB         ?           ?        1 %    /srv/index"),
        "{text}"
    );
    assert!(
        text.contains("files not told apart: 176 KiB before, 0 B after"),
        "{text}"
    );
}
