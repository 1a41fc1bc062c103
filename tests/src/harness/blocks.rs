//! What the kernel's own tracer says of a block device: an independent reader of the tracepoints that
//! `--io` uses, in a tracefs instance of its own.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use super::process::must;

const TRACEFS: &str = "/sys/kernel/tracing";
const EVENTS: [&str; 3] = ["block_bio_queue", "block_rq_issue", "block_rq_complete"];
/// Bytes of a sector, whatever the device's own are.
const SECTOR: u64 = 512;

/// Records the events of a device until dropped.
pub struct BlockEvents {
    instance: PathBuf,
}

/// A read that a thread queued, and what became of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct BlockRead {
    pub bytes: u64,
    pub queued_us: u64,
    /// Of the request that begins where the read does; `None` if it went with another.
    pub issued_us: Option<u64>,
    pub completed_us: Option<u64>,
}

impl BlockEvents {
    /// Begins, for the device `major:minor`.
    pub fn of(device: &str) -> BlockEvents {
        if !PathBuf::from(TRACEFS).join("events").exists() {
            must("mount", ["-t", "tracefs", "tracefs", TRACEFS]);
        }
        let name = format!("faulttrace-e2e-{}", std::process::id());
        let instance = PathBuf::from(TRACEFS).join("instances").join(name);
        fs::create_dir(&instance).expect("make a tracefs instance");
        let events = BlockEvents { instance };
        let (major, minor) = device.split_once(':').expect("major:minor");
        let number = |text: &str| text.parse::<u64>().expect("a number");
        // MKDEV of include/linux/kdev_t.h.
        let number = number(major) << 20 | number(minor);
        events.set("trace_clock", "mono");
        events.set("buffer_size_kb", "16384");
        for event in EVENTS {
            events.set(
                &format!("events/block/{event}/filter"),
                &format!("dev == {number}"),
            );
            events.set(&format!("events/block/{event}/enable"), "1");
        }
        events
    }

    fn set(&self, file: &str, value: &str) {
        let path = self.instance.join(file);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// The reads that these threads have queued, in order.
    pub fn reads_of(&self, tids: &[u32]) -> Vec<BlockRead> {
        let text = fs::read(self.instance.join("trace")).expect("the trace");
        let text = String::from_utf8_lossy(&text);
        let mut reads: Vec<BlockRead> = Vec::new();
        // By the sector it begins at: the one that is under way.
        let mut open: HashMap<u64, usize> = HashMap::new();
        // A thread's name can hold the end of a line: what stands before it tells nothing.
        for event in text.lines().filter_map(Event::parse) {
            let mine = event.tid.is_some_and(|tid| tids.contains(&tid));
            let found = open.get(&event.sector).copied();
            match (event.name, found.and_then(|index| reads.get_mut(index))) {
                ("block_bio_queue", _) if mine && event.is_read => {
                    open.insert(event.sector, reads.len());
                    reads.push(BlockRead {
                        bytes: event.sectors * SECTOR,
                        queued_us: event.time_us,
                        ..BlockRead::default()
                    });
                }
                ("block_rq_issue", Some(read)) => read.issued_us = Some(event.time_us),
                ("block_rq_complete", Some(read)) => {
                    read.completed_us = Some(event.time_us);
                    open.remove(&event.sector);
                }
                _ => {}
            }
        }
        reads
    }
}

impl Drop for BlockEvents {
    fn drop(&mut self) {
        for event in EVENTS {
            let _off = fs::write(
                self.instance.join(format!("events/block/{event}/enable")),
                "0",
            );
        }
        let _gone = fs::remove_dir(&self.instance);
    }
}

/// A line of the trace: `comm-tid [cpu] flags seconds.micros: event: major,minor kind … sector + count …`.
struct Event<'a> {
    tid: Option<u32>,
    time_us: u64,
    name: &'a str,
    is_read: bool,
    sector: u64,
    sectors: u64,
}

impl<'a> Event<'a> {
    /// `None` if the line has none of the events.
    fn parse(line: &'a str) -> Option<Event<'a>> {
        let at = EVENTS
            .iter()
            .find_map(|name| line.find(&format!(": {name}: ")))?;
        let event = Self::at(line, at);
        Some(event.unwrap_or_else(|| panic!("an odd line of the trace: {line}")))
    }

    /// The event that stands at this place. A thread's name may hold anything, but what follows it does not.
    fn at(line: &'a str, at: usize) -> Option<Event<'a>> {
        let (before, after) = line.split_at(at);
        let (name, fields) = after[2..].split_once(": ")?;
        let (who, time) = before.rsplit_once(' ')?;
        let (seconds, micros) = time.split_once('.')?;
        let number = |text: &str| text.parse::<u64>().ok();
        let task = who
            .rsplit_once('[')
            .map_or(who, |(task, _)| task)
            .trim_end();
        let (extent, count) = fields.split_once(" + ")?;
        let sector = extent.rsplit(' ').next()?;
        let count = count.split(' ').next()?;
        Some(Event {
            tid: task.rsplit_once('-').and_then(|(_, tid)| tid.parse().ok()),
            time_us: number(seconds)? * 1_000_000 + number(micros)?,
            name,
            is_read: fields
                .split(' ')
                .nth(1)
                .is_some_and(|kind| kind.contains('R')),
            sector: number(sector)?,
            sectors: number(count)?,
        })
    }
}
