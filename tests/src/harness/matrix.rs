//! Causes that are reported beside those that are known: a confusion matrix. What a touch waited for
//! follows from what the scenario does; which touches those are, the workload says by its own clock and
//! the kernel's count of its sleeps.

use std::collections::{BTreeMap, BTreeSet};

use super::record::Fault;
use super::tracer::{Trace, Tracer};
use super::work::Work;
use crate::clock::{monotonic_ns, unix_ns};
use crate::mem::PAGE;
use crate::truth::{Done, Touch};

/// How far the clocks of a touch and of its fault may be apart, ns.
const SLACK_NS: u64 = 200_000;

/// Faults with a known cause by the one reported, and how long all were blocked.
#[derive(Default)]
pub struct Matrix {
    /// By scenario, truth, and cause reported.
    cells: BTreeMap<(&'static str, &'static str, String), u64>,
    blocked_ns: u64,
    unknown_ns: u64,
}

/// Touches of one process that waited, if they did, for this.
pub struct Known<'a> {
    pub scenario: &'static str,
    pub truth: &'static str,
    pub work: &'a Work,
    pub done: &'a Done,
    /// Fewer faults with a known cause are too few to say anything.
    pub at_least: usize,
}

impl Matrix {
    /// Counts the blocking faults of these touches. The workloads that ask for it (`all_slept`) list only
    /// touches that slept: then each must have a fault.
    pub fn count(&mut self, known: &Known<'_>, trace: &Trace, all_slept: bool) {
        let touches = by_place(known.work, known.done);
        let offset_ns = unix_ns() - monotonic_ns();
        let mut matched = BTreeSet::new();
        for fault in trace.faults(known.work.pid()) {
            fault.check_parts();
            let Some(cause) = &fault.facts.cause else {
                continue;
            };
            self.blocked_ns += fault.blocked_ns;
            if cause == "unknown" {
                self.unknown_ns += fault.blocked_ns;
                eprintln!("{}: unknown: {}", known.scenario, stack(fault));
            }
            let Some(touch) = touch_of(fault, &touches, offset_ns) else {
                continue;
            };
            matched.insert((fault.facts.tid, touch.begin_ns));
            if cause != known.truth {
                eprintln!(
                    "{}: {cause}, not {}: {}",
                    known.scenario,
                    known.truth,
                    stack(fault)
                );
            }
            let key = (known.scenario, known.truth, cause.clone());
            *self.cells.entry(key).or_default() += 1;
        }
        let listed = touches.values().map(Vec::len).sum::<usize>();
        if all_slept {
            tell_unmatched(known.scenario, &touches, &matched);
        }
        eprintln!(
            "{}: {} faults of {listed} touches",
            known.scenario,
            matched.len()
        );
        trace.check(matched.len() >= known.at_least, || {
            format!("{}: only {} faults", known.scenario, matched.len())
        });
        trace.check(!all_slept || matched.len() * 100 >= listed * 98, || {
            format!("{}: {listed} touches slept", known.scenario)
        });
    }

    /// Prints it: scenarios with what is true in rows, what is reported in columns.
    pub fn print(&self) {
        let columns: BTreeSet<_> = self.cells.keys().map(|(_, _, cause)| cause).collect();
        let rows: BTreeSet<_> = self
            .cells
            .keys()
            .map(|(of, truth, _)| (of, truth))
            .collect();
        eprint!("{:<26}{:<14}", "scenario", "truth");
        columns.iter().for_each(|cause| eprint!("{cause:>14}"));
        eprintln!();
        for (of, truth) in rows {
            eprint!("{of:<26}{truth:<14}");
            for cause in &columns {
                let count = self.cells.get(&(*of, *truth, (*cause).clone()));
                eprint!("{:>14}", count.copied().unwrap_or_default());
            }
            eprintln!();
        }
        let (unknown_ns, blocked_ns) = (self.unknown_ns, self.blocked_ns);
        eprintln!("unknown: {unknown_ns} ns of {blocked_ns} ns blocked");
    }

    /// In each scenario, and of the blocked time of all faults, at most one in a hundred is wrong.
    pub fn check(&self) {
        let mut totals: BTreeMap<_, (u64, u64)> = BTreeMap::new();
        for ((of, truth, cause), count) in &self.cells {
            let (right, all) = totals.entry((of, truth)).or_default();
            *right += if truth == cause { *count } else { 0 };
            *all += count;
        }
        for ((of, truth), (right, all)) in &totals {
            assert!(
                right * 100 >= all * 99,
                "{of}: {right} of {all} are {truth}"
            );
        }
        let right: u64 = totals.values().map(|(right, _)| right).sum();
        let all: u64 = totals.values().map(|(_, all)| all).sum();
        assert!(right * 100 >= all * 99, "{right} right of {all}");
        assert!(
            self.unknown_ns * 100 < self.blocked_ns,
            "{} ns of {} ns are unknown",
            self.unknown_ns,
            self.blocked_ns
        );
    }
}

/// A thread and the address of a page to what was done there.
type Places<'a> = BTreeMap<(u32, u64), Vec<&'a Touch>>;

fn by_place<'a>(work: &Work, done: &'a Done) -> Places<'a> {
    let memory = work.ready.places["memory"];
    let mut places = Places::new();
    for worker in &done.threads {
        for touch in &worker.touches {
            let place = (worker.tid, memory + touch.offset);
            places.entry(place).or_default().push(touch);
        }
    }
    places
}

/// The touch whose fault this is, by thread, page and time.
fn touch_of<'a>(fault: &Fault, touches: &Places<'a>, offset_ns: u64) -> Option<&'a Touch> {
    let address = fault.facts.address.as_deref()?.strip_prefix("0x")?;
    let address = u64::from_str_radix(address, 16).expect("an address");
    let page = address & !(PAGE as u64 - 1);
    let began_ns = fault.facts.time_ns? - offset_ns;
    let there = touches.get(&(fault.facts.tid, page))?.iter();
    let during = there
        .filter(|touch| (touch.begin_ns - SLACK_NS..=touch.end_ns + SLACK_NS).contains(&began_ns));
    // The next touch of a page may begin at once.
    during
        .min_by_key(|touch| touch.begin_ns.abs_diff(began_ns))
        .copied()
}

/// Prints which touches have no fault in this set of threads and beginnings.
fn tell_unmatched(scenario: &str, touches: &Places<'_>, matched: &BTreeSet<(u32, u64)>) {
    for ((tid, address), there) in touches {
        for touch in there {
            if !matched.contains(&(*tid, touch.begin_ns)) {
                let took_ns = touch.end_ns - touch.begin_ns;
                eprintln!("{scenario}: {tid} at {address:#x} took {took_ns} ns without a fault");
            }
        }
    }
}

/// The functions of its kernel stack, innermost first.
fn stack(fault: &Fault) -> String {
    let frames = fault.facts.kernel_stack.as_deref().unwrap_or_default();
    let names = frames
        .iter()
        .map(|frame| frame.function.as_deref().unwrap_or("?"));
    names.collect::<Vec<_>>().join(" < ")
}

/// Runs a workload that is ready, traced.
fn run(work: &mut Work) -> (Done, Trace) {
    let tracer = Tracer::of(work.pid());
    let done = work.run();
    (done, tracer.stop())
}

/// Runs a workload to its end and counts: what it waited for is the same for all its touches.
pub fn judge(
    matrix: &mut Matrix,
    (scenario, truth): (&'static str, &'static str),
    mut work: Work,
    (at_least, all_slept): (usize, bool),
) {
    let (done, trace) = run(&mut work);
    let known = Known {
        scenario,
        truth,
        work: &work,
        done: &done,
        at_least,
    };
    matrix.count(&known, &trace, all_slept);
    work.exit();
}
