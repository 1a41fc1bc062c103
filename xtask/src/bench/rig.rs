//! `cargo xtask bench`: faulttrace and its peers on real faults. Builds as this user, measures as root
//! (`benches/src/rig`), and writes what that prints.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;

use crate::cargo::release_binary;
use crate::shell::{Root, describe, output_of, root, say};

/// Where the document is.
const DOCUMENT: &str = "docs/benchmarks.md";

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Everything, written to docs/benchmarks.md: a quarter of an hour
    All,
    /// Minor faults, beside perf and bpftrace
    Minor,
    /// Context switches
    Switch,
    /// Faults that sleep, beside perf and bpftrace
    Stall,
    /// Reads of files, with and without `--evictions`
    Read,
    /// Faults on files in memory, with and without `--evictions`
    Mapped,
    /// Time in the kernel of each program, beside an empty one
    Kernel,
    /// From the start to the first event
    Start,
    /// Memory with few and with many threads
    Memory,
}

/// Measures everything and writes the document, or one part and prints it: the document is the record
/// of one run on one machine, so no part of it is ever replaced alone.
pub(crate) fn rig(part: Part, rounds: u32) -> anyhow::Result<()> {
    let faulttrace = release_binary("faulttrace", "faulttrace")?;
    let workload = release_binary("faulttrace-tests", "faulttrace-workload")?;
    let rig = release_binary("faulttrace-benches", "faulttrace-bench-rig")?;
    let name = part.to_possible_value().context("a part without a name")?;
    // Peers are looked for where root would find them.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: OsString = [path, ":/usr/local/sbin:/usr/sbin:/sbin".into()]
        .into_iter()
        .collect();
    let mut command = Root::obtain()?.command(rig, &[("PATH", path)]);
    command
        .arg(name.get_name())
        .arg("--faulttrace")
        .arg(faulttrace)
        .arg("--workload")
        .arg(workload)
        .args(["--source", &source()?, "--rounds", &rounds.to_string()])
        .stderr(Stdio::inherit());
    say(&describe(&command));
    let output = command.output().context("starting the measurement")?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        describe(&command),
        output.status
    );
    if part != Part::All {
        return std::io::stdout()
            .write_all(&output.stdout)
            .context("standard output");
    }
    let document = root()?.join(DOCUMENT);
    std::fs::write(&document, output.stdout).with_context(|| document.display().to_string())?;
    say(&format!("wrote {DOCUMENT}"));
    Ok(())
}

/// The commit that was built, and whether it was that alone.
fn source() -> anyhow::Result<String> {
    let mut command = Command::new("git");
    command
        .current_dir(root()?)
        .args(["describe", "--always", "--dirty", "--abbrev=12"]);
    Ok(output_of(&mut command).unwrap_or_else(|| "not a git checkout".to_owned()))
}
