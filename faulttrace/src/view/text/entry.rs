//! Entries: a fault, a stuck thread, a fold of many faults.

use std::collections::HashMap;

use super::TextOptions;
use super::coalesce::{Group, Rest};
use super::devices;
use super::go;
use super::history;
use super::line::{Line, Page, Paint};
use super::stack::{self, Above};
use super::words::{self, Clock, duration, plural};
use crate::model::summary::Tally;
use crate::model::{Cause, End, Facts, Fault, Name, Stuck, Waker};

/// Process names remembered. When there are more, all are forgotten: entries then show pids only.
const MAX_NAMES: usize = 10_000;

/// Renders entries.
#[derive(Debug)]
pub(in crate::view) struct Entries {
    pub(in crate::view) page: Page,
    pub(in crate::view) clock: Clock,
    kernel_stacks: bool,
    pub(in crate::view) multi_process: bool,
    names: HashMap<u32, Name>,
    above: Above,
}

impl Entries {
    pub(in crate::view) fn new(options: TextOptions, clock: Clock) -> Self {
        Entries {
            page: Page {
                color: options.color,
                width: options.width,
            },
            clock,
            kernel_stacks: options.kernel_stacks,
            multi_process: options.multi_process,
            names: HashMap::new(),
            above: Above::default(),
        }
    }

    /// Remembers the process's name. Says whether it had one before.
    pub(super) fn name(&mut self, pid: u32, name: &Name) -> bool {
        if self.names.len() >= MAX_NAMES && !self.names.contains_key(&pid) {
            self.names.clear();
        }
        self.names.insert(pid, name.clone()).is_some()
    }

    /// The name of a process that is over: for what is said of it now.
    pub(super) fn name_of(&self, pid: u32) -> Option<&Name> {
        self.names.get(&pid)
    }

    /// A fault that is over. `reports` is how often it has been reported as stuck.
    pub(super) fn fault(&mut self, fault: &Fault, reports: u32, out: &mut Vec<u8>) {
        let facts = &fault.facts;
        let mark = mark(facts.is_lower_bound(), fault.end == End::Approximate);
        let line = self.head(
            &self.clock.begin(facts),
            &format!("{mark}{}", duration(fault.duration_ns)),
            None,
            fault.major,
            facts,
        );
        let at = words::place(&facts.place);
        line.path(&at.path, &at.suffix).end(out);

        if fault.only_end_seen() {
            self.detail(ONLY_END, out);
            self.notes(fault, reports, out);
        } else {
            let parts = split(fault.blocked_ns, fault.runqueue_ns, fault.on_cpu_ns);
            self.detail(&parts, out);
            self.notes(fault, reports, out);
            self.detail(&waited_fault(fault), out);
        }
        if let Some(past) = history::past(fault, &|pid| self.names.get(&pid)) {
            self.detail(&past, out);
        }
        if let Some(io) = &fault.io {
            self.detail(&devices::work(io), out);
        }
        self.goroutine(facts, out);
        self.detail(&words::access(facts), out);
        self.stacks(facts, out);
    }

    fn goroutine(&self, facts: &Facts, out: &mut Vec<u8>) {
        if let Some(text) = go::goroutine(facts) {
            self.detail(&text, out);
        }
    }

    /// A fault that is not over.
    pub(super) fn stuck(&mut self, stuck: &Stuck, out: &mut Vec<u8>) {
        let facts = &stuck.facts;
        let mark = mark(facts.is_lower_bound(), false);
        let line = self.head(
            &self.clock.begin(facts),
            &format!("{mark}{}", duration(stuck.elapsed_ns)),
            Some("STUCK"),
            false,
            facts,
        );
        let mut at = words::place(&facts.place);
        if stuck.report > 1 {
            at.suffix += &format!(" (still, report {})", stuck.report);
            line.path(&at.path, &at.suffix).end(out);
            return;
        }
        line.path(&at.path, &at.suffix).end(out);
        match facts.cause {
            Some(cause) => self.detail(&format!("waiting for {}", awaited(facts, cause)), out),
            None => self.detail("waiting for something unknown", out),
        }
        if let Some(io) = &stuck.io {
            self.detail(&devices::work_so_far(io), out);
        }
        self.begin_notes(facts, out);
        self.goroutine(facts, out);
        self.detail(&words::access(facts), out);
        self.stacks(facts, out);
    }

    /// Many faults that were held back.
    pub(super) fn group(&mut self, group: &Group, out: &mut Vec<u8>) {
        let fault = &group.sample;
        if group.tally.faults == 1 {
            self.fault(fault, 0, out);
            return;
        }
        let facts = &fault.facts;
        let count = format!("×{}", group.tally.faults);
        let begin = self.clock.begin(facts);
        let line = self.head(&begin, &count, None, fault.major, facts);
        let place = &facts.place;
        let mut at = words::file(place.mapping, place.path.as_ref(), place.deleted);
        if let Some((low, high)) = group.offsets.filter(|_| words::has_offset(place)) {
            let range = match low == high {
                true => format!(" +{low:#x}"),
                false => format!(" +{low:#x}..{high:#x}"),
            };
            at.suffix.insert_str(0, &range);
        }
        line.path(&at.path, &at.suffix).end(out);

        let mark = mark(group.lower_bounds, group.approximate);
        let tally = &group.tally;
        self.detail(
            &format!(
                "{} in all {mark}{}, the longest {mark}{}",
                plural(tally.faults, "fault"),
                duration(tally.duration_ns),
                duration(tally.max_ns)
            ),
            out,
        );
        let parts = split(tally.blocked_ns, tally.runqueue_ns, tally.on_cpu_ns);
        self.detail(&parts, out);
        self.detail(&waited(facts), out);
        self.detail(&format!("the first: {}", words::access(facts)), out);
        self.stacks(facts, out);
    }

    /// What was held back and is not shown by group.
    pub(super) fn rest(&mut self, rest: &Rest, out: &mut Vec<u8>) {
        let tally = &rest.tally;
        if tally.faults == 0 {
            return;
        }
        let groups = match (rest.more, rest.groups) {
            (true, groups) => format!("more than {groups} other threads, files or stacks"),
            (false, 1) => "another thread, file or stack".to_owned(),
            (false, groups) => format!("{groups} other threads, files or stacks"),
        };
        let mark = mark(rest.lower_bounds, rest.approximate);
        let count = format!("×{}", tally.faults);
        let line = self.page.line().add("and           ");
        line.paint(Paint::Bold, &format!("{count:>8}"))
            .add(&format!("  more faults, {}, of {groups}", majors(tally)))
            .end(out);
        self.detail(
            &format!(
                "in all {mark}{}, the longest {mark}{}",
                duration(tally.duration_ns),
                duration(tally.max_ns)
            ),
            out,
        );
        self.detail(
            &split(tally.blocked_ns, tally.runqueue_ns, tally.on_cpu_ns),
            out,
        );
    }

    /// What all headlines have in common: everything but the place. `alarm` stands where major or
    /// minor does.
    fn head(
        &self,
        begin: &str,
        duration: &str,
        alarm: Option<&str>,
        major: bool,
        facts: &Facts,
    ) -> Line {
        let line = self.page.line().add(begin).add("  ");
        let line = line.paint(Paint::Bold, &format!("{duration:>8}")).add("  ");
        let line = match (alarm, major) {
            (Some(alarm), _) => line.paint(Paint::Alarm, alarm),
            (None, true) => line.add("major"),
            (None, false) => line.add("minor"),
        };
        let cause = match (alarm, facts.cause) {
            // It waits; only for what is not known.
            (Some(_), None) => Cause::Unknown.as_str(),
            (None, None) if facts.began_before_attach => Cause::Unknown.as_str(),
            (_, cause) => words::cause(cause),
        };
        line.add(&format!(" {cause:<9}  "))
            .pad(&self.who(facts), 15)
            .add("  ")
    }

    fn who(&self, facts: &Facts) -> String {
        let thread = words::with_id(Some(&facts.thread), facts.tid);
        if self.multi_process {
            let process = words::with_id(self.names.get(&facts.pid), facts.pid);
            format!("{process} {thread}")
        } else {
            thread
        }
    }

    fn detail(&self, text: &str, out: &mut Vec<u8>) {
        self.page.wrap(4, text, out);
    }

    fn notes(&self, fault: &Fault, reports: u32, out: &mut Vec<u8>) {
        if reports > 0 {
            let times = plural(u64::from(reports), "time");
            self.detail(&format!("was stuck (reported {times})"), out);
        }
        self.begin_notes(&fault.facts, out);
        if fault.facts.given_up {
            self.detail(GIVEN_UP, out);
        }
        match fault.end {
            End::Exact => {}
            End::Approximate => {
                self.detail("end approximate: may lack some µs in the kernel", out);
            }
            End::Died => self.detail("the thread died in this fault", out),
        }
    }

    fn begin_notes(&self, facts: &Facts, out: &mut Vec<u8>) {
        if facts.began_before_attach {
            self.detail(BEFORE, out);
        }
        if facts.begin_approximate {
            self.detail(UNSEEN, out);
        }
    }

    fn stacks(&mut self, facts: &Facts, out: &mut Vec<u8>) {
        let stack = facts.user_stack.as_ref();
        self.above.user_stack(self.page, facts.pid, stack, out);
        // Without a sleep there is none.
        if self.kernel_stacks && (facts.cause.is_some() || facts.kernel_stack.is_some()) {
            stack::kernel_stack(self.page, facts.kernel_stack.as_ref(), out);
        }
    }
}

const GIVEN_UP: &str = "given up before it was complete, for a signal or because it failed: the kernel does not count it";
const UNSEEN: &str = "its beginning was not seen: its duration is a lower bound";
const ONLY_END: &str = "only its end was seen: whether it slept, and for what, is not known";
const NO_STACK: &str = "something unknown: its kernel stack was not recorded";
const BEFORE: &str = "began before faulttrace attached: times are lower bounds";

/// The sign before a time that is a bound or an estimate.
fn mark(lower_bound: bool, approximate: bool) -> &'static str {
    match (lower_bound, approximate) {
        (true, _) => "≥",
        (false, true) => "~",
        (false, false) => "",
    }
}

/// Where the time went.
pub(super) fn split(blocked_ns: u64, runqueue_ns: u64, on_cpu_ns: u64) -> String {
    format!(
        "blocked {}, run queue {}, on CPU {}",
        duration(blocked_ns),
        duration(runqueue_ns),
        duration(on_cpu_ns)
    )
}

/// `3 faults, 2 of them major`.
pub(super) fn major_count(tally: &Tally) -> String {
    format!("{}, {}", plural(tally.faults, "fault"), majors(tally))
}

fn majors(tally: &Tally) -> String {
    match tally.majors {
        0 => "none major".to_owned(),
        1 if tally.faults == 1 => "major".to_owned(),
        majors if majors == tally.faults => "all major".to_owned(),
        majors => format!("{majors} of them major"),
    }
}

/// The same of one fault: with who held the lock that it waited for, if that is known.
fn waited_fault(fault: &Fault) -> String {
    let sleep = fault.longest_sleep.as_ref();
    match (
        fault.facts.cause,
        sleep.and_then(|sleep| sleep.waker.as_ref()),
    ) {
        (Some(Cause::MmapLock), Some(waker @ Waker::Task(_))) => format!(
            "waited for the lock of the address space, held last by {}",
            words::task(waker, fault.facts.pid)
        ),
        _ => waited(&fault.facts),
    }
}

fn waited(facts: &Facts) -> String {
    match facts.cause {
        Some(cause) => format!("waited for {}", awaited(facts, cause)),
        None => "did not sleep".to_owned(),
    }
}

fn awaited(facts: &Facts, cause: Cause) -> &'static str {
    match cause {
        Cause::Unknown if facts.kernel_stack.is_none() => NO_STACK,
        cause => words::awaited(cause),
    }
}
