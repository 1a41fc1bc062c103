//! Made-up faults like those of a database under load: always the same for the same seed.
//!
//! The mix decides what a trace costs, so it is meant to be like real ones: few threads, dozens of
//! stacks, a handful of files, most faults with one sleep that an interrupt ends.

use std::sync::Arc;

use faulttrace::model::{
    Access, Cause, End, Facts, Fault, Frame, MappingKind, Mode, Name, Place, ProcessInfo, Sleep,
    Stack, Start, Waker,
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
/// Average time between two ends of faults, ns: 5,000 a second.
const BETWEEN_NS: u64 = 200_000;
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
pub(crate) struct MadeUp {
    random: Random,
    now_ns: u64,
    threads: Vec<Name>,
    files: Vec<Name>,
    stacks: Vec<Arc<Stack>>,
    kernel_stacks: Vec<Arc<Stack>>,
    server: Name,
}

impl MadeUp {
    pub(crate) fn new(seed: u64) -> Self {
        let name = |text: String| Name::from(text.as_str());
        Self {
            random: Random(seed),
            now_ns: BEGIN_NS,
            threads: (0..THREADS)
                .map(|at| name(format!("worker-{at}")))
                .collect(),
            files: (0..FILES)
                .map(|at| name(format!("/var/lib/database/data/segment-{at:03}.db")))
                .collect(),
            stacks: (0..STACKS).map(|id| stack(id + 1, "database::")).collect(),
            kernel_stacks: (0..KERNEL_STACKS).map(|id| stack(id + 1000, "")).collect(),
            server: name("server".to_owned()),
        }
    }

    /// What begins their trace.
    pub(crate) fn start(&self) -> Start {
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
    pub(crate) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// The next fault.
    pub(crate) fn fault(&mut self) -> Fault {
        let random = &mut self.random;
        self.now_ns += 1 + random.below(2 * BETWEEN_NS);
        let thread = random.below(u64::from(THREADS));
        let file = random.below(FILES);
        let page = random.below(PAGES);
        let blocked_ns = sleep_ns(random);
        let (before_ns, runqueue_ns) = (2_000 + random.below(8_000), 2_000 + random.below(60_000));
        let on_cpu_ns = before_ns + 1_000 + random.below(4_000);
        let major = random.below(4) > 0;
        // Not every pair occurs: what code touches which file is no accident.
        let stack = (file * 6 + random.below(6)) % STACKS;
        let kernel = random.below(if major { 2 } else { 4 }) + if major { 0 } else { 2 };
        let duration_ns = blocked_ns + runqueue_ns + on_cpu_ns;
        let waker = match random.below(10) {
            0 => Waker::Task {
                pid: 900,
                tid: 901,
                name: self.server.clone(),
            },
            _ => Waker::Interrupt,
        };
        let tid = PID + 1 + u32::try_from(thread).unwrap_or(0);
        let place = Place {
            mapping: Some(MappingKind::File),
            path: pick(&self.files, file),
            deleted: false,
            offset: Some(page * PAGE),
        };
        Fault {
            facts: Facts {
                begin_ns: Some(self.now_ns - duration_ns),
                pid: PID,
                tid,
                thread: pick(&self.threads, thread).unwrap_or_default(),
                mode: Mode::User,
                syscall: None,
                access: Some(Access::Read),
                address: Some(
                    0x7f00_0000_0000 + file * PAGES * PAGE + page * PAGE + random.below(PAGE),
                ),
                place,
                cause: Some(if major {
                    Cause::FileRead
                } else {
                    Cause::ReadWait
                }),
                began_before_attach: false,
                user_stack: pick(&self.stacks, stack),
                kernel_stack: pick(&self.kernel_stacks, kernel),
            },
            major,
            end_ns: self.now_ns,
            duration_ns,
            blocked_ns,
            runqueue_ns,
            on_cpu_ns,
            switches: 1,
            end: End::Exact,
            longest_sleep: Some(Sleep {
                after_ns: before_ns,
                blocked_ns,
                runqueue_ns,
                waker: Some(waker),
            }),
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
