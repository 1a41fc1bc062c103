//! The change in a few sentences, and its words.

use crate::model::analysis::{
    Change, Diff, DiffRow, FrameName, LEAST_SHARE, PsChange, SeriesKey, Verdict,
};
use crate::view::escape::escaped;
use crate::view::text::stack::{MAX_TEXT, base_name};
use crate::view::text::words::{self, duration, three_digits};

/// What changed, or that nothing did, or that nothing can be said: a line each. Where a Go program had no P
/// left, that is what hurts: everything in it stands still. If it was so for long enough it comes first, and
/// what time threads are blocked says no more than that: with a P left, more of them wait at once.
pub(super) fn headline(diff: &Diff) -> Vec<String> {
    let at_least = |ps: &PsChange, least_ns: f64| {
        let is = |side: Option<f64>| side.is_some_and(|ns| ns > 0.0 && ns >= least_ns);
        is(ps.none_left.before) || is(ps.none_left.after)
    };
    match &diff.ps {
        Some(ps) if at_least(ps, LEAST_SHARE * 1e9) => vec![no_p_left(ps), threads(diff, ps)],
        Some(ps) if at_least(ps, 0.0) => vec![blocked(diff), no_p_left(ps)],
        Some(ps) => vec![blocked(diff), always_a_p(ps)],
        None => vec![blocked(diff)],
    }
}

/// How long threads are blocked, as what the traces are compared by.
fn blocked(diff: &Diff) -> String {
    let blocked = &diff.all.blocked;
    let values = values(blocked);
    let first = match (blocked.verdict, blocked.growth()) {
        (Verdict::Significant, Some(growth)) => {
            let way = if growth > 0.0 { "longer" } else { "shorter" };
            let change = change(blocked);
            format!("Threads are blocked in faults {way} ({change}): {values}.")
        }
        (Verdict::Chance, _) => {
            format!(
                "How long threads are blocked in faults did not change beyond chance: {values}."
            )
        }
        _ => format!(
            "Too little to tell whether faults changed, too short a trace or too few faults: threads \
             are blocked {values}."
        ),
    };
    first + &most_of_it(diff)
}

/// How long threads are blocked, where that does not tell better from worse.
fn threads(diff: &Diff, ps: &PsChange) -> String {
    let blocked = &diff.all.blocked;
    let how = match blocked.verdict {
        Verdict::Significant => change(blocked),
        Verdict::Chance => format!("{}, no more than chance", change(blocked)),
        Verdict::TooLittle | Verdict::Unknown => "too little to tell".to_owned(),
    };
    let mut text = format!(
        "Threads in faults, each counted for itself: blocked {} ({how}).",
        values(blocked)
    );
    let none = &ps.none_left;
    let fell = none.verdict == Verdict::Significant && none.growth().is_some_and(|by| by < 0.0);
    let grew = blocked.verdict == Verdict::Significant
        && blocked.growth().is_some_and(|growth| growth > 0.0);
    // Of threads of other programs it would be said, too.
    if fell && grew && ps.only_go {
        text += " With a P left, more of them wait at once: that is no loss by itself.";
    }
    text + &most_of_it(diff)
}

fn values(blocked: &Change) -> String {
    let (before, after) = (time(blocked.before), time(blocked.after));
    format!("{before} per second before, {after} after")
}

fn most_of_it(diff: &Diff) -> String {
    let blocked = &diff.all.blocked;
    let growth = match blocked.verdict {
        Verdict::Significant => blocked.growth(),
        _ => None,
    };
    match contributors(diff, growth).as_slice() {
        [] => String::new(),
        parts if growth.is_some() => format!(" Most of it: {}.", parts.join("; ")),
        parts => format!(" But: {}.", parts.join("; ")),
    }
}

/// What became of the time in which Go programs had no P.
fn no_p_left(ps: &PsChange) -> String {
    let none = &ps.none_left;
    let how = match (none.verdict, none.growth()) {
        (Verdict::Significant, Some(growth)) if growth > 0.0 => "worse",
        (Verdict::Significant, Some(_)) => "better",
        (Verdict::Chance, _) => "as before, or no more than chance makes it differ",
        (Verdict::TooLittle, _) => "too short a trace to tell whether it changed",
        _ => "not to be compared",
    };
    let side = |pick: fn(&Change) -> Option<f64>| match pick(none) {
        None => "not known".to_owned(),
        Some(ns) if ns <= 0.0 => "never".to_owned(),
        of => format!(
            "{} per second ({} stalls, the longest of {})",
            time(of),
            rate(pick(&ps.stalls)),
            time(pick(&ps.longest))
        ),
    };
    let before = side(|change| change.before);
    let after = side(|change| change.after);
    format!("Go: {how}: no P was left to run goroutines with: before {before}, after {after}.")
}

/// That Go programs always had one, as far as is known.
fn always_a_p(ps: &PsChange) -> String {
    let none = &ps.none_left;
    let when = match (none.before, none.after) {
        (Some(_), Some(_)) => ", before and after",
        (Some(_), None) => " before; after is not known",
        (None, Some(_)) => " after; before is not known",
        (None, None) => return "Go: whether a P was left is not known.".to_owned(),
    };
    format!("Go: it was never seen that no P was left to run goroutines with{when}.")
}

/// The greatest significant change of each table that goes the way of the whole; if the whole did
/// not change, the two greatest.
fn contributors(diff: &Diff, growth: Option<f64>) -> Vec<String> {
    let along = |row: &&DiffRow| {
        row.blocked.verdict == Verdict::Significant
            && match (growth, row.blocked.growth()) {
                (None, _) => true,
                (Some(all), Some(own)) => (all > 0.0) == (own > 0.0),
                (Some(_), None) => false,
            }
    };
    let tables = [&diff.causes, &diff.files, &diff.threads, &diff.stacks];
    let many = if growth.is_some() { 1 } else { 2 };
    let first = tables
        .into_iter()
        .flat_map(|rows| rows.iter().filter(along).take(many));
    first
        .map(|row| {
            let (before, after) = (time(row.blocked.before), time(row.blocked.after));
            format!("{}, {before} before and {after} after", named(&row.key))
        })
        .collect()
}

/// A key in a sentence.
fn named(key: &SeriesKey) -> String {
    match key {
        SeriesKey::All => "all faults".to_owned(),
        SeriesKey::Cause(cause) => format!("cause {}", words::cause(*cause)),
        SeriesKey::File(path, mapping) => {
            format!("file {}", words::file(*mapping, path.as_ref(), false).path)
        }
        SeriesKey::Thread(name) => format!("threads called {}", words::name(name)),
        SeriesKey::Stack(None) => "faults without a stack".to_owned(),
        SeriesKey::Stack(Some(names)) => {
            let innermost = names.first().map_or_else(|| "?".to_owned(), frame);
            format!("code in {innermost}")
        }
    }
}

/// A frame by its name.
pub(super) fn frame(name: &FrameName) -> String {
    match name {
        FrameName::Function(name) => escaped(name.as_bytes(), MAX_TEXT),
        FrameName::Module(module, offset) => format!("{}+{offset:#x}", base_name(module)),
        FrameName::Unknown => "?".to_owned(),
    }
}

/// Nanoseconds that may be a fraction, or unknown.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and saturating"
)]
pub(super) fn time(ns: Option<f64>) -> String {
    match ns {
        None => "?".to_owned(),
        Some(ns) if ns > 0.0 && ns < 0.5 => "<1 ns".to_owned(),
        Some(ns) => duration(ns.round() as u64),
    }
}

/// Something per second, or unknown.
pub(super) fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "?".to_owned(),
        Some(rate) if rate <= 0.0 => "0".to_owned(),
        Some(rate) if rate < 0.005 => "<0.01".to_owned(),
        Some(rate) => three_digits(rate),
    }
}

/// How much it changed.
pub(super) fn change(change: &Change) -> String {
    let (Some(before), Some(after)) = (change.before, change.after) else {
        return "?".to_owned();
    };
    if before <= 0.0 && after <= 0.0 {
        return "=".to_owned();
    }
    if before <= 0.0 {
        return "new".to_owned();
    }
    if after <= 0.0 {
        return "gone".to_owned();
    }
    let ratio = after / before;
    if ratio >= 9.995 {
        return if ratio < 999_500.0 {
            format!("×{}", three_digits(ratio))
        } else {
            ">×999999".to_owned()
        };
    }
    let percent = ((ratio - 1.0) * 100.0).round();
    if percent == 0.0 {
        "=".to_owned()
    } else if percent <= -100.0 {
        "-99 %".to_owned()
    } else {
        format!("{percent:+} %")
    }
}

/// The mark of a verdict.
pub(super) fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Significant => "*",
        Verdict::TooLittle => "?",
        Verdict::Chance | Verdict::Unknown => " ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(before: f64, after: f64) -> String {
        change(&Change {
            before: Some(before),
            after: Some(after),
            verdict: Verdict::Chance,
        })
    }

    #[test]
    fn changes_in_words() {
        assert_eq!(of(0.0, 0.0), "=");
        assert_eq!(of(0.0, 1.0), "new");
        assert_eq!(of(1.0, 0.0), "gone");
        assert_eq!(of(1000.0, 1001.0), "=");
        assert_eq!(of(100.0, 138.0), "+38 %");
        assert_eq!(of(100.0, 38.0), "-62 %");
        assert_eq!(of(1e9, 1.0), "-99 %", "something is left");
        assert_eq!(of(1.0, 10.0), "×10.0");
        assert_eq!(of(1.0, 1e300), ">×999999");
        let unknown = Change {
            before: None,
            after: Some(1.0),
            verdict: Verdict::Unknown,
        };
        assert_eq!(change(&unknown), "?");
    }

    #[test]
    fn rates_and_times_that_are_hardly_any_are_not_none() {
        assert_eq!(rate(Some(0.0)), "0");
        assert_eq!(rate(Some(1e-9)), "<0.01");
        assert_eq!(rate(Some(20.0)), "20.0");
        assert_eq!(time(Some(0.1)), "<1 ns");
        assert_eq!(time(Some(0.0)), "0");
        assert_eq!(time(None), "?");
    }
}
