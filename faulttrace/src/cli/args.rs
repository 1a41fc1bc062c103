//! The command line as clap sees it. The texts are what `--help` prints.

mod saved;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Parser, Subcommand, ValueEnum};

use super::comm::CommPattern;
use super::value::{bytes, duration, file_bytes, positive_duration, trace_file};
pub(super) use saved::{
    AdviseArgs, DiffArgs, ExportArgs, ReplayArgs, ReportArgs, SelectArgs, TableArgs,
};

const AFTER_HELP: &str = "\
Examples:
  sudo faulttrace --pid 1234                     every fault that is major or blocks, until Ctrl-C
  sudo faulttrace --pid 1234 --min-duration 10ms --duration 30s
  sudo faulttrace --comm 'postgres*' --follow    by name, new processes too
  sudo faulttrace --all --major-only --format json
  sudo faulttrace -- ./server --port 80          launch it as yourself, traced from the start
  sudo faulttrace --pid 1234 --quiet --output incident.faulttrace
  faulttrace report incident.faulttrace          what it was, later, anywhere, without root
  faulttrace doctor                              what works on this machine, and what it costs

Exit codes:
  0 ok   1 failure   2 usage   3 a privilege, kernel feature or the target is missing
  4 something was lost, with --strict
  with `-- COMMAND`, unless 1, 3 or 4: the command's own (128 + signal; 126, 127: not started)";

/// Which threads are stuck in page faults, on which file, in which code, for how long, and why.
#[derive(Debug, Parser)]
#[command(name = "faulttrace", version, after_help = AFTER_HELP, args_conflicts_with_subcommands = true, max_term_width = 100)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Option<Sub>,
    #[command(flatten)]
    pub(super) trace: TraceArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum Sub {
    /// Tell what this machine offers for tracing, what is missing, and how to mend it
    Doctor(DoctorArgs),
    /// Analyse a saved trace: where the time went, when it was bad, and who was in it
    Report(ReportArgs),
    /// Show a saved trace as it was shown live
    Replay(ReplayArgs),
    /// Say what would help, from a saved trace: what, how much at most, and at what cost
    Advise(AdviseArgs),
    /// Compare two saved traces: what changed, and what of it is more than chance
    Diff(DiffArgs),
    /// Turn a saved trace into a file of another tool
    Export(ExportArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// text or json
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
    /// As --format json
    #[arg(long, conflicts_with = "format")]
    pub(super) json: bool,
    /// When to use colour; NO_COLOR turns `auto` off
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub(super) color: Color,
}

#[derive(Debug, clap::Args)]
pub(super) struct TraceArgs {
    /// Trace this process; repeat, or separate by commas
    #[arg(short, long, value_name = "PID", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..), help_heading = "What to trace")]
    pub(super) pid: Vec<u32>,
    /// Trace this one thread; repeat, or separate by commas
    #[arg(short, long, value_name = "TID", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..), help_heading = "What to trace")]
    pub(super) tid: Vec<u32>,
    /// Trace the processes whose name (comm) matches, those to come included; * and ? are wildcards
    #[arg(long, value_name = "PATTERN", value_parser = CommPattern::parse, help_heading = "What to trace")]
    pub(super) comm: Option<CommPattern>,
    /// Trace every process but this one
    #[arg(short, long, conflicts_with_all = ["pid", "tid", "comm", "follow"], help_heading = "What to trace")]
    pub(super) all: bool,
    /// Trace the children of traced processes too
    #[arg(short, long, help_heading = "What to trace")]
    pub(super) follow: bool,
    /// Launch this command and trace it, as the user who called sudo
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["pid", "tid", "comm", "all"], help_heading = "What to trace")]
    pub(super) launch: Vec<OsString>,

    /// Leave out faults shorter than this (250us, 10ms, 2s), also of what is saved; they are counted
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "What to show and save")]
    pub(super) min_duration: Option<Duration>,
    /// Leave out minor faults, even those that blocked, unless for so long that they were shown as stuck; they are
    /// counted. Faults that a signal interrupts are minor too, as slow ones of Go programs often are
    #[arg(long, help_heading = "What to show and save")]
    pub(super) major_only: bool,
    /// Show a thread as stuck when its fault lasts this long (at least --min-duration), and again at growing
    /// intervals
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "100ms", help_heading = "What to show and save")]
    pub(super) stuck_after: Duration,
    /// How many threads of a process in blocking faults at once are a stall; else half of those that
    /// had faults in the last 10 s, at least 2; 1 for a process with a single thread
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..), help_heading = "What to show and save")]
    pub(super) stall_threads: Option<u32>,
    /// Show kernel stacks too; JSON and saved traces always have them
    #[arg(short, long, help_heading = "What to show")]
    pub(super) kernel_stacks: bool,
    /// Show and save addresses as module + offset, without reading symbols
    #[arg(long, help_heading = "What to show and save")]
    pub(super) no_symbols: bool,
    /// text (for people) or json (JSON Lines; docs/json.md)
    #[arg(long, value_enum, default_value_t = Format::Text, help_heading = "What to show")]
    pub(super) format: Format,
    /// As --format json
    #[arg(long, conflicts_with = "format", help_heading = "What to show")]
    pub(super) json: bool,
    /// When to use colour; NO_COLOR turns `auto` off
    #[arg(long, value_enum, default_value_t = Color::Auto, help_heading = "What to show")]
    pub(super) color: Color,

    /// Save what is traced in this file, for `report`, `advise`, `replay`, `diff` and `export`
    #[arg(short, long, value_name = "FILE", value_parser = OsStringValueParser::new().try_map(trace_file), help_heading = "What to save")]
    pub(super) output: Option<PathBuf>,
    /// Only save: show nothing
    #[arg(short, long, requires = "output", help_heading = "What to save")]
    pub(super) quiet: bool,
    /// Replace FILE if it is there
    #[arg(long, requires = "output", help_heading = "What to save")]
    pub(super) force: bool,
    /// Keep FILE below this size (64M, 2G; 1M at least): the oldest faults drop out, counted
    #[arg(long, value_name = "SIZE", value_parser = file_bytes, requires = "output", help_heading = "What to save")]
    pub(super) max_size: Option<u64>,

    /// Stop tracing after this time (30s, 5m); the end of a launched command is waited for all the same
    #[arg(long, value_name = "TIME", value_parser = positive_duration, help_heading = "How to run")]
    pub(super) duration: Option<Duration>,
    /// Cost minor faults nothing: no program sees each fault begin. Of faults that are not on a file,
    /// the time before they first sleep is then missing (counted); needs x86_64 and kernel 6.12
    #[arg(long, help_heading = "How to run")]
    pub(super) light: bool,
    /// Tell of pages that were read from a file whether they had been in memory before: since when,
    /// who evicted them, and who filled the page cache meanwhile. Costs whoever maps pages of files that a
    /// traced process reads ahead in up to 15 % of that; needs kernel 6.12
    #[arg(long, help_heading = "What to show and save")]
    pub(super) evictions: bool,
    /// Follow the reads that faults begin to their devices: how long each was queued before the device
    /// got it, how long the device took
    #[arg(long, help_heading = "What to show and save")]
    pub(super) io: bool,
    /// Room for events on their way from the kernel, 4K to 1G, rounded up to a power of two
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "16M", help_heading = "How to run")]
    pub(super) ring_size: u32,
    /// How many different stacks are kept, up to 1048576
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20), default_value_t = 16384, help_heading = "How to run")]
    pub(super) max_stacks: u32,
    /// Exit with 4 if anything was lost (class `lost` of docs/json.md)
    #[arg(long, help_heading = "How to run")]
    pub(super) strict: bool,
    /// Tell more on standard error, the kernel programs' own diagnostics included; repeat for more
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "How to run")]
    pub(super) verbose: u8,
    /// Take these rungs of the ladder or fail, to test and compare them (docs/architecture.md)
    #[arg(long, value_enum, value_delimiter = ',', hide = true)]
    pub(super) probe_rung: Vec<ProbeRung>,
}

/// Rungs that can be forced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ProbeRung {
    /// Typed tracepoints only
    Typed,
    /// Raw tracepoints only
    Raw,
    /// Ends of faults from the return of handle_mm_fault
    Fexit,
    /// Ends of faults from the tracepoint rseq_update
    Rseq,
    /// No ends of faults but those of majors
    NoEnds,
    /// Beginnings of faults from the perf event of all faults
    Event,
    /// No tracepoint mm_filemap_fault
    NoPages,
    /// No iterator over tasks
    NoIterator,
    /// All stacks unwound by the kernel
    Unwind,
}

/// What standard output is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}
