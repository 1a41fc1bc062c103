//! Stalls against a count of every moment, and what cannot be known.

mod ps;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{MAX_WAITING, Meanwhile, Stall, Stalls};
use crate::model::analysis::Options;
use crate::model::analysis::tests::sweep::{crowd, moments};
use crate::model::analysis::tests::{Random, analyse, during};
use crate::model::summary::samples::{self, T0, fault};
use crate::model::{Fault, Name, Record, Sample, Stuck};

const MS: u64 = 1_000_000;

/// A sample this long after T0, before which all is settled until then.
fn sample(at: u64, settled: u64, needed: u32) -> Record {
    let mut one = samples::sample(fault().facts.pid, at);
    one.settled_ns = T0 + settled;
    one.stall_threads = needed;
    Record::Sample(Arc::new(one))
}

fn over(fault: Fault) -> Record {
    Record::Fault(Arc::new(fault))
}

fn goes_on(tid: u32, begin: u64, elapsed: u64, report: u32) -> Record {
    let facts = during(tid, begin, begin + 1).facts;
    Record::Stuck(Arc::new(Stuck {
        facts,
        elapsed_ns: elapsed,
        report,
        io: None,
    }))
}

fn stall(record: Record) -> Option<Arc<Stall>> {
    match record {
        Record::Stall(stall) => Some(stall),
        _ => None,
    }
}

fn fold(records: &[Record]) -> (Stalls, Vec<Arc<Stall>>) {
    let mut stalls = Stalls::default();
    stalls.add(&samples::start());
    let mut told = Vec::new();
    for record in records {
        stalls.add(record);
        told.extend(stalls.take().into_iter().filter_map(stall));
    }
    stalls.finish();
    told.extend(stalls.take().into_iter().filter_map(stall));
    (stalls, told)
}

/// (begin, end, needed, most, different) in ms after T0.
type Window = (u64, u64, u32, u64, u64);

fn window(stall: &Stall) -> Window {
    (
        (stall.begin_ns - T0) / MS,
        (stall.end_ns() - T0) / MS,
        stall.needed,
        stall.max_threads,
        stall.threads,
    )
}

/// What a count of every ms finds.
fn counted(faults: &[Fault], needed: impl Fn(u64) -> u32) -> Vec<Window> {
    let mut found: Vec<Window> = Vec::new();
    let mut inside: BTreeSet<u32> = BTreeSet::new();
    let mut was_in = false;
    for (at, now) in (0_u64..).zip(moments(faults, true)) {
        let (count, need) = (now.len(), needed(at));
        let is_in = count >= need as usize;
        if is_in && !was_in {
            found.push((at, at, need, 0, 0));
            inside.clear();
        }
        if let (true, Some(last)) = (is_in, found.last_mut()) {
            inside.extend(&now);
            last.1 = at + 1;
            last.2 = last.2.min(need);
            last.3 = last.3.max(count as u64);
            last.4 = inside.len() as u64;
        }
        was_in = is_in;
    }
    found
}

/// What the report finds, from the last record to the first.
fn backwards(records: &[Record]) -> Vec<Window> {
    let options = Options {
        top: 1_000,
        ..Options::default()
    };
    let report = analyse(options, records);
    let stalls = report.all.stalls.unwrap_or_default();
    let mut found: Vec<Window> = stalls
        .worst
        .iter()
        .map(|one| {
            let ms = |ns: u64| (ns - T0) / MS;
            (
                ms(one.begin_ns),
                ms(one.end_ns),
                u32::try_from(one.needed).unwrap(),
                one.max_threads,
                one.threads,
            )
        })
        .collect();
    assert_eq!(stalls.count, found.len() as u64);
    found.sort_unstable();
    found
}

fn in_ms(mut one: Fault) -> Fault {
    let begin_ns = one.measure().begin_ns() - T0;
    one.end_ns = T0 + (one.end_ns - T0) * MS;
    one.duration_ns *= MS;
    one.blocked_ns *= MS;
    one.on_cpu_ns *= MS;
    one.facts.begin_ns = Some(T0 + begin_ns * MS);
    one
}

#[test]
fn the_windows_are_those_of_a_count_of_every_moment() {
    let mut random = Random(5);
    let mut all = 0;
    for _ in 0..100 {
        let faults = crowd(&mut random, false);
        // Every 50 ms it may be another number that is needed.
        let needed: Vec<u32> = (0..40)
            .map(|_| 1 + u32::try_from(random.below(4)).unwrap())
            .collect();
        let expected = counted(&faults, |at| needed[(at / 50) as usize]);
        let mut records = Vec::new();
        let mut left = faults.iter().peekable();
        for (round, needed) in (1_u64..).zip(&needed) {
            let at = round * 50;
            while let Some(one) = left.next_if(|one| one.end_ns - T0 <= at) {
                records.push(over(in_ms(one.clone())));
            }
            let open = left.clone().map(|one| one.measure().begin_ns() - T0).min();
            let settled = open.unwrap_or(at).min(at);
            records.push(sample(at * MS, settled * MS, *needed));
        }
        let (stalls, told) = fold(&records);
        let found: Vec<_> = told.iter().map(|one| window(one)).collect();
        // The first report of a window that goes on is of the same begin.
        let done: Vec<_> = told.iter().filter(|one| one.over).collect();
        let done: Vec<_> = done.iter().map(|one| window(one)).collect();
        let long = |one: &&Window| one.1 - one.0 >= 10;
        let expected_told: Vec<_> = expected.iter().filter(long).copied().collect();
        assert_eq!(done, expected_told, "{found:?}");
        assert_eq!(backwards(&records), expected, "the report's");
        let totals = stalls.totals(fault().facts.pid).unwrap();
        assert_eq!(totals.count, expected.len() as u64);
        let sum: u64 = expected.iter().map(|one| one.1 - one.0).sum();
        assert_eq!((totals.total_ns, totals.late), (sum * MS, 0));
        let longest = expected.iter().map(|one| one.1 - one.0).max();
        let first = totals.worst.first().map(|one| one.duration_ns / MS);
        assert_eq!(first, longest);
        all += expected.len();
    }
    assert!(all > 1_000, "{all}");
}

#[test]
fn what_goes_on_is_told_as_going_on_and_its_end_once() {
    let records = [
        goes_on(1, 0, 120 * MS, 1),
        goes_on(2, 20 * MS, 100 * MS, 1),
        sample(250 * MS, 240 * MS, 2),
        goes_on(1, 0, 240 * MS, 2),
        goes_on(2, 20 * MS, 220 * MS, 2),
        sample(500 * MS, 490 * MS, 2),
        sample(750 * MS, 740 * MS, 2),
        over(during(1, 0, 800 * MS)),
        over(during(2, 20 * MS, 900 * MS)),
        sample(1_000 * MS, 990 * MS, 2),
        sample(1_250 * MS, 1_240 * MS, 2),
    ];
    let (_, told) = fold(&records);
    let shown: Vec<_> = told.iter().map(|one| (window(one), one.over)).collect();
    assert_eq!(
        shown,
        [
            ((20, 240, 2, 2, 2), false),
            ((20, 490, 2, 2, 2), false),
            ((20, 800, 2, 2, 2), true),
        ]
    );
}

#[test]
fn what_goes_on_when_tracing_ends_is_not_over() {
    let records = [
        goes_on(1, 0, 120 * MS, 1),
        goes_on(2, 0, 120 * MS, 1),
        sample(200 * MS, 50 * MS, 2),
        goes_on(1, 0, 400 * MS, 2),
        goes_on(2, 0, 400 * MS, 2),
    ];
    let (stalls, told) = fold(&records);
    let last = told.last().unwrap();
    assert_eq!((window(last), last.over), ((0, 400, 2, 2, 2), false));
    assert_eq!(stalls.totals(last.pid).unwrap().count, 1);
    // A sample may be the last that is known of them.
    let (_, told) = fold(&[
        goes_on(1, 0, 120 * MS, 1),
        goes_on(2, 0, 120 * MS, 1),
        sample(200 * MS, 190 * MS, 2),
    ]);
    let last = told.last().unwrap();
    assert_eq!((window(last), last.over), ((0, 190, 2, 2, 2), false));
    // The end of the process ends them.
    let mut records = records.to_vec();
    records.push(samples::process_end());
    let (_, told) = fold(&records);
    assert!(told.last().unwrap().over);
}

#[test]
fn an_end_that_is_never_seen_is_given_up() {
    let mut records = vec![
        goes_on(1, 0, 120 * MS, 1),
        goes_on(2, 0, 130 * MS, 1),
        sample(200 * MS, 190 * MS, 2),
    ];
    records.extend((1..40).map(|n| sample((200 + n * 250) * MS, (190 + n * 250) * MS, 2)));
    let (stalls, told) = fold(&records);
    let totals = stalls.totals(fault().facts.pid).unwrap();
    assert_eq!((totals.count, totals.late), (1, 2));
    let last = told.last().unwrap();
    assert!(last.over && last.duration_ns < 6_000 * MS, "{last:?}");
    // One that is in its next fault has left that one.
    let records = [
        goes_on(1, 0, 120 * MS, 1),
        goes_on(2, 0, 120 * MS, 1),
        over(during(1, 150 * MS, 160 * MS)),
        over(during(2, 155 * MS, 170 * MS)),
        sample(200 * MS, 190 * MS, 2),
        sample(400 * MS, 390 * MS, 2),
    ];
    let (_, told) = fold(&records);
    let first = told.first().unwrap();
    assert_eq!(window(first), (0, 120, 2, 2, 2));
}

#[test]
fn what_comes_too_late_is_counted() {
    let records = [
        sample(100 * MS, 100 * MS, 2),
        over(during(1, 50 * MS, 90 * MS)),
        over(during(1, 95 * MS, 150 * MS)),
        over(during(2, 100 * MS, 150 * MS)),
        sample(200 * MS, 190 * MS, 2),
    ];
    let (stalls, told) = fold(&records);
    let totals = stalls.totals(fault().facts.pid).unwrap();
    assert_eq!(totals.late, 2);
    assert_eq!(window(&told[0]), (100, 150, 2, 2, 2), "what was left of it");
}

#[test]
fn the_files_and_causes_of_a_stall_are_bounded() {
    let mut records: Vec<_> = (0..300_u32)
        .map(|n| {
            let mut one = during(n, 0, (20 + u64::from(n)) * MS);
            let name = format!("/data/{}", n.min(290));
            one.facts.place.path = Some(Name::from(name.as_str()));
            over(one)
        })
        .collect();
    records.push(sample(500 * MS, 490 * MS, 2));
    let (_, told) = fold(&records);
    let [stall] = told.as_slice() else {
        panic!("one stall, not {}", told.len())
    };
    assert_eq!(
        (stall.threads, stall.max_threads, stall.files.len()),
        (300, 300, 8)
    );
    let told: u64 = stall.files.iter().map(|file| file.faults).sum();
    assert_eq!(
        told + stall.other_faults,
        300,
        "every fault is on some file"
    );
    assert_eq!(stall.causes, [(fault().facts.cause, 300)]);
}

#[test]
fn without_samples_there_is_no_telling_what_a_stall_is() {
    let faults = (0..5).map(|tid| over(during(tid, 0, 500 * MS)));
    let (stalls, told) = fold(&faults.collect::<Vec<_>>());
    assert!(told.is_empty());
    assert!(stalls.totals(fault().facts.pid).is_none());
}

/// Between a sample at 100 and one at 600 ms, with one at 300 ms in between.
fn meanwhile(change: impl Fn(u64, &mut Sample)) -> Option<Meanwhile> {
    let mut records = vec![
        over(during(1, 200 * MS, 400 * MS)),
        over(during(2, 200 * MS, 400 * MS)),
    ];
    for at in [100, 300, 600] {
        let mut one = samples::sample(fault().facts.pid, at * MS);
        // Only the last says that it is settled.
        one.settled_ns = if at == 600 { one.settled_ns } else { T0 };
        change(at, &mut one);
        records.push(Record::Sample(Arc::new(one)));
    }
    let (_, told) = fold(&records);
    assert_eq!(told.len(), 1);
    told[0].meanwhile.clone()
}

#[test]
fn what_was_counted_stands_beside_it() {
    let found = meanwhile(|_, _| {}).unwrap();
    assert_eq!(
        (found.begin_ns, found.duration_ns),
        (T0 + 100 * MS, 500 * MS)
    );
    assert_eq!(found.samples, 1);
    // 5 and 2 and 90 of 100 of the time, as the samples are made.
    assert_eq!(
        (found.user_ns, found.system_ns),
        (Some(25 * MS), Some(10 * MS))
    );
    assert_eq!(found.iowait_ns, Some(450 * MS));
    assert_eq!(
        found.io.map(|io| (io.some_ns, io.full_ns)),
        Some((400 * MS, 375 * MS))
    );
    // Three in faults, one runs.
    assert_eq!(
        (found.share, found.run_queue, found.threads),
        (Some(0.75), Some(3.0), Some(8))
    );
}

#[test]
fn what_was_not_read_is_not_zero() {
    // Read before, not after: what is known ends there.
    let unread = samples::sample_unread(fault().facts.pid, 600 * MS);
    let found = meanwhile(|at, one| {
        if at == 600 {
            *one = Sample {
                settled_ns: one.settled_ns,
                ..unread.clone()
            };
        }
    });
    assert_eq!(found.unwrap().duration_ns, 200 * MS);
    assert_eq!(
        meanwhile(|_, one| *one = Sample {
            settled_ns: one.settled_ns,
            ..samples::sample_unread(one.pid, one.time_ns - T0)
        }),
        None
    );
    // iowait that shrinks, another cgroup, a process of which the state of threads is unknown.
    let odd = meanwhile(|at, one| {
        one.process.running = None;
        if at == 600 {
            one.system.iowait_ns = Some(1);
            one.pressure = None;
        }
    });
    let odd = odd.unwrap();
    assert_eq!((odd.iowait_ns, odd.share), (None, None));
    assert_eq!((odd.pressure_of, odd.io, odd.memory), (None, None, None));
    assert!(odd.user_ns.is_some());
}

#[test]
fn threads_that_are_stuck_take_no_more_room_than_there_is() {
    let mut stalls = Stalls::default();
    let one = samples::stuck();
    let mut report = |n: usize| {
        let mut stuck = one.clone();
        let n = u32::try_from(n).unwrap();
        (stuck.facts.pid, stuck.facts.tid) = (n % 10, n);
        stalls.add(&Record::Stuck(Arc::new(stuck)));
        let late = stalls.all().map(|(_, totals)| totals.late).sum::<u64>();
        (stalls.waiting, late)
    };
    let all = (0..MAX_WAITING).map(&mut report).last();
    assert_eq!(all, Some((MAX_WAITING, 0)));
    assert_eq!(report(MAX_WAITING), (MAX_WAITING, 1));
    // What is known already has its room.
    assert_eq!(report(0), (MAX_WAITING, 1));
}
