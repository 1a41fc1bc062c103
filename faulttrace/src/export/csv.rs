//! CSV, one row a fault, columns named like the fields of docs/json.md; those of its `goroutine` are
//! `goroutine` (its `id`), `goroutine_start`, `goroutine_created_by`, `p`, `in_syscall` and
//! `gomaxprocs`. Unknown is an empty cell.
//!
//! A cell that the target chose and that a spreadsheet would take for a formula has an apostrophe
//! before it, and so has one that begins with an apostrophe, so that this can be undone.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use ::csv::{ByteRecord, WriterBuilder};

use super::names;
use super::{Error, Export};
use crate::model::summary::Summary;
use crate::model::{
    Access, Cause, Device, Fault, Goroutine, History, Io, MappingKind, Name, Record, Stack, Waker,
    known_id,
};
use crate::view::escape::Escaped;

/// The columns.
const HEADER: [&str; 61] = [
    "time_ns",
    "end_ns",
    "pid",
    "tid",
    "thread",
    "mode",
    "syscall",
    "access",
    "address",
    "cause",
    "path",
    "offset",
    "deleted",
    "mapping",
    "major",
    "duration_ns",
    "blocked_ns",
    "runqueue_ns",
    "on_cpu_ns",
    "switches",
    "end",
    "began_before_attach",
    "begin_approximate",
    "woken_by",
    "waker_pid",
    "waker_tid",
    "waker_thread",
    "waker_syscall",
    "user_stack_id",
    "user_stack",
    "kernel_stack",
    "io_device",
    "io_device_name",
    "io_requests",
    "io_shared",
    "io_elsewhere",
    "io_completed",
    "io_bytes",
    "io_queued_ns",
    "io_served_ns",
    "io_held_ns",
    "io_last_queued_ns",
    "io_last_served_ns",
    "history_past",
    "history_watched_ns",
    "history_removed_ns",
    "history_cached_ns",
    "history_how",
    "history_removed_by_pid",
    "history_removed_by_thread",
    "history_removed_by_cgroup",
    "history_distance_pages",
    "history_filled_pid",
    "history_filled_name",
    "goroutine",
    "goroutine_start",
    "goroutine_created_by",
    "p",
    "in_syscall",
    "gomaxprocs",
    "given_up",
];

/// Stacks whose text is remembered; when there are more, all are forgotten.
const MAX_STACKS: usize = 1024;

/// The format.
#[derive(Debug, Default)]
pub(super) struct Csv {
    has_header: bool,
    row: ByteRecord,
    /// The text of stacks seen lately, by address; the stack is held so that it stays its own.
    texts: HashMap<usize, (Arc<Stack>, Box<str>)>,
}

impl Csv {
    pub(super) fn new() -> Self {
        Csv::default()
    }

    fn header(&mut self, out: &mut dyn Write) -> Result<(), Error> {
        if self.has_header {
            return Ok(());
        }
        self.has_header = true;
        write(&ByteRecord::from(&HEADER[..]), out)
    }

    /// Fills the row, in the order of the header.
    fn fault(&mut self, fault: &Fault) {
        let facts = &fault.facts;
        let place = &facts.place;
        self.row.clear();
        self.option(facts.begin_ns);
        self.number(fault.end_ns);
        self.number(facts.pid);
        self.number(facts.tid);
        self.name(Some(&facts.thread));
        self.word(facts.mode.as_str());
        self.name(facts.syscall.as_ref());
        self.word(facts.access.map_or("", Access::as_str));
        self.hex(facts.address);
        self.word(facts.cause.map_or("", Cause::as_str));
        self.name(place.path.as_ref());
        self.option(place.offset);
        let deleted = (place.deleted || place.path.is_some()).then_some(place.deleted);
        self.option(deleted);
        self.word(place.mapping.map_or("", MappingKind::as_str));
        self.number(fault.major);
        self.number(fault.duration_ns);
        self.number(fault.blocked_ns);
        self.number(fault.runqueue_ns);
        self.number(fault.on_cpu_ns);
        self.number(fault.switches);
        self.word(fault.end.as_str());
        self.number(facts.began_before_attach);
        self.number(facts.begin_approximate);
        self.waker(
            fault
                .longest_sleep
                .as_ref()
                .and_then(|sleep| sleep.waker.as_ref()),
        );
        self.hex(facts.user_stack.as_ref().map(|stack| stack.id));
        self.stack(facts.user_stack.as_ref());
        self.stack(facts.kernel_stack.as_ref());
        self.io(fault.io.as_deref());
        self.history(fault.history.as_deref());
        self.goroutine(facts.goroutine.as_deref());
        self.number(facts.given_up);
    }

    /// What became of its page before, in columns that begin with `history_`.
    fn history(&mut self, history: Option<&History>) {
        let removal = history.and_then(History::removal);
        self.word(history.map_or("", |history| history.past.as_str()));
        self.option(history.and_then(|history| history.watched_ns));
        self.option(removal.map(|removal| removal.removed_ns));
        self.option(removal.and_then(|removal| removal.cached_ns));
        self.word(removal.map_or("", |removal| removal.how.as_str()));
        self.option(removal.and_then(|removal| known_id(removal.by.pid)));
        self.name(removal.map(|removal| &removal.by.name));
        self.name(removal.and_then(|removal| removal.cgroup.as_ref()));
        self.option(removal.and_then(|removal| removal.distance_pages));
        let filled = removal.and_then(|removal| removal.filled.as_ref());
        self.option(filled.and_then(|filled| known_id(filled.pid)));
        self.name(filled.map(|filled| &filled.name));
    }

    /// What the thread of a Go program was at.
    fn goroutine(&mut self, goroutine: Option<&Goroutine>) {
        self.option(goroutine.and_then(|of| of.id));
        self.name(goroutine.and_then(|of| of.start.as_ref()));
        self.name(goroutine.and_then(|of| of.created_by.as_ref()));
        self.option(goroutine.and_then(|of| of.p));
        self.option(goroutine.map(|of| of.in_syscall));
        self.option(goroutine.and_then(|of| of.procs));
    }

    /// What devices did for it, in columns that begin with `io_`.
    fn io(&mut self, io: Option<&Io>) {
        let device = io.and_then(|io| io.device.as_ref());
        self.option(device.map(Device::numbers));
        self.name(device.and_then(|device| device.name.as_ref()));
        self.option(io.map(|io| io.requests));
        self.option(io.map(|io| io.shared));
        self.option(io.map(|io| io.elsewhere));
        self.option(io.map(|io| io.completed));
        self.option(io.map(|io| io.bytes));
        self.option(io.map(|io| io.queued_ns));
        self.option(io.map(|io| io.served_ns));
        self.option(io.and_then(|io| io.held_ns));
        let last = io.and_then(|io| io.last);
        self.option(last.map(|last| last.queued_ns));
        self.option(last.map(|last| last.served_ns));
    }

    /// Who ended the longest sleep.
    fn waker(&mut self, waker: Option<&Waker>) {
        let Some(Waker::Task(task)) = waker else {
            self.word(waker.map_or("", |_| "interrupt"));
            return (0..4).for_each(|_| self.word(""));
        };
        self.word("task");
        self.option(known_id(task.pid));
        self.option(known_id(task.tid));
        self.name(Some(&task.name));
        self.name(task.syscall.as_ref());
    }

    fn word(&mut self, text: &str) {
        self.row.push_field(text.as_bytes());
    }

    fn number<T: Copy + ToString>(&mut self, number: T) {
        self.word(&number.to_string());
    }

    fn option<T: ToString>(&mut self, number: Option<T>) {
        self.word(&number.map(|number| number.to_string()).unwrap_or_default());
    }

    fn hex(&mut self, number: Option<u64>) {
        self.word(&number.map(|n| format!("{n:#x}")).unwrap_or_default());
    }

    fn name(&mut self, name: Option<&Name>) {
        let text = name.map(|name| inert(Escaped(name.as_bytes()).to_string()));
        self.word(&text.unwrap_or_default());
    }

    fn stack(&mut self, stack: Option<&Arc<Stack>>) {
        let Some(stack) = stack else {
            return self.word("");
        };
        let address = Arc::as_ptr(stack).addr();
        if self.texts.len() >= MAX_STACKS && !self.texts.contains_key(&address) {
            self.texts.clear();
        }
        let (_, text) = self.texts.entry(address).or_insert_with(|| {
            let text = inert(names::stack(stack, false));
            (Arc::clone(stack), text.into_boxed_str())
        });
        self.row.push_field(text.as_bytes());
    }
}

/// The text as a cell that is no formula.
fn inert(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\'']) {
        format!("'{text}")
    } else {
        text
    }
}

fn write(row: &ByteRecord, out: &mut dyn Write) -> Result<(), Error> {
    let mut writer = WriterBuilder::new()
        .buffer_capacity(1 << 10)
        .from_writer(out);
    writer.write_byte_record(row).map_err(into_io)?;
    writer.flush()?;
    Ok(())
}

fn into_io(error: ::csv::Error) -> std::io::Error {
    match error.into_kind() {
        ::csv::ErrorKind::Io(error) => error,
        other => std::io::Error::other(format!("{other:?}")),
    }
}

impl Export for Csv {
    fn record(&mut self, record: &Record, out: &mut dyn Write) -> Result<(), Error> {
        self.header(out)?;
        if let Record::Fault(fault) = record {
            self.fault(fault);
            write(&self.row, out)?;
        }
        Ok(())
    }

    fn finish(&mut self, _summary: &Summary, out: &mut dyn Write) -> Result<(), Error> {
        // A trace of nothing is a table without rows, not an empty file.
        self.header(out)
    }
}
