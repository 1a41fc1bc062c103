//! Parses, runs, maps the result to an exit code.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use faulttrace::cli::{self, Command, ExitStatus, Plan};
use faulttrace::memory;
use faulttrace::preflight;
use faulttrace::process::names_helper;
use faulttrace::saved;
use faulttrace::session::{self, Ended, Failure, Saving};

fn main() -> ExitCode {
    memory::bound();
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == names_helper::ARGUMENT)
    {
        return names_helper::serve();
    }
    let command = match cli::parse_from(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            // Help and version go to standard output, usage errors to standard error; a reader who
            // has gone away is no failure.
            let _ = error.print();
            return status(if error.use_stderr() {
                ExitStatus::Usage
            } else {
                ExitStatus::Ok
            });
        }
    };
    if !matches!(command, Command::Trace(_)) {
        start_log(0);
    }
    match command {
        Command::Doctor(plan) => doctor(&plan),
        Command::Trace(plan) => trace(&plan),
        Command::Report(plan) => offline(saved::report(&plan)),
        Command::Advise(plan) => offline(saved::advise(&plan)),
        Command::Replay(plan) => offline(saved::replay(&plan)),
        Command::Diff(plan) => offline(saved::diff(&plan)),
        Command::Export(plan) => offline(saved::export(&plan)),
    }
}

fn trace(plan: &Plan) -> ExitCode {
    start_log(plan.verbose);
    match session::run(plan) {
        Ok(ended) => ended_as(plan, &ended),
        Err(failure) => {
            say(&failure);
            match failure {
                Failure::NotPossible(_) => status(ExitStatus::NotPossible),
                Failure::Launch(error) => ExitCode::from(error.exit_code()),
                Failure::Failed(_) => status(ExitStatus::Failure),
            }
        }
    }
}

fn ended_as(plan: &Plan, ended: &Ended) -> ExitCode {
    if let (Some(save), Saving::Done(saved)) = (&plan.save, ended.saving) {
        let path = save.path.display();
        let dropped = match saved.dropped {
            0 => String::new(),
            dropped => format!(", {dropped} older ones dropped out (--max-size)"),
        };
        let noun = if saved.faults == 1 { "fault" } else { "faults" };
        say(&format_args!(
            "saved {} {noun}{dropped} in {path}, {} KiB; next: faulttrace report {path}",
            saved.faults,
            saved.bytes.div_ceil(1024)
        ));
    }
    match ended {
        Ended {
            saving: Saving::Failed,
            ..
        } => status(ExitStatus::Failure),
        Ended { losses: true, .. } if plan.strict => status(ExitStatus::Losses),
        Ended { command, .. } => command.map_or_else(|| status(ExitStatus::Ok), ExitCode::from),
    }
}

/// Runs what needs no privilege.
fn offline(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => status(ExitStatus::Ok),
        Err(error) => {
            say(&error);
            status(ExitStatus::Failure)
        }
    }
}

fn doctor(plan: &cli::DoctorPlan) -> ExitCode {
    let mut text = Vec::new();
    let all_well = preflight::doctor(plan, std::io::stdout().is_terminal(), &mut text);
    match std::io::stdout().write_all(&text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            say(&error);
            status(ExitStatus::Failure)
        }
        _ if all_well => status(ExitStatus::Ok),
        _ => status(ExitStatus::NotPossible),
    }
}

/// Diagnostics go to standard error; without `-v` only warnings.
fn start_log(verbose: u8) {
    let level = match verbose {
        0 => log::LevelFilter::Warn,
        1 => log::LevelFilter::Info,
        2 => log::LevelFilter::Debug,
        _ => log::LevelFilter::Trace,
    };
    env_logger::Builder::new()
        .filter_level(level)
        .format_target(verbose > 0)
        .format_timestamp_millis()
        .init();
}

fn say(error: &dyn std::fmt::Display) {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "faulttrace: {error:#}");
}

fn status(status: ExitStatus) -> ExitCode {
    ExitCode::from(status as u8)
}
