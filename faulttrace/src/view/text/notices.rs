//! Lines between the entries: losses, and processes that come and go. Both at most so many a
//! second.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::entry::Entries;
use super::line::{Page, Paint};
use super::quota::Quota;
use super::reasons;
use super::words::{self, MAX_PATH};
use crate::model::{LossClass, Lost, ProcessEnd, ProcessInfo};
use crate::view::escape::escaped;

/// Losses are reported this often.
const INTERVAL: Duration = Duration::from_secs(1);
/// Reasons of loss come from a fixed set of ours; the bound is for traces that others wrote.
const MAX_REASONS: usize = 64;
/// Lines about processes in one second.
const MAX_PROCESS_LINES: u32 = 20;
/// Longest reason shown, bytes.
const MAX_REASON: usize = 64;

/// What was lost and has not been said.
#[derive(Debug, Default)]
pub(super) struct Losses {
    counts: BTreeMap<Cow<'static, str>, u64>,
    said: Option<Instant>,
}

impl Losses {
    pub(super) fn add(&mut self, lost: &Lost) {
        // The other classes are no news: they are in the summary.
        if lost.class != LossClass::Lost || lost.count == 0 {
            return;
        }
        let mut reason = lost.reason.clone();
        if self.counts.len() >= MAX_REASONS && !self.counts.contains_key(&reason) {
            reason = Cow::Borrowed("other");
        }
        let count = self.counts.entry(reason).or_default();
        *count = count.saturating_add(lost.count);
    }

    /// Says it, if there is something and the last time was long enough ago.
    pub(super) fn say(&mut self, page: Page, now: Instant, out: &mut Vec<u8>) {
        let early = self
            .said
            .is_some_and(|said| now.saturating_duration_since(said) < INTERVAL);
        if !self.counts.is_empty() && !early {
            self.said = Some(now);
            self.flush(page, out);
        }
    }

    /// Says it now.
    pub(super) fn flush(&mut self, page: Page, out: &mut Vec<u8>) {
        for (reason, count) in std::mem::take(&mut self.counts) {
            page.line()
                .paint(Paint::Alarm, "LOST")
                .add(&format!("  {count} {}", reason_text(&reason)))
                .end(out);
        }
    }
}

/// The reason in words, with its stable name.
pub(super) fn reason_text(reason: &str) -> String {
    let name = escaped(reason.as_bytes(), MAX_REASON);
    match reasons::meaning(reason) {
        Some(text) => format!("{text} [{name}]"),
        None => name,
    }
}

/// Processes that come and go.
#[derive(Debug, Default)]
pub(super) struct Processes {
    lines: Quota,
}

impl Processes {
    pub(super) fn seen(&mut self, info: &ProcessInfo, entries: &mut Entries, out: &mut Vec<u8>) {
        let known = entries.name(info.pid, &info.name);
        if !self.may_say(entries) {
            return;
        }
        let what = if known { "is now" } else { "seen:" };
        entries
            .page
            .line()
            .add(&format!("process {what} {}", process(info)))
            .end(out);
    }

    pub(super) fn ended(&mut self, end: &ProcessEnd, entries: &Entries, out: &mut Vec<u8>) {
        // That the only one ended is why there is no more.
        if !self.lines.takes(MAX_PROCESS_LINES) {
            return;
        }
        let who = words::with_id(entries.name_of(end.pid), end.pid);
        let at = entries.clock.time(end.time_ns);
        entries
            .page
            .line()
            .add(&format!("process ended at {at}: {who}"))
            .end(out);
    }

    /// A second is over.
    pub(super) fn flush(&mut self, page: Page, out: &mut Vec<u8>) {
        let unsaid = self.lines.turn();
        if unsaid > 0 {
            page.say(
                &format!("process starts, execs or ends not shown: {unsaid}"),
                out,
            );
        }
    }

    fn may_say(&mut self, entries: &Entries) -> bool {
        entries.multi_process && self.lines.takes(MAX_PROCESS_LINES)
    }
}

/// `server[4700] (/usr/bin/server)`.
pub(super) fn process(info: &ProcessInfo) -> String {
    let mut text = words::with_id(Some(&info.name), info.pid);
    if let Some(exe) = &info.exe {
        text += &format!(" ({})", escaped(exe.as_bytes(), MAX_PATH));
    }
    text
}
