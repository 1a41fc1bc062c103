//! pprof: `profile.proto`, gzip-compressed, for `go tool pprof` and everything that reads its
//! files.
//!
//! One sample for each user stack, thread, file and cause, with the number of faults and the time
//! blocked; thread, file and cause are labels (`-tagroot thread`, `-tagfocus cause=fuse`).
//!
//! What became of the page before (`--evictions`) and the device that was read (`--io`) are labels, too,
//! in the words of CSV and Perfetto: `history_past`, `history_how`, `io_device` and `io_device_name`.
//! Of each there are few values, so they split no sample into many. Times and counts of devices have as
//! many values as there are faults, and are in the other formats alone.
//!
//! Faults of Go programs have more: `goroutine` (its number), `goroutine_start` (the function that it
//! was made to run) and `p_held` (`yes`: nobody could run goroutines with its P meanwhile). A server
//! may make a goroutine for each request, so that no two faults are of the same: then numbers would
//! use up all samples, and the stacks of most faults would be lost. So at most half of the samples
//! have a number. What comes later is added up without it, with all else that is known of it, and a
//! comment in the profile says how many faults that are.

mod code;
mod proto;
#[cfg(test)]
mod tests;

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message as _;

use super::about::{About, losses};
use super::bounded::{Budget, Dictionary, Groups, Limits, Sums};
use super::names;
use super::{Error, Export};
use crate::model::summary::{FileKey, Summary};
use crate::model::{Cause, Device, Fault, History, How, Name, Record};
use crate::view::words;
use code::Code;
use proto::{Label, Profile, Sample, ValueType};

/// Messages encoded at a time.
const BATCH: usize = 1000;

/// The format.
#[derive(Debug)]
pub(super) struct Pprof {
    about: About,
    groups: Groups<Key>,
    threads: Dictionary<Name>,
    files: Dictionary<FileKey>,
    /// Functions that goroutines were made to run.
    starts: Dictionary<Name>,
    devices: Dictionary<Device>,
    code: Code,
    budget: Budget,
    numbers: Numbers,
}

/// Groups that have the number of a goroutine.
#[derive(Debug, Clone, Copy, Default)]
struct Numbers {
    groups: usize,
    limit: usize,
    /// Faults that were added up without it.
    left_out: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    stack: u32,
    pid: u32,
    tid: u32,
    thread: u32,
    file: u32,
    cause: Option<Cause>,
    goroutine: Option<u64>,
    start: Option<u32>,
    /// `None`: it is no Go program, or what its thread was at could not be read.
    holds_p: Option<bool>,
    /// The stable name of what is known of the page's past.
    past: Option<&'static str>,
    how: Option<How>,
    device: Option<u32>,
}

impl Pprof {
    pub(super) fn new() -> Self {
        Pprof::with_limits(Limits::default())
    }

    fn with_limits(limits: Limits) -> Self {
        Pprof {
            about: About::default(),
            groups: Groups::new(limits),
            threads: Dictionary::default(),
            files: Dictionary::default(),
            starts: Dictionary::default(),
            devices: Dictionary::default(),
            code: Code::default(),
            budget: Budget::new(limits.bytes),
            numbers: Numbers {
                limit: limits.groups / 2,
                ..Numbers::default()
            },
        }
    }

    fn key(&mut self, fault: &Fault) -> Option<Key> {
        let facts = &fault.facts;
        let budget = &mut self.budget;
        let stack = facts.user_stack.as_deref();
        let file = FileKey {
            path: facts.place.path.clone(),
            mapping: facts.place.mapping,
            deleted: facts.place.deleted,
        };
        let path_bytes = file.path.as_ref().map_or(0, |path| path.as_bytes().len());
        let goroutine = facts.goroutine.as_deref();
        let start = match goroutine.and_then(|of| of.start.as_ref()) {
            Some(start) => Some(self.starts.id(start, start.as_bytes().len(), budget)?),
            None => None,
        };
        let history = fault.history.as_deref();
        let device = match fault.io.as_deref().and_then(|io| io.device.as_ref()) {
            Some(device) => {
                let name_bytes = device.name.as_ref().map_or(0, |name| name.as_bytes().len());
                Some(
                    self.devices
                        .id(device, name_bytes + size_of::<Device>(), budget)?,
                )
            }
            None => None,
        };
        Some(Key {
            stack: self.code.stack(facts.pid, stack, budget)?,
            pid: facts.pid,
            tid: facts.tid,
            thread: self
                .threads
                .id(&facts.thread, facts.thread.as_bytes().len(), budget)?,
            file: self
                .files
                .id(&file, path_bytes + size_of::<FileKey>(), budget)?,
            cause: facts.cause,
            goroutine: goroutine.and_then(|of| of.id),
            start,
            holds_p: goroutine.map(|of| of.p.is_some()),
            past: history.map(|history| history.past.as_str()),
            how: history
                .and_then(History::removal)
                .map(|removal| removal.how),
            device,
        })
    }

    /// The key, without the number of its goroutine if too many groups have one.
    fn bounded(&mut self, key: Key) -> Key {
        if key.goroutine.is_none() || self.groups.contains(&key) {
            return key;
        }
        let numbers = &mut self.numbers;
        if numbers.groups < numbers.limit {
            numbers.groups += 1;
            return key;
        }
        numbers.left_out = numbers.left_out.saturating_add(1);
        Key {
            goroutine: None,
            ..key
        }
    }
}

impl Export for Pprof {
    fn record(&mut self, record: &Record, _out: &mut dyn Write) -> Result<(), Error> {
        self.about.see(record);
        if let Record::Fault(fault) = record {
            let key = self.key(fault).map(|key| self.bounded(key));
            self.groups
                .add(key, size_of::<Key>(), fault, &mut self.budget);
        }
        Ok(())
    }

    fn finish(&mut self, summary: &Summary, out: &mut dyn Write) -> Result<(), Error> {
        let mut writer = Writer {
            to: GzEncoder::new(out, Compression::default()),
            // What is named only now is bounded by what the tables hold.
            budget: Budget::new(usize::MAX),
        };
        writer.head(self, summary)?;
        writer.samples(self)?;
        writer.code(&self.code, summary)?;
        writer.to.finish()?;
        Ok(())
    }
}

/// Writes a profile piece by piece: messages of one type written one after the other are one.
struct Writer<W: Write> {
    to: GzEncoder<W>,
    budget: Budget,
}

impl<W: Write> Writer<W> {
    fn put(&mut self, piece: &Profile) -> Result<(), Error> {
        Ok(self.to.write_all(&piece.encode_to_vec())?)
    }

    /// The index of a text of ours. If there is no room, which cannot be, the empty text.
    fn string(&mut self, code: &mut Code, text: &str) -> i64 {
        i64::from(code.string(text, &mut self.budget).unwrap_or(0))
    }

    fn head(&mut self, of: &mut Pprof, summary: &Summary) -> Result<(), Error> {
        let (code, about) = (&mut of.code, &of.about);
        let begin_ns = about.begin_ns().unwrap_or(0);
        let end_ns = about.end_ns().unwrap_or(begin_ns);
        let comments = [about.origin(), about.heading(summary)];
        let faults = ValueType {
            r#type: self.string(code, "faults"),
            unit: self.string(code, "count"),
        };
        let blocked = ValueType {
            r#type: self.string(code, "blocked"),
            unit: self.string(code, "nanoseconds"),
        };
        let comment = comments
            .into_iter()
            .chain(losses(summary))
            .chain(of.numbers.in_words())
            .map(|text| self.string(code, &text))
            .collect();
        self.put(&Profile {
            sample_type: vec![faults, blocked],
            time_nanos: clamped(begin_ns),
            duration_nanos: clamped(end_ns.saturating_sub(begin_ns)),
            comment,
            default_sample_type: blocked.r#type,
            ..Profile::default()
        })
    }

    fn samples(&mut self, of: &mut Pprof) -> Result<(), Error> {
        let mut groups: Vec<(Key, Sums)> =
            of.groups.iter().map(|(key, sums)| (*key, sums)).collect();
        groups.sort_unstable_by_key(|(key, _)| *key);
        let labels = Labels::new(self, &mut of.code);
        for batch in groups.chunks(BATCH) {
            let mut piece = Profile::default();
            for (key, sums) in batch {
                let label = labels.of(key, of, self);
                piece.sample.push(Sample {
                    location_id: of.code.location_ids(key.stack),
                    value: values(*sums),
                    label,
                });
            }
            self.put(&piece)?;
        }
        let Some(beyond) = of.groups.beyond() else {
            return Ok(());
        };
        let name = of.groups.beyond_name();
        let location = of.code.named(&name, &mut self.budget);
        let stack = location.and_then(|location| of.code.stack_of(location, &mut self.budget));
        let sample = Sample {
            location_id: stack.map(|id| of.code.location_ids(id)).unwrap_or_default(),
            value: values(beyond),
            label: Vec::new(),
        };
        self.put(&Profile {
            sample: vec![sample],
            ..Profile::default()
        })
    }

    /// What the samples refer to: last, because making the samples adds to it.
    fn code(&mut self, code: &Code, summary: &Summary) -> Result<(), Error> {
        let most = summary
            .processes()
            .max_by_key(|process| process.tally.blocked_ns);
        let main = most
            .and_then(|process| process.info.as_ref()?.exe.as_ref())
            .map(names::path);
        self.put(&Profile {
            mapping: code.mappings(&main.unwrap_or_default()),
            ..Profile::default()
        })?;
        let mut locations = code.all_locations().peekable();
        while locations.peek().is_some() {
            self.put(&Profile {
                location: locations.by_ref().take(BATCH).collect(),
                ..Profile::default()
            })?;
        }
        let mut functions = code.all_functions().peekable();
        while functions.peek().is_some() {
            self.put(&Profile {
                function: functions.by_ref().take(BATCH).collect(),
                ..Profile::default()
            })?;
        }
        let mut strings = code.all_strings().map(str::to_owned).peekable();
        while strings.peek().is_some() {
            self.put(&Profile {
                string_table: strings.by_ref().take(BATCH).collect(),
                ..Profile::default()
            })?;
        }
        Ok(())
    }
}

impl Numbers {
    /// What was left out; `None` if nothing was.
    fn in_words(&self) -> Option<String> {
        (self.left_out > 0).then(|| {
            format!(
                "{} faults of Go programs have no label goroutine, because {} samples have one already",
                self.left_out, self.groups
            )
        })
    }
}

/// The keys of the labels.
struct Labels {
    thread: i64,
    tid: i64,
    pid: i64,
    file: i64,
    cause: i64,
    goroutine: i64,
    start: i64,
    p_held: i64,
    past: i64,
    how: i64,
    device: i64,
    device_name: i64,
}

impl Labels {
    fn new<W: Write>(writer: &mut Writer<W>, code: &mut Code) -> Self {
        let mut key = |text| writer.string(code, text);
        Labels {
            thread: key("thread"),
            tid: key("tid"),
            pid: key("pid"),
            file: key("file"),
            cause: key("cause"),
            goroutine: key("goroutine"),
            start: key("goroutine_start"),
            p_held: key("p_held"),
            past: key("history_past"),
            how: key("history_how"),
            device: key("io_device"),
            device_name: key("io_device_name"),
        }
    }

    fn of<W: Write>(&self, key: &Key, of: &mut Pprof, writer: &mut Writer<W>) -> Vec<Label> {
        let thread = of.threads.get(key.thread).map(names::thread);
        let file = of.files.get(key.file).map(|file| {
            let at = words::file(file.mapping, file.path.as_ref(), file.deleted);
            at.path + &at.suffix
        });
        let cause = key.cause.map_or("no sleep", Cause::as_str);
        let start = key.start.and_then(|start| of.starts.get(start));
        let start = start.map(names::go_function);
        let device = key.device.and_then(|device| of.devices.get(device));
        let device_name = device.and_then(|device| device.name.as_ref());
        let device_name = device_name.map(names::thread);
        let device = device.map(Device::numbers);
        let mut text = |key, text: &str| Label {
            key,
            str: writer.string(&mut of.code, text),
            num: 0,
        };
        let number = |key, num: u64| Label {
            key,
            str: 0,
            num: clamped(num),
        };
        let mut labels = vec![
            text(self.thread, &thread.unwrap_or_default()),
            number(self.tid, u64::from(key.tid)),
            number(self.pid, u64::from(key.pid)),
            text(self.file, &file.unwrap_or_default()),
            text(self.cause, cause),
        ];
        // What is not known has no label.
        labels.extend(key.goroutine.map(|id| number(self.goroutine, id)));
        labels.extend(start.map(|start| text(self.start, &start)));
        let p_held = |yes| if yes { "yes" } else { "no" };
        labels.extend(key.holds_p.map(|yes| text(self.p_held, p_held(yes))));
        labels.extend(key.past.map(|past| text(self.past, past)));
        labels.extend(key.how.map(|how| text(self.how, how.as_str())));
        labels.extend(device.map(|numbers| text(self.device, &numbers)));
        labels.extend(device_name.map(|name| text(self.device_name, &name)));
        labels
    }
}

fn values(sums: Sums) -> Vec<i64> {
    vec![clamped(sums.faults), clamped(sums.blocked_ns)]
}

/// As a signed number, which the format has for all.
fn clamped(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
