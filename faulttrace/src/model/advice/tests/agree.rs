//! No two pieces contradict each other, whatever the trace; and gains are no promises.

use std::collections::HashMap;

use super::*;
use crate::model::advice::{
    About, Condition, Direction, Evidence, Findings, Gain, How, Unit, settle,
};
use crate::model::analysis::Analysis;
use crate::model::analysis::tests::site;
use crate::model::summary::FileKey;

const PATHS: [&str; 3] = ["/a", "/b", "/c"];
const CAUSES: [Cause; 8] = [
    Cause::FileRead,
    Cause::FileRead,
    Cause::ReadWait,
    Cause::Fuse,
    Cause::Writeback,
    Cause::SwapIn,
    Cause::MmapLock,
    Cause::DirectReclaim,
];

/// As [`advised`], for many faults of few sites.
fn quickly(mut faults: Vec<Fault>) -> Advised {
    faults.sort_by_key(|one| one.end_ns);
    let mut analysis = Analysis::new(Options::default());
    let mut sites = HashMap::new();
    for one in &faults {
        let next = sites.len() as u64;
        sites
            .entry(key(one))
            .or_insert_with(|| (next, Arc::new(site(one))));
    }
    sites
        .values()
        .for_each(|(_, site)| analysis.expect_site(site));
    for one in faults.iter().rev() {
        let (id, site) = &sites[&key(one)];
        analysis.fault(*id, site, &one.measure());
    }
    analysis.finish().advice.unwrap()
}

/// What [`stretch`] makes differ.
fn key(fault: &Fault) -> impl Eq + std::hash::Hash + use<> {
    let facts = &fault.facts;
    let frames = facts.kernel_stack.as_ref().map(|stack| stack.frames.len());
    let file = (facts.place.path.clone(), facts.place.mapping);
    (file, frames, facts.tid, facts.cause, fault.major)
}

/// A stretch of a trace in which one thread goes its way through one file.
fn stretch(random: &mut Random, begin: u64, faults: &mut Vec<Fault>) -> u64 {
    let path = PATHS[usize::try_from(random.below(3)).unwrap()];
    let mapping = match random.below(3) {
        0 => MappingKind::Exe,
        _ => MappingKind::File,
    };
    let cause = CAUSES[usize::try_from(random.below(8)).unwrap()];
    let of = if random.below(2) == 0 {
        single()
    } else {
        ahead()
    };
    let (way, range) = (random.below(4), 1 << (5 + random.below(20)));
    let count = 20 + random.below(120);
    let tid = u32::try_from(random.below(3)).unwrap() + 1;
    let first = random.below(range);
    for n in 0..count {
        let page = match way {
            0 => first + n,
            1 => first + n * 32,
            2 => n % 20,
            _ => random.below(range),
        };
        let mut one = on(read(begin + n, page, Arc::clone(&of)), path, mapping);
        one.facts.tid = tid;
        one.facts.cause = Some(cause);
        one.major = cause == Cause::FileRead;
        faults.push(one);
    }
    // Sometimes at the same time as the next.
    begin + count * random.below(2)
}

fn path(one: &Advice) -> Option<&Name> {
    match &one.about {
        About::File { file, .. } => file.path.as_ref(),
        _ => None,
    }
}

/// What must hold of every list.
fn check(all: &Advised, blocked_ns: u64, seed: u64) {
    let any = |action| all.given.iter().any(|one| has(one, action));
    let up_and_down = any(Action::RaiseReadAhead) && any(Action::LowerReadAhead);
    assert!(!up_and_down, "{seed}: {all:#?}");
    let again: Vec<_> = all
        .given
        .iter()
        .filter(|one| one.rule == Rule::ReadAgain)
        .map(path)
        .collect();
    assert!(
        again.is_empty() || !any(Action::LowerSwappiness),
        "{seed}: {all:#?}"
    );
    let mut alone: Vec<&Advice> = Vec::new();
    let mut sum_ns = 0;
    for (at, one) in all.given.iter().enumerate() {
        let direction = one.rule.direction();
        for other in &all.given {
            let one_way = direction.is_none()
                || other.rule.direction().is_none()
                || direction == other.rule.direction();
            assert!(path(one) != path(other) || one_way, "{seed}: {all:#?}");
        }
        if again.contains(&path(one)) {
            let gone = has(one, Action::MadvSequential);
            assert!(!gone, "{seed}: {all:#?}");
        }
        let gain_ns = one.gain.at_most_ns.unwrap_or(0);
        assert!(gain_ns <= one.blocked_ns && one.blocked_ns <= blocked_ns);
        assert!(!one.evidence.is_empty() && !one.actions.is_empty());
        for other in &one.overlaps {
            assert!(all.given[*other].overlaps.contains(&at), "{seed}: {all:#?}");
        }
        if !one
            .overlaps
            .iter()
            .any(|other| *other < at && alone.contains(&&all.given[*other]))
        {
            alone.push(one);
            sum_ns += gain_ns;
        }
    }
    assert!(
        sum_ns <= blocked_ns,
        "{seed}: {sum_ns} of {blocked_ns}: {all:#?}"
    );
}

#[test]
fn no_trace_gets_advice_that_contradicts_itself() {
    let mut seen = std::collections::BTreeMap::new();
    for seed in 1..=400 {
        let mut random = Random(seed * 7919);
        let mut faults = Vec::new();
        let mut begin = 0;
        for _ in 0..=random.below(6) {
            begin = stretch(&mut random, begin, &mut faults);
        }
        let blocked_ns = faults.iter().map(|one| one.blocked_ns).sum();
        let all = quickly(faults);
        check(&all, blocked_ns, seed);
        for one in &all.given {
            *seen.entry(one.rule).or_insert(0) += 1;
        }
    }
    // Or it would have tested nothing.
    for rule in [
        Rule::ReadaheadOff,
        Rule::ReadaheadLate,
        Rule::Prefetch,
        Rule::RandomAccess,
        Rule::ReadAgain,
        Rule::FuseServer,
        Rule::MmapLock,
        Rule::BlockedTogether,
    ] {
        assert!(seen.contains_key(&rule), "{rule:?} never came: {seen:?}");
    }
}

/// A piece as a rule may make it, with every action that there is.
fn piece(rule: Rule, path: &str, gain_ns: u64) -> Advice {
    let file = FileKey {
        path: Some(Name::from(path)),
        mapping: Some(MappingKind::File),
        deleted: false,
    };
    let bytes = PAGE;
    Advice {
        rule,
        about: About::File {
            file,
            pids: vec![1],
            processes: 1,
        },
        faults: 100,
        blocked_ns: 1_000 * MS,
        gain: Gain {
            at_most_ns: Some(gain_ns),
            unit: Unit::Blocked,
            how: How::All,
        },
        evidence: vec![Evidence::Waits {
            faults: 100,
            max_ns: MS,
        }],
        only_if: Some(Condition::NotOnPurpose),
        actions: match rule.direction() {
            Some(Direction::Ahead) => vec![
                Action::MadvSequential,
                Action::MadvPopulateRead { bytes },
                Action::MadvWillneed { bytes },
                Action::RaiseReadAhead,
            ],
            Some(Direction::Random) => vec![Action::MadvRandom, Action::LowerReadAhead],
            None => vec![Action::MoreMemory, Action::LowerSwappiness],
        },
        overlaps: Vec::new(),
    }
}

#[test]
fn every_pair_of_rules_is_made_to_agree() {
    let findings = Findings {
        faults: 1_000,
        blocked_ns: 4_000 * MS,
        ..Findings::default()
    };
    for first in Rule::ALL {
        for second in Rule::ALL {
            for (path, gain_ns) in [("/a", 900 * MS), ("/a", 100 * MS), ("/b", 900 * MS)] {
                let both = vec![piece(*first, "/a", 500 * MS), piece(*second, path, gain_ns)];
                let all = settle::settle(&findings, both);
                check(&all, findings.blocked_ns, 0);
                let larger = all.given.iter().map(|one| one.gain.at_most_ns).max();
                // That no P is left says all that there is to say of threads blocked together.
                let covered = match (*first, *second) {
                    (Rule::PsStuck, Rule::BlockedTogether) => path == "/a" && gain_ns <= 1_000 * MS,
                    (Rule::BlockedTogether, Rule::PsStuck) => path == "/a" && gain_ns >= 250 * MS,
                    _ => false,
                };
                let expected = match covered {
                    true if *first == Rule::PsStuck => 500 * MS,
                    true => gain_ns,
                    false => (500 * MS).max(gain_ns),
                };
                assert_eq!(larger, Some(Some(expected)), "the larger stays");
            }
        }
    }
}
