//! The totals are those of the summary; percentiles and slices against the faults themselves.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Random, analyse, cause, during, records, walled};
use crate::model::analysis::{Durations, Options, SLICES, SeriesKey, Wall};
use crate::model::summary::samples::{
    T0, accounting, fault, lost, process, process_end, start, stuck,
};
use crate::model::summary::{FileKey, ProcessSummary, Summary, ThreadKey};
use crate::model::{End, LossClass, MappingKind, Name, Record, Stack, Transport};

/// Some of everything, of several processes.
fn eventful(random: &mut Random) -> Vec<Record> {
    let mut all = vec![start()];
    for n in 0..2_000_u64 {
        let tid = 4711 + u32::try_from(random.below(7)).unwrap();
        let mut one = during(tid, n * 1_000, n * 1_000 + random.below(500_000));
        one.facts.pid = 4700 + tid % 3;
        one.facts.cause = cause(random);
        one.facts.thread = Name::from(format!("named-{}", n / 700).as_str());
        one.facts.place.path = Some(Name::from(format!("/f{}", random.below(5)).as_str()));
        one.facts.began_before_attach = n < 4;
        one.major = random.below(2) == 0;
        one.end =
            [End::Exact, End::Approximate, End::Died][usize::try_from(random.below(3)).unwrap()];
        if random.below(4) == 0 {
            one.facts.user_stack = None;
        }
        all.extend(records([one]));
        match random.below(100) {
            0 => all.push(process_end()),
            1 => all.push(lost(LossClass::Lost, "ring_full", n)),
            2 => {
                let mut info = process();
                info.pid = 4700 + u32::try_from(random.below(4)).unwrap();
                info.name = Name::from(format!("p{n}").as_str());
                all.push(Record::Process(Arc::new(info)));
            }
            3 => {
                let mut still = stuck();
                still.facts.tid = 4711 + u32::try_from(random.below(40)).unwrap();
                still.facts.pid = 4700 + still.facts.tid % 3;
                still.elapsed_ns = n;
                all.push(Record::Stuck(Arc::new(still)));
            }
            _ => {}
        }
    }
    all.push(accounting(4700, Some(700)));
    all.push(accounting(4701, None));
    all.push(Record::Transport(Transport {
        emitted: 3,
        received: 2,
        lost: 1,
    }));
    all
}

fn assert_equal(ours: &ProcessSummary, theirs: &ProcessSummary) {
    assert_eq!(ours.pid, theirs.pid);
    assert_eq!(ours.info, theirs.info);
    assert_eq!(ours.tally, theirs.tally);
    let quality = |of: &ProcessSummary| (of.approximate, of.died, of.began_before_attach);
    assert_eq!(quality(ours), quality(theirs));
    assert_eq!(ours.maj_flt_delta, theirs.maj_flt_delta);
    for percentile in [0.0, 50.0, 90.0, 99.0, 100.0] {
        assert_eq!(
            ours.duration_percentile_ns(percentile),
            theirs.duration_percentile_ns(percentile)
        );
    }
    assert_eq!(
        format!("{:?}", ours.by_thread.ranked()),
        format!("{:?}", theirs.by_thread.ranked())
    );
    assert_eq!(
        format!("{:?}", ours.by_file.ranked()),
        format!("{:?}", theirs.by_file.ranked())
    );
    assert_eq!(
        format!("{:?}", ours.by_stack.ranked()),
        format!("{:?}", theirs.by_stack.ranked())
    );
    assert_eq!(
        format!("{:?}", ours.by_cause.ranked()),
        format!("{:?}", theirs.by_cause.ranked())
    );
}

#[test]
fn the_totals_are_those_of_the_summary() {
    for seed in 1..10 {
        let records = eventful(&mut Random(seed));
        let mut forward = Summary::new();
        records.iter().for_each(|record| forward.add(record));
        let report = analyse(Options::default(), &records);
        assert_eq!(forward.processes().len(), report.summary.processes().len());
        for (ours, theirs) in report.summary.processes().zip(forward.processes()) {
            assert_equal(ours, theirs);
        }
        assert_equal(&report.total, &forward.total());
        assert_eq!(report.summary.remainder(), forward.remainder());
        assert_eq!(report.summary.transport(), forward.transport());
        assert_eq!(report.summary.began_ns(), forward.began_ns());
        assert!(report.summary.lost().eq(forward.lost()));
        assert_eq!(
            format!("{:?}", report.summary.still_stuck()),
            format!("{:?}", forward.still_stuck())
        );
        assert!(!forward.still_stuck().is_empty());
        assert!(forward.still_stuck().len() < 40);
    }
}

#[test]
fn percentiles_by_key_are_those_of_its_faults() {
    let records = eventful(&mut Random(7));
    let report = analyse(Options::default(), &records);
    let mut by_thread: HashMap<ThreadKey, Vec<u64>> = HashMap::new();
    let mut by_file: HashMap<FileKey, Vec<u64>> = HashMap::new();
    for record in &records {
        if let Record::Fault(fault) = record {
            let thread = by_thread.entry(ThreadKey::of(&fault.facts)).or_default();
            thread.push(fault.duration_ns);
            let file = by_file.entry(FileKey::of(&fault.facts.place)).or_default();
            file.push(fault.duration_ns);
        }
    }
    let check = |mut durations: Vec<u64>, found: crate::model::analysis::Percentiles| {
        durations.sort_unstable();
        for (part, found) in [(2, found.p50_ns), (10, found.p90_ns), (100, found.p99_ns)] {
            // The smallest that `1 / part` of them, from above, do not exceed.
            let rank = match part {
                2 => durations.len().div_ceil(2),
                part => (durations.len() * (part - 1)).div_ceil(part),
            };
            let exact = durations[rank - 1];
            assert!(exact.abs_diff(found) <= exact / 100 + 1, "{exact} {found}");
        }
        assert_eq!(found.max_ns, *durations.last().unwrap());
    };
    assert_eq!(by_thread.len(), 7);
    for (key, durations) in by_thread {
        check(durations, report.all.threads[&key].percentiles().unwrap());
    }
    for (key, durations) in by_file {
        let detail = &report.all.files[&key];
        check(
            durations,
            detail.durations.as_ref().unwrap().percentiles().unwrap(),
        );
    }
    let causes: u64 = report.all.causes.values().map(Durations::count).sum();
    assert_eq!(causes, 2_000);
    let of_parts: u64 = report
        .parts
        .iter()
        .flat_map(|part| part.causes.values())
        .map(Durations::count)
        .sum();
    assert_eq!(of_parts, 2_000);
}

#[test]
fn the_wall_is_as_far_as_the_records_tell() {
    let report = analyse(Options::default(), &[]);
    assert_eq!(report.wall, None);
    let mut all = vec![start()];
    all.extend(records([during(1, 2_000, 3_000)]));
    let report = analyse(Options::default(), &all);
    assert_eq!(
        report.wall,
        Some(Wall {
            begin_ns: T0,
            end_ns: T0 + 3_000
        })
    );
    let all = report.series(&SeriesKey::All).unwrap();
    assert_eq!(all.tally.faults, 1);
    assert_eq!(
        all.faults, [0; SLICES],
        "without a wall there are no slices"
    );
}

#[test]
fn slices_add_up_and_hold_what_ended_in_them() {
    let faults =
        (0..400_u64).map(|n| during(1 + u32::try_from(n % 2).unwrap(), n * 100, n * 100 + 50));
    let records = records(faults);
    let mut options = walled(&records);
    options.wall = Some(Wall {
        begin_ns: T0,
        end_ns: T0 + 40_000,
    });
    let report = analyse(options, &records);
    let all = report.series(&SeriesKey::All).unwrap();
    assert_eq!(all.faults, [20; SLICES]);
    assert_eq!(all.blocked_ns, [20 * 49; SLICES]);
    assert_eq!(all.tally, report.total.tally);
    let one = report.series(&SeriesKey::Thread(Name::from("worker-2")));
    assert_eq!(one.unwrap().faults, [10; SLICES]);
}

#[test]
fn the_end_of_the_wall_is_in_the_last_slice_and_what_is_beyond_in_none() {
    let all = records([
        during(1, 0, 10),
        during(1, 20, 30),
        during(1, 35, 40),
        during(1, 40, 41),
    ]);
    let options = Options {
        wall: Some(Wall {
            begin_ns: T0 + 20,
            end_ns: T0 + 40,
        }),
        ..Options::default()
    };
    let report = analyse(options, &all);
    let series = report.series(&SeriesKey::All).unwrap();
    let mut expected = [0; SLICES];
    (expected[10], expected[19]) = (1, 1);
    assert_eq!(series.faults, expected);
    assert_eq!(series.tally.faults, 4);
}

#[test]
fn what_is_compared_has_the_same_name_in_every_run() {
    let shifted = |pid: u32, by: u64| {
        let mut one = fault();
        one.facts.pid = pid;
        let mut stack = Stack::clone(one.facts.user_stack.as_ref().unwrap());
        stack.id += by;
        for frame in &mut stack.frames {
            frame.address += by;
        }
        one.facts.user_stack = Some(Arc::new(stack));
        let records = records([one]);
        let report = analyse(walled(&records), &records);
        let keys = report.series.into_iter().map(|(key, _)| key);
        keys.collect::<Vec<_>>()
    };
    assert_eq!(shifted(1, 0), shifted(2, 0x1000));
    let keys = shifted(1, 0);
    assert_eq!(keys.len(), 5);
    assert!(keys.contains(&SeriesKey::File(
        Some(Name::from("/data/index.bin")),
        Some(MappingKind::File)
    )));
}
