//! How files are read.

use super::*;
use crate::model::advice::{About, Condition, Evidence, How, NoAdvice, WINDOW_BYTES};
use crate::model::summary::samples::goroutine;
use crate::model::{AheadPages, Goroutine, ReadAhead};

const BLOCKED: u64 = MS - 1;

#[test]
fn page_by_page_in_order_readahead_is_off() {
    let all = advised((0..400).map(|n| read(n, n, single())));
    let one = only(&all);
    assert_eq!(one.rule, Rule::ReadaheadOff);
    assert_eq!((one.faults, one.blocked_ns), (400, 400 * BLOCKED));
    // 400 pages are 13 windows of 32.
    let how = How::WindowReads {
        reads: 13,
        each_ns: BLOCKED,
    };
    assert_eq!(one.gain.how, how);
    assert_eq!(one.gain.at_most_ns, Some(387 * BLOCKED));
    assert_eq!(one.actions[0], Action::MadvNormal);
    assert!(has(one, Action::MadvWillneed { bytes: 400 * PAGE }));
    let forward = Evidence::Forward {
        forward: 399,
        steps: 399,
    };
    assert!(one.evidence.contains(&forward), "{:?}", one.evidence);
}

/// Two goroutines, each through its part of a file in order, on threads that swap at random: their reads
/// of each page, by this stack.
fn swapping(of: &Arc<Stack>, is_known: bool) -> Vec<Fault> {
    let mut random = Random(37);
    let mut next = [0, 300];
    let faults = (0..400).map(|n| {
        let which = usize::try_from(random.below(2)).unwrap();
        let page = next[which];
        next[which] += 1;
        let mut one = read(n, page, Arc::clone(of));
        one.facts.tid = 1 + u32::try_from(random.below(2)).unwrap();
        one.facts.goroutine = is_known.then(|| {
            Box::new(Goroutine {
                id: Some(18 + which as u64),
                p: None,
                ..goroutine()
            })
        });
        one
    });
    faults.collect()
}

#[test]
fn goroutines_that_change_threads_go_forward_all_the_same() {
    for (of, rule) in [
        (single(), Rule::ReadaheadOff),
        (ahead(), Rule::ReadaheadLate),
    ] {
        let all = advised(swapping(&of, true));
        let one = all.given.iter().find(|one| one.rule == rule);
        let one = one.unwrap_or_else(|| panic!("{rule:?}: {all:#?}"));
        let willneed = |action: &Action| matches!(action, Action::MadvWillneed { .. });
        assert!(one.actions.iter().any(willneed));
        let forward = Evidence::Forward {
            forward: 398,
            steps: 398,
        };
        assert!(one.evidence.contains(&forward), "{:?}", one.evidence);
        // By thread it is not to be seen.
        let by_thread = advised(swapping(&of, false));
        assert!(!rules(&by_thread).contains(&rule), "{by_thread:#?}");
    }
}

#[test]
fn in_order_behind_readahead_reads_are_asked_for_too_late() {
    let mut faults: Vec<_> = (1..100).map(|n| wait(n, n * 32)).collect();
    faults.push(read(0, 0, ahead()));
    let all = advised(faults);
    let one = only(&all);
    assert_eq!(one.rule, Rule::ReadaheadLate);
    assert_eq!(one.gain.at_most_ns, Some(100 * BLOCKED));
    assert_eq!(one.gain.how, How::All);
    assert!(has(one, Action::RaiseReadAhead));
}

#[test]
fn many_reads_in_a_small_range_are_better_read_at_once() {
    let pages = scattered(600, 800);
    let faults = pages
        .iter()
        .zip(0..)
        .map(|(page, n)| read(n, *page, ahead()));
    let all = advised(faults);
    let one = only(&all);
    assert_eq!(one.rule, Rule::Prefetch);
    let range = pages.iter().max().unwrap() - pages.iter().min().unwrap() + 1;
    let reads = (range * PAGE).div_ceil(WINDOW_BYTES);
    assert_eq!(one.gain.at_most_ns, Some((600 - reads) * BLOCKED));
    assert_eq!(
        one.actions[0],
        Action::MadvPopulateRead {
            bytes: range * PAGE
        }
    );
    let early = |one: &Evidence| matches!(one, Evidence::Early { .. });
    assert!(!one.evidence.iter().any(early));

    // With MADV_RANDOM, populating would be page by page.
    let faults = pages
        .iter()
        .zip(0..)
        .map(|(page, n)| read(n, *page, single()));
    let one = only(&advised(faults)).clone();
    assert_eq!(one.rule, Rule::Prefetch);
    assert!(matches!(one.actions[0], Action::MadvWillneed { .. }));
    assert!(
        !one.actions
            .iter()
            .any(|one| matches!(one, Action::MadvPopulateRead { .. }))
    );
}

#[test]
fn a_program_is_read_before_it_starts_and_never_advised_otherwise() {
    let program = |fault| on(fault, "/usr/bin/server", MappingKind::Exe);
    let pages = scattered(600, 800);
    let all = advised(
        (0..600_u64).map(|n| program(read(n, pages[usize::try_from(n).unwrap()], ahead()))),
    );
    let one = only(&all);
    assert_eq!(one.rule, Rule::Prefetch);
    assert!(matches!(one.actions[..], [Action::WarmFile { .. }]));
    let pages = scattered(600, 10 << 20);
    let all = advised(
        pages
            .iter()
            .zip(0..)
            .map(|(page, n)| program(read(n, *page, ahead()))),
    );
    assert_eq!(all.none, Some(NoAdvice::NoEvidence));
}

/// Reads over 40 GiB.
fn far(count: u64, of: &Arc<Stack>) -> Vec<Fault> {
    let pages = scattered(count, 10 << 20);
    let faults = pages.iter().zip(0..);
    faults
        .map(|(page, n)| read(n, *page, Arc::clone(of)))
        .collect()
}

#[test]
fn reads_here_and_there_with_readahead_may_want_none() {
    let all = advised(far(300, &ahead()));
    let one = only(&all);
    assert_eq!(one.rule, Rule::RandomAccess);
    assert_eq!((one.gain.at_most_ns, one.gain.how), (None, How::Unknown));
    let pages_percent = None;
    assert_eq!(
        one.only_if,
        Some(Condition::FewUsed {
            pages_percent,
            at_most_percent: None
        })
    );
    assert_eq!(one.actions[0], Action::MadvRandom);
    // Too few to tell.
    assert!(advised(far(60, &ahead())).given.is_empty());
}

/// What faults had read of the file ahead, beside 320 faults of which one in 16 read a page alone.
fn with_ahead(mapped: u64, of_some: Mode) -> Advised {
    let mut faults = far(320, &ahead());
    for one in &mut faults {
        one.facts.mode = Mode::User;
    }
    faults[7].facts.mode = of_some;
    for one in faults.iter_mut().step_by(16) {
        one.facts.kernel_stack = Some(single());
        one.duration_ns = MS / 4;
        one.blocked_ns = MS / 4 - one.on_cpu_ns;
    }
    let path = faults[0].facts.place.path.clone();
    let told = Record::ReadAhead(Arc::new(ReadAhead {
        begin_ns: T0,
        end_ns: T0 + MS,
        path,
        pages: AheadPages {
            read: 300 * 31,
            mapped,
            ..AheadPages::default()
        },
    }));
    with(&[told], faults)
}

#[test]
fn what_is_known_to_be_used_is_no_condition() {
    // A read of one page takes a quarter of the time: worth it if fewer than four pages of a read are used.
    let known = with_ahead(300 * 2, Mode::User);
    let one = only(&known);
    assert_eq!(one.rule, Rule::RandomAccess);
    assert_eq!(one.only_if, Some(Condition::OnlyMapped));
    let told = |one: &Advice| {
        let ahead = |evidence: &Evidence| match evidence {
            Evidence::ReadAhead(pages) => Some(pages.used_at_most()),
            _ => None,
        };
        one.evidence.iter().find_map(ahead)
    };
    assert_eq!(told(one), Some(600));
    // Around each page fifteen more were mapped.
    let open = with_ahead(300 * 15, Mode::User);
    let condition = Condition::FewUsed {
        pages_percent: Some(400),
        at_most_percent: Some(1_600),
    };
    assert_eq!(only(&open).only_if, Some(condition));
    // What faults in system calls had read is not in it.
    let partly = with_ahead(300 * 2, Mode::Kernel);
    let condition = Condition::FewUsed {
        pages_percent: Some(400),
        at_most_percent: None,
    };
    assert_eq!(only(&partly).only_if, Some(condition));
}

#[test]
fn chance_also_goes_forward_a_little() {
    // In 128 MiB one step in eight or so is forward within 16 MiB: that is no use of readahead. Reads
    // that are so few in so large a range are not better read at once.
    let of = |pages: u64| {
        let pages = scattered(150, pages);
        let faults = pages.iter().zip(0..);
        advised(faults.map(|(page, n)| read(n, *page, ahead())))
    };
    assert_eq!(rules(&of(32 << 10)), [Rule::RandomAccess]);
    // In 48 MiB it is one in three, and nothing can be told.
    assert!(of(12 << 10).given.is_empty());
}

#[test]
fn reads_of_one_page_say_what_is_gained_without_readahead() {
    let mut faults = far(320, &ahead());
    for one in faults.iter_mut().step_by(16) {
        one.facts.kernel_stack = Some(single());
        one.duration_ns = MS / 4;
        one.blocked_ns = MS / 4 - one.on_cpu_ns;
    }
    let all = advised(faults.clone());
    let one = only(&all);
    assert_eq!(one.rule, Rule::RandomAccess);
    assert_eq!((one.faults, one.blocked_ns), (300, 300 * BLOCKED));
    let each_ns = MS / 4 - 1;
    assert_eq!(one.gain.at_most_ns, Some(300 * (BLOCKED - each_ns)));
    let pages_percent = Some(400);
    assert_eq!(
        one.only_if,
        Some(Condition::FewUsed {
            pages_percent,
            at_most_percent: None
        })
    );
    // If they take as long, nothing is gained.
    for one in faults.iter_mut().step_by(16) {
        one.duration_ns = MS;
        one.blocked_ns = BLOCKED;
    }
    assert!(advised(faults).given.is_empty());
}

#[test]
fn readahead_that_was_used_is_not_to_be_turned_off() {
    // A wait for readahead is a use of it.
    let mut faults = far(300, &ahead());
    for (n, one) in (0..).zip(&mut faults).step_by(15) {
        let offset = one.facts.place.offset;
        *one = wait(n, 0);
        one.facts.place.offset = offset;
    }
    assert!(advised(faults).given.is_empty());
    // And so is a read that begins where the last one ended.
    let mut faults = far(300, &ahead());
    for at in (1..300).step_by(8) {
        let before = faults[at - 1].facts.place.offset.unwrap();
        faults[at].facts.place.offset = Some(before + 16 * PAGE);
    }
    assert!(advised(faults).given.is_empty());
}

#[test]
fn reads_of_one_page_here_and_there_are_as_small_as_they_get() {
    let all = advised(far(300, &single()));
    assert_eq!(all.none, Some(NoAdvice::NoEvidence), "{all:#?}");
}

#[test]
fn how_it_was_read_is_unknown_to_old_kernels() {
    // Without folios in its names a kernel may read a single page under this one, too.
    let old = stack(&["wait_on_page_bit_common", "filemap_fault"]);
    assert!(advised(far(300, &old)).given.is_empty());
    let all = advised((0..400).map(|n| read(n, n, Arc::clone(&old))));
    let one = only(&all);
    assert_eq!(one.rule, Rule::ReadaheadLate);
    let Evidence::HowRead(reads) = &one.evidence[0] else {
        panic!("{one:?}")
    };
    assert_eq!(reads.started.faults, 400);
}

#[test]
fn pages_that_came_again_were_gone() {
    let pages = scattered(200, 10 << 20);
    let twice = pages.iter().chain(&pages).zip(0..);
    let all = advised(twice.map(|(page, n)| read(n, *page, single())));
    let one = only(&all);
    assert_eq!(one.rule, Rule::ReadAgain);
    assert_eq!((one.faults, one.blocked_ns), (200, 200 * BLOCKED));
    assert_eq!(one.gain.at_most_ns, Some(200 * BLOCKED));
    assert_eq!(one.only_if, Some(Condition::NotOnPurpose));
    let bytes = 200 * PAGE;
    assert!(has(one, Action::MlockFile { bytes }));
    let Evidence::CameAgain { again, .. } = one.evidence[0] else {
        panic!("{one:?}")
    };
    assert_eq!((again.pages, again.again_pages), (200, 200));
    assert_eq!((again.faults, again.started), (200, 200));
}

#[test]
fn threads_that_wait_for_one_read_did_not_read_again() {
    let pages = scattered(200, 10 << 20);
    let both = pages.iter().zip(0..).flat_map(|(page, n)| {
        let mut other = read(n, *page, single());
        other.facts.tid = 2;
        other.end_ns += 10;
        [read(n, *page, single()), other]
    });
    let all = advised(both);
    assert!(!rules(&all).contains(&Rule::ReadAgain), "{all:#?}");
}

#[test]
fn a_page_that_was_only_locked_was_not_gone() {
    let pages = scattered(200, 10 << 20);
    let first = pages
        .iter()
        .zip(0..)
        .map(|(page, n)| read(n, *page, single()));
    let again = pages.iter().zip(200..).map(|(page, n)| wait(n, *page));
    let all = advised(first.chain(again));
    assert!(all.given.is_empty(), "{all:#?}");
}

#[test]
fn what_does_not_stay_is_not_to_be_read_before() {
    let pages = scattered(700, 800);
    let often = (0..4).flat_map(|_| pages.clone()).zip(0..);
    let all = advised(often.map(|(page, n)| read(n, page, ahead())));
    assert_eq!(rules(&all), [Rule::ReadAgain], "{all:#?}");
    // In order, but more than once: still no MADV_SEQUENTIAL, which would make pages go sooner.
    let often = (0..4).flat_map(|_| 0..400_u64).zip(0..);
    let all = advised(often.map(|(page, n)| read(n, page, single())));
    assert_eq!(rules(&all), [Rule::ReadaheadOff, Rule::ReadAgain]);
    assert!(!has(&all.given[0], Action::MadvSequential));
    assert_eq!(all.given[0].overlaps, [1]);
    assert_eq!(all.given[1].overlaps, [0]);
    // Each page was read four times.
    let how = How::WindowReads {
        reads: 4 * 13,
        each_ns: BLOCKED,
    };
    assert_eq!(all.given[0].gain.how, how);
}

#[test]
fn a_file_of_several_processes_is_one() {
    let all = advised((0..400).map(|n| {
        let mut one = read(n, n, single());
        one.facts.pid = u32::try_from(n / 20).unwrap() + 7;
        one.facts.tid = one.facts.pid;
        one
    }));
    let one = only(&all);
    let About::File {
        pids, processes, ..
    } = &one.about
    else {
        panic!("{one:?}")
    };
    assert_eq!((pids.len(), *processes), (8, 20));
    assert_eq!(pids[..3], [7, 8, 9]);
}

#[test]
fn early_is_what_is_over_early() {
    // Of a trace twice as long as its faults, these take all of the first half: not early.
    let slow = (0..400).map(|n| read(n, n, single()));
    let quick = slow.clone().map(|mut one| {
        one.end_ns = T0 + (one.end_ns - T0) / 8;
        one.duration_ns = MS / 8;
        one.blocked_ns = MS / 8;
        one.on_cpu_ns = 0;
        one
    });
    let last = on(read(400, 0, single()), "/other", MappingKind::File);
    let early = |all: &Advised| {
        let evidence = &only(all).evidence;
        evidence
            .iter()
            .any(|one| matches!(one, Evidence::Early { .. }))
    };
    assert!(!early(&advised(slow)));
    assert!(early(&advised(quick.chain([last]))));
}

#[test]
fn an_unknown_way_through_a_file_is_no_way() {
    let all = advised((0..400).map(|n| {
        let mut one = read(n, n, single());
        one.facts.place.offset = None;
        one
    }));
    assert_eq!(all.none, Some(NoAdvice::NoEvidence));
    let all = advised((0..400).map(|n| {
        let mut one = read(n, n, single());
        one.facts.place.path = None;
        one
    }));
    assert_eq!(all.none, Some(NoAdvice::NoEvidence));
}

#[test]
fn who_asks_for_pages_wants_to_wait() {
    let populate = |call: &str| {
        let call = Name::from(call);
        advised((0..400).map(|n| {
            let mut one = read(n, n, ahead());
            one.facts.mode = Mode::Gup;
            one.facts.syscall = Some(call.clone());
            one
        }))
    };
    assert!(populate("madvise").given.is_empty());
    // O_DIRECT into a mapping is a read like others.
    assert_eq!(rules(&populate("pread64")), [Rule::ReadaheadLate]);
}
