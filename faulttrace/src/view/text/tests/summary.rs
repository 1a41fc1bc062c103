//! The summary, as read.

use std::sync::Arc;

use super::{Screen, nth, reported};
use crate::model::summary::samples::{
    accounting, fault, fault_with_io, lost, process, process_end, record, start, stuck,
};
use crate::model::{Cause, End, LossClass, Name, Record, Start, Transport};
use crate::view::text::TextOptions;

/// Some of everything.
fn eventful() -> Screen {
    let mut screen = Screen::new(TextOptions::default());
    let mut waited = fault();
    waited.major = false;
    waited.facts.tid = 4712;
    waited.facts.thread = Name::from("worker-4");
    waited.facts.cause = Some(Cause::ReadWait);
    waited.facts.user_stack = None;
    waited.end = End::Approximate;
    screen.feed(&start());
    for n in 0..12 {
        screen.feed(&record(nth(n)));
    }
    screen.feed(&record(waited));
    screen.feed(&reported(stuck()));
    screen.feed(&lost(LossClass::Lost, "ring_full", 3));
    screen.feed(&lost(LossClass::Unreadable, "user_stack_unreadable", 1));
    screen.feed(&lost(LossClass::Filtered, "filtered_faults", 40));
    screen.feed(&accounting(4700, Some(14)));
    screen.feed(&Record::Transport(Transport {
        emitted: 16,
        received: 13,
        lost: 3,
    }));
    screen
}

#[test]
fn the_summary() {
    let mut screen = eventful();
    screen.text();
    screen.finish();
    insta::assert_snapshot!(screen.text(), @"

    SUMMARY since 14:03:07.123
      server[4700]: 13 faults, 12 of them major
      in all 161 ms: blocked 157 ms, run queue 2.60 ms, on CPU 1.30 ms
      duration of a fault: p50 12.4 ms, p90 12.4 ms, p99 12.4 ms, max 12.4 ms
      1 fault with an approximate end (~)
      not counted, since not over: 1 fault, ≥2.30 s (see below: still stuck)
      maj_flt of the kernel: +14, majors reported: 12. 2 major faults not reported: lost (see below), or taken without an exception (get_user_pages: MADV_POPULATE, mlock, O_DIRECT, process_vm_readv).

         blocked       max   faults   majors  by cause
          145 ms   12.4 ms       12       12  file_read: a read of the file that this fault started
         12.1 ms   12.4 ms        1        0  read_wait: a read of the page that somebody else, or readahead, had started

         blocked       max   faults   majors  by thread
         12.1 ms   12.4 ms        1        0  worker-4[4712]
         12.1 ms   12.4 ms        1        1  worker-3[5000]
         12.1 ms   12.4 ms        1        1  worker-3[5001]
         12.1 ms   12.4 ms        1        1  worker-3[5002]
         12.1 ms   12.4 ms        1        1  worker-3[5003]
         12.1 ms   12.4 ms        1        1  worker-3[5004]
         12.1 ms   12.4 ms        1        1  worker-3[5005]
         12.1 ms   12.4 ms        1        1  worker-3[5006]
         12.1 ms   12.4 ms        1        1  worker-3[5007]
         12.1 ms   12.4 ms        1        1  worker-3[5008]
         36.3 ms   12.4 ms        3        3  3 more

         blocked       max   faults   majors  by file
          157 ms   12.4 ms       13       12  /data/index.bin

         blocked       max   faults   majors  by stack
          145 ms   12.4 ms       12       12  index::page  src/index.rs:42 (inlined)
                                              index::lookup  src/index.rs:77
                                              libstripped.so+0x1234
                                              0xdeadbeef
         12.1 ms   12.4 ms        1        0  stack unknown

    why pages were not in memory
           13     157 ms  had been in memory, and were removed
      removed:
           13     157 ms  evicted under a memory cgroup's limit, by grep of process 5100 (cgroup /batch.slice/grep.service)
      by who brought most into memory while they were there:
           13     157 ms  grep of process 5100
      more memory (for the same cgroup) would have avoided: 50 % with 10.1 MiB, 90 % with 10.1 MiB, 99 % with 10.1 MiB, of 13 refaults that reclaim caused

    still stuck
       ≥2.30 s  fuse       worker-3[4711]   /mnt/slow/blob +0x3f000

    lost
             3  faults for which the ring buffer was full (--ring-size) [ring_full]
    filtered
            40  faults held back by --min-duration or --major-only [filtered_faults]
    unreadable
             1  faults without a user stack: it could not be read [user_stack_unreadable]
    ring buffer: 16 emitted, 13 received, 3 lost
    ");
}

#[test]
fn the_summary_of_several_processes() {
    let mut screen = Screen::new(TextOptions {
        width: Some(80),
        ..TextOptions::default()
    });
    screen.feed(&start());
    screen.feed(&record(fault()));
    let mut other = fault();
    other.facts.pid = 4800;
    other.facts.tid = 4801;
    screen.feed(&record(other));
    screen.feed(&accounting(4700, Some(1)));
    screen.feed(&accounting(4800, None));
    screen.text();
    screen.finish();
    insta::assert_snapshot!(screen.text(), @"

    SUMMARY since 14:03:07.123
      all processes: 2 faults, all major
      in all 24.8 ms: blocked 24.2 ms, run queue 400 µs, on CPU 200 µs
      duration of a fault: p50 12.4 ms, p90 12.4 ms, p99 12.4 ms, max 12.4 ms
      The kernel's own count (maj_flt) could not be read: whether all major faults
        were reported is unknown.

    by process
      server[4700]: 1 fault, major, blocked 12.1 ms, max 12.4 ms; maj_flt +1, all
        accounted for
      pid 4800: 1 fault, major, blocked 12.1 ms, max 12.4 ms; maj_flt unknown

         blocked       max   faults   majors  by cause
         24.2 ms   12.4 ms        2        2  file_read

         blocked       max   faults   majors  by thread
         12.1 ms   12.4 ms        1        1  server[4700] worker-3[4711]
         12.1 ms   12.4 ms        1        1  pid 4800 worker-3[4801]

         blocked       max   faults   majors  by file
         24.2 ms   12.4 ms        2        2  /data/index.bin

         blocked       max   faults   majors  by stack
         12.1 ms   12.4 ms        1        1  server[4700]
                                              index::page  src/index.rs:42 (inlined)
                                              index::lookup  src/index.rs:77
                                              libstripped.so+0x1234
                                              0xdeadbeef
         12.1 ms   12.4 ms        1        1  pid 4800
                                              index::page  src/index.rs:42 (inlined)
                                              index::lookup  src/index.rs:77
                                              libstripped.so+0x1234
                                              0xdeadbeef

    why pages were not in memory
            2    24.2 ms  had been in memory, and were removed
      removed:
            2    24.2 ms  evicted under a memory cgroup's limit, by grep of process
                            5100 (cgroup /batch.slice/grep.service)
      by who brought most into memory while they were there:
            2    24.2 ms  grep of process 5100
      more memory (for the same cgroup) would have avoided: 50 % with 10.1 MiB, 90 %
        with 10.1 MiB, 99 % with 10.1 MiB, of 2 refaults that reclaim caused

    lost: nothing that faulttrace knows of
    ring buffer: counts unknown
    ");
}

#[test]
fn faults_that_were_given_up_are_beside_the_majors() {
    let mut one = fault();
    one.major = false;
    one.facts.given_up = true;
    let text = |faults: &[Record]| {
        let mut screen = Screen::new(TextOptions::default());
        faults.iter().for_each(|one| screen.feed(one));
        screen.feed(&accounting(4700, Some(1)));
        screen.text();
        screen.finish();
        screen.text()
    };
    let usual = text(&[record(fault())]);
    assert!(!usual.contains("given up"), "{usual}");
    let both = text(&[record(fault()), record(one)]);
    let line = both
        .lines()
        .find(|line| line.contains("majors reported: 1."));
    let end = "is accounted for. 1 fault given up before the kernel counted them, for a signal or because they \
               failed: neither major nor minor.";
    assert!(line.is_some_and(|line| line.ends_with(end)), "{both}");
}

#[test]
fn no_faults_is_an_answer() {
    let mut screen = Screen::new(TextOptions::default());
    screen.feed(&start());
    screen.feed(&accounting(4700, Some(0)));
    screen.text();
    screen.finish();
    insta::assert_snapshot!(screen.text(), @"

    SUMMARY since 14:03:07.123
    No faults: no traced thread was seen to finish a page fault that was major or that put it to sleep.
    If threads waited meanwhile, it was hardly in page faults: look at read() and write(), locks, the network, and the CPU.
      server[4700]: 0 faults
      maj_flt of the kernel: +0, majors reported: 0. Every major fault that the kernel counted is accounted for.

    lost: nothing that faulttrace knows of
    ring buffer: counts unknown
    ");
}

#[test]
fn a_remainder_contradicts_the_hint_that_nothing_happened() {
    let mut screen = Screen::new(TextOptions::default());
    screen.feed(&start());
    screen.feed(&accounting(4700, Some(7)));
    screen.text();
    screen.finish();
    let text = screen.text();
    assert!(text.contains("counted major faults all the same"), "{text}");
    assert!(!text.contains("hardly in page faults"), "{text}");
}

#[test]
fn a_name_that_nobody_has_is_not_all_processes() {
    let named = |command: &[&str], targets| {
        let mut screen = Screen::new(TextOptions::default());
        screen.feed(&Record::Start(Arc::new(Start {
            command: command.iter().map(|one| (*one).to_owned()).collect(),
            targets,
            ..Start::default()
        })));
        screen.finish();
        screen.text()
    };
    for command in [
        &["faulttrace", "--comm", "no*"][..],
        &["faulttrace", "--follow", "--comm=no*"],
    ] {
        let text = named(command, vec![]);
        assert!(
            text.contains("tracing processes called no* (none yet)"),
            "{text}"
        );
        assert!(text.contains("no process was seen whose name"), "{text}");
        assert!(!text.contains("hardly in page faults"), "{text}");
        assert!(!named(command, vec![process()]).contains("none yet"));
    }
    for command in [
        &["faulttrace", "--all"][..],
        &["faulttrace", "--", "ps", "--comm", "no*"],
        &["faulttrace", "--comm"],
        &[],
    ] {
        let text = named(command, vec![]);
        assert!(text.contains("tracing all processes"), "{text}");
        assert!(text.contains("hardly in page faults"), "{text}");
    }
}

#[test]
fn faults_that_are_not_over_are_said_not_to_count() {
    let mut screen = Screen::new(TextOptions::default());
    screen.feed(&record(fault()));
    let mut other = stuck();
    other.facts.tid = 1;
    other.elapsed_ns = 1_000_000_000;
    screen.feed(&reported(stuck()));
    screen.feed(&reported(other));
    screen.text();
    screen.finish();
    let text = screen.text();
    let line = "  not counted, since not over: 2 faults, ≥3.30 s (see below: still stuck)\n";
    assert!(text.contains(line), "{text}");
}

#[test]
fn the_end_of_the_only_process_is_told() {
    let mut screen = Screen::new(TextOptions::default());
    screen.feed(&start());
    screen.text();
    screen.feed(&process_end());
    assert_eq!(
        screen.text(),
        "process ended at 14:03:12.123: server[4700]\n"
    );
}

#[test]
fn a_ring_that_does_not_add_up_is_told() {
    let mut screen = Screen::new(TextOptions::default());
    screen.feed(&record(fault()));
    screen.feed(&Record::Transport(Transport {
        emitted: 5,
        received: 3,
        lost: 0,
    }));
    screen.finish();
    assert!(screen.text().contains("NOT add up: 2 unaccounted for"));
}

#[test]
fn the_summary_tells_what_devices_did() {
    let mut screen = Screen::new(TextOptions::default());
    let devices = |screen: &mut Screen| {
        screen.finish();
        let text = screen.text();
        let from = text
            .find("devices, for reads")
            .expect("a section of devices");
        text[from..].lines().take(4).collect::<Vec<_>>().join("\n")
    };
    screen.feed(&record(fault_with_io()));
    insta::assert_snapshot!(devices(&mut screen), @"
    devices, for reads that faults began
      nvme0n1 (259:1): 3 requests for 1 fault that blocked for 12.1 ms, 128 KiB, 1 shared with others
        2 completed within their faults: queued 150 µs in the mean, at most 200 µs; served 10.5 ms in the mean, at most 11.0 ms
        slow: 99 % of the time is the device's own
    ");
}
