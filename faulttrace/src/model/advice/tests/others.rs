//! What is not about how files are read.

use super::*;
use crate::model::advice::{About, How, MIN_FAULTS, NoAdvice, Unit};

const BLOCKED: u64 = MS - 1;

/// So many faults that blocked for this reason.
pub(super) fn because(cause: Cause, count: u64) -> Vec<Fault> {
    (0..count)
        .map(|n| {
            let mut one = nth(n);
            one.facts.cause = Some(cause);
            one.facts.place.mapping = Some(MappingKind::Anon);
            one.facts.place.path = None;
            one.facts.place.offset = None;
            one.facts.address = Some(0x7000_0000 + n % 20 * PAGE);
            one.facts.kernel_stack = None;
            one.major = false;
            one
        })
        .collect()
}

/// The rule of a cause, and whose business it is.
const RULES: [(Cause, Rule, About); 9] = [
    (Cause::SwapIn, Rule::SwapIn, About::Process(4700)),
    (Cause::Zswap, Rule::CompressedSwap, About::Process(4700)),
    (Cause::MemcgReclaim, Rule::MemcgLimit, About::Process(4700)),
    (Cause::DirectReclaim, Rule::DirectReclaim, About::Machine),
    (Cause::Compaction, Rule::Compaction, About::Machine),
    (Cause::MmapLock, Rule::MmapLock, About::Process(4700)),
    (Cause::Userfaultfd, Rule::Userfaultfd, About::Process(4700)),
    (Cause::Cow, Rule::CopyOnWrite, About::Process(4700)),
    (Cause::HugePage, Rule::HugePages, About::Process(4700)),
];

#[test]
fn each_cause_has_its_rule_and_no_other() {
    for (cause, rule, about) in RULES {
        let all = advised(because(cause, 40));
        let one = only(&all);
        assert_eq!((one.rule, &one.about), (rule, &about));
        assert_eq!((one.faults, one.blocked_ns), (40, 40 * BLOCKED));
        assert_eq!(one.gain.at_most_ns, Some(40 * BLOCKED));
        assert_eq!((one.gain.how, one.gain.unit), (How::All, Unit::Blocked));
        assert!(!one.actions.is_empty() && all.none.is_none());
    }
    assert_eq!(
        rules(&advised(because(Cause::Migration, 40))),
        [Rule::Migration]
    );
}

#[test]
fn few_faults_are_no_evidence() {
    for (cause, ..) in RULES {
        let few = because(cause, MIN_FAULTS - 1);
        let all = advised(few.into_iter().map(|mut one| {
            one.blocked_ns *= 10;
            one
        }));
        assert_eq!(all.none, Some(NoAdvice::NoEvidence), "{cause:?}");
    }
}

#[test]
fn little_time_is_not_worth_it() {
    for (cause, ..) in RULES {
        let all = advised(because(cause, 40).into_iter().map(|mut one| {
            one.blocked_ns = 200_000;
            one
        }));
        assert_eq!(all.none, Some(NoAdvice::TooLittle), "{cause:?}");
    }
    assert_eq!(advised([]).none, Some(NoAdvice::NoFaults));
}

#[test]
fn little_of_much_is_not_worth_it() {
    // 40 ms of a trace of a minute and a half; 1.9 % of all the time.
    let mut faults = because(Cause::MmapLock, 40);
    let mut last = nth(25_000);
    last.facts.cause = None;
    faults.push(last);
    assert!(advised(faults).given.is_empty());
    let mut faults = because(Cause::MmapLock, 40);
    faults.extend(because(Cause::Unknown, 2_100).into_iter().map(|mut one| {
        one.facts.tid = 2;
        one
    }));
    let all = advised(faults);
    assert_eq!(all.least_ns, 2_140 * BLOCKED / 50);
    assert_eq!(all.none, Some(NoAdvice::NoEvidence));
}

#[test]
fn what_is_unknown_or_did_not_sleep_has_no_remedy() {
    let all = advised(because(Cause::Unknown, 400));
    assert_eq!(all.none, Some(NoAdvice::NoEvidence));
    let all = advised(because(Cause::SwapIn, 400).into_iter().map(|mut one| {
        one.facts.cause = None;
        one
    }));
    assert_eq!(all.none, Some(NoAdvice::NoEvidence));
}

#[test]
fn memory_that_was_swapped_has_a_size() {
    let all = advised(because(Cause::SwapIn, 40));
    let bytes = Some(20 * PAGE);
    assert!(has(only(&all), Action::MlockMemory { bytes }), "{all:#?}");
    let all = advised(because(Cause::SwapIn, 40).into_iter().map(|mut one| {
        one.facts.address = None;
        one
    }));
    assert!(has(only(&all), Action::MlockMemory { bytes: None }));
}

#[test]
fn writes_wait_for_three_reasons() {
    let write = |functions: &[&str]| {
        let all = advised((0..40).map(|n| {
            let mut one = read(n, n, stack(functions));
            one.facts.cause = Some(Cause::Writeback);
            one
        }));
        only(&all).rule
    };
    assert_eq!(
        write(&["balance_dirty_pages", "fault_dirty_shared_page"]),
        Rule::DirtyLimit
    );
    assert_eq!(
        write(&[
            "folio_wait_bit_common",
            "folio_wait_writeback",
            "ext4_page_mkwrite"
        ]),
        Rule::StablePage
    );
    assert_eq!(
        write(&["jbd2_log_wait_commit", "ext4_page_mkwrite"]),
        Rule::Journal
    );
}

#[test]
fn servers_are_told_beside_what_would_need_them_less() {
    let faults = (0..400).map(|n| {
        let mut one = read(
            n,
            n,
            stack(&[
                "request_wait_answer",
                "fuse_read_folio",
                "filemap_read_folio",
            ]),
        );
        one.facts.cause = Some(Cause::Fuse);
        one
    });
    let all = advised(faults);
    assert_eq!(rules(&all), [Rule::FuseServer, Rule::ReadaheadOff]);
    assert_eq!(all.given[0].overlaps, [1]);
    assert_eq!(all.given[1].overlaps, [0]);
}

/// Four threads that block at the same times for this reason, far apart in a file.
fn together(cause: Cause) -> Vec<Fault> {
    let pages = scattered(400, 10 << 20);
    let all = pages.iter().zip(0..).map(|(page, n)| {
        let mut one = read(n / 4, *page, single());
        one.facts.tid = u32::try_from(n % 4).unwrap() + 1;
        one.facts.cause = Some(cause);
        one
    });
    all.collect()
}

#[test]
fn threads_that_read_together_could_do_something_else() {
    let all = advised(together(Cause::FileRead));
    let one = only(&all);
    assert_eq!(one.rule, Rule::BlockedTogether);
    assert_eq!(one.gain.unit, Unit::Wall);
    assert_eq!(one.gain.at_most_ns, Some(100 * MS));
    // What they wait for together is nothing that threads which read would not wait for.
    let all = advised(together(Cause::MmapLock));
    assert_eq!(rules(&all), [Rule::MmapLock]);
    // One thread alone is no stall.
    let all = advised((0..400).map(|n| read(n, n * 37 % 400, single())));
    assert!(!rules(&all).contains(&Rule::BlockedTogether));
}

#[test]
fn what_is_about_all_threads_overlaps_with_what_is_about_their_time() {
    let mut faults = together(Cause::FileRead);
    for (one, n) in faults.iter_mut().zip(0..) {
        one.facts.place.offset = Some(n / 4 * PAGE);
    }
    let all = advised(faults);
    assert!(all.given.len() >= 2, "{all:#?}");
    for one in &all.given {
        assert_eq!(one.overlaps.len(), all.given.len() - 1, "{all:#?}");
    }
}
