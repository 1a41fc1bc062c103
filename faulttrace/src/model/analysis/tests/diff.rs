//! What differs between two traces, and what is only chance.

use std::sync::Arc;

use super::{Random, analyse, bounded, during, records};
use crate::model::analysis::{
    Bounds, Diff, DiffRow, FrameName, Options, Report, SeriesKey, Verdict, Wall, compare,
};
use crate::model::summary::samples::T0;
use crate::model::{Cause, Fault, Name, Stack};

const MS: u64 = 1_000_000;

/// A trace of so many seconds in which threads block, 20 times a second, for `scale` ms or so.
pub(crate) fn trace(seed: u64, seconds: u64, scale: u64) -> Report {
    trace_of(seed, seconds, scale, |_| {})
}

pub(crate) fn trace_of(seed: u64, seconds: u64, scale: u64, change: impl Fn(&mut Fault)) -> Report {
    let mut random = Random(seed);
    let mut faults = Vec::new();
    for n in 0..seconds * 20 {
        let begin = n * 50 * MS;
        // Another thread id in every run.
        let tid = u32::try_from(seed * 100 + n % 3).unwrap();
        let mut one = during(tid, begin, begin + MS + random.below(scale * MS));
        one.facts.pid = u32::try_from(seed).unwrap();
        one.facts.thread = Name::from(format!("worker-{}", n % 3).as_str());
        let mut stack = Stack::clone(one.facts.user_stack.as_ref().unwrap());
        stack.id += seed;
        stack
            .frames
            .iter_mut()
            .for_each(|frame| frame.address += seed);
        one.facts.user_stack = Some(Arc::new(stack));
        change(&mut one);
        faults.push(one);
    }
    faults.sort_by_key(|one| one.end_ns);
    analyse(walled(seconds), &records(faults))
}

fn walled(seconds: u64) -> Options {
    Options {
        wall: Some(Wall {
            begin_ns: T0,
            end_ns: T0 + seconds * 1_000 * MS,
        }),
        ..Options::default()
    }
}

fn verdicts(row: &DiffRow) -> (Verdict, Verdict) {
    (row.faults.verdict, row.blocked.verdict)
}

fn names(rows: &[DiffRow]) -> Vec<&SeriesKey> {
    rows.iter().map(|row| &row.key).collect()
}

#[test]
fn the_same_program_twice_has_no_significant_change() {
    let diff = compare(&trace(1, 30, 20), &trace(2, 15, 20));
    for row in [&diff.all]
        .into_iter()
        .chain(&diff.causes)
        .chain(&diff.files)
        .chain(&diff.stacks)
        .chain(&diff.threads)
    {
        assert_eq!(verdicts(row), (Verdict::Chance, Verdict::Chance), "{row:?}");
        for change in row.percentiles {
            assert_ne!(change.verdict, Verdict::Significant, "{row:?}");
        }
    }
    assert_eq!(diff.all.faults.before, Some(20.0));
    assert_eq!(diff.all.faults.after, Some(20.0), "though half as long");
    assert_eq!(diff.all.majors.after, Some(20.0));
    assert_eq!(diff.threads.len(), 3, "by name, not by id");
    assert_eq!(diff.stacks.len(), 1, "by name, not by address");
}

#[test]
fn twice_as_slow_is_significant_though_no_more_often() {
    let diff = compare(&trace(1, 90, 20), &trace(2, 90, 60));
    assert_eq!(verdicts(&diff.all), (Verdict::Chance, Verdict::Significant));
    let blocked = &diff.all.blocked;
    assert!((blocked.after.unwrap() / blocked.before.unwrap() - 2.8).abs() < 0.3);
    for change in diff.all.percentiles {
        assert_eq!(change.verdict, Verdict::Significant);
    }
    assert!(diff.all.max.after > diff.all.max.before);
    let thread = &diff.threads[0];
    assert_eq!(thread.percentiles[0].verdict, Verdict::Significant);
    let stack = &diff.stacks[0];
    assert_eq!(stack.percentiles[0].before, None, "no histograms by stack");
    assert_eq!(stack.blocked.verdict, Verdict::Significant);
}

#[test]
fn what_comes_and_goes_has_a_zero_that_was_measured() {
    let before = trace_of(1, 30, 20, |one| one.facts.cause = Some(Cause::Fuse));
    let after = trace_of(2, 30, 20, |one| one.facts.cause = Some(Cause::SwapIn));
    let diff = compare(&before, &after);
    assert_eq!(diff.causes.len(), 2);
    for row in &diff.causes {
        assert_eq!(verdicts(row), (Verdict::Significant, Verdict::Significant));
        let gone = row.key == SeriesKey::Cause(Some(Cause::Fuse));
        assert_eq!(row.before.unwrap().faults, if gone { 600 } else { 0 });
        assert_eq!(row.after.unwrap().faults, if gone { 0 } else { 600 });
        assert_eq!(row.percentiles[0].before.is_some(), gone);
        assert_eq!(row.percentiles[0].verdict, Verdict::Unknown);
        assert_eq!(row.max.before.is_some(), gone);
    }
    assert_eq!(diff.all.blocked.verdict, Verdict::Chance);
}

#[test]
fn the_greatest_change_comes_first() {
    let split = |one: &mut Fault, slow: u64| {
        let index = one.facts.thread == Name::from("worker-1");
        one.facts.place.path = Some(Name::from(if index { "/index" } else { "/data" }));
        if index {
            one.duration_ns *= slow;
            one.blocked_ns *= slow;
        }
    };
    let diff = compare(
        &trace_of(1, 30, 20, |one| split(one, 1)),
        &trace_of(2, 30, 20, |one| split(one, 5)),
    );
    let file = |path: &str| {
        SeriesKey::File(
            Some(Name::from(path)),
            Some(crate::model::MappingKind::File),
        )
    };
    assert_eq!(names(&diff.files), [&file("/index"), &file("/data")]);
    assert_eq!(diff.files[0].blocked.verdict, Verdict::Significant);
    assert_eq!(diff.files[1].blocked.verdict, Verdict::Chance);
    assert_eq!(
        diff.threads[0].key,
        SeriesKey::Thread(Name::from("worker-1"))
    );
}

#[test]
fn too_little_is_not_called_chance() {
    let few = |diff: &Diff| verdicts(&diff.all) == (Verdict::TooLittle, Verdict::TooLittle);
    let short = records((0..100).map(|n| during(1, n * 9 * MS, n * 9 * MS + MS)));
    let mut options = walled(1);
    let long_enough = analyse(options.clone(), &short);
    assert!(!few(&compare(&long_enough, &long_enough)));
    options.wall.as_mut().unwrap().end_ns -= 1;
    let too_short = analyse(options, &short);
    assert!(few(&compare(&long_enough, &too_short)));
    let without_wall = analyse(Options::default(), &short);
    assert!(few(&compare(&without_wall, &long_enough)));
    let rare = analyse(walled(10), &records((0..9).map(|n| during(1, n, n + 1))));
    assert!(few(&compare(&rare, &rare)));
}

#[test]
fn what_may_be_among_the_others_is_unknown_not_zero() {
    let faults = |from: u32| {
        records((0..60_u32).map(|n| {
            let mut one = during(from + n, u64::from(n) * MS, u64::from(n) * MS + 500);
            one.facts.thread = Name::from(format!("t{}", from + n).as_str());
            one
        }))
    };
    let narrow = Bounds {
        series: 10,
        ..Bounds::default()
    };
    let (before, after) = (
        bounded(narrow, &faults(0)),
        bounded(Bounds::default(), &faults(30)),
    );
    let diff = compare(&before, &after);
    let (others, none) = diff.others[3];
    assert_eq!(none.faults, 0);
    let own: u64 = diff
        .threads
        .iter()
        .filter_map(|row| row.before)
        .map(|tally| tally.faults)
        .sum();
    assert_eq!(own + others.faults, 60, "nothing vanishes");
    assert!(others.faults > 40);
    let only_after = SeriesKey::Thread(Name::from("t89"));
    let row = diff
        .threads
        .iter()
        .find(|row| row.key == only_after)
        .unwrap();
    assert_eq!(row.before, None);
    assert_eq!(row.blocked.before, None);
    assert_eq!(row.blocked.verdict, Verdict::Unknown);
    assert_eq!(row.after.unwrap().faults, 1);
}

#[test]
fn percentiles_by_name_need_all_faults_of_that_name() {
    // Histograms are by thread: this one had two names.
    let renamed = trace_of(2, 30, 20, |one| {
        if one.end_ns < T0 + 15_000 * MS {
            one.facts.thread = Name::from("young");
        }
    });
    let diff = compare(&trace(1, 30, 20), &renamed);
    let row = |name: &str| {
        let key = SeriesKey::Thread(Name::from(name));
        diff.threads.iter().find(|row| row.key == key).unwrap()
    };
    assert!(row("worker-1").percentiles[0].before.is_some());
    assert_eq!(row("worker-1").percentiles[0].after, None);
    assert_eq!(row("worker-1").percentiles[0].verdict, Verdict::Unknown);
    assert_eq!(row("young").percentiles[0].after, None);
    assert!(row("young").after.unwrap().faults > 250);
}

#[test]
fn frames_without_a_symbol_are_named_by_module_and_offset() {
    let diff = compare(&trace(1, 2, 20), &trace(2, 2, 20));
    let SeriesKey::Stack(Some(names)) = &diff.stacks[0].key else {
        panic!("{:?}", diff.stacks[0].key);
    };
    assert_eq!(
        names[2..],
        [
            FrameName::Module(Name::from("/usr/lib/libstripped.so"), 0x1234),
            FrameName::Unknown
        ]
    );
}

#[test]
fn empty_and_hostile_traces_can_be_compared() {
    let empty = analyse(Options::default(), &[]);
    let diff = compare(&empty, &empty);
    assert_eq!(diff.all.blocked.before, None);
    assert_eq!(
        verdicts(&diff.all),
        (Verdict::TooLittle, Verdict::TooLittle)
    );
    let mut one = during(1, 0, 10);
    one.end_ns = u64::MAX;
    one.duration_ns = u64::MAX;
    one.blocked_ns = u64::MAX;
    let options = Options {
        wall: Some(Wall {
            begin_ns: 0,
            end_ns: u64::MAX,
        }),
        ..Options::default()
    };
    let huge = analyse(options, &records(vec![one; 30]));
    let diff = compare(&huge, &empty);
    assert_eq!(diff.all.max.before, Some(u64::MAX as f64));
}
