//! Advice for people.

use crate::model::advice::{About, Advice, Advised};
use crate::model::analysis::Report;
use crate::model::summary::Summary;
use crate::view::TextOptions;
use crate::view::report::advice::{actions, words as say};
use crate::view::report::text::begin;
use crate::view::text::devices;
use crate::view::text::entry::Entries;
use crate::view::text::line::{Page, Paint};
use crate::view::text::summary;
use crate::view::text::words::{self, Clock};
use jiff::tz::TimeZone;

/// Actions told of one piece; the rest is in the JSON form.
const MAX_ACTIONS: usize = 4;

/// Writes the advice of a report, and what it goes by.
pub fn write_advice_text(report: &Report, options: TextOptions, out: &mut Vec<u8>) {
    let entries = Entries::new(options, Clock(TimeZone::system()));
    begin(&entries, report, out);
    section(entries.page, report, out);
    page_end(&entries, report, out);
}

fn page_end(entries: &Entries, report: &Report, out: &mut Vec<u8>) {
    summary::losses(entries.page, &report.summary, out);
    summary::transport(entries.page, &report.summary, out);
}

/// The section of a report.
pub(in crate::view::report) fn section(page: Page, report: &Report, out: &mut Vec<u8>) {
    let Some(advised) = &report.advice else {
        return;
    };
    page.say("", out);
    page.line().paint(Paint::Bold, "ADVICE").end(out);
    if let Some(why) = advised.none {
        let blocked_ns = report.total.tally.blocked_ns;
        page.wrap(2, &say::none(advised, why, blocked_ns), out);
    }
    let top = report.options.top;
    for (at, advice) in advised.given.iter().take(top).enumerate() {
        one(page, &report.summary, at, advice, out);
    }
    if let Some(more) = advised
        .given
        .len()
        .checked_sub(top)
        .filter(|more| *more > 0)
    {
        page.say(&format!("  and {more} more (--top)"), out);
    }
    for text in say::limits(advised) {
        page.wrap(2, &text, out);
    }
    if !advised.given.is_empty() {
        page.wrap(2, &say::threshold(advised), out);
        several(page, advised, out);
    }
}

/// Gains are not to be added up by the reader either.
fn several(page: Page, advised: &Advised, out: &mut Vec<u8>) {
    if advised.given.iter().any(|one| !one.overlaps.is_empty()) {
        let text = "gains of pieces that are about the same time do not add up";
        page.wrap(2, text, out);
    }
}

fn one(page: Page, summary: &Summary, at: usize, advice: &Advice, out: &mut Vec<u8>) {
    let line = page.line().add(&format!("  {}. ", at + 1));
    let line = match &advice.about {
        About::File { file, .. } => {
            let at = words::file(file.mapping, file.path.as_ref(), file.deleted);
            line.path(&at.path, &at.suffix)
        }
        About::Process(pid) => line.add(&named(summary, *pid)),
        About::Device(device) => line.add(&devices::device(device)),
        About::Machine => line.add("this machine"),
    };
    line.end(out);
    let title = say::title(advice.rule);
    let name = advice.rule.as_str();
    page.wrap(5, &format!("{title} [{name}]"), out);
    page.wrap(
        5,
        &format!("{}: {}", say::gain(advice), say::how(advice)),
        out,
    );
    if let Some(pids) = pids(summary, &advice.about) {
        page.wrap(5, &pids, out);
    }
    for evidence in &advice.evidence {
        page.wrap(7, &say::evidence(evidence), out);
    }
    if let Some(condition) = advice.only_if {
        let text = format!("only if {}", say::condition(condition));
        page.wrap(5, &text, out);
    }
    for (at, action) in advice.actions.iter().take(MAX_ACTIONS).enumerate() {
        let words = actions::action(*action);
        let first = if at == 0 { "do" } else { "or" };
        let text = format!("{first} {}; costs: {}", words.what, words.cost);
        page.wrap(5, &text, out);
    }
    if !advice.overlaps.is_empty() {
        let others: Vec<String> = advice
            .overlaps
            .iter()
            .map(|other| (other + 1).to_string())
            .collect();
        let text = format!("partly the same time as {}", others.join(", "));
        page.wrap(5, &text, out);
    }
}

/// Whose faults on a file.
fn pids(summary: &Summary, about: &About) -> Option<String> {
    let About::File {
        pids, processes, ..
    } = about
    else {
        return None;
    };
    let names: Vec<String> = pids.iter().map(|pid| named(summary, *pid)).collect();
    let told = u64::try_from(pids.len()).unwrap_or(u64::MAX);
    let more = match processes.checked_sub(told) {
        Some(1) => " and 1 more process".to_owned(),
        Some(more) if more > 0 => format!(" and {more} more processes"),
        _ => String::new(),
    };
    (!names.is_empty()).then(|| format!("of {}{more}", names.join(", ")))
}

fn named(summary: &Summary, pid: u32) -> String {
    let known = summary.processes().find(|process| process.pid == Some(pid));
    let name = known.and_then(|process| process.info.as_ref());
    words::with_id(name.map(|info| &info.name), pid)
}
