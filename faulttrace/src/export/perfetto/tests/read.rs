//! Reads a trace as trace_processor does: packets in the order of the file for what they tell, and
//! sorted by time, equal ones in the order of the file, for what is on the tracks.

use std::collections::{BTreeMap, HashMap};

use prost::Message as _;

use super::super::proto::{
    BEGIN, CLEARED, COUNTER, DebugAnnotation, END, INSTANT, InternedData, InternedName, REALTIME,
    Trace, TrackDescriptor, TrackEvent,
};

/// A value of an argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Flag(bool),
    Number(u64),
    Text(String),
}

/// A slice or an instant.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    pub(super) track: u64,
    pub(super) name: String,
    pub(super) category: String,
    pub(super) begin: u64,
    pub(super) end: Option<u64>,
    /// Index of the slice that it is in.
    pub(super) parent: Option<usize>,
    pub(super) arguments: BTreeMap<String, Value>,
}

impl Slice {
    pub(super) fn number(&self, name: &str) -> u64 {
        match self.arguments.get(name) {
            Some(Value::Number(number)) => *number,
            other => panic!("{name} is {other:?}"),
        }
    }

    pub(super) fn text(&self, name: &str) -> &str {
        match self.arguments.get(name) {
            Some(Value::Text(text)) => text,
            other => panic!("{name} is {other:?}"),
        }
    }
}

/// A trace.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) tracks: HashMap<u64, TrackDescriptor>,
    /// By time.
    pub(super) slices: Vec<Slice>,
    /// Slice where it begins, slice where it ends.
    pub(super) flows: BTreeMap<u64, (usize, Option<usize>)>,
    /// Track and values, in the order of the file.
    pub(super) counters: BTreeMap<u64, Vec<(u64, i64)>>,
    /// How often what was interned was forgotten.
    pub(super) states: usize,
}

impl Read {
    pub(super) fn of(category: &str, slices: &[Slice]) -> Vec<Slice> {
        let of = slices.iter().filter(|slice| slice.category == category);
        of.cloned().collect()
    }

    pub(super) fn faults(&self) -> Vec<Slice> {
        Read::of("fault", &self.slices)
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let notes = Read::of("note", &self.slices).into_iter();
        notes.map(|note| note.name).collect()
    }

    /// The values of the counter of this name of a process, without repeated ones.
    pub(super) fn counter(&self, name: &str, pid: i32) -> Vec<(u64, i64)> {
        let of = self.counters.iter().find(|(uuid, _)| {
            let track = &self.tracks[*uuid];
            let parent = &self.tracks[&track.parent_uuid.unwrap()];
            track.name.as_deref() == Some(name) && parent.process.as_ref().unwrap().pid == Some(pid)
        });
        of.map(|(_, values)| values.clone()).unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct State {
    categories: HashMap<u64, String>,
    names: HashMap<u64, String>,
    arguments: HashMap<u64, String>,
    texts: HashMap<u64, String>,
}

impl State {
    fn intern(&mut self, data: InternedData) {
        let names = |known: &mut HashMap<u64, String>, news: Vec<InternedName>| {
            for new in news {
                let before = known.insert(new.iid.unwrap(), new.name.unwrap());
                assert_eq!(before, None);
            }
        };
        names(&mut self.categories, data.event_categories);
        names(&mut self.names, data.event_names);
        names(&mut self.arguments, data.debug_annotation_names);
        for new in data.debug_annotation_string_values {
            let text = String::from_utf8(new.str.unwrap()).unwrap();
            assert_eq!(self.texts.insert(new.iid.unwrap(), text), None);
        }
    }

    fn argument(&self, argument: &DebugAnnotation) -> (String, Value) {
        let name = self.arguments[&argument.name_iid.unwrap()].clone();
        let value = if let Some(flag) = argument.bool_value {
            Value::Flag(flag)
        } else if let Some(iid) = argument.string_value_iid {
            Value::Text(self.texts[&iid].clone())
        } else {
            Value::Number(argument.uint_value.or(argument.pointer_value).unwrap())
        };
        (name, value)
    }

    fn slice(&self, at: u64, event: &TrackEvent) -> Slice {
        let arguments = event.debug_annotations.iter();
        Slice {
            track: event.track_uuid.unwrap(),
            name: match &event.name {
                Some(name) => name.clone(),
                None => self.names[&event.name_iid.unwrap()].clone(),
            },
            category: self.categories[&event.category_iids[0]].clone(),
            begin: at,
            end: (event.r#type == Some(INSTANT)).then_some(at),
            parent: None,
            arguments: arguments.map(|of| self.argument(of)).collect(),
        }
    }
}

/// Reads a trace; panics where trace_processor would complain.
pub(super) fn read(bytes: &[u8]) -> Read {
    let mut read = Read::default();
    let mut state = State::default();
    let mut events = Vec::new();
    for (index, packet) in Trace::decode(bytes).unwrap().packet.into_iter().enumerate() {
        if packet.sequence_flags == Some(CLEARED) {
            state = State::default();
            read.states += 1;
            let defaults = packet.trace_packet_defaults.unwrap();
            assert_eq!(defaults.timestamp_clock_id, Some(REALTIME));
        }
        assert!(read.states > 0);
        assert_eq!(packet.first_packet_on_sequence.is_some(), index == 0);
        assert_eq!(packet.clock_snapshot.is_some(), index == 0);
        if let Some(data) = packet.interned_data {
            state.intern(data);
        }
        if let Some(track) = packet.track_descriptor {
            read.tracks.insert(track.uuid.unwrap(), track);
        }
        let Some(event) = packet.track_event else {
            continue;
        };
        let at = packet.timestamp.unwrap();
        let uuid = event.track_uuid.unwrap();
        assert!(read.tracks.contains_key(&uuid));
        match event.r#type.unwrap() {
            COUNTER => {
                let value = event.counter_value.unwrap();
                read.counters.entry(uuid).or_default().push((at, value));
            }
            END => events.push((at, event, None)),
            BEGIN | INSTANT => {
                let slice = state.slice(at, &event);
                events.push((at, event, Some(slice)));
            }
            other => panic!("type {other}"),
        }
    }
    events.sort_by_key(|(at, _, _)| *at);
    place(events, &mut read);
    read
}

/// Puts the events on their tracks, in the order of time.
fn place(events: Vec<(u64, TrackEvent, Option<Slice>)>, read: &mut Read) {
    let mut stacks: HashMap<u64, Vec<usize>> = HashMap::new();
    for (at, event, slice) in events {
        let stack = stacks.entry(event.track_uuid.unwrap()).or_default();
        let index = match slice {
            Some(mut slice) => {
                slice.parent = stack.last().copied();
                let index = read.slices.len();
                if slice.end.is_none() {
                    stack.push(index);
                }
                read.slices.push(slice);
                index
            }
            None => {
                let index = stack.pop().expect("an end has a beginning");
                read.slices[index].end = Some(at);
                index
            }
        };
        for flow in event.flow_ids {
            assert_eq!(read.flows.insert(flow, (index, None)), None);
        }
        for flow in event.terminating_flow_ids {
            let flow = read.flows.get_mut(&flow).expect("a flow has a beginning");
            assert_eq!(flow.1.replace(index), None);
        }
    }
}
