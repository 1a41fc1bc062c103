//! What is compared only if both traces recorded it, for people: what had become of pages, what was read
//! ahead (`--evictions`), and what devices did (`--io`).

#[cfg(test)]
mod tests;

use super::headline::{change, rate, time};
use super::text::{WIDE, changed};
use crate::model::analysis::{
    AheadChange, Beside, Change, DeviceChange, DeviceKey, DevicesChange, Diff, Fate, FileAhead,
    PastsChange, WaitedChange,
};
use crate::model::{AheadPages, DeviceTotals, How, MappingKind};
use crate::view::text::history::bytes;
use crate::view::text::line::{Page, Paint};
use crate::view::text::words::{self, name};

/// All of it, each if a trace has it.
pub(super) fn write(page: Page, diff: &Diff, top: usize, out: &mut Vec<u8>) {
    if let Some(found) = &diff.pasts {
        let what = "why pages were not in memory";
        if let Some(found) = both(page, found, what, "was recorded with --evictions", out) {
            pasts(page, what, found, out);
        }
    }
    if let Some(found) = &diff.read_ahead {
        let what = "read ahead of faults";
        if let Some(found) = both(page, found, what, "tells it (--evictions)", out) {
            read_ahead(page, what, found, top, out);
        }
    }
    if let Some(found) = &diff.devices {
        let what = "devices, for reads that faults began";
        if let Some(found) = both(page, found, what, "was recorded with --io", out) {
            devices(page, what, found, top, out);
        }
    }
}

/// What changed, if both traces recorded it; else that is said.
fn both<'a, T>(
    page: Page,
    found: &'a Beside<T>,
    what: &str,
    does: &str,
    out: &mut Vec<u8>,
) -> Option<&'a T> {
    if found.change.is_none() {
        let only = if found.before { "before" } else { "after" };
        page.say("", out);
        page.wrap(0, &format!("{what}: not compared, only {only} {does}"), out);
    }
    found.change.as_ref()
}

/// A row of two numbers and what they are of.
const COLUMNS: &str = "    before      after    change";

fn pasts(page: Page, what: &str, found: &PastsChange, out: &mut Vec<u8>) {
    page.say("", out);
    let wide = page.width.is_none_or(|width| width >= WIDE);
    let (mut groups, mut columns) = (format!("{:>31}", "blocked per second"), COLUMNS.to_owned());
    if wide {
        groups += &format!("  {:>21}", "faults per s");
        columns += &format!("   {:>9}  {:>9}", "before", "after");
    }
    page.line().paint(Paint::Dim, &groups).end(out);
    let line = page.line().paint(Paint::Dim, &format!("{columns}    "));
    line.paint(Paint::Bold, what).end(out);
    if found.rows.is_empty() {
        page.say(
            "no fault waited for a page of a file whose past was looked at",
            out,
        );
    }
    for (fate, of) in &found.rows {
        let blocked = &of.blocked;
        let (before, after) = (time(blocked.before), time(blocked.after));
        let mut text = format!("{before:>10} {after:>10} {:>9}", change(blocked));
        if wide {
            let (before, after) = (rate(of.faults.before), rate(of.faults.after));
            text += &format!("   {before:>9}  {after:>9}");
        }
        page.line()
            .add(&text)
            .add("    ")
            .add(fated(*fate))
            .end(out);
    }
}

fn fated(fate: Fate) -> &'static str {
    match fate {
        Fate::FirstTouch => "not in memory before, as far as was seen",
        Fate::Unknown => "not known",
        Fate::Removed(how) => match how {
            How::Kswapd => "evicted by kswapd",
            How::DirectReclaim => "evicted for want of memory",
            How::MemcgReclaim => "evicted under a memory cgroup's limit",
            How::OtherReclaim => "evicted by reclaim of another kind",
            How::DropCaches => "dropped by drop_caches",
            How::Fadvise => "dropped by fadvise",
            How::Truncate => "cut off with the file",
            How::Invalidate => "made invalid",
            How::Unknown => "removed, how is not known",
        },
    }
}

fn read_ahead(page: Page, what: &str, found: &AheadChange, top: usize, out: &mut Vec<u8>) {
    page.say("", out);
    let groups = format!("{:>31}  {:>21}", "per second", "mapped of it, at most");
    page.line().paint(Paint::Dim, &groups).end(out);
    let columns = format!("{COLUMNS}   {:>9}  {:>9}    ", "before", "after");
    let line = page.line().paint(Paint::Dim, &columns);
    line.paint(Paint::Bold, what).end(out);
    if found.rows.is_empty() {
        page.say("nothing was", out);
    }
    for row in found.rows.iter().take(top) {
        file_ahead(page, row, out);
    }
    let hidden = found.rows.len().saturating_sub(top);
    if hidden > 0 {
        page.say(&format!("and {hidden} more, that changed less"), out);
    }
    let (before, after) = &found.others;
    if before.read > 0 || after.read > 0 {
        let text = format!(
            "files not told apart: {} before, {} after, in all",
            bytes(before.read),
            bytes(after.read)
        );
        page.wrap(0, &text, out);
    }
}

fn file_ahead(page: Page, row: &FileAhead, out: &mut Vec<u8>) {
    let rate = |pages: Option<f64>| pages.map_or_else(|| "?".to_owned(), per_second);
    let text = format!(
        "{:>10} {:>10} {:>9}   {:>9}  {:>9}    ",
        rate(row.read.before),
        rate(row.read.after),
        change(&row.read),
        used(row.before),
        used(row.after)
    );
    let at = words::file(
        row.path.as_ref().and(Some(MappingKind::File)),
        row.path.as_ref(),
        false,
    );
    let line = page.line().add(&text);
    line.path(&at.path, &at.suffix).end(out);
}

/// At most so much of it was used. Where nothing was read, nothing can have been.
fn used(of: Option<AheadPages>) -> String {
    match of {
        None => "?".to_owned(),
        Some(AheadPages { read: 0, .. }) => "-".to_owned(),
        Some(pages) => words::at_most(pages.used_at_most(), pages.read),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of pages, which is not negative; three digits are shown"
)]
fn per_second(pages: f64) -> String {
    if pages > 0.0 && pages < 0.5 {
        return format!("<{}", bytes(1));
    }
    bytes(pages.round() as u64)
}

fn devices(page: Page, what: &str, found: &DevicesChange, top: usize, out: &mut Vec<u8>) {
    page.say("", out);
    let line = page.line().paint(Paint::Dim, &format!("{COLUMNS}    "));
    line.paint(Paint::Bold, what).end(out);
    if found.rows.is_empty() && found.unseen.is_none() {
        page.say("none: no fault began a read of a block device", out);
    }
    let known = found.rows.iter().filter(|row| row.device.is_some());
    let hidden = known.clone().count().saturating_sub(top);
    for row in known.take(top) {
        device(page, row, out);
    }
    if hidden > 0 {
        page.say(&format!("and {hidden} more, that changed less"), out);
    }
    for row in found.rows.iter().filter(|row| row.device.is_none()) {
        device(page, row, out);
    }
    if let Some(unseen) = &found.unseen {
        unseen_lines(page, unseen, out);
    }
}

fn device(page: Page, row: &DeviceChange, out: &mut Vec<u8>) {
    let label = match &row.device {
        Some(DeviceKey::Name(text)) => name(text),
        Some(DeviceKey::Numbers(major, minor)) => format!("{major}:{minor}"),
        None => "devices not known or not told apart".to_owned(),
    };
    let text = format!("{label}: requests per second");
    changed(page, &row.requests, rate, &text, out);
    mean(page, &row.queued, "queued, a request in the mean", out);
    mean(page, &row.served, "served, a request in the mean", out);
    let held = [row.held.before, row.held.after];
    if held.iter().flatten().any(|ns| *ns > 0.0) {
        mean(
            page,
            &row.held,
            "held back by a limit, a fault in the mean",
            out,
        );
    }
    let (before, after) = (verdict(row.before), verdict(row.after));
    let is_known = row.before.is_some() && row.after.is_some();
    let change = if is_known && before == after { "=" } else { "" };
    let text = format!("{before:>10} {after:>10} {change:>9}    what takes the time");
    page.line().add(&text).end(out);
}

/// A mean over requests; a side that completed none has none, and nothing to compare.
fn mean(page: Page, of: &Change, text: &str, out: &mut Vec<u8>) {
    let shown = |ns: Option<f64>| ns.map_or_else(|| "-".to_owned(), |ns| time(Some(ns)));
    let (before, after) = (shown(of.before), shown(of.after));
    let change = of.growth().map_or_else(String::new, |_| change(of));
    let text = format!("{before:>10} {after:>10} {change:>9}    {text}");
    page.line().add(&text).end(out);
}

fn verdict(of: Option<DeviceTotals>) -> &'static str {
    match of {
        None => "?",
        Some(of) => of
            .verdict()
            .map_or("-", crate::model::DeviceVerdict::as_str),
    }
}

fn unseen_lines(page: Page, unseen: &WaitedChange, out: &mut Vec<u8>) {
    let text = "not seen at any device: faults per second";
    changed(page, &unseen.faults, rate, text, out);
    changed(page, &unseen.blocked, time, "blocked per second", out);
}
