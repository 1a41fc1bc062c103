//! Made-up reports for the tests of both forms.

use std::sync::Arc;

use crate::model::analysis::tests::{Random, analyse, during, records};
use crate::model::analysis::{Options, Report, Wall};
use crate::model::summary::samples::{
    T0, accounting, fault, goroutine, lost, sample, start, stuck,
};
use crate::model::{
    Cause, End, Fault, Goroutine, LossClass, Name, ProcessInfo, Record, Stack, Transport,
};

const MS: u64 = 1_000_000;
const PAGE: u64 = 4096;

fn options() -> Options {
    Options {
        top: 3,
        wall: Some(Wall {
            begin_ns: T0,
            end_ns: T0 + 1_000 * MS,
        }),
        description: Some("only those of 1 ms and more".to_owned()),
        ..Options::default()
    }
}

/// Of a thread that reads in sequence, three that do not, and one on another file.
fn faults() -> Vec<Fault> {
    let mut random = Random(17);
    let mut all = Vec::new();
    for n in 0..20_u64 {
        for tid in 1..=4_u32 {
            let begin = n * 40 * MS + u64::from(tid) * MS;
            let mut one = during(tid, begin, begin + (5 + random.below(30)) * MS);
            one.facts.place.offset = Some(match tid {
                1 => n * PAGE,
                _ => random.below(100_000) * PAGE,
            });
            all.push(one);
        }
        if n % 5 == 0 {
            let mut one = during(5, n * 40 * MS, n * 40 * MS + 80 * MS);
            one.facts.place.path = Some(Name::from("/mnt/slow/blob"));
            one.facts.place.offset = Some(0x4000);
            one.facts.cause = Some(Cause::Fuse);
            one.facts.user_stack = None;
            one.major = false;
            one.end = End::Approximate;
            all.push(one);
        }
    }
    all.sort_by_key(|one| one.end_ns);
    all
}

fn rest() -> Vec<Record> {
    vec![
        Record::Stuck(Arc::new(stuck())),
        lost(LossClass::Lost, "ring_full", 3),
        lost(LossClass::Unreadable, "user_stack_unreadable", 1),
        accounting(4700, Some(84)),
        Record::Transport(Transport {
            emitted: 87,
            received: 84,
            lost: 3,
        }),
    ]
}

/// Some of everything.
pub(super) fn eventful() -> Report {
    let counted = |after_ms: u64| {
        let mut one = sample(4700, after_ms * MS);
        one.stall_threads = 3;
        Record::Sample(Arc::new(one))
    };
    let mut all = vec![start(), counted(0)];
    all.extend(records(faults()));
    all.extend([counted(500), counted(900)]);
    all.extend(rest());
    analyse(options(), &all)
}

/// Two processes.
pub(super) fn several() -> Report {
    let mut all = vec![start()];
    all.extend(records(faults().into_iter().map(|mut one| {
        if one.facts.tid > 3 {
            one.facts.pid = 4800;
        }
        one
    })));
    all.extend(rest());
    analyse(options(), &all)
}

/// Names that want to be more than names, and numbers that want to be more than sums.
pub(super) fn hostile() -> Report {
    let evil = Name::from(&b"\x1b[2J\r\n14:03:07.123 \xff\xe2\x80\xae"[..]);
    let mut all = vec![
        start(),
        Record::Process(Arc::new(ProcessInfo {
            pid: 4700,
            name: evil.clone(),
            exe: Some(evil.clone()),
        })),
    ];
    for tid in 0..20_u32 {
        let mut one = fault();
        one.facts.pid = 4700 + tid % 2;
        one.facts.tid = u32::MAX - tid;
        one.facts.thread = evil.clone();
        one.facts.place.path = Some(evil.clone());
        one.facts.place.offset = Some(u64::MAX - u64::from(tid) * (1 << 58));
        let mut stack = Stack::clone(one.facts.user_stack.as_ref().unwrap());
        for frame in &mut stack.frames {
            frame.function = frame.function.as_ref().map(|_| evil.clone());
            frame.module = Some(evil.clone());
            frame.file = frame.file.as_ref().map(|_| evil.clone());
        }
        stack.frames[0].function = Some(Name::from("x".repeat(1 << 20).as_str()));
        one.facts.user_stack = Some(Arc::new(stack));
        one.end_ns = u64::MAX;
        one.duration_ns = u64::MAX - u64::from(tid);
        one.blocked_ns = one.duration_ns;
        all.extend(records([one]));
    }
    let filters = String::from_utf8_lossy(evil.as_bytes()).into_owned();
    analyse(
        Options {
            description: Some(filters),
            ..Options::default()
        },
        &all,
    )
}

/// So many goroutines, each with so many faults through its part of one file in order, on threads in turn.
pub(in crate::view::report) fn by_goroutines(goroutines: u64, faults: u64) -> Vec<Fault> {
    let all = (0..goroutines * faults).map(|n| {
        let mut one = during(u32::from(n % 3 == 0) + 1, n * 100, n * 100 + 50);
        let (which, page) = (n % goroutines, n / goroutines);
        one.facts.place.offset = Some((which * 100_000 + page) * PAGE);
        one.facts.goroutine = Some(Box::new(Goroutine {
            id: Some(18 + which),
            ..goroutine()
        }));
        one
    });
    all.collect()
}
