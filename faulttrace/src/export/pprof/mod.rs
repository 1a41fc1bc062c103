//! pprof: `profile.proto`, gzip-compressed, for `go tool pprof` and everything that reads its
//! files.
//!
//! One sample for each user stack, thread, file and cause, with the number of faults and the time
//! blocked; thread, file and cause are labels (`-tagroot thread`, `-tagfocus cause=fuse`).

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
use crate::model::{Cause, Fault, Name, Record};
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
    code: Code,
    budget: Budget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    stack: u32,
    pid: u32,
    tid: u32,
    thread: u32,
    file: u32,
    cause: Option<Cause>,
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
            code: Code::default(),
            budget: Budget::new(limits.bytes),
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
        let path_bytes = file.path.as_ref().map_or(0, |path| path.0.len());
        Some(Key {
            stack: self.code.stack(facts.pid, stack, budget)?,
            pid: facts.pid,
            tid: facts.tid,
            thread: self
                .threads
                .id(&facts.thread, facts.thread.0.len(), budget)?,
            file: self
                .files
                .id(&file, path_bytes + size_of::<FileKey>(), budget)?,
            cause: facts.cause,
        })
    }
}

impl Export for Pprof {
    fn record(&mut self, record: &Record, _out: &mut dyn Write) -> Result<(), Error> {
        self.about.see(record);
        if let Record::Fault(fault) = record {
            let key = self.key(fault);
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
        writer.head(&mut self.code, &self.about, summary)?;
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

    fn head(&mut self, code: &mut Code, about: &About, summary: &Summary) -> Result<(), Error> {
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

/// The keys of the labels.
struct Labels {
    thread: i64,
    tid: i64,
    pid: i64,
    file: i64,
    cause: i64,
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
        }
    }

    fn of<W: Write>(&self, key: &Key, of: &mut Pprof, writer: &mut Writer<W>) -> Vec<Label> {
        let thread = of.threads.get(key.thread).map(names::thread);
        let file = of.files.get(key.file).map(|file| {
            let at = words::file(file.mapping, file.path.as_ref(), file.deleted);
            at.path + &at.suffix
        });
        let cause = key.cause.map_or("no sleep", Cause::as_str);
        let mut text = |key, text: &str| Label {
            key,
            str: writer.string(&mut of.code, text),
            num: 0,
        };
        let number = |key, num: u32| Label {
            key,
            str: 0,
            num: i64::from(num),
        };
        vec![
            text(self.thread, &thread.unwrap_or_default()),
            number(self.tid, key.tid),
            number(self.pid, key.pid),
            text(self.file, &file.unwrap_or_default()),
            text(self.cause, cause),
        ]
    }
}

fn values(sums: Sums) -> Vec<i64> {
    vec![clamped(sums.faults), clamped(sums.blocked_ns)]
}

/// As a signed number, which the format has for all.
fn clamped(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
