//! Unit tests, and the end-to-end tests as root on the running kernel.
//!
//! Nothing here skips: where root or BPF cannot be had, the end-to-end tests fail.

use std::ffi::{OsStr, OsString};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::cargo::{Executable, Target, build_for, cargo, find_binary, release_binary};
use crate::python;
use crate::shell::{Root, describe, output_of, root, run, say};

/// The package of the end-to-end tests.
const TESTS: &str = "faulttrace-tests";

/// Test programs that need a machine made for them: `cargo xtask vm` runs them, and they fail elsewhere.
const ONLY_IN_GUESTS: [&str; 4] = ["mapper", "nfs", "preempted", "scarce"];

/// Every test that needs no privilege.
pub(crate) fn unit() -> anyhow::Result<()> {
    run(cargo()?.args(["test", "--workspace", "--exclude", TESTS]))?;
    run(cargo()?.args(["test", "--package", TESTS, "--lib", "--bins"]))
}

/// Builds for release as this user, then runs the test programs one after another as root, so
/// that nothing under the target directory ever belongs to root.
pub(crate) fn e2e(arguments: &[OsString]) -> anyhow::Result<()> {
    let faulttrace = release_binary("faulttrace", "faulttrace")?;
    let built = helpers_and_tests(Target::Here)?;
    let workload = find_binary(&built, "faulttrace-workload")?;
    let programs: Vec<_> = built
        .iter()
        .filter(|one| one.kind == "test" && !ONLY_IN_GUESTS.contains(&one.name.as_str()))
        .collect();

    let mut chosen = Vec::new();
    for program in programs {
        if count_tests(program, arguments)? > 0 {
            chosen.push(program);
        }
    }
    ensure!(
        !chosen.is_empty(),
        "no end-to-end test matches {arguments:?}"
    );

    let python = python::environment()?;
    let mut environment = vec![
        ("FAULTTRACE_BIN", faulttrace.into_os_string()),
        ("FAULTTRACE_WORKLOAD", workload.as_os_str().to_owned()),
        (
            "FAULTTRACE_GO",
            python.with_file_name("go").into_os_string(),
        ),
        ("FAULTTRACE_PYTHON", python.into_os_string()),
    ];
    for name in ["PATH", "RUST_BACKTRACE", "CI"] {
        if let Some(value) = std::env::var_os(name) {
            environment.push((name, value));
        }
    }
    let privilege = Root::obtain()?;
    let mut failed = Vec::new();
    for program in chosen {
        let mut command = privilege.command(&program.path, &environment);
        // One at a time: they share the kernel's programs, its page cache and two cores.
        command
            .arg("--test-threads=1")
            .args(arguments)
            .current_dir(root()?.join("tests"));
        say(&format!("end-to-end: {}", program.name));
        let status = command
            .status()
            .with_context(|| format!("starting {}", describe(&command)))?;
        if !status.success() {
            failed.push(format!("{} ({status})", program.name));
        }
    }
    if !failed.is_empty() {
        bail!("end-to-end tests failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Builds the workloads and the test programs of the end-to-end tests for release.
pub(crate) fn helpers_and_tests(target: Target) -> anyhow::Result<Vec<Executable>> {
    let helpers = ["build", "--release", "--package", TESTS, "--bins"];
    let mut built = build_for(target, helpers)?;
    let tests = ["test", "--release", "--no-run", "--package", TESTS];
    built.extend(build_for(target, tests.into_iter().chain(["--test", "*"]))?);
    Ok(built)
}

/// How many tests of a program the arguments select. Asked without privilege; runs none.
pub(crate) fn count_tests<A: AsRef<OsStr>>(
    program: &Executable,
    arguments: &[A],
) -> anyhow::Result<usize> {
    let mut list = Command::new(&program.path);
    list.args(arguments).args(["--list", "--format", "terse"]);
    let text = output_of(&mut list)
        .with_context(|| format!("{} does not list its tests", describe(&list)))?;
    Ok(count_listed(&text))
}

/// Counts the tests in libtest's terse listing.
fn count_listed(listing: &str) -> usize {
    listing
        .lines()
        .filter(|line| line.ends_with(": test"))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tests_are_counted() {
        assert_eq!(count_listed("a::b: test\nc: test\nd: benchmark\n\n"), 2);
        assert_eq!(count_listed(""), 0);
    }
}
