//! Made-up faults like those of a database under load: always the same for the same seed.
//!
//! The mix decides what a trace costs, so it is meant to be like real ones: few threads, dozens of
//! stacks, a handful of files, most faults with one sleep that an interrupt ends.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use faulttrace::model::{
    Access, Cause, End, Facts, Fault, Frame, MappingKind, Mode, Name, Place, ProcessInfo, Sleep,
    Stack, Start, Task, Waker,
};

/// Threads that fault.
const THREADS: u32 = 16;
/// Files they map, of 4 GiB each.
const FILES: u64 = 8;
/// Stacks they fault in.
const STACKS: u64 = 48;
/// Kernel stacks they sleep in.
const KERNEL_STACKS: u64 = 12;
/// Frames of a stack.
const FRAMES: u64 = 24;
/// Pages of a file.
const PAGES: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Average time of a thread between two faults, ns: all together make some 5,000 a second.
const BETWEEN_NS: u64 = 1_400_000;
const PID: u32 = 4700;

/// 2025-07-11 14:03:07.123 UTC.
const BEGIN_NS: u64 = 1_752_242_587_123_000_000;

/// Numbers without pattern, by a seed (splitmix64, Steele et al. 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The source of faults.
pub struct MadeUp {
    random: Random,
    now_ns: u64,
    /// When each thread's next fault ends, and how long it sleeps in it: a thread is in one at a time.
    next: BinaryHeap<Reverse<(u64, u32, Times)>>,
    threads: Vec<Name>,
    files: Vec<Name>,
    stacks: Vec<Arc<Stack>>,
    kernel_stacks: Vec<Arc<Stack>>,
    server: Name,
}

/// The parts of a fault, ns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Times {
    before: u64,
    blocked: u64,
    runqueue: u64,
    after: u64,
}

impl Times {
    fn new(random: &mut Random) -> Self {
        Self {
            before: 2_000 + random.below(8_000),
            blocked: sleep_ns(random),
            runqueue: 2_000 + random.below(60_000),
            after: 1_000 + random.below(4_000),
        }
    }

    fn sum(self) -> u64 {
        self.before + self.blocked + self.runqueue + self.after
    }
}

impl MadeUp {
    /// Equal seeds make equal faults.
    pub fn new(seed: u64) -> Self {
        let name = |text: String| Name::from(text.as_str());
        let mut made_up = Self {
            random: Random(seed),
            now_ns: BEGIN_NS,
            next: BinaryHeap::new(),
            threads: (0..THREADS)
                .map(|at| name(format!("worker-{at}")))
                .collect(),
            files: (0..FILES)
                .map(|at| name(format!("/var/lib/database/data/segment-{at:03}.db")))
                .collect(),
            stacks: (0..STACKS).map(|id| stack(id + 1, "database::")).collect(),
            kernel_stacks: (0..KERNEL_STACKS).map(|id| stack(id + 1000, "")).collect(),
            server: name("server".to_owned()),
        };
        for thread in 0..THREADS {
            made_up.plan(BEGIN_NS, thread);
        }
        made_up
    }

    /// What begins their trace.
    pub fn start(&self) -> Start {
        Start {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: "made-up".to_owned(),
            kernel: "6.18.0".to_owned(),
            command: vec!["faulttrace".to_owned(), "--pid".to_owned(), PID.to_string()],
            targets: vec![ProcessInfo {
                pid: PID,
                name: Name::from("database"),
                exe: Some(Name::from("/usr/bin/database")),
            }],
            rungs: Vec::new(),
            time_ns: BEGIN_NS,
        }
    }

    /// Unix time of the last one's end, ns.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Decides when a thread that is free from `free_ns` on has its next fault.
    fn plan(&mut self, free_ns: u64, thread: u32) {
        let times = Times::new(&mut self.random);
        let begin_ns = free_ns + 1 + self.random.below(2 * BETWEEN_NS);
        self.next
            .push(Reverse((begin_ns + times.sum(), thread, times)));
    }

    /// The next fault to end.
    pub fn fault(&mut self) -> Option<Fault> {
        let Reverse((end_ns, thread, times)) = self.next.pop()?;
        self.now_ns = end_ns;
        self.plan(end_ns, thread);
        let major = self.random.below(4) > 0;
        let waker = match self.random.below(10) {
            0 => Waker::Task(Task {
                pid: 900,
                tid: 901,
                name: self.server.clone(),
                syscall: None,
            }),
            _ => Waker::Interrupt,
        };
        Some(Fault {
            facts: self.facts(end_ns - times.sum(), thread, major),
            major,
            end_ns,
            duration_ns: times.sum(),
            blocked_ns: times.blocked,
            runqueue_ns: times.runqueue,
            on_cpu_ns: times.before + times.after,
            switches: 1,
            end: End::Exact,
            longest_sleep: Some(Sleep {
                after_ns: times.before,
                blocked_ns: times.blocked,
                runqueue_ns: times.runqueue,
                waker: Some(waker),
            }),
            history: None,
            io: None,
        })
    }

    fn facts(&mut self, begin_ns: u64, thread: u32, major: bool) -> Facts {
        let random = &mut self.random;
        let (file, page) = (random.below(FILES), random.below(PAGES));
        // Not every pair occurs: what code touches which file is no accident.
        let stack = (file * 6 + random.below(6)) % STACKS;
        let kernel = random.below(2) + if major { 0 } else { 2 };
        Facts {
            begin_ns: Some(begin_ns),
            pid: PID,
            tid: PID + 1 + thread,
            thread: pick(&self.threads, thread.into()).unwrap_or_default(),
            mode: Mode::User,
            syscall: None,
            access: Some(Access::Read),
            address: Some(0x7f00_0000_0000 + (file * PAGES + page) * PAGE + random.below(PAGE)),
            place: Place {
                mapping: Some(MappingKind::File),
                path: pick(&self.files, file),
                deleted: false,
                offset: Some(page * PAGE),
            },
            cause: Some(if major {
                Cause::FileRead
            } else {
                Cause::ReadWait
            }),
            began_before_attach: false,
            begin_approximate: false,
            given_up: false,
            user_stack: pick(&self.stacks, stack),
            kernel_stack: pick(&self.kernel_stacks, kernel),
            goroutine: None,
        }
    }
}

/// Most sleeps take a few hundred µs, some many ms.
fn sleep_ns(random: &mut Random) -> u64 {
    let scale = match random.below(100) {
        0..70 => 200_000,
        70..95 => 2_000_000,
        95..99 => 15_000_000,
        _ => 100_000_000,
    };
    scale / 4 + random.below(scale)
}

fn pick<T: Clone>(all: &[T], at: u64) -> Option<T> {
    all.get(usize::try_from(at).ok()?).cloned()
}

fn stack(id: u64, prefix: &str) -> Arc<Stack> {
    let frame = |depth: u64| {
        // The outer frames are shared, as real ones are.
        let code = if depth < FRAMES / 3 {
            id * FRAMES + depth
        } else {
            depth
        };
        Frame {
            address: 0x5500_0000_0000 + code * 64,
            function: Some(Name::from(format!("{prefix}function_{code}").as_str())),
            offset: Some(code % 50),
            module: Some(Name::from("/usr/bin/database")),
            module_offset: Some(code * 64),
            build_id: Some(Name::from(&[7_u8; 20][..])),
            file: Some(Name::from(format!("src/part_{}.rs", code % 20).as_str())),
            line: u32::try_from(code % 1000 + 1).ok(),
            inlined: false,
        }
    };
    Arc::new(Stack {
        id,
        frames: (0..FRAMES).map(frame).collect(),
        truncated: false,
    })
}
