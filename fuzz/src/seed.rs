//! A small trace with a record of each kind.

use std::path::Path;
use std::sync::Arc;

use faulttrace::model::{
    Access, Accounting, AheadPages, CacheFill, Cause, Device, End, Facts, Fault, Filled, FilledBy,
    Frame, History, How, Io, LossClass, Lost, MappingKind, Mode, Name, Past, Place, Pressure,
    PressureOf, ProcessCounters, ProcessEnd, ProcessInfo, ReadAhead, Record, Removal, Sample,
    Served, Sleep, Stack, Start, Stuck, SystemCounters, Task, Transport, Waits, Waker,
};
use faulttrace::trace::{Options, Writer};

const BEGIN_NS: u64 = 1_752_242_587_000_000_000;

/// Writes it, with small pages: most of a small database is empty space.
pub fn seed(path: &Path) {
    let options = Options {
        force: true,
        ..Options::default()
    };
    let mut writer = Writer::create(path, &options).expect("created");
    let process = ProcessInfo {
        pid: 7,
        name: Name::from("db"),
        exe: Some(Name::from("/bin/db")),
    };
    let start = Start {
        version: "0".into(),
        host: "h".into(),
        kernel: "6".into(),
        command: vec!["faulttrace".into()],
        targets: vec![process.clone()],
        rungs: vec![("job".into(), "rung".into())],
        time_ns: BEGIN_NS,
    };
    writer.begin(&start).expect("begun");
    let mut records = vec![Record::Process(Arc::new(process))];
    records.extend((0..6).map(|number| Record::Fault(Arc::new(fault(number)))));
    records.extend([
        Record::Stuck(Arc::new(Stuck {
            facts: facts(1),
            elapsed_ns: 1_000_000,
            report: 1,
            io: None,
        })),
        Record::Lost(Lost {
            class: LossClass::Lost,
            reason: "ring_full".into(),
            count: 2,
        }),
        Record::ProcessEnd(ProcessEnd {
            pid: 7,
            time_ns: BEGIN_NS + 9_000_000,
        }),
        Record::Accounting(Accounting {
            pid: 7,
            maj_flt_delta: Some(3),
        }),
        Record::Sample(Arc::new(sample())),
        Record::CacheFill(Arc::new(CacheFill {
            begin_ns: BEGIN_NS,
            end_ns: BEGIN_NS + 500_000,
            added_pages: 9,
            removed_pages: 2,
            reclaimed_pages: 1,
            by: vec![FilledBy {
                pid: 8,
                name: Name::from("grep"),
                pages: 9,
            }],
        })),
        Record::ReadAhead(Arc::new(ReadAhead {
            begin_ns: BEGIN_NS,
            end_ns: BEGIN_NS + 5_000_000,
            path: Some(Name::from("/db/a")),
            pages: AheadPages {
                read: 62,
                mapped: 30,
                dropped: 16,
                unknown: 1,
            },
        })),
        Record::Transport(Transport {
            emitted: 6,
            received: 6,
            lost: 0,
        }),
    ]);
    writer
        .write(&records, BEGIN_NS + 10_000_000)
        .expect("written");
    writer.finish(BEGIN_NS + 10_000_000).expect("finished");
    let db = rusqlite::Connection::open(path).expect("opened");
    db.execute_batch("PRAGMA page_size = 512; VACUUM;")
        .expect("packed");
}

fn sample() -> Sample {
    let waits = Waits {
        some_ns: 5,
        full_ns: 4,
    };
    Sample {
        pid: 7,
        time_ns: BEGIN_NS + 9_500_000,
        settled_ns: BEGIN_NS + 9_000_000,
        stall_threads: 2,
        in_fault: 1,
        process: ProcessCounters {
            threads: Some(2),
            user_ns: Some(10_000_000),
            ..ProcessCounters::default()
        },
        system: SystemCounters {
            iowait_ns: Some(20_000_000),
            run_queue: None,
        },
        pressure: Some(Pressure {
            of: PressureOf::System,
            memory: None,
            io: Some(waits),
        }),
    }
}

fn facts(number: u64) -> Facts {
    let file = !number.is_multiple_of(3);
    Facts {
        begin_ns: Some(BEGIN_NS + number * 1_000_000),
        pid: 7,
        tid: 8 + u32::try_from(number % 2).unwrap_or(0),
        thread: Name::from("worker"),
        mode: if file { Mode::User } else { Mode::Gup },
        syscall: (!file).then(|| Name::from("mlock")),
        access: file.then_some(Access::Read),
        address: file.then_some(0x7f00_0000_0000 + number * 4096),
        place: Place {
            mapping: file.then_some(MappingKind::File),
            path: file.then(|| Name::from("/data")),
            deleted: false,
            offset: file.then_some(number * 4096),
        },
        cause: Some(Cause::FileRead),
        began_before_attach: false,
        begin_approximate: false,
        given_up: false,
        goroutine: None,
        user_stack: Some(stack(number % 2)),
        kernel_stack: Some(stack(2)),
    }
}

fn io(number: u64) -> Io {
    Io {
        device: (number > 0).then(|| Device {
            major: 259,
            minor: 1,
            name: Some(Name::from("nvme0n1")),
        }),
        requests: 2,
        shared: 1,
        elsewhere: 0,
        completed: 2,
        bytes: 8192,
        queued_ns: 20_000,
        served_ns: 700_000,
        held_ns: Some(30_000),
        last: (number > 2).then_some(Served {
            queued_ns: 10_000,
            served_ns: 350_000,
        }),
    }
}

fn fault(number: u64) -> Fault {
    let (blocked_ns, runqueue_ns, on_cpu_ns) = (800_000, 50_000, 10_000);
    let duration_ns = blocked_ns + runqueue_ns + on_cpu_ns;
    Fault {
        facts: facts(number),
        major: number.is_multiple_of(2),
        end_ns: BEGIN_NS + number * 1_000_000 + duration_ns,
        duration_ns,
        blocked_ns,
        runqueue_ns,
        on_cpu_ns,
        switches: 1 + u32::from(number == 4),
        end: End::Exact,
        longest_sleep: Some(Sleep {
            after_ns: 5_000,
            blocked_ns: if number == 4 { 1 } else { blocked_ns },
            runqueue_ns,
            waker: Some(match number {
                0 => Waker::Interrupt,
                _ => Waker::Task(task("server", "writev")),
            }),
        }),
        history: (number > 0).then(|| Box::new(history(number))),
        io: number.is_multiple_of(2).then(|| Box::new(io(number))),
    }
}

fn task(name: &str, syscall: &str) -> Task {
    Task {
        pid: 9,
        tid: 9,
        name: Name::from(name),
        syscall: Some(Name::from(syscall)),
    }
}

/// One of each kind.
fn history(number: u64) -> History {
    let removal = |how| {
        Past::Refault(Box::new(Removal {
            removed_ns: BEGIN_NS - 500,
            cached_ns: (number > 3).then_some(BEGIN_NS - 900),
            how,
            by: task("grep", "read"),
            cgroup: (number > 3).then(|| Name::from("/batch")),
            distance_pages: (number > 3).then_some(7),
            filled: (number > 3).then(|| Filled {
                pid: 9,
                name: Name::from("grep"),
                pages: 5,
                of_pages: 6,
            }),
        }))
    };
    History {
        watched_ns: (number > 1).then_some(BEGIN_NS - 1_000),
        past: match number {
            1 => Past::Unknown,
            2 => Past::FirstTouch,
            3 => removal(How::Kswapd),
            _ => removal(How::MemcgReclaim),
        },
    }
}

fn stack(id: u64) -> Arc<Stack> {
    let frame = |depth: u64| Frame {
        address: 0x1000 * (id + 1) + depth,
        function: (depth > 0).then(|| Name::from("f")),
        offset: Some(1),
        module: Some(Name::from("/bin/db")),
        module_offset: Some(depth),
        build_id: Some(Name::from(&[1_u8, 2, 3][..])),
        file: Some(Name::from("f.c")),
        line: Some(3),
        inlined: depth == 1,
    };
    Arc::new(Stack {
        id,
        frames: (0..3).map(frame).collect(),
        truncated: id == 1,
    })
}
