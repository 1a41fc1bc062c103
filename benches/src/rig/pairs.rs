//! One storm, and tracers that come and go around it: what each costs the storm, from pairs of
//! windows that lie side by side.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use faulttrace_tests::harness::process::Running;

use crate::say;
use crate::stats::{QUIET, Spread, median, percentile};
use crate::storm::{Log, Storm, Window};
use crate::tools::{Account, Kind, Tools};
use crate::tracer::Tracer;
use crate::usage;

/// Whom a tracer traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// The storm.
    Storm,
    /// Another process: the storm is a bystander.
    Other,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contender {
    pub(crate) kind: Kind,
    pub(crate) target: Target,
}

/// How a comparison is made.
pub(crate) struct Plan<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) scratch: &'a Path,
    pub(crate) contenders: &'a [Contender],
    /// The other process; one that sleeps, if there is none.
    pub(crate) other: Option<&'a Storm>,
    /// How often each contender attaches.
    pub(crate) rounds: usize,
    /// How long it is watched each time, and the storm alone before and after.
    pub(crate) window: Duration,
}

/// One window with a tracer, between two without.
struct On {
    contender: usize,
    window: Window,
    /// Which of the windows without lies before; the next lies after.
    before: usize,
    visit: Visit,
}

/// What was seen of a tracer from its beginning to its end.
pub(crate) struct Visit {
    /// Its CPU time in the window, s.
    pub(crate) cpu_s: f64,
    /// Its CPU time in all, s.
    pub(crate) cpu_in_all_s: f64,
    /// Length of the window, s.
    pub(crate) window_s: f64,
    /// Major faults of the storm in the window, as the kernel counted them.
    pub(crate) majors: u64,
    /// The same from attached to told to stop: at least so many a tracer has to have seen.
    pub(crate) majors_while_attached: u64,
    /// What the tracer says.
    pub(crate) account: Account,
}

/// What is known of one contender.
pub(crate) struct Measured {
    pub(crate) contender: Contender,
    /// An event without a tracer and with it, ns: the quiet percentile of all windows, the median of that.
    pub(crate) alone_ns: f64,
    pub(crate) traced_ns: f64,
    /// Traced by alone: of the quiet percentiles, of the medians.
    pub(crate) quiet: Spread,
    pub(crate) middle: Spread,
    pub(crate) visits: Vec<Visit>,
    /// Major faults of the storm without a tracer, 1/s.
    pub(crate) majors_alone_per_s: f64,
}

/// Runs all contenders in turn, several times, around one storm.
pub(crate) fn compare(plan: &Plan, storm: Storm) -> anyhow::Result<Vec<Measured>> {
    let mut other = Running::start("sleep", std::process::Command::new("sleep").arg("1d"));
    let mut alone = vec![Alone::watch(plan, &storm)?];
    let mut visits = Vec::new();
    for round in 1..=plan.rounds {
        for (index, contender) in plan.contenders.iter().enumerate() {
            let pid = match contender.target {
                Target::Storm => storm.pid(),
                Target::Other => plan.other.map_or(other.pid(), Storm::pid),
            };
            say(&format!(
                "round {round} of {}: {} on {:?}",
                plan.rounds, contender.kind, contender.target
            ));
            let (window, visit) = visit(plan, contender.kind, pid, &storm)
                .with_context(|| contender.kind.to_string())?;
            visits.push(On {
                contender: index,
                window,
                before: alone.len() - 1,
                visit,
            });
            alone.push(Alone::watch(plan, &storm)?);
        }
    }
    other.signal(nix::sys::signal::Signal::SIGKILL);
    other.wait(std::time::Instant::now() + faulttrace_tests::harness::SOON);
    let log = storm.end()?;
    measured(plan.contenders, &alone, visits, &log)
}

/// A window without a tracer.
struct Alone {
    window: Window,
    majors: u64,
}

impl Alone {
    fn watch(plan: &Plan, storm: &Storm) -> anyhow::Result<Alone> {
        let before = usage::majors(storm.pid())?;
        let window = Window::pass(plan.window);
        let majors = usage::majors(storm.pid())?.saturating_sub(before);
        Ok(Alone { window, majors })
    }
}

fn visit(plan: &Plan, kind: Kind, pid: u32, storm: &Storm) -> anyhow::Result<(Window, Visit)> {
    let mut tracer = Tracer::start(kind, plan.tools, pid, plan.scratch)?;
    tracer.attached()?;
    let cpu = |tracer: &Tracer| tracer.pid().map_or(Ok(0), usage::cpu_ns);
    let attached = usage::majors(storm.pid())?;
    let (cpu_before, before) = (cpu(&tracer)?, usage::majors(storm.pid())?);
    let window = Window::pass(plan.window);
    let (cpu_after, after) = (cpu(&tracer)?, usage::majors(storm.pid())?);
    let ended = tracer.stop()?;
    let visit = Visit {
        cpu_s: cpu_after.saturating_sub(cpu_before) as f64 / 1e9,
        cpu_in_all_s: ended.cpu.as_secs_f64(),
        window_s: window.seconds(),
        majors: after.saturating_sub(before),
        majors_while_attached: after.saturating_sub(attached),
        account: kind.account(plan.tools, &ended)?,
    };
    Ok((window, visit))
}

fn measured(
    contenders: &[Contender],
    alone: &[Alone],
    visits: Vec<On>,
    log: &Log,
) -> anyhow::Result<Vec<Measured>> {
    let windows: Vec<Window> = alone.iter().map(|alone| alone.window).collect();
    let all_alone = log.in_windows(&windows);
    let seconds: f64 = windows.iter().map(|window| window.seconds()).sum();
    let majors: u64 = alone.iter().map(|alone| alone.majors).sum();
    let mut result = Vec::new();
    let mut by_contender: Vec<Vec<On>> = contenders.iter().map(|_| Vec::new()).collect();
    for on in visits {
        by_contender[on.contender].push(on);
    }
    for (contender, ons) in contenders.iter().zip(by_contender) {
        let ratios = |share| {
            let ratio = |on: &On| ratio(log, on, &windows, share);
            ons.iter().map(ratio).collect::<Option<Vec<_>>>()
        };
        let spread = |share| Spread::of(&ratios(share)?);
        let traced: Vec<f64> = ons
            .iter()
            .filter_map(|on| percentile(&log.in_windows(&[on.window]), QUIET))
            .collect();
        let few = || format!("too few blocks in the windows of {}", contender.kind);
        result.push(Measured {
            contender: *contender,
            alone_ns: percentile(&all_alone, QUIET).with_context(few)?,
            traced_ns: median(&traced).with_context(few)?,
            quiet: spread(QUIET).with_context(few)?,
            middle: spread(0.5).with_context(few)?,
            visits: ons.into_iter().map(|on| on.visit).collect(),
            majors_alone_per_s: majors as f64 / seconds,
        });
    }
    Ok(result)
}

/// Of one pair: the window with the tracer, by those before and after it together.
fn ratio(log: &Log, on: &On, alone: &[Window], share: f64) -> Option<f64> {
    let beside = log.in_windows(&alone[on.before..=on.before + 1]);
    Some(percentile(&log.in_windows(&[on.window]), share)? / percentile(&beside, share)?)
}
