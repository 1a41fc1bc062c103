//! All formats, on made-up records: those of the model's tests, many at once, and hostile ones.

mod files;
mod stacks;
mod tables;

use std::sync::Arc;

use super::{Error, Export, Kind, start};
use crate::model::summary::{Summary, samples};
use crate::model::{
    Cause, End, Fault, Goroutine, LossClass, MappingKind, Name, ProcessEnd, ProcessInfo, Record,
    Sleep, Stack, Task, Waker,
};

pub(super) use samples::{T0, record};

/// What an exporter makes of the records.
pub(super) fn run(mut export: Box<dyn Export>, records: &[Record]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    for record in records {
        export.record(record, &mut out)?;
    }
    export.finish(&fold(records), &mut out)?;
    Ok(out)
}

pub(super) fn export(kind: Kind, records: &[Record]) -> Vec<u8> {
    run(start(kind), records).unwrap()
}

fn text(kind: Kind, records: &[Record]) -> String {
    String::from_utf8(export(kind, records)).unwrap()
}

pub(super) fn fold(records: &[Record]) -> Summary {
    let mut summary = Summary::new();
    records.iter().for_each(|record| summary.add(record));
    summary
}

pub(super) fn faults(records: &[Record]) -> impl Iterator<Item = &Fault> {
    records.iter().filter_map(|record| match record {
        Record::Fault(fault) => Some(fault.as_ref()),
        _ => None,
    })
}

/// Numbers without rhyme, the same each time.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// From 0 to `sides - 1`.
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Names that mean something to one format or another.
pub(super) const HOSTILE: [&[u8]; 16] = [
    b"<script>alert(1)</script>",
    b"]]><script>x</script><![CDATA[",
    b"\"quoted\" 'name' &amp; &#x3c;b&gt;",
    b"a;b 12;c",
    b"ends in a space ",
    b" begins with one",
    b"two\nlines 5\nof 6",
    b"\x1b[31m\x07\0\x7f",
    b"=HYPERLINK(\"http://x\")",
    b"@SUM(1)\t+2",
    b"-2+3",
    b"[beyond the limit of 3 different stacks]",
    b"# comment",
    b"\xff\xfe not utf-8 \xc3",
    b"",
    "\u{202e}txet, \u{feff}\u{2028}\u{85}é".as_bytes(),
];

/// A fault in which every name is `name`, and its number tells it from others.
pub(super) fn hostile_fault(number: u32, name: &[u8]) -> Fault {
    let name = Name::from(name);
    let mut fault = samples::fault();
    let facts = &mut fault.facts;
    facts.tid += number;
    facts.thread = name.clone();
    facts.syscall = Some(name.clone());
    facts.place.path = Some(name.clone());
    for (id, stack) in [&mut facts.user_stack, &mut facts.kernel_stack]
        .into_iter()
        .enumerate()
    {
        let mut changed: Stack = stack.as_deref().unwrap().clone();
        changed.id = u64::from(number) << 8 | u64::try_from(id).unwrap();
        for frame in &mut changed.frames {
            frame.function = Some(name.clone());
            frame.module = Some(name.clone());
            frame.file = Some(name.clone());
            frame.build_id = Some(name.clone());
        }
        *stack = Some(Arc::new(changed));
    }
    facts.goroutine = Some(Box::new(Goroutine {
        start: Some(name.clone()),
        created_by: Some(name.clone()),
        ..samples::goroutine()
    }));
    fault.longest_sleep = Some(Sleep {
        after_ns: 50_000,
        blocked_ns: 12_100_000,
        runqueue_ns: 200_000,
        waker: Some(Waker::Task(Task {
            pid: 17,
            tid: 18,
            name: name.clone(),
            syscall: Some(name),
        })),
    });
    fault
}

/// A trace in which everything that can be named has a hostile name.
pub(super) fn hostile() -> Vec<Record> {
    let mut records = vec![samples::start()];
    for (number, name) in (0..).zip(HOSTILE) {
        records.push(Record::Process(Arc::new(ProcessInfo {
            pid: 4700,
            name: Name::from(name),
            exe: Some(Name::from(name)),
        })));
        records.push(record(hostile_fault(number, name)));
    }
    records.push(Record::Lost(crate::model::Lost {
        class: LossClass::Lost,
        reason: "</title><script>\n".into(),
        count: 7,
    }));
    records
}

/// A trace of two processes of three threads each, with `count` faults in the order of their ends.
pub(super) fn many(count: u64, seed: u64) -> Vec<Record> {
    let mut dice = Dice::new(seed);
    let stacks: Vec<Arc<Stack>> = (0..20).map(|id| some_stack(id, &mut dice)).collect();
    let mut now = [T0; 6];
    let mut all = Vec::new();
    for _ in 0..count {
        let thread = dice.roll(6);
        let now = &mut now[usize::try_from(thread).unwrap()];
        // Often at once, often without taking any time.
        *now += [0, 0, 1, 1_000, 70_000][usize::try_from(dice.roll(5)).unwrap()];
        let fault = some_fault(u32::try_from(thread).unwrap(), *now, &stacks, &mut dice);
        *now = fault.end_ns;
        all.push(fault);
    }
    all.sort_by_key(|fault| fault.end_ns);
    let mut records = vec![samples::start()];
    records.push(Record::Process(Arc::new(samples::process())));
    records.extend(all.into_iter().map(record));
    records.push(samples::lost(LossClass::Lost, "ring_full", 3));
    records.push(samples::lost(LossClass::Unreadable, "mappings_late", 2));
    records.push(Record::ProcessEnd(ProcessEnd {
        pid: 5000,
        time_ns: now.into_iter().max().unwrap(),
    }));
    records
}

fn some_stack(id: u64, dice: &mut Dice) -> Arc<Stack> {
    let depth = 1 + dice.roll(12);
    let mut frames: Vec<_> = (0..depth)
        .map(|_| {
            let function = dice.roll(30);
            let name = format!("module::function_{function}");
            let line = u32::try_from(function).unwrap() + 10;
            let mut frame = samples::frame(&name, "src/module.rs", line);
            frame.build_id = Some(Name::from(&b"\x12\xab\xff"[..]));
            frame.inlined = dice.roll(4) == 0;
            frame
        })
        .collect();
    frames.last_mut().unwrap().inlined = false;
    frames.push(samples::user_stack().frames[2].clone());
    frames.push(samples::frame("main", "src/main.rs", 5));
    Arc::new(Stack {
        id,
        frames,
        truncated: id == 7,
    })
}

fn some_fault(thread: u32, begin_ns: u64, stacks: &[Arc<Stack>], dice: &mut Dice) -> Fault {
    let mut fault = samples::fault();
    fault.longest_sleep = None;
    let unit = [0, 1, 1_000, 1_000_000][usize::try_from(dice.roll(4)).unwrap()];
    let mut some = || dice.roll(9) * unit;
    let (before, blocked, runqueue, after, unplaced) = (some(), some(), some(), some(), some());
    fault.blocked_ns = blocked + unplaced;
    fault.runqueue_ns = runqueue;
    fault.on_cpu_ns = before + after;
    fault.duration_ns = fault.blocked_ns + fault.runqueue_ns + fault.on_cpu_ns;
    fault.end_ns = begin_ns + fault.duration_ns;
    fault.major = dice.roll(2) == 0;
    fault.end = [End::Exact, End::Approximate, End::Died][usize::try_from(dice.roll(3)).unwrap()];
    let facts = &mut fault.facts;
    facts.pid = if thread < 3 { 4700 } else { 5000 };
    facts.tid = facts.pid + thread;
    facts.thread = Name::from(format!("worker-{}", thread % 4).as_str());
    facts.began_before_attach = dice.roll(50) == 0;
    facts.begin_ns = (!facts.began_before_attach).then_some(begin_ns);
    facts.cause = (fault.blocked_ns > 0)
        .then_some([Cause::FileRead, Cause::Fuse, Cause::Unknown][usize::from(fault.major)]);
    // The other process is no Go program.
    facts.goroutine = (thread < 3).then(|| {
        Box::new(Goroutine {
            id: Some(begin_ns % 5).filter(|id| *id > 0),
            p: (!begin_ns.is_multiple_of(7)).then_some(thread),
            in_syscall: begin_ns.is_multiple_of(7),
            ..samples::goroutine()
        })
    });
    facts.place.path = Some(Name::from(format!("/data/{}", dice.roll(3)).as_str()));
    facts.place.offset = Some(dice.roll(100) * 4096);
    if dice.roll(6) == 0 {
        facts.place.path = None;
        facts.place.mapping = Some(MappingKind::Anon);
    }
    let stack = usize::try_from(dice.roll(25)).unwrap();
    facts.user_stack = stacks.get(stack).cloned();
    let waker = Waker::Task(Task {
        pid: u32::try_from(dice.roll(2)).unwrap() * 4700,
        tid: 4700,
        name: Name::from("main"),
        syscall: None,
    });
    if blocked + unplaced > 0 && dice.roll(5) > 0 {
        fault.longest_sleep = Some(Sleep {
            after_ns: before,
            blocked_ns: blocked,
            runqueue_ns: runqueue,
            waker: [None, Some(Waker::Interrupt), Some(waker)]
                [usize::try_from(dice.roll(3)).unwrap()]
            .clone(),
        });
    }
    fault
}

#[test]
fn formats_have_names() {
    for kind in Kind::ALL {
        assert_eq!(Kind::from_name(kind.as_str()), Some(kind));
    }
    assert_eq!(Kind::from_name("svg"), None);
    assert!(Kind::Pprof.is_binary() && !Kind::Csv.is_binary());
}

#[test]
fn what_refuses_to_be_written_to_is_told() {
    for kind in Kind::ALL {
        let mut full = &mut [0_u8; 16][..];
        let records = many(50, 1);
        let mut export = start(kind);
        let written = records
            .iter()
            .try_for_each(|record| export.record(record, &mut full))
            .and_then(|()| export.finish(&fold(&records), &mut full));
        assert!(matches!(written, Err(Error::Write(_))), "{kind:?}");
    }
}

#[test]
fn numbers_that_cannot_be_are_no_panic() {
    let mut fault = samples::fault();
    fault.duration_ns = u64::MAX;
    fault.blocked_ns = u64::MAX;
    fault.end_ns = u64::MAX;
    fault.facts.pid = u32::MAX;
    fault.facts.tid = u32::MAX;
    fault.longest_sleep = Some(Sleep {
        after_ns: u64::MAX,
        blocked_ns: u64::MAX,
        runqueue_ns: u64::MAX,
        waker: None,
    });
    let mut other = fault.clone();
    other.facts.cause = Some(Cause::Cow);
    other.end_ns = 0;
    let mut empty = fault.clone();
    empty.facts.user_stack = Some(Arc::new(Stack {
        id: 5,
        frames: vec![crate::model::Frame {
            address: u64::MAX,
            module: Some(Name::from("x")),
            module_offset: Some(u64::MAX),
            inlined: true,
            ..Default::default()
        }],
        truncated: true,
    }));
    let records = [fault, other, empty].map(record);
    for kind in Kind::ALL {
        assert!(!export(kind, &records).is_empty(), "{kind:?}");
    }
}
