//! Perfetto: a timeline with a track for each thread, for ui.perfetto.dev and trace_processor.
//!
//! Packets are written as the records come, except those of counters ([`counters`]). Perfetto sorts
//! them by time and keeps the order of the file for equal times. Times are Unix time.

mod counters;
mod open;
mod proto;
mod sampled;
mod slices;
mod stalls;
mod stream;
#[cfg(test)]
mod tests;
mod touched;
mod tracks;

use std::io::Write;
use std::sync::Arc;

use super::about::{About, losses};
use super::{Error, Export};
use crate::model::summary::Summary;
use crate::model::{Fault, Record, Stuck};
use counters::Counters;
use open::{Before, Open, Over, Unended, holds_p};
use proto::{INSTANT, TrackEvent};
use sampled::Sampled;
use slices::Slices;
use stalls::{Lasting, Stalls};
use stream::{Limits, Stream};
use tracks::{NOTES_TRACK, Tracks};

/// The format.
#[derive(Debug)]
pub(super) struct Perfetto {
    about: About,
    begun: bool,
    stream: Stream,
    tracks: Tracks,
    slices: Slices,
    counters: Counters,
    sampled: Sampled,
    stalls: Stalls,
    open: Open,
}

impl Perfetto {
    pub(super) fn new() -> Self {
        Perfetto::with(Limits::default(), Counters::new())
    }

    fn with(limits: Limits, counters: Counters) -> Self {
        Perfetto {
            about: About::default(),
            begun: false,
            stream: Stream::with_limits(limits),
            tracks: Tracks::default(),
            slices: Slices::default(),
            counters,
            sampled: Sampled::default(),
            stalls: Stalls::default(),
            open: Open::default(),
        }
    }

    fn begin(&mut self, out: &mut dyn Write) -> Result<(), Error> {
        if self.begun {
            return Ok(());
        }
        self.begun = true;
        let at = self.about.begin_ns().unwrap_or(0);
        self.counters.begin(at);
        self.stream.begin(at, out)?;
        Tracks::notes(&mut self.stream, out)?;
        self.note(at, self.about.origin(), out)
    }

    /// Says something of the whole trace.
    fn note(&mut self, at: u64, text: String, out: &mut dyn Write) -> Result<(), Error> {
        let event = TrackEvent {
            r#type: Some(INSTANT),
            track_uuid: Some(NOTES_TRACK),
            category_iids: vec![self.stream.category("note")],
            name: Some(text),
            ..TrackEvent::default()
        };
        self.stream.event(at, event, out)
    }

    fn fault(&mut self, fault: &Fault, out: &mut dyn Write) -> Result<(), Error> {
        let facts = &fault.facts;
        let begin_ns = fault.end_ns.saturating_sub(fault.duration_ns);
        let (mut entered, mut left) = (false, false);
        // A thread that never slept kept nobody from its P.
        let mut holds_p = fault.blocked_ns > 0 && holds_p(facts);
        match self.open.ended(facts, begin_ns) {
            Before::Nothing => {}
            Before::Same(open) => {
                (entered, left) = (true, open.over.is_some());
                holds_p = open.holds_p;
            }
            Before::Other(open) => self.over(&open, out)?,
        }
        if !entered {
            self.counters.enter(facts.pid, begin_ns, holds_p);
        }
        if !left {
            self.counters.leave(facts.pid, fault.end_ns, holds_p);
        }
        self.counters.touch(facts, fault.end_ns);
        let (stream, tracks) = (&mut self.stream, &mut self.tracks);
        tracks.process(facts.pid, None, stream, out)?;
        self.slices.fault(fault, tracks, stream, out)?;
        self.counters.settle(false, stream, out)
    }

    fn stuck(&mut self, stuck: &Arc<Stuck>, out: &mut dyn Write) -> Result<(), Error> {
        let facts = &stuck.facts;
        // What began before attach has been in here since tracing began.
        let Some(begin_ns) = facts.begin_ns.or(self.about.begin_ns()) else {
            return Ok(());
        };
        match self.open.report(stuck, begin_ns) {
            None | Some(Before::Same(_)) => return Ok(()),
            Some(Before::Nothing) => {}
            Some(Before::Other(open)) => self.over(&open, out)?,
        }
        self.counters.enter(facts.pid, begin_ns, holds_p(facts));
        Ok(())
    }

    /// A fault is over whose end was not seen.
    fn over(&mut self, open: &Unended, out: &mut dyn Write) -> Result<(), Error> {
        if let Some((Over::NextFault, at)) = open.over {
            self.counters.leave(open.stuck.facts.pid, at, open.holds_p);
        }
        self.unended(open, out)
    }

    fn unended(&mut self, open: &Unended, out: &mut dyn Write) -> Result<(), Error> {
        let (stream, tracks) = (&mut self.stream, &mut self.tracks);
        tracks.process(open.stuck.facts.pid, None, stream, out)?;
        slices::unended(open, tracks, stream, out)
    }

    /// What this file does not show as it was.
    fn shortcomings(&self, summary: &Summary) -> Vec<String> {
        let mut notes = losses(summary);
        let counters = &self.counters;
        for (count, text) in [
            (
                self.slices.cut(),
                "faults overlap another of their thread, and are drawn from its end on",
            ),
            (
                counters.late(),
                "changes of the counters were too late for the window, and are drawn too late",
            ),
            (
                counters.uncounted(),
                "changes are in no counter, because there were too many processes",
            ),
            (
                summary.stuck_beyond_limit(),
                "threads still stuck are not drawn, because there were too many",
            ),
        ] {
            if count > 0 {
                notes.push(format!("{count} {text}"));
            }
        }
        notes
    }
}

impl Export for Perfetto {
    fn record(&mut self, record: &Record, out: &mut dyn Write) -> Result<(), Error> {
        self.about.see(record);
        self.begin(out)?;
        self.stream.forget_if_full();
        let (stream, tracks) = (&mut self.stream, &mut self.tracks);
        match record {
            Record::Start(start) => {
                for target in &start.targets {
                    tracks.process(target.pid, Some(target), stream, out)?;
                }
                Ok(())
            }
            Record::Process(info) => tracks.process(info.pid, Some(info), stream, out),
            Record::ProcessEnd(end) => {
                for open in self.open.process_ended(end.pid, end.time_ns) {
                    let at = open.over.map_or(end.time_ns, |(_, at)| at);
                    self.counters.leave(end.pid, at, open.holds_p);
                }
                Ok(())
            }
            Record::Fault(fault) => self.fault(fault, out),
            Record::Stuck(stuck) => self.stuck(stuck, out),
            Record::Sample(sample) => {
                tracks.process(sample.pid, None, stream, out)?;
                self.sampled.sample(sample, stream, out)
            }
            Record::Stall(stall) => {
                tracks.process(stall.pid, None, stream, out)?;
                let stall = Lasting::Threads(Arc::clone(stall));
                self.stalls.stall(stall, stream, out)
            }
            // They are not about the processes that have tracks.
            Record::CacheFill(_) | Record::ReadAhead(_) => Ok(()),
            Record::PStall(stall) => {
                tracks.process(stall.pid, None, stream, out)?;
                let stall = Lasting::Ps(Arc::clone(stall));
                self.stalls.stall(stall, stream, out)
            }
            Record::Go(go) => {
                tracks.process(go.pid, None, stream, out)?;
                self.stalls.program(go, stream, out)
            }
            // Told at the end, from the summary.
            Record::Lost(_) | Record::Accounting(_) | Record::Transport(_) => Ok(()),
        }
    }

    fn finish(&mut self, summary: &Summary, out: &mut dyn Write) -> Result<(), Error> {
        self.begin(out)?;
        for open in self.open.take_all() {
            self.stream.forget_if_full();
            self.unended(&open, out)?;
        }
        self.counters.settle(true, &mut self.stream, out)?;
        self.stalls.finish(&mut self.stream, out)?;
        if let Some(at) = self.counters.touched_until() {
            let text = "the bytes touched are not counted any more: too many pages to remember";
            self.note(at, text.to_owned(), out)?;
        }
        let at = self.about.end_ns().unwrap_or(0);
        for note in self.shortcomings(summary) {
            self.note(at, note, out)?;
        }
        // Also how far a slice goes that has no end.
        self.note(at, "end of the trace".to_owned(), out)
    }
}
