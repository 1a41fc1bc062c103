//! Where in files faults are, and how threads go through them.

use super::{Random, analyse, during, records, walled};
use crate::model::analysis::places::Places;
use crate::model::analysis::walk::Walk;
use crate::model::analysis::{FileAccess, FileDetail, HotRange, Pattern, WINDOW_BYTES};
use crate::model::{Cause, Fault, MappingKind};

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;

fn range(from: u64, to: u64, faults: u64, blocked_ns: u64) -> HotRange {
    HotRange {
        from,
        to,
        faults,
        blocked_ns,
    }
}

#[test]
fn the_hot_ranges_are_where_the_blocked_time_is() {
    let mut places = Places::new();
    // Cold everywhere, hot in two places, in an order that makes the map grow both ways.
    for n in (0..1_000_u64).rev() {
        places.add(n * MIB, 1);
    }
    for n in 0..50 {
        places.add(400 * MIB + n * PAGE, 1_000);
        places.add(700 * MIB + n * PAGE, 500);
    }
    let hot = places.hot();
    assert_eq!(places.width(), 4 * MIB, "256 stretches of a GiB");
    assert_eq!(
        hot,
        [
            // The cold pages of the same stretch are in it.
            range(400 * MIB, 403 * MIB + PAGE, 54, 50_004),
            range(700 * MIB, 703 * MIB + PAGE, 54, 25_004),
        ]
    );
    assert_eq!(places.whole(), range(0, 999 * MIB + PAGE, 1_100, 76_000));
}

#[test]
fn neighbours_are_one_range_and_ranges_end_where_faults_end() {
    let mut places = Places::new();
    for n in 10..30 {
        places.add(n * PAGE, 10);
    }
    assert_eq!(
        places.hot(),
        [range(10 * PAGE, 26 * PAGE, 16, 160)],
        "80 % of it, the first ones of equal ones"
    );
    let mut distant = Places::new();
    distant.add(u64::MAX, 5);
    distant.add(0, 5);
    assert_eq!(
        distant.hot(),
        [range(0, PAGE, 1, 5), range(u64::MAX, u64::MAX, 1, 5)]
    );
}

#[test]
fn what_is_everywhere_is_one_range() {
    let mut random = Random(5);
    let mut places = Places::new();
    for _ in 0..5_000 {
        places.add(random.below(100_000) * PAGE, 10);
    }
    assert_eq!(places.hot(), [places.whole()]);
    let mut unblocked = Places::new();
    unblocked.add(0, 0);
    assert_eq!(unblocked.hot(), []);
}

#[test]
fn maps_of_several_processes_add_up() {
    let mut random = Random(9);
    let (mut all, mut parts) = (Places::new(), [Places::new(), Places::new()]);
    for n in 0..3_000_usize {
        // One part has its faults far from the other's.
        let offset = (random.below(500) + if n % 2 == 0 { 0 } else { 90_000 }) * PAGE;
        let blocked_ns = random.below(100);
        all.add(offset, blocked_ns);
        parts[n % 2].add(offset, blocked_ns);
    }
    let [mut sum, other] = parts;
    sum.merge(&other);
    assert_eq!(sum.whole(), all.whole());
    assert_eq!(sum.hot(), all.hot());
    assert_eq!(sum.width(), all.width());
}

/// The pattern of one thread that faults on these pages, in this order.
fn pattern(pages: impl IntoIterator<Item = u64>, waits: bool) -> Pattern {
    let pages: Vec<_> = pages.into_iter().collect();
    let mut walk = Walk::default();
    for page in pages.iter().rev() {
        walk.before(page * PAGE, waits);
    }
    walk.sum().settle().pattern()
}

#[test]
fn page_after_page_is_sequential() {
    assert_eq!(pattern(5..30, false), Pattern::Sequential);
    assert_eq!(pattern(5..13, false), Pattern::TooFew, "seven steps");
    assert_eq!(pattern(5..14, false), Pattern::Sequential);
}

/// Page numbers as they were seen with readahead of 8 MiB: `for page in file { touch }`.
const WITH_READAHEAD: [u64; 11] = [0, 262, 519, 781, 1041, 1301, 1557, 2048, 4096, 8192, 12288];

#[test]
fn readahead_does_not_hide_a_sequential_pass() {
    assert_eq!(pattern(WITH_READAHEAD, true), Pattern::Sequential);
    // Equal windows, whose reads are waited for, are readahead's; equal reads of its own are not.
    let windows = (0..40).map(|n| n * 32);
    assert_eq!(pattern(windows.clone(), true), Pattern::Sequential);
    assert_eq!(pattern(windows, false), Pattern::Strided(32 * 4096));
}

#[test]
fn equal_steps_are_a_stride_even_backward_and_with_exceptions() {
    assert_eq!(
        pattern((0..40).map(|n| 4_000 - n * 37), false),
        Pattern::Strided(-37 * 4096)
    );
    let far = WINDOW_BYTES / PAGE + 1;
    let step = i64::try_from(far * PAGE).unwrap();
    assert_eq!(
        pattern((0..40).map(|n| n * far), true),
        Pattern::Strided(step),
        "no readahead reaches so far"
    );
    let mut random = Random(3);
    let mut at = 1 << 40;
    let noisy: Vec<_> = (0..1_000)
        .map(|_| {
            at += if random.below(10) < 7 {
                100
            } else {
                random.below(1_000)
            };
            at
        })
        .collect();
    assert_eq!(pattern(noisy, false), Pattern::Strided(100 * 4096));
}

#[test]
fn readahead_does_not_go_back() {
    // Seven steps forward, three back, and again.
    let mut at = 1_000;
    let pages: Vec<_> = (0..100)
        .map(|n| {
            at = if n % 10 < 7 { at + 32 } else { at - 50 - n };
            at
        })
        .collect();
    assert_eq!(pattern(pages, true), Pattern::Strided(32 * 4096));
}

#[test]
fn here_and_there_is_random_and_two_ways_at_once_are_mixed() {
    let mut random = Random(4);
    let pages: Vec<_> = (0..500).map(|_| random.below(64 * 1024)).collect();
    assert_eq!(pattern(pages, false), Pattern::Random);
    // Within one window of readahead, too.
    let pages: Vec<_> = (0..500).map(|_| random.below(1_024)).collect();
    assert_eq!(pattern(pages, true), Pattern::Random);
    let two_scans = (0..50).flat_map(|n| [n, 10_000 + n]);
    assert_eq!(pattern(two_scans, false), Pattern::Mixed);
    assert_eq!(pattern([7; 50], false), Pattern::TooFew, "no step at all");
}

#[test]
fn the_evidence_counts_each_kind_of_step() {
    let pages = [10, 11, 12, 12, 20, 5, 5_000, 9_986, 9_987];
    let mut walk = Walk::default();
    for page in pages.iter().rev() {
        walk.before(page * PAGE, *page == 20);
    }
    let evidence = walk.sum().settle();
    assert_eq!(evidence.faults, 9);
    assert_eq!(evidence.steps, 7);
    assert_eq!(evidence.same_page, 1);
    assert_eq!(evidence.next_page, 3);
    assert_eq!(evidence.near, 1);
    assert_eq!(evidence.far, 2);
    assert_eq!(evidence.backward, 1);
    assert_eq!(evidence.repeated, 1);
    assert_eq!(evidence.read_ahead, 1);
    assert_eq!(evidence.common, Some((4096, 3)));
}

#[test]
fn a_step_that_is_frequent_is_found_among_any_others() {
    let mut random = Random(8);
    let mut at = 0;
    let mut walk = Walk::default();
    for _ in 0..10_000 {
        at += if random.below(4) == 0 {
            777 * PAGE
        } else {
            random.below(1 << 30) * PAGE
        };
        walk.before((1 << 60) - at, false);
    }
    let (step, count) = walk.sum().settle().common.unwrap();
    assert_eq!(step, 777 * 4096);
    assert!((1_000..=2_700).contains(&count), "a lower bound: {count}");
}

fn at_page(tid: u32, n: u64, page: u64) -> Fault {
    let mut one = during(tid, n * 100, n * 100 + 50);
    one.facts.place.offset = Some(page * PAGE);
    one
}

fn detail(faults: Vec<Fault>) -> FileDetail {
    let records = records(faults);
    let report = analyse(walled(&records), &records);
    let mut files = report.all.files.into_values();
    let first = files.next().unwrap();
    assert!(files.next().is_none());
    first
}

#[test]
fn each_thread_goes_its_own_way_through_a_file() {
    let mut random = Random(11);
    let mut faults = Vec::new();
    for n in 0..100 {
        faults.push(at_page(1, n, n));
        faults.push(at_page(2, n, random.below(60_000)));
        faults.push(at_page(3, n, random.below(60_000)));
    }
    let access = detail(faults).access.unwrap();
    assert_eq!(access.threads, [1, 0, 2, 0, 0]);
    assert_eq!(access.pattern, Pattern::Mixed);
    assert_eq!(access.evidence.steps, 3 * 99);
    assert!(access.evidence.next_page >= 99);
}

#[test]
fn causes_of_one_walk_do_not_split_it() {
    let faults = (0..20).map(|n| {
        let mut one = at_page(1, n, n);
        one.major = n % 2 == 0;
        one.facts.cause = Some(if one.major {
            Cause::FileRead
        } else {
            Cause::ReadWait
        });
        one
    });
    let FileAccess {
        pattern, evidence, ..
    } = detail(faults.collect()).access.unwrap();
    assert_eq!(pattern, Pattern::Sequential);
    assert_eq!((evidence.steps, evidence.read_ahead), (19, 10));
}

#[test]
fn memory_without_a_name_has_no_offsets() {
    let faults = (0..20).map(|n| {
        let mut one = at_page(1, n, n);
        one.facts.place.mapping = Some(MappingKind::Anon);
        one
    });
    let detail = detail(faults.collect());
    assert!(detail.offsets.is_none());
    assert!(detail.access.is_none());
    assert_eq!(detail.durations.unwrap().count(), 20);
}
