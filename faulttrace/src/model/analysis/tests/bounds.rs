//! Numbers and names that no honest trace has.

use std::sync::Arc;

use super::{Random, analyse, bounded, during, feed, measure, records, site, walled};
use crate::model::analysis::{Analysis, Bounds, Options, SeriesKey, Wall};
use crate::model::summary::samples::{T0, fault};
use crate::model::{Fault, Measure, Name, Record, Stack};

/// Faults all of whose keys differ.
fn diverse(count: u32) -> Vec<Record> {
    records((0..count).map(|n| {
        let mut one = during(n + 1, u64::from(n) * 10, u64::from(n) * 10 + 100);
        one.facts.pid = n % 7;
        one.facts.place.path = Some(Name::from(format!("/f{n}").as_str()));
        one.facts.user_stack = Some(Arc::new(Stack {
            id: u64::from(n),
            ..Stack::clone(fault().facts.user_stack.as_ref().unwrap())
        }));
        one
    }))
}

fn narrow() -> Bounds {
    Bounds {
        sites: 8,
        expected: 5,
        threads: 20,
        files: 20,
        mapped_files: 15,
        maps: 4,
        walks: 10,
        histograms: 12,
        series: 9,
        stacks: 3,
        order: 4,
        ..Bounds::default()
    }
}

#[test]
fn beyond_every_bound_the_totals_are_right_and_the_rest_is_unknown() {
    let records = diverse(500);
    let wide = bounded(Bounds::default(), &records);
    let report = bounded(narrow(), &records);
    assert_eq!(report.total.tally, wide.total.tally);
    assert_eq!(
        report.total.duration_percentile_ns(99.0),
        wide.total.duration_percentile_ns(99.0)
    );
    assert_eq!(report.total.by_file.len(), 500);
    assert!(report.all.threads.len() <= 12);
    assert!(report.all.files.len() <= 15);
    let mapped = report.all.files.values();
    assert_eq!(mapped.filter(|file| file.offsets.is_some()).count(), 4);
    assert_eq!(report.quality.not_swept, 480);
    assert_eq!(report.series.len(), 9);
    assert_eq!(
        report.series(&SeriesKey::All).unwrap().tally,
        report.total.tally,
        "that one there is always"
    );
    assert_eq!(wide.all.threads.len(), 500);
    assert_eq!(wide.quality.not_swept, 0);
}

#[test]
fn a_row_that_made_room_comes_back_with_the_same_counters() {
    let mut all = Vec::new();
    for round in 0..20_u64 {
        for tid in 1..=20 {
            all.push(during(tid, round * 1_000, round * 1_000 + u64::from(tid)));
        }
    }
    let records = records(all);
    let few_rows = Bounds {
        sites: 3,
        ..Bounds::default()
    };
    let (few, many) = (
        bounded(few_rows, &records),
        bounded(Bounds::default(), &records),
    );
    assert_eq!(few.total.tally, many.total.tally);
    assert_eq!(few.all.concurrency, many.all.concurrency);
    assert_eq!(few.all.threads.len(), 20);
    for (key, durations) in &few.all.threads {
        assert_eq!(durations.percentiles(), many.all.threads[key].percentiles());
    }
    let slices = |report: &super::Report| {
        let all = report.series(&SeriesKey::All).unwrap();
        (all.faults, all.blocked_ns)
    };
    assert_eq!(slices(&few), slices(&many));
}

#[test]
fn percentiles_of_a_part_of_the_faults_are_not_told() {
    // Three processes on one file, with room for two histograms of files.
    let faults = (0..30_u32).map(|n| {
        let mut one = during(n % 3 + 1, u64::from(n) * 10, u64::from(n) * 10 + 5);
        one.facts.pid = n % 3;
        one
    });
    let records = records(faults);
    for histograms in 0..12 {
        let some = Bounds {
            histograms,
            ..Bounds::default()
        };
        let report = bounded(some, &records);
        for file in report.all.files.values() {
            if let Some(durations) = &file.durations {
                assert_eq!(durations.count(), 30);
            }
        }
        for durations in report.all.causes.values() {
            assert_eq!(durations.count(), 30);
        }
    }
}

/// A number that is likely to break sums.
fn evil(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => u64::MAX - random.below(3),
        1 => random.below(3),
        2 => T0 + random.below(1 << 40),
        _ => random.next(),
    }
}

#[test]
fn hostile_numbers_neither_panic_nor_take_memory() {
    for seed in 1..20 {
        let mut random = Random(seed);
        let wall = Wall {
            begin_ns: evil(&mut random),
            end_ns: evil(&mut random),
        };
        let mut analysis = Analysis::with_bounds(
            Options {
                top: usize::MAX,
                stall_threads: Some(u32::try_from(random.below(4)).unwrap()),
                wall: (seed % 2 == 0).then_some(wall),
                description: None,
                ..Options::default()
            },
            narrow(),
        );
        let sites: Vec<_> = diverse(30)
            .iter()
            .filter_map(|record| match record {
                Record::Fault(fault) => Some(Arc::new(site(fault))),
                _ => None,
            })
            .collect();
        sites.iter().for_each(|site| analysis.expect_site(site));
        for _ in 0..2_000 {
            let at = random.below(30);
            let measure = Measure {
                end_ns: evil(&mut random),
                duration_ns: evil(&mut random),
                blocked_ns: evil(&mut random),
                runqueue_ns: evil(&mut random),
                switches: u32::MAX,
                address: None,
                offset: Some(evil(&mut random)),
                longest_sleep: None,
                history: None,
                io: None,
                goroutine: None,
            };
            let site = &sites[usize::try_from(at).unwrap()];
            analysis.fault(u64::MAX - at * 3, site, &measure);
        }
        let report = analysis.finish();
        assert_eq!(report.total.tally.faults, 2_000);
        assert_eq!(report.total.tally.duration_ns, u64::MAX);
    }
}

#[test]
fn ids_of_sites_may_be_anything() {
    let mut analysis = Analysis::new(Options::default());
    let one = Arc::new(site(&fault()));
    for id in [0, 1, 5_000_000, u64::MAX, 1 << 20, (1 << 20) - 1, u64::MAX] {
        analysis.fault(id, &one, &measure(T0 + id % 7, 1, 0));
    }
    assert_eq!(analysis.rows.rows.len(), 6);
    assert_eq!(analysis.finish().total.tally.faults, 7);
}

#[test]
fn a_fault_that_comes_as_a_record_is_counted_too() {
    let mut analysis = feed(Analysis::new(Options::default()), &[]);
    analysis.other(&Record::Fault(Arc::new(fault())));
    let report = analysis.finish();
    assert_eq!(report.total.tally.faults, 1);
    assert_eq!(report.all.concurrency.one_ns, fault().duration_ns);
}

#[test]
fn an_empty_trace_has_a_report() {
    let report = analyse(walled(&[]), &[]);
    assert_eq!(report.total.tally.faults, 0);
    assert_eq!(report.all.concurrency.one_ns, 0);
    assert!(report.all.stalls.is_none());
}

#[test]
fn more_processes_than_there_is_room_for() {
    let faults = (0..1_500_u32).map(|pid| {
        let mut one: Fault = during(pid + 1, u64::from(pid), u64::from(pid) + 10);
        one.facts.pid = pid + 1;
        one
    });
    let records = records(faults);
    let report = analyse(walled(&records), &records);
    assert_eq!(report.parts.len(), 1_000);
    assert_eq!(report.total.tally.faults, 1_500);
    assert_eq!(report.quality.not_swept, 500);
    let others = report.summary.other_processes().unwrap();
    assert_eq!(others.duration_percentile_ns(50.0), Some(10));
    assert_eq!(report.total.duration_percentile_ns(50.0), Some(10));
}
