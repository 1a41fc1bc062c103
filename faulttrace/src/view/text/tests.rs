//! What people read.

mod causes;
mod go;
mod history;
mod hostile;
mod stalls;
mod summary;
mod wakers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;

use super::{Text, TextOptions};
use crate::model::summary::Summary;
use crate::model::summary::samples::{fault, lost, process_end, record, start, stuck};
use crate::model::{
    Access, Cause, End, Fault, LossClass, MappingKind, Mode, Name, ProcessInfo, Record, Stuck,
};
use crate::view::View as _;

/// A view with a clock of its own.
struct Screen {
    view: Text,
    summary: Summary,
    now: Instant,
    out: Vec<u8>,
}

impl Screen {
    fn new(options: TextOptions) -> Screen {
        Screen {
            view: Text::with_zone(options, TimeZone::UTC),
            summary: Summary::new(),
            now: Instant::now(),
            out: Vec::new(),
        }
    }

    fn feed(&mut self, record: &Record) {
        self.summary.add(record);
        self.view.record(record, self.now, &mut self.out);
    }

    fn wait(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.view.tick(self.now, &mut self.out);
    }

    fn finish(&mut self) {
        self.view.finish(&self.summary, &mut self.out);
    }

    /// What was written since the last time.
    fn text(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.out)).unwrap()
    }
}

fn shown(options: TextOptions, records: &[Record]) -> String {
    let mut screen = Screen::new(options);
    for record in records {
        screen.feed(record);
    }
    screen.text()
}

fn plain(records: &[Record]) -> String {
    shown(TextOptions::default(), records)
}

fn reported(stuck: Stuck) -> Record {
    Record::Stuck(Arc::new(stuck))
}

/// The `n`th of many different faults.
fn nth(n: u64) -> Fault {
    let mut one = fault();
    one.facts.tid = 5000 + u32::try_from(n % 30).unwrap();
    one.facts.place.offset = Some(n * 4096);
    one
}

/// How many faults the lines stand for.
fn counted(text: &str) -> u64 {
    let mut sum = 0;
    for line in text.lines() {
        let headline = line.contains(" major ") && line.starts_with("14:03");
        if let Some((_, rest)) = line.split_once('×') {
            let digits = rest.split(' ').next().unwrap();
            sum += digits.parse::<u64>().unwrap();
        } else if headline {
            sum += 1;
        }
    }
    sum
}

#[test]
fn a_fault_with_its_stack() {
    let text = plain(&[start(), record(fault()), record(fault())]);
    insta::assert_snapshot!(text, @"
    faulttrace 0.1.0 on db1, Linux 6.18.0, 2025-07-11, UTC+00:00
    14:03:07.123  tracing server[4700] (/usr/bin/server)

    14:03:07.123   12.4 ms  major file_read  worker-3[4711]   /data/index.bin +0x3f000
        blocked 12.1 ms, run queue 200 µs, on CPU 100 µs
        waited for a read of the file that this fault started
        refault: evicted 2.00 s ago, after 5.00 s in memory, under a memory cgroup's limit, by grep[5101] of process 5100 (cgroup /batch.slice/grep.service) in read(); meanwhile grep of process 5100 brought 1.00 GiB of 1.14 GiB into memory
        write to 0x7f3a2c01f040 by the kernel, in pread64()
        #0  index::page  src/index.rs:42 (inlined)
        #1  index::lookup  src/index.rs:77
        #2  libstripped.so+0x1234
        #3  0xdeadbeef
    14:03:07.123   12.4 ms  major file_read  worker-3[4711]   /data/index.bin +0x3f000
        blocked 12.1 ms, run queue 200 µs, on CPU 100 µs
        waited for a read of the file that this fault started
        refault: evicted 2.00 s ago, after 5.00 s in memory, under a memory cgroup's limit, by grep[5101] of process 5100 (cgroup /batch.slice/grep.service) in read(); meanwhile grep of process 5100 brought 1.00 GiB of 1.14 GiB into memory
        write to 0x7f3a2c01f040 by the kernel, in pread64()
        #0  index::page  src/index.rs:42 (inlined)
        #1  index::lookup  src/index.rs:77
        … same stack as in the entry above
    ");
}

#[test]
fn kernel_stacks_and_processes_when_asked_for() {
    let options = TextOptions {
        kernel_stacks: true,
        multi_process: true,
        ..TextOptions::default()
    };
    let child = Record::Process(Arc::new(ProcessInfo {
        pid: 4800,
        name: Name::from("child"),
        exe: None,
    }));
    let exec = Record::Process(Arc::new(ProcessInfo {
        pid: 4800,
        name: Name::from("sort"),
        exe: Some(Name::from("/usr/bin/sort")),
    }));
    let text = shown(
        options,
        &[start(), child, exec, record(fault()), process_end()],
    );
    insta::assert_snapshot!(text, @"
    faulttrace 0.1.0 on db1, Linux 6.18.0, 2025-07-11, UTC+00:00
    14:03:07.123  tracing server[4700] (/usr/bin/server)

    process seen: child[4800]
    process is now sort[4800] (/usr/bin/sort)
    14:03:07.123   12.4 ms  major file_read  server[4700] worker-3[4711]  /data/index.bin +0x3f000
        blocked 12.1 ms, run queue 200 µs, on CPU 100 µs
        waited for a read of the file that this fault started
        refault: evicted 2.00 s ago, after 5.00 s in memory, under a memory cgroup's limit, by grep[5101] of process 5100 (cgroup /batch.slice/grep.service) in read(); meanwhile grep of process 5100 brought 1.00 GiB of 1.14 GiB into memory
        write to 0x7f3a2c01f040 by the kernel, in pread64()
        #0  index::page  src/index.rs:42 (inlined)
        #1  index::lookup  src/index.rs:77
        #2  libstripped.so+0x1234
        #3  0xdeadbeef
        kernel stack of its longest sleep:
        k#0  io_schedule+0x20
        k#1  folio_wait_bit_common+0x20
        k#2  filemap_fault+0x20
        k#3  handle_mm_fault+0x20
        k#4  asm_exc_page_fault+0x20
        … and callers that could not be captured
    process ended at 14:03:12.123: server[4700]
    ");
}

#[test]
fn what_is_unknown_or_bounded_says_so() {
    let mut before = fault();
    before.facts.begin_ns = None;
    before.facts.began_before_attach = true;
    before.facts.mode = Mode::Gup;
    before.facts.syscall = Some(Name::from("madvise"));
    before.facts.access = None;
    before.facts.address = None;
    before.facts.user_stack = None;
    before.facts.place = crate::model::Place::default();
    before.facts.cause = Some(Cause::Unknown);
    let mut died = fault();
    died.end = End::Died;
    died.major = false;
    died.facts.mode = Mode::User;
    died.facts.place.deleted = true;
    let mut near = fault();
    near.end = End::Approximate;
    near.facts.access = Some(Access::Exec);
    near.facts.syscall = None;
    near.facts.cause = None;
    near.facts.place.mapping = Some(MappingKind::Heap);
    let text = plain(&[record(before), record(died), record(near)]);
    insta::assert_snapshot!(text, @"
    before start  ≥12.4 ms  major unknown    worker-3[4711]   [unknown]
        blocked 12.1 ms, run queue 200 µs, on CPU 100 µs
        began before faulttrace attached: times are lower bounds
        waited for something that the kernel stack does not name
        refault: evicted 2.00 s ago, after 5.00 s in memory, under a memory cgroup's limit, by grep[5101] of process 5100 (cgroup /batch.slice/grep.service) in read(); meanwhile grep of process 5100 brought 1.00 GiB of 1.14 GiB into memory
        access to an unknown address by the kernel, without an exception (gup), in madvise()
        user stack unknown
    14:03:07.123   12.4 ms  minor file_read  worker-3[4711]   /data/index.bin +0x3f000 (deleted)
        blocked 12.1 ms, run queue 200 µs, on CPU 100 µs
        the thread died in this fault
        waited for a read of the file that this fault started
        refault: evicted 2.00 s ago, after 5.00 s in memory, under a memory cgroup's limit, by grep[5101] of process 5100 (cgroup /batch.slice/grep.service) in read(); meanwhile grep of process 5100 brought 1.00 GiB of 1.14 GiB into memory
        write to 0x7f3a2c01f040
        #0  index::page  src/index.rs:42 (inlined)
        #1  index::lookup  src/index.rs:77
        #2  libstripped.so+0x1234
        #3  0xdeadbeef
    14:03:07.123  ~12.4 ms  major no sleep   worker-3[4711]   [heap]
        blocked 12.1 ms, run queue 200 µs, on CPU 100 µs
        end approximate: may lack some µs in the kernel
        did not sleep
        refault: evicted 2.00 s ago, after 5.00 s in memory, under a memory cgroup's limit, by grep[5101] of process 5100 (cgroup /batch.slice/grep.service) in read(); meanwhile grep of process 5100 brought 1.00 GiB of 1.14 GiB into memory
        execution of 0x7f3a2c01f040 by the kernel, system call unknown
        #0  index::page  src/index.rs:42 (inlined)
        #1  index::lookup  src/index.rs:77
        … same stack as in the entry above
    ");
}

#[test]
fn stuck_threads_and_the_end_of_their_fault() {
    let mut again = stuck();
    again.report = 2;
    again.elapsed_ns = 64_000_000_000;
    let mut end = fault();
    end.facts = again.facts.clone();
    end.duration_ns = 75_400_000_000;
    end.blocked_ns = end.duration_ns - 300_000;
    let next = fault();
    let text = plain(&[
        reported(stuck()),
        reported(again),
        record(end),
        record(next),
    ]);
    insta::assert_snapshot!(text, @"
    14:03:07.123    2.30 s  STUCK fuse       worker-3[4711]   /mnt/slow/blob +0x3f000
        waiting for the answer of a FUSE server
        read of 0x7f3a2c01f040
        #0  index::page  src/index.rs:42 (inlined)
        #1  index::lookup  src/index.rs:77
        #2  libstripped.so+0x1234
        #3  0xdeadbeef
    14:03:07.123  1 min 04 s  STUCK fuse       worker-3[4711]   /mnt/slow/blob +0x3f000 (still, report 2)
    14:03:07.123  1 min 15 s  major fuse       worker-3[4711]   /mnt/slow/blob +0x3f000
        blocked 1 min 15 s, run queue 200 µs, on CPU 100 µs
        was stuck (reported 2 times)
        waited for the answer of a FUSE server
        refault: evicted 0 ago, after 5.00 s in memory, under a memory cgroup's limit, by grep[5101] of process 5100 (cgroup /batch.slice/grep.service) in read(); meanwhile grep of process 5100 brought 1.00 GiB of 1.14 GiB into memory
        read of 0x7f3a2c01f040
        #0  index::page  src/index.rs:42 (inlined)
        #1  index::lookup  src/index.rs:77
        … same stack as in the entry above
    14:03:07.123   12.4 ms  major file_read  worker-3[4711]   /data/index.bin +0x3f000
        blocked 12.1 ms, run queue 200 µs, on CPU 100 µs
        waited for a read of the file that this fault started
        refault: evicted 2.00 s ago, after 5.00 s in memory, under a memory cgroup's limit, by grep[5101] of process 5100 (cgroup /batch.slice/grep.service) in read(); meanwhile grep of process 5100 brought 1.00 GiB of 1.14 GiB into memory
        write to 0x7f3a2c01f040 by the kernel, in pread64()
        #0  index::page  src/index.rs:42 (inlined)
        #1  index::lookup  src/index.rs:77
        … same stack as in the entry above
    ");
}

#[test]
fn a_later_fault_is_not_taken_for_the_stuck_one() {
    let mut later = fault();
    later.facts.begin_ns = later.facts.begin_ns.map(|at| at + 10_000_000_000);
    let text = plain(&[reported(stuck()), record(later)]);
    assert!(!text.contains("was stuck"), "{text}");
}

#[test]
fn what_repeats_too_fast_is_folded() {
    let mut screen = Screen::new(TextOptions::default());
    for n in 0..200 {
        let mut one = fault();
        one.facts.place.offset = Some(n * 4096);
        screen.feed(&record(one));
    }
    let at_once = screen.text();
    assert_eq!(counted(&at_once), 50);
    screen.wait(990);
    assert_eq!(screen.text(), "");
    screen.wait(20);
    insta::assert_snapshot!(screen.text(), @"
    14:03:07.123      ×150  major file_read  worker-3[4711]   /data/index.bin +0x32000..0xc7000
        150 faults in all 1.86 s, the longest 12.4 ms
        blocked 1.81 s, run queue 30.0 ms, on CPU 15.0 ms
        waited for a read of the file that this fault started
        the first: write to 0x7f3a2c01f040 by the kernel, in pread64()
        #0  index::page  src/index.rs:42 (inlined)
        #1  index::lookup  src/index.rs:77
        … same stack as in the entry above
    ");
}

#[test]
fn a_flood_stays_readable_and_every_fault_is_counted() {
    let mut screen = Screen::new(TextOptions::default());
    let mut lines = Vec::new();
    let mut counts = 0;
    for n in 0..60_000_u64 {
        let mut one = nth(n);
        one.facts.place.path = Some(Name::from(format!("/data/{}", n % 2900).as_str()));
        screen.feed(&record(one));
        if n % 1000 == 999 {
            screen.wait(50);
        }
        if n % 20_000 == 19_999 {
            let text = screen.text();
            counts += counted(&text);
            lines.push(text.lines().count());
        }
    }
    screen.finish();
    counts += counted(&screen.text());
    assert_eq!(counts, 60_000);
    assert!(lines[0] < 600, "{lines:?}");
    assert!(lines[1..].iter().all(|lines| *lines < 250), "{lines:?}");
}

#[test]
fn only_the_costliest_groups_are_shown() {
    let mut screen = Screen::new(TextOptions::default());
    for n in 0..120 {
        let mut one = nth(n);
        one.facts.cause = Some(Cause::SwapIn);
        one.facts.place = crate::model::Place::default();
        one.facts.place.mapping = Some(MappingKind::Anon);
        one.facts.tid = 100 + u32::try_from(n % 40).unwrap();
        one.blocked_ns += n * 1000;
        screen.feed(&record(one));
    }
    screen.text();
    screen.wait(1000);
    let text = screen.text();
    let lines: Vec<_> = text.lines().collect();
    let shown = [&lines[..6], &lines[lines.len() - 3..]].concat();
    insta::assert_snapshot!(shown.join("\n"), @"
    14:03:07.123        ×2  major swap_in    worker-3[139]    [anon]
        2 faults in all 24.8 ms, the longest 12.4 ms
        blocked 24.4 ms, run queue 400 µs, on CPU 200 µs
        waited for a page from the swap device
        the first: write to 0x7f3a2c01f040 by the kernel, in pread64()
        #0  index::page  src/index.rs:42 (inlined)
    and                ×30  more faults, all major, of 20 other threads, files or stacks
        in all 372 ms, the longest 12.4 ms
        blocked 365 ms, run queue 6.00 ms, on CPU 3.00 ms
    ");
}

#[test]
fn stuck_ones_and_deaths_are_never_folded() {
    let mut screen = Screen::new(TextOptions::default());
    for n in 0..100 {
        screen.feed(&record(nth(n)));
    }
    screen.text();
    screen.feed(&reported(stuck()));
    assert!(screen.text().contains("STUCK"));
    screen.feed(&record(fault()));
    assert!(screen.text().contains("was stuck"));
    let mut died = fault();
    died.end = End::Died;
    screen.feed(&record(died));
    assert!(screen.text().contains("the thread died in this fault"));
}

#[test]
fn losses_are_said_once_a_second() {
    let mut screen = Screen::new(TextOptions::default());
    for _ in 0..10 {
        screen.feed(&lost(LossClass::Lost, "ring_full", 5));
        screen.feed(&lost(LossClass::Filtered, "filtered_faults", 7));
        screen.wait(50);
    }
    assert_eq!(screen.text().lines().count(), 1);
    screen.wait(600);
    insta::assert_snapshot!(screen.text(), @"LOST  45 faults for which the ring buffer was full (--ring-size) [ring_full]");
    screen.wait(2000);
    assert_eq!(screen.text(), "");
}

#[test]
fn colour_only_if_asked_for() {
    let records = [reported(stuck()), record(fault())];
    let colored = shown(
        TextOptions {
            color: true,
            ..TextOptions::default()
        },
        &records,
    );
    assert!(colored.contains("\x1b[1;31mSTUCK\x1b[0m"));
    assert!(!plain(&records).contains('\x1b'));
}

#[test]
fn durations_have_three_digits() {
    let show = super::words::duration;
    let cases = [
        (0, "0"),
        (999, "999 ns"),
        (1_000, "1.00 µs"),
        (12_345, "12.3 µs"),
        (999_499, "999 µs"),
        (999_999, "1.00 ms"),
        (12_400_000, "12.4 ms"),
        (999_999_999, "1.00 s"),
        (59_900_000_000, "59.9 s"),
        (59_999_999_999, "1 min 00 s"),
        (123_000_000_000, "2 min 03 s"),
        (7_500_000_000_000, "2 h 05 min"),
        (200_000_000_000_000, "2 d 07 h"),
    ];
    for (ns, text) in cases {
        assert_eq!(show(ns), text);
    }
    assert!(!show(u64::MAX).is_empty());
}
