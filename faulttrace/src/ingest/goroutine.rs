//! What threads of Go programs were at in their faults.

use faulttrace_ebpf::goroutine::{Goroutine as Read, GoroutineEvent, NOT_READ, flag};

use super::beside::Beside;
use super::enrich::Stacks;
use super::go_labels::Known;
use crate::model::{Frame, Goroutine, Name};
use crate::process::{Captured, Labels};

/// Ids of the pairs of addresses that are named as if they were stacks; those of the programs are
/// hashes, so that these are as unlikely to meet one as two of those are to meet.
const OWN_IDS: u64 = 0x60fa_0000_0000_0000;

/// What was told of faults that are still to come.
#[derive(Default)]
pub(super) struct Pending {
    events: Beside<GoroutineEvent>,
    labels: Known,
}

impl Pending {
    /// Keeps it until its fault comes.
    pub(super) fn keep(&mut self, event: &GoroutineEvent) {
        self.events.keep(event.tid, event.start_ns, *event);
    }

    /// What the thread of this fault was at.
    pub(super) fn take(
        &mut self,
        (pid, tid): (u32, u32),
        start_ns: u64,
        labels: &mut Labels,
        stacks: &dyn Stacks,
    ) -> Option<Box<Goroutine>> {
        let event = self.events.take(tid, start_ns)?;
        let mut goroutine = self.goroutine(pid, &event.goroutine, labels, stacks)?;
        goroutine.queued_global_at_end =
            (event.global_at_end != NOT_READ).then_some(event.global_at_end);
        Some(goroutine)
    }

    /// How many goroutines lack labels since this was last asked, because too many others came after them.
    pub(super) fn take_labels_gone(&mut self) -> u64 {
        self.labels.take_gone()
    }

    /// What was read, with names; `None` if nothing was.
    pub(super) fn goroutine(
        &mut self,
        pid: u32,
        read: &Read,
        labels: &mut Labels,
        stacks: &dyn Stacks,
    ) -> Option<Box<Goroutine>> {
        let has = |flag| read.flags & flag != 0;
        if !has(flag::FOUND) {
            return None;
        }
        let known = |flag, value| has(flag).then_some(value);
        let (start, created_by) = if has(flag::HAS_ID) {
            functions(pid, read, labels)
        } else {
            (None, None)
        };
        Some(Box::new(Goroutine {
            id: has(flag::HAS_ID).then_some(read.id),
            start,
            created_by,
            p: known(flag::HOLDS_P, read.p),
            in_syscall: has(flag::IN_SYSCALL),
            // It is 0 until the runtime has set itself up.
            procs: known(flag::HAS_PROCS, read.procs).filter(|procs| *procs != 0),
            queued_local: known(flag::HAS_LOCAL, read.local),
            queued_global: known(flag::HAS_GLOBAL, read.global),
            queued_global_at_end: None,
            labels: self.labels.get(read.labels, |id| stacks.go_labels(id)),
        }))
    }
}

/// The function that a goroutine runs, and the one that made it.
fn functions(pid: u32, read: &Read, labels: &mut Labels) -> (Option<Name>, Option<Name>) {
    let (start, made) = (read.start_pc, read.go_pc);
    // The first goroutine was made by assembly, of which the runtime says 0.
    let addresses = if made == 0 {
        vec![start]
    } else {
        vec![start, made]
    };
    let id = OWN_IDS ^ start.rotate_left(17) ^ made;
    let captured = Captured {
        id,
        frames: &addresses,
        truncated: false,
        top: 0,
        ask_caller: false,
    };
    let named = labels.user_stack(pid, captured);
    let function = |frame: &Frame| frame.function.clone();
    let of = |address| {
        named
            .frames
            .iter()
            .filter(move |frame| frame.address == address)
    };
    // The whole function; but the call that has the `go` statement, if that was inlined.
    (
        of(start).next_back().and_then(function),
        of(made).next().and_then(function),
    )
}
