//! Names that a just-in-time compiler wrote to `/tmp/perf-PID.map` (tools/perf/Documentation/
//! jit-interface.txt of the kernel).
//!
//! Own code because blazesym finds such a map only through a living process's memory map, and
//! refuses it whole for one bad line.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::time::{Duration, Instant};

use crate::model::Name;

/// Longer ones are read up to here.
const MAX_BYTES: u64 = 64 << 20;
/// More functions are left out.
const MAX_FUNCTIONS: usize = 300_000;
/// Longer names are cut: a hostile file could hold one of any length.
pub(super) const MAX_NAME: usize = 4096;
/// How often a map that grows is read again.
const REREAD: Duration = Duration::from_millis(200);
/// Reading is to take at most this part of the time.
const READ_SHARE: u32 = 20;

/// Whose map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Jit {
    pub(super) pid: u32,
    /// Tells its program from earlier ones of the same id.
    pub(super) epoch: u64,
    /// Its id in its own pid namespace, by which it names the file.
    pub(super) own_pid: u32,
    /// Whoever may write to /tmp could write such a file.
    pub(super) uid: u32,
}

struct Entry {
    start: u64,
    end: u64,
    name: Name,
}

/// What a map says, by address.
#[derive(Default)]
pub struct Functions {
    entries: Vec<Entry>,
    /// How much memory they take.
    bytes: usize,
}

/// The map of one process.
#[derive(Default)]
pub(super) struct PerfMap {
    functions: Functions,
    /// Size and time of change of what was read.
    version: Option<(u64, i64, i64)>,
    looked_at: Option<Instant>,
    /// How long reading took.
    took: Duration,
}

impl PerfMap {
    /// Name and beginning of the function at an address; reads the file again if it has changed.
    pub(super) fn find(&mut self, jit: Jit, address: u64) -> Option<(Name, u64)> {
        self.refresh(jit);
        self.functions.find(address)
    }

    /// How much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.functions.bytes
    }

    fn refresh(&mut self, jit: Jit) {
        let pause = REREAD.max(self.took * READ_SHARE);
        if self.looked_at.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        let began = Instant::now();
        self.looked_at = Some(began);
        let Some((file, found)) = open(jit) else {
            return;
        };
        let version = Some((found.size(), found.mtime(), found.mtime_nsec()));
        let mut bytes = Vec::new();
        if version != self.version && file.take(MAX_BYTES).read_to_end(&mut bytes).is_ok() {
            self.functions = Functions::parse(&bytes);
            self.version = version;
            self.took = began.elapsed();
        }
    }
}

fn open(jit: Jit) -> Option<(File, Metadata)> {
    let Jit {
        pid, own_pid, uid, ..
    } = jit;
    let path = format!("/proc/{pid}/root/tmp/perf-{own_pid}.map");
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .ok()?;
    let found = file.metadata().ok()?;
    let trusted = found.is_file() && (found.uid() == uid || found.uid() == 0);
    trusted.then_some((file, found))
}

impl Functions {
    /// Lines of `START SIZE NAME`, numbers hexadecimal; others are left out. Long names are
    /// cut.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut entries: Vec<Entry> = bytes
            .split(|byte| *byte == b'\n')
            .filter_map(parse_line)
            .take(MAX_FUNCTIONS)
            .collect();
        // Stable: of code compiled twice to one place, the later is found.
        entries.sort_by_key(|entry| entry.start);
        let names: usize = entries
            .iter()
            .map(|entry| entry.name.as_bytes().len())
            .sum();
        Self {
            bytes: names + size_of_val(entries.as_slice()),
            entries,
        }
    }

    /// Name and beginning of the function at an address.
    pub fn find(&self, address: u64) -> Option<(Name, u64)> {
        let after = self.entries.partition_point(|entry| entry.start <= address);
        let entry = self.entries.get(after.checked_sub(1)?)?;
        (address < entry.end).then(|| (entry.name.clone(), entry.start))
    }
}

fn parse_line(line: &[u8]) -> Option<Entry> {
    let number = |word: &[u8]| {
        let text = std::str::from_utf8(word).ok()?;
        u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
    };
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let start = number(words.next()?)?;
    let size = number(words.next()?)?;
    let name = words.next()?.trim_ascii();
    let name = name.get(..MAX_NAME).unwrap_or(name);
    (size > 0 && !name.is_empty()).then(|| Entry {
        start,
        end: start.saturating_add(size),
        name: Name::from(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &[u8], address: u64) -> Option<String> {
        let found = Functions::parse(text).find(address);
        found.map(|(name, _)| name.as_bytes().escape_ascii().to_string())
    }

    #[test]
    fn functions_are_found_by_address() {
        let text = b"1000 20 first one\n0x2000 10 second\nbad line\nzz 1 x\n1000 8 again\n3000 0 empty\n\xff 1 x\n4000 8 \xff\n";
        assert_eq!(find(text, 0x1004), Some("again".to_owned()));
        assert_eq!(find(text, 0x200f), Some("second".to_owned()));
        assert_eq!(find(text, 0x2010), None);
        assert_eq!(find(text, 0xfff), None);
        assert_eq!(find(text, 0x3000), None);
        assert_eq!(find(text, 0x4000), Some("\\xff".to_owned()));
    }
}
