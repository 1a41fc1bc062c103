//! The change in one or two sentences, and its words.

use crate::model::analysis::{Change, Diff, DiffRow, FrameName, PsChange, SeriesKey, Verdict};
use crate::view::escape::escaped;
use crate::view::text::stack::{MAX_TEXT, base_name};
use crate::view::text::words::{self, duration, three_digits};

/// What changed, or that nothing did, or that nothing can be said.
pub(super) fn headline(diff: &Diff) -> String {
    let blocked = &diff.all.blocked;
    let values = format!(
        "{} per second before, {} after",
        time(blocked.before),
        time(blocked.after)
    );
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
    let growth = match blocked.verdict {
        Verdict::Significant => blocked.growth(),
        _ => None,
    };
    let first = match &diff.ps {
        Some(ps) => format!("{} {first}", no_p_left(ps)),
        None => first,
    };
    match contributors(diff, growth).as_slice() {
        [] => first,
        parts if growth.is_some() => format!("{first} Most of it: {}.", parts.join("; ")),
        parts => format!("{first} But: {}.", parts.join("; ")),
    }
}

/// What became of the Ps of Go programs: what hurts them most, and may get better while more threads are
/// blocked.
fn no_p_left(ps: &PsChange) -> String {
    let side = |of: Option<f64>| match of {
        None => "not known".to_owned(),
        Some(ns) if ns <= 0.0 => "never".to_owned(),
        Some(_) => format!("{} per second", time(of)),
    };
    let (before, after) = (side(ps.none_left.before), side(ps.none_left.after));
    if before == after {
        return format!("Go: no P was left to run goroutines with: {before}, before and after.");
    }
    format!("Go: no P was left to run goroutines with: {before} before, {after} after.")
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
