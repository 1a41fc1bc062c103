//! `--evictions`: how much of what readahead brought in can have been used, against what the kernel says
//! is in the page cache (mincore) and in the page tables of who reads (`/proc/PID/pagemap`).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use faulttrace_tests::harness::Bench;
use faulttrace_tests::harness::disk::{LoopDisk, create, drop_unmapped, evict};
use faulttrace_tests::harness::record::{ReadAhead, Record};
use faulttrace_tests::harness::saved::{report, succeed};
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::tracer::{Trace, Tracer};
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::mem::Mapping;
use serde_json::Value;

/// Pages of the file.
const PAGES: usize = 4096;
/// Pages of a read with readahead: 128 KiB.
const WINDOW: usize = 32;

/// A run, and what the kernel said when all was touched, and when all was dropped that nobody had mapped.
struct Run {
    trace: Trace,
    pid: u32,
    told: ReadAhead,
    /// Pages in the page cache.
    cached: u64,
    /// Of these: in the page tables of the workload.
    mapped: u64,
    /// Pages in the page cache after that.
    kept: u64,
}

fn cached(file: &Path) -> u64 {
    let file = File::open(file).expect("the file");
    let mapping = Mapping::file(&file).expect("mapped");
    mapping.resident().expect("mincore") as u64
}

/// Pages of the file that the process has in its page tables (Documentation/admin-guide/mm/pagemap.rst).
fn mapped(work: &Work) -> u64 {
    let file = File::open(format!("/proc/{}/pagemap", work.pid())).expect("its page map");
    let mut entries = vec![0; PAGES * 8];
    let first = work.ready.places["memory"] / 4096;
    file.read_exact_at(&mut entries, first * 8).expect("read");
    let present = entries.chunks_exact(8).filter(|entry| entry[7] >> 7 == 1);
    present.count() as u64
}

/// Touches pages of a file on this disk.
fn run(disk: &LoopDisk, how: &[&str]) -> Run {
    let file = disk.path().join("data");
    create(&file, PAGES);
    evict(&file);
    assert_eq!(cached(&file), 0, "all of it is cold");
    let path = file.to_str().expect("our own path");
    let mut work = Work::start([&["touch", path, "--sequential"], how].concat());
    let tracer = Tracer::of_with(work.pid(), &["--evictions", "--no-symbols"]);
    assert_ne!(tracer.start.rungs["pages_mapped"], "none");
    work.run();
    let (in_cache, in_tables) = (cached(&file), mapped(&work));
    drop_unmapped(&File::open(&file).expect("the file"));
    let kept = cached(&file);
    let (trace, pid) = (tracer.stop(), work.pid());
    work.exit();
    let mut told = ReadAhead::default();
    for record in &trace.records {
        if let Record::ReadAhead(one) = record
            && one.path.as_deref() == Some(path)
        {
            told.read_pages += one.read_pages;
            told.mapped_pages += one.mapped_pages;
            told.dropped_pages += one.dropped_pages;
            told.unknown_pages += one.unknown_pages;
        }
    }
    eprintln!("{how:?}: {told:?}; cached {in_cache}, mapped {in_tables}, kept {kept}");
    Run {
        trace,
        pid,
        told,
        cached: in_cache,
        mapped: in_tables,
        kept,
    }
}

impl Run {
    /// What was told is what the kernel says.
    fn check(&self) {
        let Run { told, .. } = self;
        let majors = self.trace.summary(self.pid).majors;
        // Whatever is in the page cache and was not read ahead was asked for by a fault of its own.
        let less = |whole: u64, part: u64| {
            let rest = whole.checked_sub(part);
            rest.unwrap_or_else(|| {
                self.trace
                    .fail(&format!("{part} of {whole} pages: {told:?}"))
            })
        };
        let asked = less(self.cached, told.read_pages);
        self.trace.check((1..=majors).contains(&asked), || {
            format!("{asked} pages asked for by {majors} majors")
        });
        assert_eq!(told.unknown_pages, 0, "no huge page, and nothing forgotten");
        // Mapped at most: the page of each read at which to read on is passed over (mm/filemap.c,
        // next_uptodate_folio), and what is locked or not read yet.
        let in_tables = less(self.mapped, asked);
        let most = told.mapped_pages;
        self.trace.check(
            in_tables <= most && (most - in_tables) * 10 <= told.read_pages,
            || format!("{most} mapped at most, {in_tables} in the page tables"),
        );
        // Those were dropped as well.
        let dropped = less(self.cached, self.kept);
        let known = less(dropped, most - in_tables);
        self.trace.check(told.dropped_pages == known, || {
            format!("{} told, {known} dropped", told.dropped_pages)
        });
    }

    fn used_percent(&self) -> u64 {
        self.told.mapped_pages * 100 / self.told.read_pages
    }

    fn saved(&self) -> PathBuf {
        self.trace.saved.as_ref().expect("it was saved").path()
    }
}

fn disk(bench: &Bench) -> LoopDisk {
    LoopDisk::new(bench, 64, WINDOW * 4)
}

#[test]
fn what_is_read_in_order_is_used() {
    let bench = start();
    let disk = disk(&bench);
    let run = run(&disk, &[&format!("--touches={PAGES}")]);
    run.check();
    assert_eq!(run.mapped, PAGES as u64);
    assert_eq!((run.used_percent(), run.told.dropped_pages), (100, 0));
}

/// Touches far from each other.
fn in_vain(disk: &LoopDisk) -> Run {
    let touches = format!("--touches={}", PAGES / WINDOW / 2);
    let stride = format!("--stride={}", WINDOW * 2);
    run(disk, &[&touches, &stride, "--shuffle=3"])
}

#[test]
fn what_is_read_in_vain_is_told() {
    let bench = start();
    let run = in_vain(&disk(&bench));
    run.check();
    let used = run.used_percent();
    assert!(used < 75, "{used} % of it was used at most");
    assert!(run.told.dropped_pages * 4 >= run.told.read_pages);
}

#[test]
fn the_report_adds_up_what_was_read_in_vain() {
    let bench = start();
    let run = in_vain(&disk(&bench));
    let saved = run.saved();
    let found = report(&saved, &[]);
    let file = &found["read_ahead"]["files"][0];
    let number = |name: &str| file[name].as_u64().expect("a number");
    assert_eq!(number("read_pages"), run.told.read_pages);
    assert_eq!(number("mapped_pages"), run.told.mapped_pages);
    assert_eq!(number("dropped_pages"), run.told.dropped_pages);
    let text = succeed(["report".as_ref(), saved.as_os_str()]);
    let used = (run.told.mapped_pages * 100).div_ceil(run.told.read_pages);
    let at_most = format!("at most {:>5} mapped", format!("{used} %"));
    assert!(text.contains(&at_most), "{at_most}: {text}");
    // Of other files nothing is left.
    let none: Value = report(&saved, &["--file=/nowhere"]);
    assert!(none["read_ahead"].is_null(), "{none}");
}
