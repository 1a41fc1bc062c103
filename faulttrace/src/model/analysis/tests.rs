//! The fold against brute force and hand-counted numbers, and its bounds.

mod bounds;
pub(crate) mod diff;
pub(crate) mod diff_ahead;
pub(crate) mod diff_beside;
pub(crate) mod diff_ps;
mod files;
pub(crate) mod sweep;
mod totals;
mod walkers;

use std::collections::HashMap;
use std::sync::Arc;

use super::{Analysis, Bounds, Options, Report, Wall};
use crate::model::summary::samples::{T0, fault};
use crate::model::{Cause, Fault, Measure, Name, Record, Site};

/// Made-up numbers that are the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Less than `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }
}

/// The half of a fault that others share.
pub(crate) fn site(fault: &Fault) -> Site {
    let mut facts = fault.facts.clone();
    facts.begin_ns = None;
    facts.address = None;
    facts.place.offset = None;
    Site {
        facts,
        major: fault.major,
        end: fault.end,
    }
}

/// Records in the order in which they were written, fed as a reader does.
pub(crate) fn analyse(options: Options, records: &[Record]) -> Report {
    feed(Analysis::new(options), records).finish()
}

fn bounded(bounds: Bounds, records: &[Record]) -> Report {
    feed(Analysis::with_bounds(walled(records), bounds), records).finish()
}

fn feed(mut analysis: Analysis, records: &[Record]) -> Analysis {
    let mut ids: HashMap<String, (u64, Arc<Site>)> = HashMap::new();
    let mut faults = Vec::new();
    for record in records {
        let Record::Fault(fault) = record else {
            faults.push(None);
            continue;
        };
        let site = site(fault);
        let next = u64::try_from(ids.len()).unwrap() * 3;
        let known = ids
            .entry(format!("{site:?}"))
            .or_insert_with(|| (next, Arc::new(site)));
        faults.push(Some((known.clone(), fault.measure())));
    }
    for (_, site) in ids.values() {
        analysis.expect_site(site);
    }
    for (record, fault) in records.iter().zip(faults).rev() {
        match fault {
            Some(((id, site), measure)) => analysis.fault(id, &site, &measure),
            None => analysis.other(record),
        }
    }
    analysis
}

/// Options with the wall that encloses the faults.
fn walled(records: &[Record]) -> Options {
    let mut wall: Option<Wall> = None;
    for record in records {
        if let Record::Fault(fault) = record {
            let measure = fault.measure();
            let wall = wall.get_or_insert(Wall {
                begin_ns: measure.begin_ns(),
                end_ns: measure.end_ns,
            });
            wall.begin_ns = wall.begin_ns.min(measure.begin_ns());
            wall.end_ns = wall.end_ns.max(measure.end_ns);
        }
    }
    Options {
        wall,
        ..Options::default()
    }
}

/// A fault of a thread from `begin` to `end`, ns after [`T0`]; blocked for all but 1 ns of it.
pub(crate) fn during(tid: u32, begin: u64, end: u64) -> Fault {
    let mut one = fault();
    one.facts.tid = tid;
    one.facts.thread = Name::from(format!("worker-{tid}").as_str());
    one.facts.begin_ns = Some(T0 + begin);
    one.end_ns = T0 + end;
    one.duration_ns = end - begin;
    one.runqueue_ns = 0;
    one.on_cpu_ns = u64::from(end > begin);
    one.blocked_ns = one.duration_ns - one.on_cpu_ns;
    one
}

pub(crate) fn records(faults: impl IntoIterator<Item = Fault>) -> Vec<Record> {
    let faults = faults.into_iter();
    faults.map(|fault| Record::Fault(Arc::new(fault))).collect()
}

/// The end of a made-up fault.
fn end_of(record: &Record) -> u64 {
    match record {
        Record::Fault(fault) => fault.end_ns,
        _ => 0,
    }
}

/// Any of several.
fn cause(random: &mut Random) -> Option<Cause> {
    [
        None,
        Some(Cause::FileRead),
        Some(Cause::ReadWait),
        Some(Cause::Fuse),
    ][usize::try_from(random.below(4)).unwrap()]
}

fn measure(end_ns: u64, duration_ns: u64, offset: u64) -> Measure {
    Measure {
        end_ns,
        duration_ns,
        blocked_ns: duration_ns,
        runqueue_ns: 0,
        switches: 1,
        address: None,
        offset: Some(offset),
        longest_sleep: None,
        history: None,
        io: None,
        goroutine: None,
    }
}
