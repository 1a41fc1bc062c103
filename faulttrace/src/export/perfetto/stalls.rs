//! Stalls, as slices on a track of their process, and on another one what is told of its Go program:
//! what it is, and the times in which all its Ps were stuck.
//!
//! Those of a process that are over come in the order of their times, so they can be written as they
//! come.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use super::proto::{BEGIN, DebugAnnotation, END, INSTANT, TrackEvent};
use super::stream::{Arguments, Stream};
use super::tracks::{Tracks, go_track, stalls_track};
use crate::export::{Error, names};
use crate::model::{GoProcess, LayoutSource, PStall, Stall};

/// Tracks remembered.
const MAX_TRACKS: usize = 20_000;

/// The stalls of all processes.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// Tracks that were told.
    tracks: HashSet<u64>,
    /// Those that are not over, by track.
    going_on: BTreeMap<u64, Lasting>,
}

/// Something that may be told again and again until it is over.
#[derive(Debug)]
pub(super) enum Lasting {
    /// Many threads were in faults.
    Threads(Arc<Stall>),
    /// All Ps of a Go program were stuck.
    Ps(Arc<PStall>),
}

impl Stalls {
    pub(super) fn stall(
        &mut self,
        stall: Lasting,
        stream: &mut Stream,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        let track = stall.track();
        let is_there = match &stall {
            Lasting::Threads(of) => self.track(track, of.pid, Tracks::stalls, stream, out)?,
            Lasting::Ps(of) => self.track(track, of.pid, Tracks::go, stream, out)?,
        };
        if !is_there {
            return Ok(());
        }
        if !stall.is_over() {
            // It is told again when it is over.
            self.going_on.insert(track, stall);
            return Ok(());
        }
        self.going_on.remove(&track);
        stall.slice(stream, out)
    }

    /// A process runs a Go program, or has another GOMAXPROCS from now on.
    pub(super) fn program(
        &mut self,
        go: &GoProcess,
        stream: &mut Stream,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        let track = go_track(go.pid);
        if !self.track(track, go.pid, Tracks::go, stream, out)? {
            return Ok(());
        }
        let version = names::thread(&go.version);
        let name = match go.procs {
            Some(procs) => format!("{version}, GOMAXPROCS {procs}"),
            None => format!("{version}, GOMAXPROCS unknown"),
        };
        let category = stream.category("go");
        let mut arguments = Arguments::new(stream);
        arguments.text("version", &version);
        if let Some(module) = &go.module {
            arguments.text("module", &names::path(module));
        }
        if let Some(procs) = go.procs {
            arguments.number("gomaxprocs", u64::from(procs));
        }
        if let Some(layout) = go.layout {
            arguments.text("layout", LayoutSource::as_str(layout));
        }
        let instant = TrackEvent {
            r#type: Some(INSTANT),
            track_uuid: Some(track),
            category_iids: vec![category],
            name: Some(name),
            debug_annotations: arguments.list(),
            ..TrackEvent::default()
        };
        stream.event(go.time_ns, instant, out)
    }

    /// There are no more.
    pub(super) fn finish(&mut self, stream: &mut Stream, out: &mut dyn Write) -> Result<(), Error> {
        let going_on = std::mem::take(&mut self.going_on);
        going_on
            .values()
            .try_for_each(|stall| stall.slice(stream, out))
    }

    /// Makes sure that a track was told; `false` if there are too many.
    fn track(
        &mut self,
        track: u64,
        pid: u32,
        tell: fn(u32, &mut Stream, &mut dyn Write) -> Result<(), Error>,
        stream: &mut Stream,
        out: &mut dyn Write,
    ) -> Result<bool, Error> {
        if self.tracks.contains(&track) {
            return Ok(true);
        }
        if self.tracks.len() >= MAX_TRACKS {
            return Ok(false);
        }
        self.tracks.insert(track);
        tell(pid, stream, out)?;
        Ok(true)
    }
}

impl Lasting {
    fn track(&self) -> u64 {
        match self {
            Lasting::Threads(of) => stalls_track(of.pid),
            Lasting::Ps(of) => go_track(of.pid),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Lasting::Threads(of) => of.over,
            Lasting::Ps(of) => of.over,
        }
    }

    fn slice(&self, stream: &mut Stream, out: &mut dyn Write) -> Result<(), Error> {
        let (name, category, begin_ns, end_ns) = match self {
            Lasting::Threads(of) => ("stall", "stall", of.begin_ns, of.end_ns()),
            Lasting::Ps(of) => (
                "all Ps stuck",
                "p_stall",
                of.stall.begin_ns,
                of.stall.end_ns,
            ),
        };
        let begin = TrackEvent {
            r#type: Some(BEGIN),
            track_uuid: Some(self.track()),
            category_iids: vec![stream.category(category)],
            name_iid: Some(stream.event_name(name)),
            debug_annotations: self.arguments(stream),
            ..TrackEvent::default()
        };
        stream.event(begin_ns, begin, out)?;
        let end = TrackEvent {
            r#type: Some(END),
            track_uuid: Some(self.track()),
            ..TrackEvent::default()
        };
        stream.event(end_ns, end, out)
    }

    fn arguments(&self, stream: &mut Stream) -> Vec<DebugAnnotation> {
        let mut list = Arguments::new(stream);
        match self {
            Lasting::Threads(of) => {
                list.number("threads", of.threads);
                list.number("max_threads", of.max_threads);
                list.number("threads_needed", u64::from(of.needed));
            }
            Lasting::Ps(of) => {
                list.number("gomaxprocs", u64::from(of.stall.procs));
                if let Some(queued) = of.stall.queued {
                    list.number("queued", queued);
                }
                list.number("stuck_ns", of.stall.stuck_ns);
            }
        }
        list.flag("over", self.is_over());
        list.list()
    }
}
