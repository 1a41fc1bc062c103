//! The section on time in the kernel: each program of faulttrace beside an empty one on the same hook,
//! while both run for the same events.

use std::collections::BTreeMap;
use std::time::Duration;

use faulttrace_tests::harness::process::Running;

use crate::bpf::{self, Empty, Program};
use crate::pairs::Target;
use crate::stats::{Spread, median};
use crate::storm::{Storm, Window};
use crate::storms::StallDisk;
use crate::table::{NONE, Table, or_none, thousands};
use crate::tools::Kind;
use crate::tracer::Tracer;
use crate::{Settings, cpus, say};

/// How often the accounts are compared, and for how long.
const WINDOWS: usize = 7;
const WINDOW: Duration = Duration::from_millis(300);
/// A program that runs for fewer of the storm's events runs for something else: the rest of the machine.
const MIN_SHARE: f64 = 0.4;

/// Goals: at most so many times the empty program.
const BYSTANDER: f64 = 2.0;
const TRACED_MINOR: f64 = 3.0;

/// Storms, and the words for their events.
const STORMS: [(&str, &str); 3] = [
    ("minor", "minor faults"),
    ("pipe", "context switches"),
    ("stall", "stalls"),
];

/// Measures all of them.
pub(crate) fn kernel(settings: &Settings) -> anyhow::Result<String> {
    let mut table = Table::new(&[
        "storm",
        "the storm is",
        "program",
        "runs/s",
        "ns a run",
        "empty, ns a run",
        "times the empty one [spread]",
        "goal",
    ]);
    let disk = StallDisk::new(&settings.scratch, 96);
    for (storm, words) in STORMS {
        for target in [Target::Storm, Target::Other] {
            say(&format!("time in the kernel: {words}, {target:?} traced"));
            for line in measure(settings, storm, target, &disk)? {
                table.row(line.cells(storm, words, target));
            }
        }
    }
    Ok(format!(
        "## Time in the kernel\n\nRun times as the kernel counts them (`BPF_ENABLE_STATS`), faulttrace's \
         programs beside an empty program (`return 0`) that is attached to the same hook after it and \
         runs for the same events. Both include what the counting itself costs, neither what it costs to \
         get to a program, and the first on a hook pays for cold caches. Means of {} windows of {} ms, \
         the median of those; programs that run for less than {:.0} % of the storm's events are left \
         out. The rows of a storm that is traced have the runs for all other threads of the machine in \
         them. \
         Programs on perf events have no such floor.\n\n{table}",
        WINDOWS,
        WINDOW.as_millis(),
        MIN_SHARE * 100.0
    ))
}

/// A program in one situation.
struct Line {
    name: String,
    runs_per_s: f64,
    ns: f64,
    empty_ns: Option<f64>,
    ratio: Option<Spread>,
}

impl Line {
    fn cells(self, storm: &str, words: &str, target: Target) -> [String; 8] {
        let goal = match target {
            Target::Other => Some(BYSTANDER),
            Target::Storm if storm == "minor" => Some(TRACED_MINOR),
            Target::Storm => None,
        };
        let verdict = |ratio: Spread| {
            or_none(goal, |goal| {
                format!("≤ {goal:.0} {}", crate::stats::verdict(ratio.median, goal))
            })
        };
        [
            words.to_owned(),
            match target {
                Target::Storm => "traced",
                Target::Other => "a bystander",
            }
            .to_owned(),
            format!("`{}`", self.name),
            thousands(self.runs_per_s),
            thousands(self.ns),
            or_none(self.empty_ns, thousands),
            or_none(self.ratio, |ratio| {
                format!("{:.1} [{:.1} … {:.1}]", ratio.median, ratio.low, ratio.high)
            }),
            self.ratio.map_or_else(|| NONE.to_owned(), verdict),
        ]
    }
}

fn measure(
    settings: &Settings,
    kind: &str,
    target: Target,
    disk: &StallDisk,
) -> anyhow::Result<Vec<Line>> {
    let mut options = vec!["--cpu".to_owned(), cpus(1)?[0].to_string()];
    if kind == "stall" {
        options.extend(["--file".to_owned(), disk.file.display().to_string()]);
    }
    let storm = Storm::start(&settings.tools, &settings.scratch, kind, &options)?;
    let other = Running::start("sleep", std::process::Command::new("sleep").arg("1d"));
    let pid = match target {
        Target::Storm => storm.pid(),
        Target::Other => other.pid(),
    };
    let mut tracer = Tracer::start(
        Kind::FaulttraceSaved,
        &settings.tools,
        pid,
        &settings.scratch,
    )?;
    tracer.attached()?;
    let ours = tracer
        .pid()
        .map_or(Ok(Default::default()), bpf::programs_of)?;
    let programs: Vec<Program> = ours
        .into_iter()
        .map(bpf::program)
        .collect::<Result<_, _>>()?;
    let mut empties = BTreeMap::new();
    for hook in programs.iter().filter_map(|program| program.hook) {
        match Empty::attach(hook) {
            Ok(empty) => {
                empties.insert(hook, empty);
            }
            // Iterators have a BTF id too, but are no hook. The table shows that there is no floor.
            Err(error) => say(&format!("no floor for a program: {error:#}")),
        }
    }
    let counting = bpf::enable_stats()?;
    let mut windows = Vec::new();
    for _ in 0..WINDOWS {
        windows.push(watch(&programs, &empties)?);
    }
    drop(counting);
    tracer.stop()?;
    let spans: Vec<Window> = windows.iter().map(|watched| watched.window).collect();
    let rate = storm.end()?.rate_in(&spans);
    Ok(programs
        .iter()
        .filter_map(|program| line(program, &windows, rate))
        .collect())
}

/// What the programs did in one window.
struct Watched {
    window: Window,
    /// By program id: what it did, and the empty one on its hook.
    programs: BTreeMap<u32, (Mean, Option<Mean>)>,
}

/// Between two accounts of one program.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mean {
    runs: u64,
    ns_a_run: f64,
}

fn watch(programs: &[Program], empties: &BTreeMap<u32, Empty>) -> anyhow::Result<Watched> {
    let accounts = || -> anyhow::Result<Vec<(Program, Option<Program>)>> {
        let both = |program: &Program| {
            let empty = program.hook.and_then(|hook| empties.get(&hook));
            let empty = empty.map(Empty::account).transpose()?;
            Ok((bpf::program(program.id)?, empty))
        };
        programs.iter().map(both).collect()
    };
    let before = accounts()?;
    let window = Window::pass(WINDOW);
    let after = accounts()?;
    let mut result = BTreeMap::new();
    for ((before, empty_before), (after, empty_after)) in before.iter().zip(&after) {
        if let Some(ours) = mean(before, after) {
            let empty = empty_before.as_ref().zip(empty_after.as_ref());
            let empty = empty.and_then(|(before, after)| mean(before, after));
            result.insert(after.id, (ours, empty));
        }
    }
    Ok(Watched {
        window,
        programs: result,
    })
}

/// What happened between two accounts; `None` without runs.
fn mean(before: &Program, after: &Program) -> Option<Mean> {
    let runs = after
        .runs
        .checked_sub(before.runs)
        .filter(|runs| *runs > 0)?;
    let ns = after.run_ns.checked_sub(before.run_ns)?;
    Some(Mean {
        runs,
        ns_a_run: ns as f64 / runs as f64,
    })
}

fn line(program: &Program, windows: &[Watched], events_per_s: f64) -> Option<Line> {
    let of = |window: &Watched| window.programs.get(&program.id).copied();
    let seen: Vec<_> = windows.iter().filter_map(of).collect();
    let runs: u64 = seen.iter().map(|(ours, _)| ours.runs).sum();
    let seconds: f64 = windows.iter().map(|watched| watched.window.seconds()).sum();
    let runs_per_s = runs as f64 / seconds;
    if runs_per_s < MIN_SHARE * events_per_s {
        return None;
    }
    let both = seen
        .iter()
        .filter_map(|(ours, empty)| Some((*ours, (*empty)?)));
    let (empties, ratios): (Vec<f64>, Vec<f64>) = both
        .map(|(ours, empty)| (empty.ns_a_run, ours.ns_a_run / empty.ns_a_run))
        .unzip();
    let ours: Vec<_> = seen.iter().map(|(ours, _)| ours.ns_a_run).collect();
    Some(Line {
        name: program.name.clone(),
        runs_per_s,
        ns: median(&ours)?,
        empty_ns: median(&empties),
        ratio: Spread::of(&ratios),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Window = Window {
        begin_ns: 0,
        end_ns: 1_000_000_000,
    };

    fn account(runs: u64, run_ns: u64) -> Program {
        Program {
            id: 7,
            name: "p".to_owned(),
            hook: None,
            run_ns,
            runs,
        }
    }

    fn a_thousand(ns_a_run: f64) -> Mean {
        Mean {
            runs: 1000,
            ns_a_run,
        }
    }

    #[test]
    fn a_mean_needs_runs() {
        let two = Mean {
            runs: 2,
            ns_a_run: 20.0,
        };
        assert_eq!(mean(&account(1, 10), &account(3, 50)), Some(two));
        assert_eq!(mean(&account(3, 50), &account(3, 50)), None);
        assert_eq!(mean(&account(3, 50), &account(1, 10)), None);
    }

    #[test]
    fn the_ratio_is_that_of_each_window() {
        let window = |ns, empty| Watched {
            window: SECOND,
            programs: BTreeMap::from([(7, (a_thousand(ns), Some(a_thousand(empty))))]),
        };
        let windows = [window(20.0, 10.0), window(90.0, 30.0), window(40.0, 20.0)];
        let line = line(&account(0, 0), &windows, 2000.0).unwrap();
        assert_eq!(line.ratio.unwrap().median, 2.0);
        assert_eq!(line.runs_per_s, 1000.0);
    }

    #[test]
    fn rare_programs_are_left_out() {
        let rare = Watched {
            window: SECOND,
            programs: BTreeMap::from([(7, (a_thousand(5.0), None))]),
        };
        assert!(line(&account(0, 0), &[rare], 3000.0).is_none());
    }
}
