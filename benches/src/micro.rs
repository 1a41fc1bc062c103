//! What userspace does for each fault, step by step. `cargo xtask bench micro` runs it.

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput};
use faulttrace::ingest::{Clock, Decoded, Enricher, Stacks, decode};
use faulttrace::model::analysis::{Analysis, Options};
use faulttrace::model::summary::Summary;
use faulttrace::model::{Fault, Measure, Record, Site};
use faulttrace::probe::RawStack;
use faulttrace::process::kernel::KernelSymbols;
use faulttrace::process::space::Snapshot;
use faulttrace::process::{Captured, FileHint, Labels, maps};
use faulttrace::view::{Json, Text, TextOptions, View};
use faulttrace_benches::made_up::MadeUp;
use faulttrace_ebpf::{FaultEvent, NO_SYSCALL, Waker, flag, kind, waker};

/// Faults of one round.
const FAULTS: usize = 1000;
/// No process of this machine.
const PID: u32 = 0x4000_0000;
/// Mappings of the process: a large one, as databases and Java have.
const MAPPINGS: u64 = 2000;
const MAPPING_BYTES: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Stacks that its threads fault in, and their frames.
const STACKS: u64 = 48;
const FRAMES: u64 = 24;
const KERNEL_BASE: u64 = 0xffff_ffff_8100_0000;
/// Functions of the kernel; a real one has some 150,000.
const KERNEL_FUNCTIONS: u64 = 150_000;

/// Of the mapping with this number.
fn first_address(mapping: u64) -> u64 {
    0x7f00_0000_0000 + mapping * 2 * MAPPING_BYTES
}

fn maps_text() -> String {
    (0..MAPPINGS)
        .map(|at| {
            let start = first_address(at);
            let permissions = if at % 4 == 0 { "r-xp" } else { "r--s" };
            let (end, inode) = (start + MAPPING_BYTES, 100 + at / 4);
            format!("{start:x}-{end:x} {permissions} 00000000 08:01 {inode}                         /var/lib/database/data/segment-{inode:03}.db\n")
        })
        .collect()
}

/// As if it had been read from `/proc`.
fn read_map(_pid: u32) -> io::Result<Snapshot> {
    Ok(Snapshot {
        mappings: maps::parse(maps_text().as_bytes()).0,
        own_pid: 1,
        uid: 0,
        took: Duration::ZERO,
    })
}

fn kernel_symbols() -> KernelSymbols {
    let inside = ["filemap_fault", "handle_mm_fault", "exc_page_fault"];
    let text = (0..KERNEL_FUNCTIONS).map(|at| {
        let name = usize::try_from(at).ok().and_then(|at| inside.get(at));
        let name = name.map_or_else(|| format!("function_{at}"), |name| (*name).to_owned());
        format!("{:x} T {name}\n", KERNEL_BASE + at * 256)
    });
    KernelSymbols::parse(text.collect())
}

fn labels() -> Labels {
    let mut labels = Labels::of_maps(kernel_symbols(), read_map);
    let deadline = Instant::now() + Duration::from_secs(10);
    while labels
        .place(PID, Some(first_address(0)), None)
        .path
        .is_none()
    {
        assert!(Instant::now() < deadline, "the memory map is never there");
    }
    labels
}

/// What the programs would have recorded.
struct Recorded;

impl Stacks for Recorded {
    fn stack(&self, id: u64) -> Option<RawStack> {
        let frames = (0..FRAMES).map(|depth| match id {
            1..=STACKS => first_address(depth / 4 * 4) + id * 64 + depth,
            _ => KERNEL_BASE + (depth + id % 7) * 256 + 8,
        });
        Some(RawStack {
            frames: frames.collect(),
            tgid: PID,
            truncated: false,
            top: 0,
        })
    }

    fn go_labels(&self, _: u64) -> Option<faulttrace_ebpf::goroutine::Labels> {
        None
    }
}

/// A fault as the ring holds it.
fn event(number: u64) -> FaultEvent {
    let mapping = 1 + number * 7 % (MAPPINGS - 1);
    let page = number % (MAPPING_BYTES / PAGE);
    let start_ns = 1_000_000 + number * 200_000;
    let times = (120_000, 9_000);
    FaultEvent {
        kind: kind::FAULT,
        flags: flag::HAS_ADDRESS | flag::HAS_FILE | flag::MAJOR,
        tgid: PID,
        tid: PID + 1 + u32::try_from(number % 16).unwrap_or(0),
        start_ns,
        end_ns: start_ns + 140_000,
        address: first_address(mapping) + page * PAGE + 8,
        blocked_ns: times.0,
        runqueue_ns: times.1,
        user_stack: 1 + number % STACKS,
        stack_top: 0,
        kernel_stack: 1000 + number % 12,
        inode: 100 + mapping / 4,
        page_offset: page,
        longest_sleep_ns: times.0,
        longest_out_ns: start_ns + 4_000,
        longest_runqueue_ns: times.1,
        device: 8 << 20 | 1,
        error: 4,
        switches: 1,
        sleeps: 1,
        syscall: NO_SYSCALL,
        padding: 0,
        longest_waker: Waker {
            kind: waker::INTERRUPT,
            ..Waker::UNKNOWN
        },
        comm: *b"database-worker\0",
    }
}

fn bytes_of(event: &FaultEvent) -> &[u8] {
    // SAFETY: the type is integers without padding between them (its size is asserted where it is
    // defined), so each of its bytes is initialised, and the slice borrows from it.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(event).cast(), size_of::<FaultEvent>()) }
}

fn events() -> Vec<FaultEvent> {
    (0..FAULTS as u64).map(event).collect()
}

fn decoded(event: &FaultEvent) -> FaultEvent {
    match decode(bytes_of(event)) {
        Ok(Decoded::Fault(fault)) => fault,
        _ => panic!("not decoded as what it is"),
    }
}

/// Made-up faults as the views get them.
fn records() -> Vec<Record> {
    let mut source = MadeUp::new(1);
    let start = Record::Start(Arc::new(source.start()));
    let faults = (0..FAULTS).filter_map(|_| source.fault());
    let faults = faults.map(|fault| Record::Fault(Arc::new(fault)));
    [start].into_iter().chain(faults).collect()
}

/// From the ring to records.
fn ingest(criterion: &mut Criterion) -> anyhow::Result<()> {
    let events = events();
    let mut group = criterion.benchmark_group("fault");
    group.throughput(Throughput::Elements(FAULTS as u64));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            events
                .iter()
                .map(decoded)
                .fold(0, |sum, event| sum ^ event.end_ns)
        });
    });
    let mut enricher = Enricher::new(Clock::new()?, labels());
    group.bench_function("decode and name", |bencher| {
        bencher.iter(|| {
            for event in &events {
                black_box(Arc::new(enricher.fault(&decoded(event), &Recorded)));
            }
        });
    });
    let mut labels = labels();
    group.bench_function("maps look-up", |bencher| {
        bencher.iter(|| {
            for event in &events {
                let hint = FileHint {
                    dev: event.device,
                    ino: event.inode,
                    page_offset: event.page_offset * PAGE,
                };
                black_box(labels.place(PID, Some(event.address), Some(hint)));
            }
        });
    });
    let stacks: Vec<RawStack> = (1..=STACKS).filter_map(|id| Recorded.stack(id)).collect();
    group.bench_function("symbol cache", |bencher| {
        bencher.iter(|| {
            for (id, stack) in (1..).zip(&stacks).cycle().take(FAULTS) {
                let captured = Captured {
                    id,
                    frames: &stack.frames,
                    truncated: stack.truncated,
                    top: 0,
                    ask_caller: true,
                };
                black_box(labels.user_stack(PID, captured));
            }
        });
    });
    group.finish();
    Ok(())
}

/// From records to what is shown.
fn views(criterion: &mut Criterion) {
    let records = records();
    let mut group = criterion.benchmark_group("fault");
    group.throughput(Throughput::Elements(FAULTS as u64));
    let mut out = Vec::new();
    group.bench_function("summary", |bencher| {
        let mut summary = Summary::new();
        bencher.iter(|| records.iter().for_each(|record| summary.add(record)));
    });
    group.bench_function("JSON view", |bencher| {
        let mut view = Json::new();
        bencher.iter(|| {
            out.clear();
            let now = Instant::now();
            records
                .iter()
                .for_each(|record| view.record(record, now, &mut out));
            black_box(out.len())
        });
    });
    group.bench_function("text view, flood", |bencher| {
        let mut view = Text::new(TextOptions::default());
        bencher.iter(|| {
            out.clear();
            let now = Instant::now();
            records
                .iter()
                .for_each(|record| view.record(record, now, &mut out));
            view.tick(now, &mut out);
            black_box(out.len())
        });
    });
    let calm = &records[..50];
    group.throughput(Throughput::Elements(49));
    group.bench_function("text view, calm", |bencher| {
        bencher.iter_batched(
            || Text::new(TextOptions::default()),
            |mut view| {
                out.clear();
                let now = Instant::now();
                calm.iter()
                    .for_each(|record| view.record(record, now, &mut out));
                black_box(out.len())
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// A report's fold: newest first, put in order, swept, counted.
fn ordering(criterion: &mut Criterion) {
    let faults: Vec<(u64, Arc<Site>, Measure)> = records()
        .iter()
        .rev()
        .filter_map(|record| match record {
            Record::Fault(fault) => Some((site_id(fault), Arc::new(site(fault)), fault.measure())),
            _ => None,
        })
        .collect();
    let mut group = criterion.benchmark_group("fault");
    group.throughput(Throughput::Elements(FAULTS as u64));
    group.bench_function("ordering and sweep", |bencher| {
        bencher.iter_batched(
            || Analysis::new(Options::default()),
            |mut analysis| {
                for (id, site, measure) in &faults {
                    analysis.fault(*id, site, measure);
                }
                analysis
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn site(fault: &Fault) -> Site {
    let mut facts = fault.facts.clone();
    (facts.begin_ns, facts.address, facts.place.offset) = (None, None, None);
    Site {
        facts,
        major: fault.major,
        end: fault.end,
    }
}

/// Equal for faults with an equal site.
fn site_id(fault: &Fault) -> u64 {
    let facts = &fault.facts;
    let id =
        |stack: &Option<Arc<faulttrace::model::Stack>>| stack.as_ref().map_or(0, |stack| stack.id);
    let file = facts.address.unwrap_or(0) >> 32;
    (u64::from(facts.tid) << 40
        | file << 24
        | id(&facts.user_stack) << 12
        | id(&facts.kernel_stack))
        << 1
        | u64::from(fault.major)
}

/// What is done once for each process, or once.
fn reading(criterion: &mut Criterion) {
    let text = maps_text();
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Elements(MAPPINGS));
    group.bench_function("memory map, by line", |bencher| {
        bencher.iter(|| maps::parse(black_box(text.as_bytes())));
    });
    group.finish();
}

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    ingest(&mut criterion)?;
    views(&mut criterion);
    ordering(&mut criterion);
    reading(&mut criterion);
    criterion.final_summary();
    Ok(())
}
