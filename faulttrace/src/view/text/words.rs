//! Times, durations and names in words; the exports use some of them too.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::model::{Access, Cause, Facts, MappingKind, Mode, Name, Place, Task, Waker};
use crate::view::escape::escaped;

/// Longest thread or process name shown, bytes; the kernel's own limit is 15.
const MAX_NAME: usize = 64;
/// Longest path shown, bytes.
pub(in crate::view) const MAX_PATH: usize = 1024;

/// Shows wall-clock times of one time zone.
#[derive(Debug, Clone)]
pub(in crate::view) struct Clock(pub(in crate::view) TimeZone);

impl Clock {
    /// `HH:MM:SS.mmm`.
    pub(in crate::view) fn time(&self, unix_ns: u64) -> String {
        match Timestamp::from_nanosecond(i128::from(unix_ns)) {
            Ok(at) => {
                let at = self.0.to_datetime(at);
                let ms = at.subsec_nanosecond() / 1_000_000;
                let (hour, minute, second) = (at.hour(), at.minute(), at.second());
                format!("{hour:02}:{minute:02}:{second:02}.{ms:03}")
            }
            Err(_) => "time unknown".to_owned(),
        }
    }

    /// The date and the zone's offset, for the header.
    pub(in crate::view) fn day(&self, unix_ns: u64) -> Option<String> {
        let at = Timestamp::from_nanosecond(i128::from(unix_ns)).ok()?;
        let date = self.0.to_datetime(at).date();
        let seconds = self.0.to_offset(at).seconds();
        let sign = if seconds < 0 { '-' } else { '+' };
        let minutes = seconds.unsigned_abs() / 60;
        let (hours, minutes) = (minutes / 60, minutes % 60);
        Some(format!("{date}, UTC{sign}{hours:02}:{minutes:02}"))
    }

    /// When a fault began. All answers take 12 columns.
    pub(in crate::view) fn begin(&self, facts: &Facts) -> String {
        match facts.begin_ns {
            Some(at) => self.time(at),
            None if facts.began_before_attach => "before start".to_owned(),
            None => "time unknown".to_owned(),
        }
    }
}

/// A duration with three digits: `850 ns`, `12.4 ms`, `2 min 03 s`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn duration(ns: u64) -> String {
    if ns < 1_000 {
        return if ns == 0 {
            "0".to_owned()
        } else {
            format!("{ns} ns")
        };
    }
    let value = ns as f64;
    for (unit, scale) in [("µs", 1e3), ("ms", 1e6)] {
        if value / scale < 999.5 {
            return format!("{} {unit}", three_digits(value / scale));
        }
    }
    if value < 59.95e9 {
        return format!("{} s", three_digits(value / 1e9));
    }
    let seconds = ns.saturating_add(500_000_000) / 1_000_000_000;
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    if hours == 0 {
        format!("{minutes} min {:02} s", seconds % 60)
    } else if hours < 48 {
        format!("{hours} h {:02} min", minutes % 60)
    } else {
        format!("{} d {:02} h", hours / 24, hours % 24)
    }
}

/// `1.23`, `12.3`, `123`.
pub(in crate::view) fn three_digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// `1 fault`, `2 faults`.
pub(in crate::view) fn plural(count: u64, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// Bytes, with the largest unit of which they are a whole number.
pub(in crate::view) fn size(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let whole = bytes >> shift;
        if whole > 0 && whole << shift == bytes {
            return format!("{whole} {unit}");
        }
    }
    format!("{bytes} B")
}

/// A name that the target chose, bounded.
pub(in crate::view) fn name(name: &Name) -> String {
    escaped(name.as_bytes(), MAX_NAME)
}

/// `worker-3[4711]`; without a name (of a process) `pid 4711`.
pub(crate) fn with_id(text: Option<&Name>, id: u32) -> String {
    match text {
        Some(text) => format!("{}[{id}]", name(text)),
        None => format!("pid {id}"),
    }
}

/// A task that woke, of this process if not said otherwise: `w2[4711], in mprotect()`.
pub(in crate::view) fn task(waker: &Waker, pid: u32) -> String {
    let Waker::Task(task) = waker else {
        return "an interrupt".to_owned();
    };
    let mut text = thread_of(task, pid);
    if let Some(call) = &task.syscall {
        text += &format!(", in {}()", name(call));
    }
    text
}

/// Its thread, of this process if not said otherwise.
pub(in crate::view) fn thread_of(task: &Task, pid: u32) -> String {
    let mut text = match task.tid {
        0 => name(&task.name),
        tid => with_id(Some(&task.name), tid),
    };
    if task.pid == 0 {
        text += " outside this pid namespace";
    } else if task.pid != pid {
        text += &format!(" of process {}", task.pid);
    }
    text
}

/// The stable name of a cause.
pub(in crate::view) fn cause(cause: Option<Cause>) -> &'static str {
    cause.map_or("no sleep", Cause::as_str)
}

/// What the thread waited for; goes on after "waited for" or "waiting for".
pub(in crate::view) fn awaited(cause: Cause) -> &'static str {
    match cause {
        Cause::FileRead => "a read of the file that this fault started",
        Cause::ReadWait => "a read of the page that somebody else, or readahead, had started",
        Cause::FileWait => "a page of the file",
        Cause::SwapIn => "a page from the swap device",
        Cause::Zswap => "a page from zswap or zram",
        Cause::MmapLock => "the lock of the address space, held by another thread",
        Cause::DirectReclaim => "free memory (direct reclaim)",
        Cause::MemcgReclaim => "room under its memory cgroup's limit",
        Cause::Compaction => "contiguous memory (compaction)",
        Cause::HugePage => "a lock on a huge page (hugetlbfs), held by another thread",
        Cause::Writeback => "writeback or the journal, before the page may be written",
        Cause::Fuse => "the answer of a FUSE server",
        Cause::Nfs => "the answer of an NFS server",
        Cause::Userfaultfd => "the process's userfaultfd handler",
        Cause::Cow => "a copy-on-write copy",
        Cause::Migration => "a page that was being moved",
        Cause::Unknown => "something that the kernel stack does not name",
    }
}

/// What was touched, and by whom: `write to 0x7f… by the kernel in pread64()`.
pub(in crate::view) fn access(facts: &Facts) -> String {
    let what = match facts.access {
        Some(Access::Read) => "read of",
        Some(Access::Write) => "write to",
        Some(Access::Exec) => "execution of",
        None => "access to",
    };
    let address = match facts.address {
        Some(address) => format!("{address:#x}"),
        None => "an unknown address".to_owned(),
    };
    let by = match facts.mode {
        Mode::User => return format!("{what} {address}"),
        Mode::Kernel => "by the kernel",
        Mode::Gup => "by the kernel, without an exception (gup)",
    };
    match &facts.syscall {
        Some(call) => format!("{what} {address} {by}, in {}()", name(call)),
        None => format!("{what} {address} {by}, system call unknown"),
    }
}

/// A place in two parts: the first may be cut when the line is full.
#[derive(Debug)]
pub(crate) struct Where {
    pub(crate) path: String,
    pub(crate) suffix: String,
}

/// The file and page, or the kind of memory.
pub(in crate::view) fn place(place: &Place) -> Where {
    let mut at = file(place.mapping, place.path.as_ref(), place.deleted);
    if let Some(offset) = place.offset.filter(|_| has_offset(place)) {
        at.suffix.insert_str(0, &format!(" +{offset:#x}"));
    }
    at
}

/// An offset means something only in a thing that others can look up.
pub(crate) fn has_offset(place: &Place) -> bool {
    !matches!(
        place.mapping,
        Some(MappingKind::Anon | MappingKind::Heap | MappingKind::Stack | MappingKind::Special)
    )
}

/// The file, or the kind of memory. What stands in brackets is never a path of a file: those
/// begin with a slash.
pub(crate) fn file(mapping: Option<MappingKind>, path: Option<&Name>, deleted: bool) -> Where {
    let path = path.map(|path| escaped(path.as_bytes(), MAX_PATH));
    let path = match (mapping, path) {
        (None, None) => "[unknown]".to_owned(),
        (Some(MappingKind::File | MappingKind::Exe) | None, Some(path)) => path,
        (Some(MappingKind::File | MappingKind::Exe), None) => "[file, path unknown]".to_owned(),
        (Some(MappingKind::Heap), _) => "[heap]".to_owned(),
        (Some(MappingKind::Stack), _) => "[stack]".to_owned(),
        (Some(MappingKind::Anon), label) => bracketed("anon", label),
        (Some(MappingKind::Shmem), label) => bracketed("shared memory", label),
        (Some(MappingKind::Memfd), label) => bracketed("memfd", label),
        (Some(MappingKind::Special), Some(label)) => format!("[{label}]"),
        (Some(MappingKind::Special), None) => "[special]".to_owned(),
    };
    let suffix = if deleted { " (deleted)" } else { "" };
    Where {
        path,
        suffix: suffix.to_owned(),
    }
}

fn bracketed(kind: &str, label: Option<String>) -> String {
    match label {
        Some(label) => format!("[{kind}] {label}"),
        None => format!("[{kind}]"),
    }
}

/// Bytes, with three digits.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(in crate::view) fn about(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB")] {
        if bytes >> shift > 0 {
            let value = bytes as f64 / (1_u64 << shift) as f64;
            return format!("{} {unit}", three_digits(value));
        }
    }
    size(bytes)
}

/// A part of a whole as a bound: per cent, rounded up.
pub(in crate::view) fn at_most(part: u64, whole: u64) -> String {
    let percent = u128::from(part) * 100;
    match whole {
        0 => "?".to_owned(),
        _ => format!("{} %", percent.div_ceil(u128::from(whole))),
    }
}

/// A part of a whole: `12 %`. Less than all is never 100 %, more than nothing never 0 %.
pub(in crate::view) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "?".to_owned();
    }
    let rounded = (u128::from(part) * 200 / u128::from(whole)).div_ceil(2);
    match rounded {
        0 if part > 0 => "<1 %".to_owned(),
        100.. if part < whole => ">99 %".to_owned(),
        rounded => format!("{rounded} %"),
    }
}
