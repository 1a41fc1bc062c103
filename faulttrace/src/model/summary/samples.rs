//! Made-up records for the unit tests of the model and of the views.

use std::sync::Arc;

use crate::model::{
    Access, Accounting, AheadPages, CacheFill, Cause, Device, End, Facts, Fault, Filled, FilledBy,
    Frame, GoLabels, GoProcess, Goroutine, History, How, Io, LayoutSource, LossClass, Lost,
    MappingKind, Mode, Name, Past, Place, Pressure, PressureOf, ProcessCounters, ProcessEnd,
    ProcessInfo, ReadAhead, Record, Removal, Sample, Served, Sleep, Stack, Start, Stuck,
    SystemCounters, Task, Waits, Waker,
};

/// 2025-07-11 14:03:07.123 UTC.
pub(crate) const T0: u64 = 1_752_242_587_123_000_000;
const MS: u64 = 1_000_000;

pub(crate) fn frame(function: &str, file: &str, line: u32) -> Frame {
    Frame {
        address: 0x5555_5555_5000 + u64::from(line),
        function: Some(Name::from(function)),
        offset: Some(0x1c),
        module: Some(Name::from("/usr/bin/server")),
        module_offset: Some(0x1000 + u64::from(line)),
        build_id: Some(Name::from(&[0x0a, 0xff, 0x00][..])),
        file: (!file.is_empty()).then(|| Name::from(file)),
        line: (!file.is_empty()).then_some(line),
        inlined: false,
    }
}

pub(crate) fn user_stack() -> Arc<Stack> {
    let mut inlined = frame("index::page", "src/index.rs", 42);
    inlined.inlined = true;
    Arc::new(Stack {
        id: 0xabcd,
        frames: vec![
            inlined,
            frame("index::lookup", "src/index.rs", 77),
            Frame {
                address: 0x7f00_0000_1234,
                module: Some(Name::from("/usr/lib/libstripped.so")),
                module_offset: Some(0x1234),
                ..Frame::default()
            },
            Frame {
                address: 0xdead_beef,
                ..Frame::default()
            },
        ],
        truncated: false,
    })
}

pub(crate) fn kernel_stack() -> Arc<Stack> {
    let names = [
        "io_schedule",
        "folio_wait_bit_common",
        "filemap_fault",
        "handle_mm_fault",
        "asm_exc_page_fault",
    ];
    let frames = names
        .iter()
        .map(|name| Frame {
            address: 0xffff_ffff_8100_0000,
            function: Some(Name::from(*name)),
            offset: Some(0x20),
            ..Frame::default()
        })
        .collect();
    Arc::new(Stack {
        id: 0x77,
        frames,
        truncated: true,
    })
}

pub(crate) fn facts() -> Facts {
    Facts {
        begin_ns: Some(T0),
        pid: 4700,
        tid: 4711,
        thread: Name::from("worker-3"),
        mode: Mode::Kernel,
        syscall: Some(Name::from("pread64")),
        access: Some(Access::Write),
        address: Some(0x7f3a_2c01_f040),
        place: Place {
            mapping: Some(MappingKind::File),
            path: Some(Name::from("/data/index.bin")),
            deleted: false,
            offset: Some(0x3f000),
        },
        cause: Some(Cause::FileRead),
        began_before_attach: false,
        begin_approximate: false,
        given_up: false,
        user_stack: Some(user_stack()),
        kernel_stack: Some(kernel_stack()),
        goroutine: None,
    }
}

pub(crate) fn fault() -> Fault {
    Fault {
        facts: facts(),
        major: true,
        end_ns: T0 + 12_400_000,
        duration_ns: 12_400_000,
        blocked_ns: 12_100_000,
        runqueue_ns: 200_000,
        on_cpu_ns: 100_000,
        switches: 2,
        end: End::Exact,
        longest_sleep: Some(Sleep {
            after_ns: 40_000,
            blocked_ns: 12_000_000,
            runqueue_ns: 150_000,
            waker: Some(Waker::Task(Task {
                pid: 4800,
                tid: 4801,
                name: Name::from("server-io"),
                syscall: Some(Name::from("writev")),
            })),
        }),
        history: Some(Box::new(history())),
        io: None,
    }
}

/// The same, with `--io`.
pub(crate) fn fault_with_io() -> Fault {
    Fault {
        io: Some(Box::new(io())),
        ..fault()
    }
}

pub(crate) fn io() -> Io {
    Io {
        device: Some(Device {
            major: 259,
            minor: 1,
            name: Some(Name::from("nvme0n1")),
        }),
        requests: 3,
        shared: 1,
        elsewhere: 0,
        held_ns: Some(0),
        completed: 2,
        bytes: 131_072,
        queued_ns: 300_000,
        served_ns: 21_000_000,
        last: Some(Served {
            queued_ns: 200_000,
            served_ns: 11_000_000,
        }),
    }
}

/// Of a page that was there for 5 s and evicted 2 s before.
pub(crate) fn history() -> History {
    History {
        watched_ns: Some(T0 - 9_000 * MS),
        past: Past::Refault(Box::new(Removal {
            removed_ns: T0 - 2_000 * MS,
            cached_ns: Some(T0 - 7_000 * MS),
            how: How::MemcgReclaim,
            by: Task {
                pid: 5100,
                tid: 5101,
                name: Name::from("grep"),
                syscall: Some(Name::from("read")),
            },
            cgroup: Some(Name::from("/batch.slice/grep.service")),
            distance_pages: Some(2560),
            filled: Some(Filled {
                pid: 5100,
                name: Name::from("grep"),
                pages: 262_144,
                of_pages: 300_000,
            }),
        })),
    }
}

pub(crate) fn cache_fill() -> Record {
    let by = |pid, name: &str, pages| FilledBy {
        pid,
        name: Name::from(name),
        pages,
    };
    Record::CacheFill(Arc::new(CacheFill {
        begin_ns: T0 - 1_000 * MS,
        end_ns: T0 - 500 * MS,
        added_pages: 1_000,
        removed_pages: 900,
        reclaimed_pages: 800,
        by: vec![by(5100, "grep", 700), by(0, "outside", 250)],
    }))
}

pub(crate) fn read_ahead() -> Record {
    Record::ReadAhead(Arc::new(ReadAhead {
        begin_ns: T0 - 1_000 * MS,
        end_ns: T0 - 500 * MS,
        path: Some(Name::from("/var/lib/db/data.mdb")),
        pages: AheadPages {
            read: 3_100,
            mapped: 1_500,
            dropped: 700,
            unknown: 20,
        },
    }))
}

pub(crate) fn stuck() -> Stuck {
    let mut facts = facts();
    facts.mode = Mode::User;
    facts.syscall = None;
    facts.access = Some(Access::Read);
    facts.cause = Some(Cause::Fuse);
    facts.place.path = Some(Name::from("/mnt/slow/blob"));
    Stuck {
        facts,
        elapsed_ns: 2_300 * MS,
        report: 1,
        io: None,
    }
}

pub(crate) fn start() -> Record {
    Record::Start(Arc::new(Start {
        version: "0.1.0".into(),
        host: "db1".into(),
        kernel: "6.18.0".into(),
        command: vec!["faulttrace".into(), "--pid".into(), "4700".into()],
        targets: vec![process()],
        rungs: vec![("fault_begin".into(), "tp_btf/page_fault_user".into())],
        time_ns: T0,
    }))
}

pub(crate) fn process() -> ProcessInfo {
    ProcessInfo {
        pid: 4700,
        name: Name::from("server"),
        exe: Some(Name::from("/usr/bin/server")),
    }
}

pub(crate) fn process_end() -> Record {
    Record::ProcessEnd(ProcessEnd {
        pid: 4700,
        time_ns: T0 + 5_000 * MS,
    })
}

pub(crate) fn lost(class: LossClass, reason: &'static str, count: u64) -> Record {
    Record::Lost(Lost {
        class,
        reason: reason.into(),
        count,
    })
}

pub(crate) fn accounting(pid: u32, maj_flt_delta: Option<u64>) -> Record {
    Record::Accounting(Accounting { pid, maj_flt_delta })
}

pub(crate) fn record(fault: Fault) -> Record {
    Record::Fault(Arc::new(fault))
}

/// Of `pid`, this long after T0: everything known.
pub(crate) fn sample(pid: u32, after_ns: u64) -> Sample {
    let part = |percent: u64| after_ns / 100 * percent;
    let waits = |some, full| Waits {
        some_ns: part(some),
        full_ns: part(full),
    };
    Sample {
        pid,
        time_ns: T0 + after_ns,
        settled_ns: T0 + after_ns.saturating_sub(10_000_000),
        stall_threads: 2,
        in_fault: 3,
        process: ProcessCounters {
            threads: Some(8),
            running: Some(1),
            disk_sleep: Some(2),
            user_ns: Some(part(5)),
            system_ns: Some(part(2)),
            blkio_ns: Some(part(1)),
        },
        system: SystemCounters {
            iowait_ns: Some(part(90)),
            run_queue: Some(3),
        },
        pressure: Some(Pressure {
            of: PressureOf::Cgroup,
            memory: Some(waits(4, 3)),
            io: Some(waits(80, 75)),
        }),
    }
}

/// The same, with nothing known that need not be.
pub(crate) fn sample_unread(pid: u32, after_ns: u64) -> Sample {
    let known = sample(pid, after_ns);
    Sample {
        process: ProcessCounters::default(),
        system: SystemCounters::default(),
        pressure: None,
        ..known
    }
}

/// What the thread of a Go program was at.
pub(crate) fn goroutine() -> Goroutine {
    Goroutine {
        id: Some(18),
        start: Some(Name::from("main.serve")),
        created_by: Some(Name::from("main.main")),
        p: Some(1),
        in_syscall: false,
        procs: Some(2),
        queued_local: Some(3),
        queued_global: Some(40),
        queued_global_at_end: Some(57),
        labels: Some(Arc::new(GoLabels {
            kept: vec![(Name::from("request"), Name::from("/api\t1"))],
            left_out: 2,
        })),
    }
}

/// A Go program that is known.
pub(crate) fn go_process() -> Record {
    Record::Go(Arc::new(GoProcess {
        pid: 4700,
        time_ns: T0 + 1_000_000,
        version: Name::from("go1.27.3"),
        module: Some(Name::from("example.com/server")),
        procs: Some(2),
        layout: Some(LayoutSource::Table),
    }))
}

/// One of which little is.
pub(crate) fn unknown_go_process() -> Record {
    Record::Go(Arc::new(GoProcess {
        pid: 4701,
        time_ns: T0 + 2_000_000,
        version: Name::from("devel go1.99-\x1b[31m"),
        module: None,
        procs: None,
        layout: None,
    }))
}
