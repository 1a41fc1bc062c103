//! Plain plans: what the rest of the program needs to know of the command line.

mod saved;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::args::{Args, Color, Format, ProbeRung, Sub, TraceArgs};
use super::{CommPattern, Command};
use crate::probe::{Ends, Forced, Tracepoints};
pub use saved::{DiffPlan, ExportPlan, ReplayPlan, ReportPlan, Select};

/// A session to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whose faults.
    pub targets: Targets,
    /// Children of traced processes too.
    pub follow: bool,
    /// Leave out shorter faults.
    pub min_duration: Option<Duration>,
    /// Leave out minor faults.
    pub major_only: bool,
    /// When a thread is called stuck.
    pub stuck_after: Duration,
    /// How many threads blocked at once are a stall; `None`: by the threads that have faults.
    pub stall_threads: Option<u32>,
    /// When to stop; `None`: by a signal or the target's end.
    pub duration: Option<Duration>,
    /// What to save; `None`: nothing.
    pub save: Option<SavePlan>,
    /// Show nothing.
    pub quiet: bool,
    /// What standard output is for.
    pub format: Format,
    /// When to use colour, `NO_COLOR` already heeded.
    pub color: Color,
    /// Show kernel stacks.
    pub kernel_stacks: bool,
    /// Read symbols.
    pub symbols: bool,
    /// Size of the ring, a power of two.
    pub ring_bytes: u32,
    /// How many different stacks are kept.
    pub max_stacks: u32,
    /// Losses are a failure.
    pub strict: bool,
    /// How often `-v` was given.
    pub verbose: u8,
    /// No program at the beginning of each fault.
    pub light: bool,
    /// Follow what happens to the pages of files that are faulted on.
    pub evictions: bool,
    /// What devices did for each fault.
    pub io: bool,
    /// Rungs to take whatever else works.
    pub forced: Forced,
}

/// A trace to save.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavePlan {
    /// Its file.
    pub path: PathBuf,
    /// Replace what is there.
    pub force: bool,
    /// The oldest faults drop out beyond this size.
    pub max_bytes: Option<u64>,
}

/// Whose faults are traced.
#[derive(Debug, Clone)]
pub enum Targets {
    /// These, together.
    Some {
        /// Processes.
        pids: Vec<u32>,
        /// Single threads.
        tids: Vec<u32>,
        /// Processes by name.
        comm: Option<CommPattern>,
    },
    /// Everything.
    All,
    /// A command to launch.
    Command(Vec<OsString>),
}

/// How `doctor` is to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoctorPlan {
    /// For whom.
    pub format: Format,
    /// When to use colour, `NO_COLOR` already heeded.
    pub color: Color,
}

/// The plan of a parsed command line, or what is wrong with it.
pub(super) fn command(args: Args) -> Result<Command, String> {
    match args.command {
        Some(Sub::Doctor(args)) => Ok(Command::Doctor(DoctorPlan {
            format: format(args.format, args.json),
            color: heed_no_color(args.color),
        })),
        Some(Sub::Report(args)) => Ok(Command::Report(args.into())),
        Some(Sub::Advise(args)) => Ok(Command::Advise(args.into())),
        Some(Sub::Replay(args)) => Ok(Command::Replay(args.into())),
        Some(Sub::Diff(args)) => Ok(Command::Diff(args.into())),
        Some(Sub::Export(args)) => Ok(Command::Export(args.into())),
        None => trace(args.trace).map(Command::Trace),
    }
}

fn trace(args: TraceArgs) -> Result<Plan, String> {
    let named = !args.pid.is_empty() || !args.tid.is_empty() || args.comm.is_some();
    let targets = if args.all {
        Targets::All
    } else if named {
        Targets::Some {
            pids: args.pid,
            tids: args.tid,
            comm: args.comm,
        }
    } else if !args.launch.is_empty() {
        Targets::Command(args.launch)
    } else {
        return Err(
            "what is to be traced? --pid PID, --comm PATTERN, --tid TID, --all, or -- COMMAND"
                .to_owned(),
        );
    };
    let save = args.output.map(|path| SavePlan {
        path,
        force: args.force,
        max_bytes: args.max_size,
    });
    Ok(Plan {
        save,
        quiet: args.quiet,
        targets,
        follow: args.follow,
        min_duration: args.min_duration,
        major_only: args.major_only,
        stuck_after: args.stuck_after,
        stall_threads: args.stall_threads,
        duration: args.duration,
        format: format(args.format, args.json),
        color: heed_no_color(args.color),
        kernel_stacks: args.kernel_stacks,
        symbols: !args.no_symbols,
        ring_bytes: args.ring_size,
        max_stacks: args.max_stacks,
        strict: args.strict,
        verbose: args.verbose,
        light: args.light,
        evictions: args.evictions,
        io: args.io,
        forced: forced(&args.probe_rung, args.light)?,
    })
}

/// The rungs that `--probe-rung` asks for, or what contradicts itself.
fn forced(rungs: &[ProbeRung], light: bool) -> Result<Forced, String> {
    let mut forced = Forced::default();
    for rung in rungs {
        let once = match rung {
            ProbeRung::Typed => set(&mut forced.tracepoints, Tracepoints::Typed),
            ProbeRung::Raw => set(&mut forced.tracepoints, Tracepoints::Raw),
            ProbeRung::Fexit => set(&mut forced.ends, Ends::Fexit),
            ProbeRung::Rseq => set(&mut forced.ends, Ends::Rseq),
            ProbeRung::NoEnds => set(&mut forced.ends, Ends::Unseen),
            ProbeRung::Event => !std::mem::replace(&mut forced.begins_by_event, true),
            ProbeRung::NoPages => !std::mem::replace(&mut forced.no_pages, true),
            ProbeRung::NoIterator => !std::mem::replace(&mut forced.no_iterator, true),
            ProbeRung::Unwind => !std::mem::replace(&mut forced.unwind, true),
        };
        if !once {
            return Err(format!(
                "--probe-rung asks for two rungs of one job: {rungs:?}; typed and raw exclude each other, and so do fexit, rseq and no-ends"
            ));
        }
    }
    if light && forced.begins_by_event {
        return Err("--light has no program at the beginning of faults, and --probe-rung event asks for one: leave out one of them".to_owned());
    }
    Ok(forced)
}

/// Whether nothing was set before.
fn set<T>(place: &mut Option<T>, value: T) -> bool {
    place.replace(value).is_none()
}

/// What `--format` says, or `--json`.
fn format(format: Format, json: bool) -> Format {
    if json { Format::Json } else { format }
}

/// <https://no-color.org>: any value but the empty one.
fn heed_no_color(color: Color) -> Color {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if color == Color::Auto && unwanted {
        Color::Never
    } else {
        color
    }
}
