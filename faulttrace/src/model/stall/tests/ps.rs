//! Ps of a Go program against a count of every moment, forwards and backwards.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{MS, fold, in_ms, over, sample};
use crate::model::analysis::Options;
use crate::model::analysis::tests::sweep::{crowd, moments};
use crate::model::analysis::tests::{Random, analyse, during};
use crate::model::ps::PsTotals;
use crate::model::stall::{MIN_TOLD_NS, Stalls};
use crate::model::summary::samples::{T0, fault, go_process, goroutine, record};
use crate::model::{Fault, PStall, Stall, Stuck};
use crate::model::{Goroutine, Record};

const PROCS: u32 = 2;

/// Threads with odd numbers are of goroutines that hold a P.
fn holds(tid: u32) -> bool {
    tid % 2 == 1
}

fn in_goroutine(mut one: Fault) -> Fault {
    let mut at = goroutine();
    let tid = one.facts.tid;
    (at.p, at.procs) = (holds(tid).then_some(tid), Some(PROCS));
    at.id = Some(u64::from(tid));
    at.in_syscall = !holds(tid);
    one.facts.goroutine = Some(Box::new(at));
    one
}

/// For how many ms how many Ps were stuck, and the times in which all were: (begin, end) in ms.
fn counted(faults: &[Fault]) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut levels, mut full): (Vec<u64>, Vec<(u64, u64)>) = (vec![0; 3], Vec::new());
    for (at, now) in (0_u64..).zip(moments(faults, true)) {
        let held = now.iter().filter(|tid| holds(**tid)).count();
        let ps = held.min(PROCS as usize);
        levels[ps] += 1;
        if ps < PROCS as usize {
            continue;
        }
        match full.last_mut() {
            Some(last) if last.1 == at => last.1 = at + 1,
            _ => full.push((at, at + 1)),
        }
    }
    levels[0] = 0;
    (levels, full)
}

/// Of a stall of threads: whether no P was left all the while and all that were blocked held one, and for how
/// many ms none was.
fn within(stall: &Stall, faults: &[Fault]) -> (bool, u64) {
    let ms = |ns: u64| usize::try_from((ns - T0) / MS).expect("few");
    let all = moments(faults, true);
    let of = &all[ms(stall.begin_ns)..ms(stall.end_ns())];
    let held = |now: &BTreeSet<u32>| now.iter().filter(|tid| holds(**tid)).count();
    let full = of.iter().filter(|now| held(now) >= PROCS as usize).count();
    let only = of.iter().all(|now| held(now) == now.len());
    (only && full == of.len(), full as u64)
}

fn check(ps: &PsTotals, levels: &[u64], full: &[(u64, u64)], what: &str) {
    let found: Vec<u64> = (0..3)
        .map(|level| ps.levels_ns.get(level).map_or(0, |ns| ns / MS))
        .collect();
    assert_eq!(found, levels, "{what}");
    assert_eq!(ps.full_count, full.len() as u64, "{what}");
    let longest = full.iter().map(|one| one.1 - one.0).max();
    let found = ps.longest.map(|one| one.length_ns() / MS);
    assert_eq!(found, longest, "{what}");
    assert_eq!(ps.full_ns, levels[2] * MS, "{what}");
    assert_eq!(ps.unknown_ns, 0, "{what}");
}

/// It is reported stuck in the meantime.
fn goes_on(one: &Fault, at: u64, round: u64) -> Record {
    let one = in_goroutine(in_ms(one.clone()));
    let elapsed_ns = at * MS - (one.measure().begin_ns() - T0);
    Record::Stuck(Arc::new(Stuck {
        facts: one.facts,
        elapsed_ns,
        report: u32::try_from(round).expect("few"),
        io: None,
    }))
}

/// The last report of each, and of stalls of threads.
fn told(records: &[Record]) -> (Vec<(u64, u64)>, Vec<Arc<Stall>>) {
    let mut stalls = Stalls::default();
    let (mut told, mut of_threads) = (Vec::new(), Vec::new());
    let mut take = |stalls: &mut Stalls| {
        for record in stalls.take() {
            match record {
                Record::PStall(stall) if stall.over => told.push(span(&stall)),
                Record::Stall(stall) if stall.over => of_threads.push(stall),
                _ => {}
            }
        }
    };
    stalls.add(&crate::model::summary::samples::start());
    for record in records {
        stalls.add(record);
        take(&mut stalls);
    }
    stalls.finish();
    take(&mut stalls);
    (told, of_threads)
}

fn span(of: &PStall) -> (u64, u64) {
    let ms = |ns: u64| (ns - T0) / MS;
    (ms(of.stall.begin_ns), ms(of.stall.end_ns))
}

#[test]
fn they_are_those_of_a_count_of_every_moment() {
    let mut random = Random(6);
    let (mut all, mut kinds) = (0, [0, 0]);
    for _ in 0..60 {
        let faults = crowd(&mut random, false);
        let (levels, full) = counted(&faults);
        let mut records = Vec::new();
        let mut left = faults.iter().peekable();
        for round in 1..=40 {
            let at = round * 50;
            while let Some(one) = left.next_if(|one| one.end_ns - T0 <= at) {
                records.push(over(in_goroutine(in_ms(one.clone()))));
            }
            let going_on = left
                .clone()
                .filter(|one| one.blocked_ns > 0 && one.measure().begin_ns() - T0 < at);
            records.extend(going_on.map(|one| goes_on(one, at, round)));
            let open = left.clone().map(|one| one.measure().begin_ns() - T0).min();
            let settled = open.unwrap_or(at).min(at);
            records.push(sample(at * MS, settled * MS, 2));
        }
        let (stalls, _) = fold(&records);
        let totals = stalls.totals(fault().facts.pid).expect("followed");
        check(&totals.ps, &levels, &full, "forwards");
        let report = analyse(Options::default(), &records);
        let backwards = report.all.ps.unwrap_or_default();
        check(&backwards, &levels, &full, "backwards");
        assert_eq!(backwards.most_queued, totals.ps.most_queued);
        let long = |one: &&(u64, u64)| (one.1 - one.0) * MS >= MIN_TOLD_NS;
        let long: Vec<_> = full.iter().filter(long).copied().collect();
        let (found, of_threads) = told(&records);
        assert_eq!(found, long);
        all += full.len();
        for stall in of_threads {
            let (whole, part) = within(&stall, &faults);
            assert_eq!(stall.no_p_left_ns, Some(part * MS));
            assert_eq!(stall.is_p_stall, whole, "{stall:?}");
            // Whatever is left out for it was told.
            let ms = |ns: u64| (ns - T0) / MS;
            let (begin, end) = (ms(stall.begin_ns), ms(stall.end_ns()));
            let covers = |one: &(u64, u64)| one.0 <= begin && end <= one.1;
            assert!(!whole || found.iter().any(covers), "{stall:?}: {found:?}");
            kinds[usize::from(whole)] += 1;
        }
    }
    assert!(all > 200, "{all}");
    assert!(kinds.iter().all(|count| *count > 20), "{kinds:?}");
}

#[test]
fn what_threads_hold_that_is_not_known_is_not_zero() {
    let of = |change: &dyn Fn(&mut Fault)| {
        let both = (1..=2).map(|tid| {
            let mut one = during(tid, 0, 40 * MS);
            change(&mut one);
            record(one)
        });
        let mut records: Vec<Record> = vec![go_process()];
        records.extend(both);
        records.push(sample(80 * MS, 80 * MS, 2));
        let (_, of_threads) = told(&records);
        let [stall] = &of_threads[..] else {
            panic!("{of_threads:#?}");
        };
        stall.no_p_left_ns
    };
    let holds = |one: &mut Fault, procs| {
        one.facts.goroutine = Some(Box::new(Goroutine {
            p: Some(one.facts.tid),
            procs,
            ..Goroutine::default()
        }));
    };
    assert_eq!(of(&|one| one.facts.goroutine = None), None);
    assert_eq!(of(&|one| holds(one, None)), None);
    assert_eq!(of(&|one| holds(one, Some(4))), Some(0));
    assert_eq!(of(&|one| holds(one, Some(2))), Some(40 * MS));
}
