//! A fault on the track of its thread: a slice, what is known of its inside, and who ended it.

use std::io::Write;

use super::open::{Over, Unended};
use super::proto::{BEGIN, DebugAnnotation, END, INSTANT, TrackEvent};
use super::stream::{Arguments, Stream};
use super::tracks::Tracks;
use crate::export::{Error, names};
use crate::model::{
    Access, Cause, Facts, Fault, Goroutine, History, Io, MappingKind, Name, Sleep, Waker, known_id,
};
use crate::view::words;

/// Category of faults.
const FAULT: &str = "fault";
/// Category of their parts.
const PART: &str = "part";
/// Category of wake-ups.
const WAKE: &str = "wake";

/// What a fault is called that did not sleep.
const NO_SLEEP: &str = "fault (no sleep)";
/// What takes the place of a beginning that is not known.
const BEFORE_ATTACH: &str =
    "unknown, before faulttrace attached; drawn from the first known moment";

/// Draws faults.
#[derive(Debug, Default)]
pub(super) struct Slices {
    flows: u64,
    /// Faults that overlap another of their thread, and were cut.
    cut: u64,
}

impl Slices {
    /// Faults that could not be drawn in full because their thread was in another at the time.
    pub(super) fn cut(&self) -> u64 {
        self.cut
    }

    /// A fault that is over. Its packets are in the order of their times, so that what Perfetto
    /// keeps of the order of the file for equal times is right: ends before the next begins.
    pub(super) fn fault(
        &mut self,
        fault: &Fault,
        tracks: &mut Tracks,
        stream: &mut Stream,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        let facts = &fault.facts;
        let Facts { pid, tid, .. } = *facts;
        let track = tracks.thread(pid, tid, &facts.thread, stream, out)?;
        let known_ns = fault.end_ns.saturating_sub(fault.duration_ns);
        let (begin_ns, end_ns) = tracks.take(pid, tid, known_ns, fault.end_ns);
        let cut_ns = begin_ns - known_ns;
        self.cut += u64::from(cut_ns > 0);
        let arguments = arguments(fault, cut_ns, stream);
        let begin = begin(track, FAULT, name(facts), arguments, stream);
        stream.event(begin_ns, begin, out)?;
        if let Some(sleep) = &fault.longest_sleep {
            let place = |ns: u64| known_ns.saturating_add(ns).clamp(begin_ns, end_ns);
            let slept_ns = place(sleep.after_ns);
            let woken_ns = place(sleep.after_ns.saturating_add(sleep.blocked_ns));
            let running_ns = place(
                sleep
                    .after_ns
                    .saturating_add(sleep.blocked_ns)
                    .saturating_add(sleep.runqueue_ns),
            );
            let flow = self.waker(sleep, facts, woken_ns, tracks, stream, out)?;
            parts(track, [slept_ns, woken_ns, running_ns], flow, stream, out)?;
        }
        stream.event(end_ns, end(track), out)
    }

    /// Who woke the thread, on that one's own track. Returns the arrow that begins there.
    fn waker(
        &mut self,
        sleep: &Sleep,
        facts: &Facts,
        woken_ns: u64,
        tracks: &mut Tracks,
        stream: &mut Stream,
        out: &mut dyn Write,
    ) -> Result<Option<u64>, Error> {
        let Some(Waker::Task(task)) = &sleep.waker else {
            return Ok(None);
        };
        let track = if task.pid == 0 {
            tracks.outside(stream, out)?
        } else {
            tracks.thread(task.pid, task.tid, &task.name, stream, out)?
        };
        self.flows += 1;
        let mut arguments = Arguments::new(stream);
        let woken = format!("{}[{}]", names::thread(&facts.thread), facts.tid);
        arguments.text("wakes", &woken);
        let arguments = arguments.list();
        let instant = TrackEvent {
            r#type: Some(INSTANT),
            flow_ids: vec![self.flows],
            ..begin(track, WAKE, "wake-up", arguments, stream)
        };
        stream.event(woken_ns, instant, out)?;
        Ok(Some(self.flows))
    }
}

/// A fault that was not seen to end: a slice without an end, unless it is known to be over.
pub(super) fn unended(
    fault: &Unended,
    tracks: &mut Tracks,
    stream: &mut Stream,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let stuck = &fault.stuck;
    let facts = &stuck.facts;
    let Facts { pid, tid, .. } = *facts;
    let track = tracks.thread(pid, tid, &facts.thread, stream, out)?;
    let end_ns = fault.over.map_or(fault.begin_ns, |(_, end_ns)| end_ns);
    let (begin_ns, end_ns) = tracks.take(pid, tid, fault.begin_ns, end_ns);
    let mut list = Arguments::new(stream);
    list.flag("still_stuck", fault.over.is_none());
    list.number("elapsed_ns", stuck.elapsed_ns);
    list.number("report", u64::from(stuck.report));
    list.text("end", end_in_words(fault.over.map(|(over, _)| over)));
    facts_into(facts, &mut list);
    let list = list.list();
    let begin = begin(track, FAULT, name(facts), list, stream);
    stream.event(begin_ns, begin, out)?;
    match fault.over {
        Some(_) => stream.event(end_ns, end(track), out),
        None => Ok(()),
    }
}

fn end_in_words(over: Option<Over>) -> &'static str {
    match over {
        None => "not before the end of the trace",
        Some(Over::NextFault) => "not seen; the thread was in its next fault here",
        Some(Over::ProcessEnd) => "not seen; the process ended here",
    }
}

/// The longest sleep, and the way back to a CPU, with the arrow to where it was woken.
fn parts(
    track: u64,
    [slept_ns, woken_ns, running_ns]: [u64; 3],
    flow: Option<u64>,
    stream: &mut Stream,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let flow: Vec<u64> = flow.into_iter().collect();
    let blocked = begin(track, PART, "blocked", Vec::new(), stream);
    stream.event(slept_ns, blocked, out)?;
    if running_ns == woken_ns {
        let woken = TrackEvent {
            terminating_flow_ids: flow,
            ..end(track)
        };
        return stream.event(woken_ns, woken, out);
    }
    stream.event(woken_ns, end(track), out)?;
    let run_queue = TrackEvent {
        terminating_flow_ids: flow,
        ..begin(track, PART, "run queue", Vec::new(), stream)
    };
    stream.event(woken_ns, run_queue, out)?;
    stream.event(running_ns, end(track), out)
}

fn name(facts: &Facts) -> &'static str {
    facts.cause.map_or(NO_SLEEP, Cause::as_str)
}

fn begin(
    track: u64,
    category: &'static str,
    name: &'static str,
    debug_annotations: Vec<DebugAnnotation>,
    stream: &mut Stream,
) -> TrackEvent {
    TrackEvent {
        r#type: Some(BEGIN),
        track_uuid: Some(track),
        category_iids: vec![stream.category(category)],
        name_iid: Some(stream.event_name(name)),
        debug_annotations,
        ..TrackEvent::default()
    }
}

fn end(track: u64) -> TrackEvent {
    TrackEvent {
        r#type: Some(END),
        track_uuid: Some(track),
        ..TrackEvent::default()
    }
}

fn arguments(fault: &Fault, cut_ns: u64, stream: &mut Stream) -> Vec<DebugAnnotation> {
    let mut list = Arguments::new(stream);
    list.flag("major", fault.major);
    list.number("duration_ns", fault.duration_ns);
    list.number("blocked_ns", fault.blocked_ns);
    list.number("runqueue_ns", fault.runqueue_ns);
    list.number("on_cpu_ns", fault.on_cpu_ns);
    list.number("switches", u64::from(fault.switches));
    let off_cpu_ns = fault.blocked_ns.saturating_add(fault.runqueue_ns);
    let placed_ns = fault.longest_sleep.as_ref().map_or(0, |sleep| {
        sleep.blocked_ns.saturating_add(sleep.runqueue_ns)
    });
    // Blocked or on the run queue at a time that is not known.
    list.number("unplaced_ns", off_cpu_ns.saturating_sub(placed_ns));
    list.text("end", fault.end.as_str());
    if cut_ns > 0 {
        // It overlaps the one before: two clocks, or an end that is approximate.
        list.number("begins_earlier_by_ns", cut_ns);
    }
    if let Some(sleep) = &fault.longest_sleep {
        waker_into(sleep.waker.as_ref(), &mut list);
    }
    if let Some(history) = &fault.history {
        history_into(history, &mut list);
    }
    if let Some(io) = &fault.io {
        io_into(io, &mut list);
    }
    facts_into(&fault.facts, &mut list);
    list.list()
}

fn waker_into(waker: Option<&Waker>, list: &mut Arguments<'_>) {
    match waker {
        Some(Waker::Interrupt) => list.text("woken_by", "an interrupt"),
        Some(Waker::Task(task)) => {
            list.text("woken_by", &with_id(&task.name, task.tid));
            if let Some(syscall) = &task.syscall {
                list.text("waker_syscall", &names::thread(syscall));
            }
        }
        None => {}
    }
}

/// `reader[4711]`; without the id where there is none.
fn with_id(name: &Name, id: u32) -> String {
    let name = names::thread(name);
    match known_id(id) {
        Some(id) => format!("{name}[{id}]"),
        None => name,
    }
}

/// What became of the page before, under the names that CSV has.
fn history_into(history: &History, list: &mut Arguments<'_>) {
    list.text("history_past", history.past.as_str());
    let Some(removal) = history.removal() else {
        return;
    };
    list.text("history_how", removal.how.as_str());
    list.text(
        "history_removed_by",
        &with_id(&removal.by.name, removal.by.pid),
    );
    if let Some(cgroup) = &removal.cgroup {
        list.text("history_removed_by_cgroup", &names::path(cgroup));
    }
    if let Some(pages) = removal.distance_pages {
        list.number("history_distance_pages", pages);
    }
    if let Some(filled) = &removal.filled {
        list.text("history_filled_by", &with_id(&filled.name, filled.pid));
    }
}

/// What devices did for it, likewise.
fn io_into(io: &Io, list: &mut Arguments<'_>) {
    if let Some(device) = &io.device {
        list.text("io_device", &device.numbers());
        if let Some(name) = &device.name {
            list.text("io_device_name", &names::thread(name));
        }
    }
    list.number("io_requests", u64::from(io.requests));
    list.number("io_completed", u64::from(io.completed));
    list.number("io_bytes", io.bytes);
    list.number("io_queued_ns", io.queued_ns);
    list.number("io_served_ns", io.served_ns);
    if let Some(held_ns) = io.held_ns {
        list.number("io_held_ns", held_ns);
    }
}

/// What the thread of a Go program was at.
fn goroutine_into(of: &Goroutine, list: &mut Arguments<'_>) {
    if let Some(id) = of.id {
        list.number("goroutine_id", id);
    }
    for (name, function) in [
        ("goroutine_start", &of.start),
        ("goroutine_created_by", &of.created_by),
    ] {
        if let Some(function) = function {
            list.text(name, &names::go_function(function));
        }
    }
    list.flag("goroutine_in_syscall", of.in_syscall);
    for (name, number) in [
        ("goroutine_p", of.p),
        ("gomaxprocs", of.procs),
        ("goroutines_queued_local", of.queued_local),
        ("goroutines_queued_global", of.queued_global),
        ("goroutines_queued_global_at_end", of.queued_global_at_end),
    ] {
        if let Some(number) = number {
            list.number(name, u64::from(number));
        }
    }
}

fn facts_into(facts: &Facts, list: &mut Arguments<'_>) {
    let place = &facts.place;
    let file = words::file(place.mapping, place.path.as_ref(), place.deleted);
    list.text("file", &(file.path + &file.suffix));
    if let Some(offset) = place.offset.filter(|_| words::has_offset(place)) {
        list.number("offset", offset);
    }
    if let Some(mapping) = place.mapping {
        list.text("mapping", MappingKind::as_str(mapping));
    }
    if let Some(address) = facts.address {
        list.address("address", address);
    }
    list.text("mode", facts.mode.as_str());
    if let Some(syscall) = &facts.syscall {
        list.text("syscall", &names::thread(syscall));
    }
    if let Some(access) = facts.access {
        list.text("access", Access::as_str(access));
    }
    list.flag("began_before_attach", facts.began_before_attach);
    list.flag("begin_approximate", facts.begin_approximate);
    list.flag("given_up", facts.given_up);
    if facts.began_before_attach {
        list.text("begin", BEFORE_ATTACH);
    }
    if let Some(goroutine) = &facts.goroutine {
        goroutine_into(goroutine, list);
    }
    if let Some(stack) = &facts.user_stack {
        list.stack("user_stack", stack);
    }
    if let Some(stack) = &facts.kernel_stack {
        list.stack("kernel_stack", stack);
    }
}
