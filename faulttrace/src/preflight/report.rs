//! Prints checks for people and programs.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::json;

use super::check::{Check, State, possible};
use super::ladder::JobRung;
use crate::probe::Rung;
use crate::view::wrapped;

/// The rows that keep a session from starting, for standard error.
pub(super) fn failure(missing: &[Check]) -> String {
    let mut text = String::from("this machine does not offer what tracing needs:");
    for check in missing {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n  {}: {}\n    needed: {}\n    fix:    {}",
            check.name, check.found, check.needed, check.fix
        );
    }
    text.push_str("\nfor everything that is checked: faulttrace doctor");
    text
}

/// The whole report as a table.
pub(super) fn text(
    checks: &[Check],
    jobs: &[JobRung],
    color: bool,
    columns: Option<usize>,
    out: &mut Vec<u8>,
) {
    let paint = |state: State, text: &str| {
        let code = match state {
            State::Ok => "32",
            State::Degraded => "33",
            State::Missing => "31",
        };
        if color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    };
    // Writing to a vector cannot fail.
    let _ = writeln!(out, "faulttrace {} doctor\n", env!("CARGO_PKG_VERSION"));
    let names = longest(checks.iter().map(|check| check.name));
    for check in checks {
        let state = paint(check.state, &format!("{:<8}", check.state.as_str()));
        let _ = write!(out, "{state}  {:<names$}", check.name);
        after(10 + names, &check.found, columns, out);
        if check.state != State::Ok {
            for (what, text) in [("needed:", check.needed), ("cost:", check.cost)] {
                let _ = write!(out, "          {what:<7}");
                after(17, text, columns, out);
            }
            // Commands are copied: in one piece.
            let _ = writeln!(out, "          fix:    {}", check.fix);
        }
    }
    let _ = writeln!(out, "\nHow each job is done here:");
    if jobs.is_empty() {
        let _ = writeln!(out, "  unknown: the kernel's types could not be read");
    }
    let names = longest(jobs.iter().map(|job| job.name));
    let places = longest(jobs.iter().map(|job| job.attached_to));
    for job in jobs {
        let state = match (job.rung, job.required) {
            (Rung::None, true) => State::Missing,
            (Rung::None, false) => State::Degraded,
            _ => State::Ok,
        };
        let rung = paint(state, &format!("{:<14}", job.rung.to_string()));
        let column = 2 + names + 1 + 14 + 1 + places;
        let _ = write!(out, "  {:<names$} {rung} ", job.name);
        if job.note.is_empty() {
            let _ = writeln!(out, "{}", job.attached_to);
        } else if columns.is_none_or(|columns| columns >= column + NOTE) {
            let _ = write!(out, "{:<places$}", job.attached_to);
            after(column, &job.note, columns, out);
        } else {
            let _ = write!(out, "{}\n     ", job.attached_to);
            after(5, &job.note, columns, out);
        }
    }
    let verdict = if possible(checks, jobs) {
        "Tracing works on this machine."
    } else {
        "Tracing cannot work on this machine as it is."
    };
    let _ = writeln!(out, "\n{verdict}");
}

/// A note that has less room than this on a line gets lines of its own.
const NOTE: usize = 30;

fn longest<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(str::len).max().unwrap_or(0)
}

/// Ends a line on which so many columns are taken with a text, which goes on below itself if need be.
fn after(taken: usize, text: &str, columns: Option<usize>, out: &mut Vec<u8>) {
    let wrapped = wrapped(text, taken + 1, columns);
    // Writing to a vector cannot fail.
    let _ = writeln!(out, " {}", wrapped.trim());
}

/// The same as one JSON object.
pub(super) fn json(checks: &[Check], jobs: &[JobRung], out: &mut Vec<u8>) {
    let checks_json: Vec<_> = checks
        .iter()
        .map(|check| {
            json!({
                "name": check.name,
                "state": check.state.as_str(),
                "found": check.found,
                "needed": check.needed,
                "cost": check.cost,
                "fix": if check.fix.is_empty() { None } else { Some(&check.fix) },
            })
        })
        .collect();
    let jobs_json: Vec<_> = jobs
        .iter()
        .map(|job| json!({ "job": job.name, "attached_to": job.attached_to, "rung": job.rung.to_string(), "required": job.required, "note": job.note }))
        .collect();
    let report = json!({
        "type": "doctor",
        "version": env!("CARGO_PKG_VERSION"),
        "possible": possible(checks, jobs),
        "checks": checks_json,
        "jobs": jobs_json,
    });
    let _ = writeln!(out, "{report}");
}

#[cfg(test)]
mod tests {
    use super::super::check::{all, tests::well};
    use super::super::facts::{Facts, Lockdown};
    use super::*;

    #[test]
    fn the_failure_names_what_is_missing_and_the_command() {
        let facts = Facts {
            lockdown: Lockdown::Mode("confidentiality".to_owned()),
            ..well()
        };
        let missing: Vec<Check> = all(&facts)
            .into_iter()
            .filter(|check| check.state == State::Missing)
            .collect();
        let text = failure(&missing);
        assert!(
            text.contains("lockdown: confidentiality") && text.contains("lockdown=integrity"),
            "{text}"
        );
        assert!(!text.contains("kernel types"), "{text}");
    }

    #[test]
    fn the_table_is_plain_without_colour() {
        let (mut plain, mut coloured) = (Vec::new(), Vec::new());
        text(&all(&well()), &[], false, None, &mut plain);
        text(&all(&well()), &[], true, None, &mut coloured);
        let plain = String::from_utf8(plain).expect("UTF-8");
        assert!(
            !plain.contains('\x1b') && plain.contains("Tracing works"),
            "{plain}"
        );
        assert!(coloured.contains(&0x1b));
    }

    #[test]
    fn lines_fit_and_columns_are_straight() {
        let facts = Facts {
            lockdown: Lockdown::Mode("confidentiality".to_owned()),
            ..well()
        };
        let job = |attached_to, note: &str| JobRung {
            name: "page_uncached",
            attached_to,
            rung: Rung::TpBtf,
            required: false,
            note: note.to_owned().into(),
        };
        let jobs = [
            job("sched_switch", "brief"),
            job(
                "mm_filemap_delete_from_page_cache",
                &"many words ".repeat(10),
            ),
        ];
        for columns in [80, 120] {
            let mut out = Vec::new();
            text(&all(&facts), &jobs, false, Some(columns), &mut out);
            let out = String::from_utf8(out).expect("UTF-8");
            for line in out.lines().filter(|line| !line.contains("fix:")) {
                assert!(line.chars().count() <= columns, "{line}");
            }
        }
        let mut out = Vec::new();
        text(&all(&facts), &jobs, false, None, &mut out);
        let out = String::from_utf8(out).expect("UTF-8");
        let at = |word| out.lines().find_map(|line| line.find(word));
        assert_eq!(at("brief"), at("many words"), "{out}");
    }

    #[test]
    fn the_json_says_the_same() {
        let mut out = Vec::new();
        json(&all(&well()), &[], &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(value["possible"], true);
        assert_eq!(
            value["checks"].as_array().map(Vec::len),
            Some(all(&well()).len())
        );
    }
}
