use std::ffi::OsString;
use std::time::Duration;

use super::*;
use crate::probe::{Ends, Forced, Tracepoints};

fn parse(line: &str) -> Result<Command, clap::Error> {
    parse_from(line.split_whitespace().map(OsString::from))
}

fn plan(line: &str) -> Plan {
    match parse(line) {
        Ok(Command::Trace(plan)) => plan,
        other => panic!("{line}: {other:?}"),
    }
}

fn usage_error(line: &str) -> String {
    let error = parse(line).expect_err(line);
    assert!(error.use_stderr(), "{line}: {error}");
    error.to_string()
}

#[test]
fn defaults_are_those_of_the_manual() {
    let plan = plan("faulttrace --pid 7");
    assert_eq!(plan.stuck_after, Duration::from_millis(100));
    assert_eq!((plan.ring_bytes, plan.max_stacks), (16 << 20, 16384));
    assert_eq!(
        (plan.format, plan.symbols, plan.verbose),
        (Format::Text, true, 0)
    );
    assert_eq!((plan.min_duration, plan.duration), (None, None));
}

#[test]
fn arguments_do_not_contradict_each_other() {
    args::Args::command().debug_assert();
}

#[test]
fn a_saved_trace_is_chosen_from() {
    let line = "faulttrace report a.faulttrace --top 3 --thread w* --file x.db --since 3s --json";
    let Ok(Command::Report(plan)) = parse(line) else {
        panic!("no report")
    };
    let (file, tables) = (plan.file.to_str(), plan.tables);
    assert_eq!((file, tables.top), (Some("a.faulttrace"), 3));
    assert_eq!(tables.format, Format::Json);
    assert!(plan.select.threads[0].matches(b"worker"));
    assert!(plan.select.files[0].matches_path(b"/a/x.db"));
    let Ok(Command::Export(plan)) = parse("faulttrace export a --to pprof -o b") else {
        panic!("no export")
    };
    assert_eq!(plan.to, crate::export::Kind::Pprof);
    assert_eq!(plan.output.as_deref(), Some("b".as_ref()));
    let Ok(Command::Export(plan)) = parse("faulttrace export a --to csv -o -") else {
        panic!("no export")
    };
    assert_eq!(plan.output, None);
    assert!(usage_error("faulttrace --all -o -").contains("write ./-"));
    let Ok(Command::Replay(plan)) = parse("faulttrace replay a --speed 10x -k") else {
        panic!("no replay")
    };
    assert_eq!((plan.speed, plan.kernel_stacks), (Some(10.0), true));
    assert!(matches!(parse("faulttrace diff a b"), Ok(Command::Diff(_))));
}

#[test]
fn what_is_saved_is_part_of_the_plan() {
    let save = plan("faulttrace --pid 7 -q -o a --max-size 64M --force").save;
    let save = save.expect("something to save");
    assert_eq!((save.force, save.max_bytes), (true, Some(64 << 20)));
    assert!(usage_error("faulttrace --pid 7 --quiet").contains("--output"));
    assert!(usage_error("faulttrace --pid 7 -o a --max-size 1K").contains("1M"));
}

#[test]
fn ids_repeat_and_take_commas() {
    let Targets::Some { pids, tids, comm } =
        plan("faulttrace -p 1,2 --pid 3 -t 9 --comm a*").targets
    else {
        panic!("not some")
    };
    assert_eq!((pids, tids), (vec![1, 2, 3], vec![9]));
    assert!(comm.expect("a pattern").matches(b"abc"));
}

#[test]
fn a_command_keeps_its_own_options() {
    let Targets::Command(command) = plan("faulttrace -f --duration 2s -- ls -la --pid 3").targets
    else {
        panic!("no command")
    };
    assert_eq!(command, ["ls", "-la", "--pid", "3"]);
}

#[test]
fn nothing_to_trace_shows_the_way() {
    assert!(usage_error("faulttrace").contains("--pid PID"));
    assert!(usage_error("faulttrace --follow").contains("--pid PID"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "faulttrace --pid 0",
        "faulttrace --pid x",
        "faulttrace --pid 1 --all",
        "faulttrace --all -- ls",
        "faulttrace --pid 1 -- ls",
        "faulttrace --pid 1 --stuck-after 0s",
        "faulttrace --pid 1 --duration -1s",
        "faulttrace --pid 1 --ring-size 1K",
        "faulttrace --pid 1 --max-stacks 0",
        "faulttrace --pid 1 doctor",
        "faulttrace --pid 1 --format xml",
    ] {
        usage_error(line);
    }
}

#[test]
fn json_is_asked_for_in_the_same_ways_everywhere() {
    let commands = [
        "--pid 7", "doctor", "report a", "advise a", "replay a", "diff a b",
    ];
    for command in commands {
        for (option, wanted) in [
            ("", Format::Text),
            ("--format text", Format::Text),
            ("--format json", Format::Json),
            ("--json", Format::Json),
        ] {
            let line = format!("faulttrace {command} {option}");
            let format = match parse(line.trim_end()) {
                Ok(Command::Trace(plan)) => plan.format,
                Ok(Command::Doctor(plan)) => plan.format,
                Ok(Command::Report(plan) | Command::Advise(plan)) => plan.tables.format,
                Ok(Command::Replay(plan)) => plan.format,
                Ok(Command::Diff(plan)) => plan.tables.format,
                other => panic!("{line}: {other:?}"),
            };
            assert_eq!(format, wanted, "{line}");
        }
        usage_error(&format!("faulttrace {command} --json --format text"));
    }
}

#[test]
fn doctor_has_its_own_options() {
    let Ok(Command::Doctor(doctor)) = parse("faulttrace doctor --format json --color never") else {
        panic!("no doctor")
    };
    assert_eq!(
        doctor,
        DoctorPlan {
            format: Format::Json,
            color: Color::Never
        }
    );
}

#[test]
fn the_help_says_what_it_said() {
    let help = parse("faulttrace --help").expect_err("help").to_string();
    insta::assert_snapshot!(help);
}

#[test]
fn rungs_are_forced_one_for_each_job() {
    let forced = plan("faulttrace --pid 7 --probe-rung raw,no-ends,no-pages,unwind").forced;
    assert_eq!(forced.tracepoints, Some(Tracepoints::Raw));
    assert_eq!(forced.ends, Some(Ends::Unseen));
    assert_eq!((forced.no_pages, forced.no_iterator), (true, false));
    assert!(forced.unwind);
    assert!(
        !forced.begins_by_event
            && plan("faulttrace --pid 7 --probe-rung event")
                .forced
                .begins_by_event
    );
    assert_eq!(plan("faulttrace --pid 7").forced, Forced::default());
    let error = usage_error("faulttrace --pid 7 --light --probe-rung event");
    assert!(error.contains("leave out one"), "{error}");
    for both in [
        "typed,raw",
        "fexit,rseq",
        "no-ends,fexit",
        "no-pages,no-pages",
        "event,event",
        "unwind,unwind",
    ] {
        let error = usage_error(&format!("faulttrace --pid 7 --probe-rung {both}"));
        assert!(error.contains("two rungs"), "{both}: {error}");
    }
}
