//! `cargo xtask chaos` and `soak`: the long runs, as root on the running kernel.

use anyhow::{Context as _, ensure};

use crate::cargo::{build, find_binary, release_binary};
use crate::shell::{Root, describe, root, say};

/// A target that does everything a process can, and blows to it and to the tracer.
pub(crate) fn chaos(seconds: u64, seed: Option<u64>) -> anyhow::Result<()> {
    let mut arguments = vec!["chaos".to_owned(), format!("--seconds={seconds}")];
    arguments.extend(seed.map(|seed| format!("--seed={seed}")));
    run(&arguments)
}

/// A steady load of so many faults a second.
pub(crate) fn soak(seconds: u64, rate: u32) -> anyhow::Result<()> {
    run(&[
        "soak".to_owned(),
        format!("--seconds={seconds}"),
        format!("--rate={rate}"),
    ])
}

/// Builds for release as this user, then runs as root.
fn run(arguments: &[String]) -> anyhow::Result<()> {
    let faulttrace = release_binary("faulttrace", "faulttrace")?;
    let built = build([
        "build",
        "--release",
        "--package",
        "faulttrace-tests",
        "--bins",
    ])?;
    let program = find_binary(&built, "faulttrace-endurance")?;
    let mut environment = vec![("FAULTTRACE_BIN", faulttrace.into_os_string())];
    for name in ["PATH", "RUST_BACKTRACE", "FAULTTRACE_E2E_DIR"] {
        if let Some(value) = std::env::var_os(name) {
            environment.push((name, value));
        }
    }
    let privilege = Root::obtain()?;
    let mut command = privilege.command(program, &environment);
    command.args(arguments).current_dir(root()?.join("tests"));
    say(&describe(&command));
    let status = command
        .status()
        .with_context(|| format!("starting {}", describe(&command)))?;
    ensure!(status.success(), "{}: {status}", arguments.join(" "));
    Ok(())
}
