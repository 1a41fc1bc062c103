//! The profile is decoded again.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;

use flate2::read::GzDecoder;
use prost::Message as _;

use super::Pprof;
use super::proto::{Label, Location, Mapping, Profile, Sample};
use crate::export::bounded::Limits;
use crate::export::tests::{HOSTILE, T0, export, fold, hostile, many, record, run};
use crate::export::{Export, Kind};
use crate::model::summary::samples;
use crate::model::{Device, Goroutine, History, Name, Past, Record, Stack};

/// A profile, with checks of what pprof checks when it reads one.
struct Read(Profile);

fn read(bytes: &[u8]) -> Read {
    let mut raw = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut raw).unwrap();
    let profile = Profile::decode(raw.as_slice()).unwrap();
    assert_eq!(profile.string_table[0], "");
    for sample in &profile.sample {
        assert_eq!(sample.value.len(), profile.sample_type.len());
        assert!(!sample.location_id.is_empty());
    }
    Read(profile)
}

fn profile(records: &[Record]) -> Read {
    read(&export(Kind::Pprof, records))
}

impl Read {
    fn text(&self, index: i64) -> &str {
        &self.0.string_table[usize::try_from(index).unwrap()]
    }

    fn location(&self, id: u64) -> &Location {
        self.0.location.iter().find(|of| of.id == id).unwrap()
    }

    fn mapping(&self, location: &Location) -> Option<&Mapping> {
        let mut mappings = self.0.mapping.iter();
        mappings.find(|of| of.id == location.mapping_id)
    }

    fn names(&self, location: &Location) -> Vec<(&str, &str, i64)> {
        let lines = location.line.iter().map(|line| {
            let mut functions = self.0.function.iter();
            let function = functions.find(|of| of.id == line.function_id).unwrap();
            (
                self.text(function.name),
                self.text(function.filename),
                line.line,
            )
        });
        lines.collect()
    }

    /// All names of a sample, innermost first.
    fn stack(&self, sample: &Sample) -> Vec<&str> {
        let ids = sample.location_id.iter();
        ids.flat_map(|id| self.names(self.location(*id)))
            .map(|(name, _, _)| name)
            .collect()
    }

    fn labels(&self, sample: &Sample) -> BTreeMap<&str, String> {
        let label = |label: &Label| {
            let value = match label.str {
                0 => label.num.to_string(),
                text => self.text(text).to_owned(),
            };
            (self.text(label.key), value)
        };
        sample.label.iter().map(label).collect()
    }

    fn sum(&self, value: usize) -> u64 {
        let sum: i64 = self.0.sample.iter().map(|sample| sample.value[value]).sum();
        sum.cast_unsigned()
    }
}

#[test]
fn a_stack_has_lines_mappings_and_labels() {
    let mut fault = samples::fault();
    let mut stack: Stack = samples::user_stack().as_ref().clone();
    stack.frames[1].build_id = Some(Name::from(&b"\x0a\xbc"[..]));
    stack.truncated = true;
    fault.facts.user_stack = Some(Arc::new(stack));
    let read = profile(&[samples::start(), record(fault.clone()), record(fault)]);
    assert_eq!(read.0.sample.len(), 1);
    let sample = &read.0.sample[0];
    assert_eq!(sample.value, [2, 24_200_000]);

    let locations: Vec<_> = sample
        .location_id
        .iter()
        .map(|id| read.location(*id))
        .collect();
    assert_eq!(locations.len(), 4);
    // What was inlined, and the function it was inlined into, are one location.
    assert_eq!(
        read.names(locations[0]),
        [
            ("index::page", "src/index.rs", 42),
            ("index::lookup", "src/index.rs", 77)
        ]
    );
    let mapping = read.mapping(locations[0]).unwrap();
    let (address, offset) = (0x5555_5555_5000 + 77, 0x1000 + 77);
    assert_eq!(locations[0].address, address);
    assert_eq!(address - mapping.memory_start + mapping.file_offset, offset);
    assert!((mapping.memory_start..mapping.memory_limit).contains(&address));
    assert_eq!(read.text(mapping.filename), "/usr/bin/server");
    assert_eq!(read.text(mapping.build_id), "0abc");
    assert!(mapping.has_functions && mapping.has_inline_frames);
    // Without a symbol: address and library. Without anything: the address.
    assert_eq!(read.names(locations[1]), []);
    let library = read.mapping(locations[1]).unwrap();
    assert_eq!(read.text(library.filename), "/usr/lib/libstripped.so");
    assert!(!library.has_functions);
    assert_eq!(
        (locations[2].address, locations[2].mapping_id),
        (0xdead_beef, 0)
    );
    assert_eq!(read.names(locations[3]), [("[stack cut]", "", 0)]);

    let labels = read.labels(sample);
    let expected = [
        ("cause", "file_read"),
        ("file", "/data/index.bin"),
        ("history_how", "memcg_reclaim"),
        ("history_past", "refault"),
        ("pid", "4700"),
        ("thread", "worker-3"),
        ("tid", "4711"),
    ];
    assert!(
        labels
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .eq(expected)
    );
}

#[test]
fn the_profile_says_what_it_is() {
    let records = [
        samples::start(),
        record(samples::fault()),
        samples::lost(crate::model::LossClass::Lost, "ring_full", 12),
    ];
    let read = profile(&records);
    let types = read.0.sample_type.iter();
    let types: Vec<_> = types
        .map(|of| (read.text(of.r#type), read.text(of.unit)))
        .collect();
    assert_eq!(types, [("faults", "count"), ("blocked", "nanoseconds")]);
    assert_eq!(read.text(read.0.default_sample_type), "blocked");
    assert_eq!(read.0.time_nanos.cast_unsigned(), T0);
    assert_eq!(read.0.duration_nanos, 12_400_000);
    let comments: Vec<_> = read.0.comment.iter().map(|of| read.text(*of)).collect();
    assert_eq!(
        comments,
        [
            "faulttrace 0.1.0 on db1, Linux 6.18.0",
            "server[4700] on db1, 2025-07-11T14:03:07.123Z, 12.4 ms",
            "lost, so not in here: 12 ring_full: \
             faults for which the ring buffer was full (--ring-size)",
        ]
    );
}

#[test]
fn the_program_is_the_first_mapping() {
    let mut fault = samples::fault();
    let mut frames = samples::user_stack().frames.clone();
    frames.reverse();
    fault.facts.user_stack = Some(Arc::new(Stack {
        id: 1,
        frames,
        truncated: false,
    }));
    let read = profile(&[samples::start(), record(fault)]);
    assert_eq!(read.text(read.0.mapping[0].filename), "/usr/bin/server");
    assert_eq!(read.0.mapping.len(), 2);
}

#[test]
fn pasts_and_devices_are_labels_and_keep_samples_apart() {
    let of = |past, device: Option<(u32, Option<&str>)>| {
        let mut fault = samples::fault_with_io();
        fault.history = past;
        if let Some(io) = &mut fault.io {
            io.device = device.map(|(minor, name)| Device {
                major: 7,
                minor,
                name: name.map(Name::from),
            });
        }
        record(fault)
    };
    let first_touch = || {
        let history = History {
            watched_ns: Some(T0),
            past: Past::FirstTouch,
        };
        Some(Box::new(history))
    };
    let evicted = || Some(Box::new(samples::history()));
    let read = profile(&[
        of(first_touch(), Some((0, Some("loop0")))),
        of(first_touch(), Some((0, Some("loop0")))),
        of(evicted(), Some((0, Some("loop0")))),
        of(first_touch(), Some((1, None))),
        of(None, None),
    ]);
    let keys = ["history_past", "history_how", "io_device", "io_device_name"];
    let mut found: Vec<_> = read
        .0
        .sample
        .iter()
        .map(|sample| {
            let labels = read.labels(sample);
            // What is not known has no label.
            let shown = keys.map(|key| labels.get(key).cloned().unwrap_or_default());
            (sample.value[0], shown.join(" "))
        })
        .collect();
    found.sort();
    let found: Vec<_> = found.iter().map(|(n, text)| (*n, text.as_str())).collect();
    assert_eq!(
        found,
        [
            (1, "   "),
            (1, "first_touch  7:1 "),
            (1, "refault memcg_reclaim 7:0 loop0"),
            (2, "first_touch  7:0 loop0"),
        ]
    );
}

/// A fault of a Go program.
fn of_goroutine(goroutine: Goroutine) -> Record {
    let mut fault = samples::fault();
    fault.facts.user_stack = None;
    fault.facts.goroutine = Some(Box::new(goroutine));
    record(fault)
}

#[test]
fn faults_of_go_programs_have_their_goroutine() {
    let read = profile(&[
        of_goroutine(samples::goroutine()),
        of_goroutine(samples::goroutine()),
        of_goroutine(Goroutine::default()),
    ]);
    assert_eq!(read.0.sample.len(), 2);
    let of = |label: &str| {
        let labels = read.0.sample.iter().map(|sample| read.labels(sample));
        let of: Vec<_> = labels.map(|labels| labels.get(label).cloned()).collect();
        of
    };
    // The runtime itself has no number.
    assert_eq!(of("goroutine"), [None, Some("18".to_owned())]);
    assert_eq!(of("goroutine_start"), [None, Some("main.serve".to_owned())]);
    let p_held = [Some("no".to_owned()), Some("yes".to_owned())];
    assert_eq!(of("p_held"), p_held);
}

#[test]
fn many_goroutines_do_not_use_up_all_samples() {
    let goroutine = |id| Goroutine {
        id: Some(id),
        ..samples::goroutine()
    };
    let mut records: Vec<_> = (1..=100).map(|id| of_goroutine(goroutine(id))).collect();
    // One that is known already keeps its number.
    records.push(of_goroutine(goroutine(3)));
    let limits = Limits {
        groups: 20,
        bytes: 1 << 20,
    };
    let pprof: Box<dyn Export> = Box::new(Pprof::with_limits(limits));
    let read = read(&run(pprof, &records).unwrap());
    assert_eq!(read.0.sample.len(), 11);
    assert_eq!(read.sum(0), 101);
    for sample in &read.0.sample {
        let labels = read.labels(sample);
        assert_eq!(labels["goroutine_start"], "main.serve");
        let faults = match labels.get("goroutine").map(String::as_str) {
            None => 90,
            Some("3") => 2,
            Some(_) => 1,
        };
        assert_eq!(sample.value[0], faults);
    }
    let mut comments = read.0.comment.iter().map(|text| read.text(*text));
    insta::assert_snapshot!(
        comments.next_back().unwrap(),
        @"90 faults of Go programs have no label goroutine, because 10 samples have one already"
    );
}

#[test]
fn faults_without_a_stack_do_not_vanish() {
    let mut fault = samples::fault();
    fault.facts.user_stack = None;
    fault.facts.cause = None;
    fault.blocked_ns = 0;
    let read = profile(&[record(fault)]);
    assert_eq!(read.stack(&read.0.sample[0]), ["[no user stack]"]);
    assert_eq!(read.labels(&read.0.sample[0])["cause"], "no sleep");
}

#[test]
fn samples_add_up_to_the_summary() {
    let records = many(3000, 12);
    let read = profile(&records);
    let tally = fold(&records).total().tally;
    assert_eq!(read.sum(0), tally.faults);
    assert_eq!(read.sum(1), tally.blocked_ns);
    // One sample for each key.
    let keys = read.0.sample.iter();
    let mut keys: Vec<_> = keys
        .map(|sample| (read.labels(sample), sample.location_id.clone()))
        .collect();
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count);
    assert_eq!(export(Kind::Pprof, &records), export(Kind::Pprof, &records));
}

#[test]
fn beyond_the_limit_the_total_stays_right() {
    let records = many(1000, 13);
    let tally = fold(&records).total().tally;
    for (groups, bytes) in [(5, 1 << 20), (100_000, 8_000)] {
        let pprof: Box<dyn Export> = Box::new(Pprof::with_limits(Limits { groups, bytes }));
        let read = read(&run(pprof, &records).unwrap());
        let beyond = read.0.sample.last().unwrap();
        let name = format!(
            "[beyond the limit of {} different stacks]",
            read.0.sample.len() - 1
        );
        assert_eq!(read.stack(beyond), [name.as_str()]);
        assert!(beyond.label.is_empty());
        assert!(read.0.sample.len() > 1 && read.0.sample.len() < 60);
        assert_eq!(read.sum(0), tally.faults);
        assert_eq!(read.sum(1), tally.blocked_ns);
    }
}

#[test]
fn hostile_names_come_out_escaped() {
    let read = profile(&hostile());
    assert_eq!(read.0.sample.len(), HOSTILE.len());
    for text in &read.0.string_table {
        assert!(text.chars().all(|c| !c.is_control()), "{text}");
    }
    let forged = HOSTILE.iter().filter(|name| name.starts_with(b"[")).count();
    assert!(forged > 0);
    for sample in &read.0.sample {
        for name in read.stack(sample) {
            assert!(!name.starts_with("[beyond"), "{name}");
        }
    }
}
