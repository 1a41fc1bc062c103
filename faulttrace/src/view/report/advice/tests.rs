//! Advice as people and programs get it, and the docs against it.

use serde_json::Value;

use super::{actions, words, write_advice_json, write_advice_text};
use crate::model::advice::{
    About, Advised, Condition, Evidence, MIN_FAULTS, MIN_GAIN_NS, NoAdvice, PER_BLOCKED,
    PER_STOPPED, PER_WALL, Rule,
};
use crate::model::analysis::tests::{analyse, during, records};
use crate::model::analysis::{Options, Report, Wall};
use crate::model::summary::samples::{T0, start};
use crate::model::{Cause, Name, Sleep, Task, Waker};
use crate::view::TextOptions;
use crate::view::json::tests::docs::check;
use crate::view::report::json::tests::{check_advice, fields};
use crate::view::report::samples::{eventful, hostile};

const DOCS: &str = include_str!("../../../../../docs/advice.md");
const MS: u64 = 1_000_000;

/// By whom the lock was held that the fault of this number waited for.
fn held_by(n: u64) -> Sleep {
    let (pid, name, syscall) = match n % 20 {
        0 => (812, "exporter", Some("read")),
        1..=3 => (4700, "worker-1", None),
        _ => (4700, "loader", Some("mprotect")),
    };
    let task = Task {
        pid,
        tid: pid + 1,
        name: Name::from(name),
        syscall: syscall.map(Name::from),
    };
    Sleep {
        after_ns: 0,
        blocked_ns: MS / 2,
        runqueue_ns: 0,
        waker: (n % 20 != 7).then_some(Waker::Task(task)),
    }
}

/// A file read in order, page by page; and waits for `mmap_lock`.
fn advised() -> Report {
    let mut faults = Vec::new();
    for n in 0..200_u64 {
        let mut one = during(1, n * 4 * MS, n * 4 * MS + 2 * MS);
        one.facts.place.offset = Some(n * 4096);
        let stack = one.facts.kernel_stack.as_mut();
        let stack = stack.map(std::sync::Arc::make_mut).unwrap();
        stack.frames[2].function = Some(Name::from("filemap_read_folio"));
        faults.push(one);
        let mut one = during(2, n * 4 * MS, n * 4 * MS + MS);
        one.facts.cause = Some(Cause::MmapLock);
        one.facts.place.path = None;
        one.longest_sleep = Some(held_by(n));
        faults.push(one);
    }
    for one in &mut faults {
        one.history = None;
    }
    faults.sort_by_key(|one| one.end_ns);
    let mut all = vec![start()];
    all.extend(records(faults));
    let wall = Wall {
        begin_ns: T0,
        end_ns: T0 + 1_000 * MS,
    };
    let options = Options {
        wall: Some(wall),
        ..Options::default()
    };
    analyse(options, &all)
}

fn text(report: &Report, width: Option<usize>) -> String {
    let mut out = Vec::new();
    let options = TextOptions {
        width,
        ..TextOptions::default()
    };
    write_advice_text(report, options, &mut out);
    String::from_utf8(out).unwrap()
}

fn section(report: &Report, width: Option<usize>) -> String {
    let text = text(report, width);
    let section = text.split("\nADVICE\n").nth(1).unwrap();
    section.split("\n\n").next().unwrap().to_owned()
}

fn json(report: &Report) -> Value {
    let mut out = Vec::new();
    write_advice_json(report, &mut out).unwrap();
    let value: Value = serde_json::from_slice(&out).unwrap();
    check(&value, &fields("advice"));
    check_advice(&value["advice"]);
    value
}

#[test]
fn a_list() {
    insta::assert_snapshot!(section(&advised(), None));
}

#[test]
fn a_list_of_80_columns() {
    insta::assert_snapshot!(section(&advised(), Some(80)));
}

#[test]
fn programs_get_the_same() {
    let found = json(&advised());
    let advice = &found["advice"];
    let given = advice["given"].as_array().unwrap();
    assert_eq!(
        (advice["none"].is_null(), &advice["more"]),
        (true, &Value::from(0))
    );
    assert_eq!(given[0]["rule"], "readahead_off");
    assert_eq!(given[0]["path"], "/data/index.bin");
    assert_eq!(given[0]["pids"], serde_json::json!([4700]));
    assert_eq!(given[0]["name"], "server");
    assert_eq!(given[0]["actions"][0]["action"], "madv_normal");
    let gain = given[0]["gain_at_most_ns"].as_u64().unwrap();
    assert!(gain <= given[0]["blocked_ns"].as_u64().unwrap());
    let overlaps = given
        .iter()
        .any(|one| one["overlaps"] != serde_json::json!([]));
    assert!(overlaps, "{given:?}");
    let lock = given.iter().find(|one| one["rule"] == "mmap_lock").unwrap();
    assert!(lock["path"].is_null() && lock["deleted"].is_null());
    let holders = &lock["lock_holders"];
    let rows = holders["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &holders["others"]), (3, &Value::Null));
    assert_eq!(
        (&rows[0]["thread"], &rows[0]["syscall"]),
        (&"loader".into(), &"mprotect".into())
    );
    assert_eq!(
        (&rows[0]["faults"], &rows[0]["other_process"]),
        (&150.into(), &false.into())
    );
    assert_eq!(rows[0]["blocked_ns"], 150 * MS / 2);
    assert!(rows[1]["syscall"].is_null());
    assert_eq!(
        (&rows[2]["pid"], &rows[2]["other_process"]),
        (&812.into(), &true.into())
    );
    assert_eq!(holders["unknown"]["faults"], 10);
    assert_eq!(lock["actions"][0]["action"], "fewer_mprotects");
    assert!(given[0]["lock_holders"].is_null());

    let mut few = advised();
    few.options.top = 1;
    let found = json(&few);
    assert_eq!(found["advice"]["given"].as_array().unwrap().len(), 1);
    assert_eq!(found["advice"]["more"], given.len() - 1);
    assert!(text(&few, None).contains(" more (--top)\n"));
}

#[test]
fn none_is_said_with_the_reason() {
    for (none, name, word) in [
        (NoAdvice::NoFaults, "no_faults", "there are no faults"),
        (NoAdvice::TooLittle, "too_little", "is not worth it"),
        (NoAdvice::NoEvidence, "no_evidence", "have the evidence"),
    ] {
        let mut report = advised();
        report.advice = Some(Advised {
            none: Some(none),
            least_ns: 10 * MS,
            one_page_in: 4,
            faults_beyond: 3,
            ..Advised::default()
        });
        assert_eq!(json(&report)["advice"]["none"], name);
        let text = section(&report, None);
        assert!(
            text.starts_with("  none: ") && text.contains(word),
            "{text}"
        );
        assert!(
            text.contains("one page in 4") && text.contains("3 faults on files"),
            "{text}"
        );
    }
    let nothing = analyse(Options::default(), &[]);
    assert_eq!(json(&nothing)["advice"]["none"], "no_faults");
}

#[test]
fn nobody_asked_is_null() {
    let options = Options {
        advise: false,
        ..Options::default()
    };
    let report = analyse(options, &[]);
    assert_eq!(json(&report)["advice"], Value::Null);
    assert!(!text(&report, None).contains("ADVICE"));
}

#[test]
fn names_stay_within_their_line_and_its_width() {
    let mut report = hostile();
    report.advice = advised().advice;
    let evil = Name::from(&b"/\x1b[2J\n1. none\xff\xe2\x80\xae"[..]);
    for one in &mut report.advice.as_mut().unwrap().given {
        if let About::File { file, .. } = &mut one.about {
            file.path = Some(evil.clone());
        }
        for evidence in &mut one.evidence {
            if let Evidence::Holders(found) = evidence {
                found.rows[0].0.name = evil.clone();
                found.rows[0].0.syscall = Some(evil.clone());
            }
        }
        one.only_if = Some(Condition::FewUsed {
            pages_percent: Some(u64::MAX),
            at_most_percent: Some(u64::MAX),
        });
    }
    for width in [40, 80] {
        for line in section(&report, Some(width)).lines() {
            assert!(line.chars().all(|c| !c.is_control()), "{line}");
            assert!(
                !line.contains('\u{202e}') && !line.starts_with("1."),
                "{line}"
            );
            let columns = crate::view::escape::width(line);
            assert!(columns <= width, "{columns} columns: {line}");
        }
    }
    let path = &json(&report)["advice"]["given"][0]["path"];
    assert_eq!(path, r"/\x1b[2J\n1. none\xff\u{202e}");
    json(&eventful());
}

#[test]
fn the_docs_know_every_rule_and_remedy_and_threshold() {
    for rule in Rule::ALL {
        let name = format!("`{}`", rule.as_str());
        let row = |line: &&str| line.starts_with("| `") && line.contains(&name);
        assert!(DOCS.lines().any(|line| row(&line)), "{name}");
        assert!(!words::title(*rule).is_empty());
    }
    let remedies = DOCS.split("## Remedies").nth(1).unwrap();
    let mut names: Vec<_> = actions::ALL
        .iter()
        .map(|one| actions::action(*one).name)
        .collect();
    for name in &names {
        let name = format!("`{name}`");
        assert!(remedies.contains(&name), "{name} is no remedy of the docs");
        assert!(
            DOCS.matches(&name).count() > 1,
            "no rule of the docs has {name}"
        );
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), actions::ALL.len(), "a name each");
    for text in [
        format!("fewer than {MIN_FAULTS} faults"),
        format!("less than {} ms", MIN_GAIN_NS / MS),
        format!("1/{PER_BLOCKED} of all blocked time"),
        format!("1/{PER_WALL} of the length"),
        format!("1/{PER_STOPPED} of the trace"),
    ] {
        assert!(DOCS.contains(&text), "{text}");
    }
}
