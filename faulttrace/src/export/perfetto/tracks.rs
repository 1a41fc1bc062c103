//! The lines of the timeline: told once each, before what is on them.

use std::collections::HashMap;
use std::io::Write;

use super::proto::{
    CounterDescriptor, ProcessDescriptor, ThreadDescriptor, TrackDescriptor, UNIT_BYTES, UNIT_COUNT,
};
use super::stream::Stream;
use crate::export::{Error, names};
use crate::model::{Name, ProcessInfo};

/// Threads, and processes, remembered; when there are more, all are forgotten and told again.
const MAX_KNOWN: usize = 100_000;

/// Ids of tracks: what they are, above the process and the thread. Linux has at most 2^22 of both.
fn uuid(kind: u64, pid: u32, tid: u32) -> u64 {
    const MASK: u64 = (1 << 28) - 1;
    kind << 56 | (u64::from(pid) & MASK) << 28 | u64::from(tid) & MASK
}

fn process_track(pid: u32) -> u64 {
    uuid(1, pid, 0)
}

/// Track of a thread.
pub(super) fn thread_track(pid: u32, tid: u32) -> u64 {
    uuid(2, pid, tid)
}

/// Track of how many threads of a process are in a fault.
pub(super) fn in_fault_track(pid: u32) -> u64 {
    uuid(3, pid, 0)
}

/// Track of how much of its files a process has touched.
pub(super) fn touched_track(pid: u32) -> u64 {
    uuid(4, pid, 0)
}

/// Track of a counter of a process's samples.
pub(super) fn sampled_track(pid: u32, kind: u32) -> u64 {
    uuid(7, pid, kind)
}

/// Track of the stalls of a process.
pub(super) fn stalls_track(pid: u32) -> u64 {
    uuid(8, pid, 0)
}

/// Track of what is told of the Go program of a process.
pub(super) fn go_track(pid: u32) -> u64 {
    uuid(9, pid, 0)
}

/// Track of how many Ps of a Go program are stuck.
pub(super) fn ps_stuck_track(pid: u32) -> u64 {
    uuid(10, pid, 0)
}

/// What a counter is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct CounterTrack {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
}

/// Track of wakers that have no ids in the tracer's pid namespace.
pub(super) const OUTSIDE_TRACK: u64 = 5 << 56;
/// Track of what is to be said of the whole trace.
pub(super) const NOTES_TRACK: u64 = 6 << 56;

/// The tracks told so far.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    threads: HashMap<(u32, u32), Lane>,
    processes: HashMap<u32, Option<ProcessInfo>>,
    outside: bool,
}

/// The track of a thread.
#[derive(Debug)]
struct Lane {
    name: Name,
    /// The end of the last slice on it, Unix ns. None may begin before.
    taken_until: u64,
}

impl Tracks {
    /// The track of notes: once.
    pub(super) fn notes(stream: &mut Stream, out: &mut dyn Write) -> Result<(), Error> {
        stream.track(named(NOTES_TRACK, "faulttrace: notes"), out)
    }

    /// Makes sure that a process has a track, or tells who it is now.
    pub(super) fn process(
        &mut self,
        pid: u32,
        info: Option<&ProcessInfo>,
        stream: &mut Stream,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        let known = self.processes.get(&pid);
        if known.is_some_and(|known| info.is_none() || known.as_ref() == info) {
            return Ok(());
        }
        if self.processes.len() >= MAX_KNOWN {
            self.processes.clear();
        }
        self.processes.insert(pid, info.cloned());
        let process = ProcessDescriptor {
            pid: Some(id(pid)),
            cmdline: exe(info).into_iter().collect(),
            process_name: info.map(|info| names::thread(&info.name)),
        };
        stream.track(
            TrackDescriptor {
                uuid: Some(process_track(pid)),
                process: Some(process),
                ..TrackDescriptor::default()
            },
            out,
        )
    }

    /// The tracks of a process's counters: once each.
    pub(super) fn counters(
        pid: u32,
        stream: &mut Stream,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        stream.track(
            counter(
                pid,
                in_fault_track(pid),
                "threads in page faults",
                UNIT_COUNT,
                "How many threads of the process are in a fault that was recorded.",
            ),
            out,
        )?;
        stream.track(
            counter(
                pid,
                touched_track(pid),
                "file bytes touched by faults",
                UNIT_BYTES,
                "Different pages of files on which there was a recorded fault so far, \
                 at 4 KiB each. The kernel may have mapped more around them.",
            ),
            out,
        )
    }

    /// The track of how many Ps of a process's Go program are stuck: once.
    pub(super) fn ps_stuck(
        pid: u32,
        stream: &mut Stream,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        stream.track(
            counter(
                pid,
                ps_stuck_track(pid),
                "Ps stuck",
                UNIT_COUNT,
                "How many threads of the Go program are in a fault that blocks and hold a P, so that \
                 nobody else can run goroutines with it. There are GOMAXPROCS of them.",
            ),
            out,
        )
    }

    /// The tracks of counters of a process's samples, in their order: once each.
    pub(super) fn sampled(
        pid: u32,
        counters: &[CounterTrack],
        stream: &mut Stream,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        for (kind, of) in (0..).zip(counters) {
            let uuid = sampled_track(pid, kind);
            stream.track(counter(pid, uuid, of.name, UNIT_COUNT, of.description), out)?;
        }
        Ok(())
    }

    /// The track of a process's stalls: once.
    pub(super) fn stalls(pid: u32, stream: &mut Stream, out: &mut dyn Write) -> Result<(), Error> {
        let track = TrackDescriptor {
            parent_uuid: Some(process_track(pid)),
            ..named(stalls_track(pid), "stalls")
        };
        stream.track(track, out)
    }

    /// The track of a process's Go program: once.
    pub(super) fn go(pid: u32, stream: &mut Stream, out: &mut dyn Write) -> Result<(), Error> {
        let description = "What the Go program is, and the times in which all its Ps were stuck in \
                           page faults.";
        let track = TrackDescriptor {
            parent_uuid: Some(process_track(pid)),
            description: Some(description.to_owned()),
            ..named(go_track(pid), "Go")
        };
        stream.track(track, out)
    }

    /// Makes sure that a thread has a track, with this name. Returns it.
    pub(super) fn thread(
        &mut self,
        pid: u32,
        tid: u32,
        name: &Name,
        stream: &mut Stream,
        out: &mut dyn Write,
    ) -> Result<u64, Error> {
        let uuid = thread_track(pid, tid);
        match self.threads.get_mut(&(pid, tid)) {
            Some(lane) if lane.name == *name => return Ok(uuid),
            Some(lane) => lane.name = name.clone(),
            None => {
                if self.threads.len() >= MAX_KNOWN {
                    self.threads.clear();
                }
                let lane = Lane {
                    name: name.clone(),
                    taken_until: 0,
                };
                self.threads.insert((pid, tid), lane);
            }
        }
        let thread = ThreadDescriptor {
            pid: Some(id(pid)),
            tid: Some(i64::from(tid)),
            thread_name: Some(names::thread(name)),
        };
        let track = TrackDescriptor {
            uuid: Some(uuid),
            thread: Some(thread),
            ..TrackDescriptor::default()
        };
        stream.track(track, out)?;
        Ok(uuid)
    }

    /// The track of wakers without ids.
    pub(super) fn outside(
        &mut self,
        stream: &mut Stream,
        out: &mut dyn Write,
    ) -> Result<u64, Error> {
        if !self.outside {
            self.outside = true;
            let name = "threads outside the pid namespace";
            stream.track(named(OUTSIDE_TRACK, name), out)?;
        }
        Ok(OUTSIDE_TRACK)
    }

    /// Takes the time of a slice on a thread's track; what is taken already is cut off.
    pub(super) fn take(&mut self, pid: u32, tid: u32, begin_ns: u64, end_ns: u64) -> (u64, u64) {
        let Some(lane) = self.threads.get_mut(&(pid, tid)) else {
            return (begin_ns, end_ns.max(begin_ns));
        };
        let begin_ns = begin_ns.max(lane.taken_until);
        let end_ns = end_ns.max(begin_ns);
        lane.taken_until = end_ns;
        (begin_ns, end_ns)
    }
}

fn counter(pid: u32, uuid: u64, name: &str, unit: i32, description: &str) -> TrackDescriptor {
    TrackDescriptor {
        uuid: Some(uuid),
        name: Some(name.to_owned()),
        parent_uuid: Some(process_track(pid)),
        counter: Some(CounterDescriptor { unit: Some(unit) }),
        description: Some(description.to_owned()),
        ..TrackDescriptor::default()
    }
}

fn named(uuid: u64, name: &str) -> TrackDescriptor {
    TrackDescriptor {
        uuid: Some(uuid),
        name: Some(name.to_owned()),
        ..TrackDescriptor::default()
    }
}

fn exe(info: Option<&ProcessInfo>) -> Option<String> {
    info?.exe.as_ref().map(names::path)
}

/// Perfetto's process ids are signed.
fn id(pid: u32) -> i32 {
    i32::try_from(pid).unwrap_or(i32::MAX)
}
