//! The records of the stream as they are serialized: borrowed, field by field as documented.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::go::GoroutinePart;
use super::history::{HistoryPart, TaskPart};
use super::io::IoPart;
use super::scalar::{Hex, escaped};
use super::stacks::{StackCache, StackJson};
use crate::model::{
    Access, Facts, Fault, LossClass, Lost, MappingKind, Name, Place, ProcessEnd, ProcessInfo,
    Sleep, Stack, Start, Stuck, Waker,
};
use crate::view::escape::Escaped;

/// Whether the file was deleted; unknown where no file is known.
pub(in crate::view) fn deleted(deleted: bool, path: Option<&Name>) -> Option<bool> {
    (deleted || path.is_some()).then_some(deleted)
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "start")]
pub(in crate::view) struct StartLine<'a> {
    time_ns: u64,
    version: Escaped<'a>,
    host: Escaped<'a>,
    kernel: Escaped<'a>,
    command: Vec<Escaped<'a>>,
    targets: Vec<Target<'a>>,
    rungs: BTreeMap<String, Escaped<'a>>,
}

impl<'a> StartLine<'a> {
    pub(in crate::view) fn new(start: &'a Start) -> Self {
        let text = |text: &'a str| Escaped(text.as_bytes());
        let rung = |(job, rung): &'a (String, String)| (text(job).to_string(), text(rung));
        StartLine {
            time_ns: start.time_ns,
            version: text(&start.version),
            host: text(&start.host),
            kernel: text(&start.kernel),
            command: start.command.iter().map(|arg| text(arg)).collect(),
            targets: start.targets.iter().map(Target::new).collect(),
            rungs: start.rungs.iter().map(rung).collect(),
        }
    }
}

#[derive(Serialize)]
struct Target<'a> {
    pid: u32,
    name: Escaped<'a>,
    exe: Option<Escaped<'a>>,
}

impl<'a> Target<'a> {
    fn new(process: &'a ProcessInfo) -> Self {
        Target {
            pid: process.pid,
            name: Escaped(process.name.as_bytes()),
            exe: escaped(process.exe.as_ref()),
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "process")]
pub(in crate::view) struct ProcessLine<'a> {
    #[serde(flatten)]
    process: Target<'a>,
}

impl<'a> ProcessLine<'a> {
    pub(in crate::view) fn new(process: &'a ProcessInfo) -> Self {
        ProcessLine {
            process: Target::new(process),
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "process_end")]
pub(in crate::view) struct ProcessEndLine {
    pid: u32,
    time_ns: u64,
}

impl ProcessEndLine {
    pub(in crate::view) fn new(end: &ProcessEnd) -> Self {
        ProcessEndLine {
            pid: end.pid,
            time_ns: end.time_ns,
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "lost")]
pub(in crate::view) struct LostLine<'a> {
    class: &'static str,
    reason: Escaped<'a>,
    count: u64,
}

impl<'a> LostLine<'a> {
    pub(in crate::view) fn new(lost: &'a Lost) -> Self {
        LostLine::of(lost.class, lost.reason.as_bytes(), lost.count)
    }

    pub(in crate::view) fn of(class: LossClass, reason: &'a [u8], count: u64) -> Self {
        LostLine {
            class: class.as_str(),
            reason: Escaped(reason),
            count,
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "fault")]
pub(in crate::view) struct FaultLine<'a> {
    #[serde(flatten)]
    facts: FactsPart<'a>,
    major: bool,
    given_up: bool,
    duration_ns: u64,
    blocked_ns: u64,
    runqueue_ns: u64,
    on_cpu_ns: u64,
    switches: u32,
    end: &'static str,
    end_ns: u64,
    longest_sleep: Option<SleepPart<'a>>,
    history: Option<HistoryPart<'a>>,
    io: Option<IoPart<'a>>,
    // Last, because they are long.
    #[serde(flatten)]
    stacks: StacksPart,
}

impl<'a> FaultLine<'a> {
    pub(in crate::view) fn new(fault: &'a Fault, stacks: &mut StackCache) -> Self {
        FaultLine {
            facts: FactsPart::new(&fault.facts),
            major: fault.major,
            given_up: fault.facts.given_up,
            duration_ns: fault.duration_ns,
            blocked_ns: fault.blocked_ns,
            runqueue_ns: fault.runqueue_ns,
            on_cpu_ns: fault.on_cpu_ns,
            switches: fault.switches,
            end: fault.end.as_str(),
            end_ns: fault.end_ns,
            longest_sleep: fault.longest_sleep.as_ref().map(SleepPart::new),
            history: fault.history.as_deref().map(HistoryPart::new),
            io: fault.io.as_deref().map(IoPart::new),
            stacks: StacksPart::new(&fault.facts, stacks),
        }
    }
}

#[derive(Serialize)]
struct SleepPart<'a> {
    after_ns: u64,
    blocked_ns: u64,
    runqueue_ns: u64,
    woken_by: Option<&'static str>,
    waker: Option<TaskPart<'a>>,
}

impl<'a> SleepPart<'a> {
    fn new(sleep: &'a Sleep) -> Self {
        let (woken_by, task) = match &sleep.waker {
            None => (None, None),
            Some(Waker::Interrupt) => (Some("interrupt"), None),
            Some(Waker::Task(task)) => (Some("task"), Some(task)),
        };
        SleepPart {
            after_ns: sleep.after_ns,
            blocked_ns: sleep.blocked_ns,
            runqueue_ns: sleep.runqueue_ns,
            woken_by,
            waker: task.map(TaskPart::new),
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "stuck")]
pub(in crate::view) struct StuckLine<'a> {
    #[serde(flatten)]
    facts: FactsPart<'a>,
    elapsed_ns: u64,
    report: u32,
    io: Option<IoPart<'a>>,
    #[serde(flatten)]
    stacks: StacksPart,
}

impl<'a> StuckLine<'a> {
    pub(in crate::view) fn new(stuck: &'a Stuck, stacks: &mut StackCache) -> Self {
        StuckLine {
            facts: FactsPart::new(&stuck.facts),
            elapsed_ns: stuck.elapsed_ns,
            report: stuck.report,
            io: stuck.io.as_deref().map(IoPart::new),
            stacks: StacksPart::new(&stuck.facts, stacks),
        }
    }
}

#[derive(Serialize)]
struct FactsPart<'a> {
    time_ns: Option<u64>,
    pid: u32,
    tid: u32,
    thread: Escaped<'a>,
    mode: &'static str,
    syscall: Option<Escaped<'a>>,
    access: Option<&'static str>,
    address: Option<Hex>,
    cause: Option<&'static str>,
    path: Option<Escaped<'a>>,
    offset: Option<u64>,
    deleted: Option<bool>,
    mapping: Option<&'static str>,
    began_before_attach: bool,
    begin_approximate: bool,
    goroutine: Option<GoroutinePart<'a>>,
}

impl<'a> FactsPart<'a> {
    fn new(facts: &'a Facts) -> Self {
        let Place {
            mapping,
            path,
            deleted: is_deleted,
            offset,
        } = &facts.place;
        FactsPart {
            time_ns: facts.begin_ns,
            pid: facts.pid,
            tid: facts.tid,
            thread: Escaped(facts.thread.as_bytes()),
            mode: facts.mode.as_str(),
            syscall: escaped(facts.syscall.as_ref()),
            access: facts.access.map(Access::as_str),
            address: facts.address.map(Hex),
            cause: facts.cause.map(crate::model::Cause::as_str),
            path: escaped(path.as_ref()),
            offset: *offset,
            deleted: deleted(*is_deleted, path.as_ref()),
            mapping: mapping.map(MappingKind::as_str),
            began_before_attach: facts.began_before_attach,
            begin_approximate: facts.begin_approximate,
            goroutine: facts.goroutine.as_deref().map(GoroutinePart::new),
        }
    }
}

#[derive(Serialize)]
struct StacksPart {
    #[serde(flatten)]
    user: UserStackPart,
    kernel_stack: Option<StackJson>,
    kernel_stack_truncated: Option<bool>,
}

impl StacksPart {
    fn new(facts: &Facts, stacks: &mut StackCache) -> Self {
        let kernel = facts.kernel_stack.as_ref();
        StacksPart {
            user: UserStackPart::new(facts.user_stack.as_ref(), stacks),
            kernel_stack: kernel.and_then(|stack| stacks.json(stack)),
            kernel_stack_truncated: kernel.map(|stack| stack.truncated),
        }
    }
}

/// A user stack with what tells it from others: of a fault, or of a row of the summary.
#[derive(Serialize)]
pub(in crate::view) struct UserStackPart {
    user_stack_id: Option<Hex>,
    user_stack: Option<StackJson>,
    user_stack_truncated: Option<bool>,
}

impl UserStackPart {
    pub(in crate::view) fn new(stack: Option<&Arc<Stack>>, stacks: &mut StackCache) -> Self {
        UserStackPart {
            user_stack_id: stack.map(|stack| Hex(stack.id)),
            user_stack: stack.and_then(|stack| stacks.json(stack)),
            user_stack_truncated: stack.map(|stack| stack.truncated),
        }
    }
}
