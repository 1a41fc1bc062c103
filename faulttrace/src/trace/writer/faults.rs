//! Records to rows.

use super::Written;
use super::dictionary::Dictionary;
use super::statements::{Cell, Statements};
use super::{go, histories};
use crate::model::{Fault, Io, Name, Record, Sample, Sleep, Start, Stuck, Waker};
use crate::process::page_bytes;
use crate::trace::rows::{At, relative};

/// `faults.waker` of an interrupt.
const INTERRUPT: i64 = 0;

/// What the rows of records need to know.
#[derive(Debug, Default)]
pub(super) struct Faults {
    base_ns: u64,
    page_bytes: u64,
    /// What was written.
    pub(super) written: Written,
}

impl Faults {
    /// Takes the beginning of the trace.
    pub(super) fn begin(&mut self, start: &Start) {
        self.base_ns = start.time_ns;
        self.page_bytes = page_bytes();
    }

    /// Writes one record under its number.
    pub(super) fn record(
        &mut self,
        record: &Record,
        id: i64,
        dictionary: &mut Dictionary,
        rows: &mut Statements<'_>,
    ) -> rusqlite::Result<()> {
        let number = Cell::from(id);
        match record {
            // Its row was made at the beginning; stalls are told again from what is saved.
            Record::Start(_) | Record::Stall(_) | Record::PStall(_) => Ok(()),
            Record::Fault(fault) => self.fault(fault, id, dictionary, rows),
            Record::Stuck(stuck) => self.stuck(stuck, id, dictionary, rows),
            Record::Lost(lost) => rows.loss.row([
                number,
                lost.class.as_str().into(),
                (*lost.reason).into(),
                lost.count.into(),
            ]),
            Record::Process(process) => rows.process.row([
                number,
                process.pid.into(),
                process.name.as_bytes().into(),
                process.exe.as_ref().map(Name::as_bytes).into(),
            ]),
            Record::ProcessEnd(end) => rows.process_end.row([
                number,
                end.pid.into(),
                relative(end.time_ns, self.base_ns).into(),
            ]),
            Record::Accounting(account) => {
                rows.account
                    .row([number, account.pid.into(), account.maj_flt_delta.into()])
            }
            Record::Transport(transport) => rows.transport.row([
                number,
                transport.emitted.into(),
                transport.received.into(),
                transport.lost.into(),
            ]),
            Record::Sample(sample) => self.sample(sample, id, rows),
            Record::Go(process) => go::process(process, id, self.base_ns, rows),
            Record::CacheFill(fill) => {
                histories::cache_fill(fill, id, self.base_ns, dictionary, rows)
            }
            Record::ReadAhead(ahead) => histories::read_ahead(ahead, id, self.base_ns, rows),
        }
    }

    fn sample(&self, sample: &Sample, id: i64, rows: &mut Statements<'_>) -> rusqlite::Result<()> {
        let (process, system) = (&sample.process, &sample.system);
        let pressure = sample.pressure.as_ref();
        let memory = pressure.and_then(|pressure| pressure.memory);
        let io = pressure.and_then(|pressure| pressure.io);
        rows.sample.row([
            id.into(),
            sample.pid.into(),
            relative(sample.time_ns, self.base_ns).into(),
            relative(sample.settled_ns, self.base_ns).into(),
            sample.stall_threads.into(),
            sample.in_fault.into(),
            process.threads.into(),
            process.running.into(),
            process.disk_sleep.into(),
            process.user_ns.into(),
            process.system_ns.into(),
            process.blkio_ns.into(),
            system.iowait_ns.into(),
            system.run_queue.into(),
            pressure.map(|pressure| pressure.of.as_str()).into(),
            memory.map(|waits| waits.some_ns).into(),
            memory.map(|waits| waits.full_ns).into(),
            io.map(|waits| waits.some_ns).into(),
            io.map(|waits| waits.full_ns).into(),
        ])
    }

    fn fault(
        &mut self,
        fault: &Fault,
        id: i64,
        dictionary: &mut Dictionary,
        rows: &mut Statements<'_>,
    ) -> rusqlite::Result<()> {
        let facts = &fault.facts;
        let (place, at) = At::split(facts.address, facts.place.offset, self.page_bytes);
        let over = Some((fault.major, fault.end));
        let site = dictionary.site(facts, over, place, rows)?;
        let sleep = fault.longest_sleep.as_ref();
        let (waker, waker_syscall) = match sleep.and_then(|sleep| sleep.waker.as_ref()) {
            None => (None, None),
            Some(Waker::Interrupt) => (Some(INTERRUPT), None),
            Some(Waker::Task(task)) => {
                let thread = dictionary.thread(task.pid, task.tid, &task.name, rows)?;
                (Some(thread), task.syscall.as_ref().map(Name::as_bytes))
            }
        };
        rows.fault.row([
            id.into(),
            site.into(),
            relative(fault.end_ns, self.base_ns).into(),
            fault.duration_ns.into(),
            fault.blocked_ns.into(),
            fault.runqueue_ns.into(),
            fault.switches.into(),
            at.into(),
            sleep.map(|sleep| sleep.after_ns).into(),
            waker.into(),
            waker_syscall.into(),
        ])?;
        self.written.faults += 1;
        if let Some(history) = &fault.history {
            histories::history(history, id, self.base_ns, dictionary, rows)?;
        }
        if let Some(io) = &fault.io {
            add_io(id, io, dictionary, rows)?;
        }
        if let Some(goroutine) = &facts.goroutine {
            go::goroutine(goroutine, (id, facts.pid), dictionary, rows)?;
        }
        match sleep {
            Some(sleep) if !is_all_of(sleep, fault) => {
                rows.sleep
                    .row([id.into(), sleep.blocked_ns.into(), sleep.runqueue_ns.into()])
            }
            _ => Ok(()),
        }
    }

    fn stuck(
        &mut self,
        stuck: &Stuck,
        id: i64,
        dictionary: &mut Dictionary,
        rows: &mut Statements<'_>,
    ) -> rusqlite::Result<()> {
        let facts = &stuck.facts;
        let (place, at) = At::split(facts.address, facts.place.offset, self.page_bytes);
        let site = dictionary.site(facts, None, place, rows)?;
        let begin = facts.begin_ns.map(|begin| relative(begin, self.base_ns));
        self.written.stuck += 1;
        if let Some(io) = &stuck.io {
            add_io(id, io, dictionary, rows)?;
        }
        if let Some(goroutine) = &facts.goroutine {
            go::goroutine(goroutine, (id, facts.pid), dictionary, rows)?;
        }
        rows.stuck.row([
            id.into(),
            site.into(),
            begin.into(),
            stuck.elapsed_ns.into(),
            stuck.report.into(),
            at.into(),
        ])
    }
}

/// Writes what devices did for the fault of this number, or until the report of this number.
fn add_io(
    id: i64,
    io: &Io,
    dictionary: &mut Dictionary,
    rows: &mut Statements<'_>,
) -> rusqlite::Result<()> {
    let device = match &io.device {
        None => None,
        Some(device) => Some(dictionary.device(device, rows)?),
    };
    rows.io.row([
        id.into(),
        device.into(),
        io.requests.into(),
        io.shared.into(),
        io.elsewhere.into(),
        io.completed.into(),
        io.bytes.into(),
        io.queued_ns.into(),
        io.served_ns.into(),
        io.last.map(|last| last.queued_ns).into(),
        io.last.map(|last| last.served_ns).into(),
        io.held_ns.into(),
    ])
}

/// Whether the fault slept just once, so that nothing more needs saying.
fn is_all_of(sleep: &Sleep, fault: &Fault) -> bool {
    (sleep.blocked_ns, sleep.runqueue_ns) == (fault.blocked_ns, fault.runqueue_ns)
}
