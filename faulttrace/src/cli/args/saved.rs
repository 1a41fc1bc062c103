//! The subcommands that work on saved traces, as clap sees them.

use std::path::PathBuf;
use std::time::Duration;

use super::{Color, Format};
use crate::cli::pattern::Pattern;
use crate::cli::value::{duration, positive_duration, speed};
use crate::cli::when::When;
use crate::export::Kind;

/// What is analysed, and how.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct AnalysedArgs {
    /// The saved trace
    #[arg(value_name = "FILE")]
    pub(in crate::cli) trace: PathBuf,
    /// How many threads in blocking faults at once make a stall window; else as many as when it was
    /// traced (half of those that had faults lately)
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) stall_threads: Option<u32>,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ReportArgs {
    #[command(flatten)]
    pub(in crate::cli) analysed: AnalysedArgs,
    #[command(flatten)]
    pub(in crate::cli) tables: TableArgs,
    #[command(flatten)]
    pub(in crate::cli) select: SelectArgs,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct AdviseArgs {
    #[command(flatten)]
    pub(in crate::cli) analysed: AnalysedArgs,
    /// Pieces of advice
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(in crate::cli) top: u32,
    #[command(flatten)]
    pub(in crate::cli) shown: ShownArgs,
    #[command(flatten)]
    pub(in crate::cli) select: SelectArgs,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ReplayArgs {
    /// The saved trace
    #[arg(value_name = "FILE")]
    pub(in crate::cli) trace: PathBuf,
    /// text (for people) or json (JSON Lines; docs/json.md)
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(in crate::cli) format: Format,
    /// As --format json
    #[arg(long, conflicts_with = "format")]
    pub(in crate::cli) json: bool,
    /// When to use colour; NO_COLOR turns `auto` off
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub(in crate::cli) color: Color,
    /// Show kernel stacks too
    #[arg(short, long)]
    pub(in crate::cli) kernel_stacks: bool,
    /// Leave out reports of threads stuck for less than this
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    pub(in crate::cli) stuck_after: Option<Duration>,
    /// At the pace at which it happened (1), or faster (10) or slower (0.1); else all at once
    #[arg(long, value_name = "FACTOR", value_parser = speed)]
    pub(in crate::cli) speed: Option<f64>,
    #[command(flatten)]
    pub(in crate::cli) select: SelectArgs,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct DiffArgs {
    /// The saved trace of before
    #[arg(value_name = "BEFORE")]
    pub(in crate::cli) before: PathBuf,
    /// The saved trace of after
    #[arg(value_name = "AFTER")]
    pub(in crate::cli) after: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) tables: TableArgs,
    #[command(flatten)]
    pub(in crate::cli) select: SelectArgs,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ExportArgs {
    /// The saved trace
    #[arg(value_name = "FILE")]
    pub(in crate::cli) trace: PathBuf,
    /// The format wanted
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(in crate::cli) to: Kind,
    /// Where to write it; else, or with -, to standard output
    #[arg(short, long, value_name = "OUT")]
    pub(in crate::cli) output: Option<PathBuf>,
    /// Replace OUT if it is there
    #[arg(long, requires = "output")]
    pub(in crate::cli) force: bool,
    #[command(flatten)]
    pub(in crate::cli) select: SelectArgs,
}

/// How an analysis is shown.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ShownArgs {
    /// text (for people) or json (one JSON object; docs/report-json.md)
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(in crate::cli) format: Format,
    /// As --format json
    #[arg(long, conflicts_with = "format")]
    pub(in crate::cli) json: bool,
    /// When to use colour; NO_COLOR turns `auto` off
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub(in crate::cli) color: Color,
}

/// How tables are printed.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct TableArgs {
    /// Rows of each table
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(in crate::cli) top: u32,
    #[command(flatten)]
    pub(in crate::cli) shown: ShownArgs,
}

/// Which records of a trace are wanted.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SelectArgs {
    /// Only faults of this process; repeat, or separate by commas
    #[arg(
        short,
        long,
        value_name = "PID",
        value_delimiter = ',',
        help_heading = "Which faults"
    )]
    pub(in crate::cli) pid: Vec<u32>,
    /// Only faults of threads with this id or name; * and ? are wildcards; repeats
    #[arg(long, value_name = "THREAD", value_parser = Pattern::parse, help_heading = "Which faults")]
    pub(in crate::cli) thread: Vec<Pattern>,
    /// Only faults on files with this path or name; * and ? are wildcards; repeats
    #[arg(long, value_name = "PATTERN", value_parser = Pattern::parse, help_heading = "Which faults")]
    pub(in crate::cli) file: Vec<Pattern>,
    /// Only what happened after this: 30s (into the trace), 14:03:07, 2026-11-24T14:03:07
    #[arg(long, value_name = "WHEN", value_parser = When::parse, help_heading = "Which faults")]
    pub(in crate::cli) since: Option<When>,
    /// Only what happened before this
    #[arg(long, value_name = "WHEN", value_parser = When::parse, help_heading = "Which faults")]
    pub(in crate::cli) until: Option<When>,
    /// Leave out faults shorter than this (250us, 10ms, 2s)
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Which faults")]
    pub(in crate::cli) min_duration: Option<Duration>,
    /// Leave out minor faults
    #[arg(long, help_heading = "Which faults")]
    pub(in crate::cli) major_only: bool,
}
