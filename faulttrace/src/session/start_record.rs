//! The `start` record: who is traced, on what machine, and how.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use super::targets::Chosen;
use crate::cli::{Plan, Targets};
use crate::model::{Name, ProcessInfo, Start};
use crate::privileges;
use crate::probe::Probe;
use crate::process::patient_reader::PatientReader;
use crate::process::threads;

/// Stands among the jobs of the `start` record for the capabilities that tracing goes on with.
const PRIVILEGES: &str = "privileges_kept";
/// How long it may take to find out which program a process executes.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who is traced from the start. A command that is held back is still a copy of this program.
pub(super) fn targets(
    plan: &Plan,
    chosen: &Chosen,
    reader: &mut PatientReader,
) -> Vec<ProcessInfo> {
    let processes = chosen.processes().into_iter();
    match &plan.targets {
        Targets::Command(command) => {
            let name = command.first().map(Path::new).and_then(Path::file_name);
            let name = Name::from(name.unwrap_or_default().as_bytes());
            processes
                .map(|pid| ProcessInfo {
                    pid,
                    name: name.clone(),
                    exe: None,
                })
                .collect()
        }
        _ => {
            let asked = processes.clone().map(|pid| (pid, ()));
            let paths = reader.ask_all(asked, PATIENCE, |pid, ()| threads::executable(pid));
            processes
                .zip(paths)
                .map(|(pid, path)| ProcessInfo {
                    pid,
                    name: threads::name(pid).unwrap_or_default(),
                    exe: path.flatten(),
                })
                .collect()
        }
    }
}

/// The record, of a trace that began at this Unix time.
pub(super) fn make(targets: Vec<ProcessInfo>, probe: &Probe, time_ns: u64) -> Start {
    let text = |name: nix::Result<OsString>| {
        name.map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    Start {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: text(nix::unistd::gethostname()),
        kernel: text(nix::sys::utsname::uname().map(|uname| uname.release().to_owned())),
        command: std::env::args_os()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect(),
        targets,
        rungs: probe
            .rungs()
            .iter()
            .map(|(job, rung)| ((*job).to_owned(), rung.to_string()))
            .chain([(
                PRIVILEGES.to_owned(),
                privileges::describe(privileges::TRACER),
            )])
            .collect(),
        time_ns,
    }
}
