//! Plans for what is done with saved traces.

use std::path::PathBuf;
use std::time::Duration;

use super::{format, heed_no_color};
use crate::cli::args::{
    AdviseArgs, DiffArgs, ExportArgs, ReplayArgs, ReportArgs, SelectArgs, TableArgs,
};
use crate::cli::{Color, Format, Pattern, When};
use crate::export::Kind;

/// How tables are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tables {
    /// Rows of each.
    pub top: usize,
    /// For whom.
    pub format: Format,
    /// When to use colour, `NO_COLOR` already heeded.
    pub color: Color,
}

/// A trace to analyse.
#[derive(Debug, Clone)]
pub struct ReportPlan {
    /// The trace.
    pub file: PathBuf,
    /// How many threads at once make a stall window; `None`: as the trace tells.
    pub stall_threads: Option<u32>,
    /// How its tables are printed.
    pub tables: Tables,
    /// Of which faults.
    pub select: Select,
}

/// A trace to show as it was shown live.
#[derive(Debug, Clone)]
pub struct ReplayPlan {
    /// The trace.
    pub file: PathBuf,
    /// For whom.
    pub format: Format,
    /// When to use colour, `NO_COLOR` already heeded.
    pub color: Color,
    /// Show kernel stacks.
    pub kernel_stacks: bool,
    /// Leave out earlier reports of stuck threads.
    pub stuck_after: Option<Duration>,
    /// How many times as fast as it happened; `None`: at once.
    pub speed: Option<f64>,
    /// Which faults.
    pub select: Select,
}

/// Two traces to compare.
#[derive(Debug, Clone)]
pub struct DiffPlan {
    /// The first.
    pub before: PathBuf,
    /// The second.
    pub after: PathBuf,
    /// How its tables are printed.
    pub tables: Tables,
    /// Of which faults.
    pub select: Select,
}

/// A trace to turn into another tool's file.
#[derive(Debug, Clone)]
pub struct ExportPlan {
    /// The trace.
    pub file: PathBuf,
    /// The format.
    pub to: Kind,
    /// Where to write it; `None`: standard output.
    pub output: Option<PathBuf>,
    /// Replace what is there.
    pub force: bool,
    /// Of which faults.
    pub select: Select,
}

/// Which faults of a trace are wanted. An empty list does not restrict.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Select {
    /// Of these processes.
    pub pids: Vec<u32>,
    /// Of threads with these ids or names.
    pub threads: Vec<Pattern>,
    /// On these files.
    pub files: Vec<Pattern>,
    /// Not over before this.
    pub since: Option<When>,
    /// Begun before this.
    pub until: Option<When>,
    /// Not shorter.
    pub min_duration: Option<Duration>,
    /// No minor ones.
    pub major_only: bool,
}

impl From<SelectArgs> for Select {
    fn from(args: SelectArgs) -> Self {
        Select {
            pids: args.pid,
            threads: args.thread,
            files: args.file,
            since: args.since,
            until: args.until,
            min_duration: args.min_duration,
            major_only: args.major_only,
        }
    }
}

impl From<TableArgs> for Tables {
    fn from(args: TableArgs) -> Self {
        Tables {
            top: usize::try_from(args.top).unwrap_or(usize::MAX),
            format: format(args.shown.format, args.shown.json),
            color: heed_no_color(args.shown.color),
        }
    }
}

impl From<ReportArgs> for ReportPlan {
    fn from(args: ReportArgs) -> Self {
        ReportPlan {
            file: args.analysed.trace,
            stall_threads: args.analysed.stall_threads,
            tables: args.tables.into(),
            select: args.select.into(),
        }
    }
}

impl From<AdviseArgs> for ReportPlan {
    fn from(args: AdviseArgs) -> Self {
        let tables = TableArgs {
            top: args.top,
            shown: args.shown,
        };
        ReportPlan {
            file: args.analysed.trace,
            stall_threads: args.analysed.stall_threads,
            tables: tables.into(),
            select: args.select.into(),
        }
    }
}

impl From<ReplayArgs> for ReplayPlan {
    fn from(args: ReplayArgs) -> Self {
        ReplayPlan {
            file: args.trace,
            format: format(args.format, args.json),
            color: heed_no_color(args.color),
            kernel_stacks: args.kernel_stacks,
            stuck_after: args.stuck_after,
            speed: args.speed,
            select: args.select.into(),
        }
    }
}

impl From<DiffArgs> for DiffPlan {
    fn from(args: DiffArgs) -> Self {
        DiffPlan {
            before: args.before,
            after: args.after,
            tables: args.tables.into(),
            select: args.select.into(),
        }
    }
}

impl From<ExportArgs> for ExportPlan {
    fn from(args: ExportArgs) -> Self {
        ExportPlan {
            file: args.trace,
            to: args.to,
            // As other tools have it.
            output: args.output.filter(|path| path.as_os_str() != "-"),
            force: args.force,
            select: args.select.into(),
        }
    }
}
