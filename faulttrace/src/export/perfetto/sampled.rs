//! What samples say, as counters: each on a track of its process.
//!
//! Samples of a process come in the order of their times, so they can be written as they come.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use super::proto::{COUNTER, TrackEvent};
use super::stream::Stream;
use super::tracks::{CounterTrack, Tracks, sampled_track};
use crate::export::Error;
use crate::model::Sample;

/// Processes remembered.
const MAX_PROCESSES: usize = 10_000;

/// The counters of samples. The value between two samples is written at the first of them.
const COUNTERS: [CounterTrack; 4] = [
    CounterTrack {
        name: "CPU time, % of one CPU",
        description: "CPU time of the process, user and system, from one sample to the next.",
    },
    CounterTrack {
        name: "iowait, % of one CPU",
        description: "Time that the machine's CPUs were idle while something waited for block I/O.",
    },
    CounterTrack {
        name: "I/O pressure, %",
        description: "Part of the time in which some task waited for I/O: of the process's cgroup, \
                      or of the machine where that is not counted.",
    },
    CounterTrack {
        name: "run queue",
        description: "Threads of the machine that ran or were ready to, at the moment of the sample.",
    },
];

/// The samples of all processes.
#[derive(Debug, Default)]
pub(super) struct Sampled {
    last: HashMap<u32, Arc<Sample>>,
}

impl Sampled {
    pub(super) fn sample(
        &mut self,
        sample: &Arc<Sample>,
        stream: &mut Stream,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        let pid = sample.pid;
        let before = self.last.get(&pid).cloned();
        match &before {
            None if self.last.len() >= MAX_PROCESSES => return Ok(()),
            None => Tracks::sampled(pid, &COUNTERS, stream, out)?,
            Some(before) if before.time_ns >= sample.time_ns => return Ok(()),
            Some(before) => {
                for (kind, value) in (0..).zip(rates(before, sample)) {
                    counter(pid, kind, before.time_ns, value, stream, out)?;
                }
            }
        }
        let queue = sample.system.run_queue.map(i64::from);
        counter(pid, 3, sample.time_ns, queue, stream, out)?;
        self.last.insert(pid, Arc::clone(sample));
        Ok(())
    }
}

/// The first three counters, in percent; `None` where a sample lacks one.
fn rates(before: &Sample, after: &Sample) -> [Option<i64>; 3] {
    let wall_ns = after.time_ns.saturating_sub(before.time_ns);
    let percent = |before: Option<u64>, after: Option<u64>| {
        let ns = u128::from(after?.checked_sub(before?)?);
        i64::try_from((ns * 100).checked_div(u128::from(wall_ns))?).ok()
    };
    let cpu = |sample: &Sample| {
        let counters = &sample.process;
        counters.user_ns?.checked_add(counters.system_ns?)
    };
    let waited = |sample: &Sample| Some(sample.pressure?.io?.some_ns);
    let of = |sample: &Sample| sample.pressure.map(|pressure| pressure.of);
    let same = of(before) == of(after);
    [
        percent(cpu(before), cpu(after)),
        percent(before.system.iowait_ns, after.system.iowait_ns),
        percent(waited(before), waited(after)).filter(|_| same),
    ]
}

fn counter(
    pid: u32,
    kind: u32,
    at: u64,
    value: Option<i64>,
    stream: &mut Stream,
    out: &mut dyn Write,
) -> Result<(), Error> {
    // What is not known is left out: the value before it stays.
    let Some(value) = value else { return Ok(()) };
    let event = TrackEvent {
        r#type: Some(COUNTER),
        track_uuid: Some(sampled_track(pid, kind)),
        counter_value: Some(value),
        ..TrackEvent::default()
    };
    stream.event(at, event, out)
}
