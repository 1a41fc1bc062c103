//! The nested cargo: what it built, and where. Used by `build`, `run` and the end-to-end tests.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::lint::AARCH64;
use crate::shell::{describe, root, say};

/// cargo, in the top directory. By name: where rustup gave this process its toolchain, it gives the
/// same to the name, and messages stay readable.
pub(crate) fn cargo() -> anyhow::Result<Command> {
    let mut command = Command::new("cargo");
    command.current_dir(root()?);
    Ok(command)
}

/// What is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// This machine.
    Here,
    Aarch64,
}

impl Target {
    /// Has a cargo command build for it.
    fn ask(self, command: &mut Command) {
        match self {
            Target::Here => {}
            Target::Aarch64 => {
                // Here and not in a configuration file: nothing else links for it.
                command
                    .args(["--target", AARCH64])
                    .env(AARCH64_LINKER.0, AARCH64_LINKER.1);
            }
        }
    }
}

/// How cargo is told what links for aarch64.
const AARCH64_LINKER: (&str, &str) = (
    "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
    "aarch64-linux-gnu-gcc",
);

/// One executable that cargo built.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Executable {
    /// Name of the target.
    pub(crate) name: String,
    /// `bin`, `test`, ….
    pub(crate) kind: String,
    /// Absolute path.
    pub(crate) path: PathBuf,
}

/// Builds one binary for release and tells where it is.
pub(crate) fn release_binary(package: &str, name: &str) -> anyhow::Result<PathBuf> {
    release_binary_for(Target::Here, package, name)
}

/// The same for a target.
pub(crate) fn release_binary_for(
    target: Target,
    package: &str,
    name: &str,
) -> anyhow::Result<PathBuf> {
    let arguments = ["build", "--release", "--package", package, "--bin", name];
    let built = build_for(target, arguments)?;
    find_binary(&built, name).map(Path::to_owned)
}

/// The binary of that name among what was built.
pub(crate) fn find_binary<'a>(built: &'a [Executable], name: &str) -> anyhow::Result<&'a Path> {
    built
        .iter()
        .find(|executable| executable.kind == "bin" && executable.name == name)
        .map(|executable| executable.path.as_path())
        .with_context(|| format!("cargo built no binary {name}"))
}

/// Runs a cargo command that builds, and returns the executables among its artifacts.
pub(crate) fn build<A: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = A>,
) -> anyhow::Result<Vec<Executable>> {
    build_for(Target::Here, arguments)
}

/// The same for a target.
pub(crate) fn build_for<A: AsRef<OsStr>>(
    target: Target,
    arguments: impl IntoIterator<Item = A>,
) -> anyhow::Result<Vec<Executable>> {
    let mut command = cargo()?;
    command.args(arguments);
    target.ask(&mut command);
    command
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit());
    say(&describe(&command));
    let output = command.output().context("starting cargo")?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        describe(&command),
        output.status
    );
    Ok(output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(executable)
        .collect())
}

/// The executable that one line of cargo's JSON tells of, if it does.
fn executable(line: &[u8]) -> Option<Executable> {
    let message: Value = serde_json::from_slice(line).ok()?;
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    Some(Executable {
        name: message["target"]["name"].as_str()?.to_owned(),
        kind: message["target"]["kind"][0].as_str()?.to_owned(),
        path: message["executable"].as_str()?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_artifacts_with_an_executable_count() {
        let binary = br#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"a"},"executable":"/t/a"}"#;
        assert_eq!(
            executable(binary),
            Some(Executable {
                name: "a".to_owned(),
                kind: "bin".to_owned(),
                path: "/t/a".into(),
            })
        );
        let library = br#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"a"},"executable":null}"#;
        assert_eq!(executable(library), None);
        assert_eq!(
            executable(br#"{"reason":"build-finished","success":true}"#),
            None
        );
        assert_eq!(executable(b"test output"), None);
    }

    #[test]
    fn a_test_program_is_no_binary() {
        let built = [Executable {
            name: "a".to_owned(),
            kind: "test".to_owned(),
            path: "/t/a".into(),
        }];
        assert!(find_binary(&built, "a").is_err());
    }
}
