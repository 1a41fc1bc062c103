//! Who held the lock of an address space, in words and for programs.

use serde::Serialize;

use crate::model::advice::{Advice, Evidence, Holder, Holders};
use crate::model::known_id;
use crate::model::summary::Waited;
use crate::view::escape::Escaped;
use crate::view::json::scalar::escaped;
use crate::view::text::words::{duration, name, plural};

/// Holders that are told of one process.
const TOP: usize = 5;

/// `the lock was held last by loader in mprotect() (50 faults, 105 ms)`, and so on.
pub(super) fn told(found: &Holders) -> String {
    let (first, others) = found.top(TOP);
    let mut parts: Vec<String> = first
        .iter()
        .map(|(holder, waited)| format!("{}{}", who(holder), sum(*waited)))
        .collect();
    if others.faults > 0 {
        parts.push(format!("others{}", sum(others)));
    }
    let unknown = found.unknown;
    if parts.is_empty() {
        return format!("who held the lock is not known{}", sum(unknown));
    }
    let mut text = format!("the lock was held last by {}", parts.join(", "));
    if unknown.faults > 0 {
        text += &format!("; by whom is not known{}", sum(unknown));
    }
    text
}

/// `exporter of another process (812) in read()`; of the process itself `loader in mprotect()`.
fn who(holder: &Holder) -> String {
    let mut text = name(&holder.name);
    if holder.is_other {
        text += &match known_id(holder.pid) {
            Some(pid) => format!(" of another process ({pid})"),
            None => " of another process (outside this pid namespace)".to_owned(),
        };
    }
    match &holder.syscall {
        Some(call) => text += &format!(" in {}()", name(call)),
        None => text += " in no known system call",
    }
    text
}

fn sum(waited: Waited) -> String {
    let (count, time) = (plural(waited.faults, "fault"), duration(waited.blocked_ns));
    format!(" ({count}, {time})")
}

/// The same for programs.
#[derive(Serialize)]
pub(super) struct HoldersPart<'a> {
    rows: Vec<HolderPart<'a>>,
    others: Option<WaitedPart>,
    unknown: Option<WaitedPart>,
}

impl<'a> HoldersPart<'a> {
    /// Of a piece of advice; `None` if it is not about a lock, or nothing is known.
    pub(super) fn of(advice: &'a Advice) -> Option<Self> {
        let found = advice.evidence.iter().find_map(|one| match one {
            Evidence::Holders(found) => Some(found),
            _ => None,
        })?;
        let (first, others) = found.top(TOP);
        Some(HoldersPart {
            rows: first.iter().map(HolderPart::new).collect(),
            others: WaitedPart::new(others),
            unknown: WaitedPart::new(found.unknown),
        })
    }
}

#[derive(Serialize)]
struct HolderPart<'a> {
    pid: Option<u32>,
    other_process: bool,
    thread: Escaped<'a>,
    syscall: Option<Escaped<'a>>,
    faults: u64,
    blocked_ns: u64,
}

impl<'a> HolderPart<'a> {
    fn new((holder, waited): &'a (Holder, Waited)) -> Self {
        HolderPart {
            pid: known_id(holder.pid),
            other_process: holder.is_other,
            thread: Escaped(holder.name.as_bytes()),
            syscall: escaped(holder.syscall.as_ref()),
            faults: waited.faults,
            blocked_ns: waited.blocked_ns,
        }
    }
}

#[derive(Serialize)]
struct WaitedPart {
    faults: u64,
    blocked_ns: u64,
}

impl WaitedPart {
    fn new(waited: Waited) -> Option<Self> {
        (waited.faults > 0).then_some(WaitedPart {
            faults: waited.faults,
            blocked_ns: waited.blocked_ns,
        })
    }
}
