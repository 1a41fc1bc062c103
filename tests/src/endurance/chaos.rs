//! A target that does everything, and blows to it and to the tracer, for long.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::memory::family;
use super::watched::{Report, Watched};
use crate::harness::bpf::Objects;
use crate::harness::cgroup::Freezer;
use crate::harness::disk::{create, evict};
use crate::harness::process::until;
use crate::harness::work::{self, Work};
use crate::harness::{Bench, SOON};
use crate::random::Random;
use crate::truth::Done;

/// Pages of the files that are touched: 16 MiB each.
const PAGES: usize = 4096;

/// Majors that a busy process may have between the kernel's count being read and the programs being
/// attached, and the other way round at the end.
const AT_THE_EDGES: u64 = 64;

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    Nothing,
    StopTarget,
    FreezeTarget,
    StopTracer,
    KillTarget,
    KillTracer,
    ShortTrace,
}

const BLOWS: [Blow; 7] = [
    Blow::Nothing,
    Blow::StopTarget,
    Blow::FreezeTarget,
    Blow::StopTracer,
    Blow::KillTarget,
    Blow::KillTracer,
    Blow::ShortTrace,
];

/// The run.
struct Chaos<'a> {
    bench: &'a Bench,
    freezer: Freezer,
    random: Random,
    target: Work,
    tracer: Watched,
    /// How often each blow was struck.
    struck: [u32; BLOWS.len()],
    /// Processes of traces other than the long one that were checked.
    checked: usize,
}

/// Runs for so long; the rest follows from the seed. Panics if anything is not as it should be;
/// returns what is to be said.
pub fn run(bench: &Bench, time: Duration, seed: u64) -> String {
    eprintln!("chaos: seed {seed}");
    let file = bench.path().join("data");
    create(&file, PAGES);
    evict(&file);
    let freezer = Freezer::new();
    let mut command = freezer.command(&work::binary());
    command
        .arg("chaos")
        .arg(&file)
        .arg(format!("--seed={seed}"));
    let mut target = Work::start_command("chaos", &mut command);
    let pid = target.pid().to_string();
    let tracer = Watched::start(&["--pid", &pid, "--follow"].map(str::to_owned));
    target.go();
    let begin = Instant::now();
    let mut chaos = Chaos {
        bench,
        freezer,
        random: Random::new(seed),
        target,
        tracer,
        struck: [0; BLOWS.len()],
        checked: 0,
    };
    // Each once, then what comes.
    let mut round = 0;
    while round < BLOWS.len() || begin.elapsed() < time {
        let which = if round < BLOWS.len() {
            round
        } else {
            chaos.random.below(BLOWS.len())
        };
        round += 1;
        let least = Duration::from_secs(1);
        let left = time.saturating_sub(begin.elapsed()).max(least);
        chaos.strike(which, left);
        let rest = Duration::from_millis(200 + chaos.random.below(1800) as u64);
        chaos.tracer.take_for(rest.min(left));
    }
    chaos.finish(begin.elapsed())
}

impl Chaos<'_> {
    fn strike(&mut self, which: usize, left: Duration) {
        let blow = BLOWS[which];
        self.struck[which] += 1;
        let long = Duration::from_millis(500 + self.random.below(1500) as u64).min(left);
        match blow {
            Blow::Nothing => {}
            Blow::StopTarget => {
                self.target.signal(Signal::SIGSTOP);
                self.tracer.take_for(long);
                self.target.signal(Signal::SIGCONT);
            }
            Blow::FreezeTarget => {
                self.freezer.freeze();
                self.tracer.take_for(long);
                self.freezer.thaw();
            }
            Blow::StopTracer => {
                // Up to 10 s, as far as there is time for it.
                let long = Duration::from_millis(1000 + self.random.below(9000) as u64);
                self.tracer.signal(Signal::SIGSTOP);
                self.tracer.take_for(long.min(left / 4));
                self.tracer.signal(Signal::SIGCONT);
            }
            Blow::KillTarget => self.kill_target(long),
            Blow::KillTracer => {
                let tracer = self.second(&self.short_options());
                self.tracer.take_for(long);
                let objects = Objects::of(tracer.pid());
                assert!(!objects.programs.is_empty(), "the tracer holds programs");
                let helpers = family(tracer.pid());
                tracer.kill();
                check_gone(&objects, &helpers);
            }
            Blow::ShortTrace => {
                let mut tracer = self.second(&self.short_options());
                let half = long / 2;
                self.tracer.take_for(half);
                tracer.take_for(half);
                let report = tracer.stop(false);
                self.checked += check_all(&report, AT_THE_EDGES);
            }
        }
    }

    /// What a second tracer traces.
    fn short_options(&self) -> Vec<String> {
        let pid = self.target.pid().to_string();
        let of_target = vec!["--pid".to_owned(), pid];
        match self.struck.iter().sum::<u32>() % 3 {
            0 => vec!["--all".to_owned()],
            1 => [of_target, vec!["--no-symbols".to_owned()]].concat(),
            _ => [of_target, vec!["--ring-size=64K".to_owned()]].concat(),
        }
    }

    fn second(&self, options: &[String]) -> Watched {
        Watched::start(options)
    }

    /// A target of its own is killed while it is traced: the trace ends with it, and is right.
    fn kill_target(&mut self, long: Duration) {
        let file = self.bench.path().join(format!("killed-{}", self.checked));
        create(&file, PAGES / 4);
        let seed = format!("--seed={}", self.random.below(1 << 30));
        let mut target = Work::start(["chaos".as_ref(), file.as_os_str(), seed.as_ref()]);
        let pid = target.pid();
        let mut tracer = Watched::start(&["--pid".to_owned(), pid.to_string()]);
        target.go();
        self.tracer.take_for(long / 2);
        tracer.take_for(long / 2);
        target.signal(Signal::SIGKILL);
        let report = tracer.finish(false);
        target.gone();
        report.check();
        report.check_majors(pid, AT_THE_EDGES);
        self.checked += 1;
        // Its children may still have it open, which is no matter.
        fs::remove_file(&file).expect("remove a file");
    }

    fn finish(mut self, took: Duration) -> String {
        self.target.say("enough");
        let done: Done = self.target.done();
        let pid = self.target.pid();
        let report = self.tracer.stop(true);
        self.target.exit();
        report.check();
        let [reported, counted, lost] = report.check_majors(pid, 0);
        assert_eq!(
            counted, done.stat_majors,
            "the workload's own count of majors"
        );
        for (what, count) in &done.figures {
            assert!(*count > 0, "{what}: never, too little time");
        }
        let processes = check_all(&report, 0);
        let growth = report.growth.expect("it was asked for");
        growth.check(took);
        for (blow, count) in BLOWS.iter().zip(self.struck) {
            assert!(count > 0, "{blow:?} was never struck: too little time");
        }
        let struck: Vec<_> = BLOWS.iter().zip(self.struck).collect();
        format!(
            "chaos: {took:.0?}; majors of the target: {reported} reported, {counted} counted by the kernel, {lost} events lost in all; {processes} processes followed and {} of other traces checked; done by the target: {:?}; blows: {struck:?}; memory of the tracer, KiB: {growth:?}; other losses: {:?}",
            self.checked, done.figures, report.told.lost
        )
    }
}

/// Checks every process of which both counts are known; how many those are.
fn check_all(report: &Report, at_the_edges: u64) -> usize {
    report.check();
    let known = report.told.summaries.iter();
    let known = known.filter(|(_, summary)| summary.maj_flt_delta.is_some());
    let pids: Vec<u32> = known.map(|(pid, _)| *pid).collect();
    for pid in &pids {
        report.check_majors(*pid, at_the_edges);
    }
    pids.len()
}

/// Panics unless all that a tracer had is gone: in the kernel, and its processes.
pub fn check_gone(objects: &Objects, processes: &[u32]) {
    until("its programs, links and maps are gone", SOON, || {
        objects.left().is_empty()
    });
    until("its processes are gone", SOON, || {
        processes
            .iter()
            .all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    });
}
