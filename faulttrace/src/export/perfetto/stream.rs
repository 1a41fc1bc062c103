//! The stream of packets, and the texts that it has told already and names by number.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use prost::Message as _;

use super::proto::{
    CLEARED, Clock, ClockSnapshot, DebugAnnotation, InternedData, InternedName, InternedString,
    NEEDS_STATE, REALTIME, Trace, TracePacket, TracePacketDefaults, TrackDescriptor, TrackEvent,
};
use crate::export::{Error, names};
use crate::model::Stack;

/// All packets are of one sequence.
const SEQUENCE: u32 = 1;
/// Perfetto's times are signed.
const MAX_TIME: u64 = i64::MAX as u64;

/// How many texts are remembered; when there are more, all are forgotten and told again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) texts: usize,
    pub(super) bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            texts: 100_000,
            bytes: 32 << 20,
        }
    }
}

/// Writes packets.
#[derive(Debug, Default)]
pub(super) struct Stream {
    limits: Limits,
    /// The first packet has been written.
    begun: bool,
    /// The next packet begins with nothing interned.
    cleared: bool,
    categories: HashMap<&'static str, u64>,
    event_names: HashMap<&'static str, u64>,
    argument_names: HashMap<&'static str, u64>,
    texts: HashMap<Box<str>, u64>,
    /// Stacks by address; each is held so that its address stays its own.
    stacks: HashMap<usize, (Arc<Stack>, u64)>,
    bytes: usize,
    /// Told with the next packet.
    news: InternedData,
}

impl Stream {
    pub(super) fn with_limits(limits: Limits) -> Self {
        Stream {
            limits,
            cleared: true,
            ..Stream::default()
        }
    }

    /// Says which clock the times are of. Before any other packet.
    pub(super) fn begin(&mut self, at: u64, out: &mut dyn Write) -> Result<(), Error> {
        // One clock is enough: the timeline is in Unix time. What other clocks showed is not known.
        let clock = Clock {
            clock_id: Some(REALTIME),
            timestamp: Some(at.min(MAX_TIME)),
        };
        let snapshot = ClockSnapshot {
            clocks: vec![clock],
            primary_trace_clock: Some(REALTIME),
        };
        self.packet(
            TracePacket {
                timestamp: Some(at.min(MAX_TIME)),
                clock_snapshot: Some(snapshot),
                ..TracePacket::default()
            },
            out,
        )
    }

    /// A line of the timeline: before the events on it.
    pub(super) fn track(
        &mut self,
        track: TrackDescriptor,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        self.packet(
            TracePacket {
                track_descriptor: Some(track),
                ..TracePacket::default()
            },
            out,
        )
    }

    /// Something on a track. Of those of one time, what is written first comes first.
    pub(super) fn event(
        &mut self,
        at: u64,
        event: TrackEvent,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        self.packet(
            TracePacket {
                timestamp: Some(at.min(MAX_TIME)),
                track_event: Some(event),
                ..TracePacket::default()
            },
            out,
        )
    }

    fn packet(&mut self, mut packet: TracePacket, out: &mut dyn Write) -> Result<(), Error> {
        packet.trusted_packet_sequence_id = Some(SEQUENCE);
        packet.sequence_flags = Some(if self.cleared { CLEARED } else { NEEDS_STATE });
        if self.cleared {
            packet.trace_packet_defaults = Some(TracePacketDefaults {
                timestamp_clock_id: Some(REALTIME),
            });
        }
        packet.first_packet_on_sequence = (!self.begun).then_some(true);
        let news = std::mem::take(&mut self.news);
        packet.interned_data = (news != InternedData::default()).then_some(news);
        self.cleared = false;
        self.begun = true;
        let trace = Trace {
            packet: vec![packet],
        };
        Ok(out.write_all(&trace.encode_to_vec())?)
    }

    /// Forgets what was told, if that is too much. Not between the making of an event and its
    /// writing: its numbers would mean nothing any more.
    pub(super) fn forget_if_full(&mut self) {
        let count = self.texts.len() + self.stacks.len();
        if count < self.limits.texts && self.bytes < self.limits.bytes {
            return;
        }
        *self = Stream {
            begun: self.begun,
            ..Stream::with_limits(self.limits)
        };
    }

    /// The number of a category.
    pub(super) fn category(&mut self, name: &'static str) -> u64 {
        number(&mut self.categories, name, &mut self.news.event_categories)
    }

    /// The number of an event's name.
    pub(super) fn event_name(&mut self, name: &'static str) -> u64 {
        number(&mut self.event_names, name, &mut self.news.event_names)
    }

    fn argument_name(&mut self, name: &'static str) -> u64 {
        number(
            &mut self.argument_names,
            name,
            &mut self.news.debug_annotation_names,
        )
    }

    fn text(&mut self, text: &str) -> u64 {
        if let Some(iid) = self.texts.get(text) {
            return *iid;
        }
        let iid = next(self.texts.len());
        self.bytes = self.bytes.saturating_add(text.len());
        self.texts.insert(text.into(), iid);
        self.news
            .debug_annotation_string_values
            .push(InternedString {
                iid: Some(iid),
                str: Some(text.as_bytes().to_vec()),
            });
        iid
    }

    fn stack(&mut self, stack: &Arc<Stack>) -> u64 {
        let address = Arc::as_ptr(stack).addr();
        if let Some((_, iid)) = self.stacks.get(&address) {
            return *iid;
        }
        let iid = self.text(&names::stack(stack, true));
        self.stacks.insert(address, (Arc::clone(stack), iid));
        iid
    }
}

/// The number of a name of ours.
fn number(
    known: &mut HashMap<&'static str, u64>,
    name: &'static str,
    news: &mut Vec<InternedName>,
) -> u64 {
    let iid = next(known.len());
    *known.entry(name).or_insert_with(|| {
        news.push(InternedName {
            iid: Some(iid),
            name: Some(name.to_owned()),
        });
        iid
    })
}

/// Perfetto's numbers begin at 1.
fn next(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX).saturating_add(1)
}

/// The arguments of an event. What is not known is left out.
#[derive(Debug)]
pub(super) struct Arguments<'a> {
    stream: &'a mut Stream,
    list: Vec<DebugAnnotation>,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(stream: &'a mut Stream) -> Self {
        Arguments {
            stream,
            list: Vec::new(),
        }
    }

    pub(super) fn list(self) -> Vec<DebugAnnotation> {
        self.list
    }

    fn push(&mut self, name: &'static str, value: DebugAnnotation) {
        self.list.push(DebugAnnotation {
            name_iid: Some(self.stream.argument_name(name)),
            ..value
        });
    }

    pub(super) fn flag(&mut self, name: &'static str, flag: bool) {
        self.push(
            name,
            DebugAnnotation {
                bool_value: Some(flag),
                ..DebugAnnotation::default()
            },
        );
    }

    pub(super) fn number(&mut self, name: &'static str, number: u64) {
        self.push(
            name,
            DebugAnnotation {
                uint_value: Some(number),
                ..DebugAnnotation::default()
            },
        );
    }

    pub(super) fn address(&mut self, name: &'static str, address: u64) {
        self.push(
            name,
            DebugAnnotation {
                pointer_value: Some(address),
                ..DebugAnnotation::default()
            },
        );
    }

    pub(super) fn text(&mut self, name: &'static str, text: &str) {
        let iid = self.stream.text(text);
        self.text_of(name, iid);
    }

    pub(super) fn stack(&mut self, name: &'static str, stack: &Arc<Stack>) {
        let iid = self.stream.stack(stack);
        self.text_of(name, iid);
    }

    fn text_of(&mut self, name: &'static str, iid: u64) {
        self.push(
            name,
            DebugAnnotation {
                string_value_iid: Some(iid),
                ..DebugAnnotation::default()
            },
        );
    }
}
