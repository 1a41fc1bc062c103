//! Where in the files the faults were, and how threads and goroutines went through them.

use crate::model::analysis::{
    Evidence, FileAccess, HotRange, Offsets, PAGE_BYTES, Part, Pattern, WINDOW_BYTES,
};
use crate::model::summary::ProcessSummary;
use crate::view::text::line::{Page, Paint};
use crate::view::text::words::{self, duration, percent, plural, size};

/// The files that cost most, as far as offsets in them are known.
pub(super) fn files(
    page: Page,
    total: &ProcessSummary,
    part: &Part,
    top: usize,
    out: &mut Vec<u8>,
) {
    let mut first = true;
    for (key, entry) in total.by_file.ranked().into_iter().take(top) {
        let Some(detail) = part.files.get(key) else {
            continue;
        };
        let Some(offsets) = &detail.offsets else {
            continue;
        };
        if std::mem::take(&mut first) {
            page.say("", out);
            page.line().paint(Paint::Bold, "in the files").end(out);
        }
        let at = words::file(key.mapping, key.path.as_ref(), key.deleted);
        page.line().add("  ").path(&at.path, &at.suffix).end(out);
        if let Some(access) = &detail.access {
            page.wrap(4, &pattern(access), out);
        }
        ranges(page, offsets, entry.tally.faults, out);
    }
}

fn ranges(page: Page, offsets: &Offsets, faults: u64, out: &mut Vec<u8>) {
    let whole = &offsets.whole;
    let mut rest = *whole;
    for range in &offsets.hot {
        rest.blocked_ns = rest.blocked_ns.saturating_sub(range.blocked_ns);
        rest.faults = rest.faults.saturating_sub(range.faults);
        let size = words::about(range.to.saturating_sub(range.from));
        range_line(
            page,
            range,
            whole,
            &format!("at {}, {size}", span(range)),
            out,
        );
    }
    if offsets.hot.is_empty() {
        let faults = plural(whole.faults, "fault");
        let text = format!("    nothing blocked: {faults} at {}", span(whole));
        page.say(&text, out);
    } else if rest.faults > 0 {
        range_line(
            page,
            &rest,
            whole,
            &format!("elsewhere in {}", span(whole)),
            out,
        );
    }
    if let Some(unknown) = faults.checked_sub(whole.faults).filter(|rest| *rest > 0) {
        page.say(
            &format!("    {} at unknown offsets", plural(unknown, "fault")),
            out,
        );
    }
}

fn range_line(page: Page, range: &HotRange, whole: &HotRange, text: &str, out: &mut Vec<u8>) {
    let line = format!(
        "    {:>8} {:>5}  blocked {text}, {}",
        duration(range.blocked_ns),
        percent(range.blocked_ns, whole.blocked_ns),
        plural(range.faults, "fault")
    );
    page.say(&line, out);
}

fn span(range: &HotRange) -> String {
    format!("+{:#x}..+{:#x}", range.from, range.to)
}

/// How it was gone through, and how that is known.
fn pattern(access: &FileAccess) -> String {
    let evidence = &access.evidence;
    let what = match access.pattern {
        Pattern::Sequential => "in sequence".to_owned(),
        // Read-around and readahead make equal steps of what is none.
        Pattern::Strided(step) if step.unsigned_abs() <= WINDOW_BYTES => format!(
            "in equal steps, {} (or the pages between were there, thanks to readahead)",
            step_text(step)
        ),
        Pattern::Strided(step) => format!("in equal steps, {}", step_text(step)),
        Pattern::Random => "here and there".to_owned(),
        Pattern::Mixed => "in no single way".to_owned(),
        Pattern::TooFew => {
            return format!(
                "too few faults to tell how it is gone through ({} of {} to another page{})",
                plural(evidence.steps, "step"),
                one_of(access),
                not_followed(access)
            );
        }
    };
    let mut text = format!("gone through {what}: {}", steps(evidence));
    let counts = [access.threads, access.goroutines];
    let several = counts.iter().flatten().sum::<u64>() > 1;
    for (counts, who) in counts.into_iter().zip(["threads", "goroutines"]) {
        // That it is a goroutine's way is worth saying of a single one, too.
        let some = counts.iter().sum::<u64>() > 0;
        if some && (several || who == "goroutines") {
            text += &format!("; {who}: {}", ways(counts));
        }
    }
    text + &not_followed(access)
}

/// How many went through it in which way.
fn ways([sequential, strided, random, mixed, few]: [u64; 5]) -> String {
    let ways = [
        (sequential, "in sequence"),
        (strided, "in equal steps"),
        (random, "here and there"),
        (mixed, "in no single way"),
        (few, "with too few faults"),
    ];
    let some = ways.into_iter().filter(|(count, _)| *count > 0);
    let words: Vec<String> = some.map(|(count, how)| format!("{count} {how}")).collect();
    words.join(", ")
}

/// Whose steps they are.
fn one_of(access: &FileAccess) -> &'static str {
    let any = |counts: [u64; 5]| counts.iter().any(|count| *count > 0);
    match (any(access.threads), any(access.goroutines)) {
        (_, false) => "a thread",
        (false, true) => "a goroutine",
        (true, true) => "a thread or goroutine",
    }
}

/// What the steps leave out.
fn not_followed(access: &FileAccess) -> String {
    match access.not_followed {
        0 => String::new(),
        count => format!(
            "; {} not followed, for want of room",
            plural(count, "fault")
        ),
    }
}

fn steps(evidence: &Evidence) -> String {
    let all = evidence.steps;
    let mut parts = Vec::new();
    for (count, what) in [
        (evidence.next_page, "to the next page"),
        (evidence.near, NEAR),
        (evidence.far, "further forward"),
        (evidence.backward, "backward"),
    ] {
        if count > 0 {
            parts.push(format!("{} {what}", percent(count, all)));
        }
    }
    let mut text = format!("of {} {}", plural(all, "step"), parts.join(", "));
    if let Some((step, count)) = evidence.common
        && count > 1
        && u64::try_from(step) != Ok(PAGE_BYTES)
    {
        text += &format!(", at least {} {}", percent(count, all), step_text(step));
    }
    if evidence.same_page > 0 {
        text += &format!("; {} on the same page again", evidence.same_page);
    }
    text
}

/// The text has to say the number.
const NEAR: &str = "up to 16 MiB forward";
const _: () = assert!(WINDOW_BYTES == 16 << 20);

fn step_text(step: i64) -> String {
    let way = if step < 0 { "backward" } else { "forward" };
    format!("by {} {way}", size(step.unsigned_abs()))
}
