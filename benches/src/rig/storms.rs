//! The sections on storms: minor faults, context switches, stalls.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use faulttrace_tests::harness::disk::{LoopDisk, create};

use crate::pairs::{Contender, Measured, Plan, Target, compare};
use crate::stats::{median, verdict};
use crate::storm::Storm;
use crate::table::{NONE, Table, or_none, thousands};
use crate::tools::Kind;
use crate::{Settings, cpus, say};

/// Goals: at most so much slower.
const TRACED: f64 = 1.03;
const BYSTANDER: f64 = 1.01;
const STALLED: f64 = 1.05;
/// Goal: at most so much CPU of the tracer for a fault, µs.
const CPU_US: f64 = 10.0;

const fn on(kind: Kind, target: Target) -> Contender {
    Contender { kind, target }
}

/// What a switch passes, and what a stall passes, of the tracepoints that faulttrace is on.
const AT_A_SWITCH: &[&str] = &["sched_switch", "sched_waking", "rseq_update"];
const AT_A_STALL: &[&str] = &[
    "page_fault_user",
    "mm_filemap_fault",
    "sched_switch",
    "sched_waking",
    "rseq_update",
];

const MINOR: [Contender; 13] = [
    on(Kind::Nothing, Target::Storm),
    on(Kind::Empty(&["page_fault_user"]), Target::Other),
    on(Kind::FaulttraceJson, Target::Storm),
    on(Kind::FaulttraceJson, Target::Other),
    on(Kind::FaulttraceWith("--light"), Target::Storm),
    on(Kind::FaulttraceWith("--light"), Target::Other),
    on(Kind::FaulttraceWith("--probe-rung=event"), Target::Storm),
    on(Kind::FaulttraceWith("--probe-rung=event"), Target::Other),
    on(Kind::PerfTrace, Target::Storm),
    on(Kind::PerfRecordAll, Target::Storm),
    on(Kind::PerfRecordAll, Target::Other),
    on(Kind::BpftraceStarts, Target::Storm),
    on(Kind::BpftraceStarts, Target::Other),
];

const SWITCH: [Contender; 9] = [
    on(Kind::Nothing, Target::Storm),
    on(Kind::Empty(&["sched_switch"]), Target::Other),
    on(Kind::Empty(AT_A_SWITCH), Target::Other),
    on(Kind::FaulttraceJson, Target::Storm),
    on(Kind::FaulttraceJson, Target::Other),
    on(Kind::FaulttraceWith("--light"), Target::Storm),
    on(Kind::FaulttraceWith("--light"), Target::Other),
    on(Kind::BpftraceStalls, Target::Storm),
    on(Kind::BpftraceStalls, Target::Other),
];

const STALL: [Contender; 8] = [
    on(Kind::Nothing, Target::Storm),
    on(Kind::Empty(AT_A_STALL), Target::Other),
    on(Kind::FaulttraceSaved, Target::Storm),
    on(Kind::FaulttraceSavedWith("--evictions"), Target::Storm),
    on(Kind::FaulttraceSavedWith("--io"), Target::Storm),
    on(Kind::FaulttraceJson, Target::Storm),
    on(Kind::PerfRecordMajor, Target::Storm),
    on(Kind::BpftraceStalls, Target::Storm),
];

const READ: [Contender; 5] = [
    on(Kind::Nothing, Target::Storm),
    on(Kind::FaulttraceJson, Target::Other),
    on(Kind::FaulttraceWith("--evictions"), Target::Other),
    on(Kind::FaulttraceWith("--io"), Target::Other),
    on(Kind::FaulttraceWith("--evictions"), Target::Storm),
];

const CACHED: [Contender; 6] = [
    on(Kind::Nothing, Target::Storm),
    on(
        Kind::Empty(&["page_fault_user", "mm_filemap_map_pages"]),
        Target::Other,
    ),
    on(Kind::FaulttraceJson, Target::Other),
    on(Kind::FaulttraceWith("--evictions"), Target::Other),
    on(Kind::FaulttraceJson, Target::Storm),
    on(Kind::FaulttraceWith("--evictions"), Target::Storm),
];

/// Minor faults, with one thread and with two.
pub(crate) fn minor(settings: &Settings) -> anyhow::Result<String> {
    let mut text =
        "## Minor-fault storm\n\nAnonymous memory, page by page, nothing else. The tracers \
        that give durations are faulttrace and bpftrace. No tracer that looks at each fault is cheaper \
        than an empty program; --probe-rung=event is how faulttrace looks at them where there is no \
        tracepoint (arm64).\n"
            .to_owned();
    for threads in 1..=2 {
        let title = format!("{threads} thread{}", if threads == 1 { "" } else { "s" });
        say(&format!("minor faults, {title}"));
        let options = bound(&cpus(threads)?);
        let measured = run(
            settings,
            &MINOR,
            "minor",
            &options,
            Duration::from_millis(800),
        )?;
        write!(text, "\n### {title}\n\n{}", slowdowns(&measured, "fault"))?;
        text.push_str(&against_bpftrace(&measured));
    }
    Ok(text)
}

/// Context switches through pipes and through a futex.
pub(crate) fn switch(settings: &Settings) -> anyhow::Result<String> {
    let mut text =
        "## Context-switch storm\n\nTwo threads of one process on one CPU wake each other in \
        turn. No tracer has anything to report; the cost is that of looking at each switch. Empty \
        programs on the same tracepoints are the least that looking there can cost.\n"
            .to_owned();
    for kind in ["pipe", "futex"] {
        say(&format!("context switches, {kind}"));
        let options = bound(&cpus(1)?);
        let measured = run(
            settings,
            &SWITCH,
            kind,
            &options,
            Duration::from_millis(800),
        )?;
        write!(text, "\n### {kind}\n\n{}", slowdowns(&measured, "switch"))?;
    }
    Ok(text)
}

/// Faults that sleep, as many as this machine can make.
pub(crate) fn stall(settings: &Settings) -> anyhow::Result<String> {
    let mut text = "## Stall storm\n\nMajor faults, each of which sleeps, on a loop device whose file is \
        in memory (ext4, no readahead), as fast as this machine makes them: a second thread leaves no \
        CPU for a tracer. Slower is meant for a fault in a quiet block, as above; fewer are the faults a \
        second in all, which also suffer from what the tracer takes of the CPUs. CPU is the tracer's \
        own, user and system, of all its processes, for each fault while it is attached; the time from \
        its start to its end, reading of symbols included, is in the last column but one. Missing are \
        the faults that the kernel counted while the tracer was attached, less those that it reported.\n"
        .to_owned();
    let disk = StallDisk::new(&settings.scratch, 96);
    for threads in 1..=2 {
        let title = format!("{threads} thread{}", if threads == 1 { "" } else { "s" });
        say(&format!("stalls, {title}"));
        let mut options = bound(&cpus(threads)?);
        options.extend(["--file".to_owned(), disk.file.display().to_string()]);
        let measured = run(
            settings,
            &STALL,
            "stall",
            &options,
            Duration::from_millis(1500),
        )?;
        write!(text, "\n### {title}\n\n{}", stalls(&measured))?;
    }
    Ok(text)
}

/// Reads of a file that is not in memory, by the system call: what `--evictions` costs who reads files.
pub(crate) fn read(settings: &Settings) -> anyhow::Result<String> {
    let mut text = "## Read storm\n\nA file is read with pread, 1 MiB at a time, and dropped from the page \
        cache, on a loop device whose file is in memory (ext4, readahead 128 KiB): two programs of \
        `--evictions` run for all that comes into the page cache and leaves it. Times are for a page of \
        4 KiB.\n"
        .to_owned();
    let disk = StallDisk::with_readahead(&settings.scratch, 96, 128);
    say("reads");
    let mut options = bound(&cpus(1)?);
    options.extend(["--file".to_owned(), disk.file.display().to_string()]);
    let measured = run(
        settings,
        &READ,
        "read",
        &options,
        Duration::from_millis(800),
    )?;
    write!(text, "\n{}", slowdowns(&measured, "page"))?;
    Ok(text)
}

/// Faults on a file that is in memory: what `--evictions` costs who maps the files that are watched.
pub(crate) fn mapped(settings: &Settings) -> anyhow::Result<String> {
    let mut text = "## Mapped-file storm\n\nFaults on pages of a file that are in memory; each maps those \
        around the touched one, too (16, unless the kernel is set otherwise), where a program of \
        `--evictions` runs. Where the storm is a bystander, the traced process has the same file mapped, and \
        50 times a second reads ahead in it what nobody uses: so the program looks each page up. Times are \
        for a page.\n"
        .to_owned();
    let disk = StallDisk::with_readahead(&settings.scratch, 64, 128);
    say("faults on a file in memory");
    let file = ["--file".to_owned(), disk.file.display().to_string()];
    let ahead = Storm::start(&settings.tools, &settings.scratch, "ahead", &file)?;
    let mut options = bound(&cpus(1)?);
    options.extend(file);
    let storm = Storm::start(&settings.tools, &settings.scratch, "cached", &options)?;
    let window = Duration::from_millis(800);
    let measured = compare(&plan(settings, &CACHED, window, Some(&ahead)), storm)?;
    ahead.end()?;
    write!(text, "\n{}", slowdowns(&measured, "page"))?;
    Ok(text)
}

/// A file that faults quickly, and always from its device.
pub(crate) struct StallDisk {
    pub(crate) file: std::path::PathBuf,
    _disk: LoopDisk,
}

impl StallDisk {
    /// One with so many MiB of file.
    pub(crate) fn new(scratch: &Path, mib: usize) -> StallDisk {
        Self::with_readahead(scratch, mib, 0)
    }

    /// The same with so much readahead.
    fn with_readahead(scratch: &Path, mib: usize, kib: usize) -> StallDisk {
        let disk = LoopDisk::within(scratch, mib + mib / 2 + 16, kib, "--direct-io=off");
        let file = disk.path().join("data");
        create(&file, mib * 256);
        StallDisk { file, _disk: disk }
    }
}

fn bound(cpus: &[usize]) -> Vec<String> {
    let options = cpus.iter().map(|cpu| ["--cpu".to_owned(), cpu.to_string()]);
    options.flatten().collect()
}

fn run(
    settings: &Settings,
    contenders: &[Contender],
    kind: &str,
    options: &[String],
    window: Duration,
) -> anyhow::Result<Vec<Measured>> {
    let storm = Storm::start(&settings.tools, &settings.scratch, kind, options)?;
    compare(&plan(settings, contenders, window, None), storm)
}

fn plan<'a>(
    settings: &'a Settings,
    contenders: &'a [Contender],
    window: Duration,
    other: Option<&'a Storm>,
) -> Plan<'a> {
    Plan {
        tools: &settings.tools,
        scratch: &settings.scratch,
        contenders,
        other,
        rounds: settings.rounds,
        window,
    }
}

fn is_ours(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::FaulttraceJson
            | Kind::FaulttraceWith(_)
            | Kind::FaulttraceSaved
            | Kind::FaulttraceSavedWith(_)
    )
}

fn slowdowns(measured: &[Measured], event: &str) -> Table {
    let mut table = Table::new(&[
        "tracer",
        "the storm is",
        &format!("alone, ns a {event}"),
        "with it",
        "slower [spread]",
        "median block",
        "tracer CPU",
        "goal",
        "",
    ]);
    for one in measured {
        let goal = match one.contender.target {
            _ if !is_ours(one.contender.kind) => None,
            Target::Storm => Some(TRACED),
            Target::Other => Some(BYSTANDER),
        };
        let busy: Vec<_> = one
            .visits
            .iter()
            .map(|visit| visit.cpu_s / visit.window_s)
            .collect();
        table.row([
            one.contender.kind.to_string(),
            match (one.contender.kind, one.contender.target) {
                (Kind::Nothing, _) => "alone",
                (_, Target::Storm) => "traced",
                (_, Target::Other) => "a bystander",
            }
            .to_owned(),
            thousands(one.alone_ns),
            thousands(one.traced_ns),
            one.quiet.to_string(),
            one.middle.to_string(),
            or_none(median(&busy), |share| format!("{:.0} %", share * 100.0)),
            or_none(goal, |goal| format!("≤ {:.0} %", (goal - 1.0) * 100.0)),
            goal.map_or("", |goal| verdict(one.quiet.median, goal))
                .to_owned(),
        ]);
    }
    table
}

/// The goal not to be worse than the cheapest peer that gives durations, in words.
fn against_bpftrace(measured: &[Measured]) -> String {
    let mut text = String::new();
    for target in [Target::Storm, Target::Other] {
        let of = |kind| {
            let found = |one: &&Measured| one.contender == on(kind, target);
            measured.iter().find(found).map(|one| one.quiet.median)
        };
        if let (Some(ours), Some(theirs)) = (of(Kind::FaulttraceJson), of(Kind::BpftraceStarts)) {
            let whom = match target {
                Target::Storm => "who is traced",
                Target::Other => "bystanders",
            };
            let _ = writeln!(
                text,
                "\nGoal for {whom}: not worse than bpftrace: {} ({:+.1} % against {:+.1} %).",
                verdict(ours, theirs),
                (ours - 1.0) * 100.0,
                (theirs - 1.0) * 100.0
            );
        }
    }
    text
}

fn stalls(measured: &[Measured]) -> Table {
    let mut table = Table::new(&[
        "tracer",
        "alone, µs a fault",
        "slower [spread], goal ≤ 5 %",
        "alone, faults/s",
        "with it",
        "fewer",
        "CPU, µs a fault, goal ≤ 10",
        "CPU in all, µs a fault",
        "missing, of",
        "its own account of losses and gaps",
    ]);
    for one in measured {
        let sum = |what: fn(&crate::pairs::Visit) -> f64| one.visits.iter().map(what).sum::<f64>();
        let (majors, seconds) = (
            sum(|visit| visit.majors as f64),
            sum(|visit| visit.window_s),
        );
        let per_s = majors / seconds;
        let tracer = !matches!(one.contender.kind, Kind::Nothing | Kind::Empty(_));
        let figure = |value: f64| {
            if tracer {
                format!("{value:.1}")
            } else {
                NONE.to_owned()
            }
        };
        let cpu_us = sum(|visit| visit.cpu_s) * 1e6 / majors;
        let goal = |value: f64, at_most: f64| {
            if is_ours(one.contender.kind) {
                format!(" {}", verdict(value, at_most))
            } else {
                String::new()
            }
        };
        table.row([
            one.contender.kind.to_string(),
            format!("{:.1}", one.alone_ns / 1e3),
            format!("{}{}", one.quiet, goal(one.quiet.median, STALLED)),
            thousands(one.majors_alone_per_s),
            thousands(per_s),
            format!("{:.1} %", (1.0 - per_s / one.majors_alone_per_s) * 100.0),
            figure(cpu_us) + &goal(cpu_us, CPU_US),
            figure(sum(|visit| visit.cpu_in_all_s) * 1e6 / majors),
            missing(one),
            says_lost(one),
        ]);
    }
    table
}

/// How many faults a tracer should have reported and did not.
fn missing(one: &Measured) -> String {
    let mut sums = (0, 0);
    for visit in &one.visits {
        let Some(seen) = visit.account.seen else {
            return NONE.to_owned();
        };
        sums.0 += visit.majors_while_attached.saturating_sub(seen);
        sums.1 += visit.majors_while_attached;
    }
    format!(
        "{} of {}",
        thousands(sums.0 as f64),
        thousands(sums.1 as f64)
    )
}

fn says_lost(one: &Measured) -> String {
    let mut sums = std::collections::BTreeMap::new();
    for (reason, count) in one.visits.iter().flat_map(|visit| &visit.account.says) {
        *sums.entry(reason.as_str()).or_insert(0_u64) += count;
    }
    let words: Vec<_> = sums
        .iter()
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    if words.is_empty() {
        "nothing".to_owned()
    } else {
        words.join(", ")
    }
}
