//! The command line: clap's types, turned into plain plans. Nothing here touches the system.

mod args;
mod comm;
mod formats;
mod pattern;
mod plan;
#[cfg(test)]
mod tests;
mod value;
mod when;

use std::ffi::OsString;

use clap::{CommandFactory as _, Parser as _};

pub use args::{Color, Format};
pub use comm::CommPattern;
pub use pattern::Pattern;
pub use plan::{
    DiffPlan, DoctorPlan, ExportPlan, Plan, ReplayPlan, ReportPlan, SavePlan, Select, Targets,
};
pub use when::When;

/// What the user asked for.
#[derive(Debug, Clone)]
pub enum Command {
    /// Trace faults.
    Trace(Plan),
    /// Tell what this machine offers.
    Doctor(DoctorPlan),
    /// Analyse a saved trace.
    Report(ReportPlan),
    /// Say what would help.
    Advise(ReportPlan),
    /// Show a saved trace as it was live.
    Replay(ReplayPlan),
    /// Compare two saved traces.
    Diff(DiffPlan),
    /// Turn a saved trace into another tool's file.
    Export(ExportPlan),
}

/// How faulttrace ends, when it is not the exit code of a launched command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Done.
    Ok = 0,
    /// Something went wrong.
    Failure = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// A privilege, a kernel feature or the target is missing.
    NotPossible = 3,
    /// Faults were lost, and `--strict` was given.
    Losses = 4,
}

/// Parses a command line, the program's name first. The error prints itself, help and version
/// included.
pub fn parse_from(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let parsed = args::Args::try_parse_from(arguments)?;
    plan::command(parsed).map_err(|message| {
        args::Args::command().error(clap::error::ErrorKind::MissingRequiredArgument, message)
    })
}
